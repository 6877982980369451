"""Other tools' explanations of the same model: `lime_image`, Captum's Lime, KernelShap and Occlusion, and RISE.

They all see the recording as one *picture*, which is also what our part makers see: decibels over rows, 24 to an
octave, and frames. They perturb cells of the picture; the sound of a perturbed picture is the inverse STFT of the
recording's magnitudes, scaled as its cells are, with the recording's phase; and the same `predict` is asked about it.
So all tools ask one black box for sound, and an off cell is silence. They explain log-odds, as we do.

lime_image
    `lime.lime_image` with its default kernel and Ridge; ``hide_color=0`` is silence. Its segments are those published
    for spectrograms (felzenszwalb, scale 25, min_size 40: about 120 here). Its own default, quickshift, finds a dozen
    on this picture, or 90 with linear frequencies; on eight scenes 54 % of the mass lay on the cues with felzenszwalb,
    22 % and 32 % with these.
Captum Lime, Captum KernelShap
    With the same segments as feature mask, and their default surrogates.
Captum Occlusion
    A sliding window of `WINDOW` of the picture in each direction, in as many places as there are calls for.
RISE
    As published (Petsiuk, Das & Saenko, 2018): random grids of 8 × 8 cells, on with probability ½, upsampled
    bilinearly and shifted; the map is the mean mask, weighted by the score. It is centred: without that, no map could
    say that a cue lowers the score, and every cell would have the sign of the score.

Each gives values per cell of the picture. `laid` puts them on the common grid, spread within a segment by energy or by
area.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from otoscope.adapters.audio import Audio
from otoscope.adapters.model import ask
from otoscope.adapters.spectra import Stft
from otoscope.explainers.explanation import lay_cells
from otoscope.explainers.makers import picture, rows, undivided
from otoscope.explainers.parts import Labels, Parts
from tests.builders import Float32, Floats

BATCH = 32
WINDOW = 1 / 8
RISE_GRID = 8
Spreading = Literal["energy", "area"]
SPREADINGS: tuple[Spreading, ...] = ("energy", "area")


@dataclass(eq=False)
class Picture:
    """A recording as a picture, and a model that is asked about its perturbations.

    Attributes
    ----------
    model : Model
        With one sigmoid output.
    audio : Audio
    stft : Stft
    asked : int
        Answers so far.
    """

    model: Any
    audio: Audio
    stft: Stft = field(default_factory=Stft)
    asked: int = 0

    @cached_property
    def whole(self) -> Parts:
        """The undivided recording."""
        return undivided(self.audio, self.stft)

    @cached_property
    def rows(self) -> Labels:
        """Row of each bin, shape (n_bins,)."""
        return rows(self.whole)

    @cached_property
    def level(self) -> Float32:
        """The picture, shape (n_rows, n_frames), 0 (80 dB below its loudest cell) to 1."""
        return picture(self.whole)

    @cached_property
    def segments(self) -> Labels:
        """Segments for the tools that want some, shape (n_rows, n_frames)."""
        from skimage.segmentation import felzenszwalb

        return np.asarray(felzenszwalb(self.level, scale=25, min_size=40, channel_axis=None), dtype=np.intp)

    @cached_property
    def parts(self) -> Parts:
        """The segments as sounds."""
        names = tuple(map(str, range(self.segments.max() + 1)))
        return self.whole.with_(labels=self.segments[self.rows], names=names)

    @cached_property
    def loudest(self) -> tuple[Labels, ...]:
        """Row and frame of the loudest cell of each segment: it shows whether the segment is on."""
        cells = np.zeros(self.segments.max() + 1, dtype=np.intp)
        order = np.argsort(self.level, axis=None)
        cells[self.segments.ravel()[order]] = order  # of several, the last one counts
        return np.unravel_index(cells, self.segments.shape)

    def answers(self, masks: npt.NDArray[np.floating]) -> Floats:
        """Log-odds where cells are scaled by `masks` (n, n_rows, n_frames), (n,)."""
        scale = torch.from_numpy(np.ascontiguousarray(masks, dtype=np.float32))[:, torch.from_numpy(self.rows)]
        return self.heard(self.stft.inverse(self.whole.spectrum * scale, len(self.audio.samples)).numpy())

    def switched(self, pictures: npt.NDArray[np.floating]) -> Floats:
        """Log-odds of pictures (n, n_rows, n_frames) with whole segments off, (n,): sums of the segments' sounds."""
        rows, frames = self.loudest
        return self.heard(self.parts.compose(pictures[:, rows, frames] == self.level[rows, frames]))

    def heard(self, sounds: Float32) -> Floats:
        """Log-odds of sounds (n, n_samples), (n,)."""
        self.asked += len(sounds)
        scores = ask(self.model, sounds)[:, 0].clip(1e-6, 1 - 1e-6)
        return np.asarray(np.log(scores / (1 - scores)))


@dataclass(frozen=True, eq=False)
class Cells:
    """What a tool says about a picture.

    Attributes
    ----------
    values : ndarray, shape (n_rows, n_frames)
        Of a tool with segments each cell has the weight of its segment.
    segments : ndarray of int, shape (n_rows, n_frames), optional
    """

    values: Floats
    segments: Labels | None = None


