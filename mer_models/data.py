"""Recordings and what people heard in them: the one table that all data sets become.

A row is a `Clip`: a recording, the song it is of, and whatever people said about it: a quadrant of valence and arousal,
valence and arousal themselves, other ratings, and how many listeners said so. What changes while the music plays is a
`Course`. One reader per data set makes clips of the folder that its authors distribute; `otoscope.mer_models.datasets`
names them all.

Valence and arousal stay on the scale of their data set, and few of these have a zero of their own, so a quadrant needs
thresholds, one pair per data set. `medians` takes them from the clips it is given (those of training, never those held
out) and `with_quadrants` applies them. Quadrants are counted from 0 here, in the order of `harmonics.LABELS`: Q1 is 0
(positive valence, high arousal), Q2 1 (V−A+), Q3 2 (V−A−), Q4 3 (V+A−).

`folds` deals out whole songs, so neither two clips of a song nor its two renderings are ever on both sides.
`write_table` writes the table down.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats
from otoscope.adapters.whole_file import whole_file

COLUMNS = ("recording", "song", "dataset", "font", "genre", "valence", "arousal", "quadrant", "listeners", "fold")

Thresholds = Mapping[str, tuple[float, float]]  # data set → valence and arousal above which they count as high


@dataclass(frozen=True)
class Clip:
    """One recording and what people heard in it.

    Attributes
    ----------
    name : str
        Unique within its data set, but for several renderings of one score.
    path : Path
    song : str
        Clips of one song must never be separated; begins with the name of a data set.
    dataset : str
        A name in `otoscope.mer_models.datasets.READERS`.
    font : str
        Of a rendering; "" for a recording.
    quadrant : int, optional
        0 (V+A+), 1 (V−A+), 2 (V−A−) or 3 (V+A−).
    valence, arousal : float, optional
        On the scale of the data set.
    listeners : int, optional
        How many people the ratings come from, where the data set tells.
    genre : str
        "" where the data set tells none.
    ratings : mapping of str to float
        Whatever else people rated, on the scale that the reader of the data set names.
    """

    name: str
    path: Path
    song: str
    dataset: str
    font: str = ""
    quadrant: int | None = None
    valence: float | None = None
    arousal: float | None = None
    listeners: int | None = None
    genre: str = ""
    ratings: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, eq=False)
class Course:
    """How valence and arousal changed while a recording played.

    Attributes
    ----------
    times : ndarray, shape (n_points,)
        In seconds from the start of the recording, ascending.
    valence, arousal : ndarray, shape (n_points,)
        On the scale of the data set.
    """

    times: Floats
    valence: Floats
    arousal: Floats


def medians(clips: Sequence[Clip]) -> dict[str, tuple[float, float]]:
    """Median valence and arousal of each data set among the clips that have them."""
    known: dict[str, list[tuple[float, float]]] = {}
    for clip in clips:
        if clip.valence is not None and clip.arousal is not None:
            known.setdefault(clip.dataset, []).append((clip.valence, clip.arousal))
    middles = {dataset: np.median(np.array(pairs), axis=0).tolist() for dataset, pairs in known.items()}
    return {dataset: (valence, arousal) for dataset, (valence, arousal) in middles.items()}


def with_quadrants(clips: Sequence[Clip], thresholds: Thresholds | tuple[float, float]) -> tuple[Clip, ...]:
    """Give clips with valence and arousal their quadrant: high is above the threshold.

    Parameters
    ----------
    clips : sequence of Clip
        Those without valence and arousal stay as they are.
    thresholds : mapping of str to (float, float), or (float, float)
        Valence and arousal, for each data set as `medians` gives them, or one pair for all.

    Raises
    ------
    OtoscopeError
        If a data set has no thresholds.
    """
    told = []
    for clip in clips:
        if clip.valence is None or clip.arousal is None:
            told.append(clip)
            continue
        middle = thresholds if isinstance(thresholds, tuple) else thresholds.get(clip.dataset)
        if middle is None:
            raise OtoscopeError(f"{clip.dataset}: has no thresholds; give a pair, or the medians of some of its clips")
        positive, excited = clip.valence > middle[0], clip.arousal > middle[1]
        told.append(replace(clip, quadrant=(0 if positive else 1) if excited else (3 if positive else 2)))
    return tuple(told)


def known_quadrant(clip: Clip) -> int:
    """Quadrant of a clip that must have one."""
    if clip.quadrant is None:
        raise OtoscopeError(f"{clip.name}: has no quadrant; give it one with thresholds first")
    return clip.quadrant


def folds(clips: Sequence[Clip], *, n_folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Deal out songs to folds so that each fold gets its share of every data set and quadrant.

    Songs are drawn in random order, the longest first; each goes to the fold that so far has the fewest clips of its
    kind, and among these to the smallest.

    Parameters
    ----------
    clips : sequence of Clip
        Those without a quadrant are one more kind.
    n_folds, seed : int

    Returns
    -------
    ndarray of int, shape (n_clips,)
        The fold of each clip; clips of one song share it, and no fold is empty.

    Raises
    ------
    OtoscopeError
        If there are fewer songs than folds.
    """
    songs: dict[str, Counter[tuple[str, int | None]]] = {}
    for clip in clips:
        songs.setdefault(clip.song, Counter())[clip.dataset, clip.quadrant] += 1
    if not 2 <= n_folds <= len(songs):
        raise OtoscopeError(f"{len(songs)} songs cannot be dealt out to {n_folds} folds; take 2 to {len(songs)}")
    names = np.random.default_rng(seed).permutation(sorted(songs)).tolist()
    dealt: list[Counter[tuple[str, int | None]]] = [Counter() for _ in range(n_folds)]
    fold_of: dict[str, int] = {}
    for name in sorted(names, key=lambda name: -songs[name].total()):  # stable: random among equals
        kind = songs[name].most_common(1)[0][0]
        fold_of[name] = min(range(n_folds), key=lambda fold: (dealt[fold][kind], dealt[fold].total()))
        dealt[fold_of[name]].update(songs[name])
    return np.array([fold_of[clip.song] for clip in clips])


def write_table(clips: Sequence[Clip], fold_of: npt.ArrayLike, path: str | Path) -> None:
    """Write clips as CSV, one row each, whole or not at all.

    Parameters
    ----------
    clips : sequence of Clip
    fold_of : array_like of int, shape (n_clips,)
        As `folds` gives it.
    path : str or Path
        Gets the columns `COLUMNS`: recordings by name and not by path, so that the same data give the same bytes
        everywhere; quadrants as Q1 to Q4; nothing where nothing is known.

    Raises
    ------
    OtoscopeError
        If there is not one fold per clip, or the file cannot be written.
    """
    dealt = np.asarray(fold_of).tolist()
    if len(dealt) != len(clips):
        raise OtoscopeError(f"{len(clips)} clips have {len(dealt)} folds; give one for each")
    path = Path(path)
    try:
        with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_row(clip, fold) for clip, fold in zip(clips, dealt, strict=True))
    except OSError as error:
        raise OtoscopeError(f"{path}: cannot be written ({error.strerror}); name another place") from None


def _row(clip: Clip, fold: int) -> tuple[object, ...]:
    quadrant = None if clip.quadrant is None else f"Q{clip.quadrant + 1}"
    known = (clip.genre, clip.valence, clip.arousal, quadrant, clip.listeners)
    return (clip.name, clip.song, clip.dataset, clip.font, *known, fold)
