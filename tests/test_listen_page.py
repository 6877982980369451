"""The page of the listening test in a real browser: by keyboard alone, over a reload, out as CSV, and scored."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Page

from otoscope.adapters.audio import Audio
from otoscope.cli_listen import listen
from otoscope.console import Group
from otoscope.explainers.embedding import mp3
from tests.browser import browser as browser  # a fixture
from tests.browser import opened, serious_faults, small_targets, until
from tests.builders import RATE, tone
from tests.test_listening import make_results

EVIL = "<img src=x onerror=alert(1)>"
ROOT = Group("otoscope", commands={"listen": listen})
QUICK = """window.players = [];
window.Audio = class extends Audio {
    constructor() {
        super();
        this.defaultPlaybackRate = 16;
        players.push(this);
    }
};"""  # a second takes a sixteenth of one


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs, one of them asked twice, with the recording to listen to."""
    folder = tmp_path_factory.mktemp("listen")
    results = make_results(folder / "results", 4, label=EVIL)
    options = ["--pairs", "4", "--reference", "--out", str(folder / "listen.html")]
    result = CliRunner().invoke(ROOT, ["listen", "make", str(results), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder / "listen.html"


def key_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".key.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def begin(page: Page, who: str = "Zoë, 1") -> None:
    """Start by keyboard alone."""
    until(page, "document.readyState === 'complete'")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "listener"
    page.keyboard.type(who)  # its letters and digits play and answer nothing
    page.keyboard.press("Enter")
    assert page.is_visible("#asking")


def begin_to_hear(page: Page, key: str) -> None:
    """Play a sound until it plays."""
    page.keyboard.press(key)
    until(page, f"document.getElementById('play-{key}').textContent.includes('Stop')")


def hear(page: Page, key: str) -> None:
    """Play a sound to its end."""
    begin_to_hear(page, key)
    until(page, f"document.getElementById('play-{key}').textContent.includes('Play')")


def answer(page: Page, key: str) -> str:
    """Hear both sounds and answer; return the id that was answered."""
    number = re.match(r"Pair (\d+) of 5", page.inner_text("#place"))
    assert number is not None
    hear(page, "a")
    hear(page, "b")
    until(page, "!document.querySelector('.answer').disabled")
    page.keyboard.press(key)
    return f"p{int(number.group(1)):02d}"


def saved(page: Page, folder: Path, button: str) -> tuple[Path, list[dict[str, str]]]:
    """Press the button that saves, and read what was saved."""
    with page.expect_download() as caught:
        page.focus(button)
        page.keyboard.press("Enter")
    path = folder / caught.value.suggested_filename
    caught.value.save_as(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        return path, list(csv.DictReader(file))


def test_answered_by_keyboard_over_a_reload_saved_and_scored(
    browser: Browser,
    page_file: Path,
    tmp_path: Path,
) -> None:
    key = key_of(page_file)
    given = {}
    with opened(browser, page_file, before=QUICK, accept_downloads=True) as page:
        begin(page)
        assert page.inner_text("#question") == f"Which one still sounds like: {EVIL}?"
        for digit in ("1", "3"):
            given[answer(page, digit)] = {"1": "A", "3": "cannot tell"}[digit]
        page.reload()
        assert page.is_visible("#asking")
        assert page.inner_text("#place") == "Pair 3 of 5"
        assert "Zoë, 1" in page.inner_text("#asking")
        for digit in ("2", "1", "2"):
            given[answer(page, digit)] = {"1": "A", "2": "B"}[digit]
        assert page.is_visible("#end")
        assert page.evaluate("document.activeElement.id") == "thanks"
        path, rows = saved(page, tmp_path, "#end .save")
        assert "Saved 5 answers" in page.inner_text("#saved")
    assert path.name == f"{key['test']}-Zoë_1.csv"
    assert {row["pair id"]: row["answer"] for row in rows} == given
    assert list(given) == list(key["pairs"])
    for row in rows:
        assert (row["test id"], row["listener"]) == (key["test"], "Zoë, 1")
        assert (row["times played A"], row["times played B"]) == ("1", "1")
        assert 0.05 < float(row["seconds"]) < 60
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["answered at"])
    arguments = ["listen", "score", str(path), "--key", str(page_file.with_suffix(".key.json")), "--json"]
    found = json.loads(CliRunner().invoke(ROOT, arguments, catch_exceptions=False).stdout)
    once = {name: facts for name, facts in key["pairs"].items() if facts["repeats"] is None}
    values = [0.5 if given[name] == "cannot tell" else given[name] == once[name]["evidence"] for name in once]
    assert found["overall"]["preference"] == pytest.approx(sum(values) / 4)
    assert list(found["by_listener"]) == ["Zoë, 1"]
    assert list(found["by_class"]) == [EVIL]
    assert found["consistency"]["n"] == 1


def test_both_sounds_must_be_heard_and_playing_is_counted(
    browser: Browser,
    page_file: Path,
    tmp_path: Path,
) -> None:
    with opened(browser, page_file, before=QUICK, accept_downloads=True) as page:
        begin(page, "2")
        page.keyboard.press("1")
        assert "Hear more of A and B first" in page.inner_text("#status")
        assert page.is_disabled(".answer >> nth=0")
        begin_to_hear(page, "a")
        page.keyboard.press("1")
        assert page.inner_text("#place") == "Pair 1 of 5"
        page.keyboard.press("a")  # stops it
        until(page, "document.getElementById('play-a').textContent.includes('Play')")
        begin_to_hear(page, "a")
        begin_to_hear(page, "b")  # stops A
        assert "Play" in page.inner_text("#play-a")
        page.keyboard.press("2")
        assert "Hear more of A and B first" in page.inner_text("#status")  # both were begun, which is not enough
        until(page, "document.getElementById('play-b').textContent.includes('Play')")  # to the end
        page.keyboard.press("2")
        assert "Hear more of A first" in page.inner_text("#status")
        assert page.is_disabled(".answer >> nth=0")
        hear(page, "a")
        assert page.is_enabled(".answer >> nth=0")
        assert "heard enough of both" in page.inner_text("#status")
        page.reload()
        assert page.is_enabled(".answer >> nth=0")  # what was heard is kept
        page.keyboard.press("r")
        until(page, "document.getElementById('play-recording').textContent.includes('Stop')")
        page.keyboard.press("Control+1")
        page.keyboard.press("x")
        assert page.inner_text("#place") == "Pair 1 of 5"
        page.keyboard.press("2")
        assert page.inner_text("#place") == "Pair 2 of 5"
        assert "Play" in page.inner_text("#play-recording")
        _, rows = saved(page, tmp_path, "#asking .save")
    (row,) = rows
    assert (row["answer"], row["times played A"], row["times played B"]) == ("B", "3", "1")


@pytest.mark.parametrize(("seconds", "least"), [(3.0, 2.0), (6.0, 3.0)])
def test_of_a_long_sound_two_seconds_and_half_of_it_are_enough(
    browser: Browser, page_file: Path, tmp_path: Path, seconds: float, least: float
) -> None:
    sound = mp3(Audio(tone(440, seconds=seconds), RATE, "long.wav"))
    longer = tmp_path / "long.html"
    text = page_file.read_text(encoding="utf-8")
    longer.write_text(re.sub(r'"data:audio/[^"]+"', json.dumps(sound), text), encoding="utf-8")
    with opened(browser, longer, before=QUICK.replace("16", "3")) as page:
        begin(page)
        for until_then, told in ((least - 0.5, "Hear more of A and B"), (least + 0.3, "Hear more of B first")):
            page.keyboard.press("a")
            until(page, f"players[0].currentTime > {until_then} && !players[0].paused")
            page.keyboard.press("a")  # stops it
            until(page, "players[0].paused")
            page.keyboard.press("1")
            assert told in page.inner_text("#status")


def test_an_answer_can_be_changed_and_another_listener_starts_anew(
    browser: Browser,
    page_file: Path,
    tmp_path: Path,
) -> None:
    with opened(browser, page_file, before=QUICK, accept_downloads=True) as page:
        begin(page, '=1+"x"')
        answer(page, "1")
        page.click("#back")
        assert page.get_attribute(".answer >> nth=0", "aria-pressed") == "true"
        page.keyboard.press("2")
        assert page.inner_text("#place") == "Pair 2 of 5"
        page.click("#back")
        page.click("#next")
        for _ in range(4):
            answer(page, "3")
        _, rows = saved(page, tmp_path, "#end .save")
        assert [row["answer"] for row in rows] == ["B", *["cannot tell"] * 4]
        assert rows[0]["listener"] == '1+"x"'  # a spreadsheet would take a name that begins with = for a formula
        page.once("dialog", lambda dialog: dialog.accept())
        page.click("#other")
        assert page.is_visible("#start")
        page.reload()
        assert page.is_visible("#start")
        begin(page, "Ben")
        assert page.inner_text("#place") == "Pair 1 of 5"


NO_STORE = (
    """Object.defineProperty(window, "localStorage", { get() { throw new DOMException("no", "SecurityError"); } })"""
)


def test_without_a_store_answers_are_held_while_the_page_is_open_and_that_is_said(
    browser: Browser,
    page_file: Path,
    tmp_path: Path,
) -> None:
    with opened(browser, page_file, before=QUICK, accept_downloads=True) as page:
        assert page.is_hidden("#unkept")
        page.add_init_script(NO_STORE)
        page.reload()
        assert "save them before you close" in page.inner_text("#unkept")
        begin(page)
        for _ in range(5):
            answer(page, "1")
        assert page.is_visible("#unkept")
        _, rows = saved(page, tmp_path, "#end .save")
        assert len(rows) == 5


@pytest.mark.parametrize("kept", ["{", "null", "[]", '"x"', '{"listener": 3}', '{"listener": "x", "rows": null}'])
def test_what_else_lies_in_the_store_does_no_harm(browser: Browser, page_file: Path, kept: str) -> None:
    with opened(browser, page_file) as page:
        page.evaluate(
            "([name, kept]) => localStorage.setItem(name, kept)", [f"otoscope {key_of(page_file)['test']}", kept]
        )
        page.reload()
        assert page.is_visible("#start") or page.inner_text("#place") == "Pair 1 of 5"
        assert page.is_hidden("#unkept")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_dark_pages_can_be_used_by_everybody(
    browser: Browser,
    page_file: Path,
    scheme: str,
) -> None:
    phone = {"width": 360, "height": 700}
    with opened(browser, page_file, before=QUICK, viewport=phone, color_scheme=scheme, has_touch=True) as page:
        assert serious_faults(page) == []
        assert small_targets(page) == []
        begin(page, "a" * 60)
        assert serious_faults(page) == []
        assert small_targets(page) == []
        for _ in range(5):
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            answer(page, "1")
        assert page.is_visible("#end")
        assert serious_faults(page) == []
        assert small_targets(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_label_stays_text(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"the page said {dialog.message}"))
        begin(page)
        assert EVIL in page.inner_text("#question")
        assert page.locator("img").count() == 0
