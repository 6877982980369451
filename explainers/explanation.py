"""`Explanation`: the one result every method ends in.

A weight per part, in score units, that can be drawn (`map`: seconds × hertz, on the common grid), heard (`evidence`,
`complement`) and checked (`round_trip`: the model's own answer to both). What a method cannot give is None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.model import Output
from otoscope.adapters.spectra import Float32
from otoscope.adapters.windows import Span
from otoscope.explainers import grid
from otoscope.explainers.curves import Curves
from otoscope.explainers.evidence import evidence_parts, members
from otoscope.explainers.neighbourhoods import Masks
from otoscope.explainers.parts import Bools, Parts
from otoscope.explainers.remedies import in_use
from otoscope.explainers.targets import Floats, Scale, Target
from otoscope.explainers.verdict import Verdict, judge

Units = Literal["log-odds", "score", "relative"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method finds out; everything else of an explanation is the same for all methods.

    Attributes
    ----------
    parts : Parts
    weights : ndarray, shape (n_weights,)
        Signed, one per part, or one per group of parts where `groups` is given.
    n_calls : int
    se : ndarray, shape (n_weights,), or None
    groups : ndarray of bool, shape (n_weights, k), or None
        Which parts a weight stands for; None: weight j for part j.
    names : tuple of str
        Of the weights.
    units : {"log-odds", "score", "relative"}, optional
        Those of the scale where None.
    map : ndarray, shape (108, n_columns), or None
        On the common grid; spread from the weights where None.
    masks : ndarray, shape (n, k), and scores : ndarray, shape (n, n_classes), or None
        The calls behind a fit; of a two-level explanation the answers of the mid-level model.
    route : str
    interval : ndarray, shape (n_weights, 2), or None
        Bootstrap intervals of 95 %.
    ask : callable or None
        More scores by the same route: masks (n, k) to scores (n, n_classes).
    fidelity : dict
        Figures of the fit: r2, interactions, intercept, route_difference …
    native : dict of arrays
        The method's own map (Grad-CAM), with its axes.
    notes : tuple of str
    """

    parts: Parts
    weights: Floats
    n_calls: int
    se: Floats | None = None
    groups: Bools | None = None
    names: tuple[str, ...] = ()
    units: Units | None = None
    map: Floats | None = None
    masks: Masks | None = None
    scores: Floats | None = None
    route: str = "waveform"
    interval: Floats | None = None
    ask: Callable[[Masks], Floats] | None = None
    fidelity: dict[str, float | None] = field(default_factory=dict)
    native: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """An answer of the model: its score of the target, that on the explained scale, and those of all classes."""

    score: float
    scaled: float
    top: str
    all: tuple[float, ...]


@dataclass(frozen=True)
class WindowScore:
    """The score of the target in one of the model's windows, from `start` to `end` in seconds of the recording."""

    start: float
    end: float
    score: float


