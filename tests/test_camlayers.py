"""Layers found by probing: what their axes mean, and that nothing hangs on the network afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from otoscope.adapters.camlayers import find_layers, tapped
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import CamLayer
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.spectra import Stft
from otoscope.explainers.gradcam import gradcam
from tests.builders import RATE, front_end, request, tone

LENGTH = 2 * RATE


def seeded(make: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


class Picture(nn.Module):
    """A small CNN over a picture whose axes come in some order; `turn` brings them to (n, 1, a, b)."""

    def __init__(self, turn: Any, *, flip: bool = False) -> None:
        super().__init__()
        self.turn, self.flip = turn, flip
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 7, 3, padding=1, stride=2)
        self.head = nn.Linear(7, 2)

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        """Score bands (n, n_bands, n_frames)."""
        bands = bands.flip(1) if self.flip else bands
        hidden = torch.relu_(self.second(torch.relu_(self.first(self.turn(bands)))))
        return self.head(hidden.mean((-2, -1)))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """A transformer over frames: a convolution makes tokens (n, time, channels), a special token goes before them."""

    def __init__(self, *, special: bool) -> None:
        super().__init__()
        self.embed = nn.Conv1d(1, 16, 256, stride=128)
        self.token = nn.Parameter(torch.randn(1, 1, 16)) if special else None
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 2)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Score waveforms (n, n_samples)."""
        tokens = self.embed(20 * waveforms[:, None]).transpose(1, 2)
        if self.token is not None:
            tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = self.encoder(tokens)
        return self.head(tokens[:, 0] if self.token is not None else tokens.mean(1))  # type: ignore[no-any-return]


class Raw(nn.Module):
    """Strided convolutions on the waveform: time only; the last one squeezed into a picture with a single column."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 64, stride=32)
        self.second = nn.Conv2d(8, 6, (5, 1), stride=(2, 1))
        self.head = nn.Linear(6, 2)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Score waveforms (n, n_samples)."""
        hidden = self.first(waveforms[:, None]).abs()[..., None]  # (n, 8, n_frames, 1)
        return self.head(self.second(hidden).abs().mean((-2, -1)))  # type: ignore[no-any-return]


class Spectra(nn.Module):
    """A network that makes its own spectrogram from the waveform, time before frequency, with nothing declared."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Score waveforms (n, n_samples)."""
        spectra = torch.stft(waveforms, 256, 128, window=torch.hann_window(256), return_complex=True).abs()
        return self.head(self.conv((1 + 100 * spectra).log().transpose(1, 2)[:, None]).relu().mean((-2, -1)))  # type: ignore[no-any-return]


WITH_FRONT_END = {
    "(n, 1, bands, frames)": lambda x: x[:, None],
    "(n, 1, frames, bands)": lambda x: x.transpose(1, 2)[:, None],
}


def picture_model(order: str, *, flip: bool = False) -> NetworkModel:
    network = seeded(lambda: Picture(WITH_FRONT_END[order], flip=flip))
    return NetworkModel(network, Hearing(RATE, front_end=front_end(n_bands=24)), labels=("a", "b"))


def activations(model: NetworkModel, layer: CamLayer, samples: Any) -> torch.Tensor:
    """Record what the tap of a layer sees, (n_channels, [n_rows,] n_frames)."""
    seen: list[torch.Tensor] = []
    handle = layer.module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach().clone()))
    with layer.watch(), torch.no_grad():
        model.logits(torch.from_numpy(samples)[None])
    handle.remove()
    assert len(seen) == 1
    return seen[0][0]


def cell_moved(model: NetworkModel, layer: CamLayer, samples: Any) -> tuple[int, ...]:
    """Cell of a layer that moves most when a sound is laid on near silence."""
    quiet = (1e-3 * np.random.default_rng(1).standard_normal(LENGTH)).astype(np.float32)
    moved = activations(model, layer, quiet + samples) - activations(model, layer, quiet)
    profile = moved.square().sum(0)
    return tuple(int(i) for i in np.unravel_index(int(profile.argmax()), profile.shape))


def click(at: float) -> Any:
    time = np.arange(LENGTH) / RATE
    burst = np.random.default_rng(2).standard_normal(LENGTH)
    return (0.5 * burst * (np.abs(time - at) < 0.01)).astype(np.float32)


def time_edges(layer: CamLayer, n_frames: int) -> Any:
    first, step = layer.frames or (0.0, 2.0 / n_frames)
    return first + step * np.arange(n_frames + 1)


