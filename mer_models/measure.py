"""Measures of a classifier: precision, recall and F1 per class, macro-averaged, with their spread over folds.

Of class c, precision is the share of the windows called c that are c, recall the share of the windows that are c which
were called c, and F1 their harmonic mean (0 where nothing was found). Macro-F1 is the plain mean of F1 over classes, so
a rare class counts as much as a frequent one. Over folds: mean and standard deviation (n − 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def confusion(calls: Sequence[tuple[int, int]], n_classes: int) -> Ints:
    """Count (truth, called) pairs, shape (n_classes, n_classes), truth by rows."""
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    for truth, called in calls:
        counts[truth, called] += 1
    return counts


def per_class(counts: Ints) -> dict[str, Floats]:
    """Precision, recall and F1, each (n_classes,), from a confusion matrix (truth by rows)."""
    right = np.diag(counts).astype(np.float64)
    precision = right / np.maximum(counts.sum(axis=0), 1)
    recall = right / np.maximum(counts.sum(axis=1), 1)
    f1 = 2 * right / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)
    return {"precision": precision, "recall": recall, "f1": f1}


def macro_f1(counts: Ints) -> float:
    """Mean F1 over classes, from a confusion matrix (truth by rows)."""
    return float(per_class(counts)["f1"].mean())


def merged_accuracy(counts: Ints, halves: Sequence[Sequence[int]]) -> float:
    """Share of right calls when classes are told apart by halves only, from a confusion matrix (truth by rows)."""
    right = sum(int(counts[np.ix_(half, half)].sum()) for half in halves)
    return right / max(1, int(counts.sum()))


def spread(values: Sequence[float] | Floats) -> dict[str, float]:
    """Mean and standard deviation over folds (0 for one fold), to four digits."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 4), "std": round(deviation, 4)}


def summary(folds: Sequence[Ints], labels: Sequence[str]) -> dict[str, Any]:
    """Sum up the confusion matrices of all folds.

    Returns
    -------
    dict
        ``n``, ``macro_f1`` and, per label, ``precision``, ``recall`` and ``f1``, each as mean and standard deviation.
    """
    table: dict[str, Any] = {
        "n": int(sum(counts.sum() for counts in folds)),
        "macro_f1": spread([macro_f1(counts) for counts in folds]),
    }
    each = [per_class(counts) for counts in folds]
    for index, label in enumerate(labels):
        table[label] = {
            name: spread([float(one[name][index]) for one in each]) for name in ("precision", "recall", "f1")
        }
    return table
