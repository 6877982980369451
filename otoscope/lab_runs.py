"""One run of ``otoscope benchmark``: checked first, then learnt, judged, and written down study by study.

Most studies are tables of what networks say (`otoscope.mer_models.studies`). Two need explanations as well and hence
live at the door: ``brightness`` (does Grad-CAM show consonance?) and ``midlevel`` (how much do seven mid-level features
explain of a model?).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.registry import load_model, name_of
from otoscope.adapters.whole_file import whole_file
from otoscope.brightness import look
from otoscope.brightness_summary import draw as draw_brightness
from otoscope.brightness_summary import summarise, table
from otoscope.mer_models import benchmark
from otoscope.mer_models.benchmark import Row
from otoscope.mer_models.benchmark_figure import draw
from otoscope.mer_models.benchmark_table import collect, document, machine, markdown
from otoscope.mer_models.contenders import CONTENDERS
from otoscope.mer_models.data import Clip, write_table
from otoscope.mer_models.datasets import gather
from otoscope.mer_models.emotify import judgements
from otoscope.mer_models.harmonics import HarmonicsNet, model
from otoscope.mer_models.lab import Lab, part_of
from otoscope.mer_models.studies import EMOTIFY, STUDIES, find_study, rows_of
from otoscope.midlevel_study import midlevel_study, to_markdown

BRIGHTNESS, MIDLEVEL = "brightness", "midlevel"
SHOWN = 15  # clips of each fold whose maps are looked at
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
    models: tuple[str, ...] = ("harmonics",)
    corpus: Path | None = None


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
        if name not in (*STUDIES, BRIGHTNESS, MIDLEVEL):
            raise unknown("study", name, (*STUDIES, BRIGHTNESS, MIDLEVEL))
    if order.out.exists() and not order.out.is_dir():
        raise OtoscopeError(f"{order.out}: is a file; choose a folder for --out")
    n_folds = benchmark.QUICK_FOLDS if order.quick else order.n_folds
    if wrong := [fold for fold in order.chosen if fold >= n_folds]:
        raise OtoscopeError(f"fold {wrong[0]} is none of 0 to {n_folds - 1}; change --fold or --folds")
    clips = gather(order.data, fonts=order.fonts, cache=order.cache, progress=progress)
    lab = Lab(clips, order.n_folds, order.seed, order.cache, progress)
    lab = benchmark.quick(lab) if order.quick else lab
    contenders = order.contenders or (QUICK if order.quick else ())
    rows = {name: _rows(name, lab, contenders) for name in order.studies}
    fits = benchmark.fits_of(
        lab, [row for own in rows.values() for row in own], order.chosen or None, order.large_folds
    )
    epochs = QUICK_EPOCHS if order.quick and order.epochs is None else order.epochs
    order.out.mkdir(parents=True, exist_ok=True)
    write_table(lab.clips, lab.folds("songs"), order.out / "recordings.csv")
    benchmark.run(lab, fits, order.out, epochs=epochs, resume=order.resume, jobs=order.jobs)
    return {name: _found(order, name, rows[name], lab) for name in order.studies}


def _rows(name: str, lab: Lab, contenders: Sequence[str]) -> list[Row]:
    """List what must be learnt for a study."""
    if name == MIDLEVEL:
        return []
    if name == BRIGHTNESS:
        rendered = [part for part in lab.parts if part != EMOTIFY] or list(lab.parts)
        return [Row("harmonics", (rendered[0],)), Row("random_masks", (rendered[0],)), Row("harmonics_2", lab.parts)]
    return rows_of(name, lab.parts, contenders)


def _found(order: Order, name: str, rows: list[Row], lab: Lab) -> Finding:
    """Write down what a study found."""
    if name == BRIGHTNESS:
        return _brightness(order, rows, lab)
    if name == MIDLEVEL:
        return _midlevel(order, lab)
    return _table(order, name, rows, lab)


def _brightness(order: Order, rows: list[Row], lab: Lab) -> Finding:
    """Look at the maps of held-out clips: of each row's networks, and of the first one's with random weights."""
    networks = {row.contender: _networks(order, row, rows[0].trained_on[0], lab) for row in rows}
    randomised = [
        (network.randomised(seed), clips) for seed, (network, clips) in enumerate(networks[rows[0].contender])
    ]
    found = summarise(look({**networks, "randomised": randomised}, progress=lab.progress), seed=order.seed)
    document = {"study": BRIGHTNESS, "command": order.command, "machine": machine(), **found}
    text = f"## {BRIGHTNESS}: does Grad-CAM show consonance?\n\n{table(found)}\n`{order.command}`; {machine()}\n"
    return _write(order.out / f"{BRIGHTNESS}.md", document, text, lambda place: draw_brightness(found, place))


def _networks(order: Order, row: Row, part: str, lab: Lab) -> list[tuple[NetworkModel, list[Clip]]]:
    """Load a row's networks, each with some clips of a part that it did not learn from."""
    from safetensors.torch import load_file

    form = CONTENDERS[row.contender].form
    fold_of, found = lab.folds("songs"), []
    for fold in order.chosen or range(int(fold_of.max()) + 1):
        path = benchmark.Fit(row, fold).path(order.out).with_suffix(".safetensors")
        if form is None or not path.is_file():
            raise OtoscopeError(f"{path}: no such network; run the study without --resume in another --out")
        network = HarmonicsNet(form[0])
        network.load_state_dict(load_file(path))
        own = [clip for clip, its in zip(lab.labelled(fold_of, fold), fold_of.tolist(), strict=True) if its == fold]
        own = [clip for clip in own if part_of(clip) == part]
        found.append((model(network.eval()), own[:: max(1, len(own) // SHOWN)][:SHOWN]))
    return found


def _midlevel(order: Order, lab: Lab) -> Finding:
    """Explain several models by the seven features, over the recordings of a folder."""
    corpus = order.corpus or lab.clips[0].path.parent
    models = {name_of(spec): load_model(spec) for spec in order.models}
    found = midlevel_study(models, load_model("midlevel"), corpus, seed=order.seed, bar=_told(lab.progress))
    document = {"study": MIDLEVEL, "command": order.command, "machine": machine(), **found}
    text = f"## {MIDLEVEL}: what do seven features explain?\n\n{to_markdown(found)}\n`{order.command}`; {machine()}\n"
    return _write(order.out / f"{MIDLEVEL}.md", document, text)


def _told(progress: Callable[[str], None]) -> Callable[[str], Any]:
    """Tell every hundredth span, line by line."""

    @contextmanager
    def bar(label: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: progress(f"{label}: {done} of {total}") if done % 100 == 0 or done == total else None

    return bar


def _table(order: Order, name: str, rows: list[Row], lab: Lab) -> Finding:
    """Read what the fits of a study said, and write its table down as Markdown, JSON and PNG."""
    study, found = find_study(name), collect(order.out, rows)
    listeners = judgements(order.data / EMOTIFY) if EMOTIFY in lab.parts else {}
    lines = study.lines([row for row in rows if row in found], lab.parts, listeners)
    result = document(name, study.summary, lines, found, command=order.command)
    return _write(order.out / f"{name}.md", result, markdown(result), lambda place: draw(result, place))


def _write(path: Path, result: dict[str, Any], text: str, picture: Callable[[Path], None] | None = None) -> Finding:
    """Write files whole or not at all."""
    said = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    for place, content in ((path, text), (path.with_suffix(".json"), said)):
        with whole_file(place) as partial:
            partial.write_text(content, encoding="utf-8")
    if picture is not None:
        with whole_file(path.with_suffix(".png")) as partial:
            picture(partial)
    return Finding(result, text, path)


def train_any(
    *,
    data: Path,
    out: Path,
    design: str,
    name: str | None,
    fonts: tuple[Path, ...],
    cache: Path | None,
    folds: int | None,
    epochs: int | None,
    against: Path | None,
    device: str,
    seed: int,
    resume: bool,
    command: str,
    progress: Callable[[str], None],
) -> Path:
    """Train a network of either kind; the card.

    Raises
    ------
    OtoscopeError
        For an option that means nothing to the design, or what training finds wrong.
    """
    from otoscope.mer_models.midlevel_fit import Recipe
    from otoscope.mer_models.midlevel_layers import LEVELS
    from otoscope.mer_models.midlevel_train import train_midlevel
    from otoscope.mer_models.train import train

    told: dict[str, Any] = {"out": out, "seed": seed, "resume": resume, "command": command, "progress": progress}
    kept = cache or out / "cache"
    if design not in LEVELS:
        forms = [one for one, entry in CONTENDERS.items() if entry.form is not None]
        if design not in forms:
            raise unknown("design", design, (*LEVELS, *forms))
        if against is not None or device != "cpu":
            given = "--device" if against is None else "--against"
            raise OtoscopeError(f"{given} means nothing to {design}; it is for {', '.join(LEVELS)}")
        called = name or design.replace("_", "-")
        sources: dict[str, Any] = {"data": data, "fonts": fonts, "cache": kept, "n_folds": folds or 10}
        return train(name=called, design=design, epochs=epochs, **sources, **told)
    if folds is not None or fonts:
        given = "--font" if folds is None else "--folds"
        raise OtoscopeError(f"{given} means nothing to {design}; it is for the harmonics CNN")
    there = [one for one in ("soundtracks", "midlevel") if (data / one).is_dir()]
    if not there:
        raise OtoscopeError(f"{data}: holds neither soundtracks/ nor midlevel/, which {design} learns from; add them")
    clips = gather(data, names=there, cache=kept, progress=progress)
    recipe = Recipe() if epochs is None else replace(Recipe(), epochs=epochs)
    return train_midlevel(
        clips,
        design=design,
        name=name,
        against=against,
        device=device,
        recipe=recipe,
        **told,
    )
