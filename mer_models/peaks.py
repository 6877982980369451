"""Consonance of recordings: spectral peaks of every frame, and the formulae on them.

A recording has no list of partials, so they are found: an STFT of 4,096 samples (Hann, whole frames only, because a
tone cut off at the edge of a frame has side lobes that beat), the local maxima of its magnitude, their frequencies and
amplitudes from a parabola through the logarithms of three bins (Smith and Serra, 1987), the strongest `n_peaks` within
`threshold` of the loudest. The threshold of 1/20 (−26 dB) lies above the side lobes of a Hann window (−31 dB): a pure
tone has one peak, and no roughness.

Roughness (`otoscope.mer_models.consonance`) is Hutchinson and Knopoff's, or Sethares' with the lesser amplitudes,
divided by the sum of all amplitudes; neither depends on the level. For harmonicity the peaks' energies are folded into
one octave and compared with a tone as they are: sound brings its own harmonics, so none are added, and values lie on
another scale than those of chords. A recording has the mean over frames, weighted by loudness (energy^0.3, Stevens'
law), so that silence does not count; one that is silent throughout has 0.

What it cannot see: partials closer than about four bins (20 Hz at 22,050 Hz) are mostly one peak, so the beating of
neighbours below about A3 is missed; and noise has peaks as music has, which beat.

Shapes: power (n_bins, n_frames); peaks (n_frames, n_peaks), absent ones with frequency and amplitude zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import Float32, Floats
from otoscope.adapters.pitch import C0
from otoscope.mer_models import consonance

N_FFT = 4096
HOP_LENGTH = 2048
N_PEAKS = 30
THRESHOLD = 0.05
LOUDNESS = 0.3  # exponent of the energy
ROUNDING = 1e-10  # power that is no sound beside the loudest bin, a constant offset say

Measure = Literal["hutchinson_knopoff", "sethares"]
MEASURES: tuple[Measure, ...] = ("hutchinson_knopoff", "sethares")


def power_spectrogram(samples: npt.ArrayLike, *, n_fft: int = N_FFT, hop_length: int = HOP_LENGTH) -> Float32:
    """Transform a waveform (n_samples,) into power (n_bins, n_frames), whole frames only.

    Frame t begins at sample t · hop_length; a waveform shorter than one frame is filled up with silence. A sine at full
    scale has power 1 at its peak.
    """
    x = np.asarray(samples, dtype=np.float32)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise OtoscopeError(f"need finite mono samples of shape (n_samples,), got shape {x.shape}")
    from scipy.fft import rfft

    x = np.pad(x, (0, max(0, n_fft - len(x))))
    frames = np.lib.stride_tricks.sliding_window_view(x, n_fft)[::hop_length]
    spectra = rfft(frames * _window(n_fft))  # (n_frames, n_bins)
    return np.asarray(spectra.real**2 + spectra.imag**2).T


@lru_cache(maxsize=4)
def _window(n_fft: int) -> Float32:
    """Hann window, periodic, scaled so that a sine at full scale peaks at 1."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return (hann * 4 / n_fft).astype(np.float32)


def spectral_peaks(
    power: npt.ArrayLike, *, rate: int, n_fft: int = N_FFT, n_peaks: int = N_PEAKS, threshold: float = THRESHOLD
) -> tuple[Floats, Floats]:
    """Find the strongest partials of every frame.

    Parameters
    ----------
    power : array_like, shape (n_bins, n_frames)
        Squared magnitudes of an STFT.
    rate : int
        In hertz.
    n_fft : int
        Of the STFT; n_bins is n_fft // 2 + 1.
    n_peaks : int
        Most peaks per frame.
    threshold : float
        Least amplitude, as a share of the loudest peak of the frame.

    Returns
    -------
    frequencies, amplitudes : ndarray, shape (n_frames, n_peaks)
        In hertz, ascending; linear, in the units of the STFT. Absent peaks come last and are zero in both.
    """
    p = np.asarray(power).T  # (n_frames, n_bins)
    if p.ndim != 2 or p.shape[1] != n_fft // 2 + 1:
        raise OtoscopeError(f"need power of shape ({n_fft // 2 + 1}, n_frames), got {p.T.shape}")
    if n_peaks < 1 or not 0 < threshold <= 1:
        raise OtoscopeError(f"need n_peaks of at least 1 and threshold above 0 up to 1, got {n_peaks}, {threshold:g}")
    middle = p[:, 1:-1]
    top = (middle > p[:, :-2]) & (middle >= p[:, 2:])
    loudest = np.where(top, middle, 0).max(axis=1, initial=0)
    least = np.maximum(threshold**2 * loudest, ROUNDING * p.max(axis=1))
    rows, bins = np.nonzero(top & (middle >= least[:, None]))
    bins += 1
    offset, strength = _parabola(p[rows, bins - 1], p[rows, bins], p[rows, bins + 1])
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)  # of each peak within its frame
    frequencies, amplitudes = np.zeros((2, len(p), max(n_peaks, place.max(initial=0) + 1)))
    frequencies[rows, place] = (bins + offset) * (rate / n_fft)
    amplitudes[rows, place] = strength
    if amplitudes.shape[1] > n_peaks:
        kept = np.sort(np.argpartition(-amplitudes, n_peaks - 1, axis=1)[:, :n_peaks], axis=1)
        frequencies, amplitudes = (np.take_along_axis(x, kept, axis=1) for x in (frequencies, amplitudes))
    return frequencies, amplitudes


