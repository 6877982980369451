"""Gradient methods against finite differences of the sounds themselves, plain integrals, and what was planted."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import Output
from otoscope.adapters.network import NetworkModel
from otoscope.explainers.cell_mask import asking, value
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Outcome, lay_cells
from otoscope.explainers.gradients import gain, integrated_gradients, saliency, smoothgrad
from otoscope.explainers.methods import METHODS, Request, Settings
from otoscope.explainers.targets import Scale, Target, on_scale
from tests.builders import RATE, Floats, Function, TinyImageNet, front_end, loudness, music, request, torch_model
from tests.planted import CAUSES, explained, share, shuffled

SAMPLES = music(seconds=0.8)
METHODS_HERE: dict[str, Any] = {
    "saliency": saliency,
    "smoothgrad": smoothgrad,
    "integrated_gradients": integrated_gradients,
}
PARTS: dict[str, Any] = {"parts": "grid", "n_parts": 6}
TARGETS = [Target(1, None, "b"), Target(0, 2, "a-c")]


def asked(model: Any, *, target: Target | None = None, samples: Any = SAMPLES, **settings: Any) -> Request:
    one = request(model, samples, settings=Settings(**(PARTS | settings)))
    return one if target is None else Request(**{**vars(one), "target": target})


# The value.


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("scale", ["log_odds", "score"])
@pytest.mark.parametrize("output", ["softmax", "sigmoid", "regression"])
@given(seed=st.integers(0, 2**16), n_windows=st.integers(1, 3), size=st.sampled_from([0.1, 1.0, 4.0]))
def test_the_value_is_the_explained_scale_of_the_spans_scores(
    seed: int, n_windows: int, size: float, output: Output, scale: Scale, target: Target
) -> None:
    if output == "regression" and scale == "log_odds":
        return
    logits = np.random.default_rng(seed).normal(size=(4, n_windows, 5)) * size
    powers = np.exp(logits)
    scores = {"softmax": powers / powers.sum(-1, keepdims=True), "sigmoid": 1 / (1 + 1 / powers), "regression": logits}
    expected = on_scale(scores[output].mean(axis=1), target, output, scale, clip=1e-12)
    np.testing.assert_allclose(value(torch.from_numpy(logits), target, output, scale), expected, atol=1e-9)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("size", [80.0, 1e4])
def test_the_value_of_a_saturated_answer_still_has_a_slope(output: Output, size: float) -> None:
    logits = torch.tensor([[[size, 0.0, -size]]], requires_grad=True)
    got = value(logits, Target(0, None, "a"), output, "log_odds")
    assert got.item() == pytest.approx(size)
    (slope,) = torch.autograd.grad(got.sum(), logits)
    assert slope[0, 0, 0].item() == pytest.approx(1)


# Oracles: nothing below knows autograd. A model is asked about mixes of the parts' sounds by `predict`.


def gains_to_value(one: Request, parts: Any, gains: Floats) -> Floats:
    return on_scale(one.model.predict(parts.compose(gains)), one.target, one.model.output, one.scale, clip=1e-12)


def slopes(one: Request, parts: Any, at: Floats, step: float) -> Floats:
    """Central differences of the value by each part's gain, (k,)."""
    nudges = step * np.eye(parts.k)
    return (gains_to_value(one, parts, at + nudges) - gains_to_value(one, parts, at - nudges)) / (2 * step)


def riemann(one: Request, parts: Any, n_steps: int) -> Floats:
    """Integrate the slopes along the straight path from all off by midpoints (Sundararajan et al., 2017, eq. 3)."""
    total = np.zeros(parts.k)
    for i in range(n_steps):
        alpha = (i + 0.5) / n_steps
        total += slopes(one, parts, np.full(parts.k, alpha), step=0.1 / n_steps) / n_steps
    return total


