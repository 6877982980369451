"""The index page in a real browser: filters, order, address, keyboard, phones, darkness, and snippets in sequence."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Dialog, Page, expect

from otoscope.explainers.index import Listed, write_index
from tests.browser import browser as browser  # a fixture
from tests.browser import opened, serious_faults, small_targets
from tests.test_index import EVIL, copied, explained, planted

N = 50
WORDS = ("trust", "caution", "do not use")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Results of one recording by three methods."""
    return explained(tmp_path_factory.mktemp("made"), planted())


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory, made: list[Path]) -> Path:
    """Write the page of fifty recordings by three methods, about four classes."""
    out = tmp_path_factory.mktemp("out")
    odd = {0: f"{EVIL}.wav", 1: "Übung in Öl.wav", 2: "夜曲 第二番.flac", 3: "a" * 200 + ".wav"}
    recordings = [
        copied(
            out,
            odd.get(n, f"track {n}.wav"),
            made,
            n,
            target=("rock & roll", "calm", EVIL, "日本")[n % 4],
            model=("ear", "other")[n % 2],
            verdict=WORDS[n % 3],
            score=n / N,
        )
        for n in range(N)
    ]
    began = time.perf_counter()
    path = write_index(out, recordings, [("broken-folder", f"cannot be read {EVIL}")])
    size = path.stat().st_size
    print(f"\n{N} recordings, 3 methods: {size / 1e6:.2f} MB, written in {time.perf_counter() - began:.1f} s")
    assert size < 30e6
    return path


def shown(page: Page) -> list[str]:
    """Names of the recordings that are shown, in order."""
    visible = "[...document.querySelectorAll('#recordings tbody')].filter(body => body.checkVisibility())"
    names: list[str] = page.evaluate(f"{visible}.map(body => body.querySelector('.name').textContent)")
    return names


def count(page: Page) -> str:
    return page.locator("#count").inner_text()


def test_fifty_recordings_open_and_say_how_many_they_are(browser: Browser, page_file: Path) -> None:
    began = time.perf_counter()
    with opened(browser, page_file, viewport={"width": 1280, "height": 900}) as page:
        print(f"\nopened in {time.perf_counter() - began:.2f} s")
        assert len(shown(page)) == N
        assert count(page) == f"{N} of {N} recordings shown."
        assert page.locator("#count").get_attribute("aria-live") == "polite"
        page.locator("#recordings img").first.scroll_into_view_if_needed()
        assert page.evaluate("document.querySelector('#recordings img').decode().then(() => true)")


def test_filters_narrow_down_together(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        page.get_by_label("Asked about").select_option("calm")
        assert len(shown(page)) == len(range(1, N, 4))
        page.get_by_label("Verdict").select_option("trust")
        expected = [n for n in range(N) if n % 4 == 1 and n % 3 == 0]
        assert shown(page) == [f"track {n}.wav" for n in expected]
        assert count(page) == f"{len(expected)} of {N} recordings shown."
        page.get_by_label("Model").select_option("ear")  # calm is always asked of the other
        assert shown(page) == []
        expect(page.locator("#nothing")).to_be_visible()
        page.get_by_role("button", name="Show all").click()
        assert len(shown(page)) == N
        expect(page.locator("#nothing")).to_be_hidden()
        assert "#" not in page.url


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("ubung", "Übung in Öl.wav"),
        ("第二番", "夜曲 第二番.flac"),
        ("TRACK 17", "track 17.wav"),
        ("onerror wav caution", ""),
    ],
)
def test_words_are_found_regardless_of_case_and_accents(
    browser: Browser, page_file: Path, words: str, name: str
) -> None:
    with opened(browser, page_file) as page:
        page.get_by_label("Find").fill(words)
        assert shown(page) == [name] if name else len(shown(page)) > 1
        page.get_by_label("Find").fill("no such words")
        assert shown(page) == []
        assert count(page) == f"0 of {N} recordings shown."


