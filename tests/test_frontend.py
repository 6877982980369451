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


def heard(settings: dict[str, Any], bands: Any) -> Any:
    """Compress made-up band energies (n_bands, n_frames)."""
    hears = FrontEnd(8000, Stft(512, 256), n_bands=len(bands), **settings)
    return hears.compress(torch.from_numpy(bands)[None])[0].numpy()


BANDS = np.random.default_rng(3).uniform(0, 1, (6, 9)) ** 6
MEANS, SPREADS = tuple(range(1, 7)), tuple(x / 2 for x in range(1, 7))


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({"compression": "ln", "floor": 1e-3}, lambda x: np.log(x + 1e-3)),
        ({"compression": "ln", "floor": 1e-3, "clamp": True}, lambda x: np.log(np.maximum(x, 1e-3))),
        ({"compression": "log", "floor": 1e-3, "clamp": True}, lambda x: np.log10(np.maximum(x, 1e-3))),
        ({"compression": "ln1p", "reference": 50.0}, lambda x: np.log(1 + 50 * x)),
        ({"compression": "none", "top": 0.5}, lambda x: np.maximum(x, x.max() - 0.5)),
        ({"compression": "none", "mean": 0.2, "std": 3.0}, lambda x: (x - 0.2) / 3),
        (
            {"compression": "none", "mean": MEANS, "std": SPREADS},
            lambda x: (x - np.array(MEANS)[:, None]) / np.array(SPREADS)[:, None],
        ),
        ({"compression": "none", "normalise": "clip"}, lambda x: (x - x.mean()) / (x.std() + 1e-7)),
        (
            {"compression": "none", "normalise": "bands"},
            lambda x: (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-7),
        ),
        ({"compression": "none", "n_frames": 5}, lambda x: x[:, :5]),
        (
            {"compression": "none", "n_frames": 12, "fill": -1.0},
            lambda x: np.pad(x, ((0, 0), (0, 3)), constant_values=-1),
        ),
        # Whisper's way: log10, 8 below the loudest, to about ±1
        (
            {"compression": "log", "floor": 1e-10, "clamp": True, "top": 2.0, "mean": -4.0, "std": 4.0},
            lambda x: (np.maximum(np.log10(np.maximum(x, 1e-10)), np.log10(x.max()) - 2) + 4) / 4,
        ),
        # AST's way: what is filled up comes before the fixed mean and spread
        (
            {"compression": "ln", "floor": 1e-7, "clamp": True, "n_frames": 11, "mean": -4.0, "std": 9.0},
            lambda x: (np.pad(np.log(np.maximum(x, 1e-7)), ((0, 0), (0, 2))) + 4) / 9,
        ),
    ],
)
def test_normalisations_by_formula(settings: dict[str, Any], formula: Any) -> None:
    np.testing.assert_allclose(heard(settings, BANDS), formula(BANDS), atol=1e-9)


def test_items_are_normalised_each_by_its_own() -> None:
    hears = FrontEnd(8000, Stft(512, 256), n_bands=6, compression="none", top=0.1, normalise="clip")
    two = torch.from_numpy(np.stack([BANDS, 5 * BANDS[::-1].copy()]))
    together = hears.compress(two)
    torch.testing.assert_close(together, torch.cat([hears.compress(item[None]) for item in two]))


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
        ({"compression": "dB"}, "compression must be decibels, log, ln, log1p, ln1p or none, got 'dB'"),
        ({"compression": "log"}, "floor"),
        ({"compression": "ln", "floor": 0.0}, "ln.*floor above 0"),
        ({"std": 0.0}, "std must not be 0"),
        ({"n_bands": 40, "mean": (1.0, 2.0)}, "mean has 2 numbers for 40 bands"),
        ({"normalise": "clips"}, "normalise must be none, clip or bands"),
        ({"n_bands": 10**9}, "n_bands must lie between 1 and 4096"),
        ({"n_frames": 0}, "n_frames must lie between"),
        ({"stft": Stft(2**20, 512)}, "n_fft must be at most"),
        ({"fmin": 500.0, "fmax": 400.0}, "need 0 ≤ fmin < fmax"),
        ({"filterbank": "mle"}, "filterbank must be mel, log or none, got 'mle'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        FrontEnd(8000, **settings)
