"""Summaries: what many explanations of one class have in common, where and at which pitches, and how it sounds.

Maps of the common grid are scaled to Σ|map| = 1 first, so that every recording counts alike, whatever the units, the
score and the length. They stay signed: what speaks for a class and what speaks against it are kept apart, since they
would cancel in a sum. A map without any attribution (silence, a score that nothing moves) has nothing to say and is
counted, not averaged. Maps come one at a time, so that one of them is in memory, however many there are.

*Pitch classes.* Semitone bands fold into twelve values, C first, but for the two outer bands, which also hold what lies
below and above all notes. Semitones below about 260 Hz are narrower than a usual STFT can tell apart, so the
attribution of low notes spreads to their neighbours.

*Snippets.* The heaviest stretch of a map is the window of 1.5 s with the largest sum of what speaks for the class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.adapters.pitch import C0
from otoscope.adapters.spectra import Floats
from otoscope.explainers import grid
from otoscope.explainers.agreement import scaled
from otoscope.explainers.figure import AGAINST, FLOOR, FOR

SNIPPET, FADE = 1.5, 0.01  # seconds
WINDOW = 0.09  # seconds, about what a spectrum of a thumbnail looks at
THUMBNAIL = (90, 240)  # rows, columns
FULL_COLOUR = 0.98  # of the cells with attribution have less than what gets full colour


@dataclass(frozen=True, eq=False)
class Summary:
    """What several maps have in common.

    Attributes
    ----------
    n : int
        Maps with any attribution; all else is over these.
    n_empty : int
        Maps without.
    n_aligned : int
        Maps as long as `mean`.
    profile : ndarray, shape (2, 108)
        Mean share of the attribution in each band: what speaks for (not negative), what against (not positive).
    mean : ndarray, shape (108, n_columns), or None
        Mean of the scaled maps, from the start of their spans; None where fewer than half of them are equally long.
    """

    n: int
    n_empty: int
    n_aligned: int
    profile: Floats
    mean: Floats | None

    @property
    def pitch_classes(self) -> Floats:
        """The profile folded into pitch classes, C first, shape (2, 12)."""
        return fold(self.profile)


def summarise(maps: Iterable[Floats], n_columns: int) -> Summary:
    """Sum up maps of one class, which are taken one at a time.

    Parameters
    ----------
    maps : iterable of ndarray, each of shape (108, n_columns of its own)
        On the common grid, signed, in any units.
    n_columns : int
        Of the mean map; see `usual_columns`.

    Examples
    --------
    >>> loud, quiet = np.zeros((108, 20)), np.zeros((108, 20))
    >>> loud[45, 3], quiet[45, 3] = 50.0, -0.1
    >>> both = summarise([loud, quiet], 20)
    >>> both.profile[:, 45].tolist(), float(both.mean[45, 3])
    ([0.5, -0.5], 0.0)
    """
    n = n_empty = n_aligned = 0
    profile, total = np.zeros((2, grid.N_BANDS)), np.zeros((grid.N_BANDS, n_columns))
    for one in maps:
        if not one.any():
            n_empty += 1
            continue
        share = scaled(one)
        n += 1
        profile += by_band(share)
        if share.shape[1] == n_columns:
            n_aligned += 1
            total += share
    mean = total / n_aligned if 2 * n_aligned > n else None
    return Summary(n, n_empty, n_aligned, profile / max(n, 1), mean)


def usual_columns(durations: Iterable[float]) -> int:
    """Find the commonest number of the grid's columns among spans (in seconds); the longer where two are as common."""
    counts = Counter(len(grid.column_edges(duration)) - 1 for duration in durations)
    return max(counts, key=lambda columns: (counts[columns], columns), default=1)


def by_band(one: Floats) -> Floats:
    """Sum a map (108, n_columns) over time: what speaks for and what against, shape (2, 108)."""
    return np.stack([one.clip(min=0).sum(axis=1), one.clip(max=0).sum(axis=1)])


def fold(profile: Floats) -> Floats:
    """Fold bands (…, 108) into pitch classes (…, 12), C first; the two outer bands, which hold no notes, are left out.

    >>> profile = np.zeros(108)
    >>> profile[[0, 45, 57]] = 1  # below all notes, A4, A5
    >>> fold(profile).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]
    """
    inner = profile.copy()
    inner[..., [0, -1]] = 0
    return np.asarray(inner.reshape(*profile.shape[:-1], -1, 12).sum(axis=-2))


@dataclass(frozen=True)
class Stretch:
    """A stretch of a span.

    Attributes
    ----------
    start, duration : float
        In seconds from the start of the span.
    share : float
        Of all that speaks for the class, 0 to 1.
    """

    start: float
    duration: float
    share: float


