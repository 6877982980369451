"""Budgets of calls: going on until the strongest parts are settled."""

from typing import Any

import numpy as np
import pytest

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.budget import LIMIT, peak_memory, settled
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.methods import Settings
from otoscope.explainers.neighbourhoods import block_size, make_masks
from otoscope.explainers.surrogate import fit, fit_halves, same_top
from tests.builders import RATE, Function, noise, sigmoid

EDGES = 20


def parts_heard(weights: Any, restless: float = 0.0) -> Function:
    """Weighs the loudness of twenty stretches of a second; `restless` adds what no part explains."""

    def score(waveforms: Any) -> Any:
        loud = np.stack([np.sqrt(np.mean(one**2, axis=1)) for one in np.array_split(waveforms, EDGES, axis=1)], axis=1)
        extra = restless * np.sin(1e4 * loud.sum(axis=1))
        return sigmoid(loud @ np.asarray(weights) * 10 + extra)[:, None]

    return Function(score)


def explained(model: Function, calls: Any, **settings: Any) -> Explanation:
    audio = Audio(noise(seconds=1.0, level=0.1), RATE, "noise")
    chosen = Settings(parts="slic", n_parts=20, calls=calls, gates="none", **settings)
    return explain(model, audio, settings=chosen)


def test_clear_parts_take_few_calls_and_restless_ones_the_limit() -> None:
    weights = np.r_[5.0, -4.0, 3.0, 2.5, 2.0, np.zeros(15)]
    clear = explained(parts_heard(weights), "auto")
    assert clear.masks is not None
    assert len(clear.masks) < 1024
    restless = explained(parts_heard(np.ones(EDGES) * 1e-3, restless=4.0), "auto")
    assert restless.masks is not None
    assert len(restless.masks) == LIMIT
    assert clear.fidelity["top_again"] >= 0.8  # type: ignore[operator]
    assert restless.fidelity["top_again"] < 0.8  # type: ignore[operator]


def test_auto_asks_what_a_design_of_that_size_asks() -> None:
    auto = explained(parts_heard(np.arange(EDGES)), "auto")
    assert auto.masks is not None
    assert auto.scores is not None
    k, calls = auto.parts.k, len(auto.masks)
    np.testing.assert_array_equal(auto.masks, make_masks("design", k, calls, 0))
    fixed = explained(parts_heard(np.arange(EDGES)), calls)
    np.testing.assert_allclose(auto.weights, fixed.weights, atol=1e-9)


def test_settled_wants_halves_that_agree_and_a_good_chance() -> None:
    k = 16
    masks = make_masks("design", k, 4 * block_size(k), 0)
    weights = np.r_[6.0, 5.0, 4.0, 3.0, 2.0, np.zeros(11)]
    rng = np.random.default_rng(0)
    assert settled(masks, masks @ weights + rng.normal(scale=0.1, size=len(masks)))
    values = masks @ weights + rng.normal(scale=30.0, size=len(masks))
    halves = fit_halves(masks, values, "design")
    chance = fit(masks, values, "design").top_again
    assert halves is not None
    assert chance is not None
    assert settled(masks, values) == (same_top(*halves) and chance >= 0.8)
    assert not settled(masks, values)


def test_few_parts_are_asked_in_all_combinations() -> None:
    audio = Audio(noise(seconds=1.0, level=0.1), RATE, "noise")
    got = explain(
        parts_heard(np.ones(EDGES)), audio, settings=Settings(parts="grid", n_parts=4, calls="auto", gates="none")
    )
    assert got.masks is not None
    assert len(got.masks) == 16
    assert got.se is None


@pytest.mark.parametrize(
    ("method", "settings", "reason"),
    [
        ("lime", {"neighbourhood": "random"}, "--calls auto goes on block by block of a design"),
        ("rise", {}, "--calls auto is for lime and two_level; give a number"),
        ("kernelshap", {}, "--calls auto is for lime and two_level; give a number"),
    ],
)
def test_auto_is_refused_where_nothing_can_be_settled(method: str, settings: dict[str, Any], reason: str) -> None:
    audio = Audio(noise(seconds=0.5, level=0.1), RATE, "noise")
    with pytest.raises(OtoscopeError, match=reason):
        explain(parts_heard(np.ones(EDGES)), audio, method=method, settings=Settings(calls="auto", **settings))


def test_memory_is_reported_in_bytes() -> None:
    got = explained(parts_heard(np.ones(EDGES)), 128)
    assert got.memory is not None
    assert 50e6 < got.memory < 50e9
    assert peak_memory() >= got.memory  # type: ignore[operator]
