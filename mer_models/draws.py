"""What an epoch hears, and what it is told: which pieces are drawn how often, and how much each belongs to a quadrant.

The renderings of one score are one piece, of which each draw takes one at random. Of a data set whose quadrants are
unequal, each can be drawn equally often. Where the listeners' mean ratings are known, a clip can belong to the
quadrants in parts: one that lies on a threshold is half a clip of each side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from otoscope.mer_models.corpus import Ints
from otoscope.mer_models.data import Clip, known_quadrant, medians
from otoscope.mer_models.harmonics import LABELS

DRAWS = 3  # of a data set that a mapping does not name


def pieces(clips: Sequence[Clip], chosen: Ints) -> list[list[int]]:
    """Group the chosen clips by piece: the renderings of one score stand together."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index in chosen.tolist():
        groups.setdefault((clips[index].dataset, clips[index].name), []).append(index)
    return list(groups.values())


def drawn(
    clips: Sequence[Clip],
    groups: Sequence[Sequence[int]],
    draws: int | Mapping[str, int],
    rng: np.random.Generator,
    *,
    even: bool,
) -> Ints:
    """Draw the pieces of an epoch, shuffled; as many in every epoch.

    Parameters
    ----------
    clips : sequence of Clip
    groups : sequence of sequences of int
        The clips of each piece.
    draws : int, or mapping of str to int
        Per piece: of all data sets, or of each by its name.
    rng : numpy.random.Generator
    even : bool
        Whether each quadrant of a data set is drawn equally often.

    Returns
    -------
    ndarray of int
        Places in `groups`.
    """
    datasets = np.array([clips[group[0]].dataset for group in groups])
    quadrants = np.array([known_quadrant(clips[group[0]]) for group in groups])
    if not even and isinstance(draws, int):
        return np.concatenate([rng.permutation(len(groups)) for _ in range(draws)])
    parts = []
    for dataset in dict.fromkeys(datasets.tolist()):
        members = np.flatnonzero(datasets == dataset)
        each = draws if isinstance(draws, int) else draws.get(dataset, DRAWS)
        own = quadrants[members] if even else np.zeros(len(members), dtype=np.int64)
        parts.append(members[balanced(own, each, rng)])
    return np.asarray(rng.permutation(np.concatenate(parts)))


def balanced(kinds: Ints, draws: int, rng: np.random.Generator) -> Ints:
    """Draw from `kinds` (n,) as places in it, draws · n in all, every kind that occurs equally often.

    A piece is drawn as often as its share asks for, rounded up or down at random (systematic sampling in random order),
    so that none is left to luck and every epoch is equally long.
    """
    share = 1 / np.bincount(kinds)[kinds]
    wanted = share / share.sum() * draws * len(kinds)
    order = rng.permutation(len(kinds))
    marks = np.floor(np.cumsum(wanted[order]) + rng.random() - 1e-9)
    times = np.diff(marks, prepend=0.0).astype(np.int64)
    times[0] += draws * len(kinds) - times.sum()
    return np.repeat(order, np.maximum(times, 0))


def targets(clips: Sequence[Clip], chosen: Ints, softness: float) -> list[torch.Tensor]:
    """Quadrants of the chosen clips, or, with some softness, the parts (4,) of each that belong to the quadrants."""
    quadrants = [known_quadrant(clips[index]) for index in chosen.tolist()]
    if softness == 0:
        return list(torch.tensor(quadrants))
    middles = medians([clips[index] for index in chosen.tolist()])
    found = []
    for index, quadrant in zip(chosen.tolist(), quadrants, strict=True):
        clip = clips[index]
        if clip.valence is None or clip.arousal is None:
            found.append(torch.eye(len(LABELS))[quadrant])
        else:
            found.append(torch.tensor(soft_target(clip.valence, clip.arousal, middles[clip.dataset], softness)))
    return found


def soft_target(valence: float, arousal: float, thresholds: tuple[float, float], softness: float) -> list[float]:
    """Share a clip out to the four quadrants, given its mean ratings; the shares sum to 1."""
    positive = 1 / (1 + math.exp((thresholds[0] - valence) / softness))
    excited = 1 / (1 + math.exp((thresholds[1] - arousal) / softness))
    return [positive * excited, (1 - positive) * excited, (1 - positive) * (1 - excited), positive * (1 - excited)]
