"""Places that resemble an ad: measures against slow plain versions, planted places, suppression, and the null."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats
from otoscope.mer_models.likeness import MEASURES, check_measure, dtw, euclidean, find_measure
from otoscope.mer_models.match import match, pick, slide, stand_ins
from otoscope.mer_models.timeline import Timeline, follow
from tests.builders import RATE
from tests.emotions import LABELS, known_model, wandering


def bits(p: Floats, m: Floats) -> float:
    return float(sum(a * np.log2(a / b) for a, b in zip(p, m, strict=True) if a > 0))


def warped(p: Floats, q: Floats) -> float:
    """Cheapest warping by librosa, the cells far from the diagonal forbidden."""
    from librosa.sequence import dtw as library

    n = len(p)
    cost = np.linalg.norm(p[:, None] - q[None], axis=-1)
    cost[np.abs(np.arange(n)[:, None] - np.arange(n)) > n // 4] = np.inf
    return float(library(C=cost, backtrack=False)[-1, -1]) / n


# Each measure once more, slow and plain, of two courses (n, n_classes).
ORACLES: dict[str, Callable[[Floats, Floats], float]] = {
    "absolute": lambda p, q: float(
        np.mean([abs(a - b) for x, y in zip(p, q, strict=True) for a, b in zip(x, y, strict=True)])
    ),
    "euclidean": lambda p, q: float(np.sqrt(np.mean([sum((x - y) ** 2) for x, y in zip(p, q, strict=True)]))),
    "cosine": lambda p, q: float(np.mean([1 - x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(p, q, strict=True)])),
    "jensen_shannon": lambda p, q: float(
        np.mean([np.sqrt((bits(x, (x + y) / 2) + bits(y, (x + y) / 2)) / 2) for x, y in zip(p, q, strict=True)])
    ),
    "hellinger": lambda p, q: float(np.mean([np.sqrt(1 - np.sqrt(x * y).sum()) for x, y in zip(p, q, strict=True)])),
    "valence_arousal": lambda p, q: float(np.mean([np.hypot(*(x - y)) for x, y in zip(p, q, strict=True)])),
    "dtw": warped,
}
HIGHEST = {
    "absolute": 0.5,
    "euclidean": 2**0.5,
    "cosine": 1,
    "jensen_shannon": 1,
    "hellinger": 1,
    "valence_arousal": 8**0.5,
    "dtw": 2**0.5,
}  # for probabilities of four classes
METRICS = ("absolute", "euclidean", "jensen_shannon", "hellinger", "valence_arousal")

everyone = pytest.mark.parametrize("name", sorted(MEASURES))


def courses(name: str, n: int, *, n_courses: int = 3, seed: int = 0) -> Floats:
    """Random courses (n_courses, n, K) of the kind a measure needs, some of them certain."""
    rng = np.random.default_rng(seed)
    found = rng.dirichlet(np.full(4, rng.choice([0.05, 1.0])), (n_courses, n))
    if MEASURES[name].needs == "plane":
        return np.asarray(found @ np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]))
    return np.asarray(found)


def test_every_measure_has_an_oracle_and_a_documented_place() -> None:
    assert set(MEASURES) == set(ORACLES) == set(HIGHEST)


@everyone
@given(n=st.integers(1, 12), seed=st.integers(0, 999))
def test_measures_equal_their_oracles(name: str, n: int, seed: int) -> None:
    p, q, _ = courses(name, n, seed=seed)
    assert float(MEASURES[name].distance(p, q)) == pytest.approx(ORACLES[name](p, q), abs=2e-7)


@everyone
@given(n=st.integers(1, 9), seed=st.integers(0, 999))
def test_measures_are_zero_on_equals_symmetric_and_bounded(name: str, n: int, seed: int) -> None:
    p, q, _ = courses(name, n, seed=seed)
    distance = MEASURES[name].distance
    assert float(distance(p, p)) == pytest.approx(0, abs=1e-12)
    nudged = p * (1 + 1e-15)
    assert float(distance(p, nudged)) == pytest.approx(0, abs=1e-6)  # and no NaN from a root of less than zero
    assert float(distance(p, q)) == pytest.approx(float(distance(q, p)), abs=1e-12)
    assert -1e-12 <= float(distance(p, q)) <= HIGHEST[name] + 1e-9


@everyone
def test_opposite_certainties_are_as_far_as_can_be(name: str) -> None:
    first, second = np.eye(4)[[0, 0]], np.eye(4)[[2, 2]]
    if MEASURES[name].needs == "plane":
        first, second = np.array([[1.0, 1], [1, 1]]), -np.array([[1.0, 1], [1, 1]])
    assert float(MEASURES[name].distance(first, second)) == pytest.approx(HIGHEST[name])


@pytest.mark.parametrize("name", METRICS)
@given(n=st.integers(1, 9), seed=st.integers(0, 999))
def test_metrics_keep_the_triangle_inequality(name: str, n: int, seed: int) -> None:
    p, q, r = courses(name, n, seed=seed)
    distance = MEASURES[name].distance
    assert float(distance(p, r)) <= float(distance(p, q)) + float(distance(q, r)) + 1e-12


def test_cosine_is_no_metric_and_blind_to_size() -> None:
    east, between, north = np.array([[1.0, 0]]), np.array([[1.0, 1]]), np.array([[0.0, 1]])
    cosine = MEASURES["cosine"].distance
    assert float(cosine(east, north)) > float(cosine(east, between)) + float(cosine(between, north))
    assert float(cosine(east, 7 * east)) == pytest.approx(0)
    nothing = np.zeros((1, 2))
    assert float(cosine(nothing, nothing)) == 0
    assert float(cosine(nothing, east)) == 1


def test_warping_forgives_a_lag_and_never_costs_more_than_none() -> None:
    step = np.repeat(np.eye(4)[[0, 1]], 8, axis=0)
    late = np.concatenate([step[:1], step[:-1]])
    assert float(dtw(step, late)) == 0 < float(euclidean(step, late))
    later = np.concatenate([step[:1]] * 5 + [step[:-5]])  # by more than a quarter
    assert float(dtw(step, later)) > 0
    p, q, _ = courses("dtw", 12, seed=3)
    assert float(dtw(p, q)) <= float(np.linalg.norm(p - q, axis=1).mean())


@everyone
def test_many_courses_at_once_are_one_by_one(name: str) -> None:
    many = courses(name, 6, n_courses=5, seed=1)
    together = MEASURES[name].distance(many[0][None], many)
    assert together.shape == (5,)
    np.testing.assert_allclose(together, [float(MEASURES[name].distance(many[0], one)) for one in many], atol=1e-15)


def test_unknown_and_meaningless_measures_are_refused() -> None:
    with pytest.raises(OtoscopeError, match="unknown measure 'helinger': did you mean 'hellinger'"):
        find_measure("helinger")
    with pytest.raises(OtoscopeError, match=r"'hellinger' needs probabilities that add up to 1.*use .*euclidean"):
        check_measure(find_measure("hellinger"), "sigmoid", has_plane=False)
    with pytest.raises(OtoscopeError, match="'valence_arousal' needs valence and arousal"):
        check_measure(find_measure("valence_arousal"), "softmax", has_plane=False)
    for name in MEASURES:
        check_measure(find_measure(name), "softmax", has_plane=True)


@given(n=st.integers(1, 6), more=st.integers(0, 20), seed=st.integers(0, 99))
def test_sliding_is_one_distance_per_place(n: int, more: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ad, content = rng.dirichlet(np.ones(4), n), rng.dirichlet(np.ones(4), n + more)
    found = slide(ad, content, euclidean)
    expected = [float(euclidean(ad, content[i : i + n])) for i in range(more + 1)]
    np.testing.assert_allclose(found, expected, atol=6e-7)


def test_sliding_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    ad, content = rng.dirichlet(np.ones(4), 5), rng.dirichlet(np.ones(4), 60)
    whole = slide(ad, content, euclidean)
    monkeypatch.setattr("otoscope.mer_models.match.CELLS", 3 * ad.size)
    np.testing.assert_array_equal(slide(ad, content, euclidean), whole)


def test_an_ad_longer_than_a_content_is_refused() -> None:
    with pytest.raises(OtoscopeError, match="does not fit"):
        slide(np.zeros((3, 4)), np.zeros((2, 4)), euclidean)


def greedy(curves: Sequence[Floats], apart: int, top: int) -> list[tuple[int, int]]:
    """Non-maximum suppression, slow and plain."""
    places = sorted((float(d), c, i) for c, curve in enumerate(curves) for i, d in enumerate(curve))
    chosen: list[tuple[int, int]] = []
    for _, c, i in places:
        if len(chosen) < top and all(c != other or abs(i - j) >= apart for other, j in chosen):
            chosen.append((c, i))
    return chosen


@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    apart=st.integers(1, 8),
    top=st.integers(1, 9),
    levels=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_chosen_places_are_the_nearest_that_do_not_overlap(
    lengths: list[int], apart: int, top: int, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    curves = [rng.integers(levels, size=length) / 10 for length in lengths]  # full of ties
    assert pick(curves, apart=apart, top=top) == greedy(curves, apart, top)


def course(seconds: float, *, seed: int, name: str = "content") -> Timeline:
    return follow(known_model(), Audio(wandering(seconds, seed=seed), RATE, name), step=0.5, tail=False)


@everyone
def test_an_ad_is_found_where_it_was_hidden(name: str) -> None:
    ad = wandering(6, seed=50)
    first, second = wandering(30, seed=51), wandering(40, seed=52)
    second[9 * RATE : 15 * RATE] = ad
    second[28 * RATE : 34 * RATE] = ad
    contents = [
        follow(known_model(), Audio(samples, RATE, "content"), step=0.5, tail=False) for samples in (first, second)
    ]
    sought = follow(known_model(), Audio(ad, RATE, "ad"), step=0.5, tail=False)
    found = match(sought, contents, measure=MEASURES[name], top=5, n_stand_ins=40)
    assert [(place.content, place.start, place.end) for place in found.places[:2]] == [(1, 9, 15), (1, 28, 34)]
    assert [place.distance for place in found.places[:2]] == pytest.approx([0, 0], abs=1e-6)
    assert found.places[2].distance > 0.01
    assert found.null.percentile == 0
    assert found.null.n_places == sum(len(curve) for curve in found.curves)
    assert found.places[0].share == pytest.approx(2 / found.null.n_places)
    for one in found.places:
        for other in found.places:
            assert one is other or one.content != other.content or abs(one.start - other.start) >= 6
    assert [place.distance for place in found.places] == sorted(place.distance for place in found.places)


def test_equal_places_come_in_order_of_content_and_time() -> None:
    flat = follow(known_model(), Audio(np.full(10 * RATE, 0.3, dtype=np.float32), RATE), step=1.0, tail=False)
    ad = follow(known_model(), Audio(np.full(3 * RATE, 0.1, dtype=np.float32), RATE), step=1.0, tail=False)
    found = match(ad, [flat, flat], measure=MEASURES["euclidean"], top=10)
    assert [(place.content, place.start) for place in found.places] == [(c, s) for c in (0, 1) for s in (0, 3, 6)]
    assert all(place.share == 1 for place in found.places)
    assert found.null.percentile == 100  # every stand-in finds its like at 0, and the ad does not


def test_the_seed_decides_the_stand_ins_and_nothing_else() -> None:
    contents = [course(40, seed=seed) for seed in (1, 2, 3)]
    ad = course(5, seed=9, name="ad")
    one, same, other = (
        match(ad, contents, measure=MEASURES["euclidean"], n_stand_ins=10, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.null.stand_ins, same.null.stand_ins)
    assert not np.array_equal(one.null.stand_ins, other.null.stand_ins)
    assert one.places == other.places


def test_stand_ins_seek_in_other_contents_or_elsewhere_in_the_only_one() -> None:
    rng = np.random.default_rng(5)
    contents = [rng.dirichlet(np.ones(4), n) for n in (9, 12)]
    settings: dict[str, Any] = {"length": 3, "apart": 4, "distance": euclidean, "n": 99}
    both = [
        min(float(d) for d in slide(contents[c][i : i + 3], contents[1 - c], euclidean))
        for c in (0, 1)
        for i in range(len(contents[c]) - 2)
    ]
    np.testing.assert_allclose(stand_ins(contents, **settings), sorted(both))
    alone = [
        min(float(euclidean(contents[1][i : i + 3], contents[1][j : j + 3])) for j in range(10) if abs(i - j) >= 4)
        for i in range(10)
        if any(abs(i - j) >= 4 for j in range(10))
    ]
    np.testing.assert_allclose(stand_ins(contents[1:], **settings), sorted(alone), atol=1e-6)
    assert len(stand_ins([contents[0][:5]], **settings)) == 0  # no room elsewhere


def test_without_stand_ins_there_is_no_verdict() -> None:
    found = match(course(5, seed=0), [course(6, seed=1)], measure=MEASURES["euclidean"])
    assert found.null.percentile is None
    none = match(course(5, seed=0), [course(60, seed=1)], measure=MEASURES["euclidean"], n_stand_ins=0)
    assert none.null.percentile is None


def test_an_ad_of_the_same_kind_as_the_contents_falls_anywhere_among_the_stand_ins() -> None:
    rng = np.random.default_rng(7)

    def walk(n: int) -> Timeline:
        steps = rng.standard_normal((n, 4)).cumsum(axis=0) * 0.3 + rng.standard_normal(4)
        shares = np.exp(steps) / np.exp(steps).sum(axis=1, keepdims=True)
        starts = np.arange(n, dtype=np.float64)
        return Timeline("walk", n, LABELS, "softmax", starts, 1.0, 1.0, shares)

    fell = [
        match(walk(5), [walk(25) for _ in range(10)], measure=MEASURES["euclidean"], n_stand_ins=30).null.percentile
        for _ in range(60)
    ]
    quarters = np.histogram([value for value in fell if value is not None], bins=[0, 25, 50, 75, 101])[0]
    assert quarters.sum() == 60
    assert quarters.min() >= 6, quarters  # 15 expected
