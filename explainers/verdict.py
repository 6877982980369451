"""The verdict: *trust*, *caution* or *do not use*, with the reason, from the figures of the gates and of the fit.

`GATES` is the one place for thresholds. A figure at `trust` or beyond passes; one short of `use` condemns the
explanation; between the two it calls for caution, and so does a missing figure of those that every explanation has. The
thresholds were chosen on planted scenes of some seeds and checked on others (``python -m tests.bench_verdict``): a
verdict is right where at least half of the attribution of the cue's sign lies on the cue and the cue is on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Word = Literal["trust", "caution", "do not use"]


@dataclass(frozen=True)
class Gate:
    """What a figure must reach.

    Attributes
    ----------
    says : str
        The figure in words, with one place for its value.
    trust, use : float
        From where it passes, and below which the explanation is not to be used.
    low_is_good : bool
        Then the other way round: passes at or below `trust`, condemns above `use`.
    needed : bool
        Whether its absence calls for caution.
    """

    says: str
    trust: float
    use: float
    low_is_good: bool = False
    needed: bool = False

    def judge(self, value: float) -> Word:
        """Judge one figure."""
        sign = -1 if self.low_is_good else 1
        if sign * value >= sign * self.trust:
            return "trust"
        return "caution" if sign * value >= sign * self.use else "do not use"


GATES = {
    "over_random": Gate("the order of the weights beats one by chance by {:.2f} of the range", 0.08, 0.02, needed=True),
    "over_energy": Gate(
        "the order of the weights beats one by loudness by {:.2f} of the range", 0.02, -0.05, needed=True
    ),
    "in_silence": Gate("with silence as off value the order beats one by chance by {:.2f} of the range", 0.1, -0.05),
    "fit": Gate("what the weights say of each call and what the model said correlate at {:.2f}", 0.7, 0.3),
    "r2": Gate("a linear model of the parts explains {:.2f} of the variance", 0.4, 0.0),
    "halves": Gate("the weights from two halves of the calls correlate at {:.2f}", 0.85, 0.1),
    "top_again": Gate("another seed would share four of the five strongest parts with a chance of {:.2f}", 0.3, 0.0),
    "calls_per_part": Gate("{:.1f} calls for each part", 7.5, 0.0),
    "effect": Gate("switching everything off moves the score by {:.2f} of the range", 0.05, 1e-6, needed=True),
    "place": Gate(
        "the hottest place of the map holds at {:.2f} of 1 however weights are spread within parts",
        0.6,
        0.0,
    ),
    "twin": Gate("weights in the randomised network go with these at {:.2f}", 0.5, 0.8, low_is_good=True),
    "seed": Gate("weights from another seed go with these at {:.2f}", 0.5, 0.1),
    "off_values": Gate("weights with another off value go with these at {:.2f}", 0.3, -1.0),
    "routes": Gate("weights by the other route go with these at {:.2f}", 0.9, 0.5),
}
ORDER: tuple[Word, ...] = ("do not use", "caution", "trust")


@dataclass(frozen=True)
class Verdict:
    """A word and its reasons, the gravest first; with nothing against it, what speaks for it."""

    word: Word
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """Tell it in one line."""
        return f"{self.word}: {'; '.join(self.reasons)}"


def judge(figures: Mapping[str, float | None]) -> Verdict:
    """Judge an explanation by its figures, missing ones being None or not there."""
    found: dict[Word, list[str]] = {word: [] for word in ORDER}
    for name, gate in GATES.items():
        value = figures.get(name)
        if value is not None:
            found[gate.judge(value)].append(gate.says.format(value))
        elif gate.needed:
            found["caution"].append(f"{name.replace('_', ' ')} could not be measured")
    word = next(word for word in ORDER if found[word] or word == "trust")
    return Verdict(word, tuple(found[word]))


def statements(figures: Mapping[str, float | None]) -> list[tuple[Word, str]]:
    """Tell every figure in words, each with what it means for the verdict."""
    return [
        (gate.judge(value), gate.says.format(value))
        for name, gate in GATES.items()
        if (value := figures.get(name)) is not None
    ]
