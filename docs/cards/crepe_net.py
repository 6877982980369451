"""CREPE's network from the package torchcrepe, for the card beside this file.

torchcrepe imports torchaudio and resampy, for reading and resampling files; the network needs neither. `make` lets
empty modules stand in for what is not installed while torchcrepe is imported, and takes them away afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import nn

UNUSED = ("resampy", "torchaudio")  # by the network itself


@contextmanager
def standing_in() -> Iterator[None]:
    """Put empty modules in the place of those that are not installed, for a moment."""
    missing = [name for name in UNUSED if name not in sys.modules and find_spec(name) is None]
    sys.modules.update({name: ModuleType(name) for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def make(*, capacity: str = "tiny") -> nn.Module:
    """Build CREPE for windows (n, 1024) at 16,000 Hz; it returns (n, 360) probabilities."""
    with standing_in():
        from torchcrepe.model import Crepe

    class Net(Crepe):  # type: ignore[misc]
        """CREPE behind torchcrepe's own levelling: each window to zero mean and unit spread, however quiet."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Score windows (n, 1024) as (n, 360)."""
            x = x - x.mean(dim=1, keepdim=True)
            # Not std(): on silence its gradient is infinite.
            variance = x.square().sum(dim=1, keepdim=True) / (x.shape[1] - 1)
            return super().forward(x / variance.clamp(min=1e-20).sqrt())  # type: ignore[no-any-return]

    return Net(capacity)
