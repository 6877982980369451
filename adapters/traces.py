"""What asking a model may leave behind: in its network, and in what all code of a process shares.

A snapshot is taken before the first question, as some traces (another mode, gradients switched off) appear once only.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np


def modules(model: object) -> list[tuple[str, Any]]:
    """List the torch modules inside a model, by name; none where it shows no network."""
    network: Any = getattr(model, "network", model)
    return list(network.named_modules()) if callable(getattr(network, "named_modules", None)) else []


def modes(model: object) -> dict[str, bool]:
    """Whether each module is in training mode."""
    return {name or "the network": bool(module.training) for name, module in modules(model)}


def buffers(model: object) -> dict[str, Any]:
    """Copy the buffers of the network, such as running statistics."""
    found = modules(model)
    return {name: tensor.detach().clone() for name, tensor in found[0][1].named_buffers()} if found else {}


def hooks(model: object) -> int:
    """Count the hooks in the network."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind, ())) for _, module in modules(model) for kind in kinds)


def generators() -> dict[str, object]:
    """Read the states of the shared random generators."""
    legacy = np.random.get_state()  # noqa: NPY002 - the shared generator is what is watched here
    found: dict[str, object] = {"Python's random generator": random.getstate()}
    found["numpy's random generator"] = tuple(np.asarray(part).tobytes() for part in legacy)
    if (torch := sys.modules.get("torch")) is not None:
        found["torch's random generator"] = torch.get_rng_state().numpy().tobytes()
    return found


def settings() -> dict[str, object]:
    """Read the settings that torch shares among all code; none before torch is imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    return {
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default type": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Name what is not what it was."""
    return [name for name, value in before.items() if not _equal(value, after.get(name))]


def _equal(value: Any, other: Any) -> bool:
    if hasattr(value, "shape"):  # a tensor, in which NaN equals NaN
        same = other is not None and value.shape == other.shape
        return same and bool(((value == other) | ((value != value) & (other != other))).all())
    return bool(value == other)
