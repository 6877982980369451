"""Faithfulness: each metric against a slow plain version from its paper, Captum and Quantus, and its boundary cases."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum import metrics as captum
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers import faithfulness
from otoscope.explainers.faithfulness import (
    METRICS,
    area,
    average_drop,
    average_gain,
    average_increase,
    complexity,
    comprehensiveness,
    curve_masks,
    faithfulness_to_filtering,
    infidelity,
    input_fidelity,
    max_sensitivity,
    ranking,
    sparseness,
    sufficiency,
    top_k_fidelity,
    top_k_masks,
)
from tests.builders import Floats

CASES = range(20)

# Each metric once more, slow and plain. Per item: of two numbers.
ITEMS: dict[Callable[[Any, Any], Floats], Callable[[float, float], float]] = {
    comprehensiveness: lambda full, without: full - without,
    sufficiency: lambda full, only: full - only,
    average_increase: lambda p, q: 100.0 if q > p else 0.0,
    average_drop: lambda p, q: 100 * (p - q) / p if q < p else 0.0,
    average_gain: lambda p, q: 100 * (q - p) / (1 - p) if q > p else 0.0,
    faithfulness_to_filtering: lambda p, q: p - q,
}


def slow_gini(cells: Floats) -> float:
    """Mean absolute difference of all pairs over twice the mean: the definition behind the formula of sorted values."""
    sizes = [abs(float(one)) for one in cells.ravel()]
    pairs = sum(abs(a - b) for a in sizes for b in sizes)
    return pairs / (2 * len(sizes) * sum(sizes))


def slow_entropy(cells: Floats) -> float:
    sizes = [abs(float(one)) for one in cells.ravel()]
    shares = [size / sum(sizes) for size in sizes]
    return -sum(share * math.log(share) for share in shares if share > 0)


def slow_area(counts: list[int], values: list[float]) -> float:
    total = 0.0
    for i in range(1, len(counts)):
        total += (counts[i] - counts[i - 1]) / counts[-1] * (values[i] + values[i - 1]) / 2
    return total


def slow_infidelity(masks: Any, values: Any, weights: Any, full: float, *, normalise: bool) -> float:
    dots = [sum((1 - z) * w for z, w in zip(mask, weights, strict=True)) for mask in masks]
    drops = [full - value for value in values]
    beta = sum(a * b for a, b in zip(dots, drops, strict=True)) / sum(a * a for a in dots) if normalise else 1.0
    return float(sum((beta * a - b) ** 2 for a, b in zip(dots, drops, strict=True))) / len(dots)


def slow_sensitivity(weights: Any, others: Any) -> float:
    size = math.sqrt(sum(w * w for w in weights))
    return max(math.sqrt(sum((a - b) ** 2 for a, b in zip(one, weights, strict=True))) / size for one in others)


@pytest.mark.parametrize("seed", CASES)
@pytest.mark.parametrize("metric", ITEMS, ids=lambda metric: metric.__name__)
def test_a_metric_of_items_equals_its_plain_version(metric: Any, seed: int) -> None:
    p, q = np.random.default_rng(seed).uniform(size=(2, 17))
    found = metric(p, q)
    assert found.shape == (17,)
    assert found == pytest.approx([ITEMS[metric](a, b) for a, b in zip(p, q, strict=True)], rel=1e-12)


@pytest.mark.parametrize("seed", CASES)
def test_input_fidelity_equals_its_plain_version(seed: int) -> None:
    full, evidence = np.random.default_rng(seed).standard_normal((2, 30, 3))
    plain = [
        float(max(range(3), key=lambda c, a=a: a[c]) == max(range(3), key=lambda c, b=b: b[c]))  # type: ignore[misc]
        for a, b in zip(full, evidence, strict=True)
    ]
    assert 0 < sum(plain) < 30
    assert input_fidelity(full, evidence).tolist() == plain


@pytest.mark.parametrize("seed", CASES)
def test_sparseness_and_complexity_equal_their_plain_versions(seed: int) -> None:
    cells = np.random.default_rng(seed).standard_normal((6, 9)) ** 3
    assert sparseness(cells) == pytest.approx(slow_gini(cells), rel=1e-12)
    assert complexity(cells) == pytest.approx(slow_entropy(cells), rel=1e-12)


def test_sparseness_and_complexity_are_those_of_quantus() -> None:
    """Golden values of Quantus 0.6.0 (numpy 2.4.6): `Sparseness()` and `Complexity()`, `evaluate_batch` of |cells|.

    Quantus adds 1e-7 to each cell and 1e-12 within the logarithm, hence the tolerance.
    """
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((3, 108, 40)) * rng.exponential(size=(3, 108, 1))
    assert [sparseness(one) for one in maps] == pytest.approx(
        [0.6415304240272031, 0.5930761517927216, 0.640992652872841], abs=1e-6
    )
    assert [complexity(one) for one in maps] == pytest.approx(
        [7.600116110086237, 7.741143877979068, 7.604963535194257], abs=1e-6
    )


@pytest.mark.parametrize("seed", CASES)
def test_curves_equal_their_plain_version(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k, steps = int(rng.integers(1, 30)), int(rng.integers(1, 12))
    weights = rng.standard_normal(k)
    order = ranking(weights)
    assert order.tolist() == sorted(range(k), key=lambda part: -weights[part])
    counts, deletion, insertion = curve_masks(order, steps)
    assert (counts[0], counts[-1], len(counts)) == (0, k, min(steps, k) + 1)
    assert np.ptp(np.diff(counts)) <= 1  # evenly spaced
    for row, count in enumerate(counts):
        gone = set(order[:count].tolist())
        assert deletion[row].tolist() == [int(part not in gone) for part in range(k)]
        assert insertion[row].tolist() == [int(part in gone) for part in range(k)]
    values = rng.standard_normal(len(counts))
    assert area(counts, values) == pytest.approx(slow_area(counts.tolist(), values.tolist()), rel=1e-12)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("seed", CASES)
def test_infidelity_equals_its_plain_version_and_captum(seed: int, normalise: bool) -> None:
    rng = np.random.default_rng(seed)
    k, n = 7, 40
    true, weights = rng.standard_normal((2, k))
    masks = rng.integers(0, 2, size=(n, k)).astype(np.float64)

    def score(z: torch.Tensor) -> torch.Tensor:
        straight = z @ torch.from_numpy(true)
        return straight + (torch.tanh(3 * straight) * z[:, 0] if seed % 2 else 0)

    def perturb(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return inputs - torch.from_numpy(masks), torch.from_numpy(masks)

    full = torch.ones(1, k, dtype=torch.float64)
    values = score(torch.from_numpy(masks)).numpy()
    found = infidelity(masks, values, weights, float(score(full)[0]), normalise=normalise)
    assert found == pytest.approx(
        slow_infidelity(masks, values, weights, float(score(full)[0]), normalise=normalise), rel=1e-9
    )
    theirs = captum.infidelity(
        score, perturb, full, torch.from_numpy(weights)[None], n_perturb_samples=n, normalize=normalise
    )
    assert found == pytest.approx(float(theirs), rel=1e-9)


@pytest.mark.parametrize("seed", CASES)
def test_max_sensitivity_equals_its_plain_version_and_captum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, others = rng.standard_normal(5), rng.standard_normal((8, 5))
    found = max_sensitivity(weights, others)
    assert found == pytest.approx(slow_sensitivity(weights, others), rel=1e-12)
    theirs = captum.sensitivity_max(
        lambda inputs: inputs,  # each input is its own explanation
        (torch.from_numpy(weights)[None],),
        perturb_func=lambda *_: (torch.from_numpy(others),),
        n_perturb_samples=len(others),
    )
    assert found == pytest.approx(float(theirs), rel=1e-12)


@pytest.mark.parametrize("seed", CASES)
def test_top_k_equals_its_plain_version(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, ks = rng.standard_normal(8), [0, 1, 3, 8]
    best = sorted((part for part in range(8) if weights[part] > 0), key=lambda part: -weights[part])
    masks = top_k_masks(weights, ks)
    assert masks.dtype == np.uint8
    assert masks.tolist() == [[int(part in best[:k]) for part in range(8)] for k in ks]
    scores = rng.uniform(size=(4, 3))
    plain = [list(row).index(max(row)) == 1 for row in scores]
    assert top_k_fidelity(1, scores).tolist() == plain


# A model that adds up its parts, explained perfectly, upside down, evenly, and not at all.
TRUE = np.array([3.0, -1.0, 0.5, 0.0, -2.0])


def areas(weights: Floats) -> tuple[float, float]:
    counts, deletion, insertion = curve_masks(ranking(weights), len(weights))
    return area(counts, deletion @ TRUE), area(counts, insertion @ TRUE)


def test_the_perfect_ranking_of_an_additive_model_has_the_best_areas_of_all() -> None:
    rng = np.random.default_rng(0)
    deletion, insertion = areas(TRUE)
    assert (deletion, insertion) == pytest.approx((-2.05, 2.55))  # by hand; of 0, 3, 3.5, 3.5, 2.5, 0.5 the latter
    others = [areas(rng.permutation(5.0 - np.arange(5))) for _ in range(200)]
    assert deletion == pytest.approx(min(one for one, _ in others))
    assert insertion == pytest.approx(max(one for _, one in others))
    assert areas(-TRUE) == pytest.approx((insertion, deletion))  # inverted: the other curve, from its end


def test_constant_weights_rank_parts_by_their_number() -> None:
    assert ranking(np.ones(4)).tolist() == ranking(np.zeros(4)).tolist() == [0, 1, 2, 3]


def test_perfect_inverted_constant_and_no_weights_have_their_infidelity() -> None:
    masks = ((np.arange(32)[:, None] >> np.arange(5)) & 1).astype(np.uint8)
    values, full = masks @ TRUE, float(TRUE.sum())
    lost = full - values
    assert infidelity(masks, values, TRUE, full) == pytest.approx(0, abs=1e-24)
    assert infidelity(masks, values, -TRUE, full) == pytest.approx(np.mean((2 * lost) ** 2))
    assert infidelity(masks, values, 0 * TRUE, full) == pytest.approx(np.mean(lost**2))
    assert infidelity(masks, values, 0 * TRUE, full, normalise=True) == pytest.approx(np.mean(lost**2))
    for scale in (1e-3, -7.0):  # weights in any units, and of any sign
        assert infidelity(masks, values, scale * TRUE, full, normalise=True) == pytest.approx(0, abs=1e-20)
    assert infidelity(masks, np.full(32, full), 0 * TRUE, full) == 0  # a model that hears nothing, said so


def test_sensitivity_is_0_of_the_same_2_of_the_inverse_and_absolute_of_nothing() -> None:
    assert max_sensitivity(TRUE, [TRUE]) == 0
    assert max_sensitivity(TRUE, [TRUE, -TRUE]) == pytest.approx(2)
    assert max_sensitivity(np.zeros(2), [[3.0, 4.0], [0.0, 0.0]]) == pytest.approx(5)


@pytest.mark.parametrize(
    ("cells", "sparse", "complex_"),
    [
        ([0, 0, 0, 9.0], 0.75, 0.0),  # one cell: 1 − 1/n
        ([0, 0, 0, -9.0], 0.75, 0.0),
        ([2.0, 2, -2, 2], 0.0, math.log(4)),  # constant in size
        ([0.0, 0, 0, 0], 0.0, math.log(4)),  # silence: as good as pointing everywhere
        ([1.0], 0.0, 0.0),  # one part
        ([0.0], 0.0, 0.0),
        ([[1.0, 1], [0, 0]], 0.5, math.log(2)),
    ],
)
def test_sparseness_and_complexity_on_the_boundary(cells: Any, sparse: float, complex_: float) -> None:
    assert sparseness(cells) == pytest.approx(sparse, abs=1e-15)
    assert complexity(cells) == pytest.approx(complex_, abs=1e-15)


def test_probabilities_of_0_and_1_have_their_drop_and_gain() -> None:
    full, evidence = [0.0, 0.0, 1.0, 1.0, 0.5], [0.0, 1.0, 1.0, 0.0, 0.5]
    assert average_drop(full, evidence).tolist() == [0, 0, 0, 100, 0]
    assert average_gain(full, evidence).tolist() == [0, 100, 0, 0, 0]
    assert average_increase(full, evidence).tolist() == [0, 100, 0, 0, 0]
    assert faithfulness_to_filtering(full, evidence).tolist() == [0, -1, 0, 1, 0]


def test_a_second_softmax_would_hide_a_drop() -> None:
    """As in the published AD of L-MAC: one of 50 classes falls from 0.9 to 0.1, by 89 %, softmaxed again by 55 %."""
    full, evidence = np.full(50, 0.1 / 49), np.full(50, 0.9 / 49)
    full[0], evidence[0] = 0.9, 0.1
    assert average_drop(full[:1], evidence[:1])[0] == pytest.approx(88.9, abs=0.1)
    again = [float(np.exp(p[0]) / np.exp(p).sum()) for p in (full, evidence)]
    assert average_drop(again[:1], again[1:])[0] == pytest.approx(54.6, abs=0.1)


def test_one_part_has_its_curves() -> None:
    counts, deletion, insertion = curve_masks([0], 10)
    assert (counts.tolist(), deletion.tolist(), insertion.tolist()) == ([0, 1], [[1], [0]], [[0], [1]])
    assert area(counts, [1.0, 0.0]) == 0.5
    assert infidelity([[0], [1]], [2.0, 5.0], [3.0], 5.0) == 0
    assert max_sensitivity([2.0], [[3.0]]) == 0.5
    assert top_k_masks(np.array([-1.0]), [1]).tolist() == [[0]]  # nothing speaks for it: nothing is kept


finite = st.floats(-1e6, 1e6, allow_subnormal=False)
maps = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=finite)


@given(maps)
def test_sparseness_and_complexity_stay_within_their_limits(cells: Floats) -> None:
    assert 0 <= sparseness(cells) <= 1 - 1 / cells.size + 1e-12
    assert sparseness(cells) < 1
    assert 0 <= complexity(cells) <= math.log(cells.size) + 1e-12


@given(maps, st.sampled_from([1e-30, 1e-3, -1.0, 2.0, 1e30]))
def test_sparseness_and_complexity_keep_under_scale(cells: Floats, scale: float) -> None:
    assert sparseness(scale * cells) == pytest.approx(sparseness(cells), abs=1e-9)
    assert complexity(scale * cells) == pytest.approx(complexity(cells), abs=1e-9)


@given(st.integers(1, 40), st.integers(1, 50), finite)
def test_the_area_of_a_constant_curve_is_the_constant(k: int, steps: int, value: float) -> None:
    counts = curve_masks(np.arange(k), steps)[0]
    assert area(counts, np.full(len(counts), value)) == pytest.approx(value, rel=1e-12, abs=1e-12)


@given(st.permutations(list(range(9))), st.integers(1, 12))
def test_the_deletion_of_an_order_is_the_insertion_of_its_reverse(order: list[int], steps: int) -> None:
    counts, deletion, insertion = curve_masks(order, steps)
    np.testing.assert_array_equal(deletion + insertion, 1)
    one_by_one = curve_masks(order[::-1], 9)[2]
    np.testing.assert_array_equal(deletion, one_by_one[9 - counts])


@given(arrays(np.float64, 6, elements=finite), st.sampled_from([1e-3, 5.0]))
def test_max_sensitivity_keeps_under_scale(weights: Floats, scale: float) -> None:
    others = np.stack([weights + 1, weights[::-1]])
    if np.linalg.norm(weights) > 1e-3:
        assert max_sensitivity(scale * weights, scale * others) == pytest.approx(max_sensitivity(weights, others))


NAN = np.array([0.5, np.nan])
GOOD = np.array([0.5, 0.5])


@pytest.mark.parametrize(
    "call",
    [
        lambda: ranking(NAN),
        lambda: area([0, 1], NAN),
        lambda: input_fidelity([GOOD], [NAN]),
        lambda: sparseness(NAN),
        lambda: complexity(NAN),
        lambda: infidelity([[0, 1]], [np.nan], GOOD, 1.0),
        lambda: infidelity([[0, 1]], [1.0], NAN, 1.0),
        lambda: infidelity([[0, 1]], [1.0], GOOD, float("inf")),
        lambda: max_sensitivity(GOOD, [NAN]),
        lambda: max_sensitivity(NAN, [GOOD]),
        lambda: top_k_masks(NAN, [1]),
        lambda: top_k_fidelity(0, [NAN]),
        *(lambda metric=metric: metric(NAN, GOOD) for metric in ITEMS),
        *(lambda metric=metric: metric(GOOD, NAN) for metric in ITEMS),
    ],
)
def test_nan_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(OtoscopeError, match=r"1 of \d .* NaN or infinite; leave out what could not be scored"):
        call()


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: average_drop([2.0], [0.5]), "got probabilities from 0.5 to 2; give scores after one softmax"),
        (lambda: average_gain([0.5], [-3.0]), "got probabilities from -3 to 0.5"),
        (lambda: sufficiency([0.5], [0.5, 0.6]), r"got scores of shapes \(1,\) and \(2,\); give those of the same"),
        (lambda: sufficiency([], []), r"got scores of shape \(0,\); give at least one number with 1 axis"),
        (lambda: input_fidelity([0.5], [0.5]), r"got scores of shape \(1,\); give at least one number with 2 axes"),
        (lambda: curve_masks([0, 0], 3), "does not hold every part once"),
        (lambda: curve_masks([], 3), "does not hold every part once"),
        (lambda: curve_masks([0, 1], 0), "a curve cannot have 0 steps; give at least 1"),
        (lambda: area([0, 1], [0.5]), "got 2 counts and 1 values"),
        (lambda: area([1, 2], GOOD), "give one value each for 0 up to k parts"),
        (lambda: infidelity([[0, 1]], GOOD, GOOD, 1.0), r"got masks of shape \(1, 2\) for 2 values and 2 weights"),
        (lambda: max_sensitivity(GOOD, [[1.0]]), r"got 2 weights and others of shape \(1, 1\)"),
        (lambda: top_k_masks(GOOD, [-1]), r"cannot keep \[-1\] parts"),
        (lambda: top_k_fidelity(2, [GOOD]), "got class 2 of 2; count classes from 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call: Callable[[], object], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason) as error:
        call()
    assert "\n" not in str(error.value)


def test_probabilities_of_single_precision_pass() -> None:
    above, below = [1 + np.finfo(np.float32).eps], [-1e-7]
    assert average_gain(above, above)[0] == 0
    assert faithfulness_to_filtering(above, below)[0] == 1


def test_every_name_is_a_metric_and_says_which_way_is_better() -> None:
    for name, summary in METRICS.items():
        assert summary.endswith(("higher is better", "lower is better"))
        assert name in ("deletion", "insertion") or callable(getattr(faithfulness, name))


def test_the_names_are_listed_without_numpy() -> None:
    ask = "import sys, otoscope.explainers.metrics; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", ask], check=True)
