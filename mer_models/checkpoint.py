"""Checkpoints: a killed training goes on from its last epoch as if nothing had happened.

A checkpoint holds the weights, the optimiser's and the schedule's state, and both random generators, so that the
resumed training draws the same crops and the same dropout and ends with the same bytes. It is written whole or not at
all, and read with ``weights_only``, so that nothing in it can run. What is left at the end are the weights alone.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.whole_file import whole_file


@dataclass(frozen=True)
class State:
    """All that changes while a network is fitted.

    Attributes
    ----------
    network : torch.nn.Module
    optimiser : torch.optim.Optimizer
    schedule : torch.optim.lr_scheduler.LRScheduler
    rng : numpy.random.Generator
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    rng: np.random.Generator

    def save(self, path: Path, epoch: int) -> None:
        """Keep everything, after so many epochs."""
        kept = {
            "epoch": epoch,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "numpy": self.rng.bit_generator.state,
            "torch": torch.get_rng_state(),
        }
        with whole_file(path) as partial:
            torch.save(kept, partial)

    def load(self, path: Path) -> int:
        """Take everything back, where there is something to take; the number of epochs done.

        Raises
        ------
        OtoscopeError
            If the file is damaged or belongs to another training.
        """
        if not path.is_file():
            return 0
        try:
            kept = torch.load(path, weights_only=True)
            self.network.load_state_dict(kept["network"])
            self.optimiser.load_state_dict(kept["optimiser"])
            self.schedule.load_state_dict(kept["schedule"])
            self.rng.bit_generator.state = kept["numpy"]
            torch.set_rng_state(kept["torch"])
            return int(kept["epoch"])
        except (RuntimeError, KeyError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise OtoscopeError(f"{path}: does not fit this training ({reason}); delete it") from None


def write_weights(path: Path, network: nn.Module) -> None:
    """Write the weights of a network as safetensors, whole or not at all."""
    from safetensors.torch import save

    with whole_file(path) as partial:
        partial.write_bytes(save({name: value.contiguous() for name, value in network.state_dict().items()}))
