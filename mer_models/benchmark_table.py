"""Tables of the benchmark, computed from what the fits said about held-out windows.

A *line* is one row judged on one part, summed up over folds: mean and standard deviation of cross-entropy, macro
precision, recall and F1, the F1 of each quadrant, F1 of whole clips (called by the mean probability of their windows),
AUC of arousal and valence, calibration error, and what learning cost. A view of a part (a genre, a group of listeners)
has too few songs in a fold, so all folds are judged at once, and what stands beside macro-F1 is its standard deviation
over resampled songs. Lines of one table are compared on the same folds: those that all of them have; what has more gets
a second table. The difference of two contenders' macro-F1 comes with its 95 % interval over songs, both judged on the
same ones. It pools the windows of all folds, which a mean over folds does not.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.benchmark import Row, read_fit
from otoscope.mer_models.contenders import CONTENDERS
from otoscope.mer_models.corpus import Ints
from otoscope.mer_models.harmonics import LABELS
from otoscope.mer_models.measure import (
    UPPER,
    auc,
    calibration_error,
    confusion,
    cross_entropy,
    macro_f1,
    macro_f1_deviation,
    macro_f1_interval,
    per_class,
    spread,
)

Said = Mapping[str, Any]  # what a fit said about a clip, and what is true
Truth = Callable[[Said], int | None]  # the quadrant that counts; None leaves the clip out
Fits = Mapping[int, Mapping[str, Any]]  # fold → the file's content

TABLE_SCHEMA = "otoscope/benchmark/1"
BASELINE = "harmonics"


def own_truth(said: Said) -> int | None:
    """Take the quadrant that the fit was judged by."""
    quadrant: int | None = said["quadrant"]
    return quadrant


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes
    ----------
    row : Row
    judged_on : str
        A part.
    view : str
        Whose judgement, or which songs, where not all; "" for all.
    truth : callable
    """

    row: Row
    judged_on: str
    view: str = ""
    truth: Truth = own_truth

    def clips(self, fit: Mapping[str, Any]) -> list[tuple[int, Said]]:
        """List the clips of a fit that count, each with its quadrant."""
        found = [(self.truth(said), said) for said in fit["clips"] if said["part"] == self.judged_on]
        return [(truth, said) for truth, said in found if truth is not None]


def collect(out: Path, rows: Sequence[Row]) -> dict[Row, Fits]:
    """Read all fits of some rows that are there."""
    found: dict[Row, Fits] = {}
    for row in rows:
        paths = sorted((out / "fits" / row.name).glob("fold-*.json"))
        fits = [read_fit(path) for path in paths]
        if fits:
            found[row] = {fit["fold"]: fit for fit in fits}
    if not found:
        raise OtoscopeError(f"{out}: holds no fits of this study; run it first")
    return found


def judge(clips: Sequence[tuple[int, Said]]) -> dict[str, float | None]:
    """Measure what was said about the clips of one fold."""
    scores = np.concatenate([np.array(said["scores"], dtype=np.float64) for _, said in clips])
    scores /= scores.sum(axis=1, keepdims=True)  # they were rounded
    truth = np.repeat([quadrant for quadrant, _ in clips], [len(said["scores"]) for _, said in clips])
    each = per_class(confusion(list(zip(truth.tolist(), scores.argmax(axis=1).tolist(), strict=True)), len(LABELS)))
    whole = [(quadrant, int(np.mean(said["scores"], axis=0).argmax())) for quadrant, said in clips]
    return {
        "windows": float(len(truth)),
        "cross_entropy": cross_entropy(scores, truth),
        "precision": float(each["precision"].mean()),
        "recall": float(each["recall"].mean()),
        "macro_f1": float(each["f1"].mean()),
        **{f"f1_q{place + 1}": float(each["f1"][place]) for place in range(len(LABELS))},
        "clip_macro_f1": macro_f1(confusion(whole, len(LABELS))),
        **{f"{name}_auc": auc(scores, truth, upper) for name, upper in UPPER.items()},
        "calibration_error": calibration_error(scores, truth),
    }


def summed_up(line: Line, fits: Fits, folds: Sequence[int]) -> dict[str, Any]:
    """Sum up one line over some folds."""
    judged = [judge(clips) for fold in folds if (clips := line.clips(fits[fold]))]
    if line.view and judged:
        judged = [judge([clip for fold in folds for clip in line.clips(fits[fold])])]
    measures: dict[str, dict[str, float] | None] = {}
    for name in judged[0] if judged else ():
        values = [one[name] for one in judged if one[name] is not None]
        measures[name] = spread([value for value in values if value is not None]) if values else None
    if line.view and (macro := measures.get("macro_f1")):
        macro["std"] = macro_f1_deviation(list(by_song(line, fits, folds).values()))
    return {
        "row": asdict(line.row),
        "judged_on": line.judged_on,
        "view": line.view,
        "folds": list(folds),
        "songs": len({said["song"] for fold in folds for _, said in line.clips(fits[fold])}),
        "n_parameters": fits[folds[0]]["n_parameters"],
        "seconds": spread([fits[fold]["seconds"] for fold in folds]),
        "paper_macro_f1": CONTENDERS[line.row.contender].paper,
        "measures": measures,
    }


def by_song(line: Line, fits: Fits, folds: Sequence[int]) -> dict[str, Ints]:
    """Count calls of windows for each song, as confusion matrices."""
    songs: dict[str, list[tuple[int, int]]] = {}
    for fold in folds:
        for quadrant, said in line.clips(fits[fold]):
            calls = np.argmax(said["scores"], axis=1).tolist()
            songs.setdefault(said["song"], []).extend((quadrant, call) for call in calls)
    return {song: confusion(calls, len(LABELS)) for song, calls in songs.items()}


