"""Parts: a recording as a sum of listenable pieces.

A decomposition marks every cell of the recording's STFT with the part it belongs to (`labels`), or gives each part a
soft share of every cell (`shares`, adding up to 1). A part's sound is the inverse STFT of its share; the inverse STFT
is linear, so the sounds add up to the recording by construction, and a whole neighbourhood of perturbed recordings is
one matrix product::

    x = Σ_j z_j · part_j + (1 − z_j) · off_j          masks (n, k) @ sounds (k, n_samples)

*Off* is what stands in for a part that is switched off: ``silence``; ``mean``, the recording's time-mean magnitude at
each frequency with the original phase; ``noise``, the same spectrum with seeded phase.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.spectra import Float32, Floats, Stft

Off = Literal["silence", "mean", "noise"]
Labels = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Parts:
    """Disjoint or soft parts of a recording.

    Attributes
    ----------
    audio : Audio
        The span that is taken apart, at the model's rate.
    stft : Stft
    labels : ndarray of int, shape (n_bins, n_frames)
        Part of each cell; for soft shares the part with the largest one.
    names : tuple of str, length k
    shares : ndarray, shape (k, n_bins, n_frames), optional
        Soft masks that add up to 1 in every cell.
    groups : ndarray of bool, shape (n_groups, k), optional
        Overlapping unions of parts (combs), switched by occlusion.
    group_names : tuple of str
    filters : ndarray, shape (n_bands, n_bins), optional
        The filterbank of the model's own spectrogram, where the parts are cut from that.
    off : {"silence", "mean", "noise"}
    seed : int
        Of the noise.
    start : float
        Where the span begins in the recording, in seconds.
    recorded : ndarray, shape (k, n_samples), optional
        Sounds of the parts where they are given (stems) and not cut from the recording; `shares` are then their shares
        of the power.
    stems : tuple of Audio
        Stems of the span, on the undivided recording only, for the maker that makes parts of them.
    """

    audio: Audio
    stft: Stft
    labels: Labels
    names: tuple[str, ...]
    shares: Float32 | None = None
    groups: Bools | None = None
    group_names: tuple[str, ...] = ()
    filters: Float32 | None = None
    off: Off = "silence"
    seed: int = 0
    start: float = 0.0
    recorded: Float32 | None = None
    stems: tuple[Audio, ...] = ()

    def __post_init__(self) -> None:
        """Check the off value and the given sounds at the door."""
        if self.off not in get_args(Off):
            raise unknown("off value", self.off, get_args(Off))
        if self.recorded is not None and self.recorded.shape != (self.k, len(self.audio.samples)):
            raise OtoscopeError(
                f"got sounds of shape {self.recorded.shape} for {self.k} parts of {len(self.audio.samples)} samples"
            )

    @property
    def k(self) -> int:
        """Number of parts."""
        return len(self.names)

    def with_(self, **changes: Any) -> Parts:
        """Copy with other labels, names, …; the spectrum is kept, being the same recording on the same grid."""
        parts = replace(self, **changes)
        parts.__dict__["spectrum"] = self.spectrum
        return parts

    @cached_property
    def spectrum(self) -> torch.Tensor:
        """STFT of the recording, complex (n_bins, n_frames)."""
        return self.stft.forward(torch.from_numpy(self.audio.samples.copy()))

    @cached_property
    def power(self) -> Float32:
        """Energy of each cell, shape (n_bins, n_frames)."""
        return np.asarray(self.spectrum.abs().square().numpy())

    def share(self, part: int) -> Float32:
        """Share of each cell that belongs to a part, shape (n_bins, n_frames)."""
        if self.shares is not None:
            return np.asarray(self.shares[part], dtype=np.float32)
        return np.asarray(self.labels == part, dtype=np.float32)

    def spread(self, cells: npt.NDArray[np.floating]) -> Floats:
        """Sum a map (n_bins, n_frames) over each part, shape (k,)."""
        if self.shares is not None:
            return np.array([np.vdot(share, cells) for share in self.shares], dtype=np.float64)
        return np.bincount(self.labels.ravel(), weights=cells.ravel(), minlength=self.k).astype(np.float64)

    @cached_property
    def energy(self) -> Floats:
        """Share of the recording's energy in each part, shape (k,); zeros in silence."""
        total = float(self.power.sum(dtype=np.float64))
        return self.spread(self.power) / total if total > 0 else np.zeros(self.k)

    @cached_property
    def sounds(self) -> Float32:
        """Sound of each part, shape (k, n_samples)."""
        return self._render(self.spectrum) if self.recorded is None else self.recorded

    @cached_property
    def off_spectrum(self) -> torch.Tensor | None:
        """STFT of what stands in for the whole recording, complex (n_bins, n_frames); None for silence."""
        if self.off == "silence":
            return None
        magnitude = self.spectrum.abs().mean(dim=1, keepdim=True)  # (n_bins, 1)
        if self.off == "mean":
            phase = self.spectrum.angle()
        else:
            rng = np.random.default_rng(self.seed)
            phase = torch.from_numpy(rng.uniform(-np.pi, np.pi, self.spectrum.shape).astype(np.float32))
        return torch.polar(magnitude.expand_as(phase).contiguous(), phase)

    @cached_property
    def offs(self) -> Float32 | None:
        """Sound of each part switched off, shape (k, n_samples); None for silence."""
        return None if self.off_spectrum is None else self._render(self.off_spectrum)

    def _render(self, spectrum: torch.Tensor) -> Float32:
        """Cut a spectrum along the parts and transform each back, shape (k, n_samples)."""
        n_samples = len(self.audio.samples)
        envelope = self.stft.envelope(self.labels.shape[1])
        sounds = np.zeros((self.k, n_samples), dtype=np.float32)
        for part in range(self.k):
            share = self.share(part)
            frames = np.flatnonzero(share.any(axis=0))
            if len(frames):  # most parts are short: the silent frames around them need no transform
                here = slice(frames[0], frames[-1] + 1)
                local = spectrum[:, here] * torch.from_numpy(share[:, here])
                sounds[part] = self.stft.inverse_local(local, int(frames[0]), envelope, n_samples).numpy()
        return sounds

    def part(self, index: int) -> Audio:
        """Sound of one part."""
        return Audio(self.sounds[index], self.audio.rate, self.names[index])

    def compose(self, masks: npt.NDArray[np.generic]) -> Float32:
        """Mix the parts, shape (n, n_samples).

        Parameters
        ----------
        masks : ndarray, shape (n, k)
            1 where a part sounds, 0 where it is off, or anything between.
        """
        if masks.ndim != 2 or masks.shape[1] != self.k:
            raise OtoscopeError(f"got masks of shape {masks.shape} for {self.k} parts; need (n, {self.k})")
        weights = torch.from_numpy(np.array(masks, dtype=np.float32))
        mixed = weights @ torch.from_numpy(self.sounds)
        if self.offs is not None:
            mixed += (1 - weights) @ torch.from_numpy(self.offs)
        return np.asarray(mixed.numpy())

    @cached_property
    def extents(self) -> Floats:
        """Box of each part: start, end in seconds of the recording, low, high in hertz; shape (k, 4)."""
        step, width = self.stft.hop_length / self.audio.rate, self.audio.rate / self.stft.n_fft
        boxes = np.zeros((self.k, 4))
        for part, place in enumerate(self._places()):
            if place is not None:
                bins, frames = place
                boxes[part] = [frames.start - 0.5, frames.stop - 0.5, bins.start - 0.5, bins.stop - 0.5]
        boxes *= [step, step, width, width]
        limits = [self.audio.seconds, self.audio.seconds, self.audio.rate / 2, self.audio.rate / 2]
        return np.asarray(np.clip(boxes, 0, limits) + np.array([self.start, self.start, 0, 0]))

    def _places(self) -> list[tuple[slice, slice] | None]:
        """Smallest box of bins and frames around each part."""
        if self.shares is None:
            from scipy.ndimage import find_objects

            return list(find_objects(self.labels + 1, max_label=self.k))
        boxes: list[tuple[slice, slice] | None] = []
        for share in self.shares:
            frames, bins = np.flatnonzero(share.any(axis=0)), np.flatnonzero(share.any(axis=1))
            empty = len(frames) == 0
            boxes.append(None if empty else (slice(bins[0], bins[-1] + 1), slice(frames[0], frames[-1] + 1)))
        return boxes


def named(kind: str, extents: Floats) -> tuple[str, ...]:
    """Name parts by their place: ``part 3: 1.2-2.0 s, 310-640 Hz``."""
    names = []
    for number, (start, end, low, high) in enumerate(extents, start=1):
        place = f"{low:.0f}-{high:.0f} Hz" if high < 1000 else f"{low / 1000:.2f}-{high / 1000:.2f} kHz"
        names.append(f"{kind} {number}: {start:.1f}-{end:.1f} s, {place}")
    return tuple(names)
