"""A2E, A2Mid2E, Joint: the published sizes and shapes, a true bottleneck, maps that lie where the sound is, cards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.signal import correlate2d
from torch import nn

from otoscope.adapters.audio import Audio
from otoscope.adapters.card import read_card, write_card
from otoscope.adapters.conformance import check_model
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.loading import Loading
from otoscope.adapters.model import Float32, Floats
from otoscope.adapters.network import NetworkModel
from otoscope.explainers.explain import explain
from otoscope.mer_models.descriptors import FEATURES
from otoscope.mer_models.midlevel_layers import Design, MidlevelNet, Settings, map_sizes
from otoscope.mer_models.midlevel_nets import (
    FRONT_END,
    HEARING,
    N_SAMPLES,
    RATE,
    bottleneck,
    card_input,
    from_card,
    model,
)
from otoscope.mer_models.soundtracks import EMOTIONS
from tests import midlevel
from tests.midlevel import NARROW, SMALL

COUNTS: dict[tuple[Design, int], int] = {
    ("a2e", 3): 4_986_440,
    ("a2mid", 3): 4_986_183,
    ("a2mid2e", 3): 4_986_247,
    ("joint", 3): 4_986_247,
    ("a2e", 1): 3_937_864,
    ("a2mid", 1): 3_937_607,
    ("joint", 1): 3_937_671,
}
# The figure of the paper, frames × bands × channels behind each step.
PUBLISHED_SHAPES = {
    "conv1": (157, 75, 64),
    "conv2": (157, 75, 64),
    "pool2": (78, 37, 64),
    "conv3": (78, 37, 128),
    "conv4": (78, 37, 128),
    "pool4": (39, 18, 128),
    "conv5": (39, 18, 256),
    "conv6": (39, 18, 256),
    "conv7": (39, 18, 384),
    "conv8": (39, 18, 512),
    "conv9": (37, 16, 256),
}


def narrow(**changes: Any) -> MidlevelNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MidlevelNet(Settings(**{"channels": NARROW.channels, **changes}))
        for module in network.modules():  # as training leaves them
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.state_dict()["running_mean"], -0.2, 0.2)
                nn.init.uniform_(module.state_dict()["running_var"], 0.5, 2.0)
        for head in (network.midlevel, network.emotion):
            if head is not None:
                nn.init.uniform_(head.bias)
    return network.eval()


def noises(n: int, n_samples: int = midlevel.N_SAMPLES, *, seed: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.01, 0.3, (n, 1)) * rng.standard_normal((n, n_samples))).astype(np.float32)


@pytest.mark.parametrize(("design", "last_kernel"), COUNTS)
def test_the_papers_numbers_of_parameters(design: Design, last_kernel: Any) -> None:
    with torch.device("meta"):
        network = MidlevelNet(Settings(design=design, last_kernel=last_kernel))
    assert sum(parameter.numel() for parameter in network.parameters()) == COUNTS[design, last_kernel]


def test_ten_seconds_are_313_frames_of_149_bands() -> None:
    heard = HEARING(torch.zeros(2, N_SAMPLES))
    assert heard.shape == (2, 1, 313, 149)
    assert FRONT_END.centres[0] == pytest.approx(32.3, abs=0.05)
    assert FRONT_END.centres[-1] == pytest.approx(10853, abs=1)
    assert RATE / FRONT_END.stft.hop_length == pytest.approx(31.25, abs=0.03)


def test_the_front_end_written_plainly() -> None:
    """Frames of 2,048 under numpy's Hann window, magnitudes, area-normalised triangles between bins, log10(1 + x)."""
    samples = noises(1, 30_000, seed=3)[0].astype(np.float64)
    padded = np.pad(samples, 1024)
    bins = sorted({round(440 * 2 ** (k / 24) * 2048 / RATE) for k in range(-106, 125)})
    bins = sorted({min(b, 1024) for b in bins if b})
    assert len(bins) == 151
    expected = np.zeros((1 + 30_000 // 706, 149))
    for frame in range(len(expected)):
        spectrum = np.abs(np.fft.rfft(padded[frame * 706 : frame * 706 + 2048] * np.hanning(2048)))
        for band, (left, centre, right) in enumerate(zip(bins, bins[1:], bins[2:], strict=False)):
            rising = [(k - left) / (centre - left) for k in range(left, centre)]
            weights = np.array(rising + [(right - k) / (right - centre) for k in range(centre, right + 1)])
            expected[frame, band] = np.log10(1 + weights @ spectrum[left : right + 1] / weights.sum())
    got = HEARING(torch.from_numpy(samples).float()[None])[0, 0].numpy()
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_every_layer_has_the_published_shape() -> None:
    network, seen = MidlevelNet().eval(), dict[str, tuple[int, ...]]()
    for name, module in network.features.named_children():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, tuple(out.shape)))
    with torch.no_grad():
        said = network(torch.rand(1, 1, 313, 149))
    assert {name: shape for name, shape in seen.items() if name in PUBLISHED_SHAPES} == {
        name: (1, channels, frames, bands) for name, (frames, bands, channels) in PUBLISHED_SHAPES.items()
    }
    assert said["midlevel"].shape == (1, 7)
    assert said["emotion"].shape == (1, 8)
    for axis, size in enumerate((313, 149)):
        assert map_sizes(network.settings, size) == [PUBLISHED_SHAPES[f"conv{k}"][axis] for k in range(1, 10)]


