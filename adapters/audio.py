"""Recordings: how they are read, checked, resampled and written.

An `Audio` is mono float32 at full scale ±1, so nothing behind this door needs to think of file formats, channels or
integer widths. `load_audio` reads whatever libsndfile reads, averages the channels, and refuses what cannot be
explained (nothing there, not finite, too long) before any work is done; the length is judged by the header, so a
three-hour file costs nothing. What is unusual yet workable (silence, clipping) is told by `Audio.notes`.

*Cut off.* Of a file that was cut off, what is there is read, and a note says how much is missing: FLAC, MP3 and WAV
promise a length in their header, Ogg marks its last page. A WAV that was streamed promises an endless length, which
counts for nothing. Where part of a recording will not do, as in a corpus, such a file is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError, plain

Samples = npt.NDArray[np.float32]

MAX_SECONDS = 3600.0
MIN_SECONDS = 0.05
MOST_FRAMES = 2**62
ENDLESS = 2**31 - 2**16  # bytes: what a program writes into a WAV header that does not know the length yet
PROMISED = re.compile(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
UNENDED = "Last page lacks an end-of-stream bit"
PIECE = 4096  # samples that are read at once of a file that breaks off


@dataclass(frozen=True, eq=False)
class Audio:
    """A mono recording.

    Attributes
    ----------
    samples : ndarray, shape (n_samples,)
        float32, full scale ±1.
    rate : int
        Sampling rate in hertz.
    name : str
        What to call it in reports, usually the file's name.
    faults : tuple of str
        What is wrong with the file it was read from, yet does not keep it from being explained.
    """

    samples: Samples
    rate: int
    name: str = "audio"
    faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the samples at the door."""
        samples = np.asarray(self.samples)
        if samples.ndim != 1:
            raise OtoscopeError(f"{self.name}: got shape {samples.shape}, need mono samples of shape (n_samples,)")
        if samples.size == 0:
            raise OtoscopeError(f"{self.name}: holds no samples; give a recording with sound in it")
        if self.rate <= 0:
            raise OtoscopeError(f"{self.name}: a rate of {self.rate} Hz is impossible; give the rate in hertz")
        samples = samples.astype(np.float32)  # always a copy: what the caller does to its array later is not ours
        if not np.isfinite(samples).all():
            raise OtoscopeError(f"{self.name}: holds NaN or infinite samples; repair or export it again")
        samples.setflags(write=False)
        object.__setattr__(self, "samples", samples)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate

    @property
    def sha256(self) -> str:
        """Hash of rate and samples: the same sound has the same hash, whatever file it came in."""
        return hashlib.sha256(str(self.rate).encode() + b"\0" + self.samples.tobytes()).hexdigest()

    def at(self, rate: int) -> Audio:
        """Resample to `rate` hertz (soxr, high quality)."""
        if rate == self.rate:
            return self
        import soxr

        samples = soxr.resample(self.samples, self.rate, rate, quality="HQ")
        if len(samples) == 0:
            raise OtoscopeError(f"{self.name}: too short to be resampled to {rate} Hz; give a longer recording")
        return replace(self, samples=samples, rate=rate)

    def cut(self, start: float, duration: float) -> Audio:
        """Take `duration` seconds from `start` on (both in seconds)."""
        first = round(start * self.rate)
        return Audio(self.samples[first : first + max(1, round(duration * self.rate))], self.rate, self.name)

    def notes(self) -> tuple[str, ...]:
        """Say what is unusual: a file that is cut off, digital silence, clipping, samples beyond full scale."""
        peak = float(np.abs(self.samples).max())
        if peak == 0:
            return (*self.faults, "the recording is digital silence")
        notes = [*self.faults]
        if peak > 1.0001:
            notes.append(f"the recording peaks at {peak:.2f} times full scale")
        pinned = np.abs(self.samples) >= 0.999 * peak
        runs = int(np.count_nonzero(pinned[:-2] & pinned[1:-1] & pinned[2:]))
        if peak >= 0.98 and runs > 0.0005 * len(self.samples):
            notes.append(f"the recording is clipped: {np.mean(pinned):.1%} of its samples stand at full scale")
        return tuple(notes)


