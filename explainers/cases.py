"""Cases of a comparison: recordings (and targets) over which the same rows are compared, and what they add up to.

A *row* is who explained and how: a model by a method with a seed, of a set of results where several are compared. A
*case* is one recording, asked one thing, explained by all rows (or those there are). Agreement over cases is the mean
of each pair over the cases that hold both.

*Rivals* are the pairs that a comparison is about, and that differ in one thing only: the same question in two sets of
results; else two models under one method; else two methods of one model; else two seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.spectra import Floats
from otoscope.explainers.agreement import MEASURES
from otoscope.explainers.comparison import Comparison
from otoscope.explainers.parts import Bools

Pair = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """Who explained, and how.

    Attributes
    ----------
    model, method : str
    seed : int
    results : str
        Name of a set of results; empty where only one run is compared.
    target : str
        As asked for, where the rows of a case differ in it.
    """

    model: str
    method: str
    seed: int
    results: str = ""
    target: str = ""


@dataclass(frozen=True, eq=False)
class Case:
    """One recording, asked one thing.

    Attributes
    ----------
    recording : str
    asked : str
        Target as the user put it; empty where the rows say it.
    rows : tuple of Row
        One for each explanation of the comparison.
    comparison : Comparison
    folders : tuple of str
        Where the explanations lie.
    notes : tuple of str
    """

    recording: str
    asked: str
    rows: tuple[Row, ...]
    comparison: Comparison
    folders: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Recording, and target where it is one for all."""
        return f"{self.recording} · {self.asked}" if self.asked else self.recording


@dataclass(frozen=True)
class Tally:
    """How far one case's rows agree: what is kept of it for the sum over cases.

    Attributes
    ----------
    rows : tuple of Row
    agreement, chance : dict of ndarray, each (n, n)
    same : ndarray of bool, shape (n, n)
        Which pairs are about the same target.
    """

    rows: tuple[Row, ...]
    agreement: dict[str, Floats]
    chance: dict[str, Floats]
    same: Bools


def tally(case: Case) -> Tally:
    """Take from a case what counts for the sum."""
    n = len(case.rows)
    same = np.array([[case.comparison.same_target(i, j) for j in range(n)] for i in range(n)])
    return Tally(case.rows, case.comparison.agreement, case.comparison.chance, same)


def row_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """Name rows by what tells them apart; the model is always said.

    >>> row_names([Row("a", "lime", 0), Row("a", "occlusion", 0)])
    ('a · lime', 'a · occlusion')
    >>> row_names([Row("a", "lime", 0), Row("b", "lime", 0)])
    ('a', 'b')
    """
    vary = {field: len({getattr(row, field) for row in rows}) > 1 for field in ("results", "method", "target", "seed")}
    names = []
    for row in rows:
        told = [row.results if vary["results"] else "", row.model, row.method if vary["method"] else ""]
        told += [row.target if vary["target"] else "", f"seed {row.seed}" if vary["seed"] else ""]
        names.append(" · ".join(word for word in told if word))
    return tuple(names)


def rivals(rows: Sequence[Row]) -> tuple[str, list[Pair]]:
    """Find the pairs that a comparison is about.

    Returns
    -------
    kind : {"results", "models", "methods", "seeds"}
    pairs : list of (int, int)
        Places in `rows`.
    """
    shared = set.intersection(*({row.model for row in rows if row.results == one.results} for one in rows))
    kinds: dict[str, Callable[[Row, Row], bool]] = {
        "results": lambda a, b: a.results != b.results and a.method == b.method and (a.model == b.model or not shared),
        "models": lambda a, b: a.model != b.model and (a.method, a.seed) == (b.method, b.seed),
        "methods": lambda a, b: a.method != b.method and (a.model, a.seed) == (b.model, b.seed),
        "seeds": lambda a, b: a.seed != b.seed and (a.model, a.method) == (b.model, b.method),
    }
    for kind, differ in kinds.items():
        found = [(i, j) for i, j in combinations(range(len(rows)), 2) if differ(rows[i], rows[j])]
        if found:
            return kind, found
    return "seeds", []


def all_rows(tallies: Sequence[Tally]) -> tuple[Row, ...]:
    """Rows of all cases, in the order in which they first come."""
    return tuple(dict.fromkeys(row for one in tallies for row in one.rows))


