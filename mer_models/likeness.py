r"""How far apart two courses of emotion are: one measure, one function on raw arrays.

A course is what a model said of n windows, one after the other: scores p_t, q_t of K classes, or points of the plane of
valence and arousal. What similarity the authors used to place advertisements is not published (Fong, Kumar and Sudhir,
Marketing Science 44(1), 2025), so several are offered, all zero for equal courses and symmetric:

==================  =====================================================  ===========  =======================
name                distance                                               metric       range for probabilities
==================  =====================================================  ===========  =======================
absolute            mean_t Σ_k |p_tk − q_tk| / K                           yes          0 to 2 / K
euclidean           √( mean_t Σ_k (p_tk − q_tk)² )                         yes          0 to √2
cosine              mean_t ( 1 − p_t·q_t / (|p_t| |q_t|) )                 no           0 to 1
jensen_shannon      mean_t √( (KL(p_t‖m_t) + KL(q_t‖m_t)) / 2 ), in bits   yes          0 to 1
hellinger           mean_t √( Σ_k (√p_tk − √q_tk)² / 2 )                   yes          0 to 1
valence_arousal     mean_t |v_t − w_t|, in the plane                       yes          0 to 2√2
dtw                 min over warpings Σ |p_i − q_j| / n                    no           0 to √2
==================  =====================================================  ===========  =======================

with m_t = (p_t + q_t) / 2. Jensen-Shannon and Hellinger need probabilities that add up to 1 (Endres and Schindelin,
IEEE Trans. Inf. Theory 49, 2003, for the root; Hellinger is √(1 − Bhattacharyya's coefficient)). Dynamic time warping
(Sakoe and Chiba, 1978) lets either course lag behind the other by at most a quarter of its length.

Shapes: a course (n, K); many courses at once (…, n, K), against which one is broadcast; distances (…).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import Floats, Output

Needs = Literal["scores", "probabilities", "plane"]
Distance = Callable[[Floats, Floats], Floats]

LAG = 4  # a course may be warped by its length over this
TINY = 1e-300


@dataclass(frozen=True)
class Measure:
    """A distance between courses, and what it is a distance of.

    Attributes
    ----------
    name : str
    distance : callable
        (…, n, K) and (…, n, K) to (…).
    needs : {"scores", "probabilities", "plane"}
        Any scores; probabilities that add up to 1; valence and arousal.
    """

    name: str
    distance: Distance
    needs: Needs


MEASURES: dict[str, Measure] = {}


def measure(needs: Needs = "scores") -> Callable[[Distance], Distance]:
    """Register a distance under its function's name."""

    def register(function: Distance) -> Distance:
        MEASURES[function.__name__] = Measure(function.__name__, function, needs)
        return function

    return register


def find_measure(name: str) -> Measure:
    """Find a measure by its name.

    Raises
    ------
    OtoscopeError
        Naming the nearest.
    """
    if name not in MEASURES:
        raise unknown("measure", name, MEASURES)
    return MEASURES[name]


def check_measure(chosen: Measure, output: Output, *, has_plane: bool) -> None:
    """Refuse a measure that means nothing for a model.

    Raises
    ------
    OtoscopeError
        Naming those that fit.
    """
    possible = {"scores": True, "probabilities": output == "softmax", "plane": has_plane}
    if not possible[chosen.needs]:
        lacking = {"probabilities": "probabilities that add up to 1", "plane": "valence and arousal"}[chosen.needs]
        fit = ", ".join(one.name for one in MEASURES.values() if possible[one.needs])
        raise OtoscopeError(f"measure {chosen.name!r} needs {lacking}, which this model does not give; use {fit}")


@measure()
def euclidean(first: Floats, second: Floats) -> Floats:
    """Root mean square of the Euclidean distances of windows: √( mean_t Σ_k (p_tk − q_tk)² ).

    Parameters
    ----------
    first, second : ndarray, shape (…, n, n_classes)

    Returns
    -------
    ndarray, shape (…)
    """
    return np.asarray(np.sqrt(np.square(first - second).sum(axis=-1).mean(axis=-1)))


@measure()
def absolute(first: Floats, second: Floats) -> Floats:
    """Mean absolute difference over windows and classes: mean_t Σ_k |p_tk − q_tk| / K.

    Parameters
    ----------
    first, second : ndarray, shape (…, n, n_classes)

    Returns
    -------
    ndarray, shape (…)
    """
    return np.asarray(np.abs(first - second).mean(axis=(-2, -1)))


