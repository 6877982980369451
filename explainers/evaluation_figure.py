"""Picture of an evaluation: curves over parts, and every metric with its interval.

Above, for each method, the mean over recordings of what the model says while parts go (deletion) and come (insertion),
in the order of the weights, of energy, and of chance, with bootstrap intervals: the further apart the two curves of an
order, the better. Below, one panel per metric: a dot and an interval per method; the orders by energy and by chance
where they have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from otoscope.adapters.lettering import lettering
from otoscope.explainers.evaluation import Row
from otoscope.explainers.evaluation_columns import COLUMNS, RANKINGS
from otoscope.explainers.evaluation_table import interval
from otoscope.explainers.figure import as_text
from otoscope.explainers.targets import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

COLOURS = {"own": "#b3202c", "energy": "#2f6db0", "random": "0.55"}
TOLD = {"own": "by weight", "energy": "by energy", "random": "at random"}
SHARES = np.linspace(0, 1, 33)
PER_ROW = 5


@lettering()
def draw(path: Path, document: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Draw an evaluation (`otoscope.explainers.evaluation_table.summary`) into a PNG file."""
    from matplotlib.figure import Figure

    curved = [method for method in document["verdicts"] if any(r.method == method and r.curves for r in rows)]
    shown = [name for name in document["columns"] if any(name in line["cells"] for line in document["lines"])]
    n_methods = len(document["verdicts"])
    tall = -(-len(shown) // PER_ROW)
    heights = [2.6 * len(curved), tall * (0.75 + 0.22 * n_methods)]
    figure = Figure(figsize=(12, sum(heights) + 0.4), layout="constrained")
    n = document["n_recordings"]
    figure.suptitle(
        as_text(f"{', '.join(document['models'])}: {n} recording{'' if n == 1 else 's'}, mean and 95 % interval"),
        fontsize=11,
    )
    places = [place for place, height in enumerate(heights) if height]
    ratios = [heights[place] for place in places]
    parts = figure.subfigures(len(places), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for place, part in zip(places, parts, strict=True):
        if place == 0:
            _curves(part, curved, rows, " and ".join(document["units"]), document["seed"])
        else:
            _metrics(part, shown, document)
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})


def mean_curves(rows: Sequence[Row], *, seed: int) -> dict[str, Floats]:
    """Mean deletion and insertion curves over `SHARES`, each (n_orders, 3, n_shares): mean, low, high."""
    found = {}
    for kind in ("deletion", "insertion"):
        values = np.array(
            [
                [np.interp(SHARES, row.curves.counts / row.curves.counts[-1], one) for one in getattr(row.curves, kind)]
                for row in rows
                if row.curves is not None
            ]
        )  # (n_recordings, n_orders, n_shares)
        found[kind] = np.array([[_told(at, seed) for at in order.T] for order in values.transpose(1, 0, 2)])
    return {kind: values.transpose(0, 2, 1) for kind, values in found.items()}


def _told(values: Floats, seed: int) -> tuple[float, float, float]:
    cell = interval(values.tolist(), seed=seed)
    return cell["mean"], *(cell["mean"] if cell[end] is None else cell[end] for end in ("low", "high"))


def _curves(part: SubFigure, methods: Sequence[str], rows: Sequence[Row], units: str, seed: int) -> None:
    grid = part.subplots(len(methods), 2, squeeze=False, sharey="row")
    for method, pair in zip(methods, grid, strict=True):
        found = mean_curves([row for row in rows if row.method == method], seed=seed)
        for axes, kind in zip(pair, ("deletion", "insertion"), strict=True):
            for place, ranking in reversed(list(enumerate(RANKINGS))):
                mean, low, high = found[kind][place]
                axes.plot(100 * SHARES, mean, color=COLOURS[ranking], lw=1.8, label=TOLD[ranking])
                axes.fill_between(100 * SHARES, low, high, color=COLOURS[ranking], alpha=0.15, lw=0)
            better = "lower is better" if kind == "deletion" else "higher is better"
            axes.set_title(as_text(f"{method}: {kind} ({better})"), fontsize=9, loc="left")
            _plain(axes)
        pair[0].set_ylabel(units, fontsize=8)
        pair[0].legend(fontsize=7, frameon=False)
    for axes, verb in zip(grid[-1], ("removed", "added"), strict=True):
        axes.set_xlabel(f"parts {verb}, %", fontsize=8)


def _metrics(part: SubFigure, shown: Sequence[str], document: Mapping[str, Any]) -> None:
    methods = list(document["verdicts"])
    n_rows = -(-len(shown) // PER_ROW)
    grid = part.subplots(n_rows, PER_ROW, squeeze=False)
    for name, axes in zip(shown, grid.ravel(), strict=False):
        _dots(axes, name, methods, document["lines"])
    for axes in grid.ravel()[len(shown) :]:
        axes.set_visible(False)


def _dots(axes: Axes, name: str, methods: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw one metric: methods from top to bottom, the orders by energy and by chance just below each."""
    for line in lines:
        cell = line["cells"].get(name)
        if cell is None:
            continue
        place = methods.index(line["method"]) + 0.24 * (RANKINGS.index(line["ranking"]) if COLUMNS[name].ranks else 0)
        colour = COLOURS[line["ranking"]]
        if cell["low"] is not None:
            axes.plot([cell["low"], cell["high"]], [place, place], color=colour, lw=1.6, solid_capstyle="butt")
        axes.plot([cell["mean"]], [place], "o", color=colour, ms=5, mfc=colour if cell.get("best") else "w", mew=1.4)
    axes.set_ylim(len(methods) - 0.2, -0.4)
    first = axes.get_subplotspec()
    told = [as_text(one) for one in methods] if first is not None and first.is_first_col() else [""] * len(methods)
    axes.set_yticks(range(len(methods)), told, fontsize=8)
    axes.set_title(f"{COLUMNS[name].title} {COLUMNS[name].arrow}", fontsize=8, loc="left")
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="0.9", lw=0.6)
    axes.set_axisbelow(True)
