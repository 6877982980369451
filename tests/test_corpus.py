"""The corpus: crops are what the model hears, windows are what it is asked about."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import midlevel_nets, midlevel_sections
from otoscope.mer_models.corpus import Vary, cut, listen, transposed
from otoscope.mer_models.data import Clip
from otoscope.mer_models.descriptor_trials import spans
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


def test_a_recording_that_is_cut_off_is_not_learnt_from(clip: Clip) -> None:
    content = clip.path.read_bytes()
    clip.path.write_bytes(content[: len(content) // 2])
    readers: tuple[Callable[[], object], ...] = (
        lambda: cut(clip, rate=RATE, n_samples=N_SAMPLES),
        lambda: listen([clip], FRONT_END),
        lambda: midlevel_sections.listen([clip], midlevel_nets.HEARING),
        lambda: spans(clip.path),
    )
    for read in readers:
        with pytest.raises(OtoscopeError, match=r"a\.wav: is cut off: .* fetch or export it again"):
            read()


def test_a_crop_is_what_the_model_hears(clip: Clip) -> None:
    corpus = listen([clip], FRONT_END)
    samples = torch.from_numpy(tone(440.0, seconds=14).astype(np.float32))
    heard = FRONT_END(samples[None])[0]
    whole = corpus.crops(np.array([0]), np.random.default_rng(0), length=heard.shape[1], vary=Vary())[0]
    np.testing.assert_allclose(whole, heard, atol=0.04)  # float16 below 128 dB
    rare = corpus.crops(np.array([0]), np.random.default_rng(0), length=600, vary=Vary(5))[0]
    start = int(np.random.default_rng(0).integers(heard.shape[1] - 600 + 1))
    np.testing.assert_allclose(rare, heard[:, start : start + 600 : 5], atol=0.04)


def test_a_gain_is_as_if_the_recording_were_louder(clip: Clip) -> None:
    corpus = listen([clip], FRONT_END)
    length, rng = len(corpus.frames[0]), np.random.default_rng(3)
    rng.integers(1)  # where the crop starts: it is as long as the clip
    gain = rng.uniform(-12, 12, 1)[0]
    assert abs(gain) > 3
    crop = corpus.crops(np.array([0]), np.random.default_rng(3), length=length, vary=Vary(gain=12.0))[0]
    louder = torch.from_numpy((10 ** (gain / 20) * tone(440.0, seconds=14)).astype(np.float32))
    np.testing.assert_allclose(crop, FRONT_END(louder[None])[0], atol=0.05)


def test_a_short_clip_is_filled_with_silence(clip: Clip) -> None:
    crop = listen([clip], FRONT_END).crops(np.array([0]), np.random.default_rng(0), length=800, vary=Vary(2))[0]
    assert crop.shape == (256, 400)
    assert (crop[:, 310:] == FRONT_END.floor).all()


def test_statistics_are_those_of_the_frames_heard(clip: Clip) -> None:
    corpus = listen([clip], FRONT_END)
    mean, spread_ = corpus.statistics(np.array([0]), every=1)
    frames = np.maximum(corpus.frames[0].astype(np.float64), FRONT_END.floor)
    np.testing.assert_allclose(mean[:, 0], frames.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(spread_[:, 0], np.maximum(frames.std(axis=0), 1), atol=1e-3)


def test_a_transposed_tone_lies_where_the_higher_tone_does() -> None:
    low, high = (
        FRONT_END(torch.from_numpy(tone(frequency, seconds=3)[None]))[0, :, 100] for frequency in (660.0, 660 * 2**0.25)
    )
    shifted = transposed(low, 3, FRONT_END.centres)
    assert abs(int(shifted.argmax()) - int(high.argmax())) <= 1
    assert shifted.max() > low.max() - 6  # blurred a little
    torch.testing.assert_close(transposed(low, 0, FRONT_END.centres), low)


def test_a_stretched_crop_is_a_faster_or_slower_one(clip: Clip) -> None:
    corpus = listen([clip], FRONT_END)
    frames = corpus.frames[0].astype(np.float32)
    for seed in range(5):
        crop = corpus.crops(np.array([0]), np.random.default_rng(seed), length=256, vary=Vary(8, 0.0, 0.3))[0]
        step = 8 * np.exp(np.random.default_rng(seed).uniform(-0.3, 0.3))
        places = (step * np.arange(32)).astype(int)
        starts = [
            start
            for start in range(len(frames) - places[-1])
            if np.allclose(np.maximum(frames[start + places], -80).T, crop, atol=1e-3)
        ]
        assert starts


def test_kept_frames_are_those_that_were_transformed(clip: Clip, tmp_path: Path) -> None:
    told: list[str] = []
    fresh = listen([clip, clip], FRONT_END)
    for _ in range(2):
        kept = listen([clip, clip], FRONT_END, cache=tmp_path / "cache", progress=told.append)
        for one, other in zip(fresh.frames, kept.frames, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(told) == 1  # the second time nothing is transformed
    assert len(list((tmp_path / "cache").iterdir())) == 2
