"""Guided Grad-CAM against a forward pass by hand and Captum's own guided backpropagation; every hook removed."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import GuidedBackprop
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import CamLayer
from otoscope.adapters.network import NetworkModel
from otoscope.explainers.cell_mask import asking
from otoscope.explainers.gradcam import Cam, class_activation_map, find_layer, heights
from otoscope.explainers.guided import find_relus, guided, guided_gradcam
from otoscope.explainers.makers import cut
from otoscope.explainers.methods import Request, Settings
from otoscope.explainers.targets import Target
from tests.builders import RATE, Function, TinyImageNet, TinyNet, front_end, loudness, music, request, torch_model
from tests.planted import CAUSES, explained, share, shuffled

SAMPLES = music(seconds=1.3)


def asked(model: Any, *, target: Target | None = None, **settings: Any) -> Request:
    chosen: dict[str, Any] = {"parts": "grid", "n_parts": 9} | settings
    one = request(model, SAMPLES, settings=Settings(**chosen))
    return one if target is None else Request(**{**vars(one), "target": target})


class RuleOfThePaper(torch.autograd.Function):
    """ReLU whose way back is that of Springenberg et al., 2015: 1[in > 0] · max(0, gradient)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Rectify."""
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Let through what raises the answer, where the unit is on."""
        (x,) = ctx.saved_tensors
        return (x > 0) * gradients[0].clamp(min=0)


RULE: Any = RuleOfThePaper.apply


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("target", [Target(1, None, "b"), Target(0, 2, "a-c")], ids=lambda target: target.name)
def test_it_is_the_map_times_the_papers_rule(target: Target, inplace: bool) -> None:
    """By hand: mask, sound, bands, network, on one tape; the map's heights by repeating each frame's value."""
    network: Any = TinyNet(inplace=inplace).eval()
    got = guided_gradcam(asked(torch_model(network), target=target))
    parts = got.parts
    mask = torch.ones(parts.labels.shape, requires_grad=True)
    sound = parts.stft.inverse(mask * parts.spectrum, len(SAMPLES))
    activations = network.conv(network.norm(front_end()(sound[None])))

    def answer(heard: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = network.head(heard.mean(-1))[0]
        return logits[target.index] - (0 if target.against is None else logits[target.against])

    (gradient,) = torch.autograd.grad(answer(RULE(activations)), mask, retain_graph=True)
    (slope,) = torch.autograd.grad(answer(activations.relu()), activations)
    raised = (
        (slope.mean(-1, keepdim=True) * activations).sum(1).clamp(min=0)[0].detach().double().numpy()
    )  # (n_frames,)
    length, step = len(SAMPLES) / RATE, parts.stft.hop_length / RATE
    edges, own = np.clip((np.arange(parts.labels.shape[1] + 1) - 0.5) * step, 0, length), length / len(raised)
    edges[-1] = length
    inside = [
        [max(0.0, min(b, (i + 1) * own) - max(a, i * own)) / (b - a) for i in range(len(raised))]
        for a, b in pairwise(edges)
    ]  # the share of each STFT frame in each of the layer's
    even = np.array(inside) / np.array(inside).sum(axis=1, keepdims=True)
    expected = parts.spread((even @ raised) * gradient.double().numpy())
    np.testing.assert_allclose(got.weights, expected / np.abs(expected).sum(), atol=1e-5)
    assert got.units == "relative"
    assert got.map is not None
    assert got.map.sum() == pytest.approx(got.weights.sum(), abs=1e-6)


class Deep(nn.Module):
    """Three convolutions with ReLUs between, optionally with a way around one of them."""

    def __init__(self, *, around: bool, inplace: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.first, self.second, self.third = nn.Conv1d(24, 8, 3), nn.Conv1d(8, 8, 3), nn.Conv1d(8, 3, 3)
        self.relu, self.again, self.around = nn.ReLU(inplace), nn.ReLU(), around

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        """Score bands; the first ReLU is used twice."""
        one = self.second(self.relu(self.first(bands)))
        two = self.again(one) + (one if self.around else 0)
        answer: torch.Tensor = self.relu(self.third(two) + 0.5).mean(-1)
        return answer


def gradients_of(model: NetworkModel, *, captum: bool) -> torch.Tensor:
    """Guided gradient of the first logit on the cells, (n_bins, n_frames)."""
    one = asked(model)
    ask = asking(one, one.whole, logit=True)
    mask = torch.ones(1, *one.whole.labels.shape, requires_grad=True)
    if not captum:
        with guided(find_relus(model)):
            return torch.autograd.grad(ask(mask).sum(), mask)[0][0]

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model.network

        def forward(self, masks: torch.Tensor) -> torch.Tensor:
            return ask(masks)

    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):
        found: torch.Tensor = GuidedBackprop(Whole()).attribute(mask)
    return found[0].detach()


@pytest.mark.parametrize("network", [TinyNet, lambda: TinyImageNet(3), lambda: Deep(around=False, inplace=True)])
def test_it_is_guided_as_captum_guides(network: Any) -> None:
    own, captums = (gradients_of(torch_model(network()), captum=captum) for captum in (False, True))
    assert own.abs().max() > 0
    torch.testing.assert_close(own, captums, atol=1e-6 * float(own.abs().max()), rtol=1e-4)


def test_what_goes_around_a_relu_is_not_guided() -> None:
    """Captum guides all that flows back to the ReLU's input, the residual's own gradient too; the paper's rule not."""
    network = Deep(around=True)
    got = gradients_of(torch_model(network), captum=False)
    one = asked(torch_model(network))
    mask = torch.ones(one.whole.labels.shape, requires_grad=True)
    bands = front_end()(one.whole.stft.inverse(mask * one.whole.spectrum, len(SAMPLES))[None])
    middle = network.second(RULE(network.first(bands)))
    answer = RULE(network.third(RULE(middle) + middle) + 0.5).mean(-1)[0, 0]
    expected = torch.autograd.grad(answer, mask)[0]
    torch.testing.assert_close(got, expected, atol=1e-6 * float(expected.abs().max()), rtol=1e-4)
    assert not torch.allclose(got, gradients_of(torch_model(network), captum=True), rtol=0.05)


def count_hooks(network: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) + len(m._backward_pre_hooks)
        for m in network.modules()
    )


