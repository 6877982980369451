"""How much of a fit each feature may be credited with: the Shapley value of R².

Effects w_j·m_j of correlated features are hard to read: two features that say the same share one weight in any way,
with any sign. R² of a *set* of features has no such trouble, and the Shapley value (Shapley, 1953; for regression
Lindeman, Merenda & Gold, 1980, and Lipovetsky & Conklin, 2001) deals it out fairly,

    φ_j = Σ_{S ∌ j} |S|! (d − |S| − 1)! / d! · (R²(S ∪ j) − R²(S)),

the gain of feature j averaged over all orders in which the features could have come in. The shares add up to the R² of
all features; two copies of a feature get the same; uncorrelated features get their squared correlation. This is the
R² of the rows that were fitted, so a feature that says nothing gets a little more than 0, by chance.

All 2^d subsets come from one covariance matrix, R²(S) = c_Sᵀ C_SS⁻¹ c_S / var(y), so that a thousand bootstrap samples
cost no more than a thousand such matrices. Whole recordings are drawn, since spans of one are alike; a covariance is a
sum over recordings, so a sample is a row of counts times the sums of each recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import factorial

import numpy as np
import numpy.typing as npt

from otoscope.adapters.model import Floats

Ints = npt.NDArray[np.int64]

N_RESAMPLES = 1000
LEVEL = 95.0  # of the intervals, in percent
RIDGE = 1e-9  # of a feature's variance: lets copies of a feature be solved for


def r2_shares(
    features: Floats, values: Floats, recordings: Ints, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> tuple[Floats, Floats]:
    """Deal out R² to the features, with bootstrap intervals over recordings.

    Parameters
    ----------
    features : ndarray, shape (n, d)
    values : ndarray, shape (n, n_targets)
    recordings : ndarray of int, shape (n,)
        Which recording each row comes from, counted from 0.
    n_resamples, seed : int

    Returns
    -------
    shares : ndarray, shape (n_targets, d)
        The sum over features is the R² of the fit to all rows; zeros where a target does not vary.
    intervals : ndarray, shape (n_targets, d, 2)
        Percentiles 2.5 and 97.5 of the shares over samples of recordings.
    """
    x, y = standardised(features), standardised(values)
    sums = _sums(x, y, recordings)
    n = len(sums[0])
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(np.float64)  # (n_resamples, n_recordings)
    shares = shapley(*_covariances(np.ones((1, n)), sums))[0]
    drawn = shapley(*_covariances(counts, sums))
    edge = (100 - LEVEL) / 2
    low, high = np.percentile(drawn, [edge, 100 - edge], axis=0)
    return shares, np.stack([low, high], axis=-1)


def shapley(xx: Floats, xy: Floats, yy: Floats) -> Floats:
    """Shapley values of R² from covariance matrices.

    Parameters
    ----------
    xx : ndarray, shape (n, d, d)
        Covariances of the features, about 1 on the diagonal.
    xy : ndarray, shape (n, d, n_targets)
        Covariances with the targets.
    yy : ndarray, shape (n, n_targets)
        Variances of the targets.

    Returns
    -------
    ndarray, shape (n, n_targets, d)

    Examples
    --------
    >>> shapley(np.eye(2)[None], np.array([[[0.6], [0.3]]]), np.ones((1, 1))).round(4).tolist()
    [[[0.36, 0.09]]]
    """
    n, d, n_targets = xy.shape
    shares = np.zeros((n, n_targets, d))
    for subset, credit in _subsets(d):
        shares += r2_of(subset, xx, xy, yy)[..., None] * credit
    return shares


def _subsets(d: int) -> Iterator[tuple[tuple[int, ...], Floats]]:
    """List the subsets of d features, but for the empty one, each with what its R² adds to every feature's share."""
    for size in range(1, d + 1):
        for subset in combinations(range(d), size):
            held = np.zeros((1, d), dtype=np.uint8)
            held[0, list(subset)] = 1
            yield subset, shapley_credits(held)[0]


def shapley_credits(held: npt.NDArray[np.uint8]) -> Floats:
    """Say what the value of each subset of d players adds to every player's Shapley value.

    With all 2^d subsets, ``values @ shapley_credits(held)`` are the Shapley values, (d,).

    Parameters
    ----------
    held : ndarray of 0 and 1, shape (n, d)
        Who is in each subset.

    Returns
    -------
    ndarray, shape (n, d)
    """
    d = held.shape[1]
    joined = [factorial(max(0, size - 1)) * factorial(d - size) / factorial(d) for size in range(d + 1)]
    missing = [factorial(size) * factorial(max(0, d - size - 1)) / factorial(d) for size in range(d + 1)]
    size = held.sum(axis=1, dtype=np.int64)[:, None]  # (n, 1)
    return np.asarray(np.where(held == 1, np.array(joined)[size], -np.array(missing)[size]))


def r2_of(subset: tuple[int, ...], xx: Floats, xy: Floats, yy: Floats) -> Floats:
    """R² of some of the features, shape (n, n_targets); 0 where a target does not vary. See `shapley`."""
    chosen = list(subset)
    own = xx[:, chosen][:, :, chosen] + RIDGE * np.eye(len(chosen))
    cross = xy[:, chosen]
    explained = (cross * np.linalg.solve(own, cross)).sum(axis=1)
    varies = yy > 1e-12
    return np.where(varies, explained / np.where(varies, yy, 1), 0.0)


def standardised(columns: Floats) -> Floats:
    """Bring columns (n, d) to mean 0 and variance 1; a column that does not vary becomes zeros."""
    centred = columns - columns.mean(axis=0)
    spread = centred.std(axis=0)
    varies = spread > 1e-9 * np.abs(columns).max(axis=0)
    return np.where(varies, centred / np.where(varies, spread, 1), 0.0)


def _sums(x: Floats, y: Floats, recordings: Ints) -> tuple[Floats, ...]:
    """Sum 1, x, y, x xᵀ, x yᵀ and y² over the rows of each recording; each (n_recordings, …)."""
    n = int(recordings.max()) + 1

    def per_recording(rows: Floats) -> Floats:
        total = np.zeros((n, *rows.shape[1:]))
        np.add.at(total, recordings, rows)
        return total

    products = (x[:, :, None] * x[:, None, :], x[:, :, None] * y[:, None, :], y**2)
    return tuple(per_recording(rows) for rows in (np.ones(len(x)), x, y, *products))


def _covariances(counts: Floats, sums: tuple[Floats, ...]) -> tuple[Floats, Floats, Floats]:
    """Covariances of samples in which each recording occurs so many times: xx, xy and yy as `shapley` takes them."""
    size, x, y, xx, xy, yy = (np.tensordot(counts, one, axes=1) for one in sums)  # each (n_resamples, …)
    x, y = x / size[:, None], y / size[:, None]
    each = size[:, None, None]
    return (
        xx / each - x[:, :, None] * x[:, None, :],
        xy / each - x[:, :, None] * y[:, None, :],
        yy / size[:, None] - y**2,
    )
