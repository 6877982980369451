"""Summing up an evaluation: means over recordings with bootstrap intervals, and what may be said of them.

Intervals are percentile bootstraps (Efron, "Bootstrap methods: another look at the jackknife", 1979) of 95 % over
recordings: the same `N_BOOTSTRAP` seeded resamples for all figures. What is paired (by how much the order of the
weights exceeds that by energy, by recording) is bootstrapped as the difference. From fewer than `FEW` recordings an
interval is too narrow to be believed, so nothing is said to be best, or to beat anything.

*Best* (bold) is a line whose interval lies apart from those of all other lines. A method *beats* an order of its own
parts where both hold: the intervals of insertion − deletion lie apart, and that of the paired difference above 0.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.evaluation import Row
from otoscope.explainers.evaluation_columns import COLUMNS, RANKINGS
from otoscope.explainers.verdict import GATES, ORDER

SCHEMA = "otoscope/evaluation/1"
FILES = ("evaluation.json", "evaluation.md", "evaluation.csv", "rows.csv", "evaluation.png")
N_BOOTSTRAP = 2000
FEW = 5

Cell = dict[str, Any]  # mean, low and high (None of a single recording), n
Document = dict[str, Any]


def interval(values: Sequence[float], *, seed: int = 0) -> Cell:
    """Mean over recordings, with its bootstrap interval of 95 %.

    Parameters
    ----------
    values : sequence of float
        One per recording.
    seed : int

    Examples
    --------
    >>> interval([2.0, 2.0, 2.0])
    {'mean': 2.0, 'low': 2.0, 'high': 2.0, 'n': 3}
    """
    given = np.asarray(values, dtype=np.float64)
    n = len(given)
    if n < 2:
        return {"mean": float(given.mean()), "low": None, "high": None, "n": n}
    means = given[np.random.default_rng(seed).integers(n, size=(N_BOOTSTRAP, n))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(given.mean()), "low": float(low), "high": float(high), "n": n}


def apart(one: Cell, other: Cell, *, lower: bool = False) -> bool:
    """Whether the whole interval of one is better than that of another, both from enough recordings."""
    if min(one["n"], other["n"]) < FEW:
        return False
    return bool(one["high"] < other["low"] if lower else one["low"] > other["high"])


def summary(rows: Sequence[Row], metrics: Sequence[str], *, seed: int = 0) -> Document:
    """Sum rows up, plainly, for JSON and for the tables.

    Parameters
    ----------
    rows : sequence of Row
    metrics : sequence of str
        Those to show.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``lines`` (method × ranking, each with ``cells``), ``gates``, ``verdicts`` and ``beats`` by method.
    """
    methods = list(dict.fromkeys(row.method for row in rows))
    by_method = {method: [row for row in rows if row.method == method] for method in methods}
    shown = [name for name, column in COLUMNS.items() if column.metric in metrics]
    lines = [
        {"method": method, "ranking": ranking, "cells": cells}
        for method in methods
        for ranking in RANKINGS
        if (cells := _cells(by_method[method], ranking, shown, seed))
    ]
    _mark_best(lines)
    return {
        "schema": SCHEMA,
        "models": sorted({row.model for row in rows}),
        "units": sorted({row.units for row in rows}),
        "recordings": list(dict.fromkeys(row.recording for row in rows)),
        "n_recordings": len({row.sha256 for row in rows}),
        "seed": seed,
        "columns": {name: {"title": COLUMNS[name].title, "lower_is_better": COLUMNS[name].lower} for name in shown},
        "lines": lines,
        "gates": {method: _gate_cells(by_method[method], seed) for method in methods},
        "verdicts": {method: _verdicts(by_method[method]) for method in methods},
        "beats": {method: found for method in methods if (found := beaten(by_method[method], seed=seed))},
    }


def _cells(rows: Sequence[Row], ranking: str, shown: Sequence[str], seed: int) -> dict[str, Cell]:
    """One line of the table: what there is of each column for an order of the parts."""
    wanted = shown if ranking == "own" else [name for name in shown if COLUMNS[name].ranks]
    end = "" if ranking == "own" else f".{ranking}"
    found = {name: _known(rows, name + end) for name in wanted}
    return {name: interval(values, seed=seed) for name, values in found.items() if values}


def _known(rows: Sequence[Row], name: str) -> list[float]:
    return [value for row in rows if (value := row.metrics.get(name)) is not None]


def _gate_cells(rows: Sequence[Row], seed: int) -> dict[str, Cell]:
    found = {name: [value for row in rows if (value := row.gates.get(name)) is not None] for name in GATES}
    return {name: interval(values, seed=seed) for name, values in found.items() if values}


def _verdicts(rows: Sequence[Row]) -> dict[str, int]:
    count = Counter(row.verdict for row in rows if row.verdict is not None)
    return {word: count[word] for word in reversed(ORDER)} if count else {}


def _mark_best(lines: Sequence[Document]) -> None:
    """Mark in each column the line that lies apart from all others."""
    for name, column in COLUMNS.items():
        cells = [line["cells"][name] for line in lines if name in line["cells"]]
        for cell in cells:
            others = [other for other in cells if other is not cell]
            cell["best"] = (
                column.alike
                and cell["n"] >= FEW
                and bool(others)
                and all(apart(cell, other, lower=column.lower) for other in others)
            )


def beaten(rows: Sequence[Row], *, seed: int = 0) -> dict[str, Document]:
    """Tell whether the order of the weights beats those by energy and by chance; see the module's text."""
    found = {}
    for other in RANKINGS[1:]:
        names = ("gain", f"gain.{other}", f"gain_over_{other}")
        values = [_known(rows, name) for name in names]
        if not all(values):
            continue
        own, theirs, paired = (interval(one, seed=seed) for one in values)
        enough = paired["n"] >= FEW
        found[other] = {
            "own": own,
            "other": theirs,
            "paired": paired,
            "apart": apart(own, theirs),
            "beats": apart(own, theirs) and enough and paired["low"] > 0,
        }
    return found