def laid(cells: Cells, seen: Picture, spreading: Spreading) -> Floats:
    """Lay values on the common grid, (108, n_columns), in proportion to the energy or to the area of the picture.

    The weight of a segment is shared out among its cells; a cell's own value counts as it is.
    """
    size = np.ones(cells.values.shape)
    if spreading == "energy":
        size = np.zeros_like(size)
        np.add.at(size, seen.rows, seen.whole.power)
    of_row = np.zeros_like(size)
    values = cells.values * size
    if cells.segments is not None:
        total = np.bincount(cells.segments.ravel(), weights=size.ravel())
        values = values / np.maximum(total, 1e-30)[cells.segments]
    within = np.ones(seen.whole.power.shape) if spreading == "area" else seen.whole.power.astype(np.float64)
    np.add.at(of_row, seen.rows, within)
    return lay_cells(seen.whole, values[seen.rows] * within / np.maximum(of_row, 1e-30)[seen.rows])


def lime_image(seen: Picture, calls: int, seed: int) -> Cells:
    """Explain by `lime.lime_image`."""
    from lime.lime_image import LimeImageExplainer

    original = np.repeat(seen.level[..., None], 3, axis=2)
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that cannot be switched off
        explanation = LimeImageExplainer(random_state=seed).explain_instance(
            original,
            lambda images: seen.switched(images[..., 0])[:, None],
            labels=(0,),
            top_labels=None,
            hide_color=0,
            num_samples=calls,
            batch_size=BATCH,
            segmentation_fn=lambda _: seen.segments,
        )
    weights = np.zeros(seen.segments.max() + 1)
    for segment, weight in explanation.local_exp[0]:
        weights[segment] = weight
    return Cells(weights[seen.segments], seen.segments)


def _by_captum(name: str) -> Callable[[Picture, int, int], Cells]:
    def explain(seen: Picture, calls: int, seed: int) -> Cells:
        from captum import attr

        original = torch.from_numpy(seen.level)[None]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            values = getattr(attr, name)(_forward(seen.switched)).attribute(
                original,
                baselines=0,
                feature_mask=torch.from_numpy(seen.segments)[None],
                n_samples=calls,
                perturbations_per_eval=BATCH,
            )
        return Cells(values[0].double().numpy(), seen.segments)

    return explain


def _forward(asked: Callable[[npt.NDArray[np.floating]], Floats]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Give Captum a function of pictures (n, n_rows, n_frames)."""
    return lambda pictures: torch.from_numpy(asked(pictures.numpy()))


def captum_occlusion(seen: Picture, calls: int, seed: int) -> Cells:
    """Explain by Captum's `Occlusion`; it draws nothing."""
    from captum.attr import Occlusion

    del seed
    window, strides = sliding(seen.level.shape, calls - 1)  # and one call for the whole
    values = Occlusion(_forward(lambda pictures: seen.answers(pictures == seen.level))).attribute(
        torch.from_numpy(seen.level)[None],
        sliding_window_shapes=window,
        strides=strides,
        baselines=0,
        perturbations_per_eval=BATCH,
    )
    return Cells(values[0].double().numpy())


def sliding(shape: tuple[int, ...], places: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Choose window and strides, in rows and frames, such that there are as many places as may be."""
    window = tuple(max(1, round(WINDOW * length)) for length in shape)

    def count(strides: tuple[int, ...]) -> int:
        moves = [-(-(length - size) // step) for length, size, step in zip(shape, window, strides, strict=True)]
        return (moves[0] + 1) * (moves[1] + 1)

    known = itertools.product(*(range(1, size + 1) for size in window))
    return window, max((strides for strides in known if count(strides) <= places), key=count)


def rise(seen: Picture, calls: int, seed: int) -> Cells:
    """Explain by RISE: Σ (score − mean score) · mask, over the mean of the masks."""
    rng = np.random.default_rng(seed)
    total, weighted, scores = np.zeros(seen.level.shape), np.zeros(seen.level.shape), []
    for first in range(0, calls, BATCH):
        masks = rise_masks(rng, min(BATCH, calls - first), seen.level.shape)
        found = seen.answers(masks)
        scores.append(found)
        total += masks.sum(axis=0)
        weighted += np.einsum("n,nrf->rf", found, masks)
    mean = np.concatenate(scores).mean()
    return Cells((weighted - mean * total) / total)


def rise_masks(rng: np.random.Generator, n: int, shape: tuple[int, ...]) -> Float32:
    """Draw smooth masks (n, n_rows, n_frames) between 0 and 1."""
    cell = [-(-length // RISE_GRID) for length in shape]
    small = torch.from_numpy(rng.integers(0, 2, (n, 1, RISE_GRID, RISE_GRID)).astype(np.float32))
    size = [(RISE_GRID + 1) * length for length in cell]
    large = torch.nn.functional.interpolate(small, size=size, mode="bilinear", align_corners=False)[:, 0].numpy()
    shifts = [rng.integers(0, length, n) for length in cell]
    return np.stack([mask[r : r + shape[0], c : c + shape[1]] for mask, r, c in zip(large, *shifts, strict=True)])


PEERS: dict[str, Callable[[Picture, int, int], Cells]] = {
    "lime_image": lime_image,
    "Captum Lime": _by_captum("Lime"),
    "Captum KernelShap": _by_captum("KernelShap"),
    "Captum Occlusion": captum_occlusion,
    "RISE": rise,
}
DRAWS_NOTHING = ("Captum Occlusion",)
