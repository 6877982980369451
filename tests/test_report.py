"""The report is one safe page that holds everything."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shlex
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from otoscope.adapters.audio import Audio, write_wav
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.wrap import wrap
from otoscope.cli import main
from otoscope.console import print_result
from otoscope.explainers.document import to_document
from otoscope.explainers.explain import explain
from otoscope.explainers.methods import Settings
from otoscope.explainers.page import encoded
from otoscope.explainers.report import find_results, summary, write_report
from otoscope.explainers.store import result_folder, save
from otoscope.explainers.story import command, sentence, story, with_notes

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


def test_the_page_holds_all_it_needs_and_asks_for_nothing(tmp_path: Path) -> None:
    page = read(make_report(tmp_path))
    assert page.tags.count("script") == 2  # the data, and what plays with it
    assert page.tags.count("article") == 2
    assert page.addresses == []


def test_the_policy_lets_one_script_run_and_nothing_be_fetched(tmp_path: Path) -> None:
    text = make_report(tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy.group(1)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy.group(1)


def test_labels_and_names_stay_text(tmp_path: Path) -> None:
    text = make_report(tmp_path, label=EVIL, name=f"{EVIL.replace('/', '')}.wav")
    page = read(text)
    assert "img" not in page.tags
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert "{{7*7}}" in text


def test_the_sound_in_the_page_is_the_recording(tmp_path: Path) -> None:
    for rate in (16000, 10000):
        text = make_report(tmp_path / str(rate), rate=rate)
        data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))  # type: ignore[union-attr]
        (sound,) = data["sounds"]  # once, for both methods
        samples, heard_rate = soundfile.read(io.BytesIO(base64.b64decode(sound["data"])))
        assert (heard_rate, len(samples)) == (rate, sound["n_samples"])
        expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
        np.testing.assert_allclose(samples * sound["gain"], expected, atol=1e-4)


def test_sounds_of_any_level_are_rounded_finely_enough() -> None:
    for peak in (1e-4, 0.3, 4.0):
        samples = (peak * np.random.default_rng(0).uniform(-1, 1, RATE)).astype(np.float32)
        sound = encoded(Audio(samples, RATE, "noise"))
        heard, _ = soundfile.read(io.BytesIO(base64.b64decode(sound["data"])))
        assert np.abs(heard * sound["gain"] - samples).max() < 2e-4 * peak


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


def test_the_story_says_what_was_heard_what_carried_it_and_how_far_to_trust_it(tmp_path: Path) -> None:
    text = make_report(tmp_path)
    document = json.loads((find_results(tmp_path)[0] / "explanation.json").read_text())
    said, carried, trusted = story(document)
    assert said == (
        f"loud hears {document['round_trip']['original']['top']} first of all in seconds 0.00 to 2.00 of tone.wav, "
        f"with a score of {document['round_trip']['original']['score']:.3f}."
    ) or said.startswith("loud was asked about loud")
    assert carried == sentence(document)
    assert document["verdict"]["reasons"][0] in trusted
    assert escape(carried) in text
    remedies = document["verdict"]["remedies"]
    assert trusted.endswith(f" What may help: {', or '.join(remedies)}.")
    earlier = {**document, "verdict": {key: document["verdict"][key] for key in ("word", "reasons")}}
    assert "What may help" not in story(earlier)[2]
    unchecked = {**document, "verdict": None}
    assert "--gates quick" in story(unchecked)[2]
    contrast = {**document, "target": {**document["target"], "name": "a-b", "against": 1}}
    assert "sets a-b apart" in story(contrast)[0]


def test_the_command_makes_the_explanation_again(tmp_path: Path) -> None:
    audio = tmp_path / "my song.wav"
    write_wav(audio, np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 22050).astype(np.float32), 22050)
    first = CliRunner().invoke(
        main,
        f"explain {shlex.quote(str(audio))} --out {shlex.quote(str(tmp_path / 'one'))} "
        "--parts grid --n-parts 6 --calls 32 --off mean --duration 1.5 --seed 3",
    )
    assert first.exit_code == 0, first.output
    document = json.loads((find_results(tmp_path / "one")[0] / "explanation.json").read_text())
    words = shlex.split(command(document))
    assert words[:3] == ["otoscope", "explain", "my song.wav"]
    words = [str(audio) if word == "my song.wav" else word for word in words]
    words[words.index("--out") + 1] = str(tmp_path / "two")
    again = CliRunner().invoke(main, words[1:])
    assert again.exit_code == 0, again.output
    other = json.loads((find_results(tmp_path / "two")[0] / "explanation.json").read_text())
    assert other["weights"] == document["weights"]
    assert other["round_trip"] == document["round_trip"]


def test_what_did_not_pass_stands_on_the_page_and_in_the_terminal_with_its_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = make_report(tmp_path)
    document = next(
        document
        for folder in find_results(tmp_path)
        if (document := json.loads((folder / "explanation.json").read_text()))["method"] == "lime"
    )
    verdict = document["verdict"]
    assert verdict["word"] != "trust"
    for remedy in verdict["remedies"]:
        assert f"; what may help: {remedy}</li>" in text
    print_result(summary(document))
    lines = capsys.readouterr().out.splitlines()
    assert f"  verdict     {verdict['word']}: {verdict['reasons'][0]}" in lines
    assert f"  may help    {', or '.join(verdict['remedies'])}" in lines
    print_result(summary({**document, "verdict": {"word": "caution", "reasons": ["why"]}}))
    assert "may help" not in capsys.readouterr().out


def test_a_range_of_frequencies_is_told_in_notes_too(tmp_path: Path) -> None:
    assert with_notes("part 12: 1.2-1.6 s, 400-800 Hz") == "part 12: 1.2-1.6 s, 400-800 Hz (G4 to G5)"
    assert with_notes("cell 1: 0.0-2.0 s, 0.44-1.05 kHz") == "cell 1: 0.0-2.0 s, 0.44-1.05 kHz (A4 to C6)"
    assert with_notes("part 2: 0.0-2.0 s, 0-262 Hz") == "part 2: 0.0-2.0 s, 0-262 Hz (up to C4)"
    for plain in ("harmonic", "C#", "event 3: 0.10-0.25 s", "mostly A4 (440 Hz)", "part 1: 0.0-1.0 s, 0-12 Hz"):
        assert with_notes(plain) == plain
    make_report(tmp_path)
    told = [sentence(json.loads((folder / "explanation.json").read_text())) for folder in find_results(tmp_path)]
    assert any(re.search(r"The strongest is cell \d.* Hz \((up to )?[A-G]", one) for one in told)
