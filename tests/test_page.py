"""The page of a recording in a real browser: what it plays is what Python mixes, and all of it works by keyboard.

One small report with every kind of parts and scores: parts that adjoin (with each off value), parts that overlap
(`hpss`), groups that share parts (combs), relative weights (saliency), and a model of many classes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Page

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.cli import main
from otoscope.explainers.embedding import safe_json
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.gates import weights_on
from otoscope.explainers.methods import Settings
from otoscope.explainers.page import page_data, prediction
from otoscope.explainers.report import write_pages, write_report
from otoscope.explainers.store import load_explanation, result_folder, save
from tests.browser import browser as browser
from tests.browser import opened, serious_faults, small_targets, until
from tests.builders import RATE, Function, noise, sigmoid, tone

EVIL = "<img src=x onerror=alert(1)>"
SECONDS = 2.0


def sounds() -> Audio:
    """Make two tones, one after the other, over faint noise."""
    half = len(tone(440.0, seconds=SECONDS)) // 2
    samples = 0.02 * noise(seconds=SECONDS, level=1.0)
    samples[:half] += tone(440.0, seconds=SECONDS, level=0.3)[:half]
    samples[half:] += tone(1000.0, seconds=SECONDS, level=0.3)[half:]
    return Audio(samples.astype(np.float32), RATE, f"{EVIL.replace('/', '')}.wav")


def listener() -> Function:
    """Hears the second tone, more of it in its windows of half a second."""

    def score(x: Any) -> Any:
        power = np.abs(np.fft.rfft(x, axis=1)) ** 2
        frequency = np.fft.rfftfreq(x.shape[1], 1 / RATE)
        heard = power[:, (frequency > 900) & (frequency < 1100)].sum(axis=1) / x.shape[1] ** 2
        found = sigmoid(np.log(heard + 1e-6) + 8)
        return np.stack([found, 1 - found], axis=1)

    return Function(score, rate=RATE, n_samples=RATE // 2, labels=(EVIL, "quiet"))


ASKED: list[tuple[str, dict[str, Any]]] = [
    ("lime", {"parts": "grid", "n_parts": 12, "calls": 128}),
    ("lime", {"parts": "grid", "n_parts": 12, "calls": 128, "off": "mean"}),
    ("lime", {"parts": "grid", "n_parts": 12, "calls": 128, "off": "noise"}),
    ("lime", {"parts": "hpss"}),
    ("occlusion", {"off": "silence"}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Explain the tones in every way that the page must tell apart."""
    place = tmp_path_factory.mktemp("report")
    for number, (method, settings) in enumerate(ASKED):
        explanation = explain(listener(), sounds(), method=method, target=EVIL, settings=Settings(**settings), name="m")
        save(explanation, place / "rec" / f"{number}")
    write_report(place)
    return place


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    """Open the report."""
    with opened(browser, folder / "report.html", viewport={"width": 1100, "height": 900}) as found:
        found.wait_for_selector("body[data-ready=yes]")
        yield found


