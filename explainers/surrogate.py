"""The surrogate: a linear model of the score in the parts, and how far it can be trusted.

The fit is `lime.lime_base.LimeBase`. From a fold-over design, row i and its mirror image give two numbers that do not
disturb each other: the half-difference d_i = (y_i − y_i′)/2, which holds the main effects (and odd interactions), and
the half-sum s_i = (y_i + y_i′)/2, which holds the even interactions. With x_i = z_i − ½, d = X w + error, so

* the standard errors are those of this regression, with residual variance RSS/(n/2 − k);
* R² leaves out mirror *pairs*, in closed form: d_i − d̂_(i) = r_i/(1 − h_i). Leaving out single runs would be blind,
  since the mirror image gives the run away;
* the share of interactions is var(s)/(var(s) + var(d)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otoscope.explainers.neighbourhoods import Masks, Neighbourhood
from otoscope.explainers.targets import Floats

KERNEL_WIDTH = 0.25


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
    """

    weights: Floats
    intercept: float
    se: Floats | None
    r2: float | None
    interactions: float | None


def fit(masks: Masks, values: Floats, neighbourhood: Neighbourhood, *, seed: int = 0) -> Surrogate:
    """Fit the surrogate to values (n,) at masks (n, k).

    ``random`` uses the published settings (cosine distance to all-on, kernel width 0.25, Ridge 1), the others a flat
    kernel and Ridge 1e-6.
    """
    if neighbourhood == "random":
        kernel = np.exp(-(cosine_distances(masks) ** 2) / KERNEL_WIDTH**2) ** 0.5
        weights, intercept, r2 = lime_fit(masks, values, kernel, alpha=1.0, seed=seed)
        se = sandwich(masks, values - intercept - masks @ weights, kernel, alpha=1.0)
        return Surrogate(weights, intercept, se, r2, None)
    weights, intercept, r2 = lime_fit(masks, values, np.ones(len(masks)), alpha=1e-6, seed=seed)
    if neighbourhood == "exhaustive":
        return Surrogate(weights, intercept, None, r2, None)
    return Surrogate(weights, intercept, *pair_statistics(masks, values))


def cosine_distances(masks: Masks) -> Floats:
    """Cosine distance of each mask to all-on; 1 for all-off, as in scikit-learn."""
    return np.asarray(1 - np.sqrt(masks.mean(axis=1, dtype=np.float64)))


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


def pair_statistics(masks: Masks, values: Floats) -> tuple[Floats, float | None, float | None]:
    """Give standard errors (k,), R² by pairs left out, and the share of interactions of a fold-over design."""
    n = len(masks) // 2
    x = masks[:n].astype(np.float64) - 0.5  # (n, k)
    difference = (values[:n] - values[n:]) / 2
    total = (values[:n] + values[n:]) / 2
    inverse = np.linalg.inv(x.T @ x)
    residual = difference - x @ (inverse @ (x.T @ difference))
    variance = residual @ residual / (n - x.shape[1])
    se = np.sqrt(variance * np.diag(inverse))
    spread = float(((values - values.mean()) ** 2).sum())
    even = float(((total - total.mean()) ** 2).sum())
    both = even + float(difference @ difference)
    if spread <= 1e-24 * len(values):
        return se, None, None
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    left_out = residual / (1 - leverage)
    mean_left_out = (total - total.mean()) * n / (n - 1)
    r2 = 1 - 2 * float(left_out @ left_out + mean_left_out @ mean_left_out) / spread
    return se, r2, even / both


def sandwich(masks: Masks, residual: Floats, kernel: Floats, *, alpha: float) -> Floats:
    """Heteroscedasticity-consistent standard errors (k,) of a weighted ridge regression (White, 1980)."""
    x = masks.astype(np.float64)
    x = x - np.average(x, axis=0, weights=kernel)
    bread = np.linalg.inv((x * kernel[:, None]).T @ x + alpha * np.eye(x.shape[1]))
    meat: Any = (x * (kernel * residual)[:, None]).T
    n, k = x.shape
    covariance = bread @ (meat @ meat.T) @ bread * n / max(1, n - k - 1)
    return np.sqrt(np.diag(covariance))
