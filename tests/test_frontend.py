"""The declared front end: what librosa computes, in torch."""

from typing import Any

import librosa
import numpy as np
import pytest
import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.spectra import Stft
from tests import reference
from tests.builders import music


@pytest.mark.parametrize("exponent", [1, 2])
@pytest.mark.parametrize(
    ("rate", "n_fft", "hop", "n_bands"), [(22050, 2048, 512, 128), (16000, 512, 256, 40), (8000, 1024, 200, 64)]
)
def test_mel_decibels_are_librosas(rate: int, n_fft: int, hop: int, n_bands: int, exponent: int) -> None:
    samples = music(rate=rate, seconds=1.0)
    hears = FrontEnd(
        rate, Stft(n_fft, hop), n_bands=n_bands, fmin=40.0, fmax=0.45 * rate, exponent=exponent, reference=100.0
    )
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=rate,
        n_fft=n_fft,
        hop_length=hop,
        n_mels=n_bands,
        fmin=40.0,
        fmax=0.45 * rate,
        power=float(exponent),
        pad_mode="constant",
    )
    expected = np.maximum(librosa.power_to_db(mel, ref=100.0, amin=1e-12, top_db=None), -80)
    got = hears(torch.from_numpy(samples)[None])[0].numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize(
    ("compression", "settings", "formula"),
    [
        ("log1p", {"reference": 10_000.0}, lambda bands: np.log10(1 + 10_000 * bands)),
        ("log", {"floor": 1e-5}, lambda bands: np.log10(bands + 1e-5)),
        ("none", {}, lambda bands: bands),
        (
            "decibels",
            {"reference": 2.0, "floor": -60.0},
            lambda bands: 10 * np.log10(np.maximum(bands / 2, 1e-6)),
        ),
    ],
)
@pytest.mark.parametrize("filterbank", ["mel", "log", "none"])
def test_compressions_by_formula(compression: Any, settings: dict[str, Any], formula: Any, filterbank: Any) -> None:
    samples = music(seconds=0.5)
    hears = FrontEnd(8000, Stft(512, 256), filterbank, n_bands=20, compression=compression, **settings)
    bands = reference.band_energies(samples, hears.weights, n_fft=512, hop=256)
    got = hears(torch.from_numpy(samples).double()[None])[0].numpy()
    assert got.shape == (len(hears.centres), 1 + len(samples) // 256)
    np.testing.assert_allclose(got, formula(bands), atol=1e-5 * np.abs(formula(bands)).max())


def test_bands_are_linear_and_silence_is_finite() -> None:
    hears = FrontEnd(8000, Stft(512, 256), n_bands=20)
    a, b = torch.rand(1, 257, 5), torch.rand(1, 257, 5)
    torch.testing.assert_close(hears.bands(a + 3 * b), hears.bands(a) + 3 * hears.bands(b))
    for exponent in (1, 2):
        silence = torch.zeros(1, 4000, requires_grad=True)
        heard = FrontEnd(8000, Stft(512, 256), n_bands=20, exponent=exponent)(silence)
        heard.sum().backward()
        assert heard.isfinite().all()
        assert silence.grad is not None
        assert silence.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"exponent": 3}, "exponent must be 1 or 2, got 3"),
        ({"compression": "dB"}, "compression must be decibels, log, log1p or none, got 'dB'"),
        ({"compression": "log"}, "floor"),
        ({"filterbank": "mle"}, "filterbank must be mel, log or none, got 'mle'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        FrontEnd(8000, **settings)
