"""Where two explanations of one recording differ: on parts that both share, to be seen and heard.

Two methods cut a recording into parts of their own, and two models hear it at rates of their own, so weights cannot be
subtracted. Their maps lie on one grid, but a grid has no sound. Hence:

1. the recording is cut once, into superpixels at the higher of the rates (`shared_parts`);
2. each map, scaled to Σ|.| = 1, goes back from the grid to STFT cells (`to_cells`): what a grid cell g holds is dealt
   out to the STFT cells (f, t) that it overlaps, by energy P times overlap o,

       A[f, t] = Σ_g M[g] · P[f, t] · o_g[f, t] / Σ_{f', t'} P[f', t'] · o_g[f', t'],

   the way on which attribution came (see `grid.lay`), by overlap alone where there is no energy; sums are kept;
3. the cells are summed over each shared part, and one sum is taken from the other (`difference`).

A positive difference is what speaks more for the target in the first explanation than in the second. The strongest
parts of either sign, until 80 % of what differs in that direction, make a sound. ½ Σ|difference| is the *distance*: 0
for the same answer, 1 for two that have nothing in common or say the opposite.

A part is *unheard* by a model when most of its energy lies above that model's Nyquist frequency: what the other model
says of it is no disagreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.spectra import Floats
from otoscope.explainers import grid
from otoscope.explainers.agreement import scaled
from otoscope.explainers.evidence import choose_evidence
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.makers import cut, undivided
from otoscope.explainers.parts import Bools, Parts

N_PARTS = 64
NEGLIGIBLE = 1e-9  # of the whole mass: rounding


@dataclass(frozen=True, eq=False)
class Difference:
    """What one explanation says of the shared parts and another does not.

    Attributes
    ----------
    parts : Parts
        Shared by both.
    first, second : ndarray, shape (k,)
        Attribution of each part, Σ|.| of the maps being 1.
    unheard_by_first, unheard_by_second : ndarray of bool, shape (k,)
    """

    parts: Parts
    first: Floats
    second: Floats
    unheard_by_first: Bools
    unheard_by_second: Bools

    @property
    def difference(self) -> Floats:
        """First minus second, shape (k,)."""
        difference = self.first - self.second
        return np.where(np.abs(difference) > NEGLIGIBLE, difference, 0.0)

    @property
    def distance(self) -> float:
        """Half of Σ|difference|, 0 … 1."""
        return min(1.0, float(np.abs(self.difference).sum()) / 2)

    @property
    def more_for_first(self) -> Bools:
        """Strongest parts that speak more for the target in the first, shape (k,)."""
        return choose_evidence(self.difference, None)

    @property
    def more_for_second(self) -> Bools:
        """Strongest parts that speak more for the target in the second, shape (k,)."""
        return choose_evidence(-self.difference, None)

    def share(self, some: Bools, chosen: Bools) -> float:
        """Share of what differs in the chosen parts that lies in some of them."""
        total = float(np.abs(self.difference[chosen]).sum())
        return float(np.abs(self.difference[some]).sum()) / total if total else 0.0

    def sound(self, chosen: Bools, name: str = "difference") -> Audio:
        """Play some of the parts, everything else being silent."""
        return Audio(self.parts.compose(chosen[None].astype(np.float32))[0], self.parts.audio.rate, name)


def shared_parts(
    explanations: Sequence[Explanation], start: float, duration: float, *, n_parts: int = N_PARTS
) -> Parts:
    """Cut what several explanations are about, once, at the highest of their rates.

    Parameters
    ----------
    explanations : sequence of Explanation
        Of one recording.
    start, duration : float
        Stretch in seconds of the recording, inside all their spans.
    n_parts : int
        Most parts to make.
    """
    finest = max(explanations, key=lambda one: one.audio.rate)
    audio = finest.audio.cut(start - finest.span.start, duration)
    return cut(undivided(audio, finest.parts.stft, start=start), "superpixels", n_parts)


def difference(parts: Parts, maps: tuple[Floats, Floats], rates: tuple[int, int]) -> Difference:
    """Compare two maps on shared parts.

    Parameters
    ----------
    parts : Parts
    maps : pair of ndarray, shape (n_bands, n_columns)
        On the common grid over the stretch of the parts.
    rates : pair of int
        At which the models hear, in hertz.
    """
    first, second = (parts.spread(to_cells(scaled(one), parts)) for one in maps)
    unheard_by_first, unheard_by_second = (unheard(parts, rate) for rate in rates)
    return Difference(parts, first, second, unheard_by_first, unheard_by_second)


def to_cells(laid: Floats, parts: Parts) -> Floats:
    """Deal a map on the common grid out to the STFT cells of parts by energy, shape (n_bins, n_frames).

    The sum is kept, and so is what each band and column holds.

    Parameters
    ----------
    laid : ndarray, shape (n_bands, n_columns)
    parts : Parts
        Whose grid is meant; how they are cut does not matter.
    """
    n_bins, n_frames = parts.labels.shape
    seconds, rate = parts.audio.seconds, parts.audio.rate
    frames = grid.frame_edges(n_frames, parts.stft.hop_length / rate, seconds)
    up = grid.overlap(grid.bin_edges(n_bins, rate / parts.stft.n_fft), grid.band_edges())  # (n_bands, n_bins)
    along = grid.overlap(frames, grid.column_edges(seconds))  # (n_columns, n_frames)
    power = parts.power.astype(np.float64)
    energy = up @ power @ along.T  # (n_bands, n_columns)
    area = up @ np.ones_like(power) @ along.T
    by_energy = np.where(energy > 0, laid, 0) / np.where(energy > 0, energy, 1)
    by_area = np.where((energy <= 0) & (area > 0), laid, 0) / np.where(area > 0, area, 1)
    return np.asarray(power * (up.T @ by_energy @ along) + up.T @ by_area @ along)


def unheard(parts: Parts, rate: int) -> Bools:
    """Which parts lie, with most of their energy, above the Nyquist frequency of a rate, shape (k,)."""
    above = np.zeros_like(parts.power)
    above[parts.stft.frequencies(parts.audio.rate) > rate / 2] = 1
    energy = parts.spread(parts.power)
    by_area = np.where(energy > 0, 0.0, parts.spread(above) / np.maximum(parts.spread(np.ones_like(above)), 1))
    return np.asarray(parts.spread(above * parts.power) / np.where(energy > 0, energy, 1) + by_area > 0.5)