def line_name(line: Mapping[str, Any]) -> str:
    """Name a line of the table."""
    told = {"own": "", "energy": ": its parts, ranking by energy", "random": ": its parts, ranking at random"}
    return f"{line['method']}{told[line['ranking']]}"


def cell_text(cell: Cell | None) -> str:
    """Write a cell: mean and interval, bold where it is best.

    >>> cell_text({"mean": 0.5, "low": 0.25, "high": 1.0, "n": 9, "best": True})
    '**0.50** [0.25, 1.00]'
    """
    if cell is None:
        return "–"
    mean = number(cell["mean"])
    bold = f"**{mean}**" if cell.get("best") else mean
    return bold if cell["low"] is None else f"{bold} [{number(cell['low'])}, {number(cell['high'])}]"


def number(value: float) -> str:
    """Write a figure with as many digits as it needs."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def markdown(document: Document) -> str:
    """Write the tables."""
    lines, columns = document["lines"], document["columns"]
    ranked = [name for name in columns if COLUMNS[name].metric in ("deletion", "insertion", "gain")]
    own = [line for line in lines if line["ranking"] == "own"]
    rest = [name for name in columns if name not in ranked and any(name in line["cells"] for line in own)]
    told = [f"# {', '.join(document['models'])}: {_count(document['n_recordings'], 'recording')}", ""]
    told += [
        f"Means over recordings, with bootstrap intervals of 95 %. Bold: apart from all others. {_caveat(document)}"
    ]
    if ranked and any(name in line["cells"] for line in lines for name in ranked):
        units = " and ".join(document["units"])
        told += ["", "## Parts in order of their weights, of their energy, and of chance", ""]
        heads = [f"{COLUMNS[name].title} {COLUMNS[name].arrow}" for name in ranked]
        told += _table([f"areas in {units}", *heads], [[line_name(x), *_texts(x["cells"], ranked)] for x in lines])
        told += ["", *beats_sentences(document)]
    told += ["", "## Evidence, map, and cost", ""]
    names = [line["method"] for line in own]
    body = [[f"{COLUMNS[n].title} {COLUMNS[n].arrow}", *(cell_text(x["cells"].get(n)) for x in own)] for n in rest]
    told += _table(["", *names], body)
    if any(document["verdicts"].values()):
        told += ["", "## Gates and verdicts", "", *_table(["", *names], _gate_rows(document, names))]
    return "\n".join(told) + "\n"


def beats_sentences(document: Document) -> list[str]:
    """Tell in words what each method beats."""
    told = []
    for method, found in document["beats"].items():
        for other, figures in found.items():
            order = {"energy": "by energy", "random": "at random"}[other]
            verb = "beats" if figures["beats"] else "does not clearly beat"
            told.append(
                f"{method} {verb} ranking its parts {order}: insertion − deletion {cell_text(figures['own'])} against "
                f"{cell_text(figures['other'])}; by recording {cell_text(figures['paired'])} more."
            )
    return told


def _gate_rows(document: Document, names: Sequence[str]) -> Iterator[list[str]]:
    for gate, about in GATES.items():
        if any(gate in document["gates"][name] for name in names):
            title = f"{gate.replace('_', ' ')} {'↓' if about.low_is_good else '↑'}"
            yield [title, *(cell_text(document["gates"][name].get(gate)) for name in names)]
    for word in reversed(ORDER):
        yield [f"verdict: {word}", *(str(document["verdicts"][name].get(word, "–")) for name in names)]


def _caveat(document: Document) -> str:
    few = document["n_recordings"] < FEW
    return f"Fewer than {FEW} recordings: the intervals are too narrow to be believed." if few else ""


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _texts(cells: Mapping[str, Cell], names: Sequence[str]) -> list[str]:
    return [cell_text(cells.get(name)) for name in names]


def _table(head: Sequence[str], body: Any) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in (head, rule, *body)]


def write(
    out: Path, rows: Sequence[Row], metrics: Sequence[str], *, seed: int = 0, more: Mapping[str, Any] | None = None
) -> Document:
    """Write `FILES` into a folder that exists; give what ``evaluation.json`` holds."""
    from otoscope.explainers.evaluation_figure import draw

    document = {**summary(rows, metrics, seed=seed), **(more or {})}
    with whole_file(out / "evaluation.png") as partial:
        draw(partial, document, rows)
    with whole_file(out / "evaluation.md") as partial:
        partial.write_text(markdown(document), encoding="utf-8")
    for name, table in (("evaluation.csv", _long(document)), ("rows.csv", _wide(rows))):
        with whole_file(out / name) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)
    with whole_file(out / "evaluation.json") as partial:
        partial.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return document


def _long(document: Document) -> Iterator[list[Any]]:
    """One record per figure."""
    yield ["method", "ranking", "metric", "lower_is_better", "mean", "low", "high", "n", "best"]
    for line in document["lines"]:
        for name, cell in line["cells"].items():
            figures = [cell[key] for key in ("mean", "low", "high", "n")]
            yield [line["method"], line["ranking"], name, int(COLUMNS[name].lower), *figures, int(cell["best"])]
    for method, cells in document["gates"].items():
        for gate, cell in cells.items():
            figures = [cell[key] for key in ("mean", "low", "high", "n")]
            yield [method, "gate", gate, int(GATES[gate].low_is_good), *figures, 0]


def _wide(rows: Sequence[Row]) -> Iterator[list[Any]]:
    """One record per recording and method."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    yield ["recording", "sha256", "model", "method", "target", "verdict", *names, *(f"gate.{gate}" for gate in GATES)]
    for row in rows:
        gates = [row.gates.get(gate) for gate in GATES]
        told = [row.recording, row.sha256, row.model, row.method, row.target, row.verdict]
        yield [*told, *(row.metrics.get(name) for name in names), *gates]
