"""Mode and key from spectral peaks: how minor a recording is, and how stable its tonality.

*Chroma* after Gómez (2006, "Tonal description of polyphonic audio for music content processing"): each spectral peak of
frequency f may be any of the first harmonics of a note, so it gives to the pitch classes of f, f/2, f/3, f/4 with
weights 1, s, s², s³ (s = .6), spread over the two nearest pitch classes by squared cosines. Peaks count by loudness,
the 0.3th power of their energy (Stevens' law). Chroma is averaged over windows of about three seconds: long enough for
a cadence, short enough to see a modulation.

*Key strengths* after Krumhansl (1990): the correlation r of the chroma with a profile of each of 24 keys, here those
that Albrecht and Shanahan (2013) counted in a large corpus, with the minor mode in mind. A flat chroma (noise, silence)
has no key, hence the constant ε beside the deviation of the chroma c:

    r[k] = Σ_p (c[p] − 1/12) · profile_k[p] / √(Σ_p (c[p] − 1/12)² + ε²),  profile_k of zero mean and unit length

*Minorness* is MIRtoolbox's mode (Lartillot and Toiviainen, 2007), the strength of the best minor key less that of the
best major key, with soft maxima, so that it never jumps: lse(r) = ln(Σ exp(β·r)) / β, β = 10.

*Tonal stability* is the expected strength, in each window, of the key that the whole recording is in. With r̄ the mean
over windows and p = softmax(β·r̄) the belief in each key, it is Σ_k p[k] · r̄[k]. It is high where one key fits all the
time; a modulation lowers it (no key fits all windows), and so does atonality (no key fits any).

Shapes: peaks (…, n_frames, n_peaks), zero where absent; chroma (…, n_frames, 12) from C; strengths (…, n_windows, 24),
majors from C, then minors; results (…). Silence has 0 in both.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from otoscope.adapters.model import Floats
from otoscope.adapters.pitch import C0
from otoscope.mer_models.peaks import LOUDNESS

LOWEST, HIGHEST = 60.0, 4000.0  # hertz: peaks that tell pitch classes
N_HARMONICS = 4
DECAY = 0.6  # s, of Gómez
WINDOW = 3.0  # seconds
SHARPNESS = 10.0  # β
FLAT = 0.02  # ε: deviation of a chroma (of sum 1) that hardly has a key
QUIET = 1e-5  # chroma that counts as none; a sine at −80 dBFS has 4e-3

# Albrecht and Shanahan (2013): shares of the scale degrees from the tonic up, by semitones.
MAJOR = (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081)
MINOR = (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052)


def semitones(frequencies: Floats) -> Floats:
    """Semitones above C0 of frequencies in hertz; absent ones (zero) lie at C0."""
    return np.asarray(12 * np.log2(np.where(frequencies > 0, frequencies, C0) / C0))


def peak_loudness(amplitudes: Floats) -> Floats:
    """Loudness of frames, (…), from the amplitudes of their peaks (…, n_peaks): energy to the power 0.3."""
    return np.asarray((amplitudes**2).sum(axis=-1) ** LOUDNESS)


def spread(places: Floats, weights: Floats, *, n_bins: int, reach: int, circular: bool = False) -> Floats:
    """Add weights to the bins around real-valued places, by squared cosines that fall to zero `reach` bins away.

    Parameters
    ----------
    places, weights : ndarray, shape (…, n)
        Places in bins; what stands there.
    n_bins : int
    reach : int
    circular : bool
        Whether bin `n_bins` is bin 0 again; else what lies outside is lost.

    Returns
    -------
    ndarray, shape (…, n_bins)
    """
    rows = np.arange(int(np.prod(places.shape[:-1]))).reshape(*places.shape[:-1], 1)
    total = np.zeros(rows.size * n_bins)
    below = np.floor(places).astype(np.int64)
    for step in range(1 - reach, reach + 1):
        bins = below + step
        share = weights * np.cos(np.pi / 2 / reach * (places - bins)) ** 2
        if circular:
            bins = bins % n_bins
        else:
            share = np.where((bins >= 0) & (bins < n_bins), share, 0)
            bins = np.clip(bins, 0, n_bins - 1)
        total += np.bincount((rows * n_bins + bins).ravel(), share.ravel(), minlength=len(total))
    return total.reshape(*places.shape[:-1], n_bins)


def chroma(frequencies: Floats, amplitudes: Floats) -> Floats:
    """Fold peaks (…, n_frames, n_peaks), in hertz and linear, into pitch classes (…, n_frames, 12)."""
    heard = (frequencies > LOWEST) & (frequencies < HIGHEST)
    loudness = np.where(heard, amplitudes, 0) ** (2 * LOUDNESS)
    pitches = semitones(frequencies)
    folded = np.zeros((*frequencies.shape[:-1], 12))
    for harmonic in range(1, N_HARMONICS + 1):
        weights = loudness * DECAY ** (harmonic - 1)
        folded += spread(pitches - 12 * np.log2(harmonic), weights, n_bins=12, reach=1, circular=True)
    return folded


def windows(n_frames: int, length: float) -> Floats:
    """Overlapping squared cosines of `length` frames, half a length apart, (n_windows, n_frames); one where shorter."""
    if n_frames <= length:
        return np.ones((1, n_frames))
    n_windows = 1 + int(np.ceil((n_frames - length) / (length / 2)))
    centres = np.linspace(length / 2, n_frames - length / 2, n_windows)
    distance = np.abs(np.arange(n_frames) + 0.5 - centres[:, None]) / (length / 2)
    return np.asarray(np.cos(np.pi / 2 * np.minimum(distance, 1)) ** 2)


@cache
def profiles() -> Floats:
    """Profiles of the 24 keys, (24, 12), each of zero mean and unit length."""
    table = np.array([np.roll(mode, tonic) for mode in (MAJOR, MINOR) for tonic in range(12)])
    table -= table.mean(axis=1, keepdims=True)
    return np.asarray(table / np.linalg.norm(table, axis=1, keepdims=True))


def key_strengths(folded: Floats) -> Floats:
    """Correlate chroma (…, 12) with the keys, (…, 24): −1 to 1, 0 where there is no chroma."""
    share = (folded + QUIET / 12) / (folded.sum(axis=-1, keepdims=True) + QUIET)
    away = share - 1 / 12
    return np.asarray(away @ profiles().T / np.sqrt((away**2).sum(axis=-1, keepdims=True) + FLAT**2))


def minorness_and_stability(folded: Floats, *, frame_rate: float) -> tuple[Floats, Floats]:
    """Measure mode and tonal stability.

    Parameters
    ----------
    folded : ndarray, shape (…, n_frames, 12)
        Chroma.
    frame_rate : float
        In hertz.

    Returns
    -------
    minorness, stability : ndarray, shape (…)
        About −0.3 to 0.3, high for minor; about 0.2 to 0.9, high for one clear key.
    """
    heard = windows(folded.shape[-2], WINDOW * frame_rate) @ folded  # (…, n_windows, 12)
    strengths = key_strengths(heard)
    loudness = heard.sum(axis=-1) + QUIET
    weights = loudness / loudness.sum(axis=-1, keepdims=True)  # (…, n_windows)
    mode = _soft_maximum(strengths[..., 12:]) - _soft_maximum(strengths[..., :12])
    mean = (weights[..., None] * strengths).sum(axis=-2)  # (…, 24)
    belief = np.exp(SHARPNESS * mean)
    belief /= belief.sum(axis=-1, keepdims=True)
    return (weights * mode).sum(axis=-1), (belief * mean).sum(axis=-1)


def _soft_maximum(strengths: Floats) -> Floats:
    return np.asarray(np.log(np.exp(SHARPNESS * strengths).sum(axis=-1)) / SHARPNESS)
