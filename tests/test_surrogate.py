"""The surrogate against fits by normal equations, refits without each pair, and figures by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.explainers.neighbourhoods import block_size, make_masks
from otoscope.explainers.surrogate import correlation, cosine_distances, fit, fit_halves, same_top
from tests import reference


def function(masks: Any, seed: int, *, noise: float = 0.3) -> Any:
    """Score masks by main effects, pairwise and triple interactions, and noise."""
    rng = np.random.default_rng(seed)
    k = masks.shape[1]
    z = masks.astype(float)
    values = z @ rng.normal(size=k) + 0.4 * np.einsum("ni,nj,ij->n", z, z, rng.normal(size=(k, k)))
    return values + z[:, 0] * z[:, -1] * z[:, k // 2] + noise * rng.normal(size=len(z))


@given(k=st.integers(1, 12), calls=st.integers(48, 100), seed=st.integers(0, 500))
def test_a_design_is_fitted_by_plain_contrasts(k: int, calls: int, seed: int) -> None:
    masks = make_masks("design", k, calls, seed)
    values = function(masks, seed)
    got = fit(masks, values, "design", seed=seed)
    np.testing.assert_allclose(got.weights, reference.main_effects(masks, values), rtol=1e-4, atol=1e-6)
    weights, intercept = reference.least_squares(masks, values)
    np.testing.assert_allclose(got.weights, weights, rtol=1e-4, atol=1e-6)
    assert got.intercept == pytest.approx(intercept, abs=1e-5)


@given(k=st.integers(1, 10), calls=st.integers(40, 64), seed=st.integers(0, 500))
def test_r2_refits_without_each_mirror_pair(k: int, calls: int, seed: int) -> None:
    masks = make_masks("design", k, calls, seed)
    values = function(masks, seed)
    assert fit(masks, values, "design").r2 == pytest.approx(reference.leave_pair_out_r2(masks, values), abs=1e-8)


@given(k=st.integers(1, 12), calls=st.integers(48, 100), seed=st.integers(0, 500))
def test_standard_errors_are_those_of_the_half_differences(k: int, calls: int, seed: int) -> None:
    masks = make_masks("design", k, calls, seed)
    values = function(masks, seed)
    got = fit(masks, values, "design").se
    assert got is not None
    np.testing.assert_allclose(got, reference.standard_errors(masks, values), rtol=1e-6)


def test_standard_errors_cover_the_truth() -> None:
    """Of effects measured with noise, 95 % lie within two standard errors."""
    rng = np.random.default_rng(0)
    inside = []
    for seed in range(40):
        masks = make_masks("design", 16, 128, seed)
        truth = rng.normal(size=16)
        got = fit(masks, masks @ truth + rng.normal(size=len(masks)), "design")
        assert got.se is not None
        inside += (np.abs(got.weights - truth) < 2 * got.se).tolist()
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def test_an_additive_function_is_fitted_without_error_or_interactions() -> None:
    masks = make_masks("design", 9, 64, 0)
    got = fit(masks, masks @ np.arange(9.0) - 4, "design")
    np.testing.assert_allclose(got.weights, np.arange(9), atol=1e-6)
    assert got.se is not None
    np.testing.assert_allclose(got.se, 0, atol=1e-7)
    assert got.r2 == pytest.approx(1)
    assert got.interactions == pytest.approx(0, abs=1e-12)
    assert got.intercept == pytest.approx(-4, abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.8, 1.0])
def test_the_share_of_interactions_is_that_of_the_variance(share: float) -> None:
    masks = make_masks("design", 8, 64, 0)
    signs = 2.0 * masks - 1
    values = np.sqrt(1 - share) * signs[:, 0] + np.sqrt(share) * signs[:, 1] * signs[:, 2]
    assert fit(masks, values, "design").interactions == pytest.approx(share, abs=1e-9)


def test_only_interactions_leave_nothing_to_explain() -> None:
    masks = make_masks("design", 8, 64, 0)
    got = fit(masks, (2.0 * masks[:, 1] - 1) * (2.0 * masks[:, 2] - 1), "design")
    np.testing.assert_allclose(got.weights, 0, atol=1e-9)
    assert got.r2 is not None
    assert got.r2 < 0.01


@given(k=st.integers(1, 10), seed=st.integers(0, 500))
def test_random_neighbourhoods_are_fitted_as_published(k: int, seed: int) -> None:
    masks = make_masks("random", k, 100, seed)
    values = function(masks, seed)
    got = fit(masks, values, "random", seed=seed)
    weights, intercept = reference.lime_random(masks, values)
    np.testing.assert_allclose(got.weights, weights, rtol=1e-6, atol=1e-8)
    assert got.intercept == pytest.approx(intercept, abs=1e-7)
    assert got.interactions is None


def test_random_standard_errors_are_of_the_size_of_the_scatter() -> None:
    truth = np.linspace(-2, 2, 8)
    fits = []
    for seed in range(60):
        masks = make_masks("random", 8, 200, seed)
        fits.append(fit(masks, masks @ truth + np.random.default_rng(seed).normal(size=200), "random"))
    scatter = np.std([one.weights for one in fits], axis=0)
    claimed = np.mean([one.se for one in fits if one.se is not None], axis=0)
    assert np.all((claimed > 0.6 * scatter) & (claimed < 1.7 * scatter))


@given(k=st.integers(1, 10), seed=st.integers(0, 100))
def test_exhaustive_neighbourhoods_are_exact_least_squares(k: int, seed: int) -> None:
    masks = make_masks("exhaustive", k, 1, seed)
    values = function(masks, seed)
    got = fit(masks, values, "exhaustive", seed=seed)
    weights, intercept = reference.least_squares(masks, values)
    np.testing.assert_allclose(got.weights, weights, rtol=1e-5, atol=1e-5)
    assert got.intercept == pytest.approx(intercept, abs=1e-4)
    assert got.se is None
    predicted = masks @ weights + intercept
    expected = 1 - np.sum((values - predicted) ** 2) / np.sum((values - values.mean()) ** 2)
    assert got.r2 == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("neighbourhood", ["design", "random", "exhaustive"])
def test_a_score_that_never_moves_has_no_r2_and_no_weights(neighbourhood: Any) -> None:
    masks = make_masks(neighbourhood, 6, 64, 0)
    got = fit(masks, np.full(len(masks), 2.5), neighbourhood)
    np.testing.assert_allclose(got.weights, 0, atol=1e-9)
    assert got.intercept == pytest.approx(2.5)
    assert got.r2 is None


def test_cosine_distances_are_sklearns() -> None:
    from sklearn.metrics import pairwise_distances

    masks = make_masks("exhaustive", 6, 1, 0)
    expected = pairwise_distances(masks.astype(float), np.ones((1, 6)), metric="cosine").ravel()
    np.testing.assert_allclose(cosine_distances(masks), expected, atol=1e-12)


def noisy(k: int = 20, calls: int = 256, *, seed: int = 0, noise: float = 0.5) -> tuple[Any, Any, Any]:
    """Values of a linear function with errors of their own."""
    rng = np.random.default_rng(seed)
    masks = make_masks("design", k, calls, seed)
    weights = np.random.default_rng(99).normal(size=k)
    return masks, masks @ weights + rng.normal(scale=noise, size=len(masks)), weights


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    inside = []
    for seed in range(60):
        masks, values, weights = noisy(seed=seed)
        interval = fit(masks, values, "design", seed=seed).interval
        assert interval is not None
        inside.append((interval[:, 0] <= weights) & (weights <= interval[:, 1]))
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def test_the_chance_of_the_same_top_is_that_of_fresh_errors() -> None:
    fits = [fit(*noisy(seed=seed, noise=3.0)[:2], "design", seed=seed) for seed in range(40)]
    pairs = [same_top(fits[i].weights, fits[j].weights) for i in range(40) for j in range(i)]
    chances = [one.top_again for one in fits]
    assert 0.2 < np.mean(pairs) < 0.95
    assert np.mean([chance for chance in chances if chance is not None]) == pytest.approx(np.mean(pairs), abs=0.15)
    sure = fit(*noisy(noise=1e-3)[:2], "design")
    assert sure.top_again == 1.0


def test_halves_are_fits_of_odd_and_of_even_blocks() -> None:
    masks, values, _ = noisy(k=16, calls=4 * block_size(16))
    halves = fit_halves(masks, values, "design")
    assert halves is not None
    n, size = len(masks) // 2, block_size(16) // 2
    for which, got in enumerate(halves):
        rows = [row for row in range(n) if row // size % 2 == which]
        x = masks[rows] - 0.5
        y = [(values[row] - values[row + n]) / 2 for row in rows]
        np.testing.assert_allclose(got, np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-9)
    assert fit_halves(*noisy(k=4, calls=16)[:2], "design") is None
    assert fit_halves(make_masks("exhaustive", 3, 8, 0), np.arange(8.0), "exhaustive") is None


def test_four_of_the_five_strongest_make_the_same_top() -> None:
    weights = np.array([9.0, -8.0, 7.0, 6.0, -5.0, 1.0, 0.0])
    assert same_top(weights, np.array([9.0, -8.0, 7.0, 6.0, 0.0, 5.0, 1.0]))
    assert not same_top(weights, np.array([9.0, -8.0, 7.0, 0.0, 0.1, 5.0, 6.0]))
    assert same_top(weights[:3], weights[:3])
    assert correlation(weights, np.zeros(7)) is None
