"""Recordings: what can be read is read alike, what cannot is refused by name."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from otoscope.adapters.audio import Audio, load_audio, write_wav
from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.cli import main
from tests.builders import music, noise, tone

FORMATS = {
    "wav": ("WAV", "PCM_16", (8000, 22050, 44100, 96000), 1e-4),
    "float.wav": ("WAV", "FLOAT", (16000,), 1e-7),
    "24.wav": ("WAV", "PCM_24", (48000,), 1e-6),
    "8.wav": ("WAV", "PCM_U8", (11025,), 1e-2),
    "flac": ("FLAC", "PCM_16", (8000, 44100), 1e-4),
    "aiff": ("AIFF", "PCM_16", (22050, 44100), 1e-4),
    "ogg": ("OGG", "VORBIS", (16000, 44100), 0.05),
    "opus": ("OGG", "OPUS", (16000, 48000), 0.05),
    "mp3": ("MP3", "MPEG_LAYER_III", (16000, 44100), 0.05),
}


def write(path: Path, samples: Any, rate: int = 16000, **how: Any) -> Path:
    soundfile.write(path, samples, rate, **how)
    return path


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_sound_back(tmp_path: Path, kind: str, n_channels: int) -> None:
    form, subtype, rates, tolerance = FORMATS[kind]
    n_channels = min(n_channels, 2) if kind == "mp3" else n_channels  # mp3 has no third
    for rate in rates:
        samples = tone(440.0, seconds=1.0, rate=rate)
        levels = np.array([1.0, 0.5, 0.0][:n_channels])
        path = write(tmp_path / f"a.{kind}", samples[:, None] * levels, rate, format=form, subtype=subtype)
        audio = load_audio(path)
        assert (audio.rate, audio.name) == (rate, path.name)
        assert audio.samples.dtype == np.float32
        assert audio.seconds == pytest.approx(1.0, abs=0.1)
        n = min(len(samples), len(audio.samples))
        middle = slice(n // 4, 3 * n // 4)
        difference = audio.samples[middle] - samples[middle] * levels.mean()
        if kind == "mp3":  # its encoder's delay may shift the wave, so only the level is held
            assert np.std(audio.samples[middle]) == pytest.approx(np.std(samples * levels.mean()), rel=0.1)
        else:
            assert np.abs(difference).max() < tolerance


def test_channels_are_averaged(tmp_path: Path) -> None:
    one, other = tone(200.0), tone(900.0)
    audio = load_audio(write(tmp_path / "a.wav", np.stack([one, other], axis=1), subtype="FLOAT"))
    np.testing.assert_allclose(audio.samples, (one + other) / 2, atol=1e-7)


def test_opposite_channels_cancel_and_it_is_said(tmp_path: Path) -> None:
    audio = load_audio(write(tmp_path / "a.wav", np.stack([tone(200.0), -tone(200.0)], axis=1), subtype="FLOAT"))
    assert audio.notes() == ("the recording is digital silence",)


def missing(folder: Path) -> Path:
    return folder / "nothing.wav"


def a_folder(folder: Path) -> Path:
    (folder / "songs").mkdir()
    return folder / "songs"


def text(folder: Path) -> Path:
    (folder / "text.wav").write_text("these are words, not sound\n" * 20)
    return folder / "text.wav"


def nothing_at_all(folder: Path) -> Path:
    (folder / "zero.wav").write_bytes(b"")
    return folder / "zero.wav"


def no_samples(folder: Path) -> Path:
    return write(folder / "empty.wav", np.zeros(0, dtype=np.float32))


def one_sample(folder: Path) -> Path:
    return write(folder / "one.wav", np.ones(1, dtype=np.float32))


def not_a_number(folder: Path) -> Path:
    return write(folder / "nan.wav", np.array([0.1] * 5000 + [np.nan]), subtype="FLOAT")


def infinite(folder: Path) -> Path:
    return write(folder / "inf.wav", np.array([0.1] * 5000 + [np.inf]), subtype="FLOAT")


def half_an_mp3(folder: Path) -> Path:
    path = write(folder / "half.mp3", noise(seconds=4, rate=16000), format="MP3", subtype="MPEG_LAYER_III")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def half_a_flac(folder: Path) -> Path:
    path = write(folder / "half.flac", noise(seconds=4, rate=16000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def streamed_flac(folder: Path) -> Path:
    path = write(folder / "streamed.flac", tone(300.0, rate=16000))
    raw = bytearray(path.read_bytes())
    raw[21] &= 0xF0  # the 36 bits of STREAMINFO that hold the number of samples; 0 says "not known"
    raw[22:26] = b"\0\0\0\0"
    path.write_bytes(raw)
    return path


BAD = {
    missing: "no such file",
    a_folder: "is a folder; name the recordings in it",
    text: "cannot be read as audio",
    nothing_at_all: "cannot be read as audio",
    no_samples: "holds no samples; give a recording with sound",
    one_sample: r"is too short \(1 sample",
    not_a_number: "holds NaN or infinite samples",
    infinite: "holds NaN or infinite samples",
    half_an_mp3: r"is cut off: its header promises 4\.\d+ s, [12]\.\d+ s can be read",
    streamed_flac: "does not say how long it is",
    half_a_flac: r"is cut off: its header promises 4\.\d+ s, 1\.\d+ s can be read; fetch or export it again",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_files_are_refused_by_name(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path)
    with pytest.raises(OtoscopeError, match=f"^{re.escape(str(path))}: {BAD[make].replace('|', '|.*')}") as caught:
        load_audio(path, whole=make in (half_an_mp3, half_a_flac))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["wav", "float.wav", "24.wav", "aiff", "flac", "mp3", "ogg", "opus"])
def test_of_a_file_that_is_cut_off_what_is_there_is_read_and_it_is_said(tmp_path: Path, kind: str) -> None:
    form, subtype, *_ = FORMATS[kind]
    path = write(tmp_path / f"a.{kind}", noise(seconds=4, rate=16000), format=form, subtype=subtype)
    whole = load_audio(path)
    assert whole.faults == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    part = load_audio(path)
    (told,) = part.notes()
    lost = "its end is missing, nothing says how much;" if form == "OGG" else "its header promises 4.00 s,"
    assert told == f"the file is cut off: {lost} {part.seconds:.2f} s can be read"
    assert 0.7 < part.seconds < 2.5
    n = len(part.samples) // 2  # an MP3 decoder carries on a little beyond what it has
    np.testing.assert_allclose(part.samples[:n], whole.samples[:n], atol=1e-6)
    assert told in part.at(8000).notes()
    assert part.cut(0, 0.5).notes() == ()  # which is whole
    with pytest.raises(OtoscopeError, match=f"^{re.escape(str(path))}: is cut off: .* fetch or export it again$"):
        load_audio(path, whole=True)


def test_a_file_that_is_cut_off_works_and_says_so_in_the_terminal_and_the_report(tmp_path: Path) -> None:
    cut = write(tmp_path / "cut.wav", noise(seconds=4, rate=22050), 22050, subtype="PCM_16")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    told = "the file is cut off: its header promises 4.00 s, 2.00 s can be read"
    asked = ["explain", str(cut), "--method", "occlusion", "--parts", "grid", "--n-parts", "4"]
    result = CliRunner().invoke(main, [*asked, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert f"otoscope: note: cut.wav: {told}" in result.stderr.splitlines()  # at once
    assert f"  note        {told}" in result.stdout.splitlines()
    assert told in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    document = json.loads(next((tmp_path / "out").glob("**/explanation.json")).read_text(encoding="utf-8"))
    assert told in document["notes"]
    predicted = CliRunner().invoke(main, ["predict", str(cut), "--json"])
    assert predicted.stderr == f"otoscope: note: cut.wav: {told}\n"
    assert len(json.loads(predicted.stdout)) == 1


def test_of_a_file_cut_off_after_its_header_nothing_can_be_explained(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(seconds=4, rate=16000))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        OtoscopeError, match=r"a\.flac: is cut off: its header promises 4.00 s, 0.00 s can be read; fetch"
    ):
        load_audio(path)


@pytest.mark.parametrize("told", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_that_was_streamed_is_whole(tmp_path: Path, told: int) -> None:
    path = write(tmp_path / "a.wav", noise(seconds=1, rate=16000), subtype="PCM_16")
    raw = path.read_bytes()
    place = raw.index(b"data") + 4
    path.write_bytes(raw[:place] + told.to_bytes(4, "little") + raw[place + 4 :])
    audio = load_audio(path, whole=True)
    assert (audio.seconds, audio.notes()) == (1, ())


def test_a_wav_whose_header_says_nothing_is_in_it_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(seconds=1, rate=16000), subtype="PCM_16")
    raw = path.read_bytes()
    place = raw.index(b"data") + 4
    path.write_bytes(raw[:place] + bytes(4) + raw[place + 4 :])
    with pytest.raises(OtoscopeError, match=r"a\.wav: holds no samples; give a recording with sound in it$"):
        load_audio(path)


def test_three_hours_are_refused_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "long.wav", np.zeros(3 * 3600 * 1000, dtype=np.int16), 1000, subtype="PCM_U8")
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(OtoscopeError, match=r"long\.wav: is too long \(10800 s, the limit is 3600 s\)"):
        load_audio(path)


def test_the_limit_can_be_moved(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(seconds=2.0, rate=16000))
    assert load_audio(path, max_seconds=2.0).seconds == 2.0
    with pytest.raises(OtoscopeError, match="is too long"):
        load_audio(path, max_seconds=1.9)


@pytest.mark.parametrize(
    ("samples", "rate", "reason"),
    [
        (np.zeros((2, 8000)), 8000, r"got shape \(2, 8000\), need mono"),
        (np.zeros((2, 0)), 8000, r"got shape \(2, 0\)"),
        (np.zeros(0), 8000, "holds no samples"),
        (np.array([0.0, np.nan]), 8000, "NaN or infinite"),
        (np.array([0.0, -np.inf]), 8000, "NaN or infinite"),
        (np.zeros(10), 0, "a rate of 0 Hz is impossible"),
        (np.zeros(10), -1, "a rate of -1 Hz is impossible"),
    ],
)
def test_audio_refuses_what_is_no_mono_sound(samples: Any, rate: int, reason: str) -> None:
    with pytest.raises(OtoscopeError, match=f"^mine: .*{reason}"):
        Audio(samples, rate, "mine")


def test_audio_keeps_its_own_samples() -> None:
    samples = tone(440.0)
    audio = Audio(samples, 8000)
    samples[:] = 0
    assert audio.samples.any()
    with pytest.raises(ValueError, match="read-only"):
        audio.samples[0] = 1


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 48000])
def test_resampling_keeps_a_tone_and_its_length(rate: int) -> None:
    audio = Audio(tone(1000.0, rate=16000), 16000).at(rate)
    assert audio.rate == rate
    assert audio.seconds == pytest.approx(1.0, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(audio.samples))
    assert spectrum.argmax() == pytest.approx(1000, abs=2)
    assert np.std(audio.samples[rate // 4 : -rate // 4]) == pytest.approx(0.3 / np.sqrt(2), rel=0.01)


def test_its_own_rate_changes_nothing() -> None:
    audio = Audio(tone(1000.0), 8000)
    assert audio.at(8000) is audio


def test_what_is_too_short_to_resample_is_refused() -> None:
    with pytest.raises(OtoscopeError, match="click: too short to be resampled to 8000 Hz"):
        Audio(np.ones(1, dtype=np.float32), 96000, "click").at(8000)


def test_cut_takes_seconds() -> None:
    audio = Audio(np.arange(8000, dtype=np.float32), 1000)
    assert audio.cut(2.0, 1.5).samples.tolist() == list(range(2000, 3500))


def test_the_same_sound_has_the_same_hash_in_any_file(tmp_path: Path) -> None:
    samples = np.round(tone(300.0) * 32767).astype(np.int16)
    hashes = {load_audio(write(tmp_path / name, samples)).sha256 for name in ("a.wav", "b.flac", "c.aiff")}
    assert len(hashes) == 1
    assert Audio(tone(300.0), 8000).sha256 != Audio(tone(300.0), 8001).sha256
    assert Audio(tone(300.0), 8000).sha256 != Audio(tone(301.0), 8000).sha256


@pytest.mark.parametrize(
    ("samples", "note"),
    [
        (np.zeros(8000), "digital silence"),
        (np.clip(3 * tone(100.0, level=1.0), -1, 1), "is clipped"),
        (np.clip(3 * tone(100.0, level=1.0), -0.99, 0.99), "is clipped"),
        (np.clip(12 * music(), -1, 1), "is clipped"),
        (2.5 * tone(100.0, level=1.0), "peaks at 2.50 times full scale"),
    ],
)
def test_the_unusual_is_said(samples: Any, note: str) -> None:
    assert note in " ".join(Audio(samples, 8000).notes())


@pytest.mark.parametrize("samples", [tone(100.0), tone(100.0, level=1.0), noise(), np.ones(1), np.ones(2) / 2])
def test_the_usual_is_not_remarked_on(samples: Any) -> None:
    assert Audio(samples, 8000).notes() == ()


def test_written_sound_comes_back_and_is_the_same_bytes(tmp_path: Path) -> None:
    samples = 3 * noise()  # beyond full scale too
    write_wav(tmp_path / "a.wav", samples, 8000)
    write_wav(tmp_path / "b.wav", samples, 8000)
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav").samples, samples)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert "did you mean 'lime'? Known: lime, gradcam" in str(unknown("method", "LMIE", ["lime", "gradcam"]))
    assert str(unknown("label", "zzz", [f"label {i}" for i in range(50)])).endswith("… (50 in all)")
