"""Measures of a classifier, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support, roc_auc_score

from otoscope.adapters.model import Floats
from otoscope.mer_models.measure import (
    UPPER,
    Ints,
    auc,
    calibration_error,
    confusion,
    cooled,
    cross_entropy,
    macro_f1,
    macro_f1_deviation,
    macro_f1_interval,
    per_class,
    spread,
    temperature,
)


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


def test_spread_over_folds() -> None:
    assert spread([0.2, 0.4]) == {"mean": 0.3, "std": 0.1414}
    assert spread([0.5]) == {"mean": 0.5, "std": 0.0}


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_made_logits_too_sure(factor: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4000, 4))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(4, p=row) for row in scores])
    sure = cooled(scores, 1 / factor)
    found = temperature(sure, truth)
    assert found == pytest.approx(factor, rel=0.1)
    np.testing.assert_allclose(cooled(cooled(scores, 0.5), 2.0), scores, atol=1e-5)
    assert calibration_error(cooled(sure, found), truth) < 0.03


def scored(seed: int, n: int = 80) -> tuple[Floats, Ints]:
    """Make scores (n, 4) that know something of the truth (n,)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=n)
    logits = rng.standard_normal((n, 4)) + 1.5 * np.eye(4)[truth]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), truth


@pytest.mark.parametrize("seed", range(5))
def test_probabilities_are_judged_as_scikit_learn_judges_them(seed: int) -> None:
    scores, truth = scored(seed)
    assert cross_entropy(scores, truth) == pytest.approx(log_loss(truth, scores, labels=range(4)))
    high = (truth == 0) | (truth == 1)
    assert auc(scores, truth, UPPER["arousal"]) == pytest.approx(roc_auc_score(high, scores[:, 0] + scores[:, 1]))
    assert auc(scores, np.zeros_like(truth), UPPER["arousal"]) is None


def test_calibration_error_equals_a_slow_one_and_knows_its_bounds() -> None:
    scores, truth = scored(0)
    total = 0.0
    for b in range(15):
        inside = [i for i in range(len(truth)) if b / 15 <= scores[i].max() < (b + 1) / 15]
        if inside:
            right = sum(scores[i].argmax() == truth[i] for i in inside)
            total += abs(sum(scores[i].max() for i in inside) - right)
    assert calibration_error(scores, truth) == pytest.approx(total / len(truth))
    sure = np.eye(4)[[0, 1, 2, 3]]
    assert calibration_error(sure, np.arange(4)) == 0
    assert calibration_error(sure, np.array([1, 2, 3, 0])) == 1


def test_the_interval_of_a_difference_covers_it_and_equals_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(0)
    ours = [rng.integers(0, 5, (4, 4)) + 3 * np.eye(4, dtype=int) for _ in range(30)]
    theirs = [rng.integers(0, 5, (4, 4)) for _ in range(30)]
    got = macro_f1_interval(ours, theirs, n_boot=300, seed=1)
    times = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=300)
    gaps = []
    for draw in times:
        drawn = [
            sum((int(n) * c for n, c in zip(draw, counts, strict=True)), np.zeros((4, 4), int))
            for counts in (ours, theirs)
        ]
        gaps.append(macro_f1(drawn[0]) - macro_f1(drawn[1]))
    assert got["difference"] == pytest.approx(macro_f1(sum(ours)) - macro_f1(sum(theirs)), abs=1e-4)  # type: ignore[arg-type]
    assert got["low"] == pytest.approx(np.quantile(gaps, 0.025), abs=1e-4)
    assert got["high"] == pytest.approx(np.quantile(gaps, 0.975), abs=1e-4)
    assert 0 < got["low"] < got["difference"] < got["high"]
    same = macro_f1_interval(ours, ours)
    assert (same["low"], same["difference"], same["high"]) == (0, 0, 0)
    assert macro_f1_deviation(ours) > 0
    assert macro_f1_deviation(ours[:1]) == 0
