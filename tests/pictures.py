"""The README's pictures of the demo's report, as a browser shows it: ``make picture`` (needs Chromium).

On a laptop, on a laptop in the dark with an eye on single parts, and on a phone.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser import QUIET, until

LAPTOP, PHONE = {"width": 1200, "height": 1090}, {"width": 390, "height": 1090}


def take(page: Page, report: Path, path: Path) -> None:
    """Open the report, point at the strongest part, and take the picture."""
    page.goto(report.resolve().as_uri())
    until(page, "document.body.dataset.ready === 'yes'")
    page.locator("[data-play=evidence]").click()
    page.locator("#parts [role=row]").first.hover()
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(300)
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(256, kmeans=1).save(path, optimize=True)


def main(report: Path, folder: Path) -> None:
    """Take all pictures."""
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        for name, size, scheme in (("report", LAPTOP, "light"), ("dark", LAPTOP, "dark"), ("phone", PHONE, "light")):
            page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
            take(page, report, folder / ("report.png" if name == "report" else f"report-{name}.png"))
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
