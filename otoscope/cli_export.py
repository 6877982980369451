"""``otoscope export``: explanations as tables, labels for sound editors, figures for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from otoscope.adapters.errors import OtoscopeError
from otoscope.console import bar, print_json
from otoscope.options import FORCE, JSON, options

if TYPE_CHECKING:
    from otoscope.explainers.figure import Width

KINDS = ("csv", "json", "audacity", "raven", "png", "svg", "pdf")


@click.command()
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@options(
    click.option(
        "--format", "kinds", multiple=True, type=click.Choice(KINDS), default=["csv"], help="Repeatable. [csv]"
    ),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Folder to write. [exports/ in each FOLDER; beside it, where FOLDER is itself a result]",
    ),
    click.option(
        "--width",
        type=click.Choice(["screen", "double", "single"]),
        default="screen",
        show_default=True,
        help="Of pictures: for the screen, or two columns or one of a paper.",
    ),
    click.option("--span", is_flag=True, help="Labels count from the start of the span, as original.wav does."),
    FORCE,
    JSON,
)
def export(
    folders: tuple[Path, ...],
    kinds: tuple[str, ...],
    out: Path | None,
    width: Width,
    span: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write the explanations in or below FOLDERs for other tools.

    csv (a row for each part), json (by the published schema), audacity and raven (the evidence as labels or as a
    selection table), and the picture as png, svg or pdf.

    \b
    Example: otoscope export report --format pdf --width single --format audacity --out for-the-paper
    """
    from otoscope.explainers.exports import FORMATS, file_stem
    from otoscope.explainers.exports import export as write
    from otoscope.explainers.store import load_explanation

    jobs, failed = _jobs(folders, out)
    written: list[Path] = []
    with bar("export") as progress:
        for number, (result, place) in enumerate(jobs):
            try:
                explanation = load_explanation(result)
                paths = {kind: place / f"{file_stem(explanation)}{FORMATS[kind].suffix}" for kind in kinds}
            except OtoscopeError as error:
                failed.append(str(error))
                paths = {}
            for kind, path in paths.items():
                try:
                    _check_free(path, written, result, force=force)
                    written.append(write(explanation, place, kind, width=width, span=span))
                except OtoscopeError as error:
                    failed.append(str(error))
            progress(number + 1, len(jobs))
    if as_json:
        print_json({"written": [str(path) for path in written], "failed": failed})
    else:
        for path in written:
            click.echo(path)
    if failed:
        kept = ", the others are written" if written else ""
        raise OtoscopeError(f"{len(failed)} could not be exported{kept}: {'; '.join(failed)}")


def _jobs(folders: tuple[Path, ...], out: Path | None) -> tuple[list[tuple[Path, Path]], list[str]]:
    """List each result once, with the folder its exports go to; and what holds none."""
    from otoscope.explainers.report import find_results

    jobs: dict[Path, tuple[Path, Path]] = {}
    failed = []
    for folder in folders:
        found = find_results(folder)
        if not found:
            failed.append(f"{folder}: holds no explanations; name a folder that `otoscope explain` wrote")
        for result in found:
            # Saving a result again replaces its folder: nothing else may live there.
            home = folder.resolve().parent if result == folder else folder
            jobs.setdefault(result.resolve(), (result, out or home / "exports"))
    return list(jobs.values()), failed


def _check_free(path: Path, written: list[Path], result: Path, *, force: bool) -> None:
    """Refuse to write over a file that exists, or over that of another result."""
    if path in written:
        raise OtoscopeError(f"{result}: {path.name} was just written for another result; export it to another --out")
    if path.exists() and not force:
        raise OtoscopeError(f"{path.name} exists in {path.parent}; use --force to replace it, or another --out")
