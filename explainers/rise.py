"""RISE: what the score is, on average, when a part sounds.

After Petsiuk, Das & Saenko, 2018, eq. 6. Each part sounds with probability p = ½, independently. The paper's map of
part j, S_j = Σ_i y_i z_ij / (N p), estimates E[y | z_j = 1]; the weight is this less what all parts have in common,

    w_j = mean of y where z_j = 1  −  mean of y,

with the share of calls that held part j in place of p, so that a score that does not vary gives weights of exactly 0.
With p = ½ the weight is *half* of what the part adds on average, E[y | z_j = 1] − E[y] = ½ (E[y | z_j = 1] −
E[y | z_j = 0]): on an additive model half of the part's own effect, so that the weights leave half of the score open.

From n_1 calls with the part and n_0 without, w_j = n_0/n · (mean_1 − mean_0), and its standard error is
n_0/n · sqrt(s_1²/n_1 + s_0²/n_0).
"""

from __future__ import annotations

import numpy as np

from otoscope.explainers.explanation import Outcome
from otoscope.explainers.lime import lime_parts
from otoscope.explainers.methods import Request, method
from otoscope.explainers.neighbourhoods import Masks, refuse_too_few, too_few
from otoscope.explainers.surrogate import correlation
from otoscope.explainers.switching import ask, outcome
from otoscope.explainers.targets import Floats


@method(
    "rise",
    "average the score over random masks that hold a part",
    uses={"calls", "domain", "render", "route"},
)
def rise(request: Request) -> Outcome:
    """Weigh each part by the mean score of the calls that held it."""
    parts = lime_parts(request, "grid")
    masks = bernoulli(parts.k, request.calls, request.seed)
    scores, way = ask(request, parts, masks)
    values = request.value(scores)
    weights, se = conditional_means(masks, values)
    halves = correlation(*(mean_with(masks[i::2], values[i::2]) for i in (0, 1)))
    return outcome(request, parts, masks, scores, way, weights, se=se, fidelity={"halves": halves})


def bernoulli(k: int, calls: int, seed: int) -> Masks:
    """Draw masks (calls, k), each part on with probability ½.

    Raises
    ------
    OtoscopeError
        If there are too few calls for so many parts, or a part is on, or off, less than twice.
    """
    refuse_too_few(k, calls)
    masks = np.random.default_rng(seed).integers(0, 2, size=(calls, k), dtype=np.uint8)
    on = masks.sum(axis=0, dtype=np.int64)
    if min(on.min(), calls - on.max()) < 2:
        raise too_few(k, calls, 2 * calls)
    return masks


def conditional_means(masks: Masks, values: Floats) -> tuple[Floats, Floats]:
    """Give the mean value with a part less the mean of all, and its standard error, both (k,).

    >>> conditional_means(np.array([[1], [1], [0], [0]], dtype=np.uint8), np.array([3.0, 5.0, 0.0, 2.0]))[0].tolist()
    [1.5]
    """
    z = masks.astype(np.float64)
    on, off = z.sum(axis=0), (1 - z).sum(axis=0)  # (k,)
    centred = values - values.mean()
    mean_on, mean_off = mean_with(masks, values), mean_with(1 - masks, values)
    square_on, square_off = centred**2 @ z - on * mean_on**2, centred**2 @ (1 - z) - off * mean_off**2
    variance = square_on.clip(min=0) / (on - 1) / on + square_off.clip(min=0) / (off - 1) / off
    return mean_on, off / len(values) * np.sqrt(variance)


def mean_with(masks: Masks, values: Floats) -> Floats:
    """Mean value of the masks that hold a part less that of all, (k,); 0 for a part that none holds."""
    z = masks.astype(np.float64)
    return np.asarray((values - values.mean()) @ z / np.maximum(1, z.sum(axis=0)))