def heaviest(one: Floats, seconds: float = SNIPPET) -> Stretch | None:
    """Find the stretch with the largest sum of what speaks for the class.

    Parameters
    ----------
    one : ndarray, shape (108, n_columns)
    seconds : float
        Length of the stretch; a shorter span is taken whole.

    Returns
    -------
    Stretch or None
        The first of several as heavy; None where nothing speaks for the class.
    """
    mass = one.clip(min=0).sum(axis=0)
    width = min(max(1, round(seconds / grid.SECONDS)), len(mass))
    within = np.convolve(mass, np.ones(width), mode="valid")
    if not mass.any():
        return None
    first = int(np.argmax(within >= within.max() * (1 - 1e-9)))
    share = min(1.0, float(within[first] / mass.sum()))
    return Stretch(first * grid.SECONDS, width * grid.SECONDS, share)


def faded(samples: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
    """Fade a cut-out in and out over 10 ms, so that it does not click."""
    n = min(round(FADE * rate), len(samples) // 2)
    ramp = np.sin(np.pi / 2 * (np.arange(n) + 0.5) / max(n, 1)).astype(np.float32) ** 2
    sound = np.array(samples, dtype=np.float32)
    sound[:n] *= ramp
    sound[len(sound) - n :] *= ramp[::-1]
    return sound


def levels(samples: npt.NDArray[np.float32], rate: int, shape: tuple[int, int] = THUMBNAIL) -> tuple[Floats, Floats]:
    """Take a coarse spectrogram: Hann-windowed spectra, evenly spaced, whatever the length.

    Parameters
    ----------
    samples : ndarray, shape (n_samples,)
    rate : int
        In hertz.
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    loudness : ndarray, shape (n_rows, n_columns)
        From 0 (80 dB below the loudest, and in silence) to 1; low frequencies first.
    frequencies : ndarray, shape (n_rows,)
        In hertz, log-spaced from C1 to the Nyquist frequency.
    """
    n_fft = 2 ** max(4, round(np.log2(WINDOW * rate)))
    padded = np.pad(samples, n_fft // 2)
    firsts = ((np.arange(shape[1]) + 0.5) / shape[1] * len(samples)).astype(int)
    frames = padded[firsts[:, None] + np.arange(n_fft)] * np.hanning(n_fft)  # (n_columns, n_fft)
    power = np.abs(np.fft.rfft(frames)) ** 2
    frequencies = np.geomspace(2 * C0, rate / 2, shape[0])
    rows = power[:, np.round(frequencies / rate * n_fft).astype(int)].T  # (n_rows, n_columns)
    loudest = float(rows.max())
    decibels = 10 * np.log10(np.maximum(rows / (loudest or 1.0), 1e-30))
    return np.asarray(1 - np.maximum(decibels, FLOOR) / FLOOR), np.asarray(frequencies)


def strength(one: Floats) -> Floats:
    """Scale a map to −1 … 1 for colours; the few strongest cells are cut off, so that the others are seen."""
    sizes = np.abs(one[one != 0])
    return np.asarray(np.clip(one / np.quantile(sizes, FULL_COLOUR), -1, 1)) if sizes.size else np.zeros_like(one)


def thumbnail(samples: npt.NDArray[np.float32], rate: int, one: Floats) -> Floats:
    """Draw what sounds in grey, tinted red where it speaks for the target and blue where against.

    Parameters
    ----------
    samples : ndarray, shape (n_samples,)
        The explained span.
    rate : int
        In hertz.
    one : ndarray, shape (108, n_columns)
        Its map.

    Returns
    -------
    ndarray, shape (n_rows, n_columns, 3)
        Colours from 0 to 1, the highest frequency on top.
    """
    loud, frequencies = levels(samples, rate)
    bands = np.searchsorted(grid.band_edges()[1:-1], frequencies)
    times = (np.arange(loud.shape[1]) + 0.5) / loud.shape[1] * len(samples) / rate
    columns = np.minimum((times / grid.SECONDS).astype(int), one.shape[1] - 1)
    cells = strength(one)[bands][:, columns, None]
    share, grey = np.abs(cells) ** 0.7, 1 - 0.75 * loud[..., None]
    hue = np.where(cells > 0, FOR, AGAINST)
    return np.asarray((1 - share) * grey + share * (0.25 * grey + 0.75 * hue))[::-1]


def painted(one: Floats, most_columns: int = 240) -> Floats:
    """Paint a map by itself: red for, blue against, clear where there is nothing.

    Parameters
    ----------
    one : ndarray, shape (108, n_columns)
    most_columns : int
        Columns of longer maps are averaged.

    Returns
    -------
    ndarray, shape (108, at most `most_columns`, 4)
        Red, green, blue, opacity from 0 to 1; the highest frequency on top.
    """
    if one.shape[1] > most_columns:
        even = np.arange(most_columns + 1) / most_columns * one.shape[1]
        one = one @ grid.overlap(np.arange(one.shape[1] + 1.0), even).T
    cells = strength(one)[::-1, :, None]
    return np.concatenate([np.where(cells > 0, FOR, AGAINST), np.abs(cells) ** 0.7], axis=2)