def difference(line: Line, other: Line, found: Mapping[Row, Fits]) -> dict[str, float] | None:
    """Compare the macro-F1 of two lines on the songs that both have judged; None where there are none."""
    common = sorted(set(found[line.row]) & set(found[other.row]))
    ours, theirs = (by_song(one, found[one.row], common) for one in (line, other))
    songs = sorted(set(ours) & set(theirs))
    if not songs:
        return None
    return {**macro_f1_interval([ours[s] for s in songs], [theirs[s] for s in songs]), "songs": len(songs)}


def _table(lines: Sequence[Line], found: Mapping[Row, Fits], folds: Sequence[int]) -> list[dict[str, Any]]:
    """Sum up the lines that have these folds, each with its difference to the baseline learnt and judged alike."""
    told = []
    for line in lines:
        if not set(folds) <= set(found[line.row]):
            continue
        summary = summed_up(line, found[line.row], folds)
        base = baseline(line, lines)
        if base is not None:
            kept = {row: {fold: found[row][fold] for fold in folds} for row in (line.row, base.row)}
            summary["difference"] = difference(line, base, kept)
        told.append(summary)
    return told


def baseline(line: Line, lines: Sequence[Line]) -> Line | None:
    """Find the line of the harmonics CNN that was learnt and judged as this one was."""
    same = (line.row.trained_on, line.row.seconds, line.row.held_out, line.judged_on, line.view)
    for one in lines:
        own = (one.row.trained_on, one.row.seconds, one.row.held_out, one.judged_on, one.view)
        if own == same and one.row.contender == BASELINE != line.row.contender:
            return one
    return None


def tables(lines: Sequence[Line], found: Mapping[Row, Fits]) -> dict[str, list[dict[str, Any]]]:
    """Make a table on the folds that all lines have, and one of those lines that have more.

    Returns
    -------
    dict
        ``same_folds`` and, where some lines have more folds, ``all_folds``.
    """
    lines = [line for line in lines if line.row in found]
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.row.held_out, []).append(line)
    same, more = [], []
    for group in groups.values():
        common = sorted(set.intersection(*(set(found[line.row]) for line in group)))
        every = sorted(set.union(*(set(found[line.row]) for line in group)))
        same += _table(group, found, common) if common else []
        more += _table(group, found, every) if every != common else []
    return {"same_folds": same, **({"all_folds": more} if more else {})}


def document(
    study: str, summary: str, lines: Sequence[Line], found: Mapping[Row, Fits], *, command: str
) -> dict[str, Any]:
    """Write a study down as plain values."""
    return {
        "schema": TABLE_SCHEMA,
        "study": study,
        "summary": summary,
        "command": command,
        "machine": machine(),
        **tables(lines, found),
    }


def machine() -> str:
    """Say what this ran on."""
    import torch

    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{os.cpu_count()} cores, {platform.machine()}, {versions}"


COLUMNS: tuple[tuple[str, str], ...] = (
    ("cross_entropy", "cross-entropy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("macro_f1", "macro-F1"),
    ("f1_q1", "Q1"),
    ("f1_q2", "Q2"),
    ("f1_q3", "Q3"),
    ("f1_q4", "Q4"),
    ("clip_macro_f1", "clips"),
    ("arousal_auc", "arousal AUC"),
    ("valence_auc", "valence AUC"),
    ("calibration_error", "calibration"),
)


def markdown(document: Mapping[str, Any]) -> str:
    """Write a study as Markdown."""
    told = [f"## {document['study']}: {document['summary']}", ""]
    for name, title in (("same_folds", "On the same folds"), ("all_folds", "On all folds")):
        if table := document.get(name):
            told += [f"**{title}** ({_folds(table)})", "", *_rows(table), ""]
    told += [f"`{document['command']}`; {document['machine']}", ""]
    return "\n".join(told)


def _folds(table: Sequence[Mapping[str, Any]]) -> str:
    counts = sorted({len(line["folds"]) for line in table})
    return " or ".join(map(str, counts)) + (" fold" if counts == [1] else " folds")


def _rows(table: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ["learner", "learnt from", "judged on", "parameters", "seconds", *(title for _, title in COLUMNS)]
    head += ["− harmonics (pooled)", "paper's F1"]
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *map(_cells, table))]


def _cells(line: Mapping[str, Any]) -> list[str]:
    row, measures = line["row"], line["measures"]
    length = f", {row['seconds']:g} s" if row["seconds"] != 6 else ""
    held_out = "" if row["held_out"] == "songs" else f", {row['held_out']} held out"
    judged = line["judged_on"] + (f", {line['view']}" if line["view"] else "")
    n_parameters = "–" if line["n_parameters"] is None else f"{line['n_parameters']:,}"
    cells = [row["contender"], " + ".join(row["trained_on"]) + length + held_out, judged, n_parameters]
    cells += [f"{line['seconds']['mean']:.0f}", *(_figure(measures.get(name)) for name, _ in COLUMNS)]
    gap = line.get("difference")
    cells.append("" if gap is None else f"{gap['difference']:+.3f} ({gap['low']:+.3f} … {gap['high']:+.3f})")
    return [*cells, line["paper_macro_f1"]]


def _figure(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "–"
    return f"{value['mean']:.3f} ± {value['std']:.3f}" if value["std"] else f"{value['mean']:.3f}"
