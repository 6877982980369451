"""A spectrogram of any length, coarse enough to be drawn: for orientation above what is told over time.

It is made block by block at the file's own rate, so an hour needs no more memory than a minute. Each column is the mean
power of all the Hann windows it covers, side by side; rows are log-spaced in hertz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otoscope.adapters.model import Floats
from otoscope.adapters.stream import BLOCK, Recording

N_ROWS, MOST_COLUMNS = 200, 1600
LOW, HIGH = 55.0, 11025.0  # hertz
FLOOR = -70.0  # decibels
WINDOW = 0.093  # seconds, nearly


@dataclass(frozen=True, eq=False)
class Sketch:
    """A spectrogram coarse enough to be drawn.

    Attributes
    ----------
    levels : ndarray, shape (N_ROWS, n_columns)
        From 0 (`FLOOR` below the loudest) to 1; rows log-spaced from `LOW` to `high`.
    high : float
        In hertz.
    """

    levels: Floats
    high: float


def sketch(recording: Recording) -> Sketch:
    """Draw up the spectrogram of a recording, reading it block by block."""
    rate = recording.rate
    n_fft = 2 ** round(np.log2(WINDOW * rate))
    per_column = -(-recording.n_samples // (n_fft * MOST_COLUMNS))
    width = n_fft * per_column
    high = min(HIGH, rate / 2)
    bins = np.round(np.geomspace(min(LOW, high / 2), high, N_ROWS) * n_fft / rate).astype(int)
    columns = []
    for block in recording.blocks(width * max(1, BLOCK * rate // width)):
        frames = np.pad(block, (0, -len(block) % width)).reshape(-1, per_column, n_fft)
        spectra = np.fft.rfft(frames * np.hanning(n_fft))[..., np.minimum(bins, n_fft // 2)]
        columns.append((np.abs(spectra) ** 2).mean(axis=1))  # (n, N_ROWS)
    power = np.concatenate(columns).T
    decibels = 10 * np.log10(np.maximum(power / (float(power.max()) or 1.0), 1e-30))
    return Sketch(1 - np.maximum(decibels, FLOOR) / FLOOR, high)
