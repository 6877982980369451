"""The patient of the doctor: a model under examination, the sounds it is asked about, and what is found.

A check is a small function of a `Patient`, registered in `CHECKS` by the decorator `check`. The patient remembers what
is dear, above all its answers to the reference sounds, so that an examination costs about a hundred items. Reference
sounds are the eight fixed sounds by which opaque models are recognised, a seeded piece of music (notes, bursts of
noise, a rest), and the user's recording where there is one; the last one or two are *ordinary* sounds, and how much a
change moves the model is measured on them.

Changes are measured on the explained scale of the class that scores highest on that sound: log-odds for probabilities
clipped to [1e-6, 1 − 1e-6], the value itself for regression.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np

from otoscope.adapters import traces
from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats, Model, checked, probe_sounds
from otoscope.adapters.reference_sounds import loudest, music
from otoscope.adapters.windows import DITHER

Status = Literal["pass", "warn", "fail", "skip"]

# Scores that should be the same: float32 arithmetic in another order differs by about 1e-7 for probabilities.
SAME = 1e-6
# Batches of another size let libraries choose other kernels, whose float32 sums differ by up to about 1e-5.
SAME_IN_BATCH = 1e-4
# Scores that wander by more than this drown the weights of small parts.
WANDERS = 1e-3
# Probabilities of a softmax add up to 1; half precision and 8-bit answers miss by less than this.
SUM = 1e-3
# A change of an ordinary kind that moves the explained scale by more than this is told: p = 0.50 becomes 0.62.
NOTICEABLE = 0.5
# The same for regression, in shares of the range of values over the reference sounds.
NOTICEABLE_SHARE = 0.1
# Where log-odds are clipped; the default of the explainers.
CLIP = 1e-6
# Length in seconds at which a model of any length is asked: long enough for a few notes, short enough to be quick.
SECONDS = 4.0


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    check : str
        Short name of the check.
    status : {"pass", "warn", "fail", "skip"}
    measured : str
        What was measured, with its unit.
    meaning : str
        What it means for explanations of this model, and what to do; empty where there is nothing to say.
    """

    check: str
    status: Status
    measured: str
    meaning: str = ""


@dataclass(frozen=True)
class Check:
    """A check in the list.

    Attributes
    ----------
    name : str
    run : callable
        From a `Patient` to a `Finding`.
    contract : bool
        Whether it may fail.
    vital : bool
        Whether all that follow rest on it.
    """

    name: str
    run: Callable[[Patient], Finding]
    contract: bool = False
    vital: bool = False


CHECKS: list[Check] = []
Found = tuple[Status, str, str]
Examine = Callable[["Patient"], Found]


def check(name: str, *, contract: bool = False, vital: bool = False) -> Callable[[Examine], Examine]:
    """Register a check: a function from a `Patient` to status, what was measured, and what it means."""

    def register(function: Examine) -> Examine:
        CHECKS.append(Check(name, lambda patient: Finding(name, *function(patient)), contract, vital))
        return function

    return register


