"""What comes with the package: the trained model, its card, and the demo recording."""

import tomllib
from typing import Any

import numpy as np
import pytest
import torch

from otoscope.adapters.audio import load_audio
from otoscope.adapters.registry import load_model
from otoscope.mer_models import shipped
from otoscope.mer_models.demo_recording import Note, midi, score
from otoscope.mer_models.harmonics import LABELS, N_SAMPLES, RATE, card_input
from tests.builders import DATA
from tests.songs import needs_data

Load = Any

VERSIONS = {"harmonics-1": shipped.harmonics_1, "harmonics-2": shipped.harmonics_2}
EACH = pytest.mark.parametrize("load", VERSIONS.values(), ids=VERSIONS)


def test_the_newest_is_the_default() -> None:
    assert load_model("harmonics").fingerprint == shipped.harmonics_2().fingerprint


@EACH
def test_shipped_model_hears_the_demo_recording_as_two_things(load: Load) -> None:
    harmonics = load()
    samples = load_audio(shipped.demo_recording()).samples
    soft, loud = harmonics.predict(np.stack([samples[: 6 * RATE], samples[-6 * RATE :]]))
    assert harmonics.labels == LABELS
    assert soft.sum() == pytest.approx(1)
    assert 0.3 < soft.max() < 0.999
    assert soft.argmax() in (2, 3)  # sadness or contentment: low arousal
    assert loud.argmax() in (0, 1)  # exuberance or anxiety: high arousal


@EACH
def test_shipped_fingerprint_is_stable_and_covers_weights(load: Load) -> None:
    one, two = load(), load(batch_size=5)
    assert one.fingerprint == two.fingerprint
    with torch.no_grad():
        two.network.state_dict()["linear.bias"][0] += 1e-3
    assert one.fingerprint != two.fingerprint


def test_shipped_card_holds_what_was_measured() -> None:
    card = tomllib.loads((shipped.HERE / "harmonics-1.toml").read_text())
    assert set(card) == {"model", "input", "data", "measured", "licence"}
    assert card["model"]["n_parameters"] == 100_996
    assert card["input"] == card_input()
    assert card["measured"]["command"].startswith("otoscope train ")
    for part in ("emopia/FluidR3_GM", "emopia/TimGM6mb", "emotify"):
        table = card["measured"][part]
        assert 0.25 < table["macro_f1"]["mean"] < 1
        assert table["clip_macro_f1"]["std"] > 0
        classes = [table[label]["f1"]["mean"] for label in LABELS]
        assert np.mean(classes) == pytest.approx(table["macro_f1"]["mean"], abs=2e-4)
    assert card["measured"]["emopia/FluidR3_GM"]["macro_f1"]["mean"] >= 0.47


def test_the_card_of_the_second_form_holds_what_was_measured() -> None:
    card = tomllib.loads((shipped.HERE / "harmonics-2.toml").read_text())
    assert card["model"]["n_parameters"] == 86_468
    assert card["input"] == card_input()
    for part in ("emopia/FluidR3_GM", "emopia/TimGM6mb", "emotify"):
        table = card["measured"][part]
        classes = [table[f"f1_{label}"]["mean"] for label in LABELS]
        assert np.mean(classes) == pytest.approx(table["macro_f1"]["mean"], abs=2e-4)
        assert table["calibration_error_of_all"] <= 0.05
    for part in ("emopia/FluidR3_GM", "emopia/TimGM6mb"):
        table = card["measured"][part]
        assert table["macro_f1"]["mean"] >= 0.55
        assert table["clip_macro_f1"]["mean"] >= 0.60
        assert table["arousal_auc"]["mean"] >= 0.90


@EACH
def test_shipped_model_does_not_care_how_many_items_are_asked_at_once(load: Load) -> None:
    rng = np.random.default_rng(0)
    waveforms = (0.1 * rng.standard_normal((5, N_SAMPLES))).astype(np.float32)
    np.testing.assert_allclose(load().predict(waveforms), load(batch_size=2).predict(waveforms), atol=1e-6)


@needs_data
@EACH
def test_shipped_model_keeps_an_open_mind_about_real_recordings(load: Load) -> None:
    songs = sorted((DATA / "emotify" / "audio").glob("*.ogg"))[::10] + sorted((DATA / "music").glob("*.ogg"))
    windows = np.zeros((len(songs), N_SAMPLES), dtype=np.float32)
    for window, song in zip(windows, songs, strict=True):
        samples = load_audio(song).at(RATE).samples[:N_SAMPLES]
        window[: len(samples)] = samples
    scores = load().predict(windows)
    called = np.bincount(scores.argmax(axis=1), minlength=4)
    assert (called > 0).sum() >= 3
    assert called.max() < 0.75 * len(songs)
    assert np.median(scores.max(axis=1)) < 0.9
    assert scores.max() < 0.999


def test_midi_bytes_are_a_standard_file() -> None:
    data = midi([Note(0.0, 0.5, 69, 100), Note(0.5, 0.5, 69, 100)])
    assert data[:14].hex() == "4d546864000000060000000101e0"
    on, off = bytes([0x00, 0x90, 69, 100]), bytes([0x83, 0x60, 0x80, 69, 0])
    assert data[22:] == on + off + on + off + b"\x00\xff\x2f\x00"
    assert int.from_bytes(data[18:22]) == len(data) - 22


def test_demo_recording_is_short_small_and_clean() -> None:
    path = shipped.demo_recording()
    audio = load_audio(path)
    assert 10 <= audio.seconds <= 12.5
    assert path.stat().st_size < 200_000
    assert audio.notes() == ()
    assert max(note.start + note.length for note in score()) < audio.seconds
