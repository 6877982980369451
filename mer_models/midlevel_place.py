"""Where a run of a mid-level network lies: its last epoch while it runs, then weights and cards.

``<name>-run/`` keeps the last epoch, under a hash of everything that the weights depend on, so that a run is resumed
with its own data and settings or not at all. At the end it makes room for ``<name>.safetensors`` and one card for each
level. Everything is written whole or not at all, weights before the cards that name them.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otoscope.adapters.card import Card, Tables, read_card, write_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.whole_file import whole_file
from otoscope.mer_models.checkpoint import write_weights
from otoscope.mer_models.midlevel_layers import LABELS, Level, MidlevelNet
from otoscope.mer_models.midlevel_nets import card_input


@dataclass(frozen=True)
class Place:
    """Where a run lies.

    Attributes
    ----------
    out : Path
    name : str
    """

    out: Path
    name: str

    @property
    def card(self) -> Path:
        """The card of the upper level."""
        return self.out / f"{self.name}.toml"

    @property
    def run(self) -> Path:
        """The folder that keeps the last epoch while the run lasts."""
        return self.out / f"{self.name}-run"

    def checkpoint(self, key: str) -> Path:
        """Name the file that holds the last epoch."""
        return self.run / f"{key}.pt"

    def prepare(self, key: str, *, resume: bool) -> Path | None:
        """Make room for a run; the card where this very run is finished.

        Raises
        ------
        OtoscopeError
            If another run lies there, or this one and nobody said to resume it.
        """
        if not self.name or Path(self.name).name != self.name:
            raise OtoscopeError(f"{self.name!r} is no name for a model; take one without slashes")
        kept = list(self.run.glob("*.pt"))
        if not resume and (kept or self.card.exists()):
            raise OtoscopeError(
                f"{self.out}: holds a run named {self.name} already; resume it, or take another name or folder"
            )
        if set(kept) - {self.checkpoint(key)} or (self.card.exists() and _key_of(read_card(self.card)) != key):
            raise OtoscopeError(
                f"{self.out}: the run named {self.name} has other data or settings; take another name or folder"
            )
        if self.card.exists():
            return self.card
        self.run.mkdir(parents=True, exist_ok=True)
        return None

    def publish(self, network: MidlevelNet, hearing: Hearing, about: Tables) -> Path:
        """Write weights, then the cards that name them, and remove what was kept of the run."""
        write_weights(self.out / f"{self.name}.safetensors", network)
        *lower, upper = network.settings.levels
        for level, card in (*((one, self.out / f"{self.name}-{one}.toml") for one in lower), (upper, self.card)):
            with whole_file(card) as partial:
                tables = {"model": self._about(network, card.stem, level), "input": card_input(hearing), **about}
                write_card(partial, tables)
        shutil.rmtree(self.run)
        return self.card

    def _about(self, network: MidlevelNet, name: str, level: Level) -> dict[str, Any]:
        """Write the section ``[model]`` of one level."""
        said = {"emotion": "eight emotions of music", "midlevel": "seven mid-level features of music"}[level]
        return {
            "name": name,
            "kind": "midlevel",
            "path": f"{self.name}.safetensors",
            "framework": "torch",
            "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
            "labels": list(LABELS[level]),
            "output": "regression",
            "answer": level,
            "summary": f"{said} as people rate them, design {network.settings.design}",
            "source": "architecture of Chowdhury, Vall, Haunschmid and Widmer (ISMIR 2019)",
            "settings": dataclasses.asdict(network.settings),
        }


def _key_of(card: Card) -> object:
    return card.tables.get("data", {}).get("run")
