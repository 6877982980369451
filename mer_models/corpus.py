"""Windows: a corpus as frames in memory, random crops to learn from, whole windows to be judged by.

Learning takes random crops from the compressed spectrograms of whole clips, held in memory as float16 (0.03 dB fine).
They reach deeper than the model's floor, so that a random gain may be added before the floor is applied, as if the
recording had been louder or softer. A frame of the STFT is eight hops long, hence neighbouring frames are alike: crops
keep every `stride`-th frame, which is as many times faster. Tempo varies by keeping them at other distances. So does
the key: a sound raised by k semitones has at f what was at f / 2^(k/12), so each band is read, in decibels, between the
two bands around that frequency (sharp partials blur a little). Judging asks the finished model for the windows
themselves, waveforms of six seconds cut one after the other, by the same `predict` as everybody's.

Shapes: frames (n_frames, n_bands), one clip after the other; batches (n, n_bands, n_frames // stride).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from otoscope.adapters.audio import load_audio
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.whole_file import whole_file
from otoscope.mer_models.data import Clip
from otoscope.mer_models.render import Progress, quiet

HEADROOM = 30.0  # decibels below the model's floor that are kept for random gains

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Vary:
    """How crops differ from what was recorded.

    Attributes
    ----------
    stride : int
        Every how many frames one is kept.
    gain : float
        Levels change by up to this many decibels.
    stretch : float
        Log of the greatest change of tempo.
    transpose : int
        Greatest change of key, in semitones.
    """

    stride: int = 1
    gain: float = 0.0
    stretch: float = 0.0
    transpose: int = 0

    def steps(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draw the distance of two frames that are kept, for n crops."""
        if self.stretch == 0:
            return np.full(n, float(self.stride))
        return np.asarray(self.stride * np.exp(rng.uniform(-self.stretch, self.stretch, n)))


def transposed(x: torch.Tensor, semitones: float, centres: npt.NDArray[np.float64]) -> torch.Tensor:
    """Shift decibels (…, n_bands) up by a number of semitones, by reading between bands; centres in hertz."""
    source = centres / 2.0 ** (semitones / 12)
    below = np.clip(np.searchsorted(centres, source) - 1, 0, len(centres) - 2)
    share = np.clip((source - centres[below]) / (centres[below + 1] - centres[below]), 0, 1)
    lower = torch.from_numpy(below)
    return torch.lerp(x[..., lower], x[..., lower + 1], torch.from_numpy(share.astype(np.float32)))


