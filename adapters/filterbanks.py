"""Filterbanks: bins of a spectrum summed into bands, by triangles between neighbouring corners.

Mel bands come in three dialects: ``slaney`` (librosa's default), ``htk`` (2595 log10(1 + f/700), also torchaudio's and
TensorFlow's default) and ``kaldi`` (HTK's corners with triangles that are straight in mel rather than in hertz).
Log-frequency bands are madmom's. Shapes: (n_bands, n_bins), bands from low to high, frequencies in hertz.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from otoscope.adapters.compiled import load_librosa
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.spectra import Float32, Floats, Stft

MelScale = Literal["slaney", "htk", "kaldi"]


def triangles(corners: Floats, frequencies: Floats, *, norm: Literal["slaney"] | None = "slaney") -> Float32:
    """Triangular filters between neighbouring corners, the way every filterbank here is made.

    Filter b rises from corner b to corner b + 1 and falls to corner b + 2.

    Parameters
    ----------
    corners : ndarray, shape (n_bands + 2,)
        Ascending, in hertz.
    frequencies : ndarray, shape (n_bins,)
        Bin centres in hertz.
    norm : "slaney" or None
        Divide each filter by half its width in hertz, so that white noise gives equal bands.

    Returns
    -------
    ndarray of float32, shape (n_bands, n_bins)
    """
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising = (frequencies - left) / np.maximum(centre - left, 1e-12)  # (n_bands, n_bins)
    falling = (right - frequencies) / np.maximum(right - centre, 1e-12)
    weights = np.maximum(0, np.minimum(rising, falling))
    if norm == "slaney":
        weights *= 2 / (right - left)
    return weights.astype(np.float32)


def mel_filterbank(
    rate: int,
    n_fft: int,
    *,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    scale: MelScale = "slaney",
    norm: Literal["slaney"] | None = "slaney",
) -> tuple[Float32, Floats]:
    """Make mel filters; by default librosa's.

    Returns
    -------
    filterbank : ndarray, shape (n_mels, n_bins)
    centres : ndarray, shape (n_mels,)
        In hertz.
    """
    librosa = load_librosa()
    corners = librosa.mel_frequencies(n_mels + 2, fmin=fmin, fmax=fmax or rate / 2, htk=scale != "slaney")
    frequencies = Stft(n_fft, n_fft).frequencies(rate)
    if scale == "kaldi":
        mels = librosa.hz_to_mel(corners, htk=True), librosa.hz_to_mel(frequencies, htk=True)
        filters = triangles(*mels, norm=None)
        if norm == "slaney":
            filters *= (2 / (corners[2:] - corners[:-2]))[:, None].astype(np.float32)
        return filters, corners[1:-1]
    return triangles(corners, frequencies, norm=norm), corners[1:-1]


def log_filterbank(
    rate: int, n_fft: int, *, bands_per_octave: int = 24, fmin: float = 30.0, fmax: float | None = None
) -> tuple[Float32, Floats]:
    """Make area-normalised triangles at equal distances in pitch, snapped to FFT bins.

    Corners lie on the equal-tempered grid through 440 Hz; those that fall on the same bin count once, so low bands are
    one bin apart rather than empty, and those above the Nyquist frequency close the last band (the design of Böck et
    al., madmom, 2016; the snapping explains why 24 bands per octave become 149 bands in Chowdhury et al., 2019).

    Returns
    -------
    filterbank : ndarray, shape (n_bands, n_bins)
        Each row sums to 1.
    centres : ndarray, shape (n_bands,)
        In hertz.
    """
    first, last = (bands_per_octave * np.log2(np.array([fmin, fmax or rate / 2]) / 440.0)).tolist()
    pitches = 440.0 * 2.0 ** (np.arange(np.ceil(first - 1e-9), np.floor(last + 1e-9) + 1) / bands_per_octave)
    bins = np.unique(np.minimum(np.round(pitches * n_fft / rate), n_fft // 2))
    corners = bins * (rate / n_fft)
    if len(corners) < 3:
        raise OtoscopeError(f"no log-frequency band fits between {fmin:g} and {fmax:g} Hz with n_fft={n_fft}")
    filterbank = triangles(corners, Stft(n_fft, n_fft).frequencies(rate), norm=None)
    return filterbank / filterbank.sum(axis=1, keepdims=True), corners[1:-1]