@pytest.mark.parametrize("inplace", [True, False])
def test_everything_is_put_back(inplace: bool) -> None:
    network = TinyNet(inplace=inplace).train()
    network.norm.eval()
    own = network.relu.register_forward_hook(lambda *_: None)  # somebody else's
    modes = [module.training for module in network.modules()]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = torch_model(network)
    scores = model.predict(SAMPLES[None])
    guided_gradcam(asked(model))
    assert count_hooks(network) == 1
    own.remove()
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name])
    np.testing.assert_array_equal(model.predict(SAMPLES[None]), scores)
    plain = torch.ones(2, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(-nn.ReLU(inplace)(plain * 1).sum(), plain)
    assert (slope == -1).all()  # a ReLU is a ReLU again


def test_hooks_are_removed_after_a_failure() -> None:
    class Broken(TinyNet):
        calls = 0

        def forward(self, bands: torch.Tensor) -> torch.Tensor:
            answer = super().forward(bands)
            self.calls += torch.is_grad_enabled()
            if self.calls == 2:  # the first is Grad-CAM's
                raise RuntimeError("broken on the way")
            return answer

    network = Broken().train()
    with pytest.raises(OtoscopeError, match="broken on the way"):
        guided_gradcam(asked(torch_model(network, layers=lambda m: (CamLayer("conv", m.network.conv),))))
    assert network.calls == 2
    assert count_hooks(network) == 0
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("model", [torch_model(TinyImageNet(3)), torch_model(TinyImageNet(3), n_samples=4000)])
def test_heights_are_the_values_of_the_layers_cells(model: NetworkModel) -> None:
    one = asked(model)
    parts = cut(one.whole, "grid", 4)
    layer = find_layer(one.model, None)
    shape = class_activation_map(one.model, SAMPLES, one.target, layer).cells.shape
    flat = heights(Cam(np.full(shape, 3.0), layer), parts, one.model)
    heard = parts.stft.frequencies(RATE) > front_end().edges[0] + RATE / 512
    assert heard.mean() > 0.98
    np.testing.assert_allclose(flat[heard], 3)
    cells = np.zeros(shape)
    cells[0, 5, 2] = 7.0
    found = heights(Cam(cells, layer), parts, one.model)
    assert 3.4 < found.max() <= 7 + 1e-9  # at least half of a frame lies in it, or in one of two windows
    low, high = front_end().edges[[10, 12]]
    frequencies = parts.stft.frequencies(RATE)
    outside = (frequencies < low - RATE / 512) | (frequencies > high + RATE / 512)
    assert not found[outside].any()


def test_heights_of_groups_are_summed_where_several_hear() -> None:
    one = asked(torch_model())
    edges, seen = front_end().edges, np.zeros((2, 24), dtype=bool)
    seen[0, :12], seen[1, 6:18] = True, True
    layer = CamLayer("x", nn.Identity(), edges, seen, ("low", "high"))
    parts = cut(one.whole, "grid", 4)
    found = heights(Cam(np.stack([np.full((1, 5), 2.0), np.full((1, 5), 3.0)], axis=1), layer), parts, one.model)
    frequencies = parts.stft.frequencies(RATE)
    width = RATE / 512
    for first, last, height in ((0, 6, 2.0), (6, 12, 5.0), (12, 18, 3.0), (18, 24, 0.0)):
        inner = (frequencies > edges[first] + width) & (frequencies < edges[last] - width)
        assert inner.any()
        np.testing.assert_allclose(found[inner], height)


@pytest.mark.parametrize("settings", [{"n_samples": 4000}, {"n_samples": 16_000}, {"output": "regression"}])
@pytest.mark.parametrize("off", ["silence", "noise"])
def test_windows_padding_and_off_values(settings: dict[str, Any], off: Any) -> None:
    got = guided_gradcam(asked(torch_model(TinyImageNet(3), **settings), off=off))
    assert np.abs(got.weights).sum() == pytest.approx(1)
    again = guided_gradcam(asked(torch_model(TinyImageNet(3), **settings), off=off))
    np.testing.assert_array_equal(got.weights, again.weights)


def test_the_layer_is_a_choice() -> None:
    model = torch_model(Deep(around=False))
    plain, named = (guided_gradcam(asked(model, layer=layer)).weights for layer in (None, "first"))
    assert np.abs(plain - named).max() > 1e-3
    with pytest.raises(OtoscopeError, match="unknown layer 'frist': did you mean 'first'"):
        guided_gradcam(asked(model, layer="frist"))


def test_networks_without_relus_are_told_what_fits() -> None:
    network = nn.Sequential(nn.Conv1d(24, 3, 3), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    with pytest.raises(OtoscopeError, match=r"no torch\.nn\.ReLU module .* so guided_gradcam cannot") as told:
        guided_gradcam(asked(torch_model(network)))
    others = str(told.value).split("use ")[1].split(", ")
    assert {"lime", "gradcam", "saliency", "integrated_gradients"} <= set(others)
    assert "guided_gradcam" not in others


def test_black_boxes_and_models_without_layers_are_told_what_fits() -> None:
    with pytest.raises(OtoscopeError, match=r"offers no gradients.*so guided_gradcam cannot explain it; use lime"):
        guided_gradcam(asked(Function(loudness)))
    flat = NetworkModel(nn.Linear(len(SAMPLES), 2), Hearing(RATE, len(SAMPLES)), labels=("a", "b"))
    with pytest.raises(OtoscopeError, match=r"no layer with a time axis.*use lime, occlusion"):
        guided_gradcam(asked(flat))


@pytest.mark.parametrize("make", [make for make in CAUSES if make().sign > 0])
def test_it_finds_the_cause(make: Any, record_property: Any) -> None:
    """Shares were .97 to 1.00; those of the Grad-CAM map alone .96 to 1.00."""
    cause = make()
    got = explained(cause, "guided_gradcam", {})
    found = share(got.map, cause)
    record_property("attribution", round(found, 3))
    assert found >= 0.9
    assert np.mean([share(shuffled(got, seed), cause) for seed in range(3)]) < 0.6


@pytest.mark.parametrize("make", [make for make in CAUSES if make().sign < 0])
def test_what_speaks_against_the_target_it_cannot_show(make: Any) -> None:
    got = explained(make(), "guided_gradcam", {})
    assert not got.weights.any()
    assert "the product is zero everywhere: this layer holds nothing that speaks for the target" in got.notes