def smooth(n_classes: int = 3, **settings: Any) -> NetworkModel:
    """Network without corners, so that differences are slopes; sharp enough that the path is no line."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv1d(24, 8, 3), nn.Tanh(), nn.Conv1d(8, n_classes, 3), nn.AdaptiveAvgPool1d(1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    return torch_model(nn.Sequential(network, nn.Flatten()), **settings)


CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "softmax": (smooth, {}, {}),
    "sigmoid": (smooth, {"output": "sigmoid"}, {}),
    "regression": (smooth, {"output": "regression"}, {}),
    "probability": (smooth, {}, {"scale": "score"}),
    "contrast": (smooth, {}, {"target": Target(0, 2, "a-c")}),
    "windows": (smooth, {"n_samples": 4000}, {}),
    "windows, sigmoid": (smooth, {"n_samples": 4000, "output": "sigmoid"}, {}),
    "padded": (smooth, {"n_samples": 16_000}, {}),
    "off mean": (smooth, {}, {"off": "mean"}),
    "off noise": (smooth, {}, {"off": "noise"}),
    "soft parts": (smooth, {}, {"parts": "hpss"}),
    "decibels": (smooth, {"front_end": front_end(compression="decibels", reference=1.0)}, {"n_steps": 256}),
}


@pytest.mark.parametrize("name", CASES)
def test_saliency_is_the_slope_of_the_value_by_a_parts_gain(name: str) -> None:
    make, of_model, of_request = CASES[name]
    one = asked(make(**of_model), **of_request)
    got = saliency(one)
    expected = slopes(one, got.parts, np.ones(got.parts.k), step=0.01)
    assert got.units == "relative"
    np.testing.assert_allclose(got.weights, expected / np.abs(expected).sum(), atol=2e-3)


@pytest.mark.parametrize("name", ["softmax", "probability", "contrast", "windows, sigmoid", "off noise", "soft parts"])
def test_integrated_gradients_are_the_plain_integral_over_gains(name: str) -> None:
    make, of_model, of_request = CASES[name]
    one = asked(make(**of_model), **of_request)
    got = integrated_gradients(one)
    expected = riemann(one, got.parts, n_steps=200)
    assert np.abs(expected).max() > 0.005
    np.testing.assert_allclose(got.weights, expected, atol=0.01 * np.abs(expected).sum())


@pytest.mark.parametrize("name", CASES)
def test_integrated_gradients_add_up_to_the_difference(name: str) -> None:
    make, of_model, of_request = CASES[name]
    one = asked(make(**of_model), **of_request)
    got = integrated_gradients(one)
    on, off = gains_to_value(one, got.parts, np.array([np.ones(got.parts.k), np.zeros(got.parts.k)]))
    # Decibels end in a hard floor, a corner for every cell on the way up, so their integral is the hardest.
    assert got.weights.sum() == pytest.approx(on - off, abs=0.02 * np.abs(got.weights).sum())
    if name != "decibels":
        assert got.weights.sum() == pytest.approx(on - off, abs=2e-3)
    assert got.fidelity["completeness"] == pytest.approx(got.weights.sum() - (on - off), abs=1e-4)
    assert got.notes == ()


def linear(n_samples: int = len(SAMPLES)) -> NetworkModel:
    network = nn.Linear(n_samples, 2)
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(np.random.default_rng(1).normal(size=(2, n_samples)) / 10))
        network.bias.copy_(torch.tensor([0.3, -0.7]))
    return NetworkModel(network, Hearing(RATE, n_samples), labels=("a", "b"), output="regression")


@pytest.mark.parametrize("n_steps", [3, 32])
@pytest.mark.parametrize("off", ["silence", "mean", "noise"])
def test_of_a_linear_model_each_weight_is_its_answer_to_the_part(off: Any, n_steps: int) -> None:
    model = linear()
    one = asked(model, off=off, n_steps=n_steps, noise=0.5)
    parts = integrated_gradients(one).parts
    moved = parts.sounds if parts.offs is None else parts.sounds - parts.offs
    expected = moved.astype(np.float64) @ model.network.weight[0].detach().double().numpy()
    if n_steps == 32:  # a straight line needs one step of even gains; ours are even in decibels
        np.testing.assert_allclose(integrated_gradients(one).weights, expected, atol=1e-4 * np.abs(expected).sum())
    scaled = expected / np.abs(expected).sum()
    for method in (saliency, smoothgrad):  # a straight line is as steep everywhere
        np.testing.assert_allclose(method(one).weights, scaled, atol=1e-4)


def test_smoothgrad_is_the_mean_of_slopes_at_noisy_masks() -> None:
    one = asked(smooth(), n_draws=5, noise=0.4)
    parts = saliency(one).parts
    ask, total = asking(one, parts), torch.zeros(parts.labels.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(one.seed)
        for _ in range(5):
            noisy = (1 + 0.4 * torch.randn(1, *parts.labels.shape)).requires_grad_()
            total += torch.autograd.grad(ask(noisy).sum(), noisy)[0][0]
    expected = parts.spread(total.double().numpy())
    np.testing.assert_allclose(smoothgrad(one).weights, expected / np.abs(expected).sum(), atol=1e-5)


def test_smoothgrad_without_much_noise_is_saliency() -> None:
    one = asked(smooth(), n_draws=2, noise=1e-4)
    np.testing.assert_allclose(smoothgrad(one).weights, saliency(one).weights, atol=1e-3)


def test_levels_become_gains_evenly_in_decibels() -> None:
    levels = torch.linspace(0, 1, 5)
    assert gain(levels)[[0, -1]].tolist() == pytest.approx([0, 1])
    steps = np.diff(20 * np.log10(gain(levels[2:]).numpy()))
    np.testing.assert_allclose(steps, 10, atol=0.7)


# The contract.


@pytest.mark.parametrize("name", METHODS_HERE)
def test_the_map_is_the_attribution_of_the_cells(name: str) -> None:
    got = METHODS_HERE[name](asked(torch_model(), n_draws=3))
    assert got.map is not None
    assert got.map.sum() == pytest.approx(got.weights.sum(), abs=1e-5)
    if name == "saliency":
        mask = torch.ones(1, *got.parts.labels.shape, requires_grad=True)
        one = asked(torch_model())
        cells = torch.autograd.grad(asking(one, got.parts)(mask).sum(), mask)[0][0].double().numpy()
        size = np.abs(got.parts.spread(cells)).sum()
        np.testing.assert_allclose(got.map, lay_cells(got.parts, cells) / size, atol=1e-7)


def test_the_gap_of_an_explanation_is_what_the_integral_missed() -> None:
    """Also over several windows, whose probabilities are averaged and not their logits."""
    model = smooth(n_samples=4000)
    got = explain(model, Audio(SAMPLES, RATE), method="integrated_gradients", target=0, settings=Settings(**PARTS))
    assert got.units == "log-odds"
    assert got.gap == pytest.approx(-float(got.fidelity["completeness"] or 0), abs=1e-4)
    assert abs(got.gap or 0) < 2e-3 < np.abs(got.weights).max()


def test_an_integral_of_too_few_steps_says_so() -> None:
    got = integrated_gradients(asked(smooth(), n_steps=1))
    assert abs(got.fidelity["completeness"] or 0) > 0.01
    assert len(got.notes) == 1
    assert "raise --n-steps" in got.notes[0]


@pytest.mark.parametrize("name", METHODS_HERE)
def test_the_seed_alone_decides(name: str) -> None:
    def weights(seed: int, batch_size: int = 32) -> Floats:
        one = request(smooth(), SAMPLES, settings=Settings(**PARTS, n_draws=3), seed=seed)
        weights: Floats = METHODS_HERE[name](Request(**{**vars(one), "batch_size": batch_size})).weights
        return weights

    state = torch.random.get_rng_state()
    first = weights(3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)
    np.testing.assert_array_equal(weights(3), first)
    np.testing.assert_allclose(weights(3, batch_size=1), first, atol=1e-5)
    assert (name == "smoothgrad") != np.array_equal(weights(4), first)


@pytest.mark.parametrize("name", METHODS_HERE)
def test_everything_is_put_back(name: str) -> None:
    model = torch_model()
    model.network.train()
    model.network.norm.eval()
    modes = [module.training for module in model.network.modules()]
    before = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}
    one = asked(model, n_draws=2, n_steps=2)
    with torch.no_grad():
        METHODS_HERE[name](one)
    assert [module.training for module in model.network.modules()] == modes
    assert all(not module._forward_hooks and not module._backward_hooks for module in model.network.modules())
    assert all(parameter.grad is None for parameter in model.network.parameters())
    for key, tensor in model.network.state_dict().items():
        torch.testing.assert_close(tensor, before[key])


def test_memory_is_bounded_by_the_batch_and_progress_is_told() -> None:
    sizes, told = [], []

    class Counted(TinyImageNet):
        def forward(self, bands: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled():
                sizes.append(len(bands))
            return super().forward(bands)

    one = asked(torch_model(Counted(3), n_samples=2400), n_steps=6)
    integrated_gradients(Request(**{**vars(one), "progress": lambda *now: told.append(now)}))
    assert max(sizes) == len(one.model.starts) == 3
    assert told[-1] == (6, 6)


@pytest.mark.parametrize("name", METHODS_HERE)
def test_black_boxes_are_told_what_fits(name: str) -> None:
    assert METHODS[name].white_box
    with pytest.raises(OtoscopeError, match=rf"offers no gradients.*so {name} cannot explain it; use lime, occlusion"):
        METHODS_HERE[name](asked(Function(loudness)))


class Levels(nn.Module):
    """Root mean square level of a waveform, before or after which something happens."""

    def __init__(self, through: Any) -> None:
        super().__init__()
        self.through = through

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Score waveforms."""
        level: torch.Tensor = self.through(waveforms)
        return level[:, None]


