"""Planted causes: models that hear one known thing, and how much of an explanation lies on it.

A `Cause` is a recording of four seconds, a model whose score depends on the energy in one place only (or two), and the
place. `share` is the share of a map's positive (or negative) mass that lies there, on the common grid, where the place
is widened by the STFT's own resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import fft
from torch import nn

from otoscope.adapters.audio import Audio
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.spectra import Stft
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation, Outcome, lay_cells, spread
from otoscope.explainers.localisation import Box as Box  # for other tests too
from otoscope.explainers.localisation import mass_inside, region_of
from otoscope.explainers.methods import Settings, find_method
from otoscope.explainers.parts import Parts
from tests.builders import Floats, Function, music, noise, sigmoid, tone

RATE = 22050
SECONDS = 4.0
N_FFT = 2048


@dataclass(frozen=True)
class Cause:
    """A recording, a model that hears one thing in it, and where that thing is.

    Attributes
    ----------
    name : str
    samples : ndarray
    cues : tuple of tuples of boxes
        Each cue is a union of boxes; with several, all are needed.
    sign : {1, -1}
        -1 where the cue lowers the score.
    lime, occlusion : tuple of settings
        Those with a part maker that can express the cue.
    louder : float
        Power at which the model is half convinced.
    """

    name: str
    samples: npt.NDArray[np.float32]
    cues: tuple[tuple[Box, ...], ...]
    sign: int = 1
    lime: tuple[dict[str, Any], ...] = ()
    occlusion: tuple[dict[str, Any], ...] = ()
    louder: float = 1e-5

    @property
    def audio(self) -> Audio:
        """The recording."""
        return Audio(self.samples, RATE, self.name)

    def model(self) -> Function:
        """Make a smooth function of the log-energy in each cue."""

        def score(waveforms: npt.NDArray[np.float32]) -> Floats:
            heard = np.ones(len(waveforms))
            for boxes in self.cues:
                heard *= sigmoid(2 * np.log10(energy_in(waveforms, boxes) / self.louder + 1e-2))
            return (heard if self.sign > 0 else 1 - heard)[:, None]

        return Function(score, rate=RATE)

    def network(self) -> NetworkModel:
        """Make the same idea a network: each channel of its convolution sees one cue's bands and frames."""
        front_end = FrontEnd(RATE, Stft(N_FFT, 512), n_bands=256, compression="log1p", reference=1e3)
        return NetworkModel(
            Listener(front_end, self.cues, self.sign),
            Hearing(RATE, round(SECONDS * RATE), front_end=front_end),
            labels=("yes",),
            output="sigmoid",
        )


def energy_in(waveforms: npt.NDArray[np.float32], boxes: Sequence[Box], *, rate: int = RATE) -> Floats:
    """Mean power within boxes of seconds × hertz, (n,); boxes of the same seconds share one transform."""
    total = np.zeros(len(waveforms))
    for start, end in sorted({box[:2] for box in boxes}):
        cut = waveforms[:, round(start * rate) : round(end * rate)]
        power = np.abs(fft.rfft(cut, axis=1)) ** 2  # (n, n_bins)
        frequencies = np.arange(power.shape[1]) * rate / cut.shape[1]
        for low, high in (box[2:] for box in boxes if box[:2] == (start, end)):
            inside = (frequencies >= low) & (frequencies < high)
            total += 2 * power[:, inside].sum(axis=1, dtype=np.float64) / cut.shape[1] ** 2
    return total


class Listener(nn.Module):
    """Compressed bands → each cue's own bands and frames → pooling → convolution → ReLU in place → one logit."""

    def __init__(
        self, front_end: FrontEnd, cues: Sequence[Sequence[Box]], sign: int, *, seconds: float = SECONDS
    ) -> None:
        super().__init__()
        edges, rate = front_end.edges, front_end.rate
        times = front_end.stft.times(front_end.stft.n_frames(round(seconds * rate)), rate)
        masks = np.zeros((len(cues), len(edges) - 1, len(times)), dtype=np.float32)
        for cue, boxes in enumerate(cues):
            for start, end, low, high in boxes:
                bands = (edges[1:] > low) & (edges[:-1] < high)
                masks[cue] += np.outer(bands, (times >= start) & (times < end))
        self.masks = nn.Buffer(torch.from_numpy(masks.clip(max=1)))
        self.pool = nn.AvgPool2d((1, 2))
        self.conv = nn.Conv2d(len(cues), len(cues), 1, groups=len(cues), bias=False)
        nn.init.ones_(self.conv.weight)
        self.relu = nn.ReLU(inplace=True)
        self.sign = sign

    def levels(self, bands: torch.Tensor) -> torch.Tensor:
        """Mean level of compressed bands (n, n_bands, n_frames) in each cue's own cells, (n, n_cues)."""
        heard = self.relu(self.conv(self.pool(bands[:, None] * self.masks)))
        level: torch.Tensor = heard.sum((-2, -1)) / self.masks.sum((-2, -1))
        return level

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        """Score compressed bands (n, n_bands, n_frames)."""
        level = self.levels(bands)
        return self.sign * torch.nn.functional.logsigmoid(4 * level - 2).sum(1, keepdim=True)


def place(boxes: Sequence[Box], *, rate: int = RATE, seconds: float = SECONDS) -> npt.NDArray[np.bool_]:
    """Cells of the common grid that lie in the boxes, widened by half a frame and two bins."""
    return region_of(boxes, seconds, seconds_margin=N_FFT / 2 / rate, hertz_margin=2 * rate / N_FFT)


