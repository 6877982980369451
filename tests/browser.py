"""A real browser for the tests of pages: headless Chromium from the system, driven by playwright.

`opened` opens a file and refuses what a page must never do: an error on the console, or a request for anything but the
file itself. Where there is no Chromium the tests that need one are skipped, with the reason.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the browser, once for all tests of a file."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium to open pages in; install the package chromium")
    with sync_playwright() as player:
        found = player.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield found
        found.close()


@contextmanager
def opened(browser: Browser, path: Path, *, before: str = "", **context: Any) -> Iterator[Page]:
    """Open a file by double-click; when done, check that nothing went wrong and nothing was fetched.

    `before` is a script that runs before those of the page. `context` goes to playwright: ``viewport``,
    ``color_scheme``, ``accept_downloads`` …
    """
    faults: list[str] = []
    requests: list[str] = []
    surroundings = browser.new_context(**context)
    page = surroundings.new_page()
    page.add_init_script(before)
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    try:
        page.goto(path.resolve().as_uri())
        yield page
        assert faults == []
        fetched = [url for url in requests if not url.startswith(("data:", "blob:", path.resolve().as_uri()))]
        assert fetched == []
    finally:
        surroundings.close()


def until(page: Page, condition: str, seconds: float = 20.0) -> None:
    """Wait for a condition in JavaScript; playwright's own way needs ``eval``, which pages with a policy forbid."""
    ends = time.monotonic() + seconds
    while not page.evaluate(condition):
        if time.monotonic() > ends:
            pytest.fail(f"waited {seconds:g} s for {condition}")
        page.wait_for_timeout(20)


LARGE_ENOUGH = """(least) => {
    const size = (node) => {
        const box = node.getBoundingClientRect();
        return [box.width, box.height];
    };
    const inText = (node) => node.tagName === "A" && node.parentElement.textContent.trim() !== node.textContent.trim();
    return [...document.querySelectorAll("a, button, input, select, summary, audio, [tabindex='0']")]
        .filter((node) => node.checkVisibility() && !inText(node) && Math.min(...size(node)) < least)
        .map((node) => `${node.outerHTML.slice(0, 120)}: ${size(node).map(Math.round)}`);
}"""


def small_targets(page: Page, least: float = 24.0) -> list[str]:
    """Name the controls that are smaller than a finger needs (WCAG 2.2, 2.5.8); links within a text are exempt."""
    return page.evaluate(LARGE_ENOUGH, least)  # type: ignore[no-any-return]


def serious_faults(page: Page) -> list[str]:
    """Name what axe-core finds serious or critical about a page, for people who do not see or use no mouse."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
    ]
