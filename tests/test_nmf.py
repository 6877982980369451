"""NMF: what sounds alike at several times is one part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from otoscope.adapters.audio import Audio
from otoscope.adapters.spectra import Stft
from otoscope.explainers.explain import explain
from otoscope.explainers.makers import cut, undivided
from otoscope.explainers.methods import Settings
from otoscope.explainers.nmf import FLOOR, factorised
from otoscope.explainers.parts import Parts
from tests.builders import Floats, Function, music, noise, sigmoid, tone

RATE = 22050
STFT = Stft(2048, 512)


def chord(frequency: float, *spans: tuple[float, float]) -> Any:
    """Play a note of four partials within spans of four seconds."""
    return sum(
        tone(h * frequency, seconds=4.0, rate=RATE, start=a, stop=b, level=0.2 / h)
        for a, b in spans
        for h in (1, 2, 3, 4)
    )


LOW, HIGH = chord(220.0, (0.5, 1.5), (2.5, 3.0)), chord(739.99, (1.0, 2.0), (3.2, 3.8))
SCENE = np.asarray(LOW + HIGH, dtype=np.float32)


def taken_apart(samples: Any, n_parts: int = 64, **settings: Any) -> Parts:
    return cut(undivided(Audio(samples, RATE), STFT, **settings), "nmf", n_parts)


def divergence(magnitude: Floats, model: Floats) -> float:
    """Generalised Kullback-Leibler divergence, equation (4) of Févotte & Idier, 2011, with β = 1."""
    return float(np.sum(magnitude * np.log(magnitude / model) - magnitude + model))


def plain_step(magnitude: Floats, spectra: Floats, activations: Floats) -> tuple[Floats, Floats]:
    """Multiplicative updates of Lee & Seung for this divergence, W first, cell by cell."""
    ratio = magnitude / (spectra @ activations)
    new = np.empty_like(spectra)
    for b in range(len(spectra)):
        for j in range(len(activations)):
            new[b, j] = spectra[b, j] * sum(ratio[b] * activations[j]) / activations[j].sum()
    ratio = magnitude / (new @ activations)
    after = np.empty_like(activations)
    for j in range(len(activations)):
        for t in range(activations.shape[1]):
            after[j, t] = activations[j, t] * sum(ratio[:, t] * new[:, j]) / new[:, j].sum()
    return new, after


def test_each_step_is_that_of_lee_and_seung() -> None:
    magnitude = np.random.default_rng(0).gamma(1.0, size=(12, 9))
    scaled = np.maximum(magnitude / magnitude.max(), FLOOR)
    before, after = (factorised(magnitude.astype(np.float64), 3, n_steps=n) for n in (20, 21))
    for got, expected in zip(after, plain_step(scaled, *before), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)
    steps = [divergence(scaled, np.matmul(*factorised(magnitude, 3, n_steps=n))) for n in (1, 5, 20, 100)]
    assert (np.diff(steps) < 0).all()


def test_what_is_a_sum_of_two_is_found() -> None:
    """Separable: each has a bin and a frame of its own, so the factors are unique."""
    rng = np.random.default_rng(1)
    spectra, activations = rng.uniform(0.2, 1, (30, 2)), rng.uniform(0.2, 1, (2, 40))
    spectra[:4, 0] = spectra[4:8, 1] = activations[0, :5] = activations[1, 5:10] = 0
    found = np.matmul(*factorised((spectra @ activations).astype(np.float32), 2, n_steps=500))
    truth = spectra @ activations
    inside = truth > 0
    assert np.abs(found - truth / truth.max())[inside].max() < 0.01


def test_two_notes_that_come_again_are_two_components_with_their_names_and_times() -> None:
    parts = taken_apart(SCENE, 2)
    assert parts.names[0].startswith("component 1: mostly A3 (220 Hz), 0.5-")
    assert parts.names[1].startswith("component 2: mostly F#5 (740 Hz), 1.")
    for sound, note in zip(parts.sounds, (LOW, HIGH), strict=True):
        assert np.corrcoef(sound, note)[0, 1] > 0.99
    later = taken_apart(SCENE, 2, start=20.0)
    assert later.names[1].endswith(" s")
    assert "21." in later.names[1]


def test_a_hiss_is_named_by_its_centre() -> None:
    parts = taken_apart(noise(seconds=1.0, rate=RATE), 2)
    assert all("around" in name for name in parts.names)
    centres = [float(name.split("around ")[1].split(" Hz")[0]) for name in parts.names]
    assert centres == sorted(centres)
    assert 2000 < centres[0] < 9000


@pytest.mark.parametrize(("n_parts", "k"), [(1, 1), (2, 2), (5, 5), (8, 8), (64, 8)])
def test_shares_add_up_and_components_are_no_more_than_asked_for(n_parts: int, k: int) -> None:
    parts = taken_apart(music(seconds=1.5, rate=RATE), n_parts)
    assert parts.k == k
    if k > 1:
        assert parts.shares is not None
        np.testing.assert_allclose(parts.shares.sum(axis=0), 1, atol=1e-6)
        assert parts.shares.min() >= 0
        assert "remainder" not in parts.names


def test_the_same_recording_has_the_same_components_whatever_the_seed() -> None:
    first, second = (taken_apart(SCENE, seed=seed) for seed in (0, 7))
    assert first.names == second.names
    np.testing.assert_array_equal(first.shares, second.shares)
    louder = taken_apart(3 * SCENE)
    np.testing.assert_allclose(louder.shares, first.shares, atol=1e-3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "samples", [np.zeros(RATE, np.float32), tone(440.0, rate=RATE), noise(seconds=0.06, rate=RATE)]
)
def test_silence_one_tone_and_very_short_sounds_are_taken(samples: Any) -> None:
    parts = taken_apart(samples)
    np.testing.assert_allclose(parts.compose(np.ones((1, parts.k)))[0], samples, atol=1e-5)
    assert parts.k == (1 if not samples.any() else min(8, parts.labels.shape[1]))


def test_a_model_that_hears_one_of_two_notes_finds_its_component() -> None:
    frequencies = np.fft.rfftfreq(len(SCENE), 1 / RATE)
    inside = np.abs(frequencies - 739.99) < 5

    def hears(waveforms: Any) -> Any:
        power = (np.abs(np.fft.rfft(waveforms, axis=1)[:, inside]) ** 2).sum(axis=1, keepdims=True)
        return sigmoid(power / len(SCENE) / 200)

    settings = Settings(parts="nmf", n_parts=2, calls=16)
    got = explain(Function(hears, rate=RATE), Audio(SCENE, RATE), settings=settings)
    assert "F#5" in got.names[got.strongest(1)[0]]
    assert got.weights.max() > 0.95 * np.abs(got.weights).sum()
