"""What the mid-level networks learn, and on which songs they learn it, are stopped, and are judged.

Chowdhury et al. (2019) do not say how songs were split. The institute's later code deals out Soundtracks' 360 excerpts
288, 36, 36, whatever album they are from; here a tenth of the *songs* each is held out for validation and for test. The
seed of the split is apart from the seed of the weights, so that several runs can share a split.

Shapes: ratings, scaled, (n_clips, 15): the seven features, then the eight emotions; NaN where nobody rated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats
from otoscope.mer_models.corpus import Ints
from otoscope.mer_models.data import Clip
from otoscope.mer_models.descriptors import FEATURES
from otoscope.mer_models.midlevel_layers import Level
from otoscope.mer_models.soundtracks import EMOTIONS

COLUMNS: dict[Level, slice] = {
    "midlevel": slice(0, len(FEATURES)),
    "emotion": slice(len(FEATURES), len(FEATURES) + len(EMOTIONS)),
}
LEAST = 3  # songs to correlate over: two points always lie on a line


@dataclass(frozen=True, eq=False)
class Dealt:
    """Which recordings are learnt from, stopped by, and judged by; each ndarray of int."""

    learnt: Ints
    validation: Ints
    test: Ints


def targets(clips: Sequence[Clip], *, scale: float) -> Floats:
    """Collect ratings, (n_clips, 15): features, then emotions, times `scale`; NaN on a level not rated in full."""
    rows = [[clip.ratings.get(name, np.nan) for name in FEATURES + EMOTIONS] for clip in clips]
    goals = np.array(rows, dtype=np.float64).reshape(len(clips), len(FEATURES + EMOTIONS)) * scale
    for level, columns in COLUMNS.items():
        goals[~rated(goals, [level])[0], columns] = np.nan
    return goals


def rated(goals: Floats, levels: Sequence[Level]) -> npt.NDArray[np.bool_]:
    """Whether recordings are rated in full on each of these levels, (n_levels, n_clips)."""
    return np.stack([np.isfinite(goals[:, COLUMNS[level]]).all(axis=1) for level in levels])


def deal(
    clips: Sequence[Clip], goals: Floats, levels: Sequence[Level], *, validation: float, test: float, seed: int
) -> Dealt:
    """Deal out songs to learning, validation and test.

    Held out are recordings rated on both levels, where there are any, so that all designs are judged on the same ones;
    the others are learnt from, unless another recording of the same song is held out.

    Parameters
    ----------
    clips : sequence of Clip
    goals : ndarray, shape (n_clips, 15)
    levels : sequence of {"midlevel", "emotion"}
        Those of the design.
    validation, test : float
        Shares of the songs.
    seed : int

    Raises
    ------
    OtoscopeError
        If there are too few songs.
    """
    judged, learnable = rated(goals, levels).all(axis=0), rated(goals, levels).any(axis=0)
    if (both := rated(goals, list(COLUMNS)).all(axis=0)).any():
        judged = both
    songs = sorted({clips[index].song for index in np.flatnonzero(judged).tolist()})
    shares = [max(LEAST, round(share * len(songs))) for share in (test, validation)]
    if sum(shares) + LEAST > len(songs):
        raise OtoscopeError(
            f"{len(songs)} songs have all ratings of {' and '.join(levels)}; learning, validation and test need "
            f"{sum(shares) + LEAST} at least: see that all data sets are there"
        )
    drawn = np.random.default_rng(seed).permutation(songs).tolist()
    place = dict.fromkeys(drawn[: sum(shares)], 1) | dict.fromkeys(drawn[: shares[0]], 2)
    of = np.array([place.get(clip.song, 0) for clip in clips])
    return Dealt(
        np.flatnonzero((of == 0) & learnable), np.flatnonzero((of == 1) & judged), np.flatnonzero((of == 2) & judged)
    )
