"""The command that measures explanations over many recordings: methods × metrics, with intervals and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from otoscope.adapters.errors import OtoscopeError
from otoscope.console import print_json
from otoscope.options import BATCH, CALLS, DEVICE, FORCE, JSON, MODEL, NETWORK, RESUME, SEED, TRUST, options

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("given", metavar="FOLDER|FILE...", nargs=-1, required=True, type=FOLDER)
@options(
    MODEL,
    click.option("--method", "methods", multiple=True, default=["lime"], help="Repeatable; see methods. [lime]"),
    click.option(
        "--metric", "metrics", multiple=True, help="What to show, e.g. gain, average_drop; repeatable. [all that fit]"
    ),
    click.option("--out", required=True, type=FOLDER, help="Folder to write; made if missing."),
    click.option("--target", default="top", show_default=True, help="Label, index, top or A-B."),
    click.option("--limit", type=click.IntRange(min=1), help="Most recordings to take, evenly spaced."),
    click.option("--gates", type=click.Choice(["quick", "full"]), help="How far to check each explanation. [quick]"),
    click.option("--start", type=float, help="Start of the span in seconds; where it scores highest if not given."),
    click.option(
        "--duration", type=click.FloatRange(min=0.05), help="Length of the span in seconds. [10, or the window]"
    ),
    click.option("--parts", help="How the sound is taken apart; see methods."),
    click.option("--n-parts", type=click.IntRange(min=1), help="Most parts to make. [64]"),
    CALLS,
    click.option("--off", type=click.Choice(["silence", "mean", "noise"]), help="What a part switched off becomes."),
    click.option("--scale", type=click.Choice(["log_odds", "score"]), help="Scale of weights and curves. [log_odds]"),
    TRUST,
    NETWORK,
    DEVICE,
    BATCH,
    SEED,
    FORCE,
    RESUME,
    JSON,
)
def evaluate(
    given: tuple[Path, ...],
    model_name: str,
    methods: tuple[str, ...],
    metrics: tuple[str, ...],
    out: Path,
    target: str,
    limit: int | None,
    start: float | None,
    duration: float | None,
    trust: bool,
    allow_network: bool,
    device: str,
    batch_size: int,
    seed: int,
    force: bool,
    resume: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Measure how far explanations can be trusted: methods by metrics over a folder of recordings.

    Tables (Markdown, CSV, JSON) and a figure, with bootstrap intervals over the recordings.

    \b
    Example: otoscope evaluate songs/ --method lime --method gradcam --limit 24 --out measured
    """
    from otoscope.adapters.registry import load_model
    from otoscope.evaluating import Order, carry_out, check_order, find_files
    from otoscope.explainers.methods import Settings
    from otoscope.runs import Run

    settings = Settings(**{key: value for key, value in chosen.items() if value is not None})
    run = Run(
        files=find_files(given, limit),
        model=model_name,
        methods=methods,
        targets=[target],
        settings=settings,
        out=out,
        start=start,
        duration=duration,
        seed=seed,
        batch_size=batch_size,
        force=force,
        resume=resume,
    )
    order = Order(run, metrics or None)
    check_order(order)
    model = load_model(model_name, batch_size=batch_size, device=device, trust=trust, allow_network=allow_network)
    document = carry_out(order, model, tell=lambda line: click.echo(f"otoscope: {line}", err=True))
    _tell(document, out, as_json)


def _tell(document: dict[str, Any], out: Path, as_json: bool) -> None:
    """Print what came out, and name what failed."""
    from otoscope.explainers.evaluation_table import markdown

    if as_json:
        print_json({"report": str(out / "evaluation.md"), **document})
    else:
        click.echo(markdown(document), nl=False)
        click.echo(f"\nreport: {out / 'evaluation.md'}, {out / 'evaluation.png'}")
    if document["failed"]:
        lines = "; ".join(f"{one['file']} ({one['method']}): {one['error']}" for one in document["failed"])
        raise OtoscopeError(f"{len(document['failed'])} explanations failed, the others are kept: {lines}")
