"""What is written of a comparison: a page to read, numbers for programs, a table, a picture.

================  ==================================================================================================
compare.html      self-contained: agreement in words and numbers, and for each recording what everyone heard, the maps
                  side by side, and where rivals differ, to be seen and heard
compare.json      everything, with ``schema: "otoscope/comparison/1"``
compare.csv       one row per pair of explanations and recording
compare.png       the matrices over all recordings, and the maps of the first of them
================  ==================================================================================================

Like `report.html` the page runs no script and fetches nothing; labels and names of files are escaped.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.pitch import C0, note_name
from otoscope.adapters.spectra import Floats
from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.agreement import MEASURES, TOP_SHARE, Clusters, clusters
from otoscope.explainers.cases import (
    Case,
    Tally,
    agreement_of,
    all_rows,
    mean_over_cases,
    rivalries,
    rivals,
    row_names,
)
from otoscope.explainers.comparison_figure import Strip, draw_agreement, draw_difference, draw_maps, draw_overview
from otoscope.explainers.difference import Difference
from otoscope.explainers.embedding import as_data, mp3, template
from otoscope.explainers.parts import Bools

SCHEMA = "otoscope/comparison/1"
FILES = ("compare.html", "compare.json", "compare.csv", "compare.png")
N_PARTS = 6  # of each difference, in the page and the JSON
ALIKE = 0.15  # Spearman from which agreement is spoken of
BEYOND = 0.05  # by which it must exceed chance
MEANINGS = {
    "spearman": "rank correlation of the maps' cells, -1 to 1",
    "iou": f"intersection over union of the strongest {TOP_SHARE:.0%} of the cells",
    "iou_time": f"intersection over union of the strongest {TOP_SHARE:.0%} of the moments (100 ms)",
    "iou_frequency": f"intersection over union of the strongest {TOP_SHARE:.0%} of the bands (semitones)",
    "sign": "share of the mass both lay on the same cells that says the same, for or against",
    "mass": "mass both lay on the same cells with the same sign, of 1",
}

Document = dict[str, Any]


def in_words(spearman: float, chance: float) -> str:
    """Say a correlation in words, in view of what it would be by chance.

    >>> in_words(0.82, 0.1), in_words(0.82, 0.8), in_words(0.05, 0.0)
    ('agree well', 'agree no more than by chance', 'do not agree')
    """
    if ALIKE <= spearman < chance + BEYOND:
        return "agree no more than by chance"
    steps = ((0.7, "agree well"), (0.4, "agree in part"), (ALIKE, "agree a little"), (-ALIKE, "do not agree"))
    return next((words for least, words in steps if spearman >= least), "say the opposite")


def document_of(case: Case) -> Document:
    """Tell a case in numbers, its differences apart."""
    comparison = case.comparison
    return {
        "recording": case.recording,
        "audio_sha256": comparison.explanations[0].audio_sha256,
        "asked": case.asked,
        "start": comparison.start,
        "duration": round(comparison.duration, 4),
        "explanations": [_explained(case, place) for place in range(len(case.rows))],
        "agreement": {name: _plain(values) for name, values in comparison.agreement.items()},
        "chance": {name: _plain(values) for name, values in comparison.chance.items()},
        "clusters": _tree(comparison.clusters),
        "notes": [*case.notes, *comparison.notes],
    }


def _explained(case: Case, place: int) -> Document:
    one, row = case.comparison.explanations[place], case.rows[place]
    trip = one.round_trip
    return {
        "name": case.comparison.names[place],
        **{key: value for key, value in asdict(row).items() if value != ""},
        "explained": one.target.name,
        "stands_for": case.comparison.stands_for[place],
        "fingerprint": one.fingerprint,
        "score": trip.original.score,
        "evidence_alone": trip.evidence.score,
        "everything_else": trip.complement.score,
        "top": trip.original.top,
        "verdict": None if one.verdict is None else one.verdict.word,
        "heard_below_hz": one.audio.rate / 2,
        "n_calls": one.n_calls,
        "folder": case.folders[place],
    }


def _plain(values: Floats) -> list[list[float | None]]:
    return [[None if np.isnan(value) else round(float(value), 6) for value in row] for row in values]


def _tree(tree: Clusters) -> Document:
    return {"names": list(tree.names), "order": list(tree.order), "labels": list(tree.labels), "merges": [*tree.merges]}


def differences_of(case: Case) -> list[tuple[Document, Difference]]:
    """Find where the rivals of a case differ; those about other targets only where there are no others."""
    _, pairs = rivals(case.rows)
    alike = [pair for pair in pairs if case.comparison.same_target(*pair)]
    first_seed = case.rows[0].seed
    found = []
    for i, j in alike or pairs:
        if case.rows[i].seed != first_seed:
            continue  # the first seed stands for the others
        difference = case.comparison.difference(i, j)
        found.append((_difference(case, i, j, difference), difference))
    return found


def _difference(case: Case, i: int, j: int, difference: Difference) -> Document:
    values = difference.difference
    strongest = [int(part) for part in np.argsort(-np.abs(values), kind="stable")[:N_PARTS] if values[part]]
    names = case.comparison.names
    return {
        "first": names[i],
        "second": names[j],
        "distance": round(difference.distance, 6),
        "parts": [
            {
                "name": difference.parts.names[part],
                "first": float(difference.first[part]),
                "second": float(difference.second[part]),
                "difference": float(values[part]),
                "energy": float(difference.parts.energy[part]),
                "unheard_by": [
                    name
                    for name, unheard in (
                        (names[i], difference.unheard_by_first),
                        (names[j], difference.unheard_by_second),
                    )
                    if unheard[part]
                ],
            }
            for part in strongest
        ],
    }


def section_of(case: Case, told: Document, differences: Sequence[tuple[Document, Difference]], maps: Strip) -> Document:
    """Prepare a case for the page: pictures and sounds as data."""
    parts = case.comparison.parts
    return {
        **told,
        "title": case.title,
        "sound": mp3(parts.audio),
        "maps": as_data("image/png", draw_maps(maps)),
        "differences": [_shown(case, one, difference) for one, difference in differences],
    }


def _shown(case: Case, told: Document, difference: Difference) -> Document:
    targets = dict(zip(case.comparison.names, (one.target.name for one in case.comparison.explanations), strict=True))
    sides = (
        (told["first"], told["second"], difference.more_for_first, difference.unheard_by_second),
        (told["second"], told["first"], difference.more_for_second, difference.unheard_by_first),
    )
    return {
        **told,
        "picture": as_data("image/png", draw_difference(difference, told["first"], told["second"])),
        "sides": [
            {
                "name": name,
                "other": other,
                "target": targets[name],
                "n": int(chosen.sum()),
                "sound": mp3(difference.sound(chosen)) if chosen.any() else None,
                "deaf": difference.share(chosen & unheard, chosen),
                "above_all": _place(difference, chosen),
            }
            for name, other, chosen, unheard in sides
        ],
    }


def _place(difference: Difference, chosen: Bools) -> str:
    """Say where the strongest of the chosen parts lies, in seconds and notes; empty where none is chosen."""
    if not chosen.any():
        return ""
    strongest = int(np.argmax(np.where(chosen, np.abs(difference.difference), -1)))
    start, end, low, high = difference.parts.extents[strongest]
    notes = [note_name(max(frequency, C0)) for frequency in (low, high)]
    return f"{start:.1f}–{end:.1f} s, {notes[0]} to {notes[1]} ({low:.0f}–{high:.0f} Hz)"


def overall(tallies: Sequence[Tally]) -> tuple[Document, dict[str, Floats], Clusters]:
    """Sum up all cases: as numbers, as matrices in the order of all rows, and as a tree."""
    rows = all_rows(tallies)
    names = row_names(rows)
    means = {name: mean_over_cases(values) for name, values in agreement_of(tallies, rows).items()}
    tree = clusters(np.nan_to_num(means["spearman"], nan=0.0), names)
    kind, found = rivalries(tallies)
    told = {
        "rows": [{"name": name, **asdict(row)} for name, row in zip(names, rows, strict=True)],
        "measures": MEANINGS,
        "agreement": {name: _plain(values) for name, values in means.items()},
        "clusters": {**_tree(tree), "groups": tree.groups},
        "rivals": {"kind": kind, "pairs": [asdict(one) for one in found]},
        "n_cases": len(tallies),
    }
    return told, means, tree


def sentences(document: Document) -> list[str]:
    """Tell in words how far the rivals of a comparison agree."""
    return [_sentence(document["rivals"]["kind"], **pair) for pair in document["rivals"]["pairs"]]


def _sentence(kind: str, *, first: str, second: str, under: str, spearman: float, chance: float, **more: Any) -> str:
    cases = "1 comparison" if more["n"] == 1 else f"{more['n']} comparisons"
    spread = "" if more["n"] == 1 else f", from {more['least']:+.2f} to {more['most']:+.2f}"
    other = "" if more["same_target"] else " They were never asked about the same thing, so this says little."
    by = {"models": f" by {under}", "results": f" ({under})"}.get(kind, f" for {under}")
    told = f"{first} and {second}{by} {in_words(spearman, chance)}"
    return f"{told}: Spearman {spearman:+.2f}{spread} over {cases}, by chance {chance:+.2f}.{other}"


def write(
    out: Path,
    tallies: Sequence[Tally],
    documents: Sequence[Document],
    sections: Sequence[Document],
    strips: Sequence[Strip],
    more: Document,
) -> Document:
    """Write all four files into a folder that exists; give what ``compare.json`` holds."""
    told, means, tree = overall(tallies)
    document = {"schema": SCHEMA, **told, "trusted": _trusted(documents), "cases": list(documents), **more}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    shown = template("comparison.html").render(
        sections=sections,
        kind=document["rivals"]["kind"],
        rivals=[{**one, "words": in_words(one["spearman"], one["chance"])} for one in document["rivals"]["pairs"]],
        groups=tree.groups,
        trusted=document["trusted"],
        matrices=as_data("image/png", draw_agreement(means, tree)),
        more=more,
    )
    with whole_file(out / "compare.png") as partial:
        draw_overview(partial, means, tree, strips)
    with whole_file(out / "compare.csv") as partial:
        _write_table(partial, documents)
    with whole_file(out / "compare.html") as partial:
        partial.write_text(shown, encoding="utf-8")
    with whole_file(out / "compare.json") as partial:
        partial.write_text(text, encoding="utf-8")
    return document


def _trusted(documents: Sequence[Document]) -> dict[str, int]:
    """Count the explanations that were checked, and those of them that are to be trusted."""
    verdicts = [one["verdict"] for document in documents for one in document["explanations"]]
    return {"checked": len(verdicts) - verdicts.count(None), "trusted": verdicts.count("trust")}


def _write_table(path: Path, documents: Sequence[Document]) -> None:
    header = ["recording", "asked", "first", "second", "first_target", "second_target", "same_target", *MEASURES]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        for one in documents:
            rows = one["explanations"]
            for i, j in combinations(range(len(rows)), 2):
                same = rows[i]["stands_for"].casefold() == rows[j]["stands_for"].casefold()
                told = [rows[i]["name"], rows[j]["name"], rows[i]["explained"], rows[j]["explained"], int(same)]
                values = [one["agreement"][measure][i][j] for measure in MEASURES]
                table.writerow([one["recording"], one["asked"], *told, *values])
