"""Recordings too long to be held in memory: surveyed once, then read piece by piece.

`survey` decodes a file from end to end and keeps none of it but what must be known before any work: that it can be
read and is finite, how long it is, whether it is cut off, and the hash that `load_audio` would give the same sound. A
`Recording` then gives the mono samples in blocks, at the file's rate or, through soxr's streaming resampler, at a
model's: joined, the blocks are sample by sample what `load_audio(path).at(rate)` holds. A FLAC that breaks off is
refused, since where decoding fails depends on the size of the blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from otoscope.adapters.audio import Samples, cut_off, opened
from otoscope.adapters.errors import OtoscopeError, plain

DAY = 86_400.0  # seconds: the longest recording that is followed
BLOCK = 10  # seconds that are read at once
SLACK = 100  # resampling rounds lengths: the end of a recording is met to this fraction of a step


@dataclass(frozen=True)
class Recording:
    """A recording on disk that was found to be in order.

    Attributes
    ----------
    path : Path
    name : str
        The file's name, escaped.
    rate : int
        In hertz, the file's own.
    n_samples : int
        As many as can be read.
    sha256 : str
        Hash of rate and mono samples, as in `Audio`.
    silent : bool
        Whether it is digital silence from end to end.
    faults : tuple of str
        What is wrong with the file, as in `Audio`.
    """

    path: Path
    name: str
    rate: int
    n_samples: int
    sha256: str
    silent: bool = False
    faults: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.n_samples / self.rate

    def blocks(self, size: int) -> Iterator[Samples]:
        """Give the mono samples in blocks of `size`, at the file's rate; the last may be shorter."""
        return _mono(self.path, size)

    def at(self, rate: int) -> Iterator[Samples]:
        """Give the mono samples in blocks, resampled to `rate` hertz (soxr, high quality)."""
        blocks = self.blocks(BLOCK * self.rate)
        if rate == self.rate:
            yield from blocks
            return
        import soxr

        stream = soxr.ResampleStream(self.rate, rate, 1, dtype="float32", quality="HQ")
        for block in blocks:
            yield stream.resample_chunk(block)
        yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)

    def clip(self, start: float, duration: float) -> Samples:
        """Read a stretch (both in seconds) with all its channels, shape (n_samples, n_channels)."""
        with opened(self.path, max_seconds=DAY) as file:
            file.seek(min(round(start * self.rate), self.n_samples))
            samples: Samples = file.read(round(duration * self.rate), dtype="float32", always_2d=True)
        return samples


def survey(path: str | Path, *, max_seconds: float = DAY) -> Recording:
    """Read a recording once and tell what is known of it.

    Parameters
    ----------
    path : str or Path
    max_seconds : float
        Longer recordings are refused from their header, before decoding.

    Raises
    ------
    OtoscopeError
        Naming the file, the fault and the remedy.
    """
    path = Path(path)
    with opened(path, max_seconds=max_seconds) as file:
        rate = int(file.samplerate)
        digest, n_samples, silent = hashlib.sha256(str(rate).encode() + b"\0"), 0, True
        for block in _mono(path, BLOCK * rate):
            if not np.isfinite(block).all():
                raise OtoscopeError(f"{path}: holds NaN or infinite samples; repair or export it again")
            digest.update(block.tobytes())
            n_samples += len(block)
            silent = silent and not block.any()
        fault = cut_off(file, n_samples)
    faults = () if fault is None else (f"the file {fault}",)
    return Recording(path, plain(path.name), rate, n_samples, digest.hexdigest(), silent, faults)


def _mono(path: Path, size: int) -> Iterator[Samples]:
    with opened(path, max_seconds=DAY) as file:
        # After each read soundfile seeks to where it is, and an MP3 decoder then starts afresh, with other samples (up
        # to 0.02 of full scale). It does not where it takes the file for one that cannot seek.
        file.seekable = lambda: False
        while len(frames := file.read(size, dtype="float32", always_2d=True)):  # (n_samples, n_channels)
            yield frames.mean(axis=1, dtype=np.float32)


def cut(chunks: Iterable[Samples], *, window: int, step: float, tail: bool = True) -> Iterator[tuple[int, Samples]]:
    """Cut a stream of samples into windows.

    Parameters
    ----------
    chunks : iterable of ndarray, each of shape (n,)
        The recording, piece by piece.
    window : int
        In samples.
    step : float
        In samples, at most `window`.
    tail : bool
        Whether what is left at the end gets a window that ends with the recording.

    Yields
    ------
    first : int
        Number of the window's first sample.
    samples : ndarray, shape (window,)
    """
    held, offset, count, first = np.zeros(0, dtype=np.float32), 0, 0, 0
    for chunk in chunks:
        held = np.concatenate([held, chunk])
        while (first := round(count * step)) + window <= offset + len(held):
            yield first, held[first - offset :][:window]
            count += 1
        kept = max(offset, min(first, offset + len(held) - window))  # the last window's worth is needed at the end
        held, offset = held[kept - offset :], kept
    total, slack = offset + len(held), min(window, step) / SLACK
    if count == 0:
        yield 0, np.pad(held, (0, window - total))
    elif first + window - total <= slack or (tail and total - window - round((count - 1) * step) > slack):
        yield total - window, held[total - window - offset :]


def batches(windows: Iterator[tuple[int, Samples]], size: int) -> Iterator[list[tuple[int, Samples]]]:
    """Gather windows into lists of at most `size`."""
    batch = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
