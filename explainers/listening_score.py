"""What the answers of a listening test say.

*Scores.* An answer counts 1 for the evidence, 0 for the random set, 1/2 for "cannot tell"; of a pair asked twice the
first counts, the second shows consistency. Intervals are of 95 %: Wilson's (JASA 22, 1927) for one listener, else a
percentile bootstrap that draws listeners and pairs anew, crossed (Owen, "The pigeonhole bootstrap", Ann. Appl. Stat. 1,
2007). Where all answers are alike there is nothing to draw, so Wilson's over the pairs stands. The p-value is that of a
sign test over pairs, by the majority of their listeners, even pairs left out: answers to one pair are not independent.
Agreement is Krippendorff's alpha, nominal ("Computing Krippendorff's alpha-reliability", 2011), of three values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.spectra import Floats
from otoscope.explainers.evaluation_table import N_BOOTSTRAP

SCHEMA = "otoscope/listening/1"
ANSWERS = ("A", "B", "cannot tell")
FEW = 3  # pairs: a correlation over fewer says nothing

Document = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a listener said to a question.

    Attributes
    ----------
    listener : str
    pair : str
        Id of the question in page and key.
    answer : {"A", "B", "cannot tell"}
    heard : bool
        Whether both sounds were played.
    """

    listener: str
    pair: str
    answer: str
    heard: bool = True


def score(answers: Iterable[Answer], key: Document, *, seed: int = 0) -> Document:
    """Score the answers to a test.

    Parameters
    ----------
    answers : iterable of Answer
        Of one listener to one question the last counts.
    key : dict
        As written beside the page: ``pairs`` by id, each with ``evidence``, ``repeats``, ``target``, ``method``,
        ``model``, ``scale``, ``folder`` and ``model_difference``.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``overall``, and ``by_class``, ``by_method``, ``by_listener``: as `preference` gives them; ``alpha`` (None with
        one listener, or where all answers are alike), ``consistency``, ``with_model``, ``notes``.

    Raises
    ------
    OtoscopeError
        If nothing that counts was answered.
    """
    given = list(answers)
    last = {(one.listener, one.pair): one for one in given}
    listeners = sorted({one.listener for one in given})
    asked: Document = key["pairs"]
    counted = [name for name, facts in asked.items() if facts["repeats"] is None]
    table = np.array([[_value(last.get((who, name)), asked) for name in counted] for who in listeners])
    if not np.isfinite(table).any():
        raise OtoscopeError("nobody answered a pair that was asked for the first time; answer more pairs")

    def by(what: str) -> Document:
        kinds = [asked[name][what] for name in counted]
        split = {kind: table[:, [one == kind for one in kinds]] for kind in dict.fromkeys(kinds)}
        return {kind: preference(part, seed=seed) for kind, part in split.items() if np.isfinite(part).any()}

    return {
        "schema": SCHEMA,
        "test": key["test"],
        "seed": seed,
        "overall": preference(table, seed=seed),
        "by_class": by("target"),
        "by_method": by("method"),
        "by_listener": {
            who: {**preference(row[None], seed=seed), "consistency": consistency([who], last, asked)}
            for who, row in zip(listeners, table, strict=True)
            if np.isfinite(row).any()
        },
        "alpha": alpha(table),
        "consistency": consistency(listeners, last, asked),
        "with_model": with_model(table, [asked[name] for name in counted]),
        "notes": _notes(given, last, listeners, table, [asked[name] for name in counted]),
    }


def _value(answer: Answer | None, asked: Document) -> float:
    """Count an answer: 1 for the evidence, 0 for the random set, 1/2 for "cannot tell", NaN where there is none."""
    if answer is None:
        return math.nan
    if answer.answer == "cannot tell":
        return 0.5
    return float(answer.answer == asked[answer.pair]["evidence"])