def test_order_by_name_score_and_verdict(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        names = shown(page)
        tracks = [name for name in names if name.startswith("track")]
        assert tracks == [f"track {n}.wav" for n in range(4, N)]  # 10 after 9
        order = page.get_by_label("Order")
        order.select_option("score")
        assert shown(page)[:3] == ["track 49.wav", "track 48.wav", "track 47.wav"]
        order.select_option("low")
        assert shown(page)[:2] == [f"{EVIL}.wav", "Übung in Öl.wav"]
        for choice, first, last in (("trust", 0, 2), ("doubt", 2, 0)):
            order.select_option(choice)
            words = page.locator("#recordings tbody").evaluate_all(
                "bodies => bodies.map(body => body.querySelector('.word').textContent)"
            )
            places = [WORDS.index(word) for word in words]
            assert (places[0], places[-1]) == (first, last)
            assert places == sorted(places, reverse=choice == "doubt")


def test_the_address_keeps_the_filters_and_gives_them_back(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        page.get_by_label("Asked about").select_option("rock & roll")
        page.get_by_label("Find").fill("track 2")
        page.get_by_label("Order").select_option("score")
        before, address = shown(page), page.url
        assert before
        other = page.context.new_page()
        other.goto(address)
        assert shown(other) == before
        assert other.get_by_label("Asked about").input_value() == "rock & roll"
        other.goto(page_file.resolve().as_uri() + "#class=nonsense&verdict=trust&x=1")
        assert other.get_by_label("Asked about").input_value() == ""
        assert len(shown(other)) == len(range(0, N, 3))
        other.goto(page_file.resolve().as_uri() + "#classes")  # an anchor, no filter
        assert len(shown(other)) == len(range(0, N, 3))


def test_a_class_leads_to_its_recordings(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        one = page.locator("details.class").filter(has=page.locator("summary strong", has_text=EVIL))
        one.locator("summary").click()
        one.get_by_text("Show its recordings").click()
        assert page.get_by_label("Asked about").input_value() == EVIL
        assert len(shown(page)) == len(range(2, N, 4))
        assert page.evaluate("document.activeElement.name") == "q"


def test_everything_is_reached_by_keyboard(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()"))
        assert [
            name for name in reached if name in ("q", "class", "model", "method", "verdict", "sort", "Show all")
        ] == [
            "q",
            "class",
            "model",
            "method",
            "verdict",
            "sort",
            "Show all",
        ]
        page.locator("[name=verdict]").focus()
        page.keyboard.press("ArrowDown")
        assert len(shown(page)) == len(range(0, N, 3))
        page.locator("details.class summary").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("details.class").first.locator("svg").first).to_be_visible()
        page.locator("details.class").first.locator("button.play").focus()
        page.keyboard.press("Enter")
        expect(page.locator("details.class").first.locator("button.play")).to_have_text("Stop")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phones_and_darkness_have_no_serious_faults(browser: Browser, page_file: Path, width: int, scheme: str) -> None:
    with opened(browser, page_file, viewport={"width": width, "height": 780}, color_scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_faults(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_are_as_light_as_the_page_and_keep_red_red(
    browser: Browser, tmp_path: Path, made: list[Path], scheme: str
) -> None:
    path = write_index(tmp_path, [copied(tmp_path, f"{n}.wav", made[:1], n) for n in range(2)])
    with opened(browser, path, color_scheme=scheme) as page:
        for name in ("img.thumb", "svg .map"):
            one = page.locator(name).first
            one.scroll_into_view_if_needed()
            shown = np.asarray(Image.open(io.BytesIO(one.screenshot())).convert("RGB")).astype(float)
            assert (shown.mean() < 110) == (scheme == "dark")
            assert (shown[..., 0] - shown[..., 2]).max() > 60  # what speaks for it


@pytest.mark.parametrize("width", [360, 1280])
def test_every_control_is_large_enough_for_a_finger(browser: Browser, page_file: Path, width: int) -> None:
    with opened(browser, page_file, viewport={"width": width, "height": 780}, has_touch=True) as page:
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert small_targets(page) == []


def test_evil_names_stay_text_and_nothing_is_run(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        dialogs: list[str] = []

        def note(dialog: Dialog) -> None:
            dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", note)
        page.get_by_label("Asked about").select_option(EVIL)
        page.get_by_label("Find").fill(EVIL)
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.locator("img[src=x]").count() == 0
        assert dialogs == []


def test_without_script_the_whole_table_stands_and_no_dead_buttons(browser: Browser, page_file: Path) -> None:
    surroundings = browser.new_context(java_script_enabled=False)
    page = surroundings.new_page()
    page.goto(page_file.resolve().as_uri())
    expect(page.locator("#recordings tbody")).to_have_count(N)
    expect(page.locator("#recordings tbody").last).to_be_visible()
    for one in ("#filters", "button.play >> nth=0", "#nothing"):
        expect(page.locator(one)).to_be_hidden()
    assert page.locator("#count").inner_text() == f"{N} recordings."
    surroundings.close()


def test_play_all_goes_on_by_itself_shows_what_sounds_and_stops(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        first, second = (page.locator("details.class").nth(place) for place in (0, 1))
        for one in (first, second):
            one.locator("summary").click()
        button, current = first.locator("button.play"), first.locator("li[aria-current]")
        page.evaluate(
            "document.querySelectorAll('audio').forEach(one => one.playbackRate = one.defaultPlaybackRate = 3)"
        )
        button.click()
        expect(button).to_have_text("Stop")
        expect(current).to_have_count(1)
        expect(first.locator(".playing")).to_contain_text("1 of 12")
        expect(first.locator(".playing")).to_contain_text("2 of 12", timeout=10000)
        expect(first.locator("li").nth(1)).to_have_attribute("aria-current", "true")
        sounding = "[...document.querySelectorAll('audio')].filter(one => !one.paused).length"
        assert page.evaluate(sounding) <= 1
        second.locator("button.play").click()  # takes over
        expect(button).to_have_text("Play all")
        expect(current).to_have_count(0)
        expect(second.locator("li[aria-current]")).to_have_count(1)
        second.locator("button.play").click()
        expect(second.locator("li[aria-current]")).to_have_count(0)
        assert page.evaluate(sounding) == 0


def test_a_player_started_by_hand_ends_the_sequence(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        one = page.locator("details.class").first
        one.locator("summary").click()
        one.locator("button.play").click()
        expect(one.locator("li[aria-current]")).to_have_count(1)
        for place in (3, 5):  # by hand, one and then another
            page.evaluate(f"document.querySelectorAll('details.class audio')[{place}].play()")
            expect(one.locator("button.play")).to_have_text("Play all")
            sounding = "[...document.querySelectorAll('audio')].flatMap((one, n) => one.paused ? [] : [n])"
            assert page.evaluate(sounding) == [place]


def test_the_sequence_ends_after_the_last(browser: Browser, tmp_path: Path, made: list[Path]) -> None:
    recordings: list[Listed] = [copied(tmp_path, f"{n}.wav", made[1:2], n) for n in range(2)]
    with opened(browser, write_index(tmp_path, recordings)) as page:
        button = page.locator("button.play")
        button.click()
        expect(button).to_have_text("Stop")
        expect(button).to_have_text("Play all", timeout=15000)
        expect(page.locator("li[aria-current]")).to_have_count(0)
        ended = page.evaluate("[...document.querySelectorAll('audio')].map(one => one.ended)")
        assert ended == [True, True]
