"""Events: parts from onset to onset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from otoscope.adapters.audio import Audio
from otoscope.adapters.spectra import Stft
from otoscope.explainers.events import begins, onsets
from otoscope.explainers.explain import explain
from otoscope.explainers.makers import cut, undivided
from otoscope.explainers.methods import Settings
from otoscope.explainers.parts import Parts
from tests.builders import Function, noise, sigmoid, tone

RATE = 22050
TIMES = (0.5, 0.9, 1.7, 2.0, 3.2)
STFTS = (Stft(), Stft(1024, 256), Stft(4096, 1024))


def clicks(times: Any = TIMES, *, levels: Any = None, floor: float = 0.0, seconds: float = 4.0) -> Any:
    """Make bursts of noise of 5 ms at known times."""
    samples = noise(seconds=seconds, rate=RATE, level=floor, seed=1)
    for time, level in zip(times, levels or [0.3] * len(times), strict=True):
        first = round(time * RATE)
        samples[first : first + 110] += level * noise(seconds=110 / RATE, rate=RATE, level=1.0, seed=first)
    return samples


def taken_apart(samples: Any, n_parts: int = 64, stft: Stft = STFTS[0], start: float = 0.0) -> Parts:
    return cut(undivided(Audio(samples, RATE), stft, start=start), "events", n_parts)


def told(parts: Parts) -> Any:
    """Read the times out of the names, (k, 2)."""
    return np.array([name.split(": ")[1].removesuffix(" s").split("-") for name in parts.names], dtype=float)


@pytest.mark.parametrize("stft", STFTS)
@pytest.mark.parametrize("floor", [0.0, 0.003])
def test_clicks_are_parts_each_with_its_whole_attack(floor: float, stft: Stft) -> None:
    parts = taken_apart(clicks(floor=floor), stft=stft)
    hop, width = stft.hop_length / RATE, stft.n_fft / RATE
    assert parts.k == len(TIMES) + 1
    np.testing.assert_allclose(told(parts)[1:, 0], TIMES, atol=1.5 * hop)
    np.testing.assert_allclose(told(parts)[:-1, 1], told(parts)[1:, 0])
    assert told(parts)[0, 0] == 0
    assert told(parts)[-1, 1] == 4
    np.testing.assert_allclose(parts.extents[1:, 0], np.array(TIMES) - width / 2, atol=(3 if floor else 2) * hop)
    for number, time in enumerate(TIMES, start=1):
        alone = np.zeros_like(parts.audio.samples)
        first = round(time * RATE)
        alone[first : first + 110] = clicks()[first : first + 110]
        heard = parts.sounds[number][first : first + 110]
        assert np.sum((heard - parts.audio.samples[first : first + 110]) ** 2) < 0.01 * np.sum(alone**2)


def test_with_fewer_parts_the_weakest_onsets_are_dropped() -> None:
    levels = [0.3, 0.03, 0.3, 0.06, 0.3]
    samples = clicks(levels=levels, floor=0.003)
    assert taken_apart(samples).k == 6
    four = taken_apart(samples, 4)
    np.testing.assert_allclose(told(four)[1:, 0], [0.5, 1.7, 3.2], atol=0.04)
    five = taken_apart(samples, 5)
    np.testing.assert_allclose(told(five)[1:, 0], [0.5, 1.7, 2.0, 3.2], atol=0.04)
    assert taken_apart(samples, 1).k == 1


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(2 * RATE, np.float32),
        tone(440.0, seconds=2.0, rate=RATE),
        noise(seconds=2.0, rate=RATE),
        noise(seconds=0.06, rate=RATE),
        clicks((0.02,), seconds=1.0),
    ],
    ids=["silence", "tone", "noise", "very short", "only at the edge"],
)
def test_what_has_no_onset_is_one_event(samples: Any) -> None:
    parts = taken_apart(samples)
    assert parts.k == 1
    assert parts.names[0].startswith("event 1: 0.00-")


def test_notes_are_events_too_and_times_count_from_the_start_of_the_recording() -> None:
    notes = [
        tone(f, seconds=2.0, rate=RATE, start=start, stop=start + 0.5)
        for f, start in ((220.0, 0.3), (330.0, 0.8), (440.0, 1.3))
    ]
    samples = np.sum(notes, axis=0) + noise(seconds=2.0, rate=RATE, level=1e-4)
    parts = taken_apart(samples.astype(np.float32), 4, start=10.0)
    np.testing.assert_allclose(told(parts)[1:, 0], [10.3, 10.8, 11.3], atol=0.05)
    assert parts.extents[:, 2].tolist() == [0] * 4


def test_a_rise_begins_after_the_least_flux_before_its_peak() -> None:
    flux = np.array([0.0, 0.5, 0.2, 0.1, 2.0, 5.0, 1.0, 3.0, 9.0, 0.0])
    assert begins(flux, np.array([5, 8])).tolist() == [4, 7]
    assert begins(flux, np.zeros(0, dtype=np.intp)).tolist() == []


def test_flux_is_the_mean_rise_in_decibels() -> None:
    quiet, loud = noise(seconds=1.0, rate=RATE, level=0.01), noise(seconds=1.0, rate=RATE, level=0.1)
    flux, peaks = onsets(undivided(Audio(np.concatenate([quiet, loud]), RATE), Stft()))
    assert len(peaks) == 1
    near = slice(peaks[0] - 4, peaks[0] + 5)
    assert flux[near].sum() == pytest.approx(20 + 9 * np.median(flux), abs=4)  # twenty decibels louder, and its ripple


def test_a_model_that_hears_2_to_3_seconds_finds_its_event() -> None:
    times = (0.7, 1.3, 2.0, 3.0, 3.5)
    tones = [tone(f, seconds=4.0, rate=RATE, start=a, stop=b) for f, a, b in zip(
        (300.0, 500.0, 700.0, 900.0, 1100.0), times, (*times[1:], 4.0), strict=True)]  # fmt: skip
    samples = (np.sum(tones, axis=0) + noise(seconds=4.0, rate=RATE, level=1e-4)).astype(np.float32)

    def hears(waveforms: Any) -> Any:
        power = np.mean(waveforms[:, 2 * RATE : 3 * RATE].astype(float) ** 2, axis=1, keepdims=True)
        return sigmoid(40 * power - 1)

    got = explain(Function(hears, rate=RATE), Audio(samples, RATE), settings=Settings(parts="events", calls=256))
    assert got.parts.k == 6
    best = got.strongest(1)[0]
    assert told(got.parts)[best] == pytest.approx([2.0, 3.0], abs=0.05)
    assert got.weights[best] > 0.85 * np.abs(got.weights).sum()
