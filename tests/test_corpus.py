"""The corpus: crops are what the model hears, windows are what it is asked about."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from otoscope.mer_models.corpus import cut, listen
from otoscope.mer_models.data import Clip
from otoscope.mer_models.harmonics import FRONT_END, N_SAMPLES, RATE
from tests.songs import tone


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440.0, seconds=14), RATE, subtype="FLOAT")
    return Clip("a", path, "emopia:a", "emopia", "font", 0)


def test_windows_follow_each_other_and_a_rest_is_left_out(clip: Clip) -> None:
    windows = cut(clip, rate=RATE, n_samples=N_SAMPLES)
    assert windows.shape == (2, N_SAMPLES)
    np.testing.assert_allclose(windows.ravel(), tone(440.0, seconds=14)[: 2 * N_SAMPLES], atol=1e-6)
    longer = cut(clip, rate=RATE, n_samples=20 * RATE)
    assert longer.shape == (1, 20 * RATE)
    assert not longer[0, 14 * RATE :].any()
    assert cut(clip, rate=16000, n_samples=96000).shape == (2, 96000)


def test_a_crop_is_what_the_model_hears(clip: Clip) -> None:
    corpus = listen([clip], FRONT_END)
    samples = torch.from_numpy(tone(440.0, seconds=14).astype(np.float32))
    heard = FRONT_END(samples[None])[0]
    whole = corpus.crops(np.array([0]), np.random.default_rng(0), length=heard.shape[1], stride=1, gain=0.0)[0]
    np.testing.assert_allclose(whole, heard, atol=0.04)  # float16 below 128 dB
    rare = corpus.crops(np.array([0]), np.random.default_rng(0), length=600, stride=5, gain=0.0)[0]
    start = int(np.random.default_rng(0).integers(heard.shape[1] - 600 + 1))
    np.testing.assert_allclose(rare, heard[:, start : start + 600 : 5], atol=0.04)


def test_a_gain_is_as_if_the_recording_were_louder(clip: Clip) -> None:
    corpus = listen([clip], FRONT_END)
    length, rng = len(corpus.frames[0]), np.random.default_rng(3)
    rng.integers(1)  # where the crop starts: it is as long as the clip
    gain = rng.uniform(-12, 12, 1)[0]
    assert abs(gain) > 3
    crop = corpus.crops(np.array([0]), np.random.default_rng(3), length=length, stride=1, gain=12.0)[0]
    louder = torch.from_numpy((10 ** (gain / 20) * tone(440.0, seconds=14)).astype(np.float32))
    np.testing.assert_allclose(crop, FRONT_END(louder[None])[0], atol=0.05)


def test_a_short_clip_is_filled_with_silence(clip: Clip) -> None:
    crop = listen([clip], FRONT_END).crops(np.array([0]), np.random.default_rng(0), length=800, stride=2, gain=0.0)[0]
    assert crop.shape == (256, 400)
    assert (crop[:, 310:] == FRONT_END.floor).all()


def test_statistics_are_those_of_the_frames_heard(clip: Clip) -> None:
    corpus = listen([clip], FRONT_END)
    mean, spread_ = corpus.statistics(np.array([0]), every=1)
    frames = np.maximum(corpus.frames[0].astype(np.float64), FRONT_END.floor)
    np.testing.assert_allclose(mean[:, 0], frames.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(spread_[:, 0], np.maximum(frames.std(axis=0), 1), atol=1e-3)