def levels(through: Any) -> NetworkModel:
    return NetworkModel(Levels(through), Hearing(RATE, len(SAMPLES)), labels=("loud",), output="regression")


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    model = levels(lambda x: (0 * x).sqrt().mean(1))  # √0: an infinite slope, times 0
    with pytest.raises(
        OtoscopeError, match=r"the gradient is not finite here .* so saliency cannot explain it; use lime"
    ):
        saliency(asked(model))


def test_gradients_that_do_not_reach_the_sound_are_told() -> None:
    with pytest.raises(OtoscopeError, match="gradients do not reach this model's sound; use lime"):
        saliency(asked(levels(lambda x: x.detach().square().mean(1))))


def test_where_the_model_is_saturated_only_the_integral_finds_the_cause() -> None:
    """A level above which nothing changes: the slope there is 0 and says so; the way up to it is not."""
    model = levels(lambda x: x.square().mean(1).clamp(max=1e-4))
    assert float(np.square(SAMPLES).mean()) > 2e-4
    for method in (saliency, smoothgrad):
        got: Outcome = method(asked(model, n_draws=2))
        assert not got.weights.any()
        assert got.notes == ("the gradient is zero everywhere: nothing moves the target",)
    got = integrated_gradients(asked(model, n_steps=256))
    assert got.weights.sum() == pytest.approx(1e-4, rel=0.05)
    np.testing.assert_allclose(got.weights / got.weights.sum(), got.parts.energy, atol=0.05)


# What was planted.

ENOUGH = 0.85


@pytest.mark.parametrize("name", METHODS_HERE)
@pytest.mark.parametrize("make", CAUSES)
def test_gradients_find_the_cause(make: Any, name: str, record_property: Any) -> None:
    """Shares were .93 to 1.00 for all three (silence as off)."""
    cause = make()
    got = explained(cause, name, {"n_steps": 12} if name == "integrated_gradients" else {})
    found = share(got.map, cause)
    record_property("attribution", round(found, 3))
    assert found >= ENOUGH
    assert np.mean([share(shuffled(got, seed), cause) for seed in range(3)]) < ENOUGH - 0.2
    if name == "integrated_gradients":
        assert abs(got.gap or 0) < 1e-3