def explanations(folder: Path) -> list[Explanation]:
    """Load what is in the report, in its order."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return [load_explanation(folder / entry["folder"]) for entry in index["results"]]


def choose(page: Page, number: int) -> None:
    """Look at another explanation."""
    page.locator(f"[name=explanation][value='{number}']").check()
    until(page, f"otoscope.chosen === {number}")


def played(page: Page) -> Any:
    """Give what the browser renders of the mix."""
    return np.array(page.evaluate("otoscope.render()"))


def held(page: Page) -> Any:
    """Give the recording as the page decoded it."""
    return np.array(page.evaluate("Array.from(otoscope.samples[otoscope.e.sound])"), dtype=np.float32)


def test_every_mix_sounds_as_python_mixes_it_and_is_scored_as_the_surrogate_scores_it(page: Page, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for number, explanation in enumerate(explanations(folder)):
        choose(page, number)
        decoded = held(page)
        codec = np.abs(decoded - explanation.audio.samples).max()
        print(f"codec error of {explanation.method} {explanation.settings['parts']}: {codec:.1e} of full scale")
        assert codec < 1e-4
        n_weights = len(explanation.weights)
        toggled = rng.choice(n_weights, size=min(3, n_weights - 1), replace=False)
        for weight in toggled:
            box = page.locator(f"#parts input[value='{weight}']")
            box.check()  # a comb that shares atoms with one that was switched off is half on
            box.uncheck()
        groups = np.eye(n_weights, dtype=bool) if explanation.groups is None else explanation.groups
        mask = np.ones((1, groups.shape[1]), dtype=np.uint8)
        for weight in toggled:
            mask[0, groups[weight]] = 0
        expected = explanation.parts.compose(mask)[0]
        np.testing.assert_allclose(played(page), expected, atol=1e-3)
        assert np.abs(expected - explanation.audio.samples).max() > 0.005  # or nothing was switched off
        base = explanation.fidelity.get("intercept")  # of a fit; single occlusions start from the whole recording
        if base is None:
            base = explanation.score.scaled - float(explanation.weights.sum())
        scaled = base + float((weights_on(mask, explanation.groups) @ explanation.weights)[0])
        shown = float(page.inner_text("#predicted").split()[0].rstrip(","))
        assert shown == pytest.approx(float(sigmoid(np.array(scaled))), abs=6e-4)


def test_the_prediction_is_that_of_the_fit_and_its_error_that_of_the_calls(folder: Path) -> None:
    explanation = explanations(folder)[0]
    base, error = prediction(explanation)
    assert explanation.masks is not None
    assert explanation.scores is not None
    values = np.log(explanation.scores[:, 0] / (1 - explanation.scores[:, 0]))
    design = np.column_stack([np.ones(len(values)), explanation.masks])
    found, *_ = np.linalg.lstsq(design, values, rcond=None)
    assert base == pytest.approx(found[0], abs=1e-4)
    free = len(values) - design.shape[1]
    assert error == pytest.approx(np.sqrt(((values - design @ found) ** 2).sum() / free), rel=1e-3)
    assert prediction(replace(explanation, units="relative")) == (None, None)


def test_the_mix_differs_from_that_of_the_decoded_sound_by_rounding_only(page: Page, folder: Path) -> None:
    explanation = explanations(folder)[0]
    page.locator("[data-play=evidence]").click()
    parts = explanation.parts
    own = type(parts)(Audio(held(page), RATE, ""), parts.stft, parts.labels, parts.names)
    np.testing.assert_allclose(played(page), own.compose(explanation.evidence_mask[None].astype(float))[0], atol=2e-5)


def test_the_model_s_own_answers_are_shown_where_it_was_asked(page: Page, folder: Path) -> None:
    explanation = explanations(folder)[0]
    trip = explanation.round_trip
    for what, answer in (("evidence", trip.evidence), ("complement", trip.complement), ("all", trip.original)):
        page.locator(f"[data-play={what}]").click()
        assert page.inner_text("#truth").startswith(f"{answer.score:.3f}")
        assert page.locator(f"[data-play={what}]").get_attribute("aria-pressed") == "true"
    assert explanation.curves is not None
    for mode, curve in (("keep", explanation.curves.insertion[0]), ("drop", explanation.curves.deletion[0])):
        page.locator(f"[name=mode][value={mode}]").check()
        for count, scaled in list(zip(explanation.curves.counts, curve, strict=True))[1:-1]:
            page.locator("#ladder").fill(str(count))
            told = page.inner_text("#truth").split()[0]
            assert float(told) == pytest.approx(float(sigmoid(np.array(scaled))), abs=6e-4)
    page.locator("#ladder").fill("1")
    page.locator("#parts input").nth(5).click()
    assert page.inner_text("#truth") == "not asked about this mix"
    assert "a mix of your own" in page.inner_text("#ladder-says")
    assert "a guess" in page.inner_text("#predicted")  # two parts on are far from the half that the fit knows


def test_solo_plays_one_part(page: Page, folder: Path) -> None:
    explanation = explanations(folder)[0]
    strongest = explanation.strongest(1)[0]
    page.locator("#parts button").first.click()
    np.testing.assert_allclose(played(page), explanation.parts.sounds[strongest], atol=1e-3)
    assert page.inner_text("#count") == f"1 of {len(explanation.weights)} parts on"
    page.locator("#parts button").first.click()
    assert page.inner_text("#count") == f"{len(explanation.weights)} of {len(explanation.weights)} parts on"


def test_playing_moves_the_cursor_and_a_click_on_the_picture_plays_from_there(page: Page) -> None:
    assert page.inner_text("#time") == "0.00 s"
    page.locator("#play").click()
    until(page, "otoscope.cursor > 0.2")
    before = page.locator("#cursor").evaluate("node => node.style.transform")
    until(page, "otoscope.cursor > 0.5")
    assert page.locator("#cursor").evaluate("node => node.style.transform") != before
    page.locator("#play").click()
    assert page.inner_text("#play") == "Play"
    box = page.locator("#stage").bounding_box()
    assert box is not None
    gutter = page.evaluate("otoscope.gutter")
    page.mouse.click(box["x"] + gutter + 0.75 * (box["width"] - gutter), box["y"] + 50)
    until(page, "otoscope.player.playing")
    assert 1.4 < page.evaluate("otoscope.cursor") < 2.0


def test_another_explanation_keeps_the_position_and_what_is_seen(page: Page) -> None:
    page.locator("#closer").click()
    page.locator("#stage").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    seen, at = page.evaluate("otoscope.view"), page.evaluate("otoscope.cursor")
    assert at > 0.3
    assert seen[1] - seen[0] < SECONDS
    choose(page, 3)
    assert page.evaluate("otoscope.view") == seen
    assert page.evaluate("otoscope.cursor") == pytest.approx(at)
    assert page.locator("[data-explanation='3']").first.is_visible()
    assert not page.locator("[data-explanation='0']").first.is_visible()
    choose(page, 0)
    page.locator("#parts input").first.uncheck()
    choose(page, 3)
    choose(page, 0)
    assert not page.locator("#parts input").first.is_checked()  # the mix is still there


def test_seeking_while_playing_leaves_one_clock_running(page: Page) -> None:
    page.locator("#play").click()
    page.evaluate("for (let i = 0; i < 50; i++) otoscope.seek(0.1)")
    page.evaluate(
        """() => {
        const tick = otoscope.tick;
        otoscope.ticks = 0;
        otoscope.tick = function () { this.ticks += 1; tick.call(this); };
        }"""
    )
    page.wait_for_timeout(500)
    assert 0 < page.evaluate("otoscope.ticks") < 100  # a screen has about 60 pictures a second


def test_parts_are_drawn_as_long_as_they_weigh(page: Page, folder: Path) -> None:
    weights = np.sort(np.abs(explanations(folder)[0].weights))[::-1]
    widths = page.evaluate(
        "Array.from(document.querySelectorAll('#parts i'), (bar) => bar.getBoundingClientRect().width)"
    )
    np.testing.assert_allclose(np.array(widths) / widths[0], weights / weights[0], atol=0.02)


def test_paper_is_white_and_shows_every_part(browser: Browser, folder: Path) -> None:
    with opened(browser, folder / "report.html", color_scheme="dark") as page:
        until(page, "document.body.dataset.ready === 'yes'")
        mean = """() => {
            const { data } = otoscope.picture.getContext("2d").getImageData(0, 0, otoscope.picture.width, 256);
            return data.reduce((sum, value) => sum + value, 0) / data.length;
        }"""
        page.locator("#overlay").uncheck()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(mean) > 140  # in the dark it is about 100
        page.emulate_media(media="print")
        assert page.locator("#parts").evaluate("list => list.scrollHeight <= list.clientHeight + 1")
        assert not page.locator("#play").is_visible()
        assert page.locator("details:not([open])").count() == 0


def test_pointing_reads_the_part_below(page: Page, folder: Path) -> None:
    explanation = explanations(folder)[0]
    box = page.locator("#stage").bounding_box()
    assert box is not None
    gutter, seconds, hertz = page.evaluate("otoscope.gutter"), 1.5, 1000.0
    y = page.evaluate(f"otoscope.y({hertz})")
    page.mouse.move(box["x"] + gutter + seconds / SECONDS * (box["width"] - gutter), box["y"] + y)
    told = page.inner_text("#hover")
    stft = explanation.parts.stft
    part = explanation.parts.labels[round(hertz * stft.n_fft / RATE), round(seconds * RATE / stft.hop_length)]
    assert explanation.names[part] in told
    weight = explanation.weights[part]
    assert f"{'−' if weight < 0 else '+'}{abs(weight):.3f} ± {explanation.se[part]:.3f} log-odds" in told  # type: ignore[index]
    assert f"{100 * explanation.energy[part]:.1f} % of the energy" in told
    assert re.search(r"1\.\d\d s, B5 · (9|10)\d\d", told) or "1.00 kHz" in told


def test_equally_loud_sounds_are_equally_loud(page: Page) -> None:
    page.locator("[data-play=complement]").click()
    page.locator("#matched").check()
    mixed, whole, gain = played(page), held(page), page.evaluate("otoscope.player.gain")
    level = np.sqrt(np.mean((gain * mixed) ** 2))
    assert np.abs(gain * mixed).max() <= 0.99 + 1e-6
    assert level == pytest.approx(np.sqrt(np.mean(whole**2)), rel=1e-3) or np.abs(gain * mixed).max() > 0.98
    assert "dB" in page.inner_text("#gain")


def test_the_curve_has_the_windows_of_the_model(folder: Path) -> None:
    explanation = explanations(folder)[0]
    entry = page_data([explanation])["explanations"][0]
    assert [window[:2] for window in entry["windows"]] == [[0.0, 0.5], [0.5, 1.0], [1.0, 1.5], [1.5, 2.0]]
    scores = [window[2] for window in entry["windows"]]
    assert np.mean(scores) == pytest.approx(explanation.score.score, abs=1e-4)
    assert min(scores[2:]) > max(scores[:2]) + 0.3  # the second tone


def test_everything_works_by_keyboard(page: Page, folder: Path) -> None:
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("(({id, dataset, name}) => id || dataset.play || name)(document.activeElement)"))
    assert {"explanation", "play", "evidence", "matched", "stage", "closer", "mode", "ladder"} <= reached
    page.locator("#stage").focus()
    page.keyboard.press(" ")
    until(page, "otoscope.player.playing && otoscope.cursor > 0.05")
    page.keyboard.press(" ")
    page.keyboard.press("End")
    assert page.evaluate("otoscope.cursor") == pytest.approx(SECONDS, abs=0.01)
    page.keyboard.press("Home")
    assert page.evaluate("otoscope.cursor") == 0
    page.keyboard.press("+")
    assert page.evaluate("otoscope.view[1] - otoscope.view[0]") < SECONDS
    page.locator("#parts input").first.focus()
    page.keyboard.press(" ")
    assert page.inner_text("#count") == f"{(n := len(explanations(folder)[0].weights)) - 1} of {n} parts on"


def focused(page: Page) -> Any:
    """Tell which row of the list of parts has the focus, and on which control."""
    return page.evaluate(
        """(({activeElement: at}) => [
            [...document.querySelectorAll("#parts [role=row]")].indexOf(at.closest("[role=row]")), at.tagName
        ])(document)"""
    )


def test_the_list_of_parts_is_one_stop_of_the_tab_key(page: Page, folder: Path) -> None:
    last = len(explanations(folder)[0].weights) - 1
    here = max(0, last - 10) + 1
    page.locator("#ladder").focus()
    page.keyboard.press("Tab")
    assert focused(page) == [0, "INPUT"]
    told = [
        ("ArrowDown", 1, "INPUT"),
        ("ArrowRight", 1, "BUTTON"),
        ("ArrowRight", 1, "BUTTON"),
        ("ArrowDown", 2, "BUTTON"),
        ("ArrowUp", 1, "BUTTON"),
        ("Home", 0, "BUTTON"),
        ("ArrowUp", 0, "BUTTON"),
        ("End", last, "BUTTON"),
        ("ArrowLeft", last, "INPUT"),
        ("PageUp", here - 1, "INPUT"),
        ("ArrowDown", here, "INPUT"),
    ]
    for key, row, control in told:
        page.keyboard.press(key)
        assert focused(page) == [row, control], key
    assert page.evaluate("otoscope.marked === +document.activeElement.value")  # shown in the picture
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press(" ")
    assert not page.locator("#parts input").nth(here).is_checked()
    page.keyboard.press("Tab")
    assert focused(page)[0] == -1  # out of the list at once
    page.keyboard.press("Shift+Tab")
    assert focused(page) == [here, "INPUT"]  # and back to where it was
    page.keyboard.press("Shift+Tab")
    assert focused(page)[0] == -1
    page.locator("#parts button").nth(3).click()
    page.locator("#ladder").focus()
    page.keyboard.press("Tab")
    assert focused(page) == [3, "BUTTON"]
    assert page.locator("#parts [tabindex='0']").count() == 1
    assert "Space switches" in page.inner_text("#keys")


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("closer", [1.0, 8.0])
def test_lines_around_the_evidence_are_one_pixel_thick_however_near(
    browser: Browser, folder: Path, ratio: int, closer: float
) -> None:
    with opened(browser, folder / "report.html", device_scale_factor=ratio) as page:
        until(page, "document.body.dataset.ready === 'yes'")
        page.evaluate(f"otoscope.seek(1); otoscope.zoom({closer})")
        n_ink, n_thick = page.evaluate(
            """() => {
                const canvas = document.getElementById("stage"), ratio = devicePixelRatio;
                const left = Math.round(otoscope.gutter * ratio), width = canvas.width - left;
                const height = Math.floor(otoscope.depth * ratio);
                const { data } = canvas.getContext("2d").getImageData(left, 0, width, height);
                const isInk = (x, y) => [0, 1, 2].every((i) => data[4 * (y * width + x) + i] === 20);
                let ink = 0, thick = 0; // of two pixels by two
                for (let y = 1; y < height; y++) for (let x = 1; x < width; x++) {
                    ink += isInk(x, y);
                    thick += isInk(x, y) && isInk(x - 1, y) && isInk(x, y - 1) && isInk(x - 1, y - 1);
                }
                return [ink, thick];
            }"""
        )
        assert n_ink > 200
        assert n_thick == 0


@pytest.mark.parametrize("width", [360, 1100])
def test_every_control_is_large_enough_for_a_finger(browser: Browser, folder: Path, width: int) -> None:
    with opened(browser, folder / "report.html", viewport={"width": width, "height": 740}, has_touch=True) as page:
        until(page, "document.body.dataset.ready === 'yes'")
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert small_targets(page) == []
        page.locator("#closer").click()
        page.evaluate("otoscope.look(0, 1)")
        slider = page.locator("#pan")
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box is not None
        for x, y in ((3, 12), (21, 12), (12, 3), (12, 21)):  # all on the thumb, so nothing jumps
            page.mouse.click(box["x"] + x, box["y"] + y)
            assert slider.input_value() == "0", (x, y)
        page.mouse.click(box["x"] + 60, box["y"] + 12)
        assert slider.input_value() != "0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_whole_and_nobody_is_shut_out(browser: Browser, folder: Path, scheme: str) -> None:
    with opened(browser, folder / "report.html", viewport={"width": 360, "height": 740}, color_scheme=scheme) as page:
        page.wait_for_selector("body[data-ready=yes]")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert serious_faults(page) == []


def test_labels_and_names_stay_text(page: Page, folder: Path) -> None:
    assert page.locator("img[src=x]").count() == 0
    assert EVIL in page.inner_text("h2 >> nth=1")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert safe_json({"label": "</script><script>"}) == '{"label":"\\u003c/script>\\u003cscript>"}'


def test_only_its_own_script_may_run(browser: Browser, folder: Path) -> None:
    page = browser.new_page()
    page.goto((folder / "report.html").as_uri())
    for tried in (
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'ran = 1'}))",
        "0",
    ):
        page.evaluate(tried)
    assert page.evaluate("typeof ran") == "undefined"
    assert page.evaluate("fetch('data:text/plain,x').then(() => 'fetched', () => 'refused')") == "refused"
    page.close()


def test_a_damaged_result_is_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "rec", tmp_path / "rec")
    (tmp_path / "rec" / "1" / "arrays.npz").write_bytes(b"broken")
    (tmp_path / "rec" / "2" / "explanation.json").write_text("{", encoding="utf-8")
    written = write_pages(tmp_path)
    assert {place for place, _ in written.left_out} == {"rec/1", "rec/2"}
    text = written.path.read_text(encoding="utf-8")
    assert "rec/1 is left out" in text
    assert "rec/2 is left out" in text
    assert len(json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))["results"]) == len(ASKED) - 2


def test_six_thousand_classes_make_a_page_that_works(browser: Browser, tmp_path: Path) -> None:
    n = 6500

    def score(x: Any) -> Any:
        return np.full((len(x), n), 0.01) + 0.5 * (np.arange(n) == 4321) * np.abs(x).mean(axis=1, keepdims=True)

    model = Function(score, rate=RATE, labels=tuple(f"class {i}" for i in range(n)), output="sigmoid")
    explanation = explain(model, sounds(), settings=Settings(parts="grid", n_parts=4, calls=16), name="many")
    save(explanation, tmp_path / result_folder(explanation, "tones"))
    report = write_report(tmp_path)
    assert report.stat().st_size < 2e6
    with opened(browser, report) as page:
        page.wait_for_selector("body[data-ready=yes]")
        assert "class 4321" in page.inner_text("body")
        assert "of 6500 classes" in page.inner_text("article >> nth=0")


def test_the_command_writes_the_pages_again_and_names_what_is_damaged(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "all")
    place = tmp_path / "all"
    (place / "report.html").unlink()
    done = CliRunner().invoke(main, ["report", str(place)])
    assert done.exit_code == 0, done.output
    assert (place / "report.html").stat().st_size > 1e4
    (place / "rec" / "0" / "original.wav").unlink()
    partly = CliRunner().invoke(main, ["report", str(place)])
    assert partly.exit_code == 1
    assert "rec/0 is left out" in partly.output
    assert "rec/0 is left out" in (place / "report.html").read_text(encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for wrong, said in (("nowhere", "is no folder"), ("empty", "holds no explanations")):
        failed = CliRunner().invoke(main, ["report", str(tmp_path / wrong)])
        assert failed.exit_code == 1
        assert said in failed.output


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a disk that holds little; skip the test where that is not allowed."""
    place.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_costs_one_line_and_leaves_nothing_half_written(folder: Path, tmp_path: Path) -> None:
    explanation = explanations(folder)[0]
    with small_disk(tmp_path / "result", 100) as disk:
        with pytest.raises(OtoscopeError, match="the disk is full"):
            save(explanation, disk / "one")
        assert list(disk.iterdir()) == []
    with small_disk(tmp_path / "page", 2000) as disk:
        shutil.copytree(folder / "rec" / "4", disk / "rec")
        room = shutil.disk_usage(disk).free
        (disk / "filling").write_bytes(b"0" * (room - 20_000))
        done = CliRunner().invoke(main, ["report", str(disk)])
        assert done.exit_code == 1
        assert "disk is full" in str(done.exception) + done.output
        assert {path.name for path in disk.iterdir()} == {"rec", "filling"}


