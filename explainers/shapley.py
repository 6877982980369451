"""Shapley values of parts: what a part adds to the score, averaged over all orders in which the parts could come in.

With v(S) the score when the parts in S sound and the others are off,

    φ_j = Σ_{S ∌ j} |S|! (k − |S| − 1)! / k! · (v(S ∪ j) − v(S))                                  (Shapley, 1953),

so that Σ φ_j = v(all) − v(off) (efficiency), parts that do the same get the same, and one that does nothing gets 0.

``shapley`` asks for all 2^k combinations of at most 13 parts: the twelve pitch classes and the remainder.

``kernelshap`` (Lundberg & Lee, 2017) draws combinations instead, of s parts with probability ∝ 1/(s (k − s)) and any
such s alike, which is the Shapley kernel, and fits v(off) + Σ z_j φ_j to them under the constraint of efficiency, the
kernel being infinite at s = 0 and s = k. Each mask comes with its mirror image (paired sampling: Covert & Lee, 2021),
and as in a fold-over design (`otoscope.explainers.surrogate`) the two split: the half-difference d = (y − y′)/2 is
(z − ½)·φ plus odd interactions, the half-sum holds even interactions and nothing of φ. With
φ = (v(all) − v(off))/k + H γ, where the columns of H span what sums to 0, γ is plain least squares. The pairs are
independent draws, so the errors are those of a regression with random rows: White's covariance with left-out residuals
r/(1 − h) (HC3), the delete-one jackknife.

Captum's `KernelShap` solves the same problem from unpaired masks. It agrees (it is an oracle of the tests), but at 256
calls its error was 2 to 13 times as large on random functions of 10 and 5 parts: to pairs even interactions cancel.

Where all combinations are no more than the calls asked for, ``kernelshap`` takes them all and is ``shapley``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.explanation import Outcome
from otoscope.explainers.lime import lime_parts
from otoscope.explainers.makers import N_PARTS
from otoscope.explainers.methods import Request, method
from otoscope.explainers.neighbourhoods import Masks, all_combinations, refuse_too_few, too_few
from otoscope.explainers.parts import Parts
from otoscope.explainers.shares import shapley_credits
from otoscope.explainers.surrogate import correlation
from otoscope.explainers.switching import ask, outcome
from otoscope.explainers.targets import Floats

FEW_PARTS = 10  # of exact Shapley values where no number of parts is asked for: 1,024 calls
MOST_PARTS = 13  # pitch classes and a remainder: 8,192 calls


@method(
    "shapley",
    "Shapley values of at most 13 parts, from all combinations",
    uses={"domain", "render", "route"},
)
def shapley(request: Request) -> Outcome:
    """Average what each part adds over all orders."""
    settings = request.settings
    few = MOST_PARTS if settings.parts == "harmonic" else FEW_PARTS
    parts = lime_parts(request, n_parts=few if settings.n_parts == N_PARTS else settings.n_parts)
    if parts.k > MOST_PARTS:
        raise OtoscopeError(
            f"exact Shapley values of {parts.k} parts need 2**{parts.k} calls; use at most {MOST_PARTS} parts "
            "(n_parts), or the method kernelshap"
        )
    return _exact(request, parts)


@method(
    "kernelshap",
    "Shapley values of many parts, from combinations drawn by the Shapley kernel",
    uses={"calls", "domain", "render", "route"},
)
def kernelshap(request: Request) -> Outcome:
    """Fit a linear model of the score under the Shapley kernel."""
    parts = lime_parts(request)
    calls = request.calls
    refuse_too_few(parts.k, calls)
    if parts.k <= np.log2(calls):
        return _exact(request, parts)
    masks = kernel_masks(parts.k, calls, request.seed)
    scores, way = ask(request, parts, masks)
    values = request.value(scores)
    weights, se, left_out = kernel_fit(masks, values)
    figures = _figures(values, left_out, weights, on=0, mirror=np.roll(np.arange(len(masks)), len(masks) // 2))
    figures["halves"] = _halves(masks, values)
    return outcome(request, parts, masks, scores, way, weights, se=se, fidelity=figures)


def _exact(request: Request, parts: Parts) -> Outcome:
    """Ask for all combinations; there is no error of sampling, so no standard errors."""
    masks = all_combinations(parts.k)
    scores, way = ask(request, parts, masks)
    values = request.value(scores)
    weights = values @ shapley_credits(masks)
    residual = values - values[0] - masks @ weights
    figures = _figures(values, residual, weights, on=-1, mirror=np.arange(len(masks))[::-1])
    return outcome(request, parts, masks, scores, way, weights, fidelity=figures)


def kernel_masks(k: int, calls: int, seed: int) -> Masks:
    """Draw masks by the Shapley kernel in mirror pairs, shape (n, k) with n the even number up to `calls`.

    Rows 0 and n/2 are all on and all off; row i + n/2 is the mirror image of row i.
    """
    rng = np.random.default_rng(seed)
    sizes = np.arange(1, k)
    kernel = 1 / (sizes * (k - sizes))
    size = rng.choice(sizes, size=calls // 2 - 1, p=kernel / kernel.sum())
    drawn = rng.permuted((np.arange(k) < size[:, None]).astype(np.uint8), axis=1)  # (n / 2 - 1, k)
    half = np.concatenate([np.ones((1, k), dtype=np.uint8), drawn])
    return np.concatenate([half, 1 - half])


def kernel_fit(masks: Masks, values: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit Shapley values to masks (n, k) as `kernel_masks` draws them, and their values (n,).

    Returns
    -------
    weights : ndarray, shape (k,)
        The sum is the value of all on less that of all off.
    se : ndarray, shape (k,)
    left_out : ndarray, shape (n,)
        What the value is off the fit to all other pairs.

    Raises
    ------
    OtoscopeError
        If the masks leave a part undetermined.
    """
    from scipy.linalg import helmert, solve_triangular

    n, k = len(masks) // 2, masks.shape[1]
    each = (values[0] - values[n]) / k
    x = masks[1:n].astype(np.float64) - 0.5
    basis = helmert(k).T  # (k, k - 1), columns of sum 0
    difference = (values[1:n] - values[n + 1 :]) / 2 - each * x.sum(axis=1)
    total = (values[1:n] + values[n + 1 :] - values[0] - values[n]) / 2
    q, r = np.linalg.qr(x @ basis)
    leverage = (q**2).sum(axis=1)
    size = np.abs(np.diag(r))
    if n <= k or size.min() < 1e-9 * size.max() or leverage.max() > 1 - 1e-9:
        raise too_few(k, 2 * n, 4 * n)
    fitted = q.T @ difference
    left_out = (difference - q @ fitted) / (1 - leverage)
    to_weights = solve_triangular(r, basis.T, trans="T").T  # (k, k - 1): basis R⁻¹
    se = np.sqrt(((to_weights @ (q * left_out[:, None]).T) ** 2).sum(axis=1))
    ends = np.zeros(1)
    residual = np.concatenate([ends, total + left_out, ends, total - left_out])
    return each + to_weights @ fitted, se, residual