def over_cases(rows: Sequence[Row], cases: Sequence[tuple[Sequence[Row], Floats]]) -> Floats:
    """Put the matrices of cases in the order of all rows, (n_cases, n_rows, n_rows); NaN where a case lacks a row."""
    found = np.full((len(cases), len(rows), len(rows)), np.nan)
    for number, (own, values) in enumerate(cases):
        places = [rows.index(row) for row in own]
        found[number][np.ix_(places, places)] = values
    return found


def agreement_of(tallies: Sequence[Tally], rows: Sequence[Row]) -> dict[str, Floats]:
    """Agreement per case by measure, each (n_cases, n_rows, n_rows)."""
    return {name: over_cases(rows, [(one.rows, one.agreement[name]) for one in tallies]) for name in MEASURES}


def mean_over_cases(values: Floats) -> Floats:
    """Mean over the first axis of what is there, NaN where nothing is; (n_cases, n, n) to (n, n)."""
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    return np.where(count > 0, np.where(there, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Rivalry:
    """How far two rivals agree over all cases, and their seeds.

    Attributes
    ----------
    first, second : str
        What differs, by name.
    under : str
        What is the same.
    spearman, iou, mass : float
        Means over the cases, and seeds, in which both are about the same target; of all where there is none.
    chance : float
        Spearman that they would reach by chance.
    least, most : float
        Spearman's smallest and largest.
    n : int
        Of those.
    same_target : bool
        Whether there was a case in which both were about the same target.
    """

    first: str
    second: str
    under: str
    spearman: float
    iou: float
    mass: float
    chance: float
    least: float
    most: float
    n: int
    same_target: bool


def rivalries(tallies: Sequence[Tally]) -> tuple[str, list[Rivalry]]:
    """Sum up the rivals over cases and seeds.

    Returns
    -------
    kind : {"results", "models", "methods", "seeds"}
    list of Rivalry
    """
    rows = all_rows(tallies)
    kind, pairs = rivals(rows)
    values = agreement_of(tallies, rows)
    chance = over_cases(rows, [(one.rows, one.chance["spearman"]) for one in tallies])
    same = over_cases(rows, [(one.rows, one.same.astype(np.float64)) for one in tallies]) == 1
    together: dict[tuple[str, str, str], list[Pair]] = {}
    for i, j in pairs:
        together.setdefault(_told(kind, rows[i], rows[j]), []).append((i, j))
    found = []
    for told, members in together.items():
        first, second = (list(places) for places in zip(*members, strict=True))
        picked = {name: values[name][:, first, second] for name in ("spearman", "iou", "mass")}
        there = ~np.isnan(picked["spearman"])
        alike = there & same[:, first, second]
        count = alike if alike.any() else there
        if not count.any():
            continue
        spearman, iou, mass = (float(one[count].mean()) for one in picked.values())
        luck = float(chance[:, first, second][count].mean())
        spread = picked["spearman"][count]
        least, most = float(spread.min()), float(spread.max())
        found.append(Rivalry(*told, spearman, iou, mass, luck, least, most, len(spread), bool(alike.any())))
    return kind, found


def _told(kind: str, first: Row, second: Row) -> tuple[str, str, str]:
    """Say what differs between two rivals, and what is the same; seeds are put together."""
    if kind == "results":
        names = [
            one.results if first.model == second.model else f"{one.results} · {one.model}" for one in (first, second)
        ]
        same = first.method if first.model != second.model else f"{first.model} · {first.method}"
        return names[0], names[1], same
    if kind == "models":
        return first.model, second.model, first.method
    if kind == "methods":
        return first.method, second.method, first.model
    return f"seed {first.seed}", f"seed {second.seed}", f"{first.model} · {first.method}"


def below(tallies: Sequence[Tally], least: float) -> list[Rivalry]:
    """List the models (or sets of results) that agree less than asked for about the same target.

    Raises
    ------
    OtoscopeError
        If there are none to check.
    """
    kind, found = rivalries(tallies)
    checked = [one for one in found if one.same_target] if kind in ("results", "models") else []
    if not checked:
        raise OtoscopeError(
            "--min-spearman found nothing to check: no two models (or sets of results) were asked about the same "
            "target under one method; say what to ask by --target, --mapping or --match correlation"
        )
    return [one for one in checked if one.spearman < least]
