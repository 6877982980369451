"""Grad-CAM against autograd on a hand-made forward pass, and every switch put back."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import CamLayer
from otoscope.adapters.network import NetworkModel
from otoscope.explainers import grid
from otoscope.explainers.gradcam import (
    Cam,
    brightness,
    class_activation_map,
    find_layer,
    gradcam,
    on_common_grid,
    on_stft,
)
from otoscope.explainers.makers import cut
from otoscope.explainers.methods import Settings
from otoscope.explainers.targets import Target
from tests import reference
from tests.builders import RATE, Function, TinyImageNet, TinyNet, front_end, loudness, music, request, torch_model

SAMPLES = music(seconds=1.3)


def image_model(**settings: Any) -> NetworkModel:
    return torch_model(TinyImageNet(), labels=("a", "b"), **settings)


def cam_of(model: NetworkModel, samples: Any = SAMPLES, target: Target | None = None) -> Cam:
    one = request(model, samples)
    return class_activation_map(one.model, samples, target or one.target, find_layer(one.model, None))


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_time_only_map_is_plain_autograds(index: int, inplace: bool) -> None:
    network = TinyNet(inplace=inplace).eval()
    heard = front_end()(torch.from_numpy(SAMPLES)[None])
    activations = network.conv(network.norm(heard))
    expected = reference.grad_cam(activations, lambda a: network.head(torch.relu(a).mean(-1))[0, index])
    got = cam_of(torch_model(network), target=Target(index, None, "x"))
    assert got.cells.shape == (1, 1, len(expected))
    np.testing.assert_allclose(got.cells[0, 0], expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("index", [0, 1])
def test_a_map_with_a_frequency_axis_is_plain_autograds(index: int) -> None:
    model = image_model()
    network: Any = model.network
    activations = network.conv(front_end()(torch.from_numpy(SAMPLES)[None])[:, None])
    expected = reference.grad_cam(activations, lambda a: network.head(torch.relu(a).mean((-2, -1)))[0, index])
    got = cam_of(model, target=Target(index, None, "x"))
    np.testing.assert_allclose(got.cells[0], expected, atol=1e-5 * np.abs(expected).max())


def test_a_contrast_is_the_map_of_the_difference() -> None:
    """The map is linear in the target, so that of A−B is that of A less that of B."""
    targets = (Target(0, None, "a"), Target(1, None, "b"), Target(0, 1, "a-b"))
    maps = [cam_of(image_model(), target=target).cells for target in targets]
    np.testing.assert_allclose(maps[2], maps[0] - maps[1], atol=1e-6)


def test_windows_have_a_map_each() -> None:
    network = TinyNet().eval()
    got = cam_of(torch_model(network, n_samples=4000))
    assert got.cells.shape[0] == 3
    for window, start in enumerate((0, 3200, 6400)):
        alone = cam_of(torch_model(network, n_samples=4000), SAMPLES[start : start + 4000])
        # The span's logit is the mean of three windows, so each window's gradient is a third.
        np.testing.assert_allclose(3 * got.cells[window], alone.cells[0], atol=1e-6)


@pytest.mark.parametrize("frozen", [True, False])
def test_everything_is_put_back(frozen: bool) -> None:
    network = TinyNet().train()
    network.norm.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(not frozen)
    modes = [module.training for module in network.modules()]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    samples = SAMPLES.copy()
    gradcam(request(torch_model(network), samples))
    assert [module.training for module in network.modules()] == modes
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    for parameter in network.parameters():
        assert parameter.requires_grad is not frozen
        assert parameter.grad is None
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name])
    np.testing.assert_array_equal(samples, SAMPLES)


def test_hooks_are_removed_after_a_failure() -> None:
    class Broken(TinyNet):
        def forward(self, bands: torch.Tensor) -> torch.Tensor:
            if bands.requires_grad:
                self.conv(bands)
                raise RuntimeError("broken on the way")
            return super().forward(bands)

    network = Broken().train()
    with pytest.raises(OtoscopeError, match="broken on the way"):
        gradcam(request(torch_model(network), SAMPLES))
    assert all(not module._forward_hooks for module in network.modules())
    assert all(module.training for module in network.modules())


def test_gradients_may_be_switched_off_around_it() -> None:
    with torch.no_grad():
        got = gradcam(request(torch_model(), SAMPLES))
    assert np.abs(got.weights).sum() == pytest.approx(1)


MODELS = [torch_model(), image_model(), torch_model(n_samples=4000), image_model(n_samples=4000)]


@pytest.mark.parametrize("model", MODELS, ids=["time", "2-D", "time, windows", "2-D, windows"])
def test_weights_are_the_signed_mass_of_the_map_in_each_part(model: NetworkModel) -> None:
    got = gradcam(request(model, SAMPLES))
    assert got.units == "relative"
    assert got.se is None
    assert np.abs(got.weights).sum() == pytest.approx(1)
    assert got.map is not None
    assert got.map.sum() == pytest.approx(got.weights.sum(), abs=1e-6)
    assert got.map.shape == (108, 13)
    cam = cam_of(model)
    assert on_stft(cam, got.parts, request(model, SAMPLES).model).sum() == pytest.approx(cam.cells.sum(), rel=1e-5)


def test_a_time_only_map_is_spread_by_energy() -> None:
    one = request(torch_model(), SAMPLES)
    parts = cut(one.whole, "grid", 9)
    cells = on_stft(cam_of(torch_model()), parts, one.model)
    for frame in range(2, cells.shape[1], 7):
        share = parts.power[:, frame] / parts.power[:, frame].sum()
        np.testing.assert_allclose(cells[:, frame], cells[:, frame].sum() * share, atol=1e-9)


def test_a_time_only_map_of_silence_is_spread_by_area() -> None:
    silence = np.zeros(4000, dtype=np.float32)
    one = request(torch_model(), silence)
    cam = Cam(np.ones((1, 1, 5)), CamLayer("x", nn.Identity()))
    cells = on_stft(cam, cut(one.whole, "grid", 4), one.model)
    assert cells.sum() == pytest.approx(5)
    np.testing.assert_allclose(cells, cells[:1].repeat(len(cells), axis=0))


def test_a_layer_without_band_edges_knows_time_only_however_many_rows() -> None:
    one = request(torch_model(), SAMPLES)
    parts = cut(one.whole, "grid", 4)
    rows = np.random.default_rng(0).normal(size=(1, 4, 6))
    layer = CamLayer("x", nn.Identity())
    got = on_stft(Cam(rows, layer), parts, one.model)
    np.testing.assert_allclose(got, on_stft(Cam(rows.sum(axis=1, keepdims=True), layer), parts, one.model))


def test_cells_lie_where_the_layer_heard_them() -> None:
    """One cell of a 6 × 13 map over 24 bands and 1.3 s: row 3 is bands 12 to 15, frame 5 is 0.5 to 0.6 s."""
    one = request(image_model(), SAMPLES)
    parts = cut(one.whole, "grid", 9)
    edges = front_end().edges
    cells = np.zeros((1, 6, 13))
    cells[0, 3, 5] = 2.0
    cam = Cam(cells, CamLayer("x", nn.Identity(), edges))
    laid = on_common_grid(cam, parts, one.model, on_stft(cam, parts, one.model))
    assert laid.sum() == pytest.approx(2)
    low, high = edges[12], edges[16]
    bands = (grid.band_edges()[1:] > low) & (grid.band_edges()[:-1] < high)
    assert laid[bands][:, 5].sum() == pytest.approx(2)
    native = on_stft(cam, parts, one.model)
    frequencies = parts.stft.frequencies(RATE)
    width = RATE / parts.stft.n_fft
    assert native.sum() == pytest.approx(2)
    assert native[(frequencies > low - width) & (frequencies < high + width)].sum() == pytest.approx(2)


def test_groups_of_channels_are_laid_on_the_bands_they_see() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.conv = nn.Conv1d(24, 6, 1)
            self.head = nn.Linear(6, 2)

        def forward(self, bands: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(bands).relu().mean(-1))  # type: ignore[no-any-return]

    seen = np.zeros((2, 24), dtype=bool)
    seen[0, 3], seen[1, 10:14] = True, True
    edges = front_end().edges
    model = torch_model(
        Grouped(),
        labels=("a", "b"),
        layers=lambda model: (CamLayer("conv", model.network.conv, edges, seen, ("low", "high")),),
    )
    network: Any = model.network
    activations = network.conv(front_end()(torch.from_numpy(SAMPLES)[None]))
    weights = torch.autograd.grad(network.head(activations.relu().mean(-1))[0, 0], activations)[0].mean(-1)[0]
    by_channel = (weights[:, None] * activations[0]).detach().double().numpy()  # (6, n_frames)
    got = gradcam(request(model, SAMPLES))
    expected = np.array([by_channel[:3].sum(), by_channel[3:].sum()])
    assert got.native["group_names"].tolist() == ["low", "high"]
    assert got.native["groups"].shape == (2, 13)
    np.testing.assert_allclose(got.native["groups"].sum(axis=1), expected, rtol=1e-4)
    assert got.map is not None
    bands = grid.band_edges()
    low = (bands[1:] > edges[3]) & (bands[:-1] < edges[4])
    high = (bands[1:] > edges[10]) & (bands[:-1] < edges[14])
    assert np.abs(got.map[~(low | high)]).max() == 0
    mass = np.array([got.map[low].sum(), got.map[high].sum()])
    by_bands = expected * seen.sum(axis=1)  # each band of a group carries the group's map
    np.testing.assert_allclose(mass / np.abs(mass).max(), by_bands / np.abs(by_bands).max(), rtol=1e-3)


def test_what_lies_in_padding_is_not_drawn() -> None:
    model = torch_model(n_samples=16_000)
    got = gradcam(request(model, SAMPLES[:8000]))
    assert got.map is not None
    assert got.map.shape == (108, 10)
    assert np.isfinite(got.map).all()


@pytest.mark.parametrize(
    ("cells", "expected"), [([[1.0, -3.0], [0.5, 0.0]], 0.375), ([[-1.0, -2.0]], 0.0), ([[2.0, 2.0]], 1.0)]
)
def test_brightness_is_the_mean_of_the_rectified_map_scaled_to_its_maximum(cells: Any, expected: float) -> None:
    assert brightness(np.array(cells)) == expected


def test_models_without_gradients_are_told_what_fits() -> None:
    with pytest.raises(OtoscopeError, match=r"offers no gradients.*so gradcam cannot explain it; use lime, occlusion"):
        gradcam(request(Function(loudness), SAMPLES))


def test_models_without_layers_are_told_what_fits() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    model = NetworkModel(flat, Hearing(RATE, len(SAMPLES)), labels=("a", "b"))
    model.predict(SAMPLES[None])
    with pytest.raises(OtoscopeError, match=r"no layer with a time axis.*use lime, occlusion"):
        gradcam(request(model, SAMPLES))


def test_the_last_convolution_is_the_default() -> None:
    network = torch.nn.Sequential(nn.Conv1d(24, 8, 3), nn.ReLU(), nn.Conv1d(8, 3, 3), nn.AdaptiveAvgPool1d(1))
    model = torch_model(nn.Sequential(network, nn.Flatten()))
    plain = gradcam(request(model, SAMPLES))
    named = {name: gradcam(request(model, SAMPLES, settings=Settings(layer=name))) for name in ("0.0", "0.2")}
    np.testing.assert_array_equal(plain.weights, named["0.2"].weights)
    assert np.abs(plain.weights - named["0.0"].weights).max() > 1e-3


def test_layers_are_chosen_by_name() -> None:
    got = gradcam(request(torch_model(), SAMPLES, settings=Settings(layer="conv")))
    np.testing.assert_array_equal(got.weights, gradcam(request(torch_model(), SAMPLES)).weights)
    with pytest.raises(OtoscopeError, match="unknown layer 'convv': did you mean 'conv'"):
        gradcam(request(torch_model(), SAMPLES, settings=Settings(layer="convv")))


def test_a_layer_without_time_is_refused() -> None:
    model = torch_model(layers=lambda model: (CamLayer("head", model.network.head),))
    with pytest.raises(OtoscopeError, match="layer 'head' has no time axis"):
        gradcam(request(model, SAMPLES))


def test_a_layer_that_moves_nothing_says_so() -> None:
    network = TinyNet()
    nn.init.zeros_(network.head.weight)
    got = gradcam(request(torch_model(network), SAMPLES))
    assert not got.weights.any()
    assert got.notes == ("the map is zero everywhere: this layer does not move the target here",)
