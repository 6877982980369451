"""The music-emotion laboratory on the command line: ``train`` and ``benchmark``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from otoscope.console import print_json
from otoscope.options import DEVICE, JSON, RESUME, SEED, options

DATA = click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with one sub-folder a data set: emopia/, emotify/, vgmidi/, soundtracks/, deam/, pmemo/, midlevel/.",
)
FONTS = click.option(
    "--font", "fonts", multiple=True, type=click.Path(path_type=Path), help="Sound font for MIDI; repeatable."
)
CACHE = click.option("--cache", type=click.Path(path_type=Path), help="Folder for what is rendered and computed once.")


def tell(line: str) -> None:
    """Say on stderr how far it is."""
    click.echo(line, err=True)


@click.command()
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@options(
    DATA,
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for fits, tables and figures."),
    FONTS,
    CACHE,
    click.option("--folds", "n_folds", default=10, show_default=True, type=click.IntRange(2), help="Folds by song."),
    click.option("--fold", "chosen", multiple=True, type=click.IntRange(min=0), help="Only these; repeatable. [all]"),
    click.option(
        "--large-folds",
        default=1,
        show_default=True,
        type=click.IntRange(min=0),
        help="Of these folds, how many the networks of millions of parameters learn.",
    ),
    click.option("--contender", "contenders", multiple=True, help="models: only these; repeatable. [all]"),
    click.option("--epochs", type=click.IntRange(min=1), help="Passes of networks over the data. [their own]"),
    click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 64), help="Fits at once."),
    click.option("--model", "models", multiple=True, help="midlevel: model to explain; repeatable. [harmonics]"),
    click.option("--corpus", type=click.Path(path_type=Path), help="midlevel: recordings. [those of the first set]"),
    click.option("--quick", is_flag=True, help="A slice: three songs of each quadrant, three folds, two epochs."),
    SEED,
    RESUME,
    JSON,
)
def benchmark(
    studies: tuple[str, ...],
    data: Path,
    out: Path,
    fonts: tuple[Path, ...],
    cache: Path | None,
    n_folds: int,
    chosen: tuple[int, ...],
    large_folds: int,
    contenders: tuple[str, ...],
    epochs: int | None,
    jobs: int,
    models: tuple[str, ...],
    corpus: Path | None,
    quick: bool,
    seed: int,
    resume: bool,
    as_json: bool,
) -> None:
    """Compare music emotion models by folds of songs, and write tables and figures.

    \b
    STUDY is one or more of
      models      the harmonics CNN, its rivals, its ablations, hand-crafted features (the default)
      lengths     windows of 1.5 to 30 s
      transfer    learnt on one data set or sound font, judged on the others
      genres      songs or whole genres held out (Emotify)
      listeners   judged by groups of listeners (Emotify)
      brightness  does Grad-CAM show consonance?
      midlevel    how much do seven mid-level features explain of a model?

    \b
    Example: otoscope benchmark models lengths --data data --font FluidR3_GM.sf2 --out results --resume
    """
    from otoscope.lab_runs import Order, carry_out

    order = Order(
        studies=studies or ("models",),
        data=data,
        out=out,
        fonts=fonts,
        cache=cache or out / "cache",
        n_folds=n_folds,
        chosen=chosen,
        large_folds=large_folds,
        contenders=contenders,
        epochs=epochs,
        jobs=jobs,
        quick=quick,
        seed=seed,
        resume=resume,
        command=shlex.join(["otoscope", *_by_name(sys.argv[1:])]),
        models=models or ("harmonics",),
        corpus=corpus,
    )
    found = carry_out(order, tell)
    if as_json:
        print_json({name: one.document for name, one in found.items()})
    else:
        for one in found.values():
            click.echo(one.markdown)
            click.echo(f"table: {one.path}")


def _by_name(arguments: list[str]) -> list[str]:
    """Keep of paths their names only: a command that is written down travels."""
    return [Path(word).name if "/" in word else word for word in arguments]


@click.command()
@options(
    DATA,
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for weights, card and folds."),
    click.option("--name", help="Name of the model. [its design]"),
    click.option(
        "--design",
        default="harmonics_2",
        show_default=True,
        help="harmonics_2, harmonics or another of its forms; a2e, a2mid, a2mid2e, joint.",
    ),
    click.option("--folds", type=click.IntRange(min=2), help="Folds by song, of the harmonics CNN. [10]"),
    click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data. [the design's own]"),
    click.option("--against", type=click.Path(path_type=Path), help="Card of an a2e, for the cost of explanation."),
    DEVICE,
    FONTS,
    CACHE,
    SEED,
    RESUME,
    JSON,
)
def train(design: str, name: str | None, out: Path, as_json: bool, **options: Any) -> None:
    """Train a model, measure it on songs it has not heard, and write weights and model card.

    The harmonics CNN is measured by folds and then fitted on everything; the networks of the two-level papers (A2E,
    A2Mid2E, Joint; on Soundtracks and the mid-level features set) hold out a tenth of the songs.

    \b
    Example: otoscope train --data data --font FluidR3_GM.sf2 --font TimGM6mb.sf2 --out my-model
    otoscope train --data data --design joint --against a2e.toml --out my-model
    """
    from otoscope.adapters.card import read_card
    from otoscope.lab_runs import train_any

    told = {"out": out, "name": name, "design": design, **options}
    card = train_any(command=_command("train", told), progress=tell, **told)
    if as_json:
        print_json({"card": str(card), **read_card(card).tables})
    else:
        click.echo(f"card: {card}")


def _command(name: str, told: dict[str, Any]) -> str:
    """Write down a command line that does the same; of paths their names only, since a card travels."""
    words = ["otoscope", name]
    for option, value in told.items():
        flag = "--font" if option == "fonts" else f"--{option}"
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None and option not in ("cache", "resume"):
                words += [flag, one.name if isinstance(one, Path) else str(one)]
    return shlex.join(words)
