"""Model cards: one TOML file per model with what a loader needs and what a reader must know.

Sections: ``[model]`` (name, kind, weights, labels, output), ``[input]`` (rate, n_samples, front end), ``[data]``,
``[measured]``, ``[licence]``. `kind` names the loader, found among the entry points ``otoscope.kinds``. A card never
grants trust: one that holds ``trust`` is an error.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from otoscope.adapters.errors import OtoscopeError

SECTIONS = ("model", "input", "data", "measured", "licence")
MAX_BYTES = 1_000_000

Card = dict[str, dict[str, Any]]


def read_card(path: str | Path) -> Card:
    """Read and check a model card.

    Raises
    ------
    OtoscopeError
        Naming the file, the fault and the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise OtoscopeError(f"{path}: no such model card")
    if path.stat().st_size > MAX_BYTES:
        raise OtoscopeError(f"{path}: is too large for a model card ({path.stat().st_size} bytes)")
    try:
        card = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OtoscopeError(f"{path}: is no valid TOML ({error}); correct it") from None
    strange = [key for key in card if key not in SECTIONS]
    if strange:
        raise OtoscopeError(f"{path}: unknown section [{strange[0]}]; a model card has {', '.join(SECTIONS)}")
    for section, values in card.items():
        if not isinstance(values, dict):
            raise OtoscopeError(f"{path}: {section} must be a section [{section}]")
        if "trust" in values:
            raise OtoscopeError(f"{path}: a card cannot grant trust; remove [{section}] trust")
    for key in ("name", "kind", "labels"):
        if key not in card.get("model", {}):
            raise OtoscopeError(f"{path}: [model] lacks {key!r}; add it")
    return card


def write_card(path: str | Path, card: Card) -> None:
    """Write a model card."""
    import tomli_w

    Path(path).write_text(tomli_w.dumps(card), encoding="utf-8")


def beside(card_path: str | Path, name: str) -> Path:
    """Find a file that a card names, inside the card's own folder.

    Raises
    ------
    OtoscopeError
        If the name climbs out of the folder or the file is missing.
    """
    folder = Path(card_path).resolve().parent
    file = (folder / name).resolve()
    if not file.is_relative_to(folder):
        raise OtoscopeError(f"{card_path}: {name!r} climbs out of the card's folder; put the file beside the card")
    if not file.is_file():
        raise OtoscopeError(f"{card_path}: names {name!r}, which is missing; put it beside the card")
    return file
