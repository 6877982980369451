"""The report is one safe page that holds everything."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.wrap import wrap
from otoscope.explainers.explain import explain
from otoscope.explainers.methods import Settings
from otoscope.explainers.report import find_results, sentence, write_report
from otoscope.explainers.store import result_folder, save, to_document

RATE = 16000
EVIL = '<img src=x onerror="alert(1)">&{{7*7}}'


def by_level(waveforms: np.ndarray) -> np.ndarray:
    level = np.minimum(1, 2 * np.abs(waveforms).mean(axis=1))
    return np.stack([level, 1 - level], axis=1)


def make_report(folder: Path, *, label: str = "loud", name: str = "tone.wav", rate: int = RATE) -> str:
    time = np.arange(2 * rate) / rate
    audio = Audio((0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), rate, name)
    model = wrap(by_level, rate=rate, labels=[label, "quiet"], output="softmax")
    for method, settings in (("lime", Settings(parts="grid", n_parts=4, calls=16)), ("occlusion", Settings())):
        explanation = explain(model, audio, method=method, target=label, settings=settings, name=label)
        save(explanation, folder / result_folder(explanation, name))
    return write_report(folder).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Collects tags and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]


def read(page: str) -> Page:
    parser = Page()
    parser.feed(page)
    return parser


def test_the_page_holds_pictures_and_sounds_and_asks_for_nothing(tmp_path: Path) -> None:
    page = read(make_report(tmp_path))
    assert page.tags.count("img") == 2
    assert page.tags.count("audio") == 5  # the recording once, evidence and everything else per method
    assert "script" not in page.tags
    assert all(address.startswith(("data:image/png;base64,", "data:audio/mpeg;base64,")) for address in page.addresses)


def test_the_policy_forbids_scripts_and_requests(tmp_path: Path) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', make_report(tmp_path))
    assert policy is not None
    assert "default-src 'none'" in policy.group(1)
    assert "script-src" not in policy.group(1)


def test_labels_and_names_stay_text(tmp_path: Path) -> None:
    text = make_report(tmp_path, label=EVIL, name=f"{EVIL.replace('/', '')}.wav")
    page = read(text)
    assert page.tags.count("img") == 2
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert "{{7*7}}" in text


def test_the_sound_in_the_page_is_the_recording(tmp_path: Path) -> None:
    for rate in (16000, 10000):  # the second is none that MP3 knows
        page = read(make_report(tmp_path / str(rate), rate=rate))
        encoded = next(a for a in page.addresses if a.startswith("data:audio")).split(",", 1)[1]
        samples, heard_rate = soundfile.read(io.BytesIO(base64.b64decode(encoded)))
        spectrum = np.abs(np.fft.rfft(samples))
        peak = np.fft.rfftfreq(len(samples), 1 / heard_rate)[spectrum.argmax()]
        assert abs(peak - 440) < 2
        assert abs(np.abs(samples).max() - 0.5) < 0.05


def test_the_index_lists_every_result(tmp_path: Path) -> None:
    make_report(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    assert {entry["method"] for entry in index["results"]} == {"lime", "occlusion"}
    assert {tmp_path / entry["folder"] for entry in index["results"]} == set(find_results(tmp_path))
    assert all(set(entry["round_trip"]) == {"original", "evidence", "complement", "off"} for entry in index["results"])


def test_the_sentence_tells_the_numbers(tmp_path: Path) -> None:
    make_report(tmp_path)
    document = json.loads((find_results(tmp_path)[0] / "explanation.json").read_text())
    told = sentence(document)
    for name in ("original", "evidence", "complement", "off"):
        assert f"{document['round_trip'][name]['score']:.3f}" in told


def test_an_explanation_without_evidence_says_so() -> None:
    model = wrap(by_level, rate=RATE, labels=["loud", "quiet"], output="softmax")
    silence = Audio(np.zeros(RATE, dtype=np.float32), RATE, "silence.wav")
    explanation = explain(model, silence, method="lime", target="loud", settings=Settings(calls=16))
    assert "no part clearly speaks for it" in sentence(to_document(explanation))
    assert any("the span is digital silence; choose another by --start" in note for note in explanation.notes)
    noise = Audio(np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32), RATE, "noise.wav")
    against = explain(model, noise, method="lime", target="quiet", settings=Settings(calls=16, parts="grid", n_parts=4))
    assert any("evidence is empty" in note for note in against.notes)


def test_results_saved_anywhere_below_are_found_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match="holds no explanations"):
        write_report(tmp_path)
    model = wrap(by_level, rate=RATE, labels=["loud", "quiet"], output="softmax")
    noise = Audio(np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32), RATE, "noise.wav")
    explain(model, noise, settings=Settings(parts="grid", n_parts=4, calls=16)).save(tmp_path / "one")
    assert "noise.wav" in write_report(tmp_path).read_text(encoding="utf-8")