def assert_click_lands(model: NetworkModel, layer: CamLayer) -> None:
    for at in (0.31, 0.77, 1.5):
        *_, frame = cell_moved(model, layer, click(at))
        edges = time_edges(layer, activations(model, layer, click(at)).shape[-1])
        blur = 0.0 if model.hearing.front_end is None else model.hearing.front_end.stft.n_fft / RATE / 2
        width = max(edges[1] - edges[0], 0.02, blur)  # a click lasts 20 ms, and is heard within half a frame
        assert edges[frame] - width <= at <= edges[frame + 1] + width, (at, edges[frame], width)


def row_edges(layer: CamLayer, n_rows: int) -> Any:
    edges = layer.band_edges
    assert edges is not None
    return np.interp(np.linspace(0, len(edges) - 1, n_rows + 1), np.arange(len(edges)), edges)


def assert_tone_lands(model: NetworkModel, layer: CamLayer) -> None:
    for pitch in (500.0, 1300.0, 2600.0):
        row, _ = cell_moved(model, layer, tone(pitch, seconds=2.0, start=0.5, stop=1.4))
        edges = row_edges(layer, activations(model, layer, click(1.0)).shape[1])
        width = edges[row + 1] - edges[row]
        assert edges[row] - width <= pitch <= edges[row + 1] + width, (pitch, edges[row], width)


@pytest.mark.parametrize("flip", [False, True], ids=["upward", "downward"])
@pytest.mark.parametrize("order", WITH_FRONT_END)
def test_a_picture_is_read_whatever_the_order_of_its_axes(order: str, flip: bool) -> None:
    model = picture_model(order, flip=flip)
    layers = model.layers()
    assert [layer.name for layer in layers] == ["second", "first"]
    for layer in layers:
        assert activations(model, layer, click(1.0)).ndim == 3
        assert_click_lands(model, layer)
        assert_tone_lands(model, layer)


FRONT_ENDS = {
    "librosa": FrontEnd(RATE, Stft(512, 128), n_bands=32),
    "log frequency": FrontEnd(RATE, Stft(1024, 128), "log", n_bands=12, fmin=100.0),
    "bins": FrontEnd(RATE, Stft(256, 128), "none"),
    "uncentred": FrontEnd(RATE, Stft(512, 128, center=False), n_bands=32),
    "TensorFlow": FrontEnd(
        RATE, Stft(512, 160, 400, center=False, frame="window"), n_bands=32, mel_scale="htk", norm="none", exponent=1,
        compression="ln", floor=1e-3,
    ),
    "Kaldi": FrontEnd(
        RATE, Stft(256, 80, 200, center=False, window="povey", remove_dc=True, preemphasis=0.97), n_bands=32,
        fmin=20.0, mel_scale="kaldi", norm="none", compression="ln", floor=1e-7, clamp=True,
    ),
    "Whisper": FrontEnd(
        RATE, Stft(400, 160, pad_mode="reflect"), n_bands=40, compression="log", floor=1e-10, clamp=True, top=8.0,
        n_frames=100, mean=-4.0, std=4.0,
    ),
    "MusiCNN": FrontEnd(RATE, Stft(512, 256), n_bands=32, compression="log1p", reference=1e4, n_frames=60),
    "filled up": FrontEnd(RATE, Stft(512, 256), n_bands=32, n_frames=90, fill=-80.0),
    "normalised": FrontEnd(RATE, Stft(512, 256), n_bands=32, normalise="clip"),
}  # fmt: skip


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_click_and_a_tone_land_in_the_right_cell_behind_every_front_end(name: str) -> None:
    network = seeded(lambda: Picture(WITH_FRONT_END["(n, 1, bands, frames)"]))
    model = NetworkModel(network, Hearing(RATE, LENGTH, front_end=FRONT_ENDS[name]), labels=("a", "b"))
    layers = model.layers()
    assert [layer.name for layer in layers] == ["second", "first"]
    for layer in layers:
        assert_click_lands(model, layer)
        assert_tone_lands(model, layer)


def test_a_network_that_makes_its_own_spectrogram_is_read_by_clicks_and_tones() -> None:
    model = NetworkModel(seeded(Spectra), Hearing(RATE), labels=("a", "b"))
    (layer,) = model.layers()
    assert layer.band_edges is not None
    assert activations(model, layer, click(1.0)).shape == (8, 129, 126)
    assert_click_lands(model, layer)
    assert_tone_lands(model, layer)


def test_convolutions_on_the_waveform_know_time_only() -> None:
    model = NetworkModel(seeded(Raw), Hearing(RATE), labels=("a", "b"))
    assert [layer.name for layer in model.layers()] == ["second", "first"]
    for layer in model.layers():
        assert layer.band_edges is None
        assert activations(model, layer, click(1.0)).ndim == 2
        assert_click_lands(model, layer)


