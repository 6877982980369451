"""Consonance of recordings: peaks where the tones are, physical truths, and agreement with the formulae."""

from typing import Any

import numpy as np
import pytest

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats
from otoscope.mer_models import consonance, peaks
from otoscope.mer_models.peaks import by_frame, measure, power_spectrogram, roughness, spectral_peaks
from tests.builders import noise

RATE = 22050


def tones(frequencies: Any, amplitudes: Any = None, *, seconds: float = 2.0) -> Float32:
    """Sines with phases drawn once for all."""
    f = np.atleast_1d(np.asarray(frequencies, dtype=float))
    a = np.ones(len(f)) if amplitudes is None else np.asarray(amplitudes)
    time = np.arange(round(seconds * RATE)) / RATE
    phases = np.random.default_rng(3).uniform(0, 2 * np.pi, len(f))
    return (0.1 * a @ np.sin(2 * np.pi * f[:, None] * time + phases[:, None])).astype(np.float32)


def chord(*pitches: float) -> Float32:
    return tones(*consonance.chord_spectrum(pitches))


def rough(samples: Float32, **settings: Any) -> float:
    return roughness(power_spectrogram(samples), rate=RATE, **settings)


def slow_peaks(column: Floats, n_peaks: int, threshold: float) -> list[tuple[float, float]]:
    """Peaks of one frame of powers, in bins and amplitude, bin by bin."""
    magnitude = np.sqrt(column)
    tops = [k for k in range(1, len(column) - 1) if column[k] > column[k - 1] and column[k] >= column[k + 1]]
    loudest = max((magnitude[k] for k in tops), default=0.0)
    found = []
    for k in tops:
        if magnitude[k] >= threshold * loudest:
            a, b, c = np.log(magnitude[k - 1 : k + 2])
            offset = 0.5 * (a - c) / (a - 2 * b + c)
            found.append((k + offset, float(np.exp(b - (a - c) * offset / 4))))
    return sorted(sorted(found, key=lambda one: -one[1])[:n_peaks])


@pytest.mark.parametrize("n_peaks", [1, 5, 20])
@pytest.mark.parametrize("threshold", [0.05, 0.4])
def test_peaks_are_the_plain_loops(n_peaks: int, threshold: float) -> None:
    power = power_spectrogram(noise(seconds=1, rate=RATE) + tones([300, 1000])[:RATE]).astype(np.float64)
    f, a = spectral_peaks(power, rate=RATE, n_peaks=n_peaks, threshold=threshold)
    assert f.shape == a.shape == (power.shape[1], n_peaks)
    for frame in range(power.shape[1]):
        expected = np.array(slow_peaks(power[:, frame], n_peaks, threshold))
        there = a[frame] > 0
        np.testing.assert_allclose(f[frame][there], expected[:, 0] * RATE / 4096, rtol=1e-9)
        np.testing.assert_allclose(a[frame][there], expected[:, 1], rtol=1e-9)
        assert (f[frame][~there] == 0).all()


@pytest.mark.parametrize("frequency", [97.3, 440.0, 1234.5, 5000.1])
def test_a_tone_is_found_within_a_tenth_of_a_bin_and_a_fiftieth_of_its_level(frequency: float) -> None:
    f, a = spectral_peaks(power_spectrogram(tones(frequency, [3.0])), rate=RATE)
    assert (np.count_nonzero(a, axis=1) == 1).all()
    np.testing.assert_allclose(f[:, 0], frequency, atol=0.1 * RATE / 4096)
    np.testing.assert_allclose(a[:, 0], 0.3, rtol=0.02)


