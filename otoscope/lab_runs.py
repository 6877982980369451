"""One run of ``otoscope benchmark``: checked first, then learnt, judged, and written down study by study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.store import write_atomically
from otoscope.mer_models import benchmark
from otoscope.mer_models.benchmark_figure import draw
from otoscope.mer_models.benchmark_table import collect, document, markdown, to_json
from otoscope.mer_models.data import write_table
from otoscope.mer_models.datasets import gather
from otoscope.mer_models.emotify import judgements
from otoscope.mer_models.lab import Lab
from otoscope.mer_models.studies import EMOTIFY, find_study, rows_of

QUICK = ("harmonics", "random_masks", "square", "svm")
QUICK_EPOCHS = 2


@dataclass(frozen=True)
class Order:
    """What is to be compared; the fields are the options of the command."""

    studies: tuple[str, ...]
    data: Path
    out: Path
    fonts: tuple[Path, ...]
    cache: Path
    n_folds: int
    chosen: tuple[int, ...]
    large_folds: int
    contenders: tuple[str, ...]
    epochs: int | None
    jobs: int
    quick: bool
    seed: int
    resume: bool
    command: str


@dataclass(frozen=True)
class Finding:
    """What a study found: as plain values, as Markdown, and where that lies."""

    document: dict[str, Any]
    markdown: str
    path: Path


def carry_out(order: Order, progress: Callable[[str], None]) -> dict[str, Finding]:
    """Check, learn, judge, write.

    Raises
    ------
    OtoscopeError
        Naming the first thing that is wrong, before any work.
    """
    for name in order.studies:
        find_study(name)
    if order.out.exists() and not order.out.is_dir():
        raise OtoscopeError(f"{order.out}: is a file; choose a folder for --out")
    if wrong := [fold for fold in order.chosen if fold >= order.n_folds]:
        raise OtoscopeError(f"fold {wrong[0]} is none of 0 to {order.n_folds - 1}; change --fold or --folds")
    clips = gather(order.data, fonts=order.fonts, cache=order.cache, progress=progress)
    lab = Lab(clips, order.n_folds, order.seed, order.cache, progress)
    lab = benchmark.quick(lab) if order.quick else lab
    contenders = order.contenders or (QUICK if order.quick else ())
    rows = {name: rows_of(name, lab.parts, contenders) for name in order.studies}
    order.out.mkdir(parents=True, exist_ok=True)
    write_table(lab.clips, lab.folds("songs"), order.out / "recordings.csv")
    fits = benchmark.fits_of(
        lab, [row for own in rows.values() for row in own], order.chosen or None, order.large_folds
    )
    epochs = QUICK_EPOCHS if order.quick and order.epochs is None else order.epochs
    benchmark.run(lab, fits, order.out, epochs=epochs, resume=order.resume, jobs=order.jobs)
    listeners = judgements(order.data / EMOTIFY) if EMOTIFY in lab.parts else {}
    return {name: _tell(order, name, lines_from(order, name, rows[name], lab, listeners)) for name in order.studies}


def lines_from(order: Order, name: str, rows: Any, lab: Lab, listeners: Any) -> tuple[Any, Any]:
    """Read what the fits of a study said, and list the lines of its table."""
    found = collect(order.out, rows)
    return find_study(name).lines([row for row in rows if row in found], lab.parts, listeners), found


def _tell(order: Order, name: str, told: tuple[Any, Any]) -> Finding:
    """Write a study down as Markdown, JSON and PNG."""
    lines, found = told
    table = document(name, find_study(name).summary, lines, found, command=order.command)
    text, path = markdown(table), order.out / f"{name}.md"
    write_atomically(path, lambda place: place.write_text(text, encoding="utf-8"))
    write_atomically(path.with_suffix(".json"), lambda place: place.write_text(to_json(table), encoding="utf-8"))
    write_atomically(path.with_suffix(".png"), lambda place: draw(table, place))
    return Finding(table, text, path)
