"""Commands about models and methods: what there is, whether a model keeps the contract, a card to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from otoscope.console import bar, print_json
from otoscope.options import BATCH, DEVICE, JSON, MODEL, NETWORK, SEED, TRUST, options

COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "skip": "bright_black"}


@click.command()
@click.option("--card-schema", is_flag=True, help="Print the JSON Schema of model cards instead.")
@JSON
def models(card_schema: bool, as_json: bool) -> None:
    """List the models known by name, and the kinds of model cards that can be loaded.

    \b
    Example: otoscope models --json
    """
    from otoscope.adapters.registry import describe_models, kinds, missing_extra

    if card_schema:
        from otoscope.adapters.card_schema import card_schema as schema  # heavy: it reads every kind's settings

        print_json(schema())
        return
    rows, known = describe_models(), {name: missing_extra(name) for name in kinds()}
    if as_json:
        print_json({"models": rows, "kinds": known})
        return
    for row in rows:
        click.echo(f"{row['name']:16}{_told(row)}")
    click.echo("\nkinds of model cards")
    for name, missing in known.items():
        click.echo(f"  {name:14}{f'needs: {missing}' if missing else 'ready'}")


def _told(row: dict[str, Any]) -> str:
    """Say what is known of a model: framework, classes, rate, source, licence."""
    if row["alias_of"]:
        return f"= {row['alias_of']}"
    facts = [row["summary"], row["framework"], f"{len(row['labels'])} classes" if row["labels"] else ""]
    facts += [f"{row['rate']} Hz" if row["rate"] else "", row["source"], row["licence"]]
    return "; ".join(fact for fact in facts if fact)


@click.command()
@JSON
def methods(as_json: bool) -> None:
    """List the explanation methods and the part makers.

    \b
    Example: otoscope methods
    """
    from otoscope.explainers.makers import maker_summaries
    from otoscope.explainers.methods import method_summaries

    found = {"methods": method_summaries(), "parts": maker_summaries()}
    if as_json:
        print_json(found)
        return
    for title, rows in found.items():
        click.echo(title)
        for name, text in rows.items():
            click.echo(f"  {name:14}{text}")


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--verbose", is_flag=True, help="Say what every check means, not only where something is wrong.")
@options(MODEL, TRUST, NETWORK, DEVICE, BATCH, SEED, JSON)
def doctor(file: Path | None, model_name: str, seed: int, verbose: bool, as_json: bool, **loading: Any) -> None:
    """Check whether a model keeps the contract, and tell what that means for its explanations.

    With FILE, a recording of the kind it was made for, it is examined on that too. Exit code 3 where a check fails.

    \b
    Example: otoscope doctor --model card.toml song.ogg
    """
    from otoscope.adapters.audio import load_audio
    from otoscope.adapters.doctor import examine, failed, rows, table
    from otoscope.adapters.registry import load_model

    audio = None if file is None else load_audio(file)
    model = load_model(model_name, **loading)
    with bar("doctor") as progress:
        findings = examine(model, audio=audio, seed=seed, progress=progress)
    if as_json:
        print_json({"model": model_name, "failed": failed(findings), "findings": rows(findings)})
    else:
        colour = lambda word, status: click.style(word, fg=COLOURS[status])  # noqa: E731
        click.echo(table(findings, verbose=verbose, style=colour))
    if failed(findings):
        click.get_current_context().exit(3)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def card(file: Path) -> None:
    """Draft a model card for a file, with what the file itself tells; correct it by what you know.

    \b
    Example: otoscope card model.onnx > model.toml
    """
    from otoscope.adapters.draft import draft

    click.echo(draft(file), nl=False)