def _halves(masks: Masks, values: Floats) -> float | None:
    """Rank correlation of fits to every second pair, the ends in both; None where half of the pairs are too few."""
    n, k = len(masks) // 2, masks.shape[1]
    if n < 8 * k:
        return None
    found = []
    for first in (1, 2):
        rows = np.r_[0, first:n:2]
        rows = np.concatenate([rows, rows + n])
        found.append(kernel_fit(masks[rows], values[rows])[0])
    return correlation(*found)


def _figures(
    values: Floats, residual: Floats, weights: Floats, *, on: int, mirror: npt.NDArray[np.intp]
) -> dict[str, float | None]:
    """Tell how additive the score is.

    R² is that of v(off) + Σ z_j φ_j over the calls, the share of interactions that of even ones, as in
    `otoscope.explainers.surrogate`; the gap is what efficiency leaves open, of which rounding is all there may be.
    """
    spread = float(((values - values.mean()) ** 2).sum())
    off = float(values[mirror[on]])
    gap = float(values[on]) - off - float(weights.sum())
    if spread <= 1e-24 * len(values):
        return {"r2": None, "interactions": None, "intercept": off, "efficiency_gap": gap}
    even = float((((values + values[mirror]) / 2 - values.mean()) ** 2).sum())
    return {
        "r2": 1 - float(residual @ residual) / spread,
        "interactions": even / spread,
        "intercept": off,
        "efficiency_gap": gap,
    }
