"""Options that several commands share, so that they are called and explained alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FILES = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
MODEL = click.option(
    "--model",
    "model_name",
    default="harmonics",
    show_default=True,
    help="Short name, model card (.toml) or folder; see `otoscope models`.",
)
TRUST = click.option(
    "--trust", is_flag=True, help="Let code that comes with the model run: pickles, factories, commands."
)
NETWORK = click.option("--allow-network", is_flag=True, help="Let the sound be sent to the address a card names.")
DEVICE = click.option("--device", default="cpu", show_default=True, help="Where a torch model runs: cpu, cuda, mps.")
BATCH = click.option(
    "--batch-size", default=32, show_default=True, type=click.IntRange(min=1), help="Most windows in memory at once."
)
SEED = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Same seed, same bytes."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
FORCE = click.option("--force", is_flag=True, help="Replace results that exist.")
RESUME = click.option("--resume", is_flag=True, help="Keep results that exist and make the others.")


class Calls(click.ParamType):  # type: ignore[type-arg]
    """A number of calls, or ``auto``."""

    name = "integer|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number."""
        return value if value == "auto" else click.IntRange(min=1).convert(value, param, ctx)


CALLS = click.option(
    "--calls",
    type=Calls(),
    help="Recordings to ask about, 4 or more a part; auto: until the strongest are settled. [2048; two_level: 512]",
)


def options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Stack decorators in the order in which they are to be listed."""

    def stack(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return stack
