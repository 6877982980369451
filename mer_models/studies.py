"""Studies: which rows of the benchmark answer which question, and how they are judged.

models     which learner is best? Every contender on the first part of each data set, judged on that part; but for the
           second form of the harmonics CNN, which learns from everything (see transfer).
lengths    how much music does it take? The harmonics CNN with windows of 1.5 to 30 s.
transfer   does it carry over? The harmonics CNN learnt from each part alone and from all, judged on every part; its
           second form, which is shipped, learnt from all.
genres     to music of another kind? On Emotify, with songs held out and with whole genres held out, judged by genre.
listeners  whose emotion is it? On Emotify, judged by what women, men, younger and older listeners said: valence and
           arousal are means over that group alone, thresholds its own medians, and only songs count that `FEWEST` of
           the group have heard. The data set codes gender as 0 and 1, and we keep its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.mer_models import data as datasets
from otoscope.mer_models.benchmark import Row
from otoscope.mer_models.benchmark_table import Line, Said, Truth
from otoscope.mer_models.contenders import CONTENDERS, find_contender
from otoscope.mer_models.data import Clip
from otoscope.mer_models.emotify import GENRES, Judgement

LENGTHS = (1.5, 3.0, 6.0, 12.0, 30.0)
FEWEST = 4  # listeners of a group to a song
_NOWHERE = Path()
EMOTIFY = "emotify"

GROUPS: dict[str, Callable[[Judgement], bool]] = {
    "gender 0": lambda one: one.gender == 0,
    "gender 1": lambda one: one.gender == 1,
    "up to 25 years": lambda one: one.age is not None and one.age <= 25,
    "from 35 years on": lambda one: one.age is not None and one.age >= 35,
}

Listeners = Mapping[str, Sequence[Judgement]]  # Emotify's tracks → who heard them


@dataclass(frozen=True)
class Study:
    """A question.

    Attributes
    ----------
    summary : str
    rows : callable
        From parts and contenders to what must be learnt.
    lines : callable
        From rows, parts and Emotify's listeners to what is to be told.
    """

    summary: str
    rows: Callable[[tuple[str, ...], Sequence[str]], list[Row]]
    lines: Callable[[Sequence[Row], tuple[str, ...], Listeners], list[Line]]


def _models(parts: tuple[str, ...], contenders: Sequence[str]) -> list[Row]:
    first = {part.split("/")[0]: part for part in reversed(parts)}
    return [Row(name, (part,)) for part in parts if part in first.values() for name in contenders]


def _own(rows: Sequence[Row], _: tuple[str, ...], __: Listeners) -> list[Line]:
    """Judge every row on what it was learnt from."""
    return [Line(row, row.trained_on[0]) for row in rows]


def _lengths(parts: tuple[str, ...], _: Sequence[str]) -> list[Row]:
    rendered = [part for part in parts if part != EMOTIFY] or list(parts)
    return [Row("harmonics", (rendered[0],), seconds=seconds) for seconds in LENGTHS]


def _transfer(parts: tuple[str, ...], _: Sequence[str]) -> list[Row]:
    if len(parts) < 2:
        raise OtoscopeError("transfer needs two data sets or sound fonts; add one to --data, or another --font")
    rows = [Row("harmonics", chosen) for chosen in dict.fromkeys([*((part,) for part in parts), parts])]
    return [*rows, Row("harmonics_2", parts)]


def _everywhere(rows: Sequence[Row], parts: tuple[str, ...], _: Listeners) -> list[Line]:
    return [Line(row, part) for row in rows for part in parts]


def _genres(parts: tuple[str, ...], _: Sequence[str]) -> list[Row]:
    _need_emotify(parts)
    return [Row(name, (EMOTIFY,), held_out=kind) for name in ("harmonics", "svm") for kind in ("songs", "genres")]


def _by_genre(rows: Sequence[Row], _: tuple[str, ...], __: Listeners) -> list[Line]:
    return [Line(row, EMOTIFY, genre, _of_genre(genre)) for row in rows for genre in GENRES]


def _of_genre(genre: str) -> Truth:
    return lambda said: said["quadrant"] if said["genre"] == genre else None


def _listeners(parts: tuple[str, ...], _: Sequence[str]) -> list[Row]:
    _need_emotify(parts)
    return [Row(name, (EMOTIFY,)) for name in ("harmonics", "svm")]


def _by_listener(rows: Sequence[Row], _: tuple[str, ...], listeners: Listeners) -> list[Line]:
    views = {name: heard_by(listeners, belongs) for name, belongs in GROUPS.items()}
    return [Line(row, EMOTIFY, name, truth) for row in rows for name, truth in views.items()]


def heard_by(listeners: Listeners, belongs: Callable[[Judgement], bool], *, fewest: int = FEWEST) -> Truth:
    """Make the truth of some listeners: quadrants by the medians of this group's own means.

    Parameters
    ----------
    listeners : mapping of str to sequence of Judgement
        Emotify's tracks.
    belongs : callable
        Whether a listener is in the group.
    fewest : int
        Songs that fewer of them have heard do not count.
    """
    clips = []
    for track, heard in listeners.items():
        own = [(one.valence, one.arousal) for one in heard if belongs(one)]
        if len(own) >= fewest:
            valence, arousal = np.mean(own, axis=0).tolist()
            clips.append(Clip(track, _NOWHERE, track, EMOTIFY, valence=valence, arousal=arousal))
    known = {clip.name: clip.quadrant for clip in datasets.with_quadrants(clips, datasets.medians(clips))}

    def truth(said: Said) -> int | None:
        return known.get(said["name"])

    return truth


def _need_emotify(parts: tuple[str, ...]) -> None:
    if EMOTIFY not in parts:
        raise OtoscopeError("this study needs Emotify, whose songs have genres and whose listeners are known")


STUDIES: dict[str, Study] = {
    "models": Study("the harmonics CNN, its rivals, its ablations, hand-crafted features", _models, _own),
    "lengths": Study("windows of 1.5 to 30 s", _lengths, _own),
    "transfer": Study("learnt on one data set or sound font, judged on the others", _transfer, _everywhere),
    "genres": Study("songs or whole genres held out (Emotify), judged by genre", _genres, _by_genre),
    "listeners": Study("judged by groups of listeners (Emotify)", _listeners, _by_listener),
}


def find_study(name: str) -> Study:
    """Find a study by name."""
    if name not in STUDIES:
        raise unknown("study", name, tuple(STUDIES))
    return STUDIES[name]


def rows_of(name: str, parts: tuple[str, ...], contenders: Sequence[str] = ()) -> list[Row]:
    """List the rows of a study; of `models` those of some contenders, all where none is named."""
    for contender in contenders:
        find_contender(contender)
    usual = tuple(one for one in CONTENDERS if one != "harmonics_2")
    return find_study(name).rows(parts, tuple(contenders) or usual)
