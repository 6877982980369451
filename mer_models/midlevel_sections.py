"""Sections: recordings as band magnitudes in memory, ten random seconds to learn from, even windows to be judged by.

Chowdhury et al. (2019) take amplitude-normalised recordings and learn from a random section of ten seconds; the
institute's later code divides a recording by its peak, takes off digital silence at both ends, loops recordings that
are shorter than a section, and standardises all cells by one mean and one deviation of the data set: the mean over
recordings of their means, and the root of the mean over recordings of the mean squared distance from it. So it is here,
except that mean and deviation come from the recordings that are learnt from only, and that a section is drawn anew
whenever a recording is learnt from (there, once for all).

The peak is that of the whole recording: within it, what is quiet stays quiet, and the model itself does nothing to the
level. A model that divided every window by its own peak would hear all parts of a sound change when one of them is
removed. The price: a recording that does not reach full scale is heard as a quiet one.

Recordings are transformed once, as a whole, and kept as linear magnitudes, so sections begin on whole frames; the two
frames at the edges of a section see what lies beyond it, where `predict` sees nothing.

Shapes: magnitudes (n_frames, n_bands), one array a recording; what the network hears (n, 1, n_frames, n_bands).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from otoscope.adapters.audio import Audio, load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import Float32
from otoscope.mer_models.corpus import Ints
from otoscope.mer_models.data import Clip
from otoscope.mer_models.render import Progress, quiet

Amplitude = Literal["recording", "none"]
Fill = Literal["loop", "silence"]

TOLD_EVERY = 100  # recordings


@dataclass(frozen=True, eq=False)
class Sections:
    """Recordings to be cut into sections.

    Attributes
    ----------
    magnitudes : list of ndarray, each of shape (n_frames, n_bands)
        Linear.
    hearing : Hearing
        With a front end and a length.
    fill : {"loop", "silence"}
        What makes a recording long enough for a section.
    """

    magnitudes: list[Float32]
    hearing: Hearing
    fill: Fill = "loop"

    @property
    def length(self) -> int:
        """Frames of a section."""
        front_end, n_samples = declared(self.hearing)
        return front_end.n_frames or front_end.stft.n_frames(n_samples)

    def drawn(self, clips: Ints, rng: np.random.Generator) -> torch.Tensor:
        """Cut a random section out of each of these recordings, as the network hears it."""
        starts = [int(rng.integers(max(1, len(self.magnitudes[clip]) - self.length + 1))) for clip in clips]
        return self._heard([self._cut(self.magnitudes[clip], start) for clip, start in zip(clips, starts, strict=True)])

    def windows(self, clip: int) -> torch.Tensor:
        """Cut a recording into as few even windows as cover it, as the network hears them."""
        magnitudes = self.magnitudes[clip]
        spare = max(0, len(magnitudes) - self.length)
        starts = np.round(np.linspace(0, spare, -(-len(magnitudes) // self.length))).astype(int)
        return self._heard([self._cut(magnitudes, start) for start in starts.tolist()])

    def statistics(self, clips: Ints) -> tuple[float, float]:
        """Mean and deviation of all cells of these recordings, compressed; every recording counts the same."""
        front_end, _ = declared(self.hearing)
        cells = [front_end.compress(torch.from_numpy(self.magnitudes[clip].T.copy())).double() for clip in clips]
        mean = float(np.mean([float(one.mean()) for one in cells]))
        return mean, float(np.sqrt(np.mean([float((one - mean).square().mean()) for one in cells])))

    def _cut(self, magnitudes: Float32, start: int) -> Float32:
        """Cut out one section (length, n_bands)."""
        section = magnitudes[start : start + self.length]
        missing = self.length - len(section)
        if missing <= 0:
            return section
        if self.fill == "loop":
            return np.resize(section, (self.length, section.shape[1]))  # repeats whole frames
        return np.pad(section, ((0, missing), (0, 0)))

    def _heard(self, sections: list[Float32]) -> torch.Tensor:
        return self.hearing.behind_bands(torch.from_numpy(np.stack(sections)).transpose(1, 2))


def declared(hearing: Hearing) -> tuple[FrontEnd, int]:
    """Front end and length of a hearing that must have both."""
    if hearing.front_end is None or hearing.n_samples is None:
        raise OtoscopeError("the mid-level networks need a hearing with a front end and n_samples")
    return hearing.front_end, hearing.n_samples


def listen(
    clips: Sequence[Clip],
    hearing: Hearing,
    *,
    amplitude: Amplitude = "recording",
    fill: Fill = "loop",
    progress: Progress = quiet,
) -> Sections:
    """Read recordings and transform them, each as a whole.

    Parameters
    ----------
    clips : sequence of Clip
    hearing : Hearing
    amplitude : {"recording", "none"}
        Whether a recording is divided by its peak.
    fill : {"loop", "silence"}
    progress : callable
        Told how far it is.

    Raises
    ------
    OtoscopeError
        If a recording cannot be read, or is silent.
    """
    front_end, _ = declared(hearing)
    magnitudes = []
    for done, clip in enumerate(clips, start=1):
        samples = torch.from_numpy(_level(clip, front_end.rate, amplitude))
        with torch.no_grad():
            bands = front_end.bands(front_end.energies(samples[None] * hearing.full_scale))[0]  # (n_bands, n_frames)
        magnitudes.append(bands.T.contiguous().numpy())
        if done % TOLD_EVERY == 0 or done == len(clips):
            progress(f"listened to {done} of {len(clips)} recordings")
    return Sections(magnitudes, hearing, fill)


def _level(clip: Clip, rate: int, amplitude: Amplitude) -> Float32:
    """Read a recording (n_samples,) without the digital silence around it, at the level it is learnt from."""
    audio = load_audio(clip.path, whole=True)
    sounding = np.trim_zeros(audio.samples)
    if len(sounding) == 0:
        raise OtoscopeError(f"{clip.path}: is digital silence, yet people rated it; fetch it again or leave it out")
    samples = Audio(sounding, audio.rate, audio.name).at(rate).samples
    return np.array(samples / np.abs(samples).max() if amplitude == "recording" else samples, dtype=np.float32)