def test_a_disk_that_fills_between_two_recordings_is_told_too(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "rec" / "4", tmp_path / "a")
    other = tmp_path / "b"
    shutil.copytree(folder / "rec" / "4", other)
    document = json.loads((other / "explanation.json").read_text(encoding="utf-8"))
    document["audio"]["sha256"] = "0" * 64  # another recording
    (other / "explanation.json").write_text(json.dumps(document), encoding="utf-8")
    with small_disk(tmp_path / "disk", 2000) as disk:
        for name in "ab":
            shutil.copytree(tmp_path / name, disk / name)
        (disk / "filling").write_bytes(b"0" * (shutil.disk_usage(disk).free - 20_000))
        with pytest.raises(OtoscopeError, match="the disk is full"):
            write_report(disk)
        assert {path.name for path in disk.iterdir()} == {"a", "b", "filling"}


def test_twenty_minutes_are_searched_and_ten_seconds_shown(browser: Browser, tmp_path: Path) -> None:
    minute = np.tile(0.01 * noise(seconds=1.0, level=1.0), 60 * 20).astype(np.float32)
    minute[600 * RATE : 604 * RATE] += tone(1000.0, seconds=4.0, level=0.5)
    audio = Audio(minute, RATE, "long.wav")
    settings = Settings(parts="grid", n_parts=8, calls=64)
    save(explain(listener(), audio, target=0, settings=settings, name="m"), tmp_path / "long")
    report = write_report(tmp_path)
    assert report.stat().st_size < 1e6
    with opened(browser, report) as page:
        until(page, "document.body.dataset.ready === 'yes'")
        start, end = page.evaluate("otoscope.view")
        assert start <= 600 < 604 <= end
        assert end - start == pytest.approx(10)


