"""Explanations survive the way to disk and back, and a killed run leaves no half result."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from otoscope.adapters.audio import Audio, load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.wrap import wrap
from otoscope.explainers import store
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.methods import Settings

RATE = 8000


def loud_early(waveforms: np.ndarray) -> np.ndarray:
    energy = (waveforms[:, :RATE] ** 2).mean(axis=1) * 20
    return np.stack([energy / (1 + energy), 1 / (1 + energy)], axis=1)


def make(method: str = "lime", settings: Settings | None = None) -> Explanation:
    noise = np.random.default_rng(3).standard_normal(2 * RATE).astype(np.float32) * 0.3
    model = wrap(loud_early, rate=RATE, labels=["early", "late"])
    settings = settings or Settings(n_parts=9, calls=256, parts="grid")
    return explain(model, Audio(noise, RATE, "noise.wav"), method=method, settings=settings, name="loud")


CASES = {
    "lime": ("lime", None),
    "occlusion": ("occlusion", Settings()),
    "soft": ("lime", Settings(parts="hpss", calls=16, off="noise")),
}


@pytest.mark.parametrize("case", CASES)
def test_saving_what_was_loaded_gives_the_same_bytes(case: str, tmp_path: Path) -> None:
    first = store.save(make(*CASES[case]), tmp_path / "a")
    second = store.save(store.load_explanation(first), tmp_path / "b")
    names = sorted(path.name for path in first.iterdir())
    expected = {
        "explanation.json",
        "arrays.npz",
        "original.wav",
        "evidence.wav",
        "complement.wav",
        "map.png",
        "calls.npz",
    }
    assert set(names) == expected
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_the_same_seed_gives_the_same_bytes_but_for_the_time_it_took(tmp_path: Path) -> None:
    first, second = (store.save(make(), tmp_path / name) for name in "ab")
    for name in ("original.wav", "evidence.wav", "complement.wav", "arrays.npz", "calls.npz"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    documents = [json.loads((folder / "explanation.json").read_text()) for folder in (first, second)]
    for document in documents:
        del document["seconds"], document["memory"]
    assert documents[0] == documents[1]


def test_evidence_and_everything_else_add_up_to_the_original(tmp_path: Path) -> None:
    folder = store.save(make(), tmp_path / "a")
    sounds = {name: load_audio(folder / f"{name}.wav").samples for name in ("original", "evidence", "complement")}
    assert np.abs(sounds["evidence"]).max() > 0.01
    np.testing.assert_allclose(sounds["evidence"] + sounds["complement"], sounds["original"], atol=1e-5)


def test_equal_loudness_brings_both_to_the_level_of_the_original_and_is_undone_on_loading(tmp_path: Path) -> None:
    explanation = make()
    folder = store.save(explanation, tmp_path / "a", equal_loudness=True)
    levels = [
        np.sqrt(np.mean(load_audio(folder / f"{n}.wav").samples ** 2)) for n in ("original", "evidence", "complement")
    ]
    np.testing.assert_allclose(levels, levels[0], rtol=1e-4)
    loaded = store.load_explanation(folder)
    np.testing.assert_allclose(loaded.evidence.samples, explanation.evidence.samples, atol=1e-6)


def test_the_document_holds_the_contract(tmp_path: Path) -> None:
    document = json.loads((store.save(make(), tmp_path / "a") / "explanation.json").read_text())
    assert document["schema"] == "otoscope/explanation/1"
    for key in ("method", "model", "target", "span", "parts", "weights", "round_trip", "gap", "fidelity", "n_calls"):
        assert key in document
    for key in ("seconds", "seed", "settings", "route", "versions", "audio", "notes", "scale", "units"):
        assert key in document
    assert document["model"]["fingerprint"].startswith("probe:")
    assert document["settings"]["calls"] == 256
    assert document["settings"]["target"] == "top"
    assert set(document["round_trip"]) == {"original", "evidence", "complement", "off"}
    assert {"torch", "numpy", "otoscope", "python"} <= set(document["versions"])


def test_other_targets_can_be_refitted_from_the_stored_calls(tmp_path: Path) -> None:
    explanation = make()
    with np.load(store.save(explanation, tmp_path / "a") / "calls.npz") as calls:
        assert calls["masks"].shape == (256, explanation.parts.k)
        assert calls["scores"].shape == (256, 2)
        np.testing.assert_array_equal(calls["scores"], explanation.scores)


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("otoscope.explainers.figure.draw", fail)
    with pytest.raises(KeyboardInterrupt):
        store.save(make(), tmp_path / "a" / "b")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_failure_while_replacing_keeps_the_old_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.save(make(), tmp_path / "a")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr("otoscope.explainers.figure.draw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.save(make(settings=Settings(n_parts=4, calls=16, parts="grid")), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_with_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OtoscopeError, match="holds something else"):
        store.save(make(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_loading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match=r"explanation\.json"):
        store.load_explanation(tmp_path)
    folder = store.save(make(), tmp_path / "a")
    document = json.loads((folder / "explanation.json").read_text())
    (folder / "explanation.json").write_text(json.dumps({**document, "schema": "otoscope/explanation/9"}))
    with pytest.raises(OtoscopeError, match="schema 'otoscope/explanation/9'"):
        store.load_explanation(folder)
    (folder / "explanation.json").write_text(json.dumps(document))
    (folder / "arrays.npz").write_bytes(b"PK damaged")
    with pytest.raises(OtoscopeError, match="damaged"):
        store.load_explanation(folder)


def test_result_folders_take_any_label_and_keep_two_labels_two() -> None:
    explanation = make()
    paths = set()
    for label in ("a/b", "a_b", "../../etc", "a b", "", "<img>", "ä", "." * 300):
        target = dataclasses.replace(explanation.target, name=label)
        path = store.result_folder(dataclasses.replace(explanation, target=target), "über/../x y.wav")
        assert len(path.parts) == 3
        assert ".." not in path.parts
        assert all(len(part) < 120 and part.isascii() for part in path.parts)
        paths.add(path)
    assert len(paths) == 8
    assert path.parts[0].endswith(explanation.audio_sha256[:8])
