"""Shapley values of parts: their axioms, slow oracles, Captum's own, and planted causes."""

from collections.abc import Callable
from itertools import permutations
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.explanation import Outcome
from otoscope.explainers.methods import Settings, find_method
from otoscope.explainers.neighbourhoods import all_combinations
from otoscope.explainers.shapley import kernel_fit, kernel_masks, kernelshap, shapley
from otoscope.explainers.shares import shapley_credits
from tests.builders import Floats, Function, music, request, torch_model
from tests.planted import CAUSES, energy_share, explained, share, shuffled

SAMPLES = music(seconds=1.2)
Game = Callable[[npt.ArrayLike], Floats]


def game(k: int, seed: int) -> Game:
    """Values of masks (n, k): main effects, all pairs, and a saturation."""
    rng = np.random.default_rng(seed)
    alone, pairs, bent = rng.normal(size=k), np.triu(rng.normal(size=(k, k)), 1) / np.sqrt(k), rng.normal(size=k)

    def value(masks: npt.ArrayLike) -> Floats:
        z = np.asarray(masks, dtype=np.float64)
        return np.asarray(z @ alone + np.einsum("ni,ij,nj->n", z, pairs, z) + 2 * np.tanh(z @ bent) + 0.7)

    return value


def by_orders(value: Game, k: int) -> Floats:
    """Shapley's definition in words: let the parts come in, in every order, and average what each adds."""
    total = np.zeros(k)
    orders = list(permutations(range(k)))
    for order in orders:
        mask = np.zeros((1, k))
        before = value(mask)[0]
        for part in order:
            mask[0, part] = 1
            after = value(mask)[0]
            total[part] += after - before
            before = after
    return total / len(orders)


def exact(value: Game, k: int) -> Floats:
    masks = all_combinations(k)
    return np.asarray(value(masks) @ shapley_credits(masks))


