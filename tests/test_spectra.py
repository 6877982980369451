"""Spectra: there and back, filterbanks, decibels, and sound from bands."""

from typing import Any, Literal, get_args

import librosa
import numpy as np
import numpy.typing as npt
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.filterbanks import log_filterbank, mel_filterbank, triangles
from otoscope.adapters.spectra import Stft, decibels, to_sound, unfilter
from tests import reference
from tests.builders import music, noise, tone

SETTINGS = [Stft(), Stft(512, 128), Stft(512, 256), Stft(512, 100, 400), Stft(400, 160), Stft(256, 64, 200)]


def random_sound(n_samples: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, n_samples).astype(np.float32)


@pytest.mark.parametrize("stft", SETTINGS)
@pytest.mark.parametrize("n_samples", [1, 77, 3001, 4096])
def test_a_sound_comes_back(stft: Stft, n_samples: int) -> None:
    sound = torch.from_numpy(random_sound(n_samples))
    spectrum = stft.forward(sound)
    assert spectrum.shape == (stft.n_bins, stft.n_frames(n_samples))
    torch.testing.assert_close(stft.inverse(spectrum, n_samples), sound, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=40)
@given(
    n_fft=st.integers(16, 600),
    parts=st.integers(2, 6),
    n_samples=st.integers(1, 2500),
    narrow=st.floats(0.6, 1),
    seed=st.integers(0, 99),
)
def test_stft_and_its_inverse_are_the_papers(n_fft: int, parts: int, n_samples: int, narrow: float, seed: int) -> None:
    n_fft -= n_fft % 2
    win_length = max(2, int(narrow * n_fft))
    stft = Stft(n_fft, max(1, win_length // parts), win_length)
    sound = random_sound(n_samples, seed)
    got = stft.forward(torch.from_numpy(sound).double()).numpy()
    expected = reference.stft(sound, n_fft=n_fft, hop=stft.hop_length, win_length=win_length)
    np.testing.assert_allclose(got, expected, atol=1e-9)
    changed = expected * np.random.default_rng(seed).uniform(0, 1, expected.shape)
    back = stft.inverse(torch.from_numpy(changed), n_samples).numpy()
    again = reference.istft(changed, n_samples, n_fft=n_fft, hop=stft.hop_length, win_length=win_length)
    np.testing.assert_allclose(back, again, atol=1e-8)


def test_frames_may_start_rather_than_be_centred() -> None:
    stft = Stft(256, 64, center=False)
    sound = random_sound(1000)
    got = stft.forward(torch.from_numpy(sound)).numpy()
    assert got.shape[1] == stft.n_frames(1000)
    np.testing.assert_allclose(got, reference.stft(sound, n_fft=256, hop=64, center=False), atol=1e-4)
    assert stft.times(3, 1000).tolist() == [0.128, 0.192, 0.256]


@pytest.mark.parametrize("stft", SETTINGS)
def test_stft_is_librosas(stft: Stft) -> None:
    sound = random_sound(3001)
    expected = librosa.stft(
        sound, n_fft=stft.n_fft, hop_length=stft.hop_length, win_length=stft.win_length, pad_mode="constant"
    )
    np.testing.assert_allclose(stft.forward(torch.from_numpy(sound)).numpy(), expected, atol=1e-4)


def test_frequencies_and_times_are_librosas() -> None:
    stft = Stft(2048, 512)
    np.testing.assert_allclose(stft.frequencies(22050), librosa.fft_frequencies(sr=22050, n_fft=2048))
    np.testing.assert_allclose(stft.times(40, 22050), librosa.frames_to_time(np.arange(40), sr=22050, hop_length=512))


@pytest.mark.parametrize("stft", SETTINGS)
@pytest.mark.parametrize("n_samples", [300, 3001])
@pytest.mark.parametrize("edge", ["first", "middle", "last", "all"])
def test_the_local_inverse_is_the_inverse_of_the_padded_spectrum(stft: Stft, n_samples: int, edge: str) -> None:
    n_frames = stft.n_frames(n_samples)
    places = {"first": (0, 2), "middle": (n_frames // 3, n_frames // 2 + 1), "last": (n_frames - 2, n_frames)}
    start, stop = places.get(edge, (0, n_frames))
    start, stop = max(0, start), min(stop, n_frames)
    spectrum = stft.forward(torch.from_numpy(random_sound(n_samples)))
    spectrum[:, :start] = spectrum[:, stop:] = 0
    whole = stft.inverse(spectrum, n_samples)
    got = stft.inverse_local(spectrum[:, start:stop], start, stft.envelope(n_frames), n_samples)
    torch.testing.assert_close(got, whole, atol=1e-5, rtol=0)


FRAMEWISE = [
    Stft(512, 160, 400, center=False, window="hann_symmetric", remove_dc=True, preemphasis=0.97),
    Stft(512, 160, 400, center=False, window="povey", preemphasis=0.9),
    Stft(512, 160, 400, center=False, window="hamming", frame="window"),
    Stft(512, 160, 400, center=False, window="rectangular", remove_dc=True),
    Stft(1024, 320, 640, center=False, frame="window"),
]


@pytest.mark.parametrize("stft", FRAMEWISE)
@pytest.mark.parametrize("n_samples", [1024, 5001])
def test_frames_of_the_window_are_treated_as_written_down(stft: Stft, n_samples: int) -> None:
    samples = random_sound(n_samples).astype(np.float64) + 0.3
    got = stft.forward(torch.from_numpy(samples)[None])[0].numpy()
    expected = reference.framewise_stft(samples, stft)
    assert got.shape == expected.shape == (stft.n_bins, stft.n_frames(n_samples))
    np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=1e-9)


@pytest.mark.parametrize("stft", FRAMEWISE)
def test_whatever_is_done_to_frames_is_linear(stft: Stft) -> None:
    a, b = (torch.from_numpy(random_sound(2000, seed)).double()[None] for seed in (1, 2))
    torch.testing.assert_close(stft.forward(a - 3 * b), stft.forward(a) - 3 * stft.forward(b))


def test_edges_may_be_reflected_as_librosa_does() -> None:
    samples = random_sound(3000)
    expected = librosa.stft(samples, n_fft=512, hop_length=128, pad_mode="reflect")
    got = Stft(512, 128, pad_mode="reflect").forward(torch.from_numpy(samples)[None])[0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("settings", [{"remove_dc": True}, {"preemphasis": 0.97}, {"frame": "window"}])
def test_treated_frames_are_not_centred(settings: dict[str, Any]) -> None:
    with pytest.raises(OtoscopeError, match="center = false"):
        Stft(512, 128, **settings)


@pytest.mark.parametrize(("n_fft", "hop", "win"), [(512, 0, None), (512, 600, None), (512, 300, 200), (512, 128, 600)])
def test_impossible_transforms_are_refused(n_fft: int, hop: int, win: int | None) -> None:
    with pytest.raises(OtoscopeError, match="hop_length ≤ win_length ≤ n_fft"):
        Stft(n_fft, hop, win)


@pytest.mark.parametrize("reference_power", [1.0, 1e-3, 40.0])
def test_decibels_are_librosas_with_a_fixed_reference(reference_power: float) -> None:
    power = np.random.default_rng(0).uniform(0, 1, (30, 20)) ** 8
    expected = librosa.power_to_db(power, ref=reference_power, amin=reference_power * 1e-8, top_db=None)
    got = decibels(torch.from_numpy(power), reference=reference_power).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert got.min() == pytest.approx(-80)


def spectrogram(n_fft: int = 512, hop: int = 128) -> npt.NDArray[np.float64]:
    return np.abs(reference.stft(music(seconds=0.5), n_fft=n_fft, hop=hop)) ** 2


@pytest.mark.parametrize(("method", "residual"), [("pinv", 0.2), ("nnls", 1e-3)])
@pytest.mark.parametrize("kind", ["mel", "log"])
def test_unfilter_finds_energies_that_give_the_bands(method: Any, residual: float, kind: str) -> None:
    make: Any = {
        "mel": lambda: mel_filterbank(8000, 512, n_mels=40),
        "log": lambda: log_filterbank(8000, 512, bands_per_octave=12, fmin=60),
    }[kind]
    filterbank = make()[0]
    bands = filterbank.astype(np.float64) @ spectrogram()
    energies = unfilter(bands, filterbank, method=method)
    assert energies.shape == spectrogram().shape
    assert energies.min() >= 0
    assert np.linalg.norm(filterbank @ energies - bands) < residual * np.linalg.norm(bands)


def test_non_negative_least_squares_fit_far_better_than_the_clipped_pseudo_inverse() -> None:
    filterbank = mel_filterbank(8000, 512, n_mels=40)[0]
    bands = filterbank.astype(np.float64) @ spectrogram()
    exact, clipped = (
        np.linalg.norm(filterbank @ unfilter(bands, filterbank, method=method) - bands)
        for method in get_args(Literal["nnls", "pinv"])
    )
    assert exact < 0.01 * clipped


def test_bands_that_no_energies_give_are_met_in_the_least_squares() -> None:
    filterbank = triangles(np.linspace(0, 4000, 32), Stft(64, 64).frequencies(8000))  # about as many bands as bins
    bands = filterbank.max() * np.random.default_rng(0).uniform(0, 1, (30, 4)) ** 4
    energies = unfilter(bands, filterbank, method="nnls")
    for frame in range(4):
        best = scipy.optimize.nnls(filterbank.astype(np.float64), bands[:, frame])[1]
        assert best > 1e-3
        assert np.linalg.norm(filterbank @ energies[:, frame] - bands[:, frame]) < 1.001 * best


def test_unfilter_of_silence_is_silence() -> None:
    filterbank = mel_filterbank(8000, 512, n_mels=40)[0]
    for method in ("pinv", "nnls"):
        assert not unfilter(np.zeros((40, 3)), filterbank, method=method).any()


def test_unfilter_refuses_bands_of_another_filterbank() -> None:
    with pytest.raises(OtoscopeError, match=r"bands of shape \(39, 3\)"):
        unfilter(np.zeros((39, 3)), mel_filterbank(8000, 512, n_mels=40)[0])


@pytest.mark.parametrize("n_samples", [4001, 8000])
def test_its_own_magnitude_and_phase_are_the_recording(n_samples: int) -> None:
    samples = np.resize(music(seconds=1.0), n_samples)
    stft = Stft(512, 128)
    magnitude = np.abs(reference.stft(samples, n_fft=512, hop=128))
    np.testing.assert_allclose(to_sound(magnitude, stft, n_samples, phase_of=samples), samples, atol=1e-5)


def test_griffin_lim_finds_a_phase_for_a_tone() -> None:
    stft = Stft(512, 128)
    magnitude = np.abs(reference.stft(tone(1000.0), n_fft=512, hop=128))
    sound = to_sound(magnitude, stft, 8000, seed=3)
    assert sound.shape == (8000,)
    assert np.argmax(np.abs(np.fft.rfft(sound))) == pytest.approx(1000, abs=8)
    again = np.abs(reference.stft(sound, n_fft=512, hop=128))
    assert np.linalg.norm(again - magnitude) < 0.1 * np.linalg.norm(magnitude)
    np.testing.assert_array_equal(sound, to_sound(magnitude, stft, 8000, seed=3))
    assert not np.array_equal(sound, to_sound(magnitude, stft, 8000, seed=4))


def test_a_pure_tone_lands_in_one_band_and_white_noise_fills_all() -> None:
    filterbank, centres = mel_filterbank(8000, 1024, n_mels=32)
    bands = reference.band_energies(tone(centres[16], level=0.5), filterbank, n_fft=1024, hop=256).mean(axis=1)
    assert bands.argmax() == 16
    assert bands[15:18].sum() > 0.98 * bands.sum()
    hiss = reference.band_energies(noise(seconds=3), filterbank, n_fft=1024, hop=256).mean(axis=1)
    assert hiss.max() < 1.5 * hiss.min()
