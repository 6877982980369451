"""What comes with the package: trained weights under versioned names, and a recording to try them on."""

from __future__ import annotations

from pathlib import Path

from otoscope.adapters.card import read_card
from otoscope.adapters.loading import Loading
from otoscope.adapters.model import BATCH_SIZE
from otoscope.adapters.network import NetworkModel
from otoscope.mer_models.harmonics import from_card

HERE = Path(__file__).parent


def harmonics_1(*, device: str = "cpu", batch_size: int = BATCH_SIZE) -> NetworkModel:
    """Load the harmonics CNN as in the paper; ``harmonics-1.toml`` says how it was trained and how well it does."""
    return from_card(read_card(HERE / "harmonics-1.toml"), Loading(device, batch_size))


def harmonics_2(*, device: str = "cpu", batch_size: int = BATCH_SIZE) -> NetworkModel:
    """Load its second form, the default; ``harmonics-2.toml`` says how it was trained and how well it does."""
    return from_card(read_card(HERE / "harmonics-2.toml"), Loading(device, batch_size))


def demo_recording() -> Path:
    """Find the recording that ``otoscope demo`` explains; ``demo.md`` says what it is."""
    return HERE / "demo.ogg"