def load_audio(path: str | Path, *, max_seconds: float = MAX_SECONDS, whole: bool = False) -> Audio:
    """Read a recording that libsndfile knows (wav, flac, ogg, opus, mp3, aiff, …) as mono float32.

    Parameters
    ----------
    path : str or Path
    max_seconds : float
        Longer recordings are refused from their header, before decoding.
    whole : bool
        Refuse a file that is cut off, too.

    Raises
    ------
    OtoscopeError
        Naming the file, the fault and the remedy.
    """
    path = Path(path)
    with opened(path, max_seconds=max_seconds) as file:
        rate = int(file.samplerate)
        frames = _read(path, file)  # (n_samples, n_channels)
        fault = cut_off(file, len(frames))
    if fault is not None and (whole or len(frames) < MIN_SECONDS * rate):
        raise OtoscopeError(f"{path}: {fault}; fetch or export it again")
    faults = () if fault is None else (f"the file {fault}",)
    try:
        return Audio(frames.mean(axis=1, dtype=np.float32), rate, plain(path.name), faults)
    except OtoscopeError as error:
        raise OtoscopeError(f"{path}: {str(error).removeprefix(f'{path.name}: ')}") from None


@contextmanager
def opened(path: Path, *, max_seconds: float = MAX_SECONDS) -> Iterator[Any]:
    """Open a recording that libsndfile knows, its length judged by its header; what fails in reading it is told alike.

    Raises
    ------
    OtoscopeError
        Naming the file, the fault and the remedy.
    """
    import soundfile

    if not path.exists():
        raise OtoscopeError(f"{path}: no such file")
    if path.is_dir():
        raise OtoscopeError(f"{path}: is a folder; name the recordings in it, e.g. {path}/*.wav")
    try:
        with soundfile.SoundFile(path) as file:
            _check_length(path, int(file.frames), int(file.samplerate), max_seconds)
            yield file
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        reason = str(error).split(": ", 1)[-1].rstrip(".")
        raise OtoscopeError(
            f"{path}: cannot be read as audio ({reason}); give wav, flac, ogg, opus, mp3 or aiff"
        ) from None


def _read(path: Path, file: Any) -> npt.NDArray[np.float32]:
    """Read all that can be read, shape (n_samples, n_channels)."""
    import soundfile

    with suppress(soundfile.LibsndfileError):
        frames: npt.NDArray[np.float32] = file.read(dtype="float32", always_2d=True)
        return frames
    pieces = [np.zeros((0, file.channels), dtype=np.float32)]
    with soundfile.SoundFile(path) as again, suppress(soundfile.LibsndfileError):
        while len(piece := again.read(PIECE, dtype="float32", always_2d=True)):
            pieces.append(piece)
    return np.concatenate(pieces)


def cut_off(file: Any, n_samples: int) -> str | None:
    """Say that a file is cut off, and by how much, given how many samples (per channel) could be read."""
    promised, slack = int(file.frames), 0.01 * file.samplerate
    if file.format == "MP3":  # of which a header may be an estimate
        slack = 0.02 * promised
    elif found := PROMISED.search(file.extra_info):
        told, there = map(int, found.groups())
        promised = round(n_samples * told / there) if 0 < there < told < ENDLESS else promised
    seconds = f"{n_samples / file.samplerate:.2f} s can be read"
    if promised - n_samples > slack:
        return f"is cut off: its header promises {promised / file.samplerate:.2f} s, {seconds}"
    return f"is cut off: its end is missing, nothing says how much; {seconds}" if UNENDED in file.extra_info else None


def _check_length(path: Path, n_samples: int, rate: int, max_seconds: float) -> None:
    seconds = n_samples / rate
    if n_samples == 0:
        raise OtoscopeError(f"{path}: holds no samples; give a recording with sound in it")
    if seconds < MIN_SECONDS:
        raise OtoscopeError(
            f"{path}: is too short ({n_samples} samples, {n_samples / rate:.4f} s); give at least {MIN_SECONDS:g} s"
        )
    if n_samples > MOST_FRAMES:  # a streamed FLAC; libsndfile cannot read it to its end either
        raise OtoscopeError(f"{path}: does not say how long it is (it was streamed); convert it to wav")
    if seconds > max_seconds:
        raise OtoscopeError(
            f"{path}: is too long ({seconds:.0f} s, the limit is {max_seconds:.0f} s); cut out the part to explain"
        )


def write_wav(path: str | Path, samples: Samples, rate: int) -> None:
    """Write 32-bit float WAV: nothing clips, and the same samples give the same bytes."""
    # soundfile stamps float files with the time of day (their PEAK chunk), so the same run would differ.
    from scipy.io import wavfile

    wavfile.write(path, rate, np.asarray(samples, dtype=np.float32))
