"""Evidence: which parts an explanation would play alone, and which parts each of its weights stands for."""

from __future__ import annotations

import numpy as np

from otoscope.explainers.parts import Bools
from otoscope.explainers.targets import Floats

EVIDENCE_SHARE = 0.8


def members(groups: Bools | None, k: int) -> Floats:
    """Which parts each weight stands for, shape (n_weights, k)."""
    return np.eye(k) if groups is None else groups.astype(np.float64)


def evidence_parts(groups: Bools | None, chosen: Bools, k: int) -> Bools:
    """Which parts the chosen weights stand for, shape (k,)."""
    return np.asarray(members(groups, k)[chosen].sum(axis=0) > 0)


def choose_evidence(weights: Floats, se: Floats | None) -> Bools:
    """Choose the strongest weights with w > 2 se until 80 % of the positive weight is reached.

    Parameters
    ----------
    weights : ndarray, shape (n_weights,)
    se : ndarray, shape (n_weights,), or None
        Without standard errors every positive weight may be chosen.

    Returns
    -------
    ndarray of bool, shape (n_weights,)

    Examples
    --------
    >>> choose_evidence(np.array([5.0, 3.0, 1.0, 1.0, -4.0]), None).tolist()
    [True, True, False, False, False]
    """
    chosen = np.zeros(len(weights), dtype=bool)
    goal = EVIDENCE_SHARE * weights.clip(min=0).sum()
    sure = weights > (0 if se is None else 2 * se)
    reached = 0.0
    for index in np.argsort(-weights, kind="stable"):
        if reached >= goal * (1 - 1e-9):
            break
        if not sure[index]:
            continue  # a weaker part may be surer
        chosen[index] = True
        reached += float(weights[index])
    return chosen
