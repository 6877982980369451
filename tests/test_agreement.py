"""Agreement of maps: against slow plain versions, on boundary cases, and what must hold for any maps."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.agreement import (
    MEASURES,
    Along,
    clusters,
    common_mass,
    matrices,
    matrix,
    scaled,
    sign_agreement,
    spearman,
    top_k_iou,
)

Floats = npt.NDArray[np.float64]

SHAPE = (4, 5)
maps = arrays(np.float64, SHAPE, elements=st.integers(-4, 4).map(float))


def mean_rank(values: list[float], value: float) -> float:
    """Mean of the ranks that equal values share, counted from 1."""
    below = sum(other < value for other in values)
    same = sum(other == value for other in values)
    return below + (same + 1) / 2


def slow_spearman(a: Floats, b: Floats) -> float:
    """Pearson's correlation of mean ranks."""
    ranks = [[mean_rank(one.ravel().tolist(), value) for value in one.ravel().tolist()] for one in (a, b)]
    middles = [sum(rank) / len(rank) for rank in ranks]
    off = [[value - middle for value in rank] for rank, middle in zip(ranks, middles, strict=True)]
    spread = [sum(value**2 for value in one) for one in off]
    if 0 in spread:
        return 1.0 if spread[0] == spread[1] else 0.0
    return float(sum(x * y for x, y in zip(*off, strict=True)) / (spread[0] * spread[1]) ** 0.5)


def slow_top(a: Floats, k: int, along: Along) -> set[object]:
    """Places of the k largest sizes, and of those as large as the k-th."""
    sizes: dict[object, float] = {}
    for band, column in product(range(a.shape[0]), range(a.shape[1])):
        place = {"both": (band, column), "time": column, "frequency": band}[along]
        sizes[place] = sizes.get(place, 0.0) + abs(a[band, column])
    least = sorted(sizes.values(), reverse=True)[k - 1]
    return {place for place, size in sizes.items() if size >= least * (1 - 1e-9) and size > 0}


def slow_iou(a: Floats, b: Floats, k: int, along: Along) -> float:
    first, second = slow_top(a, k, along), slow_top(b, k, along)
    return len(first & second) / len(first | second) if first | second else 1.0


def slow_masses(a: Floats, b: Floats) -> tuple[float, float]:
    """Mass in common places, and that of equal sign, both maps having mass 1."""
    whole = [sum(abs(value) for value in one.ravel().tolist()) for one in (a, b)]
    shared = alike = 0.0
    for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        least = min(abs(x) / (whole[0] or 1), abs(y) / (whole[1] or 1))
        shared += least
        alike += least if x * y > 0 else 0
    return shared, alike


@pytest.mark.parametrize("seed", range(20))
def test_measures_equal_slow_plain_versions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (np.round(rng.normal(size=(6, 9)), int(rng.integers(0, 3))) * (rng.random((6, 9)) < 0.7) for _ in range(2))
    assert spearman(a, b) == pytest.approx(slow_spearman(a, b))
    along: Along
    for along, places in (("both", 54), ("time", 9), ("frequency", 6)):
        for k in (1, 3, places):
            assert top_k_iou(a, b, k=k, along=along) == pytest.approx(slow_iou(a, b, k, along))
        k = max(1, round(0.1 * places))
        assert top_k_iou(a, b, along=along) == pytest.approx(slow_iou(a, b, k, along))
    shared, alike = slow_masses(a, b)
    assert common_mass(a, b) == pytest.approx(alike)
    assert sign_agreement(a, b) == pytest.approx(alike / shared)


def test_the_measures_of_a_worked_example() -> None:
    a = np.array([[4.0, -2.0, 0.0], [1.0, 0.0, -1.0]])
    b = np.array([[2.0, 2.0, 0.0], [0.0, 3.0, -1.0]])
    assert common_mass(a, b) == pytest.approx(0.25 + 0.125)  # cells 0 and 5
    assert sign_agreement(a, b) == pytest.approx(0.375 / 0.625)  # cell 1 says the opposite: .25
    assert top_k_iou(a, b, k=2) == pytest.approx(2 / 3)  # {0, 1} and {4, 0, 1}: a tie comes in
    assert top_k_iou(a, b, k=1, along="time") == 0  # 5, 2, 1 against 2, 5, 1
    assert top_k_iou(a, b, k=1, along="frequency") == pytest.approx(1 / 2)  # 6, 2 against 4, 4


ZERO, FLAT, SLOPE = np.zeros(SHAPE), np.full(SHAPE, 2.0), np.arange(1.0, 21).reshape(SHAPE)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (ZERO, ZERO, {"spearman": 1, "iou": 1, "iou_time": 1, "iou_frequency": 1, "sign": 1, "mass": 1}),
        (ZERO, SLOPE, {"spearman": 0, "iou": 0, "iou_time": 0, "iou_frequency": 0, "sign": 0, "mass": 0}),
        (FLAT, FLAT, {"spearman": 1, "iou": 1, "iou_time": 1, "iou_frequency": 1, "sign": 1, "mass": 1}),
        (FLAT, ZERO, {"spearman": 1, "iou": 0, "iou_time": 0, "iou_frequency": 0, "sign": 0, "mass": 0}),
        (SLOPE, -SLOPE, {"spearman": -1, "iou": 1, "iou_time": 1, "iou_frequency": 1, "sign": 0, "mass": 0}),
        (FLAT, SLOPE, {"spearman": 0, "iou": 0.1, "iou_time": 0.2, "iou_frequency": 0.25, "sign": 1}),
    ],
)
def test_boundary_cases_have_defined_values(a: Floats, b: Floats, expected: dict[str, float]) -> None:
    for name, value in expected.items():
        for first, second in ((a, b), (b, a)):
            assert MEASURES[name](first, second) == pytest.approx(value), name


