"""What a network takes in: scale, normalisation, layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.windows import Windowed
from tests.builders import RATE, front_end, noise

SOUNDS = np.stack([noise(seconds=0.3, seed=seed, level=0.1 * (seed + 1)) + 0.05 for seed in range(3)])


def heard(**settings: Any) -> Any:
    return Hearing(RATE, **settings)(torch.from_numpy(SOUNDS)).numpy()


def test_waveforms_are_scaled_and_normalised_each_by_itself() -> None:
    np.testing.assert_array_equal(heard(), SOUNDS)
    np.testing.assert_allclose(heard(full_scale=32768.0), SOUNDS * 32768)
    np.testing.assert_allclose(heard(normalise="peak"), SOUNDS / np.abs(SOUNDS).max(axis=1, keepdims=True), atol=1e-6)
    standard = (SOUNDS - SOUNDS.mean(1, keepdims=True)) / np.sqrt(SOUNDS.var(1, keepdims=True) + 1e-7)
    np.testing.assert_allclose(heard(normalise="standard"), standard, atol=1e-5)
    assert np.isfinite(Hearing(RATE, normalise="peak")(torch.zeros(1, 99)).numpy()).all()
    assert np.isfinite(Hearing(RATE, normalise="standard")(torch.zeros(1, 99)).numpy()).all()


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ((), (3, 2400)),
        (("items", "channels", "samples"), (3, 1, 2400)),
        (("items", "samples", "channels"), (3, 2400, 1)),
        (("samples", "items"), (2400, 3)),
        (("samples",), (3, 2400)),
        (("channels", "samples"), (3, 1, 2400)),
    ],
)
def test_waveforms_are_laid_out_as_the_network_wants(layout: tuple[str, ...], shape: tuple[int, ...]) -> None:
    got = heard(layout=layout)
    assert got.shape == shape
    values = got.T if layout[:1] == ("samples",) and "items" in layout else got
    np.testing.assert_array_equal(values.reshape(3, 2400), SOUNDS)


@pytest.mark.parametrize(
    ("layout", "axes"),
    [
        ((), "nbt"),
        (("items", "frames", "bands"), "ntb"),
        (("items", "channels", "frames", "bands"), "nctb"),
        (("items", "bands", "frames", "channels"), "nbtc"),
        (("frames", "bands"), "ntb"),
    ],
)
def test_bands_are_laid_out_as_the_network_wants(layout: tuple[str, ...], axes: str) -> None:
    plain = heard(front_end=front_end())  # (n, n_bands, n_frames)
    expected = np.einsum("nbtc->" + axes, plain[..., None])
    np.testing.assert_array_equal(heard(front_end=front_end(), layout=layout), expected)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"front_end": front_end(rate=16000)}, "front end hears 16000 Hz, the model 8000 Hz"),
        ({"n_samples": 0}, r"a window must have 1 to 2400000 samples \(300 s at 8000 Hz\), got 0"),
        ({"max_samples": 2**40}, "a window must have 1 to"),
        ({"n_samples": 9, "max_samples": 9}, "leave out n_samples or max_samples"),
        ({"normalise": "loud"}, "normalise must be none, peak or standard, got 'loud'"),
        ({"full_scale": 0.0}, "full_scale must be above 0"),
        ({"layout": ("items", "bands")}, "bands and frames come from a front end; declare"),
        ({"layout": ("items", "channels")}, "layout must hold each of samples once"),
        ({"layout": ("items", "samples", "samples")}, "layout must hold"),
        ({"layout": ("items", "frames"), "front_end": front_end()}, "layout must hold each of bands, frames once"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        Hearing(RATE, **settings)


def test_a_rate_of_nonsense_is_refused() -> None:
    with pytest.raises(OtoscopeError, match="rate must lie between 1000 and 768000, got 7"):
        Hearing(7)


def test_without_an_axis_for_items_the_network_hears_one_at_a_time() -> None:
    shapes: list[tuple[int, ...]] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(x.shape))
        return torch.stack([x.mean(), x.std()])

    model = NetworkModel(
        network, Hearing(RATE, layout=("samples",)), labels=("a", "b"), output="regression", digest="x"
    )
    got = model.predict(SOUNDS)
    assert shapes == [(2400,)] * 3
    np.testing.assert_allclose(got[:, 0], SOUNDS.mean(1), atol=1e-6)


def test_nothing_non_linear_may_come_before_a_declared_spectrum() -> None:
    assert Hearing(RATE, front_end=front_end()).linear
    assert not Hearing(RATE).linear
    normalised = Hearing(RATE, front_end=front_end(), normalise="peak")
    assert not normalised.linear
    model = NetworkModel(lambda x: x.mean((1, 2)), normalised, labels=("a",), output="regression", digest="x")
    assert model.spectrogram is None
    with pytest.raises(OtoscopeError, match="no linear way"):
        normalised.stft(torch.from_numpy(SOUNDS))


def test_bands_go_the_way_of_the_sounds_they_come_from() -> None:
    hearing = Hearing(RATE, front_end=front_end(), full_scale=100.0, layout=("items", "frames", "bands"))
    assert hearing.front_end is not None
    energies = hearing.stft(torch.from_numpy(SOUNDS)).abs().square()
    through = hearing.behind_bands(hearing.front_end.bands(energies))
    np.testing.assert_allclose(through.numpy(), hearing(torch.from_numpy(SOUNDS)).numpy(), atol=1e-4)


@pytest.mark.parametrize(("n_samples", "window", "n_windows"), [(1000, 1000, 1), (4000, 4000, 1), (9000, 4000, 3)])
def test_a_longest_input_makes_windows_of_longer_spans_only(n_samples: int, window: int, n_windows: int) -> None:
    model = NetworkModel(
        lambda x: x.mean(1), Hearing(RATE, max_samples=4000), labels=("a",), output="regression", digest="x"
    )
    windowed = Windowed(model, n_samples)
    assert (windowed.window, len(windowed.starts), windowed.padding) == (window, n_windows, 0)