@dataclass(frozen=True)
class RoundTrip:
    """What the model says to the recording, to the evidence alone, to everything else, and to all parts off."""

    original: Score
    evidence: Score
    complement: Score
    off: Score


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model said what it said about a span of a recording.

    Attributes
    ----------
    method : str
    model : str
        Name the model was asked for by.
    fingerprint : str
    labels : tuple of str
    output : {"softmax", "sigmoid", "regression"}
    target : Target
    scale : {"log_odds", "score"}
    units : {"log-odds", "score", "relative"}
    span : Span
    parts : Parts
    names : tuple of str, length n_weights
    weights : ndarray, shape (n_weights,)
        Signed; how much each part (or group of parts) adds to the target on the scale.
    se : ndarray, shape (n_weights,), or None
    interval : ndarray, shape (n_weights, 2), or None
        Bootstrap intervals of 95 %.
    groups : ndarray of bool, shape (n_weights, k), or None
    map : ndarray, shape (n_bands, n_columns)
        The weights laid out over the common grid; the sum is that of the weights.
    native : dict of arrays
    chosen : ndarray of bool, shape (n_weights,)
        The weights whose parts are the evidence.
    evidence, complement : Audio
    round_trip : RoundTrip
    windows : tuple of WindowScore
        The score of the recording is their mean.
    fidelity : dict
        Figures of the fit.
    gates : dict
        Figures of `otoscope.explainers.gates`; empty where none were asked for.
    curves : Curves or None
    masks, scores : ndarray or None
    n_calls : int
        All answers asked of the model; those of the gates and of a mid-level model included.
    seconds : float
        Time it took.
    memory : int or None
        Largest resident memory of the process until then, in bytes.
    seed : int
    settings : dict
    route : str
    versions : dict
    audio_sha256 : str
        Of the whole recording.
    notes : tuple of str
        What the reader must know: padding, silence, clipping …
    """

    method: str
    model: str
    fingerprint: str
    labels: tuple[str, ...]
    output: Output
    target: Target
    scale: Scale
    units: Units
    span: Span
    parts: Parts
    names: tuple[str, ...]
    weights: Floats
    se: Floats | None
    interval: Floats | None
    groups: Bools | None
    map: Floats
    native: dict[str, Any]
    chosen: Bools
    evidence: Audio
    complement: Audio
    round_trip: RoundTrip
    windows: tuple[WindowScore, ...]
    fidelity: dict[str, float | None]
    gates: dict[str, float | None]
    curves: Curves | None
    masks: Masks | None
    scores: Floats | None
    n_calls: int
    seconds: float
    memory: int | None
    seed: int
    settings: dict[str, Any]
    route: str
    versions: dict[str, str]
    audio_sha256: str
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Tell in one line what was found; the arrays would fill pages."""
        best = self.names[self.strongest(1)[0]]
        return (
            f"<Explanation {self.method} of {self.target.name!r} by {self.model}: score {self.score.score:.3f}, "
            f"evidence alone {self.round_trip.evidence.score:.3f}, strongest {best!r}>"
        )

    @property
    def audio(self) -> Audio:
        """The explained span at the rate of the parts: the model's, or a mid-level model's where that is higher."""
        return self.parts.audio

    @property
    def times(self) -> Floats:
        """Centres of the map's columns in seconds from the start of the recording, shape (n_columns,)."""
        edges = grid.column_edges(self.audio.seconds)
        return np.asarray(self.span.start + (edges[1:] + edges[:-1]) / 2)

    @property
    def frequencies(self) -> Floats:
        """Centres of the map's bands in hertz, shape (n_bands,)."""
        return grid.band_centres()

    @property
    def heard(self) -> Bools:
        """Which bands lie below the model's Nyquist frequency, shape (n_bands,)."""
        return grid.heard(self.parts.audio.rate)

    @property
    def score(self) -> Score:
        """The model's answer to the recording."""
        return self.round_trip.original

    @property
    def score_off(self) -> Score:
        """The model's answer to all parts off."""
        return self.round_trip.off

    @property
    def gap(self) -> float | None:
        """What the weights leave open: score − score_off − Σ weights; None for relative weights."""
        if self.units == "relative":
            return None
        return self.score.scaled - self.score_off.scaled - float(self.weights.sum())

    @property
    def verdict(self) -> Verdict | None:
        """Whether to trust this explanation, and why; None where no gates were asked for."""
        if not self.gates:
            return None
        window = self.windows[0].end - self.windows[0].start if self.windows else None
        made = in_use(self.method, self.settings, duration=self.span.duration, window=window)
        return judge({**self.fidelity, **self.gates}, made)

    @cached_property
    def energy(self) -> Floats:
        """Share of the recording's energy that each weight stands for, shape (n_weights,)."""
        return members(self.groups, self.parts.k) @ self.parts.energy

    @property
    def evidence_mask(self) -> Bools:
        """Which parts are evidence, shape (k,); parts that several chosen groups share count once."""
        return evidence_parts(self.groups, self.chosen, self.parts.k)

    def save(self, folder: str | Path, *, equal_loudness: bool = False) -> Path:
        """Write the explanation into a folder; see `otoscope.explainers.store.save`."""
        from otoscope.explainers.store import save

        return save(self, folder, equal_loudness=equal_loudness)

    def _repr_html_(self) -> str:
        """Show picture, sounds and story in a notebook."""
        from otoscope.explainers.notebook import as_html

        return as_html(self)

    def strongest(self, n: int = 3) -> list[int]:
        """Weights of largest size, the strongest first."""
        return [int(index) for index in np.argsort(-np.abs(self.weights), kind="stable")[:n]]


def spread(outcome: Outcome, power: Float32 | None = None) -> Floats:
    """Lay weights on the common grid, within each part in proportion to its energy, (108, n_columns).

    A part is heard where it has energy, not over its whole box; a part without energy is spread by area. Another
    `power` (n_bins, n_frames) than the recording's spreads otherwise.
    """
    parts = outcome.parts
    power = parts.power if power is None else power
    energy = parts.spread(power)  # (k,)
    area = parts.spread(np.ones_like(parts.power))
    of_weights = members(outcome.groups, parts.k)
    group_energy, group_area = of_weights @ energy, of_weights @ area
    by_energy = np.where(group_energy > 0, outcome.weights / np.where(group_energy > 0, group_energy, 1), 0)
    by_area = np.where(group_energy > 0, 0, outcome.weights / np.where(group_area > 0, group_area, 1))
    per_energy, per_area = of_weights.T @ by_energy, of_weights.T @ by_area  # (k,)
    if parts.shares is None:
        cells = per_energy[parts.labels] * power + per_area[parts.labels]
    else:
        cells = np.zeros(parts.labels.shape)
        for part in range(parts.k):
            cells += parts.share(part) * (per_energy[part] * power + per_area[part])
    return lay_cells(parts, cells)


def lay_cells(parts: Parts, cells: Floats) -> Floats:
    """Lay a map over the parts' STFT cells (n_bins, n_frames) on the common grid."""
    n_bins, n_frames = cells.shape
    stft, audio = parts.stft, parts.audio
    return grid.lay(
        cells,
        grid.bin_edges(n_bins, audio.rate / stft.n_fft),
        grid.frame_edges(n_frames, stft.hop_length / audio.rate, audio.seconds),
        audio.seconds,
    )
