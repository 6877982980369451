"""One run of ``otoscope compare``: recordings × models × methods explained alike, then put side by side.

All models explain the same span of a recording: as long as the longest of 10 s and the models' windows, or the whole
of a shorter recording, where the first model scores highest, unless told otherwise. Explanations are kept in the
folders that ``otoscope explain`` would use (further seeds below ``seed-N/``), so that a run can be resumed; the
comparison lies above them. What fails on the way is named at the end and the other recordings are compared.

Saved explanations are compared as well, of two releases of a model, say: `compare_results`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from otoscope.adapters.audio import load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Model
from otoscope.adapters.registry import name_of
from otoscope.asking import Asker
from otoscope.explainers.cases import Case, Row, Tally, below, row_names, tally
from otoscope.explainers.comparison import compare
from otoscope.explainers.comparison_figure import Strip, strip
from otoscope.explainers.comparison_report import (
    Document,
    differences_of,
    document_of,
    section_of,
    write,
)
from otoscope.explainers.counterparts import read_mapping
from otoscope.explainers.methods import find_method
from otoscope.explainers.report import find_results, write_report
from otoscope.explainers.store import load_explanation, read_document
from otoscope.runs import Finished, Run, check, check_model, check_out, clear, explain_one, finished

Load = Callable[[str], Model]


@dataclass(frozen=True)
class Order:
    """What is to be compared.

    Attributes
    ----------
    run : Run
        Files, methods, targets, settings, span, seed and folder; its model counts for nothing.
    models : sequence of str
        Short names, or paths of cards.
    n_seeds : int
        Each explanation is made with this many seeds.
    mapping : Path, optional
        See `otoscope.explainers.counterparts`.
    match : bool
        Whether labels may be paired by the correlation of their scores.
    min_spearman : float, optional
        What is asked for.
    """

    run: Run
    models: Sequence[str]
    n_seeds: int = 1
    mapping: Path | None = None
    match: bool = False
    min_spearman: float | None = None


@dataclass(frozen=True)
class Gathered:
    """What is kept of the cases on the way."""

    tallies: list[Tally]
    documents: list[Document]
    sections: list[Document]
    strips: list[Strip]

    def take(self, case: Case) -> None:
        """Keep of a case what the report needs, and let go of its sounds."""
        told, maps = document_of(case), strip(case.title, case.comparison)
        differences = differences_of(case)
        self.sections.append(section_of(case, told, differences, maps))
        self.documents.append({**told, "differences": [one for one, _ in differences]})
        self.tallies.append(tally(case))
        self.strips.append(maps)


def check_order(order: Order) -> None:
    """Check all that can be checked before a model is loaded.

    Raises
    ------
    OtoscopeError
    """
    run, names = order.run, [name_of(model) for model in order.models]
    if len(names) * len(set(run.methods)) * order.n_seeds < 2:
        raise OtoscopeError("there is nothing to compare; name two models by --model, or two methods, or use --seeds 2")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise OtoscopeError(
            f"two models are called {twice[0]!r}; rename one in its card, or use --seeds 2 for one model"
        )
    if order.min_spearman is not None and len(names) < 2:
        raise OtoscopeError("--min-spearman checks how far models agree; name two by --model")
    needy = [method for method in run.methods if find_method(method).needs_two_level]
    if needy:
        raise OtoscopeError(f"{needy[0]} needs a corpus; explain by it first and compare the folders by --results")
    check(run)
    if order.mapping is not None:
        read_mapping(order.mapping)


def compare_models(order: Order, load: Load) -> Document:
    """Explain all recordings by all models and methods, compare, write the report.

    Returns
    -------
    dict
        As in ``compare.json``; its ``check`` tells whether the models agree as asked.

    Raises
    ------
    OtoscopeError
        If nothing could be compared, or nothing is there to be checked.
    """
    models = {name_of(spec): load(spec) for spec in order.models}
    for spec, model in zip(order.models, models.values(), strict=True):
        check_model(replace(order.run, model=spec, targets=[]), model)
    asker = Asker(order.run, models, mapping=order.mapping, match=order.match)
    clear(order.run.out)
    done = finished(order.run.out) if order.run.resume else {}
    gathered, failed = Gathered([], [], [], []), []
    try:
        for file in order.run.files:
            try:
                for case in [_case(order, asker, file, target, done) for target in order.run.targets]:
                    gathered.take(case)
            except OtoscopeError as error:
                failed.append({"file": str(file), "error": str(error).removeprefix(f"{file.name}: ")})
    finally:
        if find_results(order.run.out):
            write_report(order.run.out)
    if not gathered.tallies:
        raise OtoscopeError("; ".join(f"{failure['file']}: {failure['error']}" for failure in failed))
    return _finish(order.run.out, gathered, failed, order.min_spearman)


def _case(order: Order, asker: Asker, file: Path, asked: str, done: Finished) -> Case:
    """Explain one recording by all models, methods and seeds, and compare."""
    run, audio = order.run, load_audio(file)
    span, counterparts = asker.ask(audio, asked)
    rows, folders = [], []
    seeds = range(run.seed, run.seed + order.n_seeds)
    for spec, method, seed in product(order.models, dict.fromkeys(run.methods), seeds):
        name = name_of(spec)
        out = run.out if seed == run.seed else run.out / f"seed-{seed}"
        single = replace(run, model=spec, out=out, seed=seed, start=span.start, duration=span.duration)
        told = explain_one(single, asker.models[name], None, file, method, counterparts[name].target, done)
        rows.append(Row(name, method, seed))
        folders.append(told["folder"])
    means = [counterparts[row.model].stands_for for row in rows]
    notes = [
        f"{row.model}: {found.target} was taken for {found.stands_for}, with which its score correlates by "
        f"{found.correlation:+.2f} over all recordings"
        for row, found in {row.model: (row, counterparts[row.model]) for row in rows}.values()
        if found.correlation is not None
    ]
    return _compared(audio.name, asked, rows, folders, means, notes)


def _compared(
    recording: str, asked: str, rows: list[Row], folders: list[str], means: list[str], notes: list[str]
) -> Case:
    explanations = [load_explanation(folder) for folder in folders]
    stands_for = [mean or one.target.name for mean, one in zip(means, explanations, strict=True)]
    comparison = compare(explanations, row_names(rows), stands_for=stands_for)
    return Case(recording, asked, tuple(rows), comparison, tuple(folders), tuple(notes))


def compare_results(directories: Sequence[Path], out: Path, *, force: bool, min_spearman: float | None) -> Document:
    """Compare explanations that are saved below several folders, recording by recording.

    Raises
    ------
    OtoscopeError
        If a folder holds none, or there is no recording that all of them explain.
    """
    check_out(out, keep=not force)
    if len({directory.resolve() for directory in directories}) < 2:
        raise OtoscopeError("name two different folders by --results: last release's explanations and today's, say")
    gathered, failed = Gathered([], [], [], []), []
    for recording, found in _by_recording(directories).items():
        rows, folders = [row for row, _ in found], [str(folder) for _, folder in found]
        name = read_document(found[0][1])["audio"]["name"]
        try:
            if len({row.results for row in rows}) < len(directories):
                raise OtoscopeError("not every folder holds an explanation of it")
            gathered.take(_compared(name, "", rows, folders, [""] * len(rows), []))
        except OtoscopeError as error:
            failed.append({"file": f"{name} ({recording[:8]})", "error": str(error).removeprefix(f"{name}: ")})
    if not gathered.tallies:
        told = " and ".join(str(directory) for directory in directories)
        faults = "; ".join(f"{failure['file']}: {failure['error']}" for failure in failed)
        raise OtoscopeError(f"{told} have nothing in common to compare; explain the same recordings ({faults})")
    out.mkdir(parents=True, exist_ok=True)
    return _finish(out, gathered, failed, min_spearman)


def _by_recording(directories: Sequence[Path]) -> dict[str, list[tuple[Row, Path]]]:
    """List the results below folders by the hash of their recording: the same sound may have another name."""
    names = [directory.resolve().name for directory in directories]
    names = [name if names.count(name) == 1 else str(path) for path, name in zip(directories, names, strict=True)]
    found: dict[str, list[tuple[Row, Path]]] = {}
    for directory, name in zip(directories, names, strict=True):
        folders = find_results(directory)
        if not folders:
            raise OtoscopeError(f"{directory}: holds no explanations; name a folder that `otoscope explain` made")
        for folder in folders:
            told = read_document(folder)
            asked = str(told["settings"].get("target", told["target"]["name"]))
            row = Row(told["model"]["name"], told["method"], told["seed"], name, asked)
            found.setdefault(told["audio"]["sha256"], []).append((row, folder))
    return found


def _finish(out: Path, gathered: Gathered, failed: list[dict[str, str]], least: float | None) -> Document:
    """Check what was asked for and write the report, also where there is nothing to check."""
    n_recordings = len({one["audio_sha256"] for one in gathered.documents}) + len(failed)
    told: dict[str, Any] = {"n_recordings": n_recordings, "failed": failed, "check": None}
    trouble = None
    if least is not None:
        try:
            found = below(gathered.tallies, least)
            lines = [f"{x.first} and {x.second} ({x.under}): {x.spearman:.3f} is below {least:g}" for x in found]
            told["check"] = {"min_spearman": least, "passed": not found, "below": lines}
        except OtoscopeError as error:
            trouble = error
    document = write(out, gathered.tallies, gathered.documents, gathered.sections, gathered.strips, told)
    if trouble is not None:
        raise trouble
    return document
