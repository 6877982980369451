"""One run of ``otoscope timeline``: checked first, scored in batches, written whole or not at all.

A timeline lies in ``DIR/<stem>-<sha8>/<model>/timeline/`` as ``timeline.csv``, ``timeline.json`` and
``timeline.png``; CSV and JSON hold the same numbers, rounded to six digits. Windows that were to be explained are
explained by `otoscope.runs`, as ``otoscope explain`` would, below ``DIR/at-<seconds>s/`` with a report of their own,
which the JSON links.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats, Model
from otoscope.adapters.registry import name_of
from otoscope.adapters.stream import Recording, survey
from otoscope.console import bar
from otoscope.explainers.store import model_folder, whole_or_nothing
from otoscope.mer_models.emotion_figures import draw_timeline
from otoscope.mer_models.sketch import sketch
from otoscope.mer_models.timeline import Timeline, check_step, follow, smoothed, window_samples
from otoscope.runs import Run, carry_out, check, check_model, check_out

DIGITS = 6
AXES = ("valence", "arousal")

Document = dict[str, Any]


@dataclass(frozen=True)
class Following:
    """How recordings are to be followed.

    Attributes
    ----------
    model : str
        Short name, or path of a card.
    out : Path
    step : float
        In seconds.
    window, smooth : float, optional
        In seconds.
    batch_size, seed : int
    force : bool
    """

    model: str
    out: Path
    step: float
    window: float | None = None
    smooth: float | None = None
    batch_size: int = 32
    seed: int = 0
    force: bool = False


def survey_all(files: Sequence[Path], wish: Following) -> list[Recording]:
    """Check what can be checked before a model is loaded, and read every recording once.

    Raises
    ------
    OtoscopeError
        Naming the first thing that is wrong.
    """
    check_step(wish.step)
    for option, seconds in (("--window", wish.window), ("--smooth", wish.smooth)):
        if seconds is not None and not 0 < seconds < np.inf:
            raise OtoscopeError(f"{option} must be more than 0 s, got {seconds:g}")
    check_out(wish.out, keep=not wish.force)
    found = []
    with bar("reading") as progress:
        for done, file in enumerate(files, start=1):
            found.append(survey(file))
            progress(done, len(files))
    return found


def check_moments(recordings: Sequence[Recording], moments: Sequence[float], run: Run) -> None:
    """Refuse moments that a recording does not have, and explanations that cannot be.

    Raises
    ------
    OtoscopeError
    """
    for recording in recordings:
        for moment in moments:
            if not 0 <= moment <= recording.seconds:
                raise OtoscopeError(
                    f"{recording.path}: has no moment at {moment:g} s to explain; it lasts {recording.seconds:.2f} s"
                )
    if moments:
        check(replace(run, force=True))


def timelines(
    recordings: Sequence[Recording], model: Model, wish: Following, *, moments: Sequence[float], run: Run
) -> tuple[list[Document], list[dict[str, str]]]:
    """Follow every recording, explain the windows asked for, write the results.

    Parameters
    ----------
    recordings : sequence of Recording
    model : Model
    wish : Following
    moments : sequence of float
        In seconds: the window whose middle lies nearest to each is explained.
    run : Run
        How.

    Returns
    -------
    documents : list of dict
        As written, with the folder.
    failed : list of dict
        What failed on the way, with the error.
    """
    for recording in recordings:
        window = window_samples(model, wish.window, recording.seconds) / model.rate
        check_step(wish.step, window=window, seconds=recording.seconds, n_classes=len(model.labels))
    if moments:
        check_model(run, model)
    documents: list[Document] = []
    failed: list[dict[str, str]] = []
    for recording in recordings:
        try:
            timeline = followed(model, recording, wish)
            links = [_explain(timeline, recording, moment, model, run, failed) for moment in moments]
            documents.append(_write_timeline(timeline, recording, model, wish, [link for link in links if link]))
        except OtoscopeError as error:
            failed.append({"file": str(recording.path), "error": str(error).removeprefix(f"{recording.name}: ")})
    return documents, failed


def followed(model: Model, recording: Recording, wish: Following, *, tail: bool = True) -> Timeline:
    """Follow a recording as wished, behind a progress bar."""
    with bar(recording.name) as progress:
        timeline = follow(
            model,
            recording,
            step=wish.step,
            window=wish.window,
            tail=tail,
            batch_size=wish.batch_size,
            progress=progress,
        )
    return timeline if wish.smooth is None else smoothed(timeline, wish.smooth)


def _explain(
    timeline: Timeline, recording: Recording, moment: float, model: Model, run: Run, failed: list[dict[str, str]]
) -> Document | None:
    """Explain the window around a moment; what fails is noted, and the timeline kept."""
    index = timeline.nearest(moment)
    start, end = float(timeline.starts[index]), float(timeline.ends[index])
    whole = len(timeline.starts) == 1  # of which the length needs no saying, and rounds otherwise at the model's rate
    one = replace(
        run,
        files=[recording.path],
        out=run.out / f"at-{moment:g}s",
        start=None if whole else start,
        duration=None if whole else end - start,
        force=True,
    )
    try:
        results, errors, report = carry_out(one, model)
    except OtoscopeError as error:
        results, errors, report = [], [{"file": str(recording.path), "error": str(error)}], None
    failed += errors
    if report is None or not results:
        return None
    told = [{key: r[key] for key in ("method", "target", "score", "folder")} for r in results]
    return {"moment": moment, "start": rounded(start), "end": rounded(end), "report": str(report), "results": told}


def rounded(value: float) -> float:
    """Round to the digits that are written."""
    return round(float(value), DIGITS) + 0.0


def table(timeline: Timeline) -> tuple[list[str], list[list[float]]]:
    """Lay a timeline out as a table.

    Returns
    -------
    header : list of str
        ``start_s``, ``end_s``, the labels, and valence and arousal where they come from quadrants.
    rows : list of list of float
        Rounded to six digits.
    """
    columns: list[Floats] = [timeline.starts[:, None], timeline.ends[:, None], timeline.scores]
    header = ["start_s", "end_s", *timeline.labels]
    if timeline.plane is not None and not _own_axes(timeline.labels):
        columns.append(timeline.plane)
        header += AXES
    return header, [[rounded(value) for value in row] for row in np.concatenate(columns, axis=1)]


def _own_axes(labels: Sequence[str]) -> bool:
    return set(AXES) <= {label.casefold() for label in labels}


def about(model: Model, wish: Following, timeline: Timeline) -> Document:
    """Say which model was asked, and how."""
    return {
        "model": {
            "name": name_of(wish.model),
            "fingerprint": model.fingerprint,
            "labels": list(model.labels),
            "output": model.output,
        },
        "window": rounded(timeline.window),
        "step": wish.step,
        "smooth": wish.smooth,
    }


def heard(recording: Recording, timeline: Timeline) -> Document:
    """Say which recording was heard, and what a reader must know of it."""
    return {
        "recording": recording.name,
        "sha256": recording.sha256,
        "seconds": rounded(recording.seconds),
        "notes": [*recording.faults, *timeline.notes],
    }


def _write_timeline(
    timeline: Timeline, recording: Recording, model: Model, wish: Following, links: list[Document]
) -> Document:
    folder = wish.out / model_folder(recording.name, recording.sha256, name_of(wish.model)) / "timeline"
    header, rows = table(timeline)
    windows = []
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        one: Document = {"start": cells["start_s"], "end": cells["end_s"]}
        one["scores"] = {label: cells[label] for label in timeline.labels}
        if timeline.plane is not None:
            names = {name.casefold(): name for name in header}
            one |= {axis: cells[names[axis]] for axis in AXES}
        windows.append(one)
    document = {
        "schema": "otoscope/timeline/1",
        **heard(recording, timeline),
        **about(model, wish, timeline),
        "windows": windows,
        "explained": [{**link, "report": os.path.relpath(link["report"], folder)} for link in links],
    }
    title = f"{recording.name} · {name_of(wish.model)} · windows of {timeline.window:g} s every {wish.step:g} s"
    title += "" if wish.smooth is None else f", smoothed over {wish.smooth:g} s"
    spans = [(link["start"], link["end"]) for link in links]
    with whole_or_nothing(folder) as partial:
        write_csv(partial / "timeline.csv", header, rows)
        write_json(partial / "timeline.json", document)
        draw_timeline(timeline, sketch(recording), partial / "timeline.png", title=title, explained=spans)
    return {**document, "explained": links, "folder": str(folder)}


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def write_json(path: Path, document: Document) -> None:
    """Write a document for machines."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
