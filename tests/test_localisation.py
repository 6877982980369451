"""Localisation: against slow plain versions and Quantus, along each axis, and on the boundary cases."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers import grid, localisation
from otoscope.explainers.localisation import LOCALISATION, mass_inside, pointing, rank_inside, region_of
from otoscope.explainers.parts import Bools
from tests.builders import Floats

ALL = (mass_inside, pointing, rank_inside)
ALONG = ("both", "time", "frequency")


def places(cells: Floats, region: Bools, sign: int, along: str) -> list[tuple[float, bool]]:
    """Mass of the sign at each place, and whether it is inside, by loops."""
    n_bands, n_columns = cells.shape
    mass = {(b, t): max(0.0, sign * float(cells[b, t])) for b in range(n_bands) for t in range(n_columns)}
    if along == "both":
        return [(mass[at], bool(region[at])) for at in mass]
    if along == "time":
        lines = [[(b, t) for b in range(n_bands)] for t in range(n_columns)]
    else:
        lines = [[(b, t) for t in range(n_columns)] for b in range(n_bands)]
    return [(sum(mass[at] for at in line), any(region[at] for at in line)) for line in lines]


def slow_mass(found: list[tuple[float, bool]]) -> float:
    return sum(mass for mass, inside in found if inside) / sum(mass for mass, _ in found)


def slow_pointing(found: list[tuple[float, bool]]) -> float:
    return float(max(found)[1])


def slow_rank(found: list[tuple[float, bool]]) -> float:
    size = sum(inside for _, inside in found)
    strongest = sorted(found, reverse=True)[:size]
    return sum(inside for mass, inside in strongest if mass > 0) / size


SLOW = dict(zip(ALL, (slow_mass, slow_pointing, slow_rank), strict=True))


@pytest.mark.parametrize("along", ALONG)
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)
def test_a_metric_equals_its_plain_version(metric: Any, seed: int, along: Any) -> None:
    rng = np.random.default_rng(seed)
    cells, region = rng.standard_normal((5, 8)), rng.uniform(size=(5, 8)) < 0.1
    region[1, 2] = True
    for sign in (1, -1):
        plain = SLOW[metric](places(cells, region, sign, along))
        assert metric(cells, region, sign=sign, along=along) == pytest.approx(plain, rel=1e-12)


def test_mass_and_rank_are_those_of_quantus() -> None:
    """Golden values of Quantus 0.6.0 (numpy 2.4.6): `RelevanceMassAccuracy()` and `RelevanceRankAccuracy()`.

    Their `evaluate_batch` of max(0, map), since that rectifies nothing.
    """
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((3, 108, 40)) * rng.exponential(size=(3, 108, 1))
    region = np.zeros((108, 40), dtype=bool)
    region[20:60, 5:20] = True
    assert [mass_inside(one, region) for one in maps] == pytest.approx(
        [0.15542814748223022, 0.11451311319355634, 0.1228896643360524], rel=1e-12
    )
    assert [rank_inside(one, region) for one in maps] == pytest.approx(
        [0.17666666666666667, 0.10333333333333333, 0.1], rel=1e-12
    )


REGION = np.zeros((4, 6), dtype=bool)
REGION[1:3, 2:5] = True  # 6 of 24 cells, 3 of 6 columns, 2 of 4 bands
CHANCE = {"both": 0.25, "time": 0.5, "frequency": 0.5}


@pytest.mark.parametrize("along", ALONG)
@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)
def test_perfect_inverted_constant_and_empty_maps_have_their_value(metric: Any, along: Any) -> None:
    perfect = np.where(REGION, 2.0, 0.0)
    assert metric(perfect, REGION, along=along) == 1
    assert metric(-perfect, REGION, along=along) == 0  # nothing speaks for it
    assert metric(-perfect, REGION, along=along, sign=-1) == 1
    assert metric(np.where(REGION, 0.0, 2.0)[:, :2], REGION[:, :2] | (np.arange(2) == 0), along="time") == 0.5
    assert metric(np.ones((4, 6)), REGION, along=along) == pytest.approx(CHANCE[along])
    assert metric(np.zeros((4, 6)), REGION, along=along) == 0
    assert metric(np.ones((4, 6)), np.ones((4, 6), dtype=bool), along=along) == 1
    assert metric([[0.3]], np.array([[True]]), along=along) == 1


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)
def test_a_map_may_be_right_in_time_and_wrong_in_frequency(metric: Any) -> None:
    cells = np.zeros((4, 6))
    cells[0, 2:5] = 1
    found = {along: metric(cells, REGION, along=along) for along in ALONG}
    assert found == {"both": 0, "time": 1, "frequency": 0}


def test_what_speaks_against_cancels_nothing() -> None:
    cells = np.where(REGION, 1.0, 0.0)
    cells[0, 2:5] = -5
    assert mass_inside(cells, REGION, along="time") == 1


def test_ties_count_by_their_mean_over_all_orders() -> None:
    cells = np.array([3.0, 1.0, 1.0, 1.0, 0.0])
    inside = np.array([False, True, False, True, True])
    hits = []
    for order in permutations(range(5)):
        strongest = sorted(order, key=lambda place: -cells[place])[:3]
        hits.append(sum(inside[place] and cells[place] > 0 for place in strongest) / 3)
    assert rank_inside(cells[None], inside[None]) == pytest.approx(np.mean(hits))
    assert pointing(cells[None], inside[None]) == 0
    assert pointing(cells[None, 1:], inside[None, 1:]) == pytest.approx(2 / 3)


finite = st.floats(-1e6, 1e6, allow_subnormal=False)
shapes = st.shared(st.tuples(st.integers(1, 5), st.integers(1, 5)), key="shape")
maps, regions = arrays(np.float64, shapes, elements=finite), arrays(np.bool_, shapes)


@given(maps, regions, st.sampled_from([1, -1]), st.sampled_from(ALONG))
def test_values_keep_within_0_and_1_under_scale_and_sign(cells: Floats, region: Bools, sign: int, along: Any) -> None:
    region[0, 0] = True
    for metric in ALL:
        found = metric(cells, region, sign=sign, along=along)
        assert 0 <= found <= 1
        assert metric(-4 * cells, region, sign=-sign, along=along) == pytest.approx(found)


@given(maps, regions)
def test_the_mass_inside_and_outside_is_all(cells: Floats, region: Bools) -> None:
    region[0, 0], outside = True, ~region
    outside[0, 0] = False
    if outside.any():
        total = mass_inside(cells, region) + mass_inside(cells, outside)
        assert total == pytest.approx(1.0 if (cells > 0).any() else 0.0)


def test_a_box_becomes_the_cells_it_covers() -> None:
    region = region_of([(1.0, 2.0, 430.0, 450.0)], 4.0)
    centres = grid.band_centres()
    assert region.shape == (108, 40)
    assert np.flatnonzero(region.any(axis=0)).tolist() == list(range(10, 20))
    assert centres[region.any(axis=1)] == pytest.approx([440.0], rel=1e-4)
    assert region.sum() == 10


def test_boxes_unite_and_margins_widen() -> None:
    boxes = [(0.0, 1.0, 100.0, 200.0), (2.0, 2.5, 4000.0, 5000.0)]
    united = region_of(boxes, 3.0)
    np.testing.assert_array_equal(united, region_of(boxes[:1], 3.0) | region_of(boxes[1:], 3.0))
    later = region_of([(1.0, 2.0, 430.0, 450.0)], 3.0, seconds_margin=0.06)
    assert np.flatnonzero(later.any(axis=0)).tolist() == list(range(9, 21))
    higher = region_of([(1.0, 2.0, 430.0, 450.0)], 3.0, hertz_margin=5.0)  # between the edges 427.5 and 452.9 Hz
    assert grid.band_centres()[higher.any(axis=1)] == pytest.approx([415.3, 440.0, 466.2], rel=1e-3)


@given(st.floats(0, 3.9), st.floats(0.001, 1.0), st.floats(0, 8000), st.floats(0.1, 500))
def test_no_box_is_too_small_to_be_found(start: float, length: float, low: float, width: float) -> None:
    region = region_of([(start, start + length, low, low + width)], 4.0)
    assert region.any()
    columns = np.flatnonzero(region.any(axis=0))
    assert columns[0] * 0.1 - 0.051 < start + length / 2 < (columns[-1] + 1) * 0.1 + length
    np.testing.assert_array_equal(np.diff(columns), 1)


def test_a_box_reaches_the_edge_bands() -> None:
    assert region_of([(0.0, 0.5, 0.0, np.inf)], 1.0)[:, :5].all()
    assert np.flatnonzero(region_of([(0.0, 1.0, 1.0, 2.0)], 1.0).any(axis=1)).tolist() == [0]


@pytest.mark.parametrize(
    "box",
    [
        (1.0, 1.0, 100.0, 200.0),
        (1.0, 0.5, 100.0, 200.0),
        (1.0, 2.0, 200.0, 100.0),
        (4.0, 5.0, 100.0, 200.0),
        (-2.0, -1.0, 100.0, 200.0),
        (1.0, 2.0, -5.0, 0.0),
        (1.0, float("nan"), 100.0, 200.0),
    ],
)
def test_a_box_of_nothing_is_refused(box: localisation.Box) -> None:
    with pytest.raises(OtoscopeError, match=r"^box .* Hz is empty or outside the 4 s; give start, end, low, high"):
        region_of([(0.0, 1.0, 100.0, 200.0), box], 4.0)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)
def test_what_does_not_fit_is_refused(metric: Any) -> None:
    cells = np.ones((4, 6))
    with pytest.raises(OtoscopeError, match="1 of 24 cells of the map are NaN"):
        metric(np.where(np.arange(6) + np.arange(4)[:, None] == 0, np.nan, cells), REGION)
    with pytest.raises(OtoscopeError, match=r"got a map of shape \(4, 5\) and a region of \(4, 6\)"):
        metric(cells[:, :5], REGION)
    with pytest.raises(OtoscopeError, match="the region has no cell of the map"):
        metric(cells, np.zeros((4, 6), dtype=bool))
    with pytest.raises(OtoscopeError, match="got sign 0; give 1 for"):
        metric(cells, REGION, sign=0)
    with pytest.raises(OtoscopeError, match="unknown axis 'tiem': did you mean 'time'"):
        metric(cells, REGION, along="tiem")


def test_every_name_is_a_metric() -> None:
    assert [getattr(localisation, name) for name in LOCALISATION] == list(ALL)