class Patient:
    """A model under examination.

    Parameters
    ----------
    model : Model
    audio : Audio, optional
        A recording of the kind that is to be explained; its loudest window is added to the sounds.
    seed : int
    """

    def __init__(self, model: Model, *, audio: Audio | None = None, seed: int = 0) -> None:
        self.model = model
        self.audio = audio
        self.seed = seed
        self.seen: list[Floats] = []  # all answers
        self.timed: tuple[float, float, int, int | None] | None = None  # see `otoscope.adapters.offered_checks`

    @property
    def rng(self) -> np.random.Generator:
        """A generator that starts afresh, so that no check depends on which ran before."""
        return np.random.default_rng(self.seed)

    @cached_property
    def before(self) -> tuple[dict[str, bool], dict[str, Any], dict[str, object]]:
        """Modes and buffers of the network, and torch's settings, as they were before the first question."""
        return traces.modes(self.model), traces.buffers(self.model), traces.settings()

    @cached_property
    def length(self) -> int:
        """Length in samples at which it is asked."""
        any_length = min(round(SECONDS * self.model.rate), getattr(self.model, "max_samples", None) or 2**28)
        return self.model.n_samples or any_length

    @cached_property
    def sounds(self) -> Float32:
        """The reference sounds, shape (n_sounds, length)."""
        sounds = [*probe_sounds(self.model.rate, self.length), music(self.model.rate, self.length, self.rng)]
        if self.audio is not None:
            sounds.append(loudest(self.audio.at(self.model.rate).samples, self.length))
        return np.stack(sounds)

    @property
    def ordinary(self) -> Float32:
        """The music, and the recording where there is one, shape (n_ordinary, length)."""
        return self.sounds[8:]

    @cached_property
    def scores(self) -> Floats:
        """Answers to the reference sounds, shape (n_sounds, n_classes)."""
        return self.ask(self.sounds)

    @cached_property
    def dithered(self) -> bool:
        """Whether noise lies under every sound, as otoscope lays it where a model is not finite on digital silence."""
        nothing, answers = np.zeros((1, self.length), dtype=np.float32), []
        reason = refused(lambda: answers.append(self.ask(nothing, bare=True)))  # told by the check of silence
        return reason is None and not np.isfinite(answers[0]).all()

    def heard(self, waveforms: Float32 | Floats) -> Float32:
        """Copy waveforms (n, n_samples) as the model is to hear them."""
        heard = np.array(waveforms, dtype=np.float32)
        if self.dithered:
            heard += np.float32(DITHER) * np.random.default_rng(0).standard_normal(heard.shape[1], dtype=np.float32)
        return heard

    def ask(self, waveforms: Float32 | Floats, *, bare: bool = False) -> Floats:
        """Ask for scores (n, n_classes); only that they are numbers of the right shape is checked.

        Parameters
        ----------
        waveforms : ndarray, shape (n, n_samples)
        bare : bool
            Without the noise that some models need.
        """
        self.before  # noqa: B018 - taken before the first question
        # A copy: a model that works in place must not reach ours.
        given = np.array(waveforms, dtype=np.float32) if bare else self.heard(waveforms)
        with np.errstate(all="ignore"):
            raw = self.model.predict(given)
        anything = cast(Model, SimpleNamespace(labels=self.model.labels, output="regression"))
        scores = checked(raw, len(given), anything, finite=False)
        self.seen.append(scores)
        return scores

    def difference(self, scores: Floats, others: Floats) -> float:
        """Largest difference of a score; of values beyond ±1 relative to the largest. NaN equals NaN."""
        size = max(1.0, float(np.nanmax(np.abs(self.scores), initial=1.0)))
        gap = np.where(np.isnan(scores) & np.isnan(others), 0.0, np.abs(scores - others))
        return float(np.max(np.nan_to_num(gap, nan=np.inf), initial=0.0)) / size

    @property
    def probabilities(self) -> bool:
        """Whether its scores are probabilities."""
        return self.model.output != "regression"

    def on_scale(self, scores: Floats, classes: Sequence[int]) -> Floats:
        """Bring the score of one class for each sound to the explained scale, (n, n_classes) to (n,)."""
        chosen = scores[np.arange(len(scores)), list(classes)]
        if not self.probabilities:
            return np.asarray(chosen)
        p = np.clip(chosen, CLIP, 1 - CLIP)
        return np.asarray(np.log(p) - np.log1p(-p))

    def moved(self, scores: Floats, reference: Floats | None = None) -> float:
        """How far the ordinary sounds' highest classes moved on the explained scale, the largest of all.

        Parameters
        ----------
        scores : ndarray, shape (n_ordinary, n_classes)
        reference : ndarray of the same shape, optional
            Answers to the unchanged ordinary sounds where None.
        """
        reference = self.scores[8:] if reference is None else reference
        classes = reference.argmax(axis=1).tolist()
        gap = np.abs(self.on_scale(scores, classes) - self.on_scale(reference, classes))
        return float(np.max(np.nan_to_num(gap, nan=np.inf)))

    @property
    def noticeable(self) -> float:
        """A change on the explained scale that is worth telling."""
        return NOTICEABLE if self.probabilities else NOTICEABLE_SHARE * self._range

    @property
    def _range(self) -> float:
        return float(np.ptp(self.scores, axis=0).max())

    def told(self, change: float) -> str:
        """Say a change with its unit."""
        if self.probabilities:
            return f"{change:.2g} log-odds"
        return f"{change:.2g} (values range over {self._range:.2g})"

    def verdict(self, change: float) -> Status:
        """Warn of a noticeable change."""
        return "warn" if change > self.noticeable else "pass"

    def label(self, scores: Floats) -> str:
        """Name the highest class of one row of scores (n_classes,) with its score."""
        best = int(np.argmax(scores))
        return f"{self.model.labels[best]} {scores[best]:.3g}"


def refused(question: Callable[[], object]) -> str | None:
    """Say in one line why a question fails, or None where it is answered."""
    try:
        question()
    except OtoscopeError as error:
        return " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001 - a foreign model may raise anything, and the finding says what
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    return None
