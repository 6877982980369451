r"""Where the music's emotion resembles that of a given piece: a short course of emotions sought in long ones.

The application of Fong, Kumar and Sudhir (Marketing Science 44(1), 2025): advertisements that come where the music of
the content feels like their own are skipped less and remembered better. The course of the ad, n windows at a common
step, is laid on every place of the content that has room for it and compared there by a measure of
`otoscope.mer_models.likeness`:

    d(i) = measure( ad_0 … ad_{n−1},  content_i … content_{i+n−1} )

The nearest places are chosen one after the other, each of which blocks all that would overlap it (non-maximum
suppression), over all contents together. Distances that agree to 1e-6 are ties, and then the earlier content and the
earlier place win.

Something is always nearest, so the result says what that is worth. *Share* is the part of all places, everywhere in the
contents, that lie at most as far away as a place: for the best it is small by construction. The null corrects for the
choice of a minimum: *stand-ins* as long as the ad are drawn at random from the contents themselves, and each seeks its
own best place in the other contents; where there is only one content, in that, where it does not overlap itself. The
*percentile* is the share of stand-ins that found one at least as near as the ad did: near 0 the ad fits better than
other music of this kind would, about 50 no better, near 100 its "best" is far away. (A stand-in has one content less to
seek in than the ad, which matters where there are few; and one content is most like itself, which is a strict rule.)

Shapes: a course (n_windows, n_classes), or (n_windows, 2) in the plane; a curve of distances (n_places,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats
from otoscope.mer_models.likeness import Distance, Measure
from otoscope.mer_models.timeline import Progress, Timeline, quiet

TOP = 10
N_STAND_INS = 200
DIGITS = 6  # to which distances are told apart
CELLS = 1 << 21  # numbers in memory at once


@dataclass(frozen=True)
class Place:
    """A stretch of a content that resembles the ad.

    Attributes
    ----------
    content : int
        Which content, counted from 0.
    index : int
        Its first window.
    start, end : float
        In seconds.
    distance : float
    share : float
        Part of all places that lie at most as far away, from 0 to 1.
    """

    content: int
    index: int
    start: float
    end: float
    distance: float
    share: float


@dataclass(frozen=True, eq=False)
class Null:
    """What the best distance is worth.

    Attributes
    ----------
    n_places : int
        Places that were compared.
    low, median, high : float
        The 5th, 50th and 95th percentile of all places' distances from the ad.
    stand_ins : ndarray, shape (n,)
        Best distances of stretches drawn at random from the contents, ascending; empty where none has room elsewhere.
    percentile : float, optional
        Of the ad's best distance among those of the stand-ins, from 0 to 100.
    """

    n_places: int
    low: float
    median: float
    high: float
    stand_ins: Floats
    percentile: float | None


@dataclass(frozen=True, eq=False)
class Match:
    """Places that resemble an ad.

    Attributes
    ----------
    places : tuple of Place
        The nearest first; none overlaps another.
    curves : tuple of ndarray, each of shape (n_places,)
        Distance of every place of each content.
    null : Null
    """

    places: tuple[Place, ...]
    curves: tuple[Floats, ...]
    null: Null


def slide(ad: Floats, content: Floats, distance: Distance) -> Floats:
    """Distance between an ad and each place of a content.

    Parameters
    ----------
    ad : ndarray, shape (n, n_classes)
    content : ndarray, shape (m, n_classes)
    distance : callable
        Between courses.

    Returns
    -------
    ndarray, shape (m − n + 1,)
        Rounded to `DIGITS` digits, so that equal places are equal whatever batch their scores came in.

    Raises
    ------
    OtoscopeError
        If the ad is longer than the content.
    """
    if len(ad) > len(content):
        raise OtoscopeError(f"an ad of {len(ad)} windows does not fit into a content of {len(content)}")
    views = np.moveaxis(sliding_window_view(content, len(ad), axis=0), -1, 1)  # (n_places, n, n_classes)
    at_once = max(1, CELLS // ad.size)
    found = [distance(ad[None], views[i : i + at_once]) for i in range(0, len(views), at_once)]
    return np.asarray(np.round(np.concatenate(found), DIGITS) + 0.0)  # no negative zero


def pick(curves: Sequence[Floats], *, apart: int, top: int = TOP) -> list[tuple[int, int]]:
    """Choose the nearest places that do not overlap.

    Parameters
    ----------
    curves : sequence of ndarray, each of shape (n_places,)
        Distances.
    apart : int
        From how many windows on two places of a content do not overlap.
    top : int
        Most places to choose.

    Returns
    -------
    list of (int, int)
        Content and first window, the nearest first; ties in order of content and time.
    """
    content = np.concatenate([np.full(len(curve), number) for number, curve in enumerate(curves)])
    index = np.concatenate([np.arange(len(curve)) for curve in curves])
    free = [np.ones(len(curve), dtype=bool) for curve in curves]
    chosen: list[tuple[int, int]] = []
    for place in np.lexsort((index, content, np.concatenate(curves))):
        number, i = int(content[place]), int(index[place])
        if len(chosen) == top:
            break
        if free[number][i]:
            chosen.append((number, i))
            free[number][max(0, i - apart + 1) : i + apart] = False
    return chosen


def stand_ins(
    contents: Sequence[Floats],
    *,
    length: int,
    apart: int,
    distance: Distance,
    n: int = N_STAND_INS,
    seed: int = 0,
    progress: Progress = quiet,
) -> Floats:
    """Best distances that stretches of the contents find in the other contents, or elsewhere in the only one.

    Parameters
    ----------
    contents : sequence of ndarray, each of shape (m, n_classes)
    length : int
        Of a stretch, in windows.
    apart : int
        From how many windows on two places do not overlap.
    distance : callable
    n : int
        Stretches to draw, without repetition; fewer where there are fewer.
    seed : int
    progress : callable

    Returns
    -------
    ndarray, shape (n,)
        Ascending.
    """
    alone = len(contents) == 1
    counts = [len(content) - length + 1 for content in contents]
    roomy = [
        (number, i)
        for number, count in enumerate(counts)
        for i in range(count)
        if not alone or i >= apart or i + apart < count
    ]
    order = np.random.default_rng(seed).permutation(len(roomy))[:n]
    best = []
    for done, place in enumerate(order, start=1):
        number, i = roomy[place]
        ad = contents[number][i : i + length]
        if alone:
            curve = slide(ad, contents[0], distance)
            curve[max(0, i - apart + 1) : i + apart] = np.inf
            best.append(float(curve.min()))
        else:
            others = (content for other, content in enumerate(contents) if other != number)
            best.append(min(float(slide(ad, content, distance).min()) for content in others))
        progress(done, len(order))
    return np.sort(best)


def match(
    ad: Timeline,
    contents: Sequence[Timeline],
    *,
    measure: Measure,
    top: int = TOP,
    n_stand_ins: int = N_STAND_INS,
    seed: int = 0,
    progress: Progress = quiet,
) -> Match:
    """Rank the places of contents where the emotion resembles that of an ad.

    Parameters
    ----------
    ad : Timeline
    contents : sequence of Timeline
        Of the same model, window and step, on the grid of steps (``tail=False``).
    measure : Measure
        One that fits the model.
    top : int
        Most places to choose.
    n_stand_ins : int
        Random stretches that the best distance is judged by; 0 for none.
    seed : int
        Decides which.
    progress : callable
        Told (done, total) stand-ins.

    Returns
    -------
    Match

    Raises
    ------
    OtoscopeError
        If the ad is longer than a content.
    """
    course = _course(measure)
    sought, courses = course(ad), [course(content) for content in contents]
    curves = [slide(sought, one, measure.distance) for one in courses]
    apart = max(1, int(np.ceil(ad.seconds / ad.step - 1e-6)))
    everywhere = np.sort(np.concatenate(curves))
    places = tuple(
        Place(
            number,
            i,
            float(contents[number].starts[i]),
            float(min(contents[number].starts[i] + ad.seconds, contents[number].seconds)),
            float(curves[number][i]),
            float(np.searchsorted(everywhere, curves[number][i], side="right") / len(everywhere)),
        )
        for number, i in pick(curves, apart=apart, top=top)
    )
    others = stand_ins(
        courses,
        length=len(sought),
        apart=apart,
        distance=measure.distance,
        n=n_stand_ins,
        seed=seed,
        progress=progress,
    )
    percentile = 100 * float(np.mean(others <= places[0].distance)) if len(others) else None
    low, median, high = (float(q) for q in np.quantile(everywhere, (0.05, 0.5, 0.95)))
    return Match(places, tuple(curves), Null(len(everywhere), low, median, high, others, percentile))


def _course(measure: Measure) -> Callable[[Timeline], Floats]:
    """Make the function that takes from a timeline what a measure looks at."""

    def course(timeline: Timeline) -> Floats:
        if measure.needs != "plane":
            return timeline.scores
        if timeline.plane is None:
            raise OtoscopeError(f"measure {measure.name!r} needs valence and arousal, which this model does not give")
        return timeline.plane

    return course