def test_settings_of_the_transform_reach_it() -> None:
    samples = tones([440, 445], seconds=4)
    assert power_spectrogram(samples).shape == (2049, 1 + (len(samples) - 4096) // 2048)
    assert power_spectrogram(samples, hop_length=512).shape[1] == 1 + (len(samples) - 4096) // 512
    power = power_spectrogram(samples, n_fft=16384)
    f, a = spectral_peaks(power, rate=RATE, n_fft=16384)
    np.testing.assert_allclose(f[:, :2], [[440, 445]] * len(f), atol=0.3)
    assert np.count_nonzero(a[0]) == 2
    expected = float(consonance.hutchinson_knopoff([440, 445], [1, 1]))
    assert roughness(power, rate=RATE, n_fft=16384) == pytest.approx(expected, rel=0.1)
    assert rough(samples) < 0.5 * expected  # 4,096 samples cannot tell them apart but for the moment they cancel


@pytest.mark.parametrize("frequency", [110.0, 441.7, 3000.0])
@pytest.mark.parametrize("formula", peaks.MEASURES)
def test_a_pure_tone_is_smooth(frequency: float, formula: Any) -> None:
    assert rough(tones(frequency), measure=formula) == 0


@pytest.mark.parametrize("formula", peaks.MEASURES)
def test_two_tones_a_quarter_of_a_critical_band_apart_are_rougher_than_an_octave(formula: Any) -> None:
    for low in (440.0, 880.0, 1760.0):
        gap = 0.25 * float(consonance.critical_bandwidth(np.array(low)))
        assert rough(tones([low, 2 * low]), measure=formula) < 1e-3
        assert rough(tones([low, low + gap]), measure=formula) > 0.08


@pytest.mark.parametrize("formula", peaks.MEASURES)
def test_a_cluster_is_rougher_than_a_triad(formula: Any) -> None:
    triad, seventh, cluster = (
        rough(chord(*pitches), measure=formula) for pitches in ((60, 64, 67), (60, 65, 66, 71), (60, 61, 66, 67))
    )
    assert triad < seventh < cluster


@pytest.mark.parametrize(
    "pitches", [(60, 64, 67), (60, 63, 67), (60, 63, 66), (57, 64), (72, 78), (60, 66, 67)], ids=str
)
def test_the_sound_of_a_chord_agrees_with_its_known_partials(pitches: tuple[float, ...]) -> None:
    """Within 15 % for roughness (partials in one bin beat, and count as one) and 5 % for harmonicity."""
    f, a = consonance.chord_spectrum(pitches)
    heard = measure(chord(*pitches), rate=RATE)
    assert heard.mean("hutchinson_knopoff") == pytest.approx(float(consonance.hutchinson_knopoff(f, a)), rel=0.15)
    assert heard.mean("sethares") == pytest.approx(float(peaks.relative_sethares(f, a)), rel=0.15)
    profile = peaks.peak_profile(f, a)
    assert heard.mean("harmonicity") == pytest.approx(float(consonance.harmonicity(profile)), rel=0.05)


def test_octaves_fall_together_and_a_tone_with_its_harmonics_is_most_harmonic() -> None:
    one, five, cluster = (measure(chord(*p), rate=RATE).mean("harmonicity") for p in ((57,), (57, 64), (57, 58, 59)))
    assert one > five > cluster
    profile = peaks.peak_profile(np.array([220.0, 440.0, 880.0]), np.array([1.0, 2.0, 3.0]))
    assert profile[900] == pytest.approx(14)
    assert np.count_nonzero(profile) == 1


def test_the_composite_of_a_frame_joins_both() -> None:
    heard = measure(chord(60, 64, 67), rate=RATE)
    expected = consonance.composite(heard.hutchinson_knopoff, heard.harmonicity)
    np.testing.assert_allclose(heard.composite, expected)


@pytest.mark.parametrize("gain", [1e-4, 100.0])
def test_the_level_does_not_matter(gain: float) -> None:
    sound = chord(60, 63, 67) + noise(seconds=2, rate=RATE, level=0.001)
    before, after = measure(sound, rate=RATE), measure(gain * sound, rate=RATE)
    for name in ("hutchinson_knopoff", "sethares", "harmonicity"):
        assert after.mean(name) == pytest.approx(before.mean(name), rel=1e-4)
    np.testing.assert_allclose(after.loudness, gain**0.6 * before.loudness, rtol=1e-3)


@pytest.mark.parametrize(
    "samples", [np.zeros(22050), np.zeros(100), np.full(22050, 0.5)], ids=["long", "short", "constant"]
)
def test_silence_has_defined_values(samples: Any) -> None:
    heard = measure(samples, rate=RATE)
    for name in ("hutchinson_knopoff", "sethares", "harmonicity"):
        assert heard.mean(name) == 0
    assert rough(samples) == 0


def test_silence_around_a_sound_does_not_count() -> None:
    sound = chord(60, 61, 67)
    padded = np.concatenate([sound, np.zeros(8 * 2048 * 10, dtype=np.float32)])
    inside = by_frame(power_spectrogram(sound[: 4096 * 9]), rate=RATE).mean("hutchinson_knopoff")
    assert rough(padded) == pytest.approx(inside, rel=0.1)


def test_loud_frames_count_more() -> None:
    heard = measure(np.concatenate([chord(60), 0.01 * chord(60, 61)]), rate=RATE)
    values, loudness = heard.hutchinson_knopoff, heard.loudness
    assert heard.mean("hutchinson_knopoff") == pytest.approx(float((values * loudness).sum() / loudness.sum()))
    assert heard.mean("hutchinson_knopoff") < 0.2 * values.mean()


def test_the_quick_way_is_the_mean_over_frames() -> None:
    sound = chord(60, 63, 66) * np.linspace(0, 1, 2 * RATE, dtype=np.float32)
    power = power_spectrogram(sound)
    whole = by_frame(power, rate=RATE, n_peaks=12, threshold=0.1)
    for name in peaks.MEASURES:
        value = roughness(power, rate=RATE, n_peaks=12, threshold=0.1, measure=name)
        assert value == pytest.approx(whole.mean(name), rel=1e-12)
        assert value != pytest.approx(roughness(power, rate=RATE, measure=name), rel=1e-3)


def test_what_cannot_be_measured_is_refused() -> None:
    power = power_spectrogram(chord(60))
    with pytest.raises(OtoscopeError, match=r"need power of shape \(1025, n_frames\), got \(2049"):
        spectral_peaks(power, rate=RATE, n_fft=2048)
    with pytest.raises(OtoscopeError, match=r"got 0, 0\.05"):
        spectral_peaks(power, rate=RATE, n_peaks=0)
    with pytest.raises(OtoscopeError, match="got 5, 0"):
        spectral_peaks(power, rate=RATE, n_peaks=5, threshold=0)
    with pytest.raises(OtoscopeError, match="unknown measure 'sethare'"):
        roughness(power, rate=RATE, measure="sethare")  # type: ignore[arg-type]
    with pytest.raises(OtoscopeError, match="finite mono samples"):
        measure(np.array([0.0, np.nan]), rate=RATE)
    with pytest.raises(OtoscopeError, match=r"got shape \(2, 5\)"):
        measure(np.zeros((2, 5)), rate=RATE)
