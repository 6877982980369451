"""The common grid: 100 ms × semitone bands, so that any two explanations can be compared.

Twelve semitone-centred bands per octave from C1 (32.7 Hz) through nine octaves; columns of 100 ms. Cells of any other
grid are shared out by their overlap in hertz and in seconds, and the edge bands absorb what lies outside, so sums are
kept: the map of an explanation adds up to its weights.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.adapters.pitch import C0
from otoscope.adapters.spectra import Floats

SECONDS = 0.1
N_BANDS = 108


def band_centres() -> Floats:
    """Centres of the bands in hertz, shape (108,)."""
    return np.asarray(2 * C0 * 2.0 ** (np.arange(N_BANDS) / 12))


def band_edges() -> Floats:
    """Edges of the bands in hertz, shape (109,); the outer ones reach to 0 and to infinity."""
    edges = 2 * C0 * 2.0 ** ((np.arange(N_BANDS + 1) - 0.5) / 12)
    edges[0], edges[-1] = 0.0, np.inf
    return np.asarray(edges)


def column_edges(duration: float) -> Floats:
    """Edges of the columns in seconds, shape (n_columns + 1,); the last may be shorter, or up to 1 ms longer.

    A sample more or less, as resampling gives, makes no column of its own: models of all rates share one grid.
    """
    n_columns = max(1, int(np.ceil(duration / SECONDS - 0.01)))
    edges = np.arange(n_columns + 1) * SECONDS
    edges[-1] = duration
    return np.asarray(edges)


def heard(rate: int) -> npt.NDArray[np.bool_]:
    """Which bands lie below a model's Nyquist frequency, shape (108,)."""
    return band_centres() < rate / 2


def overlap(source: Floats, destination: Floats) -> Floats:
    """Share of each source cell that lies in each destination cell, shape (n_destination, n_source).

    What lies outside the destination counts to its outer cells, so every column adds up to 1.

    Parameters
    ----------
    source, destination : ndarray, shape (n + 1,)
        Ascending edges.
    """
    destination = destination.copy()
    destination[0], destination[-1] = min(source[0], destination[0]), max(source[-1], destination[-1])
    low = np.maximum(source[:-1], destination[:-1, None])
    high = np.minimum(source[1:], destination[1:, None])
    width = np.maximum(source[1:] - source[:-1], 1e-12)
    shares = np.maximum(0, high - low) / width
    return np.asarray(shares / np.maximum(shares.sum(axis=0), 1e-12))


def bin_edges(n_bins: int, width: float) -> Floats:
    """Edges of STFT bins that are `width` hertz apart, shape (n_bins + 1,)."""
    return np.clip((np.arange(n_bins + 1) - 0.5) * width, 0, (n_bins - 1) * width)


def frame_edges(n_frames: int, step: float, duration: float) -> Floats:
    """Edges in seconds of centred STFT frames that are `step` seconds apart, shape (n_frames + 1,)."""
    edges = np.clip((np.arange(n_frames + 1) - 0.5) * step, 0, duration)
    edges[-1] = max(duration, edges[-2])
    return np.asarray(edges)


def lay(cells: Floats, frequency_edges: Floats, time_edges: Floats, duration: float) -> Floats:
    """Lay a map on the common grid.

    Parameters
    ----------
    cells : ndarray, shape (n_rows, n_frames)
        Attribution (or energy) per cell.
    frequency_edges : ndarray, shape (n_rows + 1,)
        In hertz.
    time_edges : ndarray, shape (n_frames + 1,)
        In seconds.
    duration : float
        Of the span, in seconds.

    Returns
    -------
    ndarray, shape (108, n_columns)
        With the same sum.
    """
    up = overlap(frequency_edges, band_edges())
    along = overlap(time_edges, column_edges(duration))
    return np.asarray(up @ cells @ along.T)
