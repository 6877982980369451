"""``otoscope export``: explanations as tables, labels for sound editors, figures for a paper."""

from __future__ import annotations

from pathlib import Path

import click

from otoscope.adapters.errors import OtoscopeError
from otoscope.console import bar, print_json
from otoscope.options import FORCE, JSON, options

KINDS = ("csv", "json", "audacity", "raven", "png", "svg", "pdf")


@click.command()
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@options(
    click.option(
        "--format", "kinds", multiple=True, type=click.Choice(KINDS), default=["csv"], help="Repeatable. [csv]"
    ),
    click.option("--out", type=click.Path(path_type=Path), help="Folder to write. [exports/ in the first FOLDER]"),
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
    width: str,
    span: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write the explanations below FOLDERs for other tools.

    csv (a row for each part), json (by the published schema), audacity and raven (the evidence as labels or as a
    selection table), and the picture as png, svg or pdf.

    \b
    Example: otoscope export report --format pdf --width single --format audacity --out for-the-paper
    """
    from otoscope.explainers.exports import FORMATS, file_stem
    from otoscope.explainers.exports import export as write
    from otoscope.explainers.report import find_results
    from otoscope.explainers.store import load_explanation

    found = [result for folder in folders for result in _results(folder, find_results(folder))]
    place = out or folders[0] / "exports"
    if place.exists() and not place.is_dir():
        raise OtoscopeError(f"{place}: is a file; choose another --out")
    written, failed, taken = [], [], set()
    with bar("export") as progress:
        for number, result in enumerate(found):
            try:
                explanation = load_explanation(result)
                for kind in kinds:
                    path = place / f"{file_stem(explanation)}{FORMATS[kind].suffix}"
                    if path in taken:
                        raise OtoscopeError(f"{result}: {path.name} is written already, for another result")
                    if path.exists() and not force:
                        raise OtoscopeError(
                            f"{path.name} exists in {place}; use --force to replace it, or another --out"
                        )
                    taken.add(path)
                    written.append(write(explanation, place, kind, width=width, span=span))  # type: ignore[arg-type]
            except OtoscopeError as error:
                failed.append(str(error))
            progress(number + 1, len(found))
    if as_json:
        print_json({"written": [str(path) for path in written], "failed": failed})
    else:
        for path in written:
            click.echo(path)
    if failed:
        raise OtoscopeError("; ".join(failed))


def _results(folder: Path, found: list[Path]) -> list[Path]:
    if not found:
        raise OtoscopeError(f"{folder}: holds no explanations; name a folder that `otoscope explain` wrote")
    return found
