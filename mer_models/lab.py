"""The laboratory: recordings, folds and everything that is computed from them once.

A `Lab` holds the clips of all data sets, the fold of each, and, in a cache folder, their spectrograms, those of their
windows (float16, 0.03 dB fine, 130 kB a window of six seconds), and hand-crafted features. Each *part* (a data set, or
one rendered by one sound font) can be learnt from and judged on. Whatever a fold's networks have not heard is judged:
the songs of the fold, in every part.

Windows are cut one after the other; those of 1.5 s and those of 30 s come from the same clips. Where people gave
valence and arousal, quadrants need thresholds: the medians of the data set's songs that are not held out, whether they
are learnt from or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats
from otoscope.adapters.whole_file import whole_file
from otoscope.mer_models import data as datasets
from otoscope.mer_models import handcrafted
from otoscope.mer_models.corpus import Corpus, Ints, content_key, cut, listen
from otoscope.mer_models.data import Clip
from otoscope.mer_models.harmonics import FRONT_END, RATE
from otoscope.mer_models.render import Progress, quiet

SECONDS = 6.0


def part_of(clip: Clip) -> str:
    """Name the part of the laboratory that a clip belongs to: ``emotify``, ``emopia/FluidR3_GM``."""
    return "/".join(filter(None, (clip.dataset, clip.font)))


@dataclass(frozen=True)
class Lab:
    """Recordings and what is known and kept of them.

    Attributes
    ----------
    clips : tuple of Clip
    n_folds, seed : int
    cache : Path
    progress : callable
    """

    clips: tuple[Clip, ...]
    n_folds: int
    seed: int
    cache: Path
    progress: Progress = quiet

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """All parts, in the order of the clips."""
        return tuple(dict.fromkeys(part_of(clip) for clip in self.clips))

    @cached_property
    def corpus(self) -> Corpus:
        """Spectrograms of all clips."""
        return listen(self.clips, FRONT_END, cache=self.cache, progress=self.progress)

    def folds(self, kind: str) -> Ints:
        """Fold of each clip, (n_clips,): by ``songs``, or one genre a fold (−1 for clips without a genre)."""
        if kind == "genres":
            genres = sorted({clip.genre for clip in self.clips} - {""})
            if len(genres) < 2:
                raise OtoscopeError("no data set here names genres; give one that does, such as Emotify")
            return np.array([genres.index(clip.genre) if clip.genre else -1 for clip in self.clips])
        # Provisional quadrants only balance the folds; what is learnt and judged uses each fold's own thresholds.
        provisional = datasets.with_quadrants(self.clips, datasets.medians(self.clips))
        return datasets.folds(provisional, n_folds=self.n_folds, seed=self.seed)

    def labelled(self, fold_of: Ints, fold: int) -> tuple[Clip, ...]:
        """Give all clips quadrants by the thresholds of those that are not held out."""
        kept = [clip for clip, own in zip(self.clips, fold_of.tolist(), strict=True) if own != fold]
        return datasets.with_quadrants(self.clips, datasets.medians(kept))

    def windows(self, index: int, seconds: float = SECONDS) -> Float32:
        """Cut a clip into windows (n_windows, n_samples), one after the other."""
        return cut(self.clips[index], rate=RATE, n_samples=round(seconds * RATE))

    def heard(self, index: int, seconds: float = SECONDS) -> torch.Tensor:
        """Hear the windows of a clip as networks do, compressed bands (n_windows, n_mels, n_frames), once."""

        def hear() -> npt.NDArray[np.float16]:
            with torch.no_grad():
                return FRONT_END(torch.from_numpy(self.windows(index, seconds))).half().numpy()

        return torch.from_numpy(self._kept("windows", index, [FRONT_END.settings(), seconds], hear)).float()

    def features(self, index: int, seconds: float = SECONDS) -> Floats:
        """Describe the windows of a clip by hand-crafted features (n_windows, n_features), once."""

        def describe() -> Floats:
            return handcrafted.describe_windows(self.windows(index, seconds), RATE)

        return np.asarray(self._kept("features", index, [handcrafted.VERSION, seconds], describe))

    def _kept(self, kind: str, index: int, settings: object, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Take an array about a clip from the cache, or make it and keep it."""
        clip = self.clips[index]
        path = self.cache / kind / f"{clip.path.stem}-{content_key([clip], settings)}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = make()
            with whole_file(path) as partial:
                np.save(partial, made)
        found: npt.NDArray[Any] = np.load(path)
        return found

    def describe(self, indices: Ints, seconds: float = SECONDS) -> list[Floats]:
        """Describe many clips, and say how far it is."""
        found = []
        for done, index in enumerate(indices.tolist(), start=1):
            found.append(self.features(index, seconds))
            if done % 200 == 0:
                self.progress(f"described {done} of {len(indices)} clips")
        return found

    def slice(self, n_songs: int) -> Lab:
        """Keep a few songs of each quadrant and data set, for a quick look."""
        labelled = datasets.with_quadrants(self.clips, datasets.medians(self.clips))
        songs: dict[tuple[str, int | None], list[str]] = {}
        for clip in labelled:
            own = songs.setdefault((clip.dataset, clip.quadrant), [])
            if clip.song not in own:
                own.append(clip.song)
        places = {kind: np.linspace(0, len(own) - 1, n_songs).round().astype(int) for kind, own in songs.items()}
        chosen = {own[place] for kind, own in songs.items() for place in places[kind].tolist()}
        return replace(self, clips=_first_clips([clip for clip in self.clips if clip.song in chosen]))


def _first_clips(clips: Sequence[Clip]) -> tuple[Clip, ...]:
    """One clip of each song and part."""
    return tuple({(clip.song, part_of(clip)): clip for clip in reversed(clips)}.values())[::-1]