def _parabola(left: Floats, middle: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Top of the parabola through the logarithms of three powers: offset from the middle in bins, amplitude."""
    a, b, c = (0.5 * np.log(np.maximum(x, 1e-36).astype(np.float64)) for x in (left, middle, right))
    curvature = a - 2 * b + c
    offset = np.where(curvature < 0, 0.5 * (a - c) / np.where(curvature < 0, curvature, 1), 0)
    return offset, np.exp(b - 0.25 * (a - c) * offset)


@dataclass(frozen=True, eq=False)
class Consonance:
    """Measures of every frame, each of shape (n_frames,).

    Attributes
    ----------
    hutchinson_knopoff, sethares : ndarray
        Roughness; Sethares' divided by the sum of the amplitudes.
    harmonicity : ndarray
        In bits.
    composite : ndarray
        After Harrison and Pearce; the more consonant the higher.
    loudness : ndarray
        Energy^0.3, for weighing frames.
    """

    hutchinson_knopoff: Floats
    sethares: Floats
    harmonicity: Floats
    composite: Floats
    loudness: Floats

    def mean(self, name: str) -> float:
        """Mean of a measure over frames, weighted by loudness; 0 for silence."""
        return _loudness_mean(getattr(self, name), self.loudness)


def _loudness_mean(values: Floats, loudness: Floats) -> float:
    total = float(loudness.sum())
    return float(values @ loudness) / total if total > 0 else 0.0


def by_frame(
    power: npt.ArrayLike, *, rate: int, n_fft: int = N_FFT, n_peaks: int = N_PEAKS, threshold: float = THRESHOLD
) -> Consonance:
    """Measure every frame of a power spectrogram (n_bins, n_frames); see `spectral_peaks` for the settings."""
    frequencies, amplitudes = spectral_peaks(power, rate=rate, n_fft=n_fft, n_peaks=n_peaks, threshold=threshold)
    rough = consonance.hutchinson_knopoff(frequencies, amplitudes)
    harmonic = consonance.harmonicity(peak_profile(frequencies, amplitudes))
    return Consonance(
        hutchinson_knopoff=rough,
        sethares=relative_sethares(frequencies, amplitudes),
        harmonicity=harmonic,
        composite=consonance.composite(rough, harmonic),
        loudness=frame_loudness(power),
    )


def measure(samples: npt.ArrayLike, *, rate: int, hop_length: int = HOP_LENGTH) -> Consonance:
    """Measure a waveform (n_samples,) frame by frame, with frames of 4,096 samples."""
    return by_frame(power_spectrogram(samples, hop_length=hop_length), rate=rate)


def relative_sethares(frequencies: Floats, amplitudes: Floats) -> Floats:
    """Roughness after Sethares (2005) divided by the sum of amplitudes, (…), of partials (…, n_partials)."""
    total = amplitudes.sum(axis=-1)
    return np.asarray(consonance.sethares(frequencies, amplitudes) / np.where(total > 0, total, 1))


def peak_profile(frequencies: Floats, amplitudes: Floats) -> Floats:
    """Energy of partials (…, n_partials) folded into one octave (…, 1200), bin 0 at C."""
    return consonance.fold(1200 * np.log2(np.where(frequencies > 0, frequencies, C0) / C0), amplitudes**2)


def frame_loudness(power: npt.ArrayLike) -> Floats:
    """Loudness (n_frames,) of a power spectrogram (n_bins, n_frames): the 0.3th power of its energy."""
    return np.asarray(np.asarray(power).sum(axis=0, dtype=np.float64) ** LOUDNESS)


def roughness(
    power: npt.ArrayLike,
    *,
    rate: int,
    n_fft: int = N_FFT,
    n_peaks: int = N_PEAKS,
    threshold: float = THRESHOLD,
    measure: Measure = "hutchinson_knopoff",
) -> float:
    """Roughness of a recording from its power spectrogram (n_bins, n_frames): the mean weighted by loudness.

    The quick way to one number; see `spectral_peaks` for the settings.
    """
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    frequencies, amplitudes = spectral_peaks(power, rate=rate, n_fft=n_fft, n_peaks=n_peaks, threshold=threshold)
    formula = consonance.hutchinson_knopoff if measure == "hutchinson_knopoff" else relative_sethares
    return _loudness_mean(formula(frequencies, amplitudes), frame_loudness(power))