@dataclass(frozen=True, eq=False)
class Corpus:
    """Compressed spectrograms of clips.

    Attributes
    ----------
    frames : list of ndarray, each of shape (n_frames, n_bands)
        float16, in decibels, down to `HEADROOM` below the floor.
    front_end : FrontEnd
        The model's own.
    """

    frames: list[Float16]
    front_end: FrontEnd

    def crops(
        self, clips: Ints, rng: np.random.Generator, *, length: int, vary: Vary, starts: Ints | None = None
    ) -> torch.Tensor:
        """Cut one crop out of each of these clips.

        Parameters
        ----------
        clips : ndarray of int, shape (n,)
        rng : numpy.random.Generator
        length : int
            In frames, before tempo changes; shorter clips are filled with silence.
        vary : Vary
        starts : ndarray of int, shape (n,), optional
            First frames; at random where None.

        Returns
        -------
        Tensor, shape (n, n_bands, length / stride, rounded up)
        """
        floor, n_kept = self.front_end.floor, -(-length // vary.stride)
        batch = torch.full((len(clips), n_kept, self.front_end.n_bands), floor - HEADROOM)
        steps = vary.steps(len(clips), rng)
        for place, (row, clip, step) in enumerate(zip(batch, clips, steps, strict=True)):
            frames = self.frames[clip]
            places = (step * np.arange(n_kept)).astype(np.int64)
            room = len(frames) - math.ceil(length * step / vary.stride) + 1
            places += rng.integers(max(1, room)) if starts is None else starts[place]
            places = places[places < len(frames)]
            row[: len(places)] = torch.from_numpy(frames[places].astype(np.float32))
        if vary.transpose:
            shifts = rng.integers(-vary.transpose, vary.transpose + 1, len(clips))
            for shift in np.unique(shifts[shifts != 0]).tolist():
                chosen = torch.from_numpy(np.flatnonzero(shifts == shift))
                batch[chosen] = transposed(batch[chosen], shift, self.front_end.centres)
        change = torch.from_numpy(rng.uniform(-vary.gain, vary.gain, len(clips)).astype(np.float32))
        return (batch + change[:, None, None]).clamp(min=floor).transpose(1, 2)

    def statistics(self, clips: Ints, *, every: int = 97) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each band, in decibels, over every `every`-th frame of these clips.

        Returns
        -------
        mean, spread : Tensor, shape (n_bands, 1)
            The spread is at least 1 dB.
        """
        frames = np.concatenate([self.frames[clip][every // 2 :: every] for clip in clips])
        heard = np.maximum(frames.astype(np.float64), self.front_end.floor)  # (n_frames, n_bands)
        spread = np.maximum(heard.std(axis=0), 1.0)
        return torch.from_numpy(heard.mean(axis=0)).float()[:, None], torch.from_numpy(spread).float()[:, None]


def listen(
    clips: Sequence[Clip], front_end: FrontEnd, *, cache: Path | None = None, progress: Progress = quiet
) -> Corpus:
    """Read clips and transform them, each as a whole.

    Parameters
    ----------
    clips : sequence of Clip
    front_end : FrontEnd
    cache : Path, optional
        Folder in which the frames are kept, to be read by the next run and by several at once from the disk.
    progress : callable
        Told how far it is.
    """
    if cache is None:
        return Corpus(_transformed(clips, front_end, progress), front_end)
    path = cache / f"frames-{content_key(clips, front_end.settings())}.npy"
    lengths = path.with_suffix(".lengths.npy")
    if not (path.is_file() and lengths.is_file()):
        frames = _transformed(clips, front_end, progress)
        cache.mkdir(parents=True, exist_ok=True)
        for place, array in ((path, np.concatenate(frames)), (lengths, np.array([len(one) for one in frames]))):
            with whole_file(place) as partial:
                np.save(partial, array)
    whole = np.load(path, mmap_mode="r")
    return Corpus(np.split(whole, np.cumsum(np.load(lengths))[:-1]), front_end)


def content_key(clips: Sequence[Clip], settings: object) -> str:
    """Hash what recordings and settings are: a rendering's name holds a hash, a recording is known by its size."""
    rows = [[clip.path.name, clip.path.stat().st_size] for clip in clips]
    return hashlib.sha256(json.dumps([rows, settings], sort_keys=True).encode()).hexdigest()[:16]


def _transformed(clips: Sequence[Clip], front_end: FrontEnd, progress: Progress) -> list[Float16]:
    deeper = replace(front_end, floor=front_end.floor - HEADROOM)
    frames = []
    for done, clip in enumerate(clips, start=1):
        samples = torch.from_numpy(np.array(load_audio(clip.path, whole=True).at(front_end.rate).samples))
        with torch.inference_mode():
            frames.append(deeper(samples[None])[0].T.half().numpy())  # (n_frames, n_bands)
        if done % 200 == 0 or done == len(clips):
            progress(f"listened to {done} of {len(clips)} clips")
    return frames


def cut(clip: Clip, *, rate: int, n_samples: int) -> Float32:
    """Cut a clip into windows (n, n_samples), one after the other; a rest is left out, a shorter clip filled up."""
    samples = load_audio(clip.path, whole=True).at(rate).samples
    n = max(1, len(samples) // n_samples)
    padded = np.zeros(n * n_samples, dtype=np.float32)
    heard = samples[: len(padded)]
    padded[: len(heard)] = heard
    return padded.reshape(n, n_samples)
