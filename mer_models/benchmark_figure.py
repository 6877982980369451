"""Pictures of the benchmark: macro-F1 of every line of a study, with its spread over folds.

Bars for learners; for windows of several lengths a curve; for learning here and judging there a square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from otoscope.adapters.lettering import lettering

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANCE = 0.25
WINDOWS, CLIPS = "#3b6fb6", "#d98c3f"


@lettering()
def draw(document: Mapping[str, Any], path: Path) -> None:
    """Draw a study (`otoscope.mer_models.benchmark_table.document`) into a PNG file."""
    from matplotlib.figure import Figure

    table = document.get("all_folds", [])
    if 2 * len(table) < len(document["same_folds"]):
        table = document["same_folds"]
    kind = document["study"]
    height = 4.8 if kind in ("lengths", "transfer") else 1.4 + 0.42 * len(table)
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots()
    {"lengths": _curve, "transfer": _square}.get(kind, _bars)(table, axes)
    axes.set_title(f"{kind}: {document['summary']}", loc="left", fontsize=10)
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})


def _bars(table: Sequence[Mapping[str, Any]], axes: Axes) -> None:
    places = np.arange(len(table))[::-1]
    for shift, measure, colour in ((0.2, "macro_f1", WINDOWS), (-0.2, "clip_macro_f1", CLIPS)):
        means, errors = _values(table, measure)
        axes.barh(places + shift, means, 0.38, xerr=errors, color=colour, ecolor="0.35", label=_TITLES[measure])
    axes.set_yticks(places, [_name(line) for line in table], fontsize=8)
    axes.axvline(CHANCE, color="0.4", linewidth=0.8, linestyle="--", label="chance")
    axes.set_xlim(0, None)
    axes.set_xlabel("macro-F1, mean and standard deviation over folds")
    axes.legend(loc="upper right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _curve(table: Sequence[Mapping[str, Any]], axes: Axes) -> None:
    seconds = [line["row"]["seconds"] for line in table]
    for measure, colour in (("macro_f1", WINDOWS), ("clip_macro_f1", CLIPS)):
        means, errors = _values(table, measure)
        axes.errorbar(seconds, means, errors, color=colour, marker="o", capsize=3, label=_TITLES[measure])
    axes.axhline(CHANCE, color="0.4", linewidth=0.8, linestyle="--", label="chance")
    axes.set_xscale("log")
    axes.set_xticks(seconds, [f"{one:g}" for one in seconds])
    axes.minorticks_off()
    axes.set_xlabel("length of a window in seconds")
    axes.set_ylabel("macro-F1")
    axes.legend(fontsize=8)


def _square(table: Sequence[Mapping[str, Any]], axes: Axes) -> None:
    learnt = list(dict.fromkeys(" + ".join(line["row"]["trained_on"]) for line in table))
    judged = list(dict.fromkeys(line["judged_on"] for line in table))
    cells = np.full((len(learnt), len(judged)), np.nan)
    for line in table:
        place = learnt.index(" + ".join(line["row"]["trained_on"])), judged.index(line["judged_on"])
        cells[place] = line["measures"]["macro_f1"]["mean"]
        axes.text(place[1], place[0], f"{cells[place]:.2f}", ha="center", va="center", fontsize=10)
    axes.imshow(cells, cmap="Blues", vmin=CHANCE / 2, vmax=0.8, aspect="auto")
    axes.set_xticks(range(len(judged)), judged, fontsize=8)
    axes.set_yticks(range(len(learnt)), [name.replace(" + ", "\n+ ") for name in learnt], fontsize=8)
    axes.set_xlabel("judged on")
    axes.set_ylabel("learnt from")


_TITLES = {"macro_f1": "windows", "clip_macro_f1": "whole clips"}


def _values(table: Sequence[Mapping[str, Any]], measure: str) -> tuple[list[float], list[float]]:
    found = [line["measures"][measure] for line in table]
    return [one["mean"] for one in found], [one["std"] for one in found]


def _name(line: Mapping[str, Any]) -> str:
    row = line["row"]
    held_out = "" if row["held_out"] == "songs" else f", {row['held_out']} held out"
    return f"{row['contender']} · {line['judged_on']}{' · ' + line['view'] if line['view'] else ''}{held_out}"