def test_fifteen_seconds_of_noise_by_three_methods_stay_below_8_megabytes(tmp_path: Path) -> None:
    rate = 44100
    audio = Audio((0.5 * np.random.default_rng(0).uniform(-1, 1, 15 * rate)).astype(np.float32), rate, "noise.wav")
    model = Function(lambda x: sigmoid(np.abs(x).mean(axis=1, keepdims=True)), rate=rate, n_samples=15 * rate)
    for method, settings in (("lime", {"calls": 256}), ("occlusion", {}), ("rise", {"calls": 256})):
        own: dict[str, Any] = {"parts": "grid", "n_parts": 64, **settings} if method != "occlusion" else settings
        save(explain(model, audio, method=method, settings=Settings(**own)), tmp_path / method)
    assert 1.5e6 < write_report(tmp_path).stat().st_size < 8e6  # noise is what packs worst


def test_another_span_keeps_the_position_in_the_recording(browser: Browser, tmp_path: Path) -> None:
    settings = Settings(parts="grid", n_parts=4, calls=16)
    for name, start, duration in (("a", 0.0, 2.0), ("b", 0.5, 1.0)):
        found = explain(listener(), sounds(), target=0, start=start, duration=duration, settings=settings, name="m")
        save(found, tmp_path / "rec" / name)
    with opened(browser, write_report(tmp_path)) as page:
        until(page, "document.body.dataset.ready === 'yes'")
        for at, kept in ((1.2, 1.2), (1.9, 1.5)):
            choose(page, 0)
            page.evaluate(f"otoscope.seek({at})")
            choose(page, 1)
            assert page.evaluate("otoscope.cursor") == pytest.approx(kept, abs=0.01)
            assert page.evaluate("otoscope.player.position") == pytest.approx(kept - 0.5, abs=0.01)
            assert page.evaluate("otoscope.view") == [0.5, 1.5]
