"""RISE: means over random masks, its scale, its errors, and planted causes."""

from math import sqrt
from statistics import fmean, variance
from typing import Any

import numpy as np
import pytest

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.methods import Settings
from otoscope.explainers.rise import bernoulli, conditional_means, rise
from tests.builders import Function, music, request, torch_model
from tests.planted import CAUSES, energy_share, explained, share, shuffled

SAMPLES = music(seconds=1.2)
GRID = Settings(parts="grid", n_parts=16, calls=256)


def test_weights_and_errors_are_those_of_a_slow_loop() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        masks, values = bernoulli(5, 40, seed), rng.normal(3, 2, size=40)
        weights, se = conditional_means(masks, values)
        for part in range(5):
            on = [float(y) for y, z in zip(values, masks, strict=True) if z[part]]
            off = [float(y) for y, z in zip(values, masks, strict=True) if not z[part]]
            assert weights[part] == pytest.approx(fmean(on) - fmean(values.tolist()), abs=1e-12)
            expected = len(off) / 40 * sqrt(variance(on) / len(on) + variance(off) / len(off))
            assert se[part] == pytest.approx(expected, rel=1e-9)


def test_it_is_the_map_of_the_paper_but_for_what_all_parts_share() -> None:
    """Eq. 6: S = Σ y_i M_i / (N · E[M]), over so many masks that E[M] is ½."""
    masks = bernoulli(6, 2**16, 0)
    values = masks @ np.arange(6.0) + 2 * masks[:, 0] * masks[:, 1]
    paper = values @ masks / (len(masks) * 0.5)
    weights = conditional_means(masks, values)[0]
    np.testing.assert_allclose(weights, paper - values.mean(), atol=0.15)
    assert np.corrcoef(weights, paper)[0, 1] > 0.999
    np.testing.assert_allclose(weights, [0.5, 1.0, 1.0, 1.5, 2.0, 2.5], atol=0.05)  # half of the average effects


def test_each_part_sounds_half_of_the_time_on_its_own() -> None:
    masks = bernoulli(8, 4096, 1)
    np.testing.assert_allclose(masks.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(masks.T), np.eye(8), atol=0.06)


def test_an_additive_model_gives_each_part_half_of_its_effect_within_the_error() -> None:
    template = np.random.default_rng(0).normal(size=len(SAMPLES))
    model = Function(lambda x: np.asarray(x, dtype=np.float64) @ template[:, None], output="regression")
    score, inside, halves = [], [], []
    for seed in range(20):
        got = rise(request(model, SAMPLES, settings=GRID, seed=seed))
        expected = model.predict(got.parts.sounds)[:, 0] / 2
        assert got.se is not None
        inside += (np.abs(got.weights - expected) < 2 * got.se).tolist()
        score.append(got.weights)
        halves.append(got.fidelity["halves"])
    assert np.mean(inside) == pytest.approx(0.95, abs=0.04)
    assert np.mean(halves) > 0.5
    np.testing.assert_allclose(np.mean(score, axis=0), expected, atol=4 * got.se.max() / sqrt(20))


def test_a_score_that_does_not_vary_has_no_weights() -> None:
    got = rise(request(Function(lambda x: np.full((len(x), 1), 0.3)), SAMPLES, settings=GRID))
    np.testing.assert_allclose(got.weights, 0, atol=1e-12)
    assert got.se is not None
    np.testing.assert_allclose(got.se, 0, atol=1e-12)


def test_a_grid_is_the_default_and_the_calls_are_kept() -> None:
    got = rise(request(torch_model(), SAMPLES))
    assert got.parts.k == 64
    assert got.names[0].startswith("cell")
    assert got.masks is not None
    assert got.scores is not None
    assert got.masks.shape == (2048, 64)
    assert got.scores.shape == (2048, 3)


def test_both_routes_agree() -> None:
    waveform, bands = (
        rise(request(torch_model(), SAMPLES, settings=Settings(parts="grid", n_parts=16, calls=256, route=route)))
        for route in ("waveform", "bands")
    )
    assert (waveform.route, bands.route) == ("waveform", "bands")
    np.testing.assert_allclose(bands.weights, waveform.weights, atol=0.01 * np.abs(waveform.weights).max())


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    one, two, other = (rise(request(torch_model(), SAMPLES, settings=GRID, seed=seed)) for seed in (5, 5, 6))
    assert one.weights.tobytes() == two.weights.tobytes()
    assert one.weights.tobytes() != other.weights.tobytes()


def test_too_few_calls_are_refused() -> None:
    with pytest.raises(OtoscopeError, match="63 calls are too few for 16 parts; give at least 64 calls"):
        bernoulli(16, 63, 0)
    never_twice = next(
        s for s in range(99) if np.random.default_rng(s).integers(0, 2, (4, 1), dtype=np.uint8).sum() < 2
    )
    with pytest.raises(OtoscopeError, match="4 calls are too few for 1 parts; give at least 8 calls"):
        bernoulli(1, 4, never_twice)


@pytest.mark.parametrize("make", CAUSES)
def test_it_finds_more_of_the_cause_than_its_energy(make: Any, record_property: Any) -> None:
    cause = make()
    explanation = explained(cause, "rise", {"calls": 512, **cause.lime[0]})
    found, energy = share(explanation.map, cause), energy_share(explanation.parts, cause)
    record_property("attribution", round(found, 3))
    record_property("energy", round(energy, 3))
    assert found > energy + 0.2
    assert found > max(share(shuffled(explanation, seed), cause) for seed in range(5))
