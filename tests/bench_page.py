"""What the page of a recording costs: ``python -m tests.bench_page`` (needs Chromium and real recordings).

*Codecs*: size of ten seconds, and what the browser makes of them, against the sound that went in: how far it is
shifted, and the error below the music (dB). *Pages*: size with three methods over 15 s, for parts that adjoin and parts
that overlap; how long the page takes to open and to mix anew after one part is switched.
"""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from playwright.sync_api import Browser, sync_playwright
from scipy.signal import correlate

from otoscope.adapters.audio import Audio, load_audio
from otoscope.adapters.registry import load_model
from otoscope.explainers.embedding import mp3
from otoscope.explainers.explain import explain
from otoscope.explainers.methods import Settings
from otoscope.explainers.page import encoded
from otoscope.explainers.report import write_report
from otoscope.explainers.store import save
from tests.browser import QUIET, until
from tests.builders import DATA

CODECS = (("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"))
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
DECODE = """async ([data, rate]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const context = new OfflineAudioContext(1, 1, rate);
  return Array.from((await context.decodeAudioData(bytes.buffer)).getChannelData(0));
}"""
SWITCH = "(() => { const t = performance.now(); otoscope.toggle(0); return performance.now() - t; })()"
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("superpixels", {}),
    ("superpixels, off: noise", {"off": "noise"}),
    ("hpss", {"parts": "hpss"}),
    ("nmf", {"parts": "nmf"}),
)


def codecs(browser: Browser) -> None:
    """Compare what a browser decodes with what went in."""
    page = browser.new_page()
    print("| recording | codec | kB | shift, samples | error, dB below the music |\n|---|---|---|---|---|")
    for path in sorted((DATA / "music").glob("*.ogg")):
        audio = load_audio(path).at(16000).cut(0.0, 10.0)
        for kind, subtype in CODECS:
            rate = audio.rate if subtype != "OPUS" or audio.rate in OPUS_RATES else 24000
            buffer = io.BytesIO()
            soundfile.write(buffer, audio.at(rate).samples, rate, format=kind, subtype=subtype)
            text = base64.b64encode(buffer.getvalue()).decode()
            heard, shift = aligned(np.array(page.evaluate(DECODE, [text, audio.rate])), audio.samples)
            inner = slice(2000, len(heard) - 2000)
            error = np.square(heard - audio.samples[: len(heard)])[inner].sum()
            below = 10 * np.log10(error / np.square(audio.samples[: len(heard)])[inner].sum())
            print(f"| {path.stem} | {subtype} | {len(buffer.getvalue()) / 1e3:.0f} | {shift} | {below:.1f} |")
    page.close()


def aligned(heard: Any, samples: Any) -> tuple[Any, int]:
    """Shift what was heard onto what went in."""
    n = min(len(heard), len(samples))
    shift = int(correlate(heard[:n], samples[:n], method="fft").argmax()) - (n - 1)
    return np.roll(heard[:n], -shift), shift


def pages(browser: Browser) -> None:
    """Measure pages of three methods over 15 s."""
    model = load_model("harmonics")
    audio = load_audio(DATA / "music" / "brahms.ogg")
    heads = ("parts", "page, MB", "opens in, ms", "mixes anew in, ms", "LIME's parts as sounds, MB: FLAC, MP3")
    print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name, chosen in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            for method, calls in (("lime", 1024), ("ablation", None), ("kernelshap", 1024)):
                own = {**chosen, "gates": "quick", **({} if calls is None else {"calls": calls})}
                explanation = explain(model, audio, method=method, start=2.0, duration=15.0, settings=Settings(**own))
                save(explanation, Path(folder) / method)
                if method == "lime":
                    sounds = [Audio(sound, model.rate, "") for sound in explanation.parts.sounds]
                    flac, lossy = (sum(len(one) for one in map(how, sounds)) / 1e6 for how in (as_flac, mp3))
            report = write_report(folder)
            opened, mixed = timed(browser, report)
            size = report.stat().st_size / 1e6
            print(f"| {name} | {size:.1f} | {opened:.0f} | {mixed:.0f} | {len(sounds)}: {flac:.1f}, {lossy:.1f} |")


def as_flac(audio: Audio) -> str:
    """Encode a sound as the page does."""
    return str(encoded(audio)["data"])


def timed(browser: Browser, report: Path) -> tuple[float, float]:
    """Open a page, and switch a part of it."""
    page = browser.new_page()
    page.goto(report.resolve().as_uri())
    until(page, "document.body.dataset.ready === 'yes'", 60)
    opened = page.evaluate("performance.now()")
    mixed = page.evaluate(
        "(() => { const t = performance.now(); otoscope.toggle(0); return performance.now() - t; })()"
    )
    page.close()
    return float(opened), float(mixed)


def main() -> None:
    """Run both."""
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        codecs(browser)
        pages(browser)
        browser.close()


if __name__ == "__main__":
    main()
