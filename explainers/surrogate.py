"""The surrogate: a linear model of the score in the parts, and how far it can be trusted.

The fit is `lime.lime_base.LimeBase`. From a fold-over design, row i and its mirror image give two numbers that do not
disturb each other: the half-difference d_i = (y_i − y_i′)/2, which holds the main effects (and odd interactions), and
the half-sum s_i = (y_i + y_i′)/2, which holds the even interactions. With x_i = z_i − ½, d = X w + error, so

* the standard errors are those of this regression, with residual variance RSS/(n/2 − k);
* R² leaves out mirror *pairs*, in closed form: d_i − d̂_(i) = r_i/(1 − h_i). Leaving out single runs would be blind,
  since the mirror image gives the run away;
* the share of interactions is var(s)/(var(s) + var(d));
* intervals, and the chance that another seed finds the same strongest parts, come from the wild bootstrap (Liu, 1988):
  the left-out residuals with random signs, regressed again.

Two halves of the calls, fitted apart, tell how far the weights depend on the calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from otoscope.explainers.neighbourhoods import Masks, Neighbourhood, block_size
from otoscope.explainers.targets import Floats

KERNEL_WIDTH = 0.25
N_BOOTSTRAP = 400
TOP = 5
SHARED = 4  # of the five strongest parts, where two explanations count as the same


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A fitted linear model.

    Attributes
    ----------
    weights : ndarray, shape (k,)
    intercept : float
    se : ndarray, shape (k,), or None
        Standard errors; None where every combination was asked.
    r2 : float or None
        Share of the variance explained: by pairs left out (design), weighted in-sample (random, exhaustive). None where
        the scores do not vary.
    interactions : float or None
        Share of the variance in even interactions (design).
    interval : ndarray, shape (k, 2), or None
        Bootstrap intervals of 95 % (design).
    top_again : float or None
        Chance that another seed shares four of the five strongest parts (design).
    """

    weights: Floats
    intercept: float
    se: Floats | None
    r2: float | None
    interactions: float | None
    interval: Floats | None = None
    top_again: float | None = None


def fit(masks: Masks, values: Floats, neighbourhood: Neighbourhood, *, seed: int = 0) -> Surrogate:
    """Fit the surrogate to values (n,) at masks (n, k).

    ``random`` uses the published settings (cosine distance to all-on, kernel width 0.25, Ridge 1), the others a flat
    kernel and Ridge 1e-6.
    """
    if neighbourhood == "random":
        kernel = published_kernel(masks)
        weights, intercept, r2 = lime_fit(masks, values, kernel, alpha=1.0, seed=seed)
        se = sandwich(masks, values - intercept - masks @ weights, kernel, alpha=1.0)
        return Surrogate(weights, intercept, se, r2, None)
    weights, intercept, r2 = lime_fit(masks, values, np.ones(len(masks)), alpha=1e-6, seed=seed)
    if neighbourhood == "exhaustive":
        return Surrogate(weights, intercept, None, r2, None)
    return Surrogate(weights, intercept, *pair_statistics(masks, values, seed=seed))


def cosine_distances(masks: Masks) -> Floats:
    """Cosine distance of each mask to all-on; 1 for all-off, as in scikit-learn."""
    return np.asarray(1 - np.sqrt(masks.mean(axis=1, dtype=np.float64)))


def published_kernel(masks: Masks) -> Floats:
    """Weigh each mask (n, k) by its cosine distance to all-on, as LIME does by default, (n,)."""
    return np.asarray(np.exp(-(cosine_distances(masks) ** 2) / KERNEL_WIDTH**2) ** 0.5)


def lime_fit(
    masks: Masks, values: Floats, kernel: Floats, *, alpha: float, seed: int
) -> tuple[Floats, float, float | None]:
    """Fit by `LimeBase`: weights (k,), intercept and weighted R²."""
    from lime.lime_base import LimeBase
    from sklearn.linear_model import Ridge

    base = LimeBase(kernel_fn=lambda proximity: proximity, random_state=seed)
    intercept, pairs, r2, _ = base.explain_instance_with_data(
        masks.astype(np.float64),
        values[:, None],
        kernel,
        0,
        masks.shape[1],
        feature_selection="none",
        model_regressor=Ridge(alpha=alpha),
    )
    weights = np.zeros(masks.shape[1])
    for part, weight in pairs:
        weights[part] = weight
    return weights, float(intercept), float(r2) if np.ptp(values) > 0 else None


class PairStatistics(NamedTuple):
    """What mirror pairs tell; see `Surrogate`. All but the errors are None where the scores do not vary."""

    se: Floats
    r2: float | None
    interactions: float | None
    interval: Floats | None
    top_again: float | None


