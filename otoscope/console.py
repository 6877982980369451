"""What the command line looks like: one-line errors, progress bars, a few lines per result."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from otoscope.adapters.errors import OtoscopeError, one_line

if TYPE_CHECKING:
    from otoscope.adapters.audio import Audio

Progress = Callable[[int, int], None]


class Group(click.Group):
    """A click group in which what the user can put right is one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn an `OtoscopeError` into its line."""
        try:
            return super().invoke(ctx)
        except OtoscopeError as error:
            line = one_line(str(error))
            click.echo(f"otoscope: error: {line}", err=True)
            ctx.exit(1)


def stop_cleanly() -> None:
    """Let a terminated run tidy up as an interrupted one does."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        sys.exit(143)

    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        signal.signal(signal.SIGTERM, stop)


@contextlib.contextmanager
def bar(label: str) -> Iterator[Progress]:
    """Offer a progress callback that draws a bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, show_eta=True) as shown:

        def update(done: int, total: int) -> None:
            shown.length = total
            shown.update(done - shown.pos)

        yield update


def tell_faults(audio: Audio) -> None:
    """Say on standard error what is wrong with the file of a recording, yet does not stop the work."""
    for fault in audio.faults:
        click.echo(f"otoscope: note: {audio.name}: {fault}", err=True)


def print_json(document: Any) -> None:
    """Print a document for machines."""
    click.echo(json.dumps(document, indent=1, ensure_ascii=False))


def print_result(result: dict[str, Any]) -> None:
    """Print what an explanation found, in four lines."""
    span, trip = result["span"], result["round_trip"]
    end = span["start"] + span["duration"]
    click.echo(f"{result['recording']}, {span['start']:.2f}-{end:.2f} s, {result['model']}, {result['method']}")
    kind = "score difference" if result["contrast"] else "score"
    click.echo(f"  target      {result['target']}, {kind} {result['score']:.3f}")
    if "level_one" in result:
        _print_level_one(result["level_one"])
    for place, part in enumerate(result["strongest"]):
        error = "" if part["se"] is None else f" ± {part['se']:.3f}"
        head = "strongest  " if place == 0 else " " * 11
        click.echo(f"  {head} {part['weight']:+.3f}{error} {result['units']}   {part['name']}")
    click.echo(
        f"  round trip  evidence alone {trip['evidence']:.3f}, everything else {trip['complement']:.3f}, "
        f"all off {trip['off']:.3f}"
    )
    if result["fidelity"].get("r2") is not None:
        fit = {"R²": "r2", "share of interactions": "interactions"}
        told = [f"{name} {result['fidelity'][key]:.2f}" for name, key in fit.items() if result["fidelity"].get(key)]
        click.echo(f"  fit         {', '.join(told)}")
    if result["verdict"] is not None:
        click.echo(f"  verdict     {result['verdict']['word']}: {result['verdict']['reasons'][0]}")
        if result["verdict"].get("remedies"):  # not in results of earlier versions
            click.echo(f"  may help    {', or '.join(result['verdict']['remedies'])}")
    cost = f"{result['n_calls']:,} calls, {result['seconds']:.1f} s"
    memory = "" if result["memory"] is None else f", at most {result['memory'] / 1e9:.1f} GB of memory"
    click.echo(f"  cost        {cost}{memory}")
    for note in result["notes"]:
        click.echo(f"  note        {note}")


def _print_level_one(level: dict[str, Any]) -> None:
    """Print the effects against the corpus's mean, the largest first, and how good their fit is."""
    rows = sorted(level["features"], key=lambda row: -abs(row["centred_effect"]))
    told = ", ".join(f"{row['name']} {row['centred_effect']:+.2f}" for row in rows)
    click.echo(f"  level one   {told}; remainder {level['remainder']:+.2f}")
    r2 = "the score does not vary" if level["r2"] is None else f"held-out R² {level['r2']:.2f}"
    click.echo(f"              {r2} over {level['n_spans']} spans; level two: {level['feature']}")
