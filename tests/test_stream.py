"""Recordings on disk: the same sound as in memory, piece by piece; windows cut out of a stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.audio import load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.stream import Recording, batches, cut, survey
from tests.builders import music, noise


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    """23 s, so three blocks, at a rate that no model has."""
    sides = np.stack([noise(seconds=23.1, rate=11025, seed=seed) for seed in (1, 2)], axis=1)
    soundfile.write(tmp_path / "stereo.flac", sides, 11025)
    return tmp_path / "stereo.flac"


def test_a_survey_tells_what_loading_would(stereo: Path) -> None:
    audio, recording = load_audio(stereo), survey(stereo)
    assert (recording.rate, recording.n_samples) == (audio.rate, len(audio.samples))
    assert recording.sha256 == audio.sha256
    assert recording.seconds == audio.seconds
    assert not recording.silent


@pytest.mark.parametrize("rate", [11025, 8000, 22050])
def test_blocks_joined_are_the_recording(stereo: Path, rate: int) -> None:
    blocks = list(survey(stereo).at(rate))
    assert len(blocks) > 2
    np.testing.assert_array_equal(np.concatenate(blocks), load_audio(stereo).at(rate).samples)


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_compressed_files_are_the_same_in_pieces(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sound.{suffix}"
    soundfile.write(path, np.tile(music(seconds=2, rate=22050), 6), 22050)
    recording, audio = survey(path), load_audio(path)
    assert recording.sha256 == audio.sha256
    np.testing.assert_array_equal(np.concatenate(list(recording.blocks(4096))), audio.samples)


def test_a_clip_has_all_channels_and_begins_where_it_should(stereo: Path) -> None:
    whole, _ = soundfile.read(stereo, dtype="float32")
    clip = survey(stereo).clip(3.0, 2.5)
    np.testing.assert_array_equal(clip, whole[3 * 11025 : 3 * 11025 + round(2.5 * 11025)])


def test_silence_is_noticed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 8000)
    assert survey(tmp_path / "silent.wav").silent


def test_what_cannot_be_read_is_told_as_by_loading(tmp_path: Path) -> None:
    late = np.zeros(200_000, dtype=np.float32)
    late[-1] = np.nan
    soundfile.write(tmp_path / "nan.wav", late, 8000, subtype="FLOAT")
    whole = tmp_path / "whole.flac"
    soundfile.write(whole, noise(seconds=4, rate=16000), 16000)
    (tmp_path / "cut.flac").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "days.wav", np.zeros(90_000, dtype=np.int16), 1)
    for name, fault in {
        "nan.wav": "NaN or infinite",
        "cut.flac": "cannot be read",
        "text.wav": "cannot be read",
        "days.wav": "too long",
        "none.wav": "no such file",
    }.items():
        with pytest.raises(OtoscopeError, match=fault) as caught:
            survey(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("kind", ["wav", "mp3", "ogg"])
def test_a_recording_that_is_cut_off_is_the_one_that_loading_gives(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"cut.{kind}"
    soundfile.write(path, noise(seconds=25, rate=8000), 8000)
    assert survey(path).faults == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found, loaded = survey(path), load_audio(path)
    assert found.faults == loaded.faults != ()
    assert (found.n_samples, found.sha256) == (len(loaded.samples), loaded.sha256)


def windows_of(samples: np.ndarray, window: int, step: float, *, tail: bool) -> list[int]:
    """First samples of the windows, slow and plain."""
    if len(samples) < window:
        return [0]
    firsts = [round(i * step) for i in range(len(samples)) if round(i * step) + window <= len(samples)]
    slack = min(window, step) / 100
    missing = round(len(firsts) * step) + window - len(samples)
    if missing <= slack or (tail and len(samples) - window - firsts[-1] > slack):
        firsts.append(len(samples) - window)
    return firsts


@given(
    n=st.integers(1, 400),
    window=st.integers(1, 120),
    share=st.floats(0.05, 1),
    cuts=st.lists(st.integers(1, 399), max_size=6),
    tail=st.booleans(),
)
def test_windows_do_not_depend_on_how_a_stream_comes(
    n: int, window: int, share: float, cuts: list[int], tail: bool
) -> None:
    step = max(1.0, share * window)
    samples = np.arange(1, n + 1, dtype=np.float32)
    pieces = np.split(samples, sorted(place for place in set(cuts) if place < n))
    found = list(cut(pieces, window=window, step=step, tail=tail))
    assert [first for first, _ in found] == windows_of(samples, window, step, tail=tail)
    for first, heard in found:
        np.testing.assert_array_equal(heard, np.pad(samples, (0, max(0, window - n)))[first : first + window])
    if tail and n >= window:  # all is heard, but for the slack
        ends = max(first + window for first, _ in found)
        assert n - ends <= min(window, step) / 100


def test_a_window_that_ends_a_sample_late_is_moved_and_not_lost() -> None:
    firsts = [first for first, _ in cut([np.zeros(1999, dtype=np.float32)], window=1000, step=500, tail=False)]
    assert firsts == [0, 500, 999]


def test_batches_hold_at_most_so_many() -> None:
    gathered = list(batches(cut([np.zeros(100, dtype=np.float32)], window=10, step=10), 4))
    assert [len(batch) for batch in gathered] == [4, 4, 2]


def test_a_long_recording_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "long.wav", noise(seconds=60, rate=8000), 8000)
    recording = survey(tmp_path / "long.wav")
    longest = 0
    blocks = Recording.blocks

    def watched(self: Recording, size: int) -> object:
        nonlocal longest
        for block in blocks(self, size):
            longest = max(longest, len(block))
            yield block

    monkeypatch.setattr(Recording, "blocks", watched)
    held = [len(samples.base) for _, samples in cut(recording.at(8000), window=8000, step=4000)]  # type: ignore[arg-type]
    assert longest == 80_000
    assert max(held) <= 80_000 + 8000