@measure()
def cosine(first: Floats, second: Floats) -> Floats:
    """Mean over windows of one minus the cosine: mean_t ( 1 − p_t·q_t / (|p_t| |q_t|) ); blind to how large scores are.

    A window of zeros has no direction: it is at distance 0 from another one of zeros, and 1 from all else.

    Parameters
    ----------
    first, second : ndarray, shape (…, n, n_classes)

    Returns
    -------
    ndarray, shape (…)
    """
    first, second = _directions(first), _directions(second)
    # |u − v|² / 2 = 1 − u·v for unit vectors, without its loss of digits near zero
    apart = np.square(first - second).sum(axis=-1) / 2
    lone = first.any(axis=-1) != second.any(axis=-1)
    return np.asarray(np.where(lone, 1.0, apart).mean(axis=-1))


def _directions(scores: Floats) -> Floats:
    largest = np.abs(scores).max(axis=-1, keepdims=True)
    scaled = scores / np.maximum(largest, TINY)  # so that squares of tiny scores do not vanish
    return np.asarray(scaled / np.maximum(np.linalg.norm(scaled, axis=-1, keepdims=True), TINY))


@measure("probabilities")
def jensen_shannon(first: Floats, second: Floats) -> Floats:
    """Mean over windows of the root of the Jensen-Shannon divergence, in bits.

    mean_t √( (KL(p_t‖m_t) + KL(q_t‖m_t)) / 2 ) with m_t = (p_t + q_t) / 2 and KL(p‖m) = Σ_k p_k log₂(p_k / m_k).

    Parameters
    ----------
    first, second : ndarray, shape (…, n, n_classes)

    Returns
    -------
    ndarray, shape (…)
    """
    from scipy.special import rel_entr

    middle = (first + second) / 2
    divergence = (rel_entr(first, middle) + rel_entr(second, middle)).sum(axis=-1) / (2 * np.log(2))
    # Rounding leaves equal windows a hair below zero, whose root scipy.spatial's version would call NaN.
    return np.asarray(np.sqrt(np.maximum(divergence, 0)).mean(axis=-1))


@measure("probabilities")
def hellinger(first: Floats, second: Floats) -> Floats:
    """Mean over windows of Hellinger's distance: mean_t √( Σ_k (√p_tk − √q_tk)² / 2 ).

    Parameters
    ----------
    first, second : ndarray, shape (…, n, n_classes)

    Returns
    -------
    ndarray, shape (…)
    """
    roots = np.sqrt(np.maximum(first, 0)) - np.sqrt(np.maximum(second, 0))
    return np.asarray(np.sqrt(np.square(roots).sum(axis=-1) / 2).mean(axis=-1))


@measure("plane")
def valence_arousal(first: Floats, second: Floats) -> Floats:
    """Mean distance in the plane of valence and arousal: mean_t |v_t − w_t|.

    Parameters
    ----------
    first, second : ndarray, shape (…, n, 2)

    Returns
    -------
    ndarray, shape (…)
    """
    return np.asarray(np.linalg.norm(first - second, axis=-1).mean(axis=-1))


@measure()
def dtw(first: Floats, second: Floats) -> Floats:
    """Cost of the cheapest warping over n: D(n, n) / n with D(i, j) = |p_i − q_j| + the least D of the cells before.

    Only cells with |i − j| at most n / 4 are crossed, steps weigh alike. Never more than the mean distance of windows,
    as not to warp is one way. All pairs of courses go through each cell together, hence no library's one-pair routine.

    Parameters
    ----------
    first, second : ndarray, shape (…, n, n_classes)

    Returns
    -------
    ndarray, shape (…)
    """
    n, lag = first.shape[-2], first.shape[-2] // LAG
    shape = np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    never = np.full(shape, np.inf)
    before: dict[int, Floats] = {
        -1: np.zeros(shape)
    }  # row i − 1 of D by column; the corner before (0, 0) costs nothing
    for i in range(n):
        row: dict[int, Floats] = {}
        for j in range(max(0, i - lag), min(n, i + lag + 1)):
            cost = np.linalg.norm(first[..., i, :] - second[..., j, :], axis=-1)
            ways = (before.get(j - 1, never), before.get(j, never), row.get(j - 1, never))
            row[j] = cost + np.minimum.reduce(ways)
        before = row
    return np.asarray(before[n - 1] / n)
