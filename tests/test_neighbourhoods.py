"""Neighbourhoods: designs whose columns do not disturb one another."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.neighbourhoods import PRIMITIVE, _field, _trace, block_size, make_masks, settle
from tests import reference


@given(k=st.integers(1, 64), blocks=st.integers(1, 3), seed=st.integers(0, 1000))
def test_designs_are_mirrored_balanced_and_orthogonal(k: int, blocks: int, seed: int) -> None:
    size = block_size(k)
    masks = make_masks("design", k, (blocks - 1) * size + max(1, 4 * k - (blocks - 1) * size), seed)
    assert masks.dtype == np.uint8
    assert masks.max() <= 1
    assert len(masks) % size == 0
    half = len(masks) // 2
    np.testing.assert_array_equal(masks[:half], 1 - masks[half:])
    signs = 2.0 * masks - 1
    np.testing.assert_array_equal(signs.sum(axis=0), 0)
    np.testing.assert_array_equal(signs.T @ signs, len(masks) * np.eye(k))


@pytest.mark.parametrize(("k", "size"), [(1, 16), (8, 16), (9, 32), (16, 32), (33, 128), (64, 128), (65, 256)])
def test_blocks_are_the_smallest_powers_of_two(k: int, size: int) -> None:
    assert block_size(k) == size
    for calls, n_blocks in ((2 * size, 2), (2 * size + 1, 3), (4 * size, 4)):
        assert len(make_masks("design", k, calls, 0)) == n_blocks * size


@given(k=st.integers(2, 12), seed=st.integers(0, 1000))
def test_main_effects_are_free_of_pairwise_interactions(k: int, seed: int) -> None:
    masks = make_masks("design", k, 4 * k, seed)
    rng = np.random.default_rng(seed)
    linear, pairs = rng.normal(size=k), rng.normal(size=(k, k))
    signs = masks - 0.5
    values = signs @ linear + 3.0
    for i, j in combinations(range(k), 2):
        values += pairs[i, j] * signs[:, i] * signs[:, j]
    np.testing.assert_allclose(reference.main_effects(masks, values), linear, atol=1e-9)
    weights, intercept = reference.least_squares(masks, values)
    np.testing.assert_allclose(weights, linear, atol=1e-9)
    assert intercept == pytest.approx(values.mean() - linear.sum() / 2)


@pytest.mark.parametrize("neighbourhood", ["design", "random"])
def test_the_same_seed_gives_the_same_masks_and_another_gives_others(neighbourhood: Any) -> None:
    first = make_masks(neighbourhood, 20, 128, 3)
    np.testing.assert_array_equal(first, make_masks(neighbourhood, 20, 128, 3))
    assert not np.array_equal(first, make_masks(neighbourhood, 20, 128, 4))


def test_blocks_of_a_design_are_drawn_afresh() -> None:
    masks = make_masks("design", 16, 3 * block_size(16), 0)
    blocks = np.split(masks[: len(masks) // 2], 3)
    assert not np.array_equal(blocks[0], blocks[1])
    assert not np.array_equal(blocks[1], blocks[2])


@pytest.mark.parametrize("k", [9, 16])
def test_all_blocks_together_are_an_array_of_strength_five(k: int) -> None:
    """In any five columns all 32 combinations come equally often; the code is none of strength six."""
    masks = make_masks("design", k, 512, 5)
    assert len(masks) == 512
    for columns in combinations(range(k), 5):
        counts = np.bincount(masks[:, columns] @ (1 << np.arange(5)), minlength=32)
        assert (counts == 16).all(), columns
    signs = 2 * masks.astype(int) - 1
    assert any(abs(signs[:, columns].prod(axis=1).sum()) == 512 for columns in combinations(range(k), 6))


def test_more_calls_begin_with_the_blocks_of_fewer() -> None:
    few, many = make_masks("design", 20, 128, 7), make_masks("design", 20, 512, 7)
    np.testing.assert_array_equal(few[:64], many[:64])
    np.testing.assert_array_equal(few[64:], many[256:320])


def test_more_calls_than_the_whole_array_begin_another() -> None:
    masks = make_masks("design", 8, 3 * 128, 0)  # the array has 8 blocks of 16
    halves = masks[: len(masks) // 2].reshape(3, 64, 8)
    assert not np.array_equal(halves[0], halves[1])
    signs = 2.0 * masks - 1
    np.testing.assert_array_equal(signs.T @ signs, len(masks) * np.eye(8))


@pytest.mark.parametrize("degree", PRIMITIVE)
def test_fields_have_a_primitive_element(degree: int) -> None:
    powers, logs = _field(degree)
    assert sorted(powers.tolist()) == list(range(1, 2**degree))
    np.testing.assert_array_equal(logs[powers], np.arange(2**degree - 1))
    trace = _trace(powers, logs)
    assert set(trace.tolist()) == {0, 1}
    a, b = np.random.default_rng(0).integers(0, 2**degree, size=(2, 50))
    np.testing.assert_array_equal(trace[a ^ b], trace[a] ^ trace[b])  # it is linear


@pytest.mark.parametrize(
    ("k", "calls", "kind"),
    [(2, 2048, "exhaustive"), (10, 1024, "exhaustive"), (10, 1023, "design"), (11, 9999, "design")],
)
def test_all_combinations_are_taken_where_they_cost_no_more(k: int, calls: int, kind: str) -> None:
    assert settle("design", k, calls) == kind
    assert settle("random", k, calls) == "random"


def test_random_masks_are_the_published_coin_flips() -> None:
    masks = make_masks("random", 10, 5000, 1)
    assert masks.shape == (5000, 10)
    assert masks[0].all()
    np.testing.assert_allclose(masks.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(masks.T), np.eye(10), atol=0.06)


@pytest.mark.parametrize("k", range(1, 11))
def test_exhaustive_masks_are_all_combinations(k: int) -> None:
    masks = make_masks("exhaustive", k, 1, 0)
    assert masks.shape == (2**k, k)
    assert len({tuple(row) for row in masks.tolist()}) == 2**k


@pytest.mark.parametrize(
    ("neighbourhood", "k", "calls", "reason"),
    [
        ("design", 65, 256, "256 calls are too few for 65 parts; give at least 260 calls, or fewer parts"),
        ("random", 26, 100, "100 calls are too few for 26 parts"),
        ("exhaustive", 11, 4096, "all combinations of 11 parts are too many; use at most 10"),
        ("desing", 4, 64, "unknown neighbourhood 'desing': did you mean 'design'"),
    ],
)
def test_impossible_neighbourhoods_are_refused(neighbourhood: Any, k: int, calls: int, reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        make_masks(neighbourhood, k, calls, 0)
