"""Print how much of each explanation lies on its planted cause: ``python -m tests.planted_table``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.planted import CAUSES, Cause, energy_share, explained, share, shuffled

HEAD = "| cause | method | parts | k | energy | attribution | shuffled | s |"
DEFAULTS = {"lime": "superpixels, zoomed (its default)", "occlusion": "harmonic (its default)"}
RULE = "|---|---|---|---|---|---|---|---|"


def ways(cause: Cause) -> Iterator[tuple[str, dict[str, Any]]]:
    """List the methods and settings: those that can express the cause, then the defaults."""
    for settings in cause.lime:
        yield "lime", settings
    for settings in cause.occlusion:
        yield "occlusion", settings
    for method in ("lime", "occlusion", "gradcam"):
        if {"parts": "superpixels"} not in getattr(cause, method, ()):
            yield method, {"parts": "superpixels"}
    yield "lime", {}
    yield "occlusion", {}


def row(cause: Cause, method: str, settings: dict[str, Any], *, calls: int) -> str:
    """Explain once and measure."""
    began = time.perf_counter()
    explanation = explained(cause, method, settings, calls=calls)
    seconds = time.perf_counter() - began
    chance = np.mean([share(shuffled(explanation, seed), cause) for seed in range(10)])
    parts = (
        ", ".join("+".join(value) if isinstance(value, tuple) else str(value) for value in settings.values())
        or DEFAULTS[method]
    )
    cells = [
        cause.name,
        method,
        parts,
        str(len(explanation.weights)),
        f"{energy_share(explanation.parts, cause):.3f}",
        f"{share(explanation.map, cause):.3f}",
        f"{chance:.3f}",
        f"{seconds:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(calls: int = 512) -> None:
    """Print the table."""
    print(f"LIME with {calls} designed calls; share of the attribution of the cue's sign that lies on the cue\n")
    print(HEAD)
    print(RULE)
    for make in CAUSES:
        cause = make()
        for method, settings in ways(cause):
            print(row(cause, method, settings, calls=calls), flush=True)


if __name__ == "__main__":
    main()
