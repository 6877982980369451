"""Pitch parts: bands that follow a melody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from otoscope.adapters.audio import Audio
from otoscope.adapters.spectra import Stft
from otoscope.explainers.explain import explain
from otoscope.explainers.makers import cut, undivided
from otoscope.explainers.methods import Settings
from otoscope.explainers.parts import Parts
from otoscope.explainers.pitch_parts import Note, claimed, moving_comb, notes
from tests.builders import Function, noise, sigmoid, tone

RATE = 22050
A4, E5 = 440.0, 659.255


def glide(begin: float, end: float, *, seconds: float = 2.0, n_partials: int = 6, rate: int = RATE) -> Any:
    """Glide evenly in cents, with partials, faded in and out over 10 ms."""
    time = np.arange(round(seconds * rate)) / rate
    slope = np.log(end / begin) / seconds
    phase = begin * time if slope == 0 else begin * (np.exp(slope * time) - 1) / slope
    ramps = np.clip(time / 0.01, 0, 1) * np.clip((seconds - time) / 0.01, 0, 1)
    return ramps * sum(0.2 / h * np.sin(2 * np.pi * h * phase) for h in range(1, n_partials + 1))


def melody(*frequencies: float, seconds: float = 0.6, floor: float = 0.003, rate: int = RATE) -> Any:
    """Play notes one after the other over a quiet hiss."""
    played = np.concatenate([glide(f, f, seconds=seconds, rate=rate) for f in frequencies])
    return np.asarray(played + noise(seconds=len(played) / rate, rate=rate, level=floor)[: len(played)], np.float32)


def taken_apart(samples: Any, n_parts: int = 64, *, rate: int = RATE, stft: Stft | None = None, **other: Any) -> Parts:
    return cut(undivided(Audio(samples, rate), stft or Stft(), **other), "pitch", n_parts)


def caught(parts: Parts, part: int, clean: Any) -> float:
    """Share of a sound's energy in the cells of one part."""
    power = undivided(Audio(clean, parts.audio.rate), parts.stft).power
    return float((power * parts.share(part)).sum() / power.sum())


