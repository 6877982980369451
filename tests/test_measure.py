"""Measures of a classifier, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from otoscope.mer_models.measure import confusion, macro_f1, merged_accuracy, per_class, spread, summary


@pytest.mark.parametrize("seed", range(5))
def test_measures_equal_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=60)
    called = np.where(rng.random(60) < 0.5, truth, rng.integers(3, size=60))  # class 3 is called seldom
    counts = confusion(list(zip(truth.tolist(), called.tolist(), strict=True)), 4)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, called, labels=range(4), zero_division=0)
    got = per_class(counts)
    np.testing.assert_allclose(got["precision"], precision)
    np.testing.assert_allclose(got["recall"], recall)
    np.testing.assert_allclose(got["f1"], f1)
    assert macro_f1(counts) == pytest.approx(f1_score(truth, called, labels=range(4), average="macro", zero_division=0))


def test_a_class_never_found_scores_zero() -> None:
    assert macro_f1(confusion([(0, 0), (1, 0)], 2)) == pytest.approx((2 / 3) / 2)
    assert macro_f1(confusion([], 4)) == 0


def test_halves_forgive_what_they_merge() -> None:
    counts = confusion([(0, 0), (0, 1), (0, 2), (0, 3)], 4)
    assert merged_accuracy(counts, ((0, 1), (2, 3))) == 0.5
    assert merged_accuracy(counts, ((0, 1, 2), (3,))) == 0.75
    assert merged_accuracy(counts, ((0,), (1, 2, 3))) == 0.25
    assert merged_accuracy(confusion([], 4), ((0, 1), (2, 3))) == 0


def test_spread_over_folds() -> None:
    assert spread([0.2, 0.4]) == {"mean": 0.3, "std": 0.1414}
    assert spread([0.5]) == {"mean": 0.5, "std": 0.0}


def test_summary_averages_folds_not_windows() -> None:
    perfect, wrong = confusion([(0, 0), (1, 1)] * 9, 2), confusion([(0, 1), (1, 0)], 2)
    table = summary([perfect, wrong], ["a", "b"])
    assert table["n"] == 20
    assert table["macro_f1"]["mean"] == 0.5
    assert table["b"]["recall"]["mean"] == 0.5
