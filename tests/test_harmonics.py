"""The harmonics CNN: what its filters see, what its front end hears, what its loader refuses."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters import pitch
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32
from otoscope.adapters.registry import load_model
from otoscope.mer_models import shipped
from otoscope.mer_models.blinders import PitchFilters, Settings, blinders
from otoscope.mer_models.harmonics import (
    FRONT_END,
    N_SAMPLES,
    RATE,
    SECOND,
    HarmonicsNet,
    StatisticsPool,
    layers,
    model,
)

A, D_SHARP = pitch.PITCH_CLASSES.index("A"), pitch.PITCH_CLASSES.index("D#")


def sine(frequency: float, *, seconds: float = 6.0, level: float = 0.5) -> Float32:
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def bands_of(samples: Float32) -> Float32:
    return FRONT_END(torch.from_numpy(samples)[None])[0].numpy()


@pytest.fixture
def network() -> HarmonicsNet:
    torch.manual_seed(0)
    return HarmonicsNet().eval()


def test_the_papers_number_of_parameters(network: HarmonicsNet) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == 100_996


def test_front_end_is_librosas() -> None:
    rng = np.random.default_rng(0)
    samples = (0.3 * rng.standard_normal(N_SAMPLES) * np.linspace(0, 1, N_SAMPLES)).astype(np.float32)
    mel = librosa.feature.melspectrogram(
        y=samples.astype(np.float64), sr=RATE, n_fft=4096, hop_length=512, n_mels=256, pad_mode="constant"
    )
    expected = np.maximum(librosa.power_to_db(mel, ref=FRONT_END.reference, amin=1e-12, top_db=None), FRONT_END.floor)
    got = bands_of(samples)
    assert got.shape == (256, 259)
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_a_sine_at_full_scale_is_about_zero_decibels() -> None:
    for frequency in (220.0, 440.0, 880.0):
        assert abs(bands_of(sine(frequency, level=1.0))[:, 100].max()) < 1.5


def test_removing_one_part_leaves_the_other_cells_alone() -> None:
    low, high = sine(220.0, seconds=3), 0.01 * sine(3520.0, seconds=3)
    both = bands_of(np.concatenate([low, high]))
    without = bands_of(np.concatenate([np.zeros_like(low), high]))
    frames = slice(140, 250)  # all windows lie within the second half
    np.testing.assert_allclose(both[:, frames], without[:, frames], atol=1e-3)


def test_a4_reaches_the_filters_of_a_and_not_of_d_sharp() -> None:
    mask = blinders(FRONT_END)
    heard = int(bands_of(sine(440.0))[:, 100].argmax())
    assert mask[A, heard]
    assert not mask[D_SHARP, heard]


def test_activations_of_a_pitch_class_ignore_bands_it_may_not_see(network: HarmonicsNet) -> None:
    bands = torch.from_numpy(np.random.default_rng(0).uniform(-80, 0, (1, 256, 80)).astype(np.float32))
    filters = network.filters((bands - network.mean) / network.spread)[0].view(12, 32, 80)
    for pitch_class in range(12):
        changed = bands.clone()
        changed[:, ~network.filters.mask[pitch_class]] = 0.0
        other = network.filters((changed - network.mean) / network.spread)[0].view(12, 32, 80)
        torch.testing.assert_close(other[pitch_class], filters[pitch_class])
        assert not torch.allclose(other[(pitch_class + 6) % 12], filters[(pitch_class + 6) % 12])


def test_network_follows_the_paper_step_by_step(network: HarmonicsNet) -> None:
    with torch.no_grad():
        mean, variance = network.norm.state_dict()["running_mean"], network.norm.state_dict()["running_var"]
        mean.normal_()
        variance.uniform_(0.5, 2)
    x = torch.from_numpy(np.random.default_rng(0).uniform(-80, 0, (2, 256, 200)).astype(np.float32))
    scaled = ((x - network.mean) / network.spread).double().numpy()
    weight = (network.filters.weight * network.filters.mask[:, None]).detach().double().numpy()
    y = np.einsum("pck,nkt->npct", weight, scaled) + network.filters.bias.detach().numpy()[None, :, :, None]
    y = y.reshape(2, 384, 200)
    y = np.maximum(0, (y - mean.numpy()[:, None]) / np.sqrt(variance.numpy()[:, None] + network.norm.eps))
    pool = network.settings.pool
    averages = [y[..., k * pool : (k + 1) * pool].mean(-1) for k in range(200 // pool)]
    logits = np.max(averages, axis=0) @ network.linear.weight.detach().numpy().T + network.linear.bias.detach().numpy()
    np.testing.assert_allclose(network(x).detach().numpy(), logits, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(n_frames=st.integers(min_value=Settings().pool, max_value=400), n=st.integers(1, 3))
def test_any_number_of_frames_from_one_pool_on(n_frames: int, n: int) -> None:
    assert HarmonicsNet().eval()(torch.zeros(n, 256, n_frames)).shape == (n, 4)


def test_the_cam_layer_gives_activations_by_pitch_class(network: HarmonicsNet) -> None:
    (layer,) = layers(model(network))
    caught = []
    handle = layer.module.register_forward_hook(lambda _m, _i, output: caught.append(output))
    try:
        model(network).predict(sine(440.0)[None])
    finally:
        handle.remove()
    assert caught[0].shape == (1, 12 * 32, 259)
    assert (caught[0] >= 0).all()
    assert layer.groups is not None
    assert layer.band_edges is not None
    assert layer.groups.shape == (12, 256)
    assert layer.band_edges.shape == (257,)
    assert layer.group_names == pitch.PITCH_CLASSES


def test_randomised_draws_fresh_filters_and_keeps_the_blinders(network: HarmonicsNet) -> None:
    fresh, again = (model(network).randomised(1).network.get_submodule("filters") for _ in range(2))
    assert isinstance(fresh, PitchFilters)
    assert isinstance(again, PitchFilters)
    assert not torch.equal(fresh.weight, network.filters.weight)
    assert torch.equal(fresh.weight != 0, network.filters.mask[:, None].expand_as(fresh.weight))
    assert torch.equal(fresh.weight, again.weight)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    for suffix in ("toml", "safetensors"):
        (tmp_path / f"m.{suffix}").write_bytes((shipped.HERE / f"harmonics-1.{suffix}").read_bytes())
    path = tmp_path / "m.toml"
    path.write_text(path.read_text().replace("harmonics-1.safetensors", "m.safetensors"))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_fft = 4096", "", "lacks 'n_fft'"),
        ("n_fft = 4096", "n_fft = 100", "hop_length"),
        ("n_fft = 4096", "n_fft = 400000000", "n_fft must be at most"),
        ("n_bands = 256", "n_bands = 128", "does not fit"),
        ("n_bands = 256", 'n_bands = "many"', "n_bands must be a whole number, got 'many'"),
        ("n_bands = 256", "n_mels = 256", "unknown key 'n_mels'"),
        ("rate = 22050", "rate = 16000", "other blinders"),
        ("n_samples = 132300", "n_samples = 1000", "shorter than one pool"),
        ("n_harmonics = 8", "n_harmonics = 5", "other blinders"),
        ("n_harmonics = 8", "harmonics = 8", "unknown key 'harmonics': did you mean 'n_harmonics'"),
        ("n_channels = 32", "n_channels = 8", "does not fit"),
        ('"anxiety"', '"fear"', "labels must be"),
        ("m.safetensors", "n.safetensors", "missing"),
    ],
)
def test_a_card_that_does_not_fit_is_named_with_its_fault(card: Path, old: str, new: str, message: str) -> None:
    text = card.read_text()
    assert old in text
    card.write_text(text.replace(old, new))
    with pytest.raises(OtoscopeError, match=message) as caught:
        load_model(str(card))
    assert str(card.parent) in str(caught.value)


def test_damaged_weights_are_named(card: Path) -> None:
    card.with_suffix(".safetensors").write_bytes(b"no weights")
    with pytest.raises(OtoscopeError, match=r"m\.safetensors: does not fit"):
        load_model(str(card))


def test_weights_that_are_not_finite_are_refused(card: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = card.with_suffix(".safetensors")
    state = load_file(path)
    state["linear.bias"][0] = float("nan")
    save_file(state, path)
    with pytest.raises(OtoscopeError, match="not finite"):
        load_model(str(card))


def test_the_second_form_has_about_as_many_parameters_and_the_same_layer() -> None:
    network = HarmonicsNet(SECOND)
    assert sum(parameter.numel() for parameter in network.parameters()) == 86_468
    layer = model(network).layers()[0]
    assert (layer.name, layer.groups.shape) == ("relu", (12, 256))  # type: ignore[union-attr]


def test_compact_filters_are_the_full_ones_without_what_is_never_seen() -> None:
    full, compact = HarmonicsNet(Settings(n_channels=3)), HarmonicsNet(Settings(n_channels=3, compact=True))
    bands, seen = full.filters.bands, full.filters.seen
    with torch.no_grad():
        for bank in range(12):
            compact.filters.weight[bank] = full.filters.weight[bank][:, bands[bank]] * seen[bank]
        compact.filters.bias.copy_(full.filters.bias)
    x = torch.randn(2, 256, 40)
    torch.testing.assert_close(full.filters(x), compact.filters(x))
    assert torch.equal(full.filters.mask, compact.filters.mask)


def test_statistics_of_a_channel_are_its_mean_spread_and_peak_whatever_the_stride() -> None:
    x = torch.randn(2, 5, 64)
    got = StatisticsPool(8, 0.0)(x)
    torch.testing.assert_close(got[:, :5], x.mean(dim=-1))
    torch.testing.assert_close(got[:, 5:10], x.std(dim=-1, correction=0), atol=1e-4, rtol=1e-4)
    peaks = torch.stack([x[..., phase::8].amax(dim=-1) for phase in range(8)])
    torch.testing.assert_close(got[:, 10:], peaks.mean(dim=0))
    held = torch.randn(2, 5, 8).repeat_interleave(8, dim=-1)  # each frame eight times over
    torch.testing.assert_close(StatisticsPool(8, 0.0)(held), StatisticsPool(1, 0.0)(held[..., ::8]))