def plainly(network: MidlevelNet, image: Floats) -> tuple[Floats, Floats]:
    """Score one spectrogram (n_frames, n_bands) by loops over maps, in float64."""
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    maps = [image]
    for k in range(1, 10):
        weight, stride = state[f"features.conv{k}.weight"], 2 if k == 1 else 1
        edge = 0 if k == 9 else weight.shape[-1] // 2
        padded = [np.pad(one, edge) for one in maps]
        out = []
        for c, kernels in enumerate(weight):
            total = sum(correlate2d(one, kernel, "valid") for one, kernel in zip(padded, kernels, strict=True))
            total = total[::stride, ::stride] + state[f"features.conv{k}.bias"][c]
            norm = {
                key: state[f"features.norm{k}.{key}"][c] for key in ("running_mean", "running_var", "weight", "bias")
            }
            total = (total - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]
            out.append(np.maximum(total, 0))
        if k in (2, 4):
            out = [
                np.array([[m[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max() for j in range(m.shape[1] // 2)]
                          for i in range(m.shape[0] // 2)])
                for m in out
            ]  # fmt: skip
        maps = out
    midlevel = state["midlevel.weight"] @ np.array([one.mean() for one in maps]) + state["midlevel.bias"]
    return midlevel, state["emotion.weight"] @ midlevel + state["emotion.bias"]


@pytest.mark.parametrize("last_kernel", [3, 1])
def test_the_network_written_plainly(last_kernel: Any) -> None:
    network = narrow(last_kernel=last_kernel)
    image = np.random.default_rng(0).uniform(0, 2, (47, 38))
    said = network(torch.from_numpy(image).float()[None, None])
    for got, expected in zip((said["midlevel"], said["emotion"]), plainly(network, image), strict=True):
        np.testing.assert_allclose(got[0].detach().numpy(), expected, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), level=st.floats(0, 3), design=st.sampled_from(["joint", "a2mid2e"]))
def test_emotions_are_an_affine_function_of_the_seven_features(seed: int, level: float, design: Design) -> None:
    emotion = model(narrow(design=design), hearing=SMALL)
    lower, weights, biases = bottleneck(emotion)
    sounds = noises(2, seed=seed) * np.float32(level)
    assert (emotion.labels, lower.labels) == (EMOTIONS, FEATURES)
    assert (weights.shape, biases.shape) == ((8, 7), (8,))
    np.testing.assert_allclose(emotion.predict(sounds), lower.predict(sounds) @ weights.T + biases, atol=1e-5)


def test_a_network_without_a_bottleneck_says_so() -> None:
    for design, answer in (("a2e", "emotion"), ("a2mid", "midlevel")):
        alone = model(narrow(design=design), answer=answer, hearing=SMALL)  # type: ignore[arg-type]
        with pytest.raises(OtoscopeError, match="no mid-level features inside"):
            bottleneck(alone)
    with pytest.raises(OtoscopeError, match="design a2e has no level 'midlevel'"):
        model(narrow(design="a2e"), answer="midlevel")


def test_the_two_levels_of_one_network_have_fingerprints_of_their_own() -> None:
    emotion = model(narrow(), hearing=SMALL)
    assert emotion.fingerprint != bottleneck(emotion)[0].fingerprint
    assert emotion.fingerprint == model(narrow(), hearing=SMALL).fingerprint


def test_weights_are_drawn_after_he() -> None:
    torch.manual_seed(0)
    network = MidlevelNet()
    for name in ("conv2", "conv5", "conv8"):
        conv = network.features.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        fan_in = conv.in_channels * 9
        assert float(conv.weight.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
        assert not conv.bias.any()  # type: ignore[union-attr]


def test_fresh_weights_are_drawn_alike_and_leave_the_model_alone() -> None:
    heard = model(narrow(), hearing=SMALL)
    before, sounds = heard.fingerprint, noises(2)
    first, again, other = heard.randomised(0), heard.randomised(0), heard.randomised(1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert heard.fingerprint == before
    assert not np.allclose(first.predict(sounds), heard.predict(sounds))
    head: nn.Linear = first.network.midlevel
    assert not head.bias.any()
    assert [layer.name for layer in first.layers()] == [layer.name for layer in heard.layers()]
    assert np.allclose(bottleneck(first)[1], first.network.emotion.weight.detach().numpy())


@pytest.mark.parametrize("wrong", [(1, 313, 149), (1, 2, 313, 149), (1, 1, 22, 149), (1, 1, 313, 22)])
def test_spectrograms_of_another_shape_are_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(OtoscopeError, match="got a spectrogram of shape"):
        narrow()(torch.zeros(wrong))
    assert narrow()(torch.zeros(1, 1, 23, 23))["emotion"].shape == (1, 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"design": "a2b"}, "design must be one of a2e"),
        ({"channels": (4, 4)}, "channels must be nine numbers"),
        ({"channels": (4,) * 8 + (10**6,)}, "channels must be nine numbers"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"last_kernel": 5}, "last_kernel is 3 or 1"),
        ({"drop": "bands"}, "drop cells or channels"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OtoscopeError, match=message):
        Settings(**wrong)


def test_dropout_leaves_out_cells_or_whole_channels() -> None:
    def share_left_out(drop: Any) -> tuple[float, float]:
        layer = narrow(dropout=0.5, drop=drop).features.get_submodule("drop2").train()
        torch.manual_seed(0)
        gone = layer(torch.ones(8, 64, 6, 6)) == 0
        return float(gone.float().mean()), float(gone.flatten(2).float().mean(2).std())

    cells, channels = share_left_out("cells"), share_left_out("channels")
    assert cells[0] == pytest.approx(0.5, abs=0.1) == channels[0]
    assert cells[1] < 0.15 < 0.45 < channels[1]  # all of a channel or nothing


def lit(network: MidlevelNet, heard: NetworkModel, frame: int, band: int) -> dict[str, tuple[float, float]]:
    """Light one cell of the spectrogram; around which frame and band, in fractions, each layer answers."""
    x = torch.zeros(1, 1, 313, 149)
    x[0, 0, frame, band] = 1
    found = {}
    for layer in heard.layers():
        caught: list[torch.Tensor] = []
        handle = layer.module.register_forward_hook(lambda _m, _i, out, caught=caught: caught.append(out))
        with layer.watch(), torch.no_grad():
            network(x)
        handle.remove()
        mass = caught[0][0].sum(dim=0).double().numpy()  # (n_rows, n_frames)
        assert layer.frames is not None
        assert layer.band_edges is not None
        assert len(layer.band_edges) == mass.shape[0] + 1
        start, step = layer.frames
        seconds = start + step * (np.arange(mass.shape[1]) + 0.5)
        bands = np.interp(layer.band_edges, FRONT_END.edges, np.arange(150) - 0.5)
        rows = (bands[1:] + bands[:-1]) / 2
        found[layer.name] = (mass.sum(axis=0) @ seconds * RATE / 706 / mass.sum(), mass.sum(axis=1) @ rows / mass.sum())
    return found


def test_layers_answer_where_the_spectrogram_is_lit() -> None:
    """With equal positive weights a layer's answer is centred on the cell that is lit, on average over the stride."""
    network = MidlevelNet(Settings(channels=(1,) * 9)).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / 9)
    heard = model(network)
    cells = [(100 + k, 70 + k) for k in range(8)]
    found = [lit(network, heard, *cell) for cell in cells]
    assert list(found[0]) == [f"relu{k}" for k in range(9, 0, -1)]
    for name in found[0]:
        away = np.array([one[name] for one in found]) - np.array(cells)  # (n_cells, 2), in frames and bands
        assert np.abs(away).max() <= 4.5
        assert np.abs(away.mean(axis=0)).max() < 0.6


def test_grad_cam_lies_where_the_sound_is() -> None:
    network = MidlevelNet(Settings(channels=(2,) * 9)).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.constant_(module.weight, 0.05)
    time = np.arange(N_SAMPLES) / RATE
    burst = (0.3 * np.sin(2 * np.pi * 2000 * time) * (abs(time - 6) < 0.5)).astype(np.float32)
    found = explain(model(network), Audio(burst, RATE), method="gradcam", target="energy")
    mass = np.maximum(found.map, 0)
    assert mass.sum(axis=0) @ found.times / mass.sum() == pytest.approx(6, abs=0.3)
    centre = np.exp2(mass.sum(axis=1) @ np.log2(found.frequencies) / mass.sum())
    assert abs(np.log2(centre / 2000)) < 0.6


def test_scores_can_be_had_from_band_magnitudes() -> None:
    heard, sounds = model(narrow(), hearing=SMALL), noises(3)
    offered = heard.spectrogram
    assert offered is not None
    bands = offered.bands(offered.stft(torch.from_numpy(sounds)).abs())
    np.testing.assert_allclose(offered.predict_bands(bands), heard.predict(sounds), atol=1e-4)


def test_both_levels_keep_the_contract() -> None:
    emotion = model(narrow(), hearing=SMALL)
    check_model(emotion)
    check_model(bottleneck(emotion)[0])


def write(folder: Path, *, network: MidlevelNet | None = None, heard: Any = None, **about: Any) -> Path:
    network = network or narrow(dropout=0.0)
    save_file(network.state_dict(), folder / "net.safetensors")
    given = {
        "name": "tiny",
        "kind": "midlevel",
        "path": "net.safetensors",
        "labels": list(EMOTIONS),
        "output": "regression",
        "answer": "emotion",
        "settings": {"channels": list(NARROW.channels), "dropout": 0.0},
    }
    told = {key: value for key, value in (given | about).items() if value is not None}
    write_card(folder / "card.toml", {"model": told, "input": card_input(SMALL) | (heard or {})})
    return folder / "card.toml"


def test_cards_load_either_level(tmp_path: Path) -> None:
    network, sounds = narrow(dropout=0.0), noises(2)
    loaded = from_card(read_card(write(tmp_path, network=network)), Loading())
    assert loaded.fingerprint == model(network, hearing=SMALL).fingerprint
    np.testing.assert_array_equal(loaded.predict(sounds), model(network, hearing=SMALL).predict(sounds))
    lower = from_card(read_card(write(tmp_path, network=network, labels=list(FEATURES), answer="midlevel")), Loading())
    np.testing.assert_array_equal(lower.predict(sounds), bottleneck(loaded)[0].predict(sounds))


WRONG_CARDS: list[tuple[dict[str, Any], str]] = [
    ({"answer": None}, "answer must be midlevel or emotion, got None"),
    ({"answer": "feeling"}, "answer must be midlevel or emotion, got 'feeling'"),
    ({"labels": list(FEATURES)}, "labels must be valence, energy"),
    ({"labels": list(reversed(EMOTIONS))}, "labels must be valence, energy"),
    ({"output": "sigmoid"}, 'output must be "regression"'),
    ({"pool": "mean"}, "pool means nothing to kind midlevel"),
    ({"settings": {}}, "does not fit the network"),
    ({"settings": {"channels": list(NARROW.channels), "design": "a2e"}}, "does not fit the network"),
    ({"settings": {"width": 3}}, "unknown key 'width'"),
    ({"heard": {"layout": ["items", "channels", "bands", "frames"]}}, "needs n_samples, a front end, and layout"),
    ({"heard": {"n_samples": 1280}}, "makes 11 × 62 cells, too few"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG_CARDS)
def test_cards_that_do_not_fit_are_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OtoscopeError, match=message):
        from_card(read_card(write(tmp_path, **wrong)), Loading())
