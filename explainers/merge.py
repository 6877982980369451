"""Merging: bring a segmentation down to a number of parts worth explaining."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from otoscope.explainers.parts import Bools, Labels


def neighbours(segments: Labels) -> list[set[int]]:
    """List for each segment those that share an edge with it."""
    adjacent: list[set[int]] = [set() for _ in range(int(segments.max()) + 1)]
    pairs = [
        np.stack([segments[1:].ravel(), segments[:-1].ravel()]),
        np.stack([segments[:, 1:].ravel(), segments[:, :-1].ravel()]),
    ]
    first, second = np.concatenate(pairs, axis=1)
    differ = first != second
    codes = np.unique(first[differ] * len(adjacent) + second[differ])
    for a, b in zip(*(column.tolist() for column in divmod(codes, len(adjacent))), strict=True):
        adjacent[a].add(b)
        adjacent[b].add(a)
    return adjacent


def merge_smallest(
    segments: Labels,
    image: npt.NDArray[np.floating],
    n_parts: int,
    *,
    size: npt.NDArray[np.floating] | None = None,
    fixed: Bools | None = None,
) -> Labels:
    """Merge the smallest segment with its most similar neighbour until `n_parts` are left.

    Parameters
    ----------
    segments : ndarray of int, shape (n_rows, n_frames)
    image : ndarray, shape (n_rows, n_frames)
        Similar segments have close means here.
    n_parts : int
    size : ndarray, shape (n_segments,), optional
        What is small, by label; the area where None. Of what is merged it adds up.
    fixed : ndarray of bool, shape (n_segments,), optional
        Segments that neither merge nor are merged into; they may keep others from reaching `n_parts`.

    Returns
    -------
    ndarray of int, shape (n_rows, n_frames)
        Labels 0 … at most n_parts − 1.
    """
    segments = np.unique(segments, return_inverse=True)[1].reshape(segments.shape)
    area = np.bincount(segments.ravel()).astype(float)
    size = area.copy() if size is None else size.astype(float)
    total = np.bincount(segments.ravel(), weights=image.ravel())
    adjacent = neighbours(segments)
    for index in () if fixed is None else np.flatnonzero(fixed):
        for other in adjacent[index]:
            adjacent[other].discard(int(index))
        adjacent[index] = set()
    into = np.arange(len(area))
    alive = len(area)
    queue = [(one, index) for index, one in enumerate(size.tolist())]
    heapq.heapify(queue)
    while alive > n_parts and queue:
        now, small = heapq.heappop(queue)
        if into[small] != small or now != size[small] or not adjacent[small]:
            continue  # merged away or grown since it was queued
        mean = total[small] / area[small]
        best = min(adjacent[small], key=lambda other: (abs(total[other] / area[other] - mean), other))
        into[small] = best
        area[best] += area[small]
        size[best] += size[small]
        total[best] += total[small]
        for other in adjacent[small]:
            adjacent[other].discard(small)
            if other != best:
                adjacent[other].add(best)
                adjacent[best].add(other)
        heapq.heappush(queue, (float(size[best]), best))
        alive -= 1
    return np.unique(_roots(into)[segments], return_inverse=True)[1].reshape(segments.shape)


def _roots(into: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Follow each chain of merges to its end."""
    while not np.array_equal(into, into[into]):
        into = into[into]
    return into