def pair_statistics(masks: Masks, values: Floats, *, seed: int = 0) -> PairStatistics:
    """Give the errors, R² by pairs left out, share of interactions, intervals and `top_again` of a fold-over design."""
    n = len(masks) // 2
    x = masks[:n].astype(np.float64) - 0.5  # (n, k)
    difference = (values[:n] - values[n:]) / 2
    total = (values[:n] + values[n:]) / 2
    inverse = np.linalg.inv(x.T @ x)
    weights = inverse @ (x.T @ difference)
    residual = difference - x @ weights
    variance = residual @ residual / (n - x.shape[1])
    se = np.sqrt(variance * np.diag(inverse))
    spread = float(((values - values.mean()) ** 2).sum())
    even = float(((total - total.mean()) ** 2).sum())
    both = even + float(difference @ difference)
    if spread <= 1e-24 * len(values):
        return PairStatistics(se, None, None, None, None)
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    left_out = residual / (1 - leverage)
    mean_left_out = (total - total.mean()) * n / (n - 1)
    r2 = 1 - 2 * float(left_out @ left_out + mean_left_out @ mean_left_out) / spread
    draws = _wild_bootstrap(x, inverse, weights, residual / np.sqrt(1 - leverage), seed)
    interval = np.quantile(draws, [0.025, 0.975], axis=0).T  # (k, 2)
    return PairStatistics(se, r2, even / both, interval, top_again(draws))


def _wild_bootstrap(x: Floats, inverse: Any, weights: Floats, residual: Floats, seed: int) -> Floats:
    """Draw weights (N_BOOTSTRAP, k) as other calls might have given them (Liu, 1988; residuals by their leverage)."""
    signs = np.random.default_rng(seed).integers(0, 2, size=(N_BOOTSTRAP, len(x))) * 2.0 - 1
    return np.asarray(weights + (signs * residual) @ x @ inverse)


def strongest(weights: Floats, n: int = TOP) -> set[int]:
    """Name the parts of largest |weight|.

    >>> sorted(strongest(np.array([0.1, -3.0, 2.0]), 2))
    [1, 2]
    """
    return {int(part) for part in np.argsort(-np.abs(weights), kind="stable")[:n]}


def same_top(a: Floats, b: Floats) -> bool:
    """Whether two explanations share four of the five strongest parts (of fewer parts: all but one)."""
    few = min(TOP, len(a))
    return len(strongest(a, few) & strongest(b, few)) >= few - (TOP - SHARED)


def top_again(draws: Floats) -> float:
    """Share of pairs of draws (n, k) with the same strongest parts."""
    n = len(draws) // 2
    return float(np.mean([same_top(draws[i], draws[n + i]) for i in range(n)]))


def fit_halves(
    masks: Masks, values: Floats, neighbourhood: Neighbourhood, *, seed: int = 0
) -> tuple[Floats, Floats] | None:
    """Fit two independent halves of the calls: weights (k,) of each.

    Of a design whole blocks, the first, third … against the second, fourth …; None where there is but one, or where all
    combinations were asked and nothing is left to chance.
    """
    if neighbourhood == "exhaustive":
        return None
    if neighbourhood == "random":
        one, other = (
            lime_fit(half, values[i::2], published_kernel(half), alpha=1.0, seed=seed)[0]
            for i, half in enumerate((masks[::2], masks[1::2]))
        )
        return one, other
    n, size = len(masks) // 2, block_size(masks.shape[1]) // 2
    if n < 2 * size:
        return None
    x = masks[:n].astype(np.float64) - 0.5
    difference = (values[:n] - values[n:]) / 2
    odd = (np.arange(n) // size) % 2 == 1
    found = [np.linalg.lstsq(x[rows], difference[rows], rcond=None)[0] for rows in (~odd, odd)]
    return found[0], found[1]


def correlation(a: Floats, b: Floats) -> float | None:
    """Correlate the weights of two explanations (k,); None where either does not vary.

    Not by rank: where a few parts hold it all, the order of the others is chance.
    """
    return None if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(a, b)[0, 1])


def sandwich(masks: Masks, residual: Floats, kernel: Floats, *, alpha: float) -> Floats:
    """Heteroscedasticity-consistent standard errors (k,) of a weighted ridge regression (White, 1980)."""
    x = masks.astype(np.float64)
    x = x - np.average(x, axis=0, weights=kernel)
    bread = np.linalg.inv((x * kernel[:, None]).T @ x + alpha * np.eye(x.shape[1]))
    meat: Any = (x * (kernel * residual)[:, None]).T
    n, k = x.shape
    covariance = bread @ (meat @ meat.T) @ bread * n / max(1, n - k - 1)
    return np.sqrt(np.diag(covariance))
