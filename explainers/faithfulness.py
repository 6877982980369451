"""Faithfulness: does an explanation say what the model does? Functions on raw arrays, one for each metric.

*Conventions.* k parts, n items (recordings), c classes. A mask has 1 where a part stays and 0 where it is off. All that
is per item comes back as (n,), for the caller to average and to bootstrap. Scores are of the explained class.

*Curves over parts* (Petsiuk, Das & Saenko, "RISE", BMVC 2018): f after the j strongest parts went (deletion) or came
(insertion), over the share j/k, and the area under it. `curve_masks` gives what to ask the model, `area` the figure.

*Evidence and the rest* (DeYoung et al., "ERASER", ACL 2020): comprehensiveness and sufficiency.

*L-MAC's set* (Paissan, Ravanelli & Subakan, "Listenable Maps for Audio Classifiers", ICML 2024): AI and AD
(Chattopadhay et al., "Grad-CAM++", WACV 2018), AG (Zhang et al., "Opti-CAM", CVIU 2024), FF (Parekh et al., "Listen to
Interpret", NeurIPS 2022), Fid-In (Paissan et al., "Posthoc Interpretation via Quantization", 2023), SPS (Chalasani et
al., ICML 2020) and COMP (Bhatt et al., IJCAI 2020). AI, AD, AG and FF are of *probabilities*, after one softmax (or
sigmoid). The published recipe of L-MAC puts AD, and AD alone, through a second softmax, which brings all probabilities
near 1/c and shrinks all drops: its AD of 3.83 is no yardstick for this one. L-MAC explains the class that the model
predicts; here it is whichever class the probabilities are of.

*Infidelity and sensitivity* (Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019), on parts
and weights, equal to Captum's.

*Top-k fidelity* (Haunschmid, Manilow & Widmer, "audioLIME", 2020).

*Boundary cases.* A class of probability 0 cannot drop (AD 0), one of probability 1 cannot gain (AG 0). A map of zeros
points nowhere, which is scored as pointing everywhere: sparseness 0, complexity ln n, so that saying nothing never
wins. Weights of zero have an absolute sensitivity, as in Captum. NaN and infinity are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.agreement import scaled
from otoscope.explainers.metrics import METRICS as METRICS  # by their names here
from otoscope.explainers.neighbourhoods import Masks
from otoscope.explainers.parts import Bools
from otoscope.explainers.targets import Floats

Ints = npt.NDArray[np.intp]

ROUNDING = 1e-6  # by which a probability in single precision may pass 0 or 1


def checked(what: str, array: npt.ArrayLike, *, ndim: int | None = None) -> Floats:
    """Take an array at the door: numbers, finite, not empty, with so many axes (any where None)."""
    found = np.asarray(array, dtype=np.float64)
    if found.size == 0 or (ndim is not None and found.ndim != ndim):
        axes = "" if ndim is None else f" with {ndim} {'axis' if ndim == 1 else 'axes'}"
        raise OtoscopeError(f"got {what} of shape {found.shape}; give at least one number{axes}")
    if not np.isfinite(found).all():
        wrong = np.count_nonzero(~np.isfinite(found))
        raise OtoscopeError(f"{wrong} of {found.size} {what} are NaN or infinite; leave out what could not be scored")
    return found


def ranking(weights: Floats) -> Ints:
    """Order parts (k,) by what speaks most for the target: descending signed weight, ties by index. Shape (k,)."""
    return np.argsort(-checked("weights", weights, ndim=1), kind="stable")


def curve_masks(order: npt.ArrayLike, steps: int) -> tuple[Ints, Masks, Masks]:
    """Make the masks of the deletion and the insertion curve of an order of the parts.

    Parameters
    ----------
    order : array of int, shape (k,)
        Part numbers, as from `ranking`.
    steps : int
        Most steps; with k or more of them the parts go one by one.

    Returns
    -------
    counts : ndarray of int, shape (n_steps + 1,)
        Parts that went (or came), evenly spaced from 0 to k.
    deletion, insertion : ndarray of 0 and 1, shape (n_steps + 1, k)
        All but the first ``counts`` parts, and they alone. The deletion of an order is the insertion of its reverse,
        read from the end.

    Examples
    --------
    >>> counts, deletion, insertion = curve_masks([2, 0, 1], 3)
    >>> counts.tolist(), deletion.tolist()
    ([0, 1, 2, 3], [[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    """
    parts = np.asarray(order)
    k = len(parts)
    if k == 0 or not np.array_equal(np.sort(parts), np.arange(k)):
        raise OtoscopeError(f"got an order of {k} that does not hold every part once; give the numbers 0 to k − 1")
    if steps < 1:
        raise OtoscopeError(f"a curve cannot have {steps} steps; give at least 1")
    n_steps = min(steps, k)
    counts = np.arange(n_steps + 1) * k // n_steps
    rank = np.argsort(parts)  # of each part in the order
    insertion = (rank < counts[:, None]).astype(np.uint8)  # (n_steps + 1, k)
    return counts, 1 - insertion, insertion


def area(counts: npt.ArrayLike, values: npt.ArrayLike) -> float:
    r"""Area under a curve over the share of parts, by the trapezoid rule (Petsiuk et al. 2018).

    ∫₀¹ f(s) ds with s = counts / k, so that a constant curve has its constant as area.

    Parameters
    ----------
    counts : array, shape (n_steps + 1,)
        From 0 up to k, as from `curve_masks`.
    values : array, shape (n_steps + 1,)
        Scores, in whatever units.
    """
    at, height = checked("counts", counts, ndim=1), checked("values", values, ndim=1)
    if at.shape != height.shape or len(at) < 2 or at[0] != 0 or (np.diff(at) <= 0).any():
        raise OtoscopeError(f"got {len(at)} counts and {len(height)} values; give one value each for 0 up to k parts")
    return float(np.trapezoid(height, at / at[-1]))


def comprehensiveness(full: npt.ArrayLike, without: npt.ArrayLike) -> Floats:
    """Loss without the evidence, f(x) − f(x ∖ e), shape (n,) (DeYoung et al. 2020, eq. 1)."""
    whole, rest = _alike("scores", full, without)
    return whole - rest


def sufficiency(full: npt.ArrayLike, only: npt.ArrayLike) -> Floats:
    """Loss with the evidence alone, f(x) − f(e), shape (n,) (DeYoung et al. 2020, eq. 2)."""
    whole, alone = _alike("scores", full, only)
    return whole - alone


def average_increase(full: npt.ArrayLike, evidence: npt.ArrayLike) -> Floats:
    """AI, in per cent, shape (n,): 100 · 1[p(e) > p(x)]."""
    p, q = _probabilities(full, evidence)
    return np.where(q > p, 100.0, 0.0)


def average_drop(full: npt.ArrayLike, evidence: npt.ArrayLike) -> Floats:
    """AD, in per cent, shape (n,): 100 · max(0, p(x) − p(e)) / p(x); 0 where p(x) = 0."""
    p, q = _probabilities(full, evidence)
    return 100 * np.maximum(0, p - q) / np.where(p > 0, p, 1)


def average_gain(full: npt.ArrayLike, evidence: npt.ArrayLike) -> Floats:
    """AG, in per cent, shape (n,): 100 · max(0, p(e) − p(x)) / (1 − p(x)); 0 where p(x) = 1."""
    p, q = _probabilities(full, evidence)
    return 100 * np.maximum(0, q - p) / np.where(p < 1, 1 - p, 1)


def faithfulness_to_filtering(full: npt.ArrayLike, complement: npt.ArrayLike) -> Floats:
    """FF, shape (n,): p(x) − p(x ∖ e), the probability lost when the evidence is filtered out."""
    p, q = _probabilities(full, complement)
    return p - q


def input_fidelity(full_scores: npt.ArrayLike, evidence_scores: npt.ArrayLike) -> Floats:
    """Fid-In, shape (n,): 1[argmax f(e) = argmax f(x)], from the scores (n, c) of all classes; ties to the first."""
    whole, alone = _alike("scores", full_scores, evidence_scores, ndim=2)
    return np.where(whole.argmax(axis=1) == alone.argmax(axis=1), 1.0, 0.0)


def sparseness(cells: npt.ArrayLike) -> float:
    """SPS: Gini index of a map's sizes (Chalasani et al. 2020).

    With a₁ ≤ … ≤ aₙ the sorted |cells|, Σᵢ (2i − n − 1) aᵢ / (n Σᵢ aᵢ): 0 for a constant map (or one of zeros),
    1 − 1/n for a single cell. Quantus adds 1e-7 to every cell, which scale invariance forbids.

    Parameters
    ----------
    cells : array of any shape
        Map or weights, signed, in whatever units.
    """
    shares = np.sort(np.abs(scaled(checked("cells", cells))), axis=None)
    n = shares.size
    return max(0.0, float((2 * np.arange(1, n + 1) - n - 1) @ shares) / n)


def complexity(cells: npt.ArrayLike) -> float:
    """COMP: entropy of a map's sizes, in nats (Bhatt et al. 2020).

    With pᵢ = |cellᵢ| / Σ|cell|, −Σᵢ pᵢ ln pᵢ: 0 for a single cell, ln n for a constant map (or one of zeros).

    Parameters
    ----------
    cells : array of any shape
        Map or weights, signed, in whatever units.
    """
    shares = np.abs(scaled(checked("cells", cells))).ravel()
    if not shares.any():
        return float(np.log(shares.size))
    shares = shares[shares > 0]
    return max(0.0, -float(shares @ np.log(shares)))


def infidelity(
    masks: npt.ArrayLike, values: npt.ArrayLike, weights: npt.ArrayLike, value_full: float, *, normalise: bool = False
) -> float:
    """Squared error of the weights as a forecast of what perturbations do (Yeh et al. 2019, definition 2.1).

    E[(Iᵀw − (f(1) − f(z)))²] with the perturbation I = 1 − z, that is, the parts that are off.

    Parameters
    ----------
    masks : array of 0 and 1, shape (n, k)
    values : array, shape (n,)
        f(z), on the scale of the weights.
    weights : array, shape (k,)
    value_full : float
        f(1), the undivided recording.
    normalise : bool
        Scale the weights first by β = E[Iᵀw (f(1) − f(z))] / E[(Iᵀw)²], the factor that fits best, so that weights in
        units of their own (Grad-CAM's) can be compared; as Captum's ``normalize``.

    Returns
    -------
    float
        In squared units of the values.
    """
    gone = 1 - checked("masks", masks, ndim=2)
    asked, w = checked("values", values, ndim=1), checked("weights", weights, ndim=1)
    if gone.shape != (len(asked), len(w)):
        raise OtoscopeError(f"got masks of shape {gone.shape} for {len(asked)} values and {len(w)} weights")
    forecast, lost = gone @ w, checked("values", [value_full])[0] - asked  # each (n,)
    square = float(forecast @ forecast)
    beta = float(forecast @ lost) / square if normalise and square > 0 else 1.0
    return float(np.mean((beta * forecast - lost) ** 2))


def max_sensitivity(weights: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """Largest relative change of an explanation (Yeh et al. 2019, definition 3.1, relative as Captum's).

    max over w′ of ‖w′ − w‖ / ‖w‖; of ‖w′ − w‖ where w = 0.

    Parameters
    ----------
    weights : array, shape (k,)
    others : array, shape (n, k)
        Weights of the same parts after a small change: of the input, or of the seed.
    """
    w, changed = checked("weights", weights, ndim=1), checked("weights", others, ndim=2)
    if changed.shape[1] != len(w):
        raise OtoscopeError(f"got {len(w)} weights and others of shape {changed.shape}; give weights of the same parts")
    return float(np.linalg.norm(changed - w, axis=1).max() / (np.linalg.norm(w) or 1.0))


def top_k_masks(weights: Floats, ks: Sequence[int]) -> Masks:
    """Keep the k best positive parts alone, for each k: masks (n_ks, k). Where fewer are positive, keep those."""
    if len(ks) == 0 or min(ks) < 0:
        raise OtoscopeError(f"cannot keep {list(ks)} parts; give numbers from 0")
    rank = np.argsort(ranking(weights))
    kept = (rank < np.asarray(ks)[:, None]) & (np.asarray(weights) > 0)
    return kept.astype(np.uint8)


def top_k_fidelity(top_full: int, scores_of_top_k: npt.ArrayLike) -> Bools:
    """Tell whether the k best parts alone keep the top class (Haunschmid et al. 2020).

    Parameters
    ----------
    top_full : int
        Class that scores highest in the full recording.
    scores_of_top_k : array, shape (n_ks, n_classes)
        Scores at the masks of `top_k_masks`.

    Returns
    -------
    ndarray of bool, shape (n_ks,)
    """
    scores = checked("scores", scores_of_top_k, ndim=2)
    if not 0 <= top_full < scores.shape[1]:
        raise OtoscopeError(f"got class {top_full} of {scores.shape[1]}; count classes from 0")
    return np.asarray(scores.argmax(axis=1) == top_full)


def _alike(what: str, *arrays: Any, ndim: int = 1) -> list[Floats]:
    """Check arrays of one shape."""
    found = [checked(what, array, ndim=ndim) for array in arrays]
    if len({one.shape for one in found}) > 1:
        shapes = " and ".join(str(one.shape) for one in found)
        raise OtoscopeError(f"got {what} of shapes {shapes}; give those of the same recordings")
    return found


def _probabilities(*arrays: Any) -> list[Floats]:
    """Check arrays (n,) of probabilities."""
    found = _alike("probabilities", *arrays)
    low, high = min(one.min() for one in found), max(one.max() for one in found)
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise OtoscopeError(f"got probabilities from {low:.3g} to {high:.3g}; give scores after one softmax or sigmoid")
    return [np.clip(one, 0, 1) for one in found]