def preference(table: Floats, *, seed: int = 0) -> Document:
    """Share of the answers that prefer the evidence, its interval of 95 %, and a sign test against 1/2.

    Parameters
    ----------
    table : ndarray, shape (n_listeners, n_pairs)
        1, 0, 1/2, or NaN where there is no answer; at least one answer.
    seed : int

    Examples
    --------
    >>> found = preference(np.array([[1.0, 1.0, 0.5, 0.0]]))
    >>> found["preference"], found["evidence"], found["random"], found["cannot_tell"]
    (0.625, 2, 1, 1)
    """
    from scipy.stats import binomtest

    there = np.isfinite(table)
    table = table[there.any(axis=1)][:, there.any(axis=0)]
    values = table[np.isfinite(table)]
    n_listeners, n_pairs = table.shape
    mean = float(values.mean())
    wilsons = n_listeners == 1 or values.min() == values.max()
    low, high = wilson(mean * n_pairs, n_pairs) if wilsons else crossed_bootstrap(table, seed=seed)
    of_pairs = np.nanmean(table, axis=0)
    wins, losses = int(np.sum(of_pairs > 0.5)), int(np.sum(of_pairs < 0.5))
    return {
        "preference": mean,
        "low": low,
        "high": high,
        "interval": "Wilson" if wilsons else "bootstrap",
        "p": float(binomtest(wins, wins + losses).pvalue) if wins + losses else None,
        "pairs_for": wins,
        "pairs_against": losses,
        "evidence": int(np.sum(values == 1)),
        "random": int(np.sum(values == 0)),
        "cannot_tell": int(np.sum(values == 0.5)),
        "n_listeners": n_listeners,
        "n_pairs": n_pairs,
    }


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Interval of 95 % of a share (Wilson, 1927).

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    z = 1.959963984540054
    centre = (successes + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(successes * (n - successes) / n + z**2 / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def crossed_bootstrap(table: Floats, *, seed: int = 0) -> tuple[float, float]:
    """Interval of 95 % of the mean of a table (n_listeners, n_pairs), rows and columns both drawn anew.

    A cell counts as often as its row was drawn, times as often as its column was; NaN counts nothing.
    """
    rng = np.random.default_rng(seed)
    n_rows, n_columns = table.shape
    rows = rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=N_BOOTSTRAP)
    columns = rng.multinomial(n_columns, np.full(n_columns, 1 / n_columns), size=N_BOOTSTRAP)
    there = np.isfinite(table)
    sums = np.einsum("br,rc,bc->b", rows, np.where(there, table, 0), columns, optimize=True)
    counts = np.einsum("br,rc,bc->b", rows, there.astype(np.float64), columns, optimize=True)
    low, high = np.quantile(sums[counts > 0] / counts[counts > 0], [0.025, 0.975])
    return float(low), float(high)


def alpha(table: Floats) -> float | None:
    """Krippendorff's nominal alpha among listeners.

    Parameters
    ----------
    table : ndarray, shape (n_listeners, n_pairs)
        NaN where there is no answer.

    Returns
    -------
    float or None
        None where no pair has two answers, or all answers are alike, which leaves nothing to agree about.
    """
    import krippendorff

    counts = np.stack([np.sum(table == value, axis=0) for value in (0.0, 0.5, 1.0)], axis=1)  # (n_pairs, 3)
    counts = counts[counts.sum(axis=1) > 1]
    if np.count_nonzero(counts.any(axis=0)) < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def consistency(listeners: Iterable[str], last: Mapping[tuple[str, str], Answer], asked: Document) -> Document | None:
    """How often a pair asked again, the sides swapped, got the same answer; None where none was answered twice."""
    repeated = [(name, facts["repeats"]) for name, facts in asked.items() if facts["repeats"] is not None]
    twice = [
        _value(last[who, again], asked) == _value(last[who, first], asked)
        for who in listeners
        for again, first in repeated
        if (who, again) in last and (who, first) in last
    ]
    return {"same": sum(twice), "n": len(twice), "share": sum(twice) / len(twice)} if twice else None


def with_model(table: Floats, facts: Sequence[Document]) -> Document | None:
    """Spearman across pairs of preference and the model's own score of the evidence less that of all parts off.

    None where fewer than three pairs were answered, several models or scales are mixed, or one side does not vary.
    """
    from scipy.stats import spearmanr

    answered = np.asarray(np.isfinite(table).any(axis=0))
    told = [one for one, there in zip(facts, answered, strict=True) if there]
    preferred = np.nanmean(table[:, answered], axis=0)
    differences = np.array([one["model_difference"] for one in told])
    if len({(one["model"], one["scale"]) for one in told}) > 1 or len(told) < FEW:
        return None
    if np.ptp(preferred) == 0 or np.ptp(differences) == 0:
        return None
    return {"spearman": float(spearmanr(preferred, differences).statistic), "n_pairs": len(told)}


def _notes(
    given: Sequence[Answer],
    last: Mapping[tuple[str, str], Answer],
    listeners: Sequence[str],
    table: Floats,
    facts: Sequence[Document],
) -> list[str]:
    """Say what the reader must know."""
    notes = []
    if doubled := len(given) - len(last):
        times = Counter((one.listener, one.pair) for one in given)
        names = ", ".join(sorted({who for (who, _), n in times.items() if n > 1}))
        notes.append(f"{doubled} answers were given again by the same listener ({names}); the last ones count")
    if unheard := sum(not one.heard for one in last.values()):
        notes.append(f"{unheard} answers were given without playing both sounds")
    for who, row in zip(listeners, table, strict=True):
        if missing := int(np.sum(~np.isfinite(row))):
            notes.append(f"{who} left {missing} of {len(row)} pairs unanswered")
    n_explanations = len({one["folder"] for one in facts})
    if n_explanations < len(facts):
        notes.append(
            f"{len(facts)} pairs come from {n_explanations} explanations, so they are not independent and the "
            "intervals are too narrow"
        )
    return notes