@pytest.mark.parametrize(("begin", "end", "name"), [(220.0, 330.0, "A3 to E4"), (880.0, 620.0, "A5 to D#5")])
def test_a_gliding_tone_in_noise_is_caught_wholly_in_its_note(begin: float, end: float, name: str) -> None:
    quiet = np.zeros(RATE // 2)
    clean = np.concatenate([quiet, glide(begin, end), quiet])
    hiss = noise(seconds=3.0, rate=RATE, level=0.02)
    parts = taken_apart((clean + hiss).astype(np.float32))
    assert parts.k == 2
    assert parts.names[0].startswith(f"note 1: {name}, 0.4")
    assert parts.names[1] == "remainder"
    assert caught(parts, 0, clean.astype(np.float32)) > 0.97
    assert caught(parts, 0, hiss) < 0.35
    assert np.corrcoef(parts.sounds[0], clean)[0, 1] > 0.98


@pytest.mark.parametrize(("rate", "stft"), [(22050, Stft()), (16_000, Stft(512, 160)), (8000, Stft(512, 256))])
def test_two_notes_are_two_parts_with_their_names(rate: int, stft: Stft) -> None:
    parts = taken_apart(melody(A4, E5, rate=rate), rate=rate, stft=stft, start=5.0)
    assert [name.split(",")[0] for name in parts.names] == ["note 1: A4", "note 2: E5", "remainder"]
    (first, middle), (after, last) = (map(float, name.split(", ")[1][:-2].split("-")) for name in parts.names[:2])
    assert (first, middle, after, last) == pytest.approx((5.0, 5.6, 5.6, 6.2), abs=0.08)
    rest = np.zeros(round(0.6 * rate))
    one, two = glide(A4, A4, seconds=0.6, rate=rate), glide(E5, E5, seconds=0.6, rate=rate)
    for part, clean in enumerate((np.concatenate([one, rest]), np.concatenate([rest, two]))):
        assert caught(parts, part, clean.astype(np.float32)) > 0.93


def test_a_vibrato_is_one_note() -> None:
    time = np.arange(2 * RATE) / RATE
    phase = A4 * (time + 0.02 / (2 * np.pi * 5.5) * np.sin(2 * np.pi * 5.5 * time))  # 35 cents either way
    clean = sum(0.2 / h * np.sin(2 * np.pi * h * phase) for h in range(1, 6))
    parts = taken_apart((clean + noise(seconds=2.0, rate=RATE, level=0.003)).astype(np.float32))
    assert [name.split(",")[0] for name in parts.names] == ["note 1: A4", "remainder"]
    assert parts.energy[0] > 0.97


def test_runs_split_at_jumps_and_gaps_and_the_short_and_unsure_are_no_notes() -> None:
    nan = np.nan
    bend = 440 * 2 ** (np.array([0, 79, 79 + 79, 79 + 79 - 81]) / 1200)
    f0 = np.array([nan, *bend, nan, 300, 300, 300, nan, 200, nan, 100, 100, 100])
    sure = np.where(f0 == 100, 0.01, 0.6)
    found = notes(f0, sure, shortest=1)
    assert [(note.first, note.stop) for note in found] == [(1, 4), (4, 5), (6, 9), (10, 11)]
    np.testing.assert_array_equal(found[0].f0, bend[:3])
    assert [(note.first, note.stop) for note in notes(f0, sure, shortest=2)] == [(1, 4), (6, 9)]
    assert notes(np.full(5, nan), np.zeros(5), shortest=1) == []
    assert [(n.first, n.stop) for n in notes(np.full(5, 99.0), np.ones(5), shortest=1)] == [(0, 5)]


@pytest.mark.parametrize("seed", range(3))
def test_a_moving_comb_is_the_bins_near_a_partial(seed: int) -> None:
    f0 = np.random.default_rng(seed).uniform(60, 2100, 7)
    frequencies = np.arange(1025) * RATE / 2048
    got = moving_comb(frequencies, f0)
    for frame, fundamental in enumerate(f0):
        for b, frequency in enumerate(frequencies):
            near = False
            for h in range(1, 17):
                cents = (2 ** (50 / 1200) - 1) * h * fundamental
                near = near or abs(frequency - h * fundamental) <= max(cents, 1.5 * RATE / 2048)
            assert got[b, frame] == near


def test_cells_belong_to_the_note_nearest_in_time() -> None:
    rng = np.random.default_rng(4)
    whole = undivided(Audio(noise(seconds=0.6, rate=RATE), RATE), Stft(512, 128))
    found = [Note(10, rng.uniform(200, 900, 20)), Note(31, rng.uniform(200, 900, 15)), Note(60, np.full(4, 500.0))]
    got = claimed(whole, found)
    frequencies = whole.stft.frequencies(RATE)
    for frame in range(whole.labels.shape[1]):
        expected = np.full(257, 3)
        best = np.full(257, 99)
        for number, note in enumerate(found):
            inside = min(max(frame, note.first), note.stop - 1)
            away = abs(frame - inside)
            if away <= 2:  # half a window of 512 is two hops
                comb = moving_comb(frequencies, note.f0[[inside - note.first]])[:, 0]
                wins = comb & (away < best)
                expected[wins], best[wins] = number, away
        np.testing.assert_array_equal(got[:, frame], expected)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(RATE, np.float32), noise(seconds=1.0, rate=RATE), noise(seconds=0.06, rate=RATE)],
    ids=["silence", "noise", "very short"],
)
def test_what_has_no_pitch_is_one_remainder(samples: Any) -> None:
    parts = taken_apart(samples)
    assert parts.names == ("remainder: no note found",)


def test_a_rate_too_low_for_a_melody_has_no_notes() -> None:
    assert taken_apart(tone(100.0, rate=500), rate=500, stft=Stft(128, 32)).k == 1


def test_with_fewer_parts_the_loudest_notes_are_kept() -> None:
    loud, faint = melody(A4, floor=0.0), 0.2 * melody(E5, floor=0.0)
    samples = np.concatenate([faint, loud, faint]) + noise(seconds=1.8, rate=RATE, level=0.001)
    assert taken_apart(samples).k == 4
    two = taken_apart(samples, 2)
    assert [name.split(",")[0] for name in two.names] == ["note 1: A4", "remainder"]
    assert taken_apart(samples, 1).names == ("remainder: no note found",)


def test_a_model_that_hears_one_note_finds_its_part() -> None:
    samples = melody(A4, E5, 523.251, A4)
    full = (len(samples) / 4) ** 2 / 200  # about what E5 has

    def hears_e5(waveforms: Any) -> Any:
        power = np.abs(np.fft.rfft(waveforms, axis=1)) ** 2
        inside = np.abs(np.fft.rfftfreq(waveforms.shape[1], 1 / RATE) - E5) < 15
        return sigmoid(power[:, inside].sum(axis=1, keepdims=True) / full - 1)

    settings = Settings(parts="pitch", calls=128)
    got = explain(Function(hears_e5, rate=RATE), Audio(samples, RATE), settings=settings)
    assert [name.split(",")[0] for name in got.names[:4]] == ["note 1: A4", "note 2: E5", "note 3: C5", "note 4: A4"]
    assert got.strongest(1) == [1]
    assert got.weights[1] > 0.9 * np.abs(got.weights).sum()
