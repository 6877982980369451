"""Zooming in: as many parts where the model listens as its attention there deserves.

Segments follow what sounds, not what a model hears: one that holds a cue may hold ten times as much that means nothing
to the model, and then says little of where the cue lies. So LIME looks first with parts of its maker, then cuts and
merges them so that each holds about as much of Σ|w| as any other, and looks again: a part with half of it becomes half
of all pieces, and neighbours that hardly matter become one. Only the last look, with calls of its own, is the
explanation.

A part is cut by k-means over seconds, octaves and level, so its pieces hang together in time and pitch and part what is
loud from what is faint. The first looks take the same calls whatever the seed, so that the parts do not depend on it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from otoscope.adapters.spectra import Float32
from otoscope.explainers.makers import DYNAMIC_RANGE, ROWS_PER_OCTAVE, from_rows, picture, rows
from otoscope.explainers.merge import merge_smallest
from otoscope.explainers.methods import CALLS, Request
from otoscope.explainers.neighbourhoods import block_size, make_masks
from otoscope.explainers.parts import Bools, Labels, Parts
from otoscope.explainers.routes import open_route
from otoscope.explainers.surrogate import fit
from otoscope.explainers.targets import Floats

ROUNDS = 2
PER_PART = 4  # calls a part in a first look, at least
SECONDS, OCTAVES, DECIBELS = 0.1, 0.25, 8.0  # apart by as much as one another, to the ear of k-means
LEAST = 4  # cells of the picture in a piece


def zoom_in(request: Request, parts: Parts) -> tuple[Parts, int, int | None]:
    """Look and cut as often as the budget and the settings allow.

    Returns
    -------
    parts : Parts
    spent : int
        Calls that it took.
    left : int or None
        Calls that are left of the budget; None where it has no end.
    """
    settings = request.settings
    calls = None if settings.calls == "auto" else int(settings.calls or CALLS)
    rounds = _rounds(request, parts, calls)
    spent = 0
    first = replace(request, seed=0)
    each = _calls_of_a_look(settings.n_parts, calls, rounds)
    for _ in range(rounds):
        masks = make_masks("design", parts.k, each, 0)
        way = open_route(request.model, parts, masks, route=settings.route, batch_size=request.batch_size)
        values = first.value(way.scores(masks, request.progress))
        surrogate = fit(masks, values, "design")
        spent += way.n_calls
        if surrogate.r2 is None:  # nothing moves the score: nothing to look closer at
            break
        parts = cut_by_weight(parts, surrogate.weights, surrogate.se, settings.n_parts)
    return parts, spent, None if calls is None else calls - rounds * each


def _calls_of_a_look(n_parts: int, calls: int | None, rounds: int) -> int:
    """Give the first looks half of the budget, in whole blocks for as many parts as there may be after a cut."""
    if not rounds:
        return 0
    if calls is None:
        return 2 * PER_PART * n_parts
    size = block_size(n_parts)
    least = -(-PER_PART * n_parts // size) * size
    return max(least, calls // (2 * rounds) // size * size)


def _rounds(request: Request, parts: Parts, calls: int | None) -> int:
    """Count the looks before the last: none for parts that were asked for by name, or soft, or with too few calls."""
    wanted = request.settings.zoom
    fitting = parts.shares is None and parts.filters is None and parts.k > 1 and bool(parts.power.any())
    if not fitting or request.given is not None or (wanted is None and request.settings.parts is not None):
        return 0
    most = ROUNDS if wanted is None else wanted
    if calls is None:
        return most
    n_parts = request.settings.n_parts
    fitting_rounds = [
        rounds
        for rounds in range(1, most + 1)
        if calls - rounds * _calls_of_a_look(n_parts, calls, rounds) >= PER_PART * n_parts
    ]
    return max(fitting_rounds, default=0)


def cut_by_weight(parts: Parts, weights: Floats, se: Floats | None, n_parts: int) -> Parts:
    """Cut and merge parts so that each holds about as much of Σ|w| as any other, `n_parts` of them at most.

    Parameters
    ----------
    parts : Parts
        With labels that are constant over the rows of the picture, as the segmenting makers make them.
    weights : ndarray, shape (k,)
    se : ndarray, shape (k,), or None
        What is no larger than two of them counts as nothing, unless all is.
    n_parts : int
    """
    size = np.abs(weights)
    if se is not None and (size > 2 * se).any():
        size = np.where(size > 2 * se, size, 0)
    if not size.any() or n_parts < 2:
        return parts
    row = rows(parts)
    image = picture(parts)
    segments = parts.labels[np.searchsorted(row, np.arange(row.max() + 1))]  # (n_rows, n_frames)
    deserved = n_parts * size / size.sum()
    main = np.zeros(parts.k, dtype=bool)
    main[np.argsort(-size, kind="stable")[: min(n_parts - 1, max(1, int((deserved >= 1).sum())))]] = True
    n_rest = max(1, round(float(deserved[~main].sum())))
    merged = merge_smallest(segments, image, int(main.sum()) + n_rest, size=size, fixed=main)
    if len(np.unique(merged)) > n_parts:  # what hardly matters lies in too many places: it is one part all the same
        merged = np.where(main[segments], merged, merged.max() + 1)
    area = np.bincount(segments.ravel(), minlength=parts.k)
    share = np.where(main, size, 0) / size[main].sum()
    left = n_parts - (len(np.unique(merged)) - int(main.sum()))  # pieces for all the main parts
    pieces = np.minimum(1 + ((left - main.sum()) * share).astype(int), np.maximum(1, area // LEAST))
    finer = n_parts + merged
    made = 0
    for part in np.flatnonzero(main).tolist():
        inside = segments == part
        finer[inside] = made + _pieces(image, inside, int(pieces[part]), parts)
        made += int(pieces[part])
    return from_rows(parts, finer, "part")


def _pieces(image: Float32, inside: Bools, n: int, parts: Parts) -> Labels:
    """Cut the marked cells into pieces 0 … n − 1."""
    from sklearn.cluster import KMeans

    row, frame = np.nonzero(inside)
    if n < 2:
        return np.zeros(len(row), dtype=np.intp)
    step = parts.stft.hop_length / parts.audio.rate
    where = np.stack(
        [
            frame * step / SECONDS,
            row / (ROWS_PER_OCTAVE * OCTAVES),
            image[row, frame] * DYNAMIC_RANGE / DECIBELS,
        ],
        axis=1,
    )
    found = KMeans(n, n_init=1, max_iter=20, random_state=0).fit_predict(where)
    return np.asarray(found, dtype=np.intp)
