"""The listening test on the command line: ``listen make`` writes the page, ``listen score`` reads the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otoscope.adapters.errors import OtoscopeError, plain
from otoscope.console import bar, print_json
from otoscope.options import FORCE, JSON, SEED, options

if TYPE_CHECKING:
    from otoscope.explainers.listening import Choice
    from otoscope.explainers.listening_page import Page

PATH = click.Path(path_type=Path)


@click.group()
def listen() -> None:
    """Ask people whether they still hear the class in the evidence, and score what they say.

    \b
    otoscope listen make explained --pairs 20 --out listen.html
    otoscope listen score ann.csv ben.csv --key listen.key.json
    """


@listen.command()
@click.argument("directory", metavar="DIR", type=PATH)
@options(
    click.option("--pairs", default=20, show_default=True, type=click.IntRange(1, 500), help="How many to ask about."),
    click.option("--out", required=True, type=PATH, help="Page to write, listen.html; the key is put beside it."),
    click.option(
        "--repeats", default=0.125, show_default=True, type=click.FloatRange(0, 1), help="Share of pairs asked twice."
    ),
    click.option("--reference", is_flag=True, help="Offer the whole recording to listen to as well."),
    click.option("--max-mb", type=click.FloatRange(0, min_open=True), help="Largest page to write. [50]"),
    SEED,
    FORCE,
    JSON,
)
def make(
    directory: Path,
    pairs: int,
    out: Path,
    repeats: float,
    reference: bool,
    max_mb: float | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Make a page that asks which of two sounds still sounds like the class: the evidence, or as much else.

    DIR is what `otoscope explain --out DIR` wrote. The page needs no network; the key must stay with you.

    \b
    Example: otoscope listen make explained --pairs 20 --seed 1 --out listen.html
    """
    from otoscope.explainers.listening import choose_pairs
    from otoscope.explainers.listening_page import MOST_MB, key_path, write_page

    if out.suffix.lower() not in (".html", ".htm"):
        raise OtoscopeError(f"{out}: is no name of a page; end it in .html")
    if not force and (there := [path for path in (out, key_path(out)) if path.exists()]):
        raise OtoscopeError(f"{there[0]}: exists; choose another --out, or replace it by --force")
    if not directory.is_dir():
        raise OtoscopeError(f"{directory}: no such folder; name the one that `otoscope explain --out` wrote")
    with bar("reading explanations") as progress:
        choice = choose_pairs(directory, pairs, seed=seed, progress=progress)
    most = MOST_MB if max_mb is None else max_mb
    page = write_page(choice, directory, out, seed=seed, repeats=repeats, reference=reference, most_mb=most)
    notes = _notes(choice, page, pairs)
    if as_json:
        print_json(
            {key: str(value) if isinstance(value, Path) else value for key, value in asdict(page).items()}
            | {"left_out": list(choice.left_out), "notes": notes}
        )
        return
    click.echo(
        f"{page.page}: {_many(page.n_pairs, 'pair')} of {_many(page.n_explanations, 'explanation')}, "
        f"{page.n_again} asked twice, {page.size / 1e6:.1f} MB, "
        f"{page.seconds / 60:.0f} min to hear every sound once"
    )
    click.echo(f"key   {page.key}: says which sound is which; give it to no listener")
    for line in choice.left_out:
        click.echo(f"left out  {plain(line)}")
    for note in notes:
        click.echo(f"note  {note}")


def _many(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _notes(choice: Choice, page: Page, wanted: int) -> list[str]:
    """Say where the test is less than what was asked for."""
    notes = []
    if page.n_pairs < wanted:
        notes.append(f"there are only {page.n_pairs} different pairs, not {wanted}; explain more recordings")
    if page.n_explanations < page.n_pairs:
        most = max(pair.number for pair in choice.pairs)
        notes.append(
            f"too few explanations for pairs of their own: up to {most} random sets stand against one evidence, which "
            "a listener may come to know again"
        )
    off = max(abs(pair.other.ratio - 1) for pair in choice.pairs)
    shared = max(pair.other.shared for pair in choice.pairs)
    notes.append(
        f"energies of the random sets differ from the evidence's by {off:.1%} at most; they share up to "
        f"{shared:.0%} of it"
    )
    return notes


@listen.command()
@click.argument("tables", metavar="ANSWERS.CSV...", nargs=-1, required=True, type=PATH)
@options(
    click.option("--key", "key_file", required=True, type=PATH, help="listen.key.json, written beside the page."),
    SEED,
    JSON,
)
def score(tables: tuple[Path, ...], key_file: Path, seed: int, as_json: bool) -> None:
    """Score answers: how often the evidence was preferred, how sure that is, and whether listeners agree.

    \b
    Example: otoscope listen score ann.csv ben.csv --key listen.key.json
    """
    from otoscope.explainers import listening_score
    from otoscope.explainers.listening_answers import read_answers, read_key

    key = read_key(key_file)
    answers = [answer for path in tables for answer in read_answers(path, key)]
    document = listening_score.score(answers, key, seed=seed)
    if as_json:
        print_json(document)
    else:
        for line in lines_of(document):
            click.echo(plain(line))


def lines_of(document: Mapping[str, Any]) -> list[str]:
    """Tell a score in a few lines."""
    overall = document["overall"]
    lines = [
        f"{document['test']}: {_many(overall['n_listeners'], 'listener')}, {_many(overall['n_pairs'], 'pair')}",
        f"  preference   {_preference(overall)}",
        f"  answers      {overall['evidence']} for the evidence, {overall['random']} for the random set, "
        f"{overall['cannot_tell']} cannot tell (each counts half)",
        f"  agreement    {_agreement(document)}",
        f"  consistency  {_consistency(document['consistency'])}",
    ]
    if document["with_model"] is not None:
        found = document["with_model"]
        lines.append(
            f"  with model   Spearman {found['spearman']:+.2f} over {found['n_pairs']} pairs, of preference with the "
            "model's score of the evidence less that of all off"
        )
    for title, kind in (("class", "by_class"), ("method", "by_method"), ("listener", "by_listener")):
        for name, cell in document[kind].items():
            more = "" if cell.get("consistency") is None else f"; {_consistency(cell['consistency'])}"
            lines.append(f"  {title:<12} {name}: {_preference(cell)}{more}")
    return lines + [f"  note         {note}" for note in document["notes"]]


def _preference(cell: Mapping[str, Any]) -> str:
    p = "" if cell["p"] is None else f", p = {cell['p']:.2g}"
    return (
        f"{cell['preference']:.2f} for the evidence (95 % {cell['low']:.2f} to {cell['high']:.2f}, {cell['interval']}; "
        f"{cell['pairs_for']} pairs for it, {cell['pairs_against']} against{p})"
    )


def _agreement(document: Mapping[str, Any]) -> str:
    if document["alpha"] is not None:
        return f"Krippendorff's alpha {document['alpha']:.2f}"
    return (
        "needs two listeners or more" if document["overall"]["n_listeners"] == 1 else "none: no two answers to differ"
    )


def _consistency(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "no pair was answered twice"
    return f"{found['same']} of {found['n']} pairs asked twice were answered alike"