def test_tokens_are_laid_back_on_time() -> None:
    model = NetworkModel(seeded(lambda: Tokens(special=False)), Hearing(RATE), labels=("a", "b"))
    layer = model.layers()[0]
    assert layer.name.startswith("encoder.layers.1")
    assert activations(model, layer, click(1.0)).shape == (16, 124)
    assert_click_lands(model, layer)


def test_behind_the_last_attention_only_the_special_token_counts_so_an_earlier_layer_is_chosen() -> None:
    model = NetworkModel(seeded(lambda: Tokens(special=True)), Hearing(RATE), labels=("a", "b"))
    names = [layer.name for layer in model.layers()]
    assert names
    assert "encoder.layers.1.norm2" not in names
    assert "encoder.layers.0.norm2" in names


def test_rows_from_low_to_high_whatever_the_network_thinks() -> None:
    model = picture_model("(n, 1, frames, bands)", flip=True)
    layer = model.layers()[0]
    low, _ = cell_moved(model, layer, tone(300.0, seconds=2.0))
    high, _ = cell_moved(model, layer, tone(3000.0, seconds=2.0))
    assert low < high


@pytest.mark.parametrize("order", WITH_FRONT_END)
def test_a_tap_changes_nothing_and_is_taken_off(order: str) -> None:
    model = picture_model(order)
    waveform = torch.from_numpy(click(0.5))[None]
    before = model.logits(waveform)
    layers = model.layers()
    assert all(not module._forward_hooks for module in model.network.modules())
    for layer in layers:
        with layer.watch():
            torch.testing.assert_close(model.logits(waveform), before, atol=0, rtol=0)
        assert all(not module._forward_hooks for module in model.network.modules())
        with pytest.raises(RuntimeError, match="stop"), layer.watch():
            raise RuntimeError("stop")
        assert all(not module._forward_hooks for module in model.network.modules())


def test_a_tap_on_a_layer_with_several_outputs_leads_the_first() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(24, 8, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, bands: torch.Tensor) -> torch.Tensor:
            return self.head(self.gru(bands.transpose(1, 2))[0].mean(1))  # type: ignore[no-any-return]

    hearing = Hearing(RATE, front_end=front_end(n_bands=24))
    model = NetworkModel(seeded(Recurrent), hearing, labels=("a", "b"))
    layer = model.layers()[0]
    assert layer.name == "gru"
    assert activations(model, layer, click(1.0)).shape == (8, 63)
    found = gradcam(request(model, click(1.0)))
    assert np.abs(found.weights).sum() == pytest.approx(1)


def test_gradcam_on_turned_axes_is_gradcam_on_straight_ones() -> None:
    """The same weights, once over (bands, frames) and once over (frames, bands) with turned kernels: the same map."""
    straight, turned = picture_model("(n, 1, bands, frames)"), picture_model("(n, 1, frames, bands)")
    for name in ("first", "second"):
        weight = straight.network.get_submodule(name).weight
        turned.network.get_submodule(name).weight.data = weight.transpose(2, 3).clone()
        bias = straight.network.get_submodule(name).bias
        turned.network.get_submodule(name).bias.data = bias.clone()
    samples = click(0.5) + tone(900.0, seconds=2.0)
    one, other = (gradcam(request(model, samples)) for model in (straight, turned))
    assert one.map is not None
    assert other.map is not None
    np.testing.assert_allclose(one.map, other.map, atol=1e-5 * np.abs(one.map).max())


def test_a_custom_tap_sees_what_it_is_given() -> None:
    linear = nn.Linear(3, 4)
    layer = tapped("x", linear, lambda x: x.transpose(1, 2), lambda _output, x: x.transpose(1, 2))
    seen = []
    layer.module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    with layer.watch():
        assert linear(torch.zeros(2, 5, 3)).shape == (2, 5, 4)
    assert seen == [(2, 4, 5)]


def test_a_layer_used_twice_has_no_single_place() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 9, padding=4)
            self.last = nn.Conv1d(1, 4, 64, stride=32)
            self.head = nn.Linear(4, 2)

        def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
            return self.head(self.last(self.conv(self.conv(waveforms[:, None]))).square().mean(-1))  # type: ignore[no-any-return]

    model = NetworkModel(seeded(Twice), Hearing(RATE), labels=("a", "b"))
    assert [layer.name for layer in find_layers(model)] == ["last"]
