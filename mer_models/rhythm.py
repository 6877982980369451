"""Rhythm: how steady a pulse is, and how hard its pattern.

Both start from the levels of 24 mel bands in decibels above a floor, 86 times a second, smoothed over 17 ms. *Onset
strength* is what they rise in 35 ms, averaged over the bands (spectral flux; Bello et al., 2005). A rise saturates, by
10·tanh(rise / 10 dB): music that begins out of nothing rises by 60 dB, and one such jump would outweigh all beats.

*Rhythmic stability* is the pulse clarity of Lartillot, Eerola, Toiviainen and Fornari (2008, "Multi-feature modeling of
pulse clarity"), in its plainest form: the maximum of the autocorrelation r of the onset strength between 40 and 222
beats a minute, relative to r at lag zero. The maximum is soft, so that no tempo is chosen:

    ln(mean over lags of exp(20 · r(lag) / (r(0) + ε))) / 20

A march repeats itself after each beat; rubato moves the peaks apart.

*Rhythmic complexity* is activity times irregularity. Activity: log10(1 + onset strength in dB a second). Irregularity:
the entropy, in parts of the greatest possible, of the fluctuation spectrum (Pampalk, Rauber and Merkl, 2002,
"Content-based organization and visualization of music archives"): the power spectrum of each band's level in windows of
six seconds, from 0.4 to 10 Hz, weighted by the ear's sensitivity to fluctuations 1 / (f/4 + 4/f) (Fastl, 1982), summed
over bands. One plain beat puts everything into its harmonics; several layers at different speeds,
syncopation and irregularity fill what lies between. The product is ours: entropy alone is highest for a sustained sound
whose faint fluctuations have no order, which nobody calls a complex rhythm.

Shapes: band energies (…, n_frames, n_bands); results (…). Silence has 0 in both.
"""

from __future__ import annotations

import numpy as np

from otoscope.adapters.model import Floats
from otoscope.mer_models.articulation import FLOOR, moving_mean

SMOOTH = 1.5  # frames, standard deviation
RISE = 3  # frames
STEEP = 10.0  # decibels: how far a rise counts
TREND = 2.0  # seconds: slower changes of the onset strength are no pulse
BLUR = 2.0  # frames: two onsets this far apart are as good as together
LAGS = (0.27, 1.5)  # seconds: 222 to 40 beats a minute
SHARPNESS = 20.0
FAINT = 0.01  # ε, in dB²
WINDOW = 6.0  # seconds
FLUCTUATIONS = (0.4, 10.0)  # hertz
NOTHING = 0.1  # fluctuation power below which there is no order to be found, in dB² · frames


def levels(bands: Floats) -> Floats:
    """Band energies (…, n_frames, n_bands), re a sine at full scale, in decibels above the floor."""
    return np.asarray(10 * np.log10(bands / FLOOR + 1))


def onset_strength(decibels: Floats) -> Floats:
    """Mean rise of levels (…, n_frames, n_bands) in the last `RISE` frames, in decibels: (…, n_frames − RISE)."""
    from scipy.ndimage import gaussian_filter1d

    smooth = gaussian_filter1d(decibels, SMOOTH, axis=-2, mode="nearest")
    rise = np.maximum(smooth[..., RISE:, :] - smooth[..., :-RISE, :], 0)
    return np.asarray((STEEP * np.tanh(rise / STEEP)).mean(axis=-1))


def autocorrelation(x: Floats) -> Floats:
    """Mean product of x (…, n) with itself at each lag, (…, n); lags beyond half of it are shrunk, not blown up."""
    from scipy.fft import irfft, next_fast_len, rfft

    n = x.shape[-1]
    size = next_fast_len(2 * n, real=True)
    spectrum = rfft(x, size)
    products = irfft(spectrum.real**2 + spectrum.imag**2, size)[..., :n]
    return np.asarray(products / np.maximum(n - np.arange(n), n / 2))


def rhythmic_stability(strength: Floats, *, frame_rate: float) -> Floats:
    """Pulse clarity of an onset strength (…, n_frames), in decibels: (…), about 0 to 0.9, high for a march."""
    from scipy.ndimage import gaussian_filter1d

    around = moving_mean(strength[..., None], round(TREND * frame_rate))[..., 0]
    pulses = gaussian_filter1d(strength - around, BLUR, axis=-1, mode="nearest")
    r = autocorrelation(pulses)
    first, last = (round(lag * frame_rate) for lag in LAGS)
    clarity = r[..., first : last + 1] / (r[..., :1] + FAINT)
    return np.asarray(np.log(np.exp(SHARPNESS * clarity).mean(axis=-1)) / SHARPNESS)


def fluctuation(decibels: Floats, *, frame_rate: float) -> Floats:
    """Weighted fluctuation spectrum of levels (…, n_frames, n_bands), summed over bands: (…, n_frequencies)."""
    from scipy.fft import rfft

    length = round(WINDOW * frame_rate)
    n = decibels.shape[-2]
    frequencies = np.arange(length // 2 + 1) * (frame_rate / length)
    chosen = (frequencies >= FLUCTUATIONS[0]) & (frequencies <= FLUCTUATIONS[1])
    window = np.hanning(min(length, n) + 2)[1:-1]
    n_windows = 1 + int(np.ceil(max(0, n - length) / (length / 2)))
    total = np.zeros((*decibels.shape[:-2], np.count_nonzero(chosen)))
    rest = decibels - decibels.mean(axis=-2, keepdims=True)
    for start in np.round(np.linspace(0, max(0, n - length), n_windows)).astype(int):
        spectrum = rfft(rest[..., start : start + length, :] * window[:, None], length, axis=-2)[..., chosen, :]
        total += (spectrum.real**2 + spectrum.imag**2).sum(axis=-1)
    f = frequencies[chosen]
    return np.asarray(total / n_windows / (window**2).sum() / (f / 4 + 4 / f))


def rhythmic_complexity(decibels: Floats, strength: Floats, *, frame_rate: float) -> Floats:
    """Measure levels (…, n_frames, n_bands) and their onset strength (…, n_frames): (…), about 0.7 to 1.6.

    Both in decibels; high for much irregular activity.
    """
    from scipy.special import entr

    activity = np.log10(1 + strength.mean(axis=-1) * frame_rate / RISE)
    power = fluctuation(decibels, frame_rate=frame_rate) + NOTHING
    share = power / power.sum(axis=-1, keepdims=True)
    return np.asarray(activity * entr(share).sum(axis=-1) / np.log(power.shape[-1]))
