"""The formulae of the mid-level descriptors, each against itself written slow and plain, and against what must hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.model import Floats
from otoscope.mer_models import articulation, descriptors, melodiousness, rhythm, tonality
from otoscope.mer_models.consonance import chord_spectrum, hutchinson_knopoff

RATE = 86.0  # frames a second


def some_peaks(*, seed: int = 0, shape: tuple[int, ...] = (2, 4, 5)) -> tuple[Floats, Floats]:
    """Peaks with some absent (zero), (n, n_frames, n_peaks)."""
    rng = np.random.default_rng(seed)
    frequencies = np.exp(rng.uniform(np.log(70), np.log(3900), shape))
    amplitudes = rng.uniform(0, 0.1, shape)
    absent = rng.random(shape) < 0.2
    return np.where(absent, 0, frequencies), np.where(absent, 0, amplitudes)


def spread_plainly(place: float, weight: float, total: Floats, reach: int, circular: bool) -> None:
    for bin_ in range(int(np.floor(place)) - reach - 1, int(np.floor(place)) + reach + 3):
        distance = abs(place - bin_) / reach
        inside = circular or 0 <= bin_ < len(total)
        if distance < 1 and inside:
            total[bin_ % len(total)] += weight * np.cos(np.pi / 2 * distance) ** 2


def chroma_plainly(frequencies: Floats, amplitudes: Floats) -> Floats:
    """Fold the peaks of one frame, one by one and harmonic by harmonic."""
    total = np.zeros(12)
    for f, a in zip(frequencies, amplitudes, strict=True):
        if f > 0:
            for h in range(1, 5):
                place = 12 * np.log2(f / h / 440) + 9  # A is the ninth pitch class
                spread_plainly(place, a**0.6 * 0.6 ** (h - 1), total, 1, True)
    return total


def test_chroma_equals_the_plain_way() -> None:
    frequencies, amplitudes = some_peaks()
    found = tonality.chroma(frequencies, amplitudes)
    for item in np.ndindex(2, 4):
        np.testing.assert_allclose(found[item], chroma_plainly(frequencies[item], amplitudes[item]), atol=1e-12)


def salience_plainly(frequencies: Floats, amplitudes: Floats) -> Floats:
    total = np.zeros(86)
    for f, a in zip(frequencies, amplitudes, strict=True):
        if f > 0:
            for h in range(1, 9):
                place = 2 * 12 * np.log2(f / h / 110.0)
                spread_plainly(place, a * 0.8 ** (h - 1), total, 2, False)
    return total


def melodiousness_plainly(frequencies: Floats, amplitudes: Floats) -> float:
    """Measure one item, frame by frame and pitch by pitch."""
    saliences = [salience_plainly(f, a) for f, a in zip(frequencies, amplitudes, strict=True)]
    loudness = [sum(a**2) ** 0.3 for a in amplitudes]
    top = total = 0.0
    for t in range(len(saliences) - 1):
        q = [s**8 / sum(s**8) for s in saliences[t : t + 2]]
        predominance = [
            sum(s**8) ** (1 / 8) / sum(a) for s, a in zip(saliences[t:], amplitudes[t : t + 2], strict=False)
        ]
        continuity = sum(
            q[0][i] * q[1][j] * np.exp(-0.5 * ((i - j) / 2 / 2.5) ** 2) for i in range(86) for j in range(86)
        )
        weight = np.sqrt(loudness[t] * loudness[t + 1])
        top += weight * continuity * np.sqrt(predominance[0] * predominance[1])
        total += weight
    return float(top / total)


def test_melodiousness_equals_the_plain_way() -> None:
    frequencies, amplitudes = some_peaks(seed=1)
    found = melodiousness.melodiousness(frequencies, amplitudes)
    expected = [melodiousness_plainly(f, a) for f, a in zip(frequencies, amplitudes, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=2e-3)  # up to the floors


def test_key_strengths_are_correlations_with_the_profiles() -> None:
    folded = np.random.default_rng(2).gamma(0.3, size=(6, 12))
    found = tonality.key_strengths(folded)
    for row, strengths in zip(folded, found, strict=True):
        for key in range(24):
            mode = (tonality.MAJOR, tonality.MINOR)[key // 12]
            r = np.corrcoef(row, np.roll(mode, key % 12))[0, 1]
            assert strengths[key] == pytest.approx(r, abs=0.05)
            assert abs(strengths[key]) <= abs(r)  # the floor only shrinks


def test_the_profile_of_a_key_is_recognised() -> None:
    folded = np.array([np.roll(mode, tonic) for mode in (tonality.MAJOR, tonality.MINOR) for tonic in range(12)])
    assert tonality.key_strengths(folded).argmax(axis=1).tolist() == list(range(24))
    minorness, stability = tonality.minorness_and_stability(folded[:, None], frame_rate=10.0)
    assert (minorness[12:] > 0.1).all()
    assert (minorness[:12] < -0.1).all()
    assert (stability > 0.6).all()


def test_minorness_and_stability_equal_the_plain_way() -> None:
    folded = np.random.default_rng(3).gamma(0.4, size=(20, 12))
    found = tonality.minorness_and_stability(folded, frame_rate=100.0)  # shorter than a window
    r = tonality.key_strengths(folded.sum(axis=0))
    soft = [np.log(sum(np.exp(10 * x) for x in half)) / 10 for half in (r[:12], r[12:])]
    belief = [np.exp(10 * x) / sum(np.exp(10 * r)) for x in r]
    assert found[0] == pytest.approx(soft[1] - soft[0])
    assert found[1] == pytest.approx(sum(p * x for p, x in zip(belief, r, strict=True)))


@given(n_frames=st.integers(1, 200), length=st.floats(2, 50))
def test_windows_cover_every_frame_alike(n_frames: int, length: float) -> None:
    covered = tonality.windows(n_frames, length)
    assert covered.shape[1] == n_frames
    assert (covered.sum(axis=0)[round(length / 2) : n_frames - round(length / 2)] > 0.8).all()


@given(places=st.lists(st.floats(0, 11.99), min_size=1, max_size=6), reach=st.integers(1, 4))
def test_what_is_spread_in_a_circle_stays_whole(places: list[float], reach: int) -> None:
    weights = np.arange(1.0, len(places) + 1)
    total = tonality.spread(np.array(places), weights, n_bins=12, reach=reach, circular=True)
    assert total.sum() == pytest.approx(reach * weights.sum())


def articulation_plainly(bands: Floats) -> float:
    """Measure band energies (n_frames, n_bands), cell by cell."""
    amplitude = np.sqrt(bands + 1e-7)
    half = round(RATE) // 2
    top = total = 0.0
    for t, b in np.ndindex(bands.shape):
        near = [k for k in range(-half, half + 1) if 0 <= t + k < len(bands)]
        weights = [np.cos(np.pi / 2 * k / (half + 1)) ** 2 for k in near]
        around = sum(w * amplitude[t + k, b] for w, k in zip(weights, near, strict=True)) / sum(weights)
        silence = 1 / (1 + np.exp((20 * np.log10(amplitude[t, b] / around) + 6) / 2))
        top += silence * around**0.6
        total += around**0.6
    return top / total


def some_bands(*, n_frames: int = 260, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    beats = 0.5 + 0.5 * np.sin(2 * np.pi * 2.0 * np.arange(n_frames) / RATE)
    return np.asarray(1e-3 * beats[:, None] ** 4 * rng.gamma(1.0, size=(n_frames, 3)))


def test_articulation_equals_the_plain_way() -> None:
    bands = some_bands()
    found = articulation.articulation(np.stack([bands, bands[::-1]]), frame_rate=RATE)
    assert found[0] == pytest.approx(articulation_plainly(bands))
    assert found[1] == pytest.approx(found[0])  # time has no direction here


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_articulation_is_about_the_share_of_silence(share: float) -> None:
    time = np.arange(1000) / RATE
    bands = np.where(time * 3 % 1 < share, 0.1, 1e-6)[:, None]
    assert articulation.articulation(bands, frame_rate=RATE) == pytest.approx(1 - share, abs=0.1)


def stability_plainly(strength: Floats) -> float:
    """Pulse clarity by sums over lags, given an onset strength whose trend and blur are done."""
    n = len(strength)
    r = [sum(strength[t] * strength[t + lag] for t in range(n - lag)) / max(n - lag, n / 2) for lag in range(n)]
    clarity = [r[lag] / (r[0] + 0.01) for lag in range(round(0.27 * RATE), round(1.5 * RATE) + 1)]
    return float(np.log(np.mean([np.exp(20 * c) for c in clarity])) / 20)


def test_rhythmic_stability_equals_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rhythm, "BLUR", 1e-9)
    strength = rhythm.onset_strength(rhythm.levels(some_bands()))
    around = articulation.moving_mean(strength[:, None], round(2 * RATE))[:, 0]
    found = rhythm.rhythmic_stability(strength[None], frame_rate=RATE)
    assert found[0] == pytest.approx(stability_plainly(strength - around))


@pytest.mark.parametrize("period", [0.3, 0.5, 1.0])
def test_the_pulse_is_clear_at_every_tempo(period: float) -> None:
    strength = np.where(np.arange(900) / RATE % period < 1.01 / RATE, 5.0, 0.0)
    assert rhythm.rhythmic_stability(strength, frame_rate=RATE) > 0.6


@given(lag=st.integers(0, 40), n=st.integers(1, 60))
def test_autocorrelation_finds_a_repeated_pulse(lag: int, n: int) -> None:
    x = np.zeros(lag + n)
    x[0] = x[lag] = 1.0
    products = rhythm.autocorrelation(x) * np.maximum(len(x) - np.arange(len(x)), len(x) / 2)
    np.testing.assert_allclose(products[lag], 1.0, atol=1e-9)
    assert products.sum() == pytest.approx(3.0 if lag else 1.0)


@pytest.mark.parametrize("hertz", [1.0, 3.0, 7.5])
def test_fluctuation_lies_where_the_level_fluctuates(hertz: float) -> None:
    n = round(12 * RATE)
    decibels = 5 * np.sin(2 * np.pi * hertz * np.arange(n) / RATE)[:, None]
    spectrum = rhythm.fluctuation(decibels, frame_rate=RATE)
    frequencies = np.arange(260) / 6.0
    chosen = frequencies[(frequencies >= 0.4) & (frequencies <= 10.0)]
    assert chosen[spectrum.argmax()] == pytest.approx(hertz, abs=0.1)
    # A sine of amplitude 5 through a window, weighted by the ear.
    power = 5**2 / 4 * (np.hanning(518)[1:-1].sum() ** 2 / (np.hanning(518)[1:-1] ** 2).sum())
    assert spectrum.max() == pytest.approx(power / (hertz / 4 + 4 / hertz), rel=0.02)


def test_complexity_is_activity_times_entropy() -> None:
    decibels = rhythm.levels(some_bands())
    strength = rhythm.onset_strength(decibels)
    power = rhythm.fluctuation(decibels, frame_rate=RATE) + rhythm.NOTHING
    share = power / power.sum()
    entropy = -sum(p * np.log(p) for p in share) / np.log(len(share))
    found = rhythm.rhythmic_complexity(decibels, strength, frame_rate=RATE)
    assert found == pytest.approx(np.log10(1 + strength.mean() * RATE / 3) * entropy)


@pytest.mark.parametrize("chord", [(60, 64, 67), (60, 63, 66), (60, 61, 62)])
def test_dissonance_of_a_recorded_chord_is_that_of_its_partials(chord: tuple[int, ...]) -> None:
    frequencies, amplitudes = chord_spectrum(chord, n_harmonics=5)
    time = np.arange(5 * 22050) / 22050
    sound = sum(0.1 * a * np.sin(2 * np.pi * f * time + f) for f, a in zip(frequencies, amplitudes, strict=True))
    found = descriptors.dissonance(*descriptors.partials(np.asarray(sound, dtype=np.float32)[None]))
    near = amplitudes - 0.05 * amplitudes.max()  # the threshold is subtracted
    assert found[0] == pytest.approx(hutchinson_knopoff(frequencies, near), rel=0.25)


@pytest.mark.parametrize("share", [0.056, 0.07, 0.1])
def test_a_partial_enters_with_amplitude_zero(share: float) -> None:
    time = np.arange(22050) / 22050
    sound = 0.1 * (np.sin(2 * np.pi * 500 * time) + share * np.sin(2 * np.pi * 1500 * time))
    _, amplitudes = descriptors.partials(sound.astype(np.float32)[None])
    assert (np.count_nonzero(amplitudes, axis=-1) == 2).all()
    np.testing.assert_allclose(
        amplitudes.min(axis=-1, initial=1, where=amplitudes > 0), 0.1 * (share - 0.05), atol=3e-4
    )


def test_a_beginning_out_of_nothing_counts_as_one_strong_beat() -> None:
    decibels = np.zeros((40, 2))
    decibels[20:] = 60.0
    strength = rhythm.onset_strength(decibels)
    assert strength.max() == pytest.approx(rhythm.STEEP, rel=1e-3)
    assert rhythm.onset_strength(decibels / 200).max() == pytest.approx(0.2, rel=0.1)  # a faint one by what it rises