def linear(samples: Any, seed: int = 0) -> Function:
    """Make a model that is additive in whatever sounds: a dot product with noise."""
    template = np.random.default_rng(seed).normal(size=len(samples))
    return Function(lambda x: np.asarray(x, dtype=np.float64) @ template[:, None], output="regression")


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
def test_exact_values_are_averages_over_all_orders(k: int) -> None:
    for seed in range(20 if k < 6 else 2):
        value = game(k, seed)
        np.testing.assert_allclose(exact(value, k), by_orders(value, k), atol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_exact_values_are_those_of_captum(k: int) -> None:
    from captum.attr import ShapleyValues

    value = game(k, k)
    captum = ShapleyValues(lambda z: torch.from_numpy(value(z.numpy())))
    expected = captum.attribute(torch.ones(1, k), baselines=torch.zeros(1, k)).numpy()[0]
    np.testing.assert_allclose(exact(value, k), expected, atol=1e-5)


@given(values=st.lists(st.floats(-100, 100), min_size=16, max_size=16), pair=st.permutations(range(4)))
def test_the_axioms_hold(values: list[float], pair: list[int]) -> None:
    masks, (one, other, *_) = all_combinations(4), pair
    credits_, v = shapley_credits(masks), np.array(values)
    assert (v @ credits_).sum() == pytest.approx(v[-1] - v[0], abs=1e-9)  # efficiency
    number = masks @ (1 << np.arange(4))
    without = v[number & ~(1 << one)]  # a dummy adds nothing to anybody
    assert (without @ credits_)[one] == pytest.approx(0, abs=1e-9)
    swapped = masks.copy()
    swapped[:, [one, other]] = masks[:, [other, one]]
    alike = (v + v[swapped @ (1 << np.arange(4))]) / 2  # symmetric players
    weights = alike @ credits_
    assert weights[one] == pytest.approx(weights[other], abs=1e-9)


def test_masks_follow_the_shapley_kernel_in_mirror_pairs() -> None:
    masks = kernel_masks(7, 40_001, 3)
    n = len(masks) // 2
    assert masks.shape == (40_000, 7)
    np.testing.assert_array_equal(masks[:n], 1 - masks[n:])
    assert masks[0].all()
    size = masks[1:n].sum(axis=1)
    assert size.min() >= 1
    assert size.max() <= 6
    kernel = np.array([comb(7, s) * 6 / (comb(7, s) * s * (7 - s)) for s in range(1, 7)])
    counts = np.bincount(size, minlength=7)[1:]
    expected = kernel / kernel.sum() * (n - 1)
    assert ((counts - expected) ** 2 / expected).sum() < 20.5  # chi-square, 5 degrees of freedom, p = 0.001
    ones = masks[1:n][size == 1].argmax(axis=1)
    assert np.bincount(ones, minlength=7).min() > 0.8 * len(ones) / 7


def test_the_fit_is_the_weighted_least_squares_of_the_paper() -> None:
    """All combinations by the kernel of Lundberg & Lee, with the ends weighted a million times: exact values."""
    value, k = game(6, 1), 6
    masks = all_combinations(k)
    size = masks.sum(axis=1)
    weight = np.array([1e9 if s in (0, k) else (k - 1) / (comb(k, s) * s * (k - s)) for s in size])
    z = np.column_stack([np.ones(len(masks)), masks]) * np.sqrt(weight)[:, None]
    expected = np.linalg.lstsq(z, np.sqrt(weight) * value(masks), rcond=None)[0][1:]
    np.testing.assert_allclose(exact(value, k), expected, atol=1e-5)
    drawn = kernel_masks(k, 100_000, 0)
    np.testing.assert_allclose(kernel_fit(drawn, value(drawn))[0], expected, atol=0.005)


@pytest.mark.parametrize("k", [5, 10])
def test_drawn_values_agree_with_captum_and_come_nearer_to_the_truth(k: int) -> None:
    from captum.attr import KernelShap

    value, calls, n_seeds = game(k, k), 128, 40
    truth = exact(value, k)
    captum = KernelShap(lambda z: torch.from_numpy(value(z.numpy())).float())
    theirs, ours = [], []
    for seed in range(n_seeds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found = captum.attribute(
                torch.ones(1, k), baselines=torch.zeros(1, k), n_samples=calls, perturbations_per_eval=64
            )
        theirs.append(found.numpy()[0])
        masks = kernel_masks(k, calls, seed)
        ours.append(kernel_fit(masks, value(masks))[0])
    error = np.std(theirs, axis=0, ddof=1) / np.sqrt(n_seeds)
    assert (np.abs(np.mean(theirs, axis=0) - np.mean(ours, axis=0)) < 4 * error).all()
    assert np.square(ours - truth).mean() < np.square(theirs - truth).mean() / 2


def test_standard_errors_cover_the_truth() -> None:
    value, k = game(9, 2), 9
    truth, inside, spread, told = exact(value, k), [], [], []
    for seed in range(100):
        masks = kernel_masks(k, 400, seed)
        weights, se, _ = kernel_fit(masks, value(masks))
        inside += (np.abs(weights - truth) < 2 * se).tolist()
        spread.append(weights)
        told.append(se)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
    np.testing.assert_allclose(np.sqrt(np.square(told).mean(axis=0)), np.std(spread, axis=0), rtol=0.3)


def test_what_is_left_out_is_the_error_of_a_fit_without_that_pair() -> None:
    value, masks = game(6, 4), kernel_masks(6, 60, 1)
    values, n = value(masks), 30
    left_out = kernel_fit(masks, values)[2]
    for row in (1, 7, 29):
        kept = np.delete(np.arange(60), [row, row + n])
        weights = kernel_fit(masks[kept], values[kept])[0]
        for one in (row, row + n):
            assert left_out[one] == pytest.approx(values[one] - values[n] - masks[one] @ weights, abs=1e-9)
    assert left_out[0] == left_out[n] == 0


def test_pairs_that_leave_a_part_undetermined_are_refused() -> None:
    masks = kernel_masks(6, 40, 0)
    masks[1:20, 1], masks[21:40, 1] = masks[1:20, 0], masks[21:40, 0]  # two parts that always go together
    with pytest.raises(OtoscopeError, match="40 calls are too few for 6 parts; give at least 80 calls"):
        kernel_fit(masks, game(6, 0)(masks))


ASKED: dict[str, Settings] = {
    "shapley": Settings(parts="grid", n_parts=9),
    "kernelshap": Settings(parts="grid", n_parts=16, calls=256),
}


def asked(name: str, model: Any, *, settings: Settings | None = None, **other: Any) -> Outcome:
    return find_method(name).run(request(model, SAMPLES, settings=settings or ASKED[name], **other))


@pytest.mark.parametrize("name", ASKED)
def test_an_additive_model_gives_each_part_its_own_effect(name: str) -> None:
    model = linear(SAMPLES)
    got = asked(name, model)
    expected = model.predict(got.parts.sounds)[:, 0]
    np.testing.assert_allclose(got.weights, expected, atol=1e-5 * np.abs(expected).max())
    assert got.fidelity["r2"] == pytest.approx(1)
    assert got.fidelity["interactions"] == pytest.approx(0, abs=1e-9)
    assert got.fidelity["intercept"] == pytest.approx(0, abs=1e-9)
    if got.se is not None:
        np.testing.assert_allclose(got.se, 0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("off", ["silence", "mean"])
@pytest.mark.parametrize("name", ASKED)
def test_weights_add_up_to_all_less_off(name: str, off: Any) -> None:
    one = request(torch_model(), SAMPLES, settings=Settings(parts="grid", n_parts=9, off=off))
    got = find_method(name).run(one)
    ends = one.value(one.model.predict(got.parts.compose(np.array([np.ones(got.parts.k), np.zeros(got.parts.k)]))))
    assert got.weights.sum() == pytest.approx(ends[0] - ends[1], abs=1e-3)
    assert got.fidelity["efficiency_gap"] == pytest.approx(0, abs=1e-12)
    assert got.masks is not None
    assert got.scores is not None
    assert len(got.masks) == len(got.scores)


@pytest.mark.parametrize("name", ASKED)
def test_both_routes_agree(name: str) -> None:
    settings = [Settings(**{**vars(ASKED[name]), "route": route}) for route in ("waveform", "bands")]
    waveform, bands = (asked(name, torch_model(), settings=one) for one in settings)
    assert (waveform.route, bands.route) == ("waveform", "bands")
    np.testing.assert_allclose(bands.weights, waveform.weights, atol=0.01 * np.abs(waveform.weights).max())


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    one, two, other = (asked("kernelshap", torch_model(), seed=seed) for seed in (5, 5, 6))
    assert one.weights.tobytes() == two.weights.tobytes()
    assert one.se is not None
    assert two.se is not None
    assert one.se.tobytes() == two.se.tobytes()
    assert one.weights.tobytes() != other.weights.tobytes()


def test_few_parts_are_asked_for_in_all_combinations_by_either_method() -> None:
    settings = Settings(parts="grid", n_parts=4)
    one, two = (asked(name, torch_model(), settings=settings) for name in ASKED)
    np.testing.assert_array_equal(one.weights, two.weights)
    assert two.masks is not None
    assert len(two.masks) == 16
    assert two.se is None


def test_exact_values_take_ten_parts_where_no_number_is_asked_for() -> None:
    got = shapley(request(linear(SAMPLES), SAMPLES))
    assert got.parts.k == 10
    assert got.masks is not None
    assert got.masks.shape == (1024, 10)


def test_exact_values_of_pitch_classes_are_those_of_all_thirteen_parts() -> None:
    got = shapley(request(linear(SAMPLES), SAMPLES, settings=Settings(parts="harmonic")))
    assert got.parts.k == 13


def test_too_many_parts_and_too_few_calls_are_refused() -> None:
    with pytest.raises(OtoscopeError, match=r"of 16 parts need 2\*\*16 calls; use at most 13 parts \(n_parts\)"):
        shapley(request(linear(SAMPLES), SAMPLES, settings=Settings(parts="grid", n_parts=16)))
    with pytest.raises(OtoscopeError, match="63 calls are too few for 16 parts; give at least 64 calls"):
        kernelshap(request(linear(SAMPLES), SAMPLES, settings=Settings(parts="grid", n_parts=16, calls=63)))


@pytest.mark.parametrize("make", CAUSES)
def test_drawn_values_find_the_cause(make: Any, record_property: Any) -> None:
    cause = make()
    explanation = explained(cause, "kernelshap", {"calls": 512, **cause.lime[0]})
    found, energy = share(explanation.map, cause), energy_share(explanation.parts, cause)
    record_property("attribution", round(found, 3))
    record_property("energy", round(energy, 3))
    assert found >= 0.6
    assert found > energy + 0.2
    assert found > max(share(shuffled(explanation, seed), cause) for seed in range(5))


@pytest.mark.parametrize("make", [CAUSES[0], CAUSES[3], CAUSES[4]])
def test_exact_values_find_more_of_the_cause_than_its_energy(make: Any, record_property: Any) -> None:
    cause = make()
    explanation = explained(cause, "shapley", cause.lime[0])
    found, energy = share(explanation.map, cause), energy_share(explanation.parts, cause)
    record_property("attribution", round(found, 3))
    record_property("energy", round(energy, 3))
    assert found > energy + 0.1


def test_halves_of_the_calls_agree_where_the_score_is_additive_and_not_where_it_is_chance() -> None:
    assert asked("kernelshap", linear(SAMPLES)).fidelity["halves"] == pytest.approx(1)
    rng = np.random.default_rng(0)
    chance = Function(lambda x: rng.normal(size=(len(x), 1)), output="regression")
    halves = asked("kernelshap", chance).fidelity["halves"]
    assert halves is not None
    assert abs(halves) < 0.6
    few = Settings(parts="grid", n_parts=16, calls=64)
    assert asked("kernelshap", chance, settings=few).fidelity["halves"] is None


def test_the_way_stays_open_to_further_questions() -> None:
    for name in ASKED:
        got = asked(name, torch_model())
        assert got.ask is not None
        assert got.masks is not None
        assert got.scores is not None
        np.testing.assert_allclose(got.ask(got.masks[:3]), got.scores[:3], atol=1e-6)
