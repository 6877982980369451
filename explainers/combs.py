"""Harmonic parts: pitch classes, combs of partials, single notes.

A comb is the set of bins around the partials h·f0 of a pitch class (or of one note). Combs overlap, since the
third partial of C is a G; so the parts are *atoms*, the bins claimed by the same set of combs, and each comb is a row
of `Parts.groups`. Where one switch per bin is needed (LIME), the disjoint variant gives each bin to its nearest pitch
class. What no comb claims is the remainder.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.pitch import C0, PITCH_CLASSES, comb, note_frequency, partials
from otoscope.explainers.parts import Bools, Parts

HALF_WIDTH = 50.0
N_HARMONICS = 8
OCTAVES = (1, 8)


def pitch_class_parts(whole: Parts, n_parts: int) -> Parts:
    """Give each bin to its nearest pitch class; bins below C1 are the remainder."""
    if n_parts < 13:
        raise OtoscopeError(
            f"harmonic parts are twelve pitch classes and a remainder; give n_parts of 13 or more, not {n_parts}"
        )
    semitones = np.round(12 * np.log2(np.maximum(whole.stft.frequencies(whole.audio.rate), 1e-9) / C0))
    pitch_class = np.where(semitones >= 12, np.mod(semitones, 12), 12).astype(np.intp)  # (n_bins,)
    present, labels = np.unique(pitch_class, return_inverse=True)
    names = tuple((*PITCH_CLASSES, "remainder")[index] for index in present)
    return whole.with_(labels=np.repeat(labels[:, None], whole.labels.shape[1], axis=1), names=names)


def claims(
    whole: Parts, notes: Sequence[str], half_width: float, n_harmonics: int, octaves: tuple[int, int]
) -> tuple[Bools, tuple[str, ...]]:
    """Which comb claims which bin, (n_combs, n_bins), and the combs' names."""
    frequencies = whole.stft.frequencies(whole.audio.rate)
    if notes:
        teeth = [note_frequency(note) * np.arange(1.0, n_harmonics + 1) for note in notes]
        names = tuple(note.strip() for note in notes)
    else:
        teeth = [partials(pitch_class, octaves=octaves, n_harmonics=n_harmonics) for pitch_class in range(12)]
        names = PITCH_CLASSES
    return np.stack([comb(frequencies, series, half_width=half_width) for series in teeth]), names


def comb_parts(
    whole: Parts,
    *,
    notes: Sequence[str] = (),
    half_width: float = HALF_WIDTH,
    n_harmonics: int = N_HARMONICS,
    octaves: tuple[int, int] = OCTAVES,
) -> Parts:
    """Make atoms and combs.

    Parameters
    ----------
    whole : Parts
        The undivided recording.
    notes : sequence of str
        Single notes such as ``A4``; the twelve pitch classes where empty.
    half_width : float
        Of a tooth, in cents.
    n_harmonics : int
        Partials per note.
    octaves : (int, int)
        First and last octave of the fundamentals of a pitch class.
    """
    if half_width <= 0 or n_harmonics < 1:
        raise OtoscopeError(f"a comb needs half_width > 0 and n_harmonics ≥ 1, got {half_width} and {n_harmonics}")
    claimed, comb_names = claims(whole, notes, half_width, n_harmonics, octaves)
    sets, atom = np.unique(claimed, axis=1, return_inverse=True)  # (n_combs, k), (n_bins,)
    names = tuple(_atom_name(members, comb_names) for members in sets.T)
    labels = np.repeat(atom.ravel()[:, None], whole.labels.shape[1], axis=1)
    return whole.with_(labels=labels, names=names, groups=sets.astype(bool), group_names=comb_names)


def _atom_name(members: Bools, comb_names: tuple[str, ...]) -> str:
    return "+".join(name for name, claimed in zip(comb_names, members, strict=True) if claimed) or "remainder"
