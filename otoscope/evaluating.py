"""One run of ``otoscope evaluate``: recordings × methods, measured one by one, then summed up.

Each finished recording × method is one file below ``rows/``, written whole, so that a killed run goes on where it
stopped. Before any work all rows that are there are read: a damaged one is named and made again, one that answers
another question (other settings, another model) is not touched: the run is refused. Rows of methods and recordings that
are not asked for are left alone and do not count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.audio import load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Model
from otoscope.adapters.registry import name_of
from otoscope.adapters.whole_file import whole_file
from otoscope.console import bar
from otoscope.corpus import recordings_below
from otoscope.explainers.evaluation import Question, Row, evaluate_one, from_document, refuse
from otoscope.explainers.evaluation_columns import find_metrics
from otoscope.explainers.evaluation_table import Document, write
from otoscope.explainers.explain import asked
from otoscope.explainers.methods import settings_for
from otoscope.explainers.store import slug
from otoscope.runs import Run, check, check_model, clear

SCHEMA = "otoscope/evaluation-row/1"
ROWS = "rows"

Told = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What is to be evaluated.

    Attributes
    ----------
    run : Run
        Files, model, methods, one target, settings, span, seed and folder.
    metrics : sequence of str, optional
        All that fit where None.
    """

    run: Run
    metrics: Sequence[str] | None = None


@dataclass(frozen=True)
class Place:
    """One recording × method: where its row lies, and what it answers."""

    file: Path
    method: str
    path: Path
    answers: dict[str, Any]


def find_files(given: Sequence[Path], limit: int | None = None) -> list[Path]:
    """List files, and the recordings below folders in order of name; of more than `limit` as many, evenly spaced.

    Raises
    ------
    OtoscopeError
        If a folder holds no recording.
    """
    found: list[Path] = []
    for path in given:
        below = recordings_below(path) if path.is_dir() else [path]
        if not below:
            raise OtoscopeError(f"{path}: holds no recordings; name a folder with some, or files")
        found += below
    found = list(dict.fromkeys(found))
    if limit is None or len(found) <= limit:
        return found
    return [found[place] for place in np.linspace(0, len(found) - 1, limit).round().astype(int)]


def check_order(order: Order) -> None:
    """Check all that can be checked before the model is loaded.

    Raises
    ------
    OtoscopeError
        Naming the first thing that is wrong.
    """
    refuse(order.run.methods, find_metrics(order.metrics), order.run.settings)
    check(order.run)


def carry_out(order: Order, model: Model, *, tell: Told) -> Document:
    """Measure every recording by every method, or take what was measured, and write the tables.

    Parameters
    ----------
    order : Order
    model : Model
    tell : callable
        Told in one line of what is left out or made again.

    Returns
    -------
    dict
        As in ``evaluation.json``; its ``failed`` names what failed on the way.

    Raises
    ------
    OtoscopeError
        If rows of other settings are there, or nothing could be measured.
    """
    run, metrics = order.run, find_metrics(order.metrics)
    check_model(run, model)
    question = Question(run.targets[0], run.start, run.duration, run.seed, "max_sensitivity" in metrics)
    places = _places(run, model, question, tell)
    rows = _kept(places, run, tell)
    clear(run.out)
    failed: list[dict[str, str]] = []
    ended = False
    try:
        _measure(places, run, model, question, rows, failed)
        ended = True
    finally:  # also where the run is interrupted: what is finished is worth looking at
        found = [rows[place.path] for place in places if place.path in rows]
        if found:
            more = {"failed": failed, "complete": ended and not failed}
            document = write(run.out, found, metrics, seed=run.seed, more=more)
    if not found:
        raise OtoscopeError("; ".join(f"{one['file']}, {one['method']}: {one['error']}" for one in failed))
    return document


def _places(run: Run, model: Model, question: Question, tell: Told) -> list[Place]:
    """List what is to be measured; of files with the same sound, the first."""
    places, seen = [], dict[str, Path]()
    for file in run.files:
        sha256 = load_audio(file).sha256
        if sha256 in seen:
            tell(f"{file}: is the same recording as {seen[sha256]}; it counts once")
            continue
        seen[sha256] = file
        for method in dict.fromkeys(run.methods):
            settings = settings_for(run.settings, method)
            answers = {
                "sha256": sha256,
                "fingerprint": model.fingerprint,
                "method": method,
                "seed": run.seed,
                "sensitivity": question.sensitivity,
                "settings": {**asdict(settings), **asked(question.target, run.start, run.duration)},
            }
            path = run.out / ROWS / f"{slug(file.stem)}-{sha256[:8]}-{slug(method)}.json"
            places.append(Place(file, method, path, json.loads(json.dumps(answers))))
    return places


def _kept(places: Sequence[Place], run: Run, tell: Told) -> dict[Path, Row]:
    """Read the rows that answer the question already; none where all are to be made again."""
    rows: dict[Path, Row] = {}
    if not run.resume:
        return rows
    for place in places:
        if not place.path.exists():
            continue
        try:
            answers, row = read_row(place.path)
        except OtoscopeError as error:
            tell(str(error))
            continue
        if answers == place.answers:
            rows[place.path] = row
        elif not run.force:
            raise OtoscopeError(
                f"{place.path}: holds a result of {_difference(answers, place.answers)}; use --force to replace it, or "
                "another --out"
            )
    return rows


def _difference(kept: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Say what differs between two questions."""
    flat = [{**one, **one.get("settings", {})} for one in (kept, wanted)]
    names = [name for name in flat[1] if name != "settings" and flat[0].get(name) != flat[1][name]]
    told = ", ".join(f"{name} {flat[0].get(name)!s:.40}, not {flat[1][name]!s:.40}" for name in names[:3])
    return f"other settings ({told})" if told else "another version"


def read_row(path: Path) -> tuple[dict[str, Any], Row]:
    """Read what a row answers, and the row.

    Raises
    ------
    OtoscopeError
        If it is damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r:.40}")
        return dict(document["answers"]), from_document(document["row"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise OtoscopeError(f"{path}: this result is damaged ({fault}); it is made again") from None


def _measure(
    places: Sequence[Place],
    run: Run,
    model: Model,
    question: Question,
    rows: dict[Path, Row],
    failed: list[dict[str, str]],
) -> None:
    """Make the rows that are missing."""
    (run.out / ROWS).mkdir(parents=True, exist_ok=True)
    with bar(f"{len(places)} explanations") as progress:
        for number, place in enumerate(places):
            progress(number, len(places))
            if place.path in rows:
                continue
            try:
                rows[place.path] = _make(place, run, model, question)
            except OtoscopeError as error:
                told = str(error).removeprefix(f"{place.file.name}: ")
                failed.append({"file": str(place.file), "method": place.method, "error": told})
        progress(len(places), len(places))


def _make(place: Place, run: Run, model: Model, question: Question) -> Row:
    """Measure one recording by one method, and keep the row."""
    row = evaluate_one(
        model,
        load_audio(place.file),
        place.method,
        question,
        settings=settings_for(run.settings, place.method),
        batch_size=run.batch_size,
        name=name_of(run.model),
    )
    document = {"schema": SCHEMA, "answers": place.answers, "row": row.to_document()}
    with whole_file(place.path) as partial:
        partial.write_text(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return row
