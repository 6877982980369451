"""The verdict: *trust*, *caution* or *do not use*, with reasons and remedies, from the figures of gates and fit.

`GATES` is the one place for thresholds and for words. A figure at `trust` or beyond passes; one short of `use` condemns
the explanation; between the two it calls for caution, and so does a missing figure of those that every explanation has.
The thresholds were chosen on planted scenes of some seeds and checked on others (``python -m tests.bench_verdict``): a
verdict is right where at least half of the attribution of the cue's sign lies on the cue and the cue is on top.

What can be done where a figure did not pass stands beside it, where there is anything; which of it is told depends on
how the explanation was made (`otoscope.explainers.remedies`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

from otoscope.explainers.remedies import InUse, find_remedy

Word = Literal["trust", "caution", "do not use"]
Figures = Mapping[str, float | None]

MOST_REMEDIES = 2
NOTHING: InUse = {}


@dataclass(frozen=True)
class Gate:
    """What a figure must reach, and how it is told.

    Attributes
    ----------
    says : str
        The figure in words, with a place for its `value`, or for its `size` and whether that is `more` or less,
        `above` or below; `only` where it falls short.
    trust, use : float
        From where it passes, and below which the explanation is not to be used.
    low_is_good : bool
        Then the other way round: passes at or below `trust`, condemns above `use`.
    missing : str
        What is said, and calls for caution, where there were too few calls for it; empty where its absence means
        nothing.
    remedies : tuple of str
        What can move the figure, the likeliest first, each with its options.
    """

    says: str
    trust: float
    use: float
    low_is_good: bool = False
    missing: str = ""
    remedies: tuple[str, ...] = ()

    def judge(self, value: float) -> Word:
        """Judge one figure."""
        sign = -1 if self.low_is_good else 1
        if sign * value >= sign * self.trust:
            return "trust"
        return "caution" if sign * value >= sign * self.use else "do not use"

    def tell(self, value: float) -> str:
        """Tell one figure in words."""
        more, above = ("less", "below") if value < 0 else ("more", "above")
        short = value >= 0 and not self.low_is_good and self.judge(value) != "trust"
        size = f"{abs(value):.2f}" if abs(value) >= 0.005 else "less than 0.01"
        return self.says.format(value=value, size=size, more=more, above=above, only="only " if short else "")


MORE_CALLS = "more calls (--calls {calls})"
SHORTER = "a shorter stretch (--duration {duration})"
LIME = "parts tried in many mixes (--method lime)"
GRID = "parts of equal size (--parts grid)"
BETTER = (LIME, GRID, SHORTER)
FINER = ("finer parts (--n-parts {n_parts} --calls {calls})", "finer parts (--n-parts {n_parts})")
MEAN = "the average sound for parts that are off (--off mean)"
SILENCE = "silence for parts that are off (--off silence)"

GATES = {
    "over_random": Gate(
        "switching parts off in the order of their weights changes the answer {more} than a random order does, "
        "{only}by {size} of the range",
        0.08,
        0.02,
        missing="whether the order of the weights beats a random one could not be measured",
        remedies=BETTER,
    ),
    "over_energy": Gate(
        "switching parts off in the order of their weights changes the answer {more} than switching off the loudest "
        "first does, {only}by {size} of the range",
        0.02,
        -0.05,
        missing="whether the order of the weights beats that of loudness could not be measured",
        remedies=BETTER,
    ),
    "in_silence": Gate(
        "with silence for parts that are off, the order of the weights changes the answer {more} than a random order "
        "does, {only}by {size} of the range",
        0.1,
        -0.05,
        remedies=(SILENCE,),
    ),
    "kept": Gate(
        "the evidence alone scores {above} all parts off, by {size} of what the whole recording adds",
        0.0,
        -inf,
        remedies=(LIME, MEAN),
    ),
    "fit": Gate(
        "what the weights foretell and what the model answered go together {only}at {value:.2f} (1: exactly, "
        "0: not at all)",
        0.7,
        0.3,
        remedies=BETTER,
    ),
    "r2": Gate(
        "adding up the weights of parts foretells {only}{value:.2f} of the ups and downs of the answer (1: all, "
        "0: none)",
        0.4,
        0.0,
        remedies=BETTER,
    ),
    "halves": Gate(
        "the weights from one half of the calls go with those from the other half {only}at {value:.2f} (1: the same)",
        0.85,
        0.1,
        remedies=(MORE_CALLS,),
    ),
    "top_again": Gate(
        "another seed would find four of the five strongest parts again with a chance of {only}{value:.2f} (1: surely)",
        0.3,
        0.0,
        remedies=(MORE_CALLS,),
    ),
    "calls_per_part": Gate(
        "the model was asked {only}{value:.1f} times for each part", 7.5, 0.0, remedies=(MORE_CALLS,)
    ),
    "effect": Gate(
        "switching everything off changes the answer {only}by {value:.2f} of the range",
        0.05,
        1e-6,
        missing="what switching everything off does could not be measured",
        remedies=(MEAN, SILENCE),
    ),
    "place": Gate(
        "where exactly inside its part the hottest spot lies is certain {only}to {value:.2f} (1: certain, 0: a guess)",
        0.6,
        0.0,
        remedies=FINER,
    ),
    "twin": Gate(
        "the same model with random weights gets weights that go with these at {value:.2f} (1: the same, so what it "
        "learnt does not matter)",
        0.5,
        0.8,
        low_is_good=True,
    ),
    "seed": Gate(
        "another seed gives weights that go with these {only}at {value:.2f} (1: the same)",
        0.5,
        0.1,
        remedies=(MORE_CALLS, "more noisy copies (--n-draws 64)"),
    ),
    "off_values": Gate(
        "another sound for parts that are off gives weights that go with these {only}at {value:.2f} (1: the same)",
        0.3,
        -1.0,
    ),
    "routes": Gate(
        "the other way to reach the answers gives weights that go with these {only}at {value:.2f} (1: the same)",
        0.9,
        0.5,
    ),
}
ORDER: tuple[Word, ...] = ("do not use", "caution", "trust")


@dataclass(frozen=True)
class Verdict:
    """A word and its reasons, the gravest first; with nothing against it, what speaks for it.

    Attributes
    ----------
    word : {"trust", "caution", "do not use"}
    reasons : tuple of str
    remedies : tuple of str
        What can be done about the first of the reasons, two at most; empty after *trust*.
    """

    word: Word
    reasons: tuple[str, ...]
    remedies: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Tell it in one line."""
        return f"{self.word}: {'; '.join(self.reasons)}"


class Statement(NamedTuple):
    """A figure in words, what it means for the verdict, and what can be done where it did not pass (or "")."""

    word: Word
    says: str
    remedy: str = ""


def judge(figures: Figures, in_use: InUse = NOTHING) -> Verdict:
    """Judge an explanation by its figures, missing ones being None or not there; remedies need the options `in_use`."""
    found = statements(figures, in_use)
    word = next(word for word in ORDER if word == "trust" or any(one.word == word for one in found))
    told = [one for one in found if one.word == word]
    remedies = dict.fromkeys(one.remedy for one in told if one.remedy)
    return Verdict(word, tuple(one.says for one in told), tuple(remedies)[:MOST_REMEDIES])


def statements(figures: Figures, in_use: InUse = NOTHING) -> list[Statement]:
    """Tell every figure in words, and those that are missed, with what each means for the verdict and its remedy."""
    found = []
    for name, gate in GATES.items():
        value = figures.get(name)
        if value is None:
            if gate.missing:
                found.append(Statement("caution", gate.missing, find_remedy((MORE_CALLS,), in_use)))
            continue
        word = gate.judge(value)
        found.append(Statement(word, gate.tell(value), "" if word == "trust" else find_remedy(gate.remedies, in_use)))
    return found
