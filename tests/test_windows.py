"""Spans and windows: means over evenly spaced windows, stated padding, and help for models that fear silence."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.windows import DITHER, Windowed
from otoscope.adapters.wrap import wrap
from tests.builders import RATE, Function, TinyNet, front_end, loudness, music, noise, torch_model


def first_and_last(waveforms: Any) -> Any:
    return np.stack([waveforms[:, 0], waveforms[:, -1]], axis=1)


def position_model(n_samples: int | None) -> Function:
    return Function(first_and_last, labels=("first", "last"), output="regression", n_samples=n_samples)


@given(window=st.integers(1, 400), n_samples=st.integers(1, 3000))
def test_windows_are_evenly_spaced_and_the_last_ends_with_the_span(window: int, n_samples: int) -> None:
    model = Windowed(position_model(window), n_samples)
    total = max(n_samples, window)
    assert model.padding == total - n_samples
    assert model.starts[0] == 0
    assert model.starts[-1] == total - window
    assert len(model.starts) == int(np.ceil(total / window))
    gaps = np.diff(model.starts)
    assert len(gaps) == 0 or (gaps.max() <= window and gaps.max() - gaps.min() <= 1)
    ramp = np.arange(n_samples, dtype=np.float32)
    padded = np.pad(ramp, (0, model.padding))
    scores = model.predict(ramp[None])[0]
    assert scores[0] == pytest.approx(np.mean([padded[s] for s in model.starts]))
    assert scores[1] == pytest.approx(np.mean([padded[s + window - 1] for s in model.starts]))


def test_a_model_of_any_length_hears_the_whole_span() -> None:
    heard = []

    def listen(waveforms: Any) -> Any:
        heard.append(waveforms.shape)
        return loudness(waveforms)

    model = Windowed(Function(listen), 12_345)
    model.predict(np.zeros((2, 12_345), dtype=np.float32))
    assert heard == [(1, 12_345), (2, 12_345)]
    assert model.notes() == ()


def test_padding_lies_at_the_end_and_is_stated() -> None:
    model = Windowed(position_model(3 * RATE), 2 * RATE)
    np.testing.assert_array_equal(model.predict(np.ones((1, 2 * RATE), dtype=np.float32)), [[1, 0]])
    assert model.notes() == ("padded with 1.00 s of silence to the model's window",)


def test_torch_and_numpy_are_cut_alike() -> None:
    spans = np.stack([noise(seconds=1.3, seed=seed) for seed in range(2)])
    for window in (3000, 20_000):
        model = Windowed(position_model(window), spans.shape[1])
        np.testing.assert_array_equal(model.slices(spans), model.slices(torch.from_numpy(spans)).numpy())


def test_spans_of_another_length_are_refused() -> None:
    with pytest.raises(OtoscopeError, match=r"waveforms of shape \(1, 7\), need \(n, 8\)"):
        Windowed(position_model(None), 8).predict(np.zeros((1, 7), dtype=np.float32))


def test_logits_and_scores_of_a_span_are_means_over_its_windows() -> None:
    network = TinyNet()
    model = Windowed(torch_model(network, n_samples=4000), 10_000)
    spans = np.stack([music(seconds=1.25, seed=seed) for seed in range(2)])
    single = torch_model(network, n_samples=4000)
    cuts = [spans[:, s : s + 4000] for s in (0, 3000, 6000)]
    np.testing.assert_allclose(model.predict(spans), np.mean([single.predict(c) for c in cuts], axis=0), atol=1e-6)
    assert model.gradients is not None
    logits = torch.stack([single.logits(torch.from_numpy(c)) for c in cuts]).mean(0)
    torch.testing.assert_close(model.gradients.logits(torch.from_numpy(spans)), logits)


@pytest.mark.parametrize("n_samples", [3000, 4000, 10_000])
def test_bands_of_a_span_are_scored_like_its_sound(n_samples: int) -> None:
    model = Windowed(torch_model(n_samples=4000), n_samples)
    assert model.spectrogram is not None
    spans = np.stack([noise(seconds=n_samples / RATE, seed=seed) for seed in range(2)])
    spectra = model.spectrogram.stft(torch.from_numpy(spans))
    assert spectra.shape == (2, 257, len(model.starts) * (4000 // 256 + 1))
    scores = model.spectrogram.predict_bands(model.spectrogram.bands(spectra.abs().square()))
    np.testing.assert_allclose(scores, model.predict(spans), atol=1e-5)


def fears_silence(waveforms: Any) -> Any:
    power = np.square(waveforms, dtype=np.float64).mean(axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        return 0.5 + 0.1 * np.tanh(np.log10(power) / 10) + 0 * power / power


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_that_fears_silence_gets_faint_noise_and_it_is_said(wrapped: bool) -> None:
    plain = Function(fears_silence)
    model = Windowed(wrap(fears_silence, rate=RATE, labels=["yes"], output="sigmoid") if wrapped else plain, RATE)
    assert model.dither is not None
    assert 20 * np.log10(np.std(model.dither)) == pytest.approx(-90, abs=0.5)
    np.testing.assert_array_equal(model.dither, Windowed(plain, RATE).dither)
    assert np.isfinite(model.predict(np.zeros((2, RATE), dtype=np.float32))).all()
    assert model.notes() == ("the model is not finite on digital silence; noise at -90 dBFS lies under every input",)
    assert pytest.approx(10**-4.5) == DITHER


def test_a_network_that_fears_silence_loses_the_bands_route() -> None:
    class Normalised(torch.nn.Module):
        def forward(self, bands: torch.Tensor) -> torch.Tensor:
            return (bands / bands.amax((1, 2), keepdim=True)).mean(-1)[:, :2]

    network = torch_model(Normalised(), labels=("a", "b"))
    model = Windowed(network, RATE)
    assert model.dither is not None
    assert model.spectrogram is None
    assert model.gradients is not None
    silence = torch.zeros(1, RATE)
    assert model.gradients.logits(silence).isfinite().all()
    assert Windowed(torch_model(), RATE).dither is None


def test_a_model_that_is_not_finite_elsewhere_is_an_error() -> None:
    def broken(waveforms: Any) -> Any:
        return np.where(np.abs(waveforms).max(axis=1, keepdims=True) > 0.01, np.nan, 0.5)

    for model in (Function(broken), wrap(broken, rate=RATE, labels=["yes"], output="sigmoid")):
        windowed = Windowed(model, RATE)
        with pytest.raises(OtoscopeError, match="1 scores that are NaN or infinite"):
            windowed.predict(noise()[None])


def test_what_is_no_number_on_silence_is_found_out_later() -> None:
    windowed = Windowed(Function(lambda _: "loud"), RATE)
    with pytest.raises(OtoscopeError, match=r"no numbers \(str\)"):
        windowed.predict(noise()[None])


def test_stereo_never_gets_this_far() -> None:
    with pytest.raises(OtoscopeError, match=r"got shape \(8000, 2\), need mono"):
        Audio(np.zeros((8000, 2), dtype=np.float32), RATE)


def test_the_fingerprint_is_the_models() -> None:
    model = torch_model()
    assert Windowed(model, RATE).fingerprint == model.fingerprint
    assert Windowed(model, RATE).spectrogram.front_end == front_end()  # type: ignore[union-attr]
