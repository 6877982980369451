"""Measures of a classifier: precision, recall and F1 per class, macro-averaged, with their spread over folds.

Of class c, precision is the share of the windows called c that are c, recall the share of the windows that are c which
were called c, and F1 their harmonic mean (0 where nothing was found). Macro-F1 is the plain mean of F1 over classes, so
a rare class counts as much as a frequent one. Over folds: mean and standard deviation (n − 1).

Probabilities are judged too: by cross-entropy (nats), by the area under the ROC curve of valence and arousal, each the
sum of the probabilities of its upper two quadrants, and by the expected calibration error (Guo et al., 2017): in 15
equally wide bins of the greatest probability, the mean distance between it and the share of right calls, weighted by
the windows in the bin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from otoscope.adapters.model import Floats

N_BINS = 15
PROBABILITY_FLOOR = 1e-7
UPPER = {"valence": (0, 3), "arousal": (0, 1)}  # quadrants, counted from 0

Ints = npt.NDArray[np.int64]


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


def spread(values: Sequence[float] | Floats) -> dict[str, float]:
    """Mean and standard deviation over folds (0 for one fold), to four digits."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 4), "std": round(deviation, 4)}


def cross_entropy(scores: Floats, truth: Ints) -> float:
    """Mean −ln p of the true class, in nats; scores (n, n_classes), truth (n,)."""
    right = scores[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(right, PROBABILITY_FLOOR, 1)).mean())


def auc(scores: Floats, truth: Ints, upper: Sequence[int]) -> float | None:
    """Area under the ROC curve of the upper classes against the others; None where only one of the two occurs."""
    from sklearn.metrics import roc_auc_score

    high = np.isin(truth, upper)
    if high.all() or not high.any():
        return None
    return float(roc_auc_score(high, scores[:, list(upper)].sum(axis=1)))


def calibration_error(scores: Floats, truth: Ints, *, n_bins: int = N_BINS) -> float:
    """Measure the expected calibration error of scores (n, n_classes) against the truth (n,)."""
    sure = scores.max(axis=1)
    right = scores.argmax(axis=1) == truth
    place = np.minimum((sure * n_bins).astype(int), n_bins - 1)
    gaps = [np.abs((sure[place == b] - right[place == b]).sum()) for b in range(n_bins)]
    return float(np.sum(gaps) / len(truth))


def temperature(scores: Floats, truth: Ints) -> float:
    """Find the temperature at which the logits behind scores (n, n_classes) fit the truth (n,) best.

    Guo et al. (2017): probabilities become softmax(ln p / T), whose cross-entropy is least; from e^−2 to e^2.
    """
    from scipy.optimize import minimize_scalar

    def misfit(log_temperature: float) -> float:
        return cross_entropy(cooled(scores, float(np.exp(log_temperature))), truth)

    return float(np.exp(minimize_scalar(misfit, bounds=(-2.0, 2.0), method="bounded").x))


def cooled(scores: Floats, temperature: float) -> Floats:
    """Divide the logits behind probabilities (n, n_classes) by a temperature."""
    logits = np.log(np.clip(scores, PROBABILITY_FLOOR, 1)) / temperature
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def macro_f1_interval(
    calls: Sequence[Ints], others: Sequence[Ints], *, n_boot: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Difference of two contenders' macro-F1, judged on the same songs, with its 95 % interval over songs.

    Parameters
    ----------
    calls, others : sequence of ndarray, each of shape (n_classes, n_classes)
        Confusion matrices of each song, the same songs in both.
    n_boot, seed : int
        Resamples of the songs.

    Returns
    -------
    dict
        ``difference``, ``low``, ``high``.
    """
    ours, theirs = np.stack(calls).astype(np.float64), np.stack(others).astype(np.float64)
    drawn = np.concatenate([np.ones((1, len(ours))), _resampled(len(ours), n_boot, seed)])
    gap = _macro_f1s(drawn, ours) - _macro_f1s(drawn, theirs)  # (1 + n_boot,)
    low, high = np.quantile(gap[1:], [0.025, 0.975]).tolist()
    return {"difference": round(float(gap[0]), 4), "low": round(low, 4), "high": round(high, 4)}


def macro_f1_deviation(calls: Sequence[Ints], *, n_boot: int = 2000, seed: int = 0) -> float:
    """Measure the standard deviation of macro-F1 over resampled songs, from the confusion matrices of each song."""
    counts = np.stack(calls).astype(np.float64)
    return round(float(_macro_f1s(_resampled(len(counts), n_boot, seed), counts).std()), 4)


def _resampled(n: int, n_boot: int, seed: int) -> Floats:
    """Draw n songs, with replacement, many times: how often each one comes, (n_boot, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_boot).astype(np.float64)


def _macro_f1s(times: Floats, songs: Floats) -> Floats:
    """Macro-F1 of many resamples: times (n_boot, n_songs), songs (n_songs, n_classes, n_classes)."""
    counts = np.einsum("bs,sij->bij", times, songs)
    right = np.einsum("bii->bi", counts)
    return np.asarray((2 * right / np.maximum(counts.sum(axis=1) + counts.sum(axis=2), 1)).mean(axis=1))
