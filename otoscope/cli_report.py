"""``otoscope report``: write the pages over saved results again."""

from __future__ import annotations

from pathlib import Path

import click

from otoscope.adapters.errors import OtoscopeError
from otoscope.console import print_json
from otoscope.options import JSON, options


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@options(JSON)
def report(folder: Path, as_json: bool) -> None:
    """Write the report over all explanations below FOLDER.

    One recording: a page to look at, listen to and take apart. Several: a page each, and an index with filters and
    what each class sounds like. What is damaged is left out and named.

    \b
    Example: otoscope report out/
    """
    from otoscope.explainers.report import write_pages

    if not folder.is_dir():
        raise OtoscopeError(f"{folder}: is no folder; name one that `otoscope explain` wrote")
    path, left_out = write_pages(folder)
    if as_json:
        print_json({"report": str(path), "left_out": [{"folder": name, "error": why} for name, why in left_out]})
    else:
        click.echo(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if left_out:
        raise OtoscopeError("; ".join(f"{name} is left out: {why}" for name, why in left_out))