def share(attribution: Floats, cause: Cause) -> float:
    """Share of the mass of the cue's sign that lies on the cue."""
    return mass_inside(attribution, place([box for cue in cause.cues for box in cue]), sign=cause.sign)


def energy_share(parts: Parts, cause: Cause) -> float:
    """Share of the recording's energy that lies on the cue."""
    laid = lay_cells(parts, parts.power.astype(np.float64))
    return float(laid[place([box for cue in cause.cues for box in cue])].sum() / laid.sum())


def shuffled(explanation: Explanation, seed: int) -> Floats:
    """Map of the same weights on other parts."""
    weights = np.random.default_rng(seed).permutation(explanation.weights)
    return spread(Outcome(explanation.parts, weights, 0, groups=explanation.groups))


def explained(cause: Cause, method: str, settings: dict[str, Any], *, calls: int = 512, seed: int = 0) -> Explanation:
    """Explain a cause."""
    own = {"calls": calls} | settings if method == "lime" else settings
    model: Any = cause.network() if find_method(method).white_box else cause.model()
    return explain(model, cause.audio, method=method, target="yes", settings=Settings(**own), seed=seed)


def _background(seed: int) -> npt.NDArray[np.float32]:
    return music(seconds=SECONDS, rate=RATE, seed=seed)


def only_2_to_3_seconds() -> Cause:
    """Hears everything between 2 and 3 s and nothing else."""
    return Cause(
        "2–3 s",
        _background(0),
        (((2.0, 3.0, 0.0, RATE / 2),),),
        lime=({"parts": "grid"},),
        occlusion=({"parts": "grid"},),
        louder=1e-3,
    )


A4 = tuple(440.0 * h for h in range(1, 7))


def only_one_harmonic_series() -> Cause:
    """Hears the partials of A4 among other notes."""
    samples = 0.002 * noise(seconds=SECONDS, rate=RATE, level=1.0)
    for fundamental, n_partials in ((440.0, 6), (622.254, 4), (783.991, 3), (311.127, 4)):
        for h in range(1, n_partials + 1):
            samples = samples + tone(h * fundamental, seconds=SECONDS, rate=RATE, level=0.1 / h)
    boxes = tuple((0.0, SECONDS, f * 0.98, f * 1.02) for f in A4)
    notes = ("A4", "D#5", "G5", "D#4")
    return Cause(
        "one harmonic series",
        np.asarray(samples, dtype=np.float32),
        (boxes,),
        lime=({"parts": "harmonic"}, {"parts": "superpixels"}),
        occlusion=({"notes": notes}, {"combs": "disjoint"}, {"parts": "superpixels"}),
        louder=1e-3,
    )


def only_a_faint_tone() -> Cause:
    """Hears a tone at 9 kHz, 29 dB below the music around it."""
    samples = music(seconds=SECONDS, rate=RATE, seed=1, clicks=0.0) + tone(
        9000.0, seconds=SECONDS, rate=RATE, level=0.004, start=1.0, stop=3.0
    )
    return Cause(
        "faint 9 kHz tone",
        samples,
        (((1.0, 3.0, 8900.0, 9100.0),),),
        lime=({"parts": "superpixels"}, {"parts": "slic"}, {"parts": "grid"}),
        occlusion=({"parts": "superpixels"}, {"parts": "slic"}, {"parts": "grid"}),
        louder=1e-6,
    )


def two_cues_together() -> Cause:
    """Needs a low burst early and a high one late."""
    samples = _background(2) * 0.3
    samples = samples + tone(1500.0, seconds=SECONDS, rate=RATE, level=0.05, start=0.5, stop=1.25)
    samples = samples + tone(6000.0, seconds=SECONDS, rate=RATE, level=0.02, start=2.5, stop=3.25)
    return Cause(
        "two cues together",
        samples,
        (((0.5, 1.25, 1400.0, 1600.0),), ((2.5, 3.25, 5800.0, 6200.0),)),
        lime=({"parts": "superpixels"}, {"parts": "quickshift"}, {"parts": "watershed"}, {"parts": "grid"}),
        occlusion=({"parts": "superpixels"}, {"parts": "grid"}),
        louder=1e-5,
    )


def a_cue_that_lowers_the_score() -> Cause:
    """Says no to a hiss between 4 and 8 kHz."""
    hiss = fft.rfft(noise(seconds=SECONDS, rate=RATE, level=0.1))
    frequencies = np.arange(len(hiss)) / SECONDS
    hiss[(frequencies < 4000) | (frequencies > 8000)] = 0
    gate = tone(0.0, seconds=SECONDS, rate=RATE) * 0
    gate[round(1.5 * RATE) : round(2.5 * RATE)] = 1
    samples = _background(3) + gate * fft.irfft(hiss, n=len(gate)).astype(np.float32)
    return Cause(
        "a cue that lowers",
        samples,
        (((1.5, 2.5, 4000.0, 8000.0),),),
        sign=-1,
        lime=({"parts": "superpixels"}, {"parts": "slic"}, {"parts": "watershed"}),
        occlusion=({"parts": "superpixels"}, {"parts": "slic"}),
        louder=1e-4,
    )


CAUSES: tuple[Callable[[], Cause], ...] = (
    only_2_to_3_seconds,
    only_one_harmonic_series,
    only_a_faint_tone,
    two_cues_together,
    a_cue_that_lowers_the_score,
)
