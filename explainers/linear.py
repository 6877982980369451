"""The linear level: a score as a weighted sum of a few features, over a corpus.

    scale = Σ_j w_j · m_j + b + remainder

with w_j, b by least squares (Chowdhury, Vall, Haunschmid & Widmer, ISMIR 2019, build a model of this form; here any
model is fitted). The *effect* of a feature on one recording is w_j·m_j, as in that paper. Its size hangs on where the
feature has its zero, which a computed feature has nowhere in particular; hence the *centred* effect
w_j·(m_j − mean m_j). As b = mean(scale) − Σ w_j mean(m_j), the centred effects and the remainder add up to the score's
distance from the corpus's mean. The remainder is what the features do not say; it is a part like the others.

How good the form is, is told by R² on recordings that were held out, in folds of whole recordings,
1 − Σ (y − ŷ)² / Σ (y − ȳ)² with ŷ and ȳ from the other folds: 0 or less where the features say nothing. Weights of
correlated features are no causes and may have any sign; beside them stand the features' correlations and the Shapley
value of R² (`otoscope.explainers.shares`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otoscope.adapters.model import Floats
from otoscope.explainers.shares import Ints, r2_shares, standardised

N_FOLDS = 10


@dataclass(frozen=True, eq=False)
class Level:
    """The linear fit of one target.

    Attributes
    ----------
    names : tuple of str, length d
        Of the features.
    features : ndarray, shape (n, d)
        Their values over the corpus.
    weights : ndarray, shape (d,)
        Score per unit of each feature; 0 where a feature does not vary.
    bias : float
    r2 : float or None
        On recordings held out; None where the score does not vary.
    r2_fitted : float
        On the rows it was fitted to; the shares add up to it.
    remainders : ndarray, shape (n,)
        What the fit to the other folds leaves of each row's score.
    mean_score : float
    correlation : ndarray, shape (d, d)
        Of the features; 0 for a feature that does not vary.
    with_score : ndarray, shape (d,)
        Correlation of each feature with the score.
    shares : ndarray, shape (d,)
        Shapley values of R².
    intervals : ndarray, shape (d, 2)
        Their 95 % bootstrap intervals.
    n_recordings : int
    """

    names: tuple[str, ...]
    features: Floats
    weights: Floats
    bias: float
    r2: float | None
    r2_fitted: float
    remainders: Floats
    mean_score: float
    correlation: Floats
    with_score: Floats
    shares: Floats
    intervals: Floats
    n_recordings: int

    @property
    def means(self) -> Floats:
        """Mean of each feature over the corpus, shape (d,)."""
        return np.asarray(self.features.mean(axis=0))

    @property
    def standard_weights(self) -> Floats:
        """Score per standard deviation of each feature, shape (d,)."""
        return np.asarray(self.weights * self.features.std(axis=0))

    def effects(self, values: Floats) -> Floats:
        """Effects w_j·m_j of features (…, d)."""
        return np.asarray(self.weights * values)

    def centred(self, values: Floats) -> Floats:
        """Effects against the corpus's mean, w_j·(m_j − mean m_j), of features (…, d)."""
        return np.asarray(self.weights * (values - self.means))

    def remainder(self, values: Floats, score: float) -> float:
        """Give what the features (d,) leave of a score."""
        return float(score - self.bias - self.effects(values).sum())

    def ranks(self, values: Floats) -> Floats:
        """Share of the corpus that lies below each of the features (d,), ties counted by half."""
        below, same = (self.features < values).mean(axis=0), (self.features == values).mean(axis=0)
        return np.asarray(below + same / 2)

    @property
    def turned(self) -> tuple[str, ...]:
        """Features whose weight has another sign than their own correlation with the score: a mark of collinearity."""
        strong = np.abs(self.standard_weights) > 0.1 * np.abs(self.standard_weights).max(initial=0)
        opposed = np.sign(self.weights) * np.sign(self.with_score) < 0
        return tuple(name for name, odd in zip(self.names, strong & opposed, strict=True) if odd)


def least_squares(features: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Fit values (n, n_targets) by features (n, d).

    Features are standardised first; of several solutions the smallest is taken, so copies of a feature share a weight.

    Returns
    -------
    weights : ndarray, shape (d, n_targets)
        Per unit of each feature.
    bias : ndarray, shape (n_targets,)
    """
    x = standardised(features)
    means = values.mean(axis=0)
    solution = np.linalg.lstsq(x, values - means, rcond=1e-9)[0]
    spread = np.where(x.any(axis=0), features.std(axis=0), 1.0)
    weights = solution / spread[:, None]
    return weights, means - features.mean(axis=0) @ weights


def folds_by_recording(recordings: Ints, *, n_folds: int, seed: int) -> Ints:
    """Deal out whole recordings to folds at random, shape (n,); there are at most as many folds as recordings."""
    names, index = np.unique(recordings, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return np.asarray(order[index] % min(n_folds, len(names)))


def held_out(
    features: Floats, values: Floats, recordings: Ints, *, n_folds: int = N_FOLDS, seed: int = 0
) -> tuple[Floats, Floats]:
    """Predict every row from the recordings of the other folds.

    Parameters
    ----------
    features : ndarray, shape (n, d)
    values : ndarray, shape (n, n_targets)
    recordings : ndarray of int, shape (n,)
    n_folds, seed : int

    Returns
    -------
    residuals : ndarray, shape (n, n_targets)
    r2 : ndarray, shape (n_targets,)
        NaN where a target does not vary.
    """
    folds = folds_by_recording(recordings, n_folds=n_folds, seed=seed)
    residuals, plain = np.empty_like(values), np.empty_like(values)
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        weights, bias = least_squares(features[~out], values[~out])
        residuals[out] = values[out] - features[out] @ weights - bias
        plain[out] = values[out] - values[~out].mean(axis=0)
    total = (plain**2).sum(axis=0)
    varies = standardised(values).any(axis=0)
    return residuals, np.where(varies, 1 - (residuals**2).sum(axis=0) / np.where(varies, total, 1), np.nan)


def fit_level(features: Floats, values: Floats, recordings: Ints, names: tuple[str, ...], *, seed: int = 0) -> Level:
    """Fit one target's values (n,) by features (n, d); see `Level`."""
    targets = values[:, None]
    weights, bias = least_squares(features, targets)
    residuals, r2 = held_out(features, targets, recordings, seed=seed)
    shares, intervals = r2_shares(features, targets, recordings, seed=seed)
    x, y = standardised(features), standardised(targets)
    return Level(
        names=names,
        features=features,
        weights=weights[:, 0],
        bias=float(bias[0]),
        r2=None if np.isnan(r2[0]) else float(r2[0]),
        r2_fitted=float(shares[0].sum()),
        remainders=residuals[:, 0],
        mean_score=float(values.mean()),
        correlation=x.T @ x / len(x),
        with_score=(x.T @ y)[:, 0] / len(x),
        shares=shares[0],
        intervals=intervals[0],
        n_recordings=len(np.unique(recordings)),
    )
