"""Pitch: note names, frequencies, and combs of partials.

Notes stand in twelve-tone equal temperament on A4 = 440 Hz. Pitch class 0 is C. A *comb* is the set of bands around
the partials h·f0 (h = 1 … H) of one fundamental or of a whole pitch class in several octaves; the harmonics CNN looks
through combs of mel bands, harmonic occlusion switches off combs of STFT bins. Both are made here.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError

Floats = npt.NDArray[np.float64]

PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
C0 = 440.0 * 2.0 ** (-57 / 12)  # 16.35 Hz


def note_frequency(name: str) -> float:
    """Frequency in hertz of a note such as ``A4``, ``C#3`` or ``Bb2``.

    >>> note_frequency("A4")
    440.0
    """
    match = re.fullmatch(r"([A-Ga-g])([#b]?)(-?\d)", name.strip())
    if not match:
        raise OtoscopeError(f"{name!r} is not a note; write it like A4, C#3 or Bb2")
    letter, accidental, octave = match.groups()
    step = PITCH_CLASSES.index(letter.upper()) + {"#": 1, "b": -1, "": 0}[accidental]
    return float(440.0 * 2.0 ** ((step + 12 * (int(octave) - 4) - 9) / 12))


def note_name(frequency: float) -> str:
    """Nearest note to a frequency in hertz.

    >>> note_name(261.6)
    'C4'
    """
    semitone = round(12 * np.log2(frequency / C0))
    return f"{PITCH_CLASSES[semitone % 12]}{semitone // 12}"


def partials(pitch_class: int, *, octaves: tuple[int, int] = (1, 8), n_harmonics: int = 8) -> Floats:
    """List the partials of every note of one pitch class, in hertz, ascending and without repeats.

    Parameters
    ----------
    pitch_class : int
        0 (C) to 11 (B).
    octaves : (int, int)
        First and last octave of the fundamentals, both included (octave 4 starts at middle C).
    n_harmonics : int
        Partials per note, the fundamental included.

    Returns
    -------
    ndarray, shape (n_partials,)
    """
    octave = np.arange(octaves[0], octaves[1] + 1)
    fundamentals = C0 * 2.0 ** (octave + pitch_class / 12)  # (n_octaves,)
    series = fundamentals[:, None] * np.arange(1, n_harmonics + 1)  # (n_octaves, n_harmonics)
    return np.unique(np.round(series, 6))


def comb(frequencies: Floats, teeth: Floats, *, half_width: float) -> npt.NDArray[np.bool_]:
    """Mark the frequencies that lie within `half_width` cents of a tooth, and the one nearest to each tooth.

    The nearest one is kept because an STFT bin or mel band may be wider than the tooth; a tooth outside the axis marks
    nothing.

    Parameters
    ----------
    frequencies : ndarray, shape (n_frequencies,)
        Ascending, in hertz.
    teeth : ndarray, shape (n_teeth,)
        In hertz.
    half_width : float
        In cents; 0 keeps the nearest frequencies only.

    Returns
    -------
    ndarray of bool, shape (n_frequencies,)
    """
    teeth = teeth[(teeth >= frequencies[0]) & (teeth <= frequencies[-1])]
    marked = np.zeros(len(frequencies), dtype=bool)
    if len(teeth) == 0:
        return marked
    marked[np.abs(frequencies[:, None] - teeth).argmin(axis=0)] = True
    if half_width > 0:
        cents = 1200 * np.abs(np.log2(np.maximum(frequencies, 1e-9)[:, None] / teeth))  # (n_frequencies, n_teeth)
        marked |= (cents <= half_width).any(axis=1)
    return marked
