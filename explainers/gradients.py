"""Gradient methods: attribution to the cells of the STFT, by the gradient of the value in their gains.

All three differentiate value(x(m)) of `otoscope.explainers.cell_mask` in the cell mask m, through Captum.

* **saliency** (Simonyan, Vedaldi & Zisserman, 2014): g = ∂value/∂m at m = 1, kept signed. A cell's g tells how fast the
  value rises as this cell grows louder; summed over a part it is the derivative by the part's gain.
* **smoothgrad** (Smilkov et al., 2017): the mean of g at m = 1 + ε, ε drawn afresh for each cell from N(0, noise²):
  what is left when every cell's level is uncertain by ``noise`` (.15: about 1.2 dB).
* **integrated_gradients** (Sundararajan, Taly & Yan, 2017): ∫₀¹ ∂value/∂m(α·1) dα, along the path from all off to the
  recording, all cells growing together. Its sum is value(recording) − value(off) (completeness), so the weights are in
  the units of the explained scale.

The integral is taken over levels rather than gains. A model that compresses (log-mel) or levels its input changes most
at gains close to 0, where equal steps of α are few; with α(u) = (e^{cu} − 1)/(e^c − 1) the steps of u are even in
decibels over the upper 20·c/ln 10 dB. The path is the same and so is the integral, ∫ g(α(u))·α′(u) du; only the
quadrature is finer. What it misses is reported as ``completeness``: Σ weights − (value(recording) − value(off)).

Saliency and smoothgrad are slopes, not amounts, so their weights are relative: Σ|w| = 1. A slope is 0 where a ReLU, a
floor or a ceiling holds the value still, however much the sound matters; the integral sees the way up to there. Of
stems, whose sounds are no cells of the mix, each cell's attribution is shared out as its power is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from otoscope.explainers.cell_mask import Ask, asking, finite, whole_mask
from otoscope.explainers.explanation import Outcome, lay_cells
from otoscope.explainers.makers import cut
from otoscope.explainers.methods import Request, method, refuse_black_box
from otoscope.explainers.parts import Parts
from otoscope.explainers.targets import Floats

if TYPE_CHECKING:
    from otoscope.explainers.routes import Progress

DECIBELS = 40.0  # of even steps; 32 of them missed 0 of 8.9 on a random wav2vec2 (even gains: 2.6; 100 dB: 0.02)
MOST_AT_ONCE = 4  # windows whose activations are kept for the way back
INCOMPLETE = 0.05  # of Σ|w|: from here on it is said


@method(
    "saliency",
    "differentiate the target by the loudness of every cell of the spectrogram",
    uses=set(),
    white_box=True,
)
def saliency(request: Request) -> Outcome:
    """Take the signed gradient at the recording."""
    from captum.attr import Saliency

    parts = cells_of(request, "saliency")
    gradient = Saliency(asking(request, parts)).attribute(whole_mask(parts), abs=False)
    return relative(parts, finite(gradient, "saliency"), n_calls=1)


@method(
    "smoothgrad",
    "average that derivative over recordings with noise on every cell's loudness",
    uses={"n_draws", "noise"},
    white_box=True,
)
def smoothgrad(request: Request) -> Outcome:
    """Average the signed gradient over noisy cell masks."""
    from captum.attr import NoiseTunnel, Saliency

    parts, draws = cells_of(request, "smoothgrad"), request.settings.n_draws
    tunnel = NoiseTunnel(Saliency(counting(asking(request, parts), request.progress, draws)))
    with torch.random.fork_rng(devices=[]):  # masks are drawn on the CPU, one at a time: the same for every batch size
        torch.default_generator.manual_seed(request.seed)
        gradient = tunnel.attribute(
            whole_mask(parts),
            nt_type="smoothgrad",
            nt_samples=draws,
            nt_samples_batch_size=1,
            stdevs=request.settings.noise,
            abs=False,
        )
    return relative(parts, finite(gradient, "smoothgrad"), n_calls=draws)


@method(
    "integrated_gradients",
    "integrate that derivative from everything off to the recording; weights add up to the difference",
    uses={"n_steps"},
    white_box=True,
)
def integrated_gradients(request: Request) -> Outcome:
    """Integrate the gradient along the path from off to the recording."""
    from captum.attr import IntegratedGradients

    parts, steps = cells_of(request, "integrated_gradients"), request.settings.n_steps
    ask = asking(request, parts)
    on = whole_mask(parts)
    path = counting(lambda levels: ask(gain(levels)), request.progress, steps)
    attribution = IntegratedGradients(path).attribute(
        on, torch.zeros_like(on), n_steps=steps, internal_batch_size=at_once(request)
    )
    cells = finite(attribution, "integrated_gradients")
    with torch.no_grad():
        ends = [float(ask(mask)) for mask in (on, torch.zeros_like(on))]
    weights = parts.spread(cells)
    missed = float(weights.sum()) - (ends[0] - ends[1])
    return Outcome(
        parts,
        weights,
        steps + len(ends),
        names=parts.names,
        map=lay_cells(parts, cells),
        route="gradients",
        fidelity={"completeness": missed},
        notes=_incomplete(missed, float(np.abs(weights).sum())),
    )


def cells_of(request: Request, name: str) -> Parts:
    """Take the recording apart for a method that needs gradients.

    Raises
    ------
    OtoscopeError
        If the model has none, naming the methods that fit.
    """
    refuse_black_box(name, request.model.model)
    return cut(request.whole, request.settings.parts or "superpixels", request.settings.n_parts)


def relative(
    parts: Parts,
    cells: Floats,
    *,
    n_calls: int,
    silent: str = "the gradient is zero everywhere: nothing moves the target",
) -> Outcome:
    """Scale an attribution (n_bins, n_frames) to Σ|w| = 1 over the parts."""
    weights = parts.spread(cells)
    size = float(np.abs(weights).sum()) or 1.0
    return Outcome(
        parts,
        weights / size,
        n_calls,
        names=parts.names,
        units="relative",
        map=lay_cells(parts, cells) / size,
        route="gradients",
        notes=() if weights.any() else (silent,),
    )


def gain(levels: torch.Tensor) -> torch.Tensor:
    """Bring levels 0 … 1 to gains 0 … 1, evenly in decibels but for the faintest; see the module's text."""
    c = DECIBELS / 20 * math.log(10)
    return torch.expm1(c * levels) / math.expm1(c)


def at_once(request: Request) -> int:
    """Count the recordings of one batch; their activations are kept for the way back, so there are few."""
    return max(1, min(request.batch_size, MOST_AT_ONCE) // len(request.model.starts))


def counting(ask: Ask, progress: Progress, total: int) -> Ask:
    """Tell the progress of what is asked."""
    done = 0

    def counted(masks: torch.Tensor) -> torch.Tensor:
        nonlocal done
        values = ask(masks)
        done += len(masks)
        progress(done, total)
        return values

    return counted


def _incomplete(missed: float, size: float) -> tuple[str, ...]:
    if abs(missed) <= INCOMPLETE * size + 1e-6:
        return ()
    return (
        f"the steps of the integral miss {abs(missed):.2g}, the weights add up to {size:.2g} in size; raise --n-steps",
    )