def test_maps_that_share_no_cell_have_no_mass_in_common() -> None:
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert common_mass(a, b) == 0
    assert sign_agreement(a, b) == 0


@settings(max_examples=40)
@given(maps, maps, st.integers(-3, 3))
def test_measures_are_symmetric_bounded_and_blind_to_scale(a: Floats, b: Floats, exponent: int) -> None:
    for name, measure in MEASURES.items():
        value = measure(a, b)
        assert (-1 if name == "spearman" else 0) <= value <= 1
        assert measure(b, a) == pytest.approx(value)
        assert measure(a, a) == pytest.approx(1)
        assert measure(a * 2.0**exponent, b) == pytest.approx(value)


@settings(max_examples=40)
@given(maps, maps)
def test_turning_the_grid_changes_nothing_but_the_axes(a: Floats, b: Floats) -> None:
    for measure in (spearman, partial(top_k_iou, k=3), sign_agreement, common_mass):
        assert measure(a.T, b.T) == pytest.approx(measure(a, b))
    assert top_k_iou(a.T, b.T, k=2, along="time") == pytest.approx(top_k_iou(a, b, k=2, along="frequency"))


@settings(max_examples=40)
@given(st.lists(maps, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_permuting_the_list_permutes_the_matrix(several: list[Floats], random: object) -> None:
    heard = [np.arange(4) <= 2 + place % 2 for place in range(len(several))]
    order = list(range(len(several)))
    random.shuffle(order)  # type: ignore[attr-defined]
    plain = matrices(several, heard)
    turned = matrices([several[place] for place in order], [heard[place] for place in order])
    for name, values in plain.items():
        np.testing.assert_allclose(turned[name], values[np.ix_(order, order)])
        np.testing.assert_allclose(values, values.T)
        np.testing.assert_allclose(np.diag(values), 1)


def test_only_bands_that_both_hear_are_compared() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 5))
    b = a.copy()
    b[4:] = -a[4:]  # they differ where one of them is deaf
    high, low = np.ones(6, dtype=bool), np.arange(6) < 4
    assert matrix(spearman, [a, b], [high, low])[0, 1] == pytest.approx(1)
    assert matrix(spearman, [a, b], [high, high])[0, 1] < 0.9
    with pytest.raises(OtoscopeError, match="no band in common"):
        matrix(spearman, [a, b], [~low, low])


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(OtoscopeError, match=r"shapes \(2, 3\) and \(3, 2\)"):
        spearman(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(OtoscopeError, match="with a cell at least"):
        common_mass(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(OtoscopeError, match="the 7 strongest of 6 places"):
        top_k_iou(np.ones((2, 3)), np.ones((2, 3)), k=7)
    with pytest.raises(OtoscopeError, match="unknown axis 'tiem': did you mean 'time'"):
        top_k_iou(np.ones((2, 3)), np.ones((2, 3)), along="tiem")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e200, 1e308])
def test_huge_and_tiny_maps_are_scaled(size: float) -> None:
    one = scaled(np.array([[size, -size]]))
    np.testing.assert_allclose(one, [[0.5, -0.5]])
    assert common_mass(np.array([[size, -size]]), np.array([[1.0, -1.0]])) == pytest.approx(1)


def test_clusters_join_what_is_alike() -> None:
    similarity = np.array([[1, 0.1, 0.9, 0.0], [0.1, 1, 0.2, 0.6], [0.9, 0.2, 1, 0.1], [0.0, 0.6, 0.1, 1]])
    found = clusters(similarity, ["a", "b", "c", "d"])
    assert found.groups == [["a", "c"], ["b", "d"]]
    assert found.labels == (1, 2, 1, 2)
    assert sorted(found.order) == [0, 1, 2, 3]
    places = [found.order.index(one) for one in (0, 2)]
    assert abs(places[0] - places[1]) == 1  # the like stand side by side
    # By hand: a-c at .1, b-d at .4, then the mean of the four distances between the two.
    np.testing.assert_allclose([merge[2] for merge in found.merges], [0.1, 0.4, (0.9 + 1.0 + 0.8 + 0.9) / 4])


@settings(max_examples=40)
@given(st.permutations(range(5)))
def test_clusters_do_not_depend_on_the_order_of_the_list(order: list[int]) -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(size=(5, 40)) + np.repeat(rng.normal(size=(3, 40)) * 1.5, [2, 2, 1], axis=0)
    similarity = np.asarray(np.corrcoef(base))
    names = ["a", "b", "c", "d", "e"]
    plain = {frozenset(group) for group in clusters(similarity, names).groups}
    turned = clusters(similarity[np.ix_(order, order)], [names[place] for place in order])
    assert {frozenset(group) for group in turned.groups} == plain
    assert len(plain) == 3


def test_one_map_is_a_cluster_and_wrong_shapes_are_refused() -> None:
    assert clusters(np.ones((1, 1)), ["alone"]).groups == [["alone"]]
    with pytest.raises(OtoscopeError, match=r"shape \(2, 2\) for 3 names"):
        clusters(np.eye(2), ["a", "b", "c"])
