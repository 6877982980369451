"""Filterbanks: librosa's, Kaldi's, madmom's."""

from typing import Any

import librosa
import numpy as np
import pytest

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.filterbanks import log_filterbank, mel_filterbank, triangles
from otoscope.adapters.spectra import Stft
from tests import reference

MELS: list[dict[str, Any]] = [
    {"n_mels": 128},
    {"n_mels": 256},
    {"n_mels": 96, "fmin": 30.0},
    {"n_mels": 40, "fmin": 100.0, "fmax": 6000.0},
    {"n_mels": 64, "htk": True},
    {"n_mels": 64, "htk": True, "norm": None},
    {"n_mels": 64, "norm": None},
]


@pytest.mark.parametrize("mel", MELS)
@pytest.mark.parametrize(("rate", "n_fft"), [(22050, 2048), (16000, 512), (22050, 4096)])
@pytest.mark.filterwarnings("ignore:Empty filters detected")  # 256 bands do not fit in 512 samples: equal all the same
def test_mel_filters_are_librosas(mel: dict[str, Any], rate: int, n_fft: int) -> None:
    ours = {key: value for key, value in mel.items() if key != "htk"}
    got, centres = mel_filterbank(rate, n_fft, scale="htk" if mel.get("htk") else "slaney", **ours)
    np.testing.assert_allclose(got, librosa.filters.mel(sr=rate, n_fft=n_fft, **mel), atol=1e-5 * got.max())
    assert len(centres) == len(got)
    assert (np.diff(centres) > 0).all()


def test_kaldis_triangles_are_straight_in_mel() -> None:
    """After Kaldi's mel-computations.cc: 1127 ln(1 + f/700), triangles drawn on that scale."""
    got, centres = mel_filterbank(16000, 512, n_mels=23, fmin=20.0, scale="kaldi", norm=None)

    def mel(f: Any) -> Any:
        return 1127 * np.log(1 + np.asarray(f) / 700)

    corners = np.linspace(mel(20.0), mel(8000.0), 25)
    np.testing.assert_allclose(mel(centres), corners[1:-1])
    for b in range(23):
        for k in range(257):
            m = mel(k * 16000 / 512)
            rising = (m - corners[b]) / (corners[b + 1] - corners[b])
            falling = (corners[b + 2] - m) / (corners[b + 2] - corners[b + 1])
            assert got[b, k] == pytest.approx(max(0, min(rising, falling)), abs=1e-6)
    area, _ = mel_filterbank(16000, 512, n_mels=23, fmin=20.0, scale="kaldi")
    assert (area.max(axis=1) < got.max(axis=1)).all()


def test_mel_filters_are_slaneys() -> None:
    corners = reference.mel_corners(40, 50.0, 7000.0)
    got, centres = mel_filterbank(16000, 1024, n_mels=40, fmin=50.0, fmax=7000.0)
    np.testing.assert_allclose(centres, corners[1:-1])
    np.testing.assert_allclose(got, reference.filters(corners, 16000, 1024, area=True), atol=1e-7)


@pytest.mark.parametrize("norm", ["slaney", None])
def test_triangles_stand_between_their_corners(norm: Any) -> None:
    corners = np.array([100.0, 300.0, 350.0, 1000.0, 3900.0])
    got = triangles(corners, Stft(256, 256).frequencies(8000), norm=norm)
    np.testing.assert_allclose(got, reference.filters(corners, 8000, 256, area=norm == "slaney"), atol=1e-6)


def test_the_published_log_filterbank_has_149_bands() -> None:
    filterbank, centres = log_filterbank(22050, 2048, bands_per_octave=24, fmin=20, fmax=16000)
    assert filterbank.shape == (149, 1025)
    assert centres[0] == pytest.approx(32.3, abs=0.05)
    assert centres[-1] == pytest.approx(10853, abs=1)
    np.testing.assert_allclose(filterbank.sum(axis=1), 1, atol=1e-6)


def test_log_filters_are_area_normalised_triangles_on_bins() -> None:
    filterbank, centres = log_filterbank(16000, 1024, bands_per_octave=12, fmin=100, fmax=7000)
    grid = [440 * 2 ** (i / 12) for i in range(-60, 60) if 100 <= 440 * 2 ** (i / 12) <= 7000]
    bins = sorted({round(f * 1024 / 16000) for f in grid})
    plain = reference.filters([b * 16000 / 1024 for b in bins], 16000, 1024, area=False)
    np.testing.assert_allclose(filterbank, plain / plain.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(centres, [b * 16000 / 1024 for b in bins[1:-1]])


def test_a_log_filterbank_without_room_is_refused() -> None:
    with pytest.raises(OtoscopeError, match="no log-frequency band fits"):
        log_filterbank(16000, 512, fmin=1000.0, fmax=1020.0)
