"""Cards of kind ``torch``: PyTorch networks from disk.

Three ways lead from a file to a network, told apart by what the file holds:

* weights (safetensors, or a checkpoint that ``torch.load(weights_only=True)`` reads) need a *factory*, a function that
  builds the network: ``[model.settings] factory = "package.module:function"`` or ``"file.py:function"`` beside the
  card, called with `arguments`. Reading weights runs no code, calling a factory does, so it needs trust;
* a pickled module, a TorchScript archive or a ``torch.export`` program hold the network itself. Their loaders can run
  pickles, so all three need trust.

The network takes what ``[input]`` makes and returns logits unless the card says ``returns = "scores"``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from otoscope.adapters.camlayers import declared_layer, find_layers
from otoscope.adapters.card import Card
from otoscope.adapters.code import find_function
from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.hearing import item_by_item
from otoscope.adapters.loading import Loading
from otoscope.adapters.model import CamLayer
from otoscope.adapters.network import NetworkModel, from_network
from otoscope.adapters.safety import open_checked

KINDS = ("safetensors", "torch", "pickle", "torchscript", "torch.export")
REMEDY = "give weights as safetensors, a checkpoint, TorchScript, or a torch.export program"


@dataclass(frozen=True)
class Settings:
    """The section ``[model.settings]`` of a card of kind ``torch``.

    Attributes
    ----------
    factory : str
        ``package.module:function`` or ``file.py:function`` beside the card; returns the network.
    arguments : dict
        Keywords of the factory.
    key : str
        Where a checkpoint keeps the state dict, e.g. ``state_dict`` or ``model``; found by itself where empty.
    prefix : str
        What the names in the checkpoint begin with and those of the network do not, e.g. ``module.``.
    layer : str
        Of class activation maps, as in ``named_modules()``; found by probing where empty.
    axes : tuple of str
        Of that layer's output, e.g. items, channels, frames, bands; read off by probing where empty.
    """

    factory: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    prefix: str = ""
    layer: str = ""
    axes: tuple[str, ...] = ()


SETTINGS = (Settings,)


def from_card(card: Card, loading: Loading) -> NetworkModel:
    """Load a network from its card.

    Raises
    ------
    OtoscopeError
        If the file is of another kind, would run code that nobody allowed, or does not fit.
    """
    settings, path = card.settings(Settings), card.weights if card.model.path else None
    network = _built(card, settings, path, loading) if settings.factory else _stored(path, loading)
    named = settings.layer or settings.axes
    return from_network(
        card, loading, network, returns="logits", layers=(lambda model: (_layer(model, settings),)) if named else None
    )


def _layer(model: NetworkModel, settings: Settings) -> CamLayer:
    """Give the layer that the card names, with the axes it declares or those that probing finds."""
    if settings.axes:
        return declared_layer(model, settings.layer, settings.axes)
    found = {layer.name: layer for layer in find_layers(model)}
    if settings.layer not in found:
        raise unknown("layer with a time axis", settings.layer, found)
    return found[settings.layer]


def _built(card: Card, settings: Settings, path: Path | None, loading: Loading) -> nn.Module:
    """Let the factory build the network and fill in the weights."""
    make = find_function(card, settings.factory, loading)
    try:
        network = make(**settings.arguments)
    except TypeError as error:
        raise OtoscopeError(f"{settings.factory} does not take these arguments ({error}); correct them") from None
    if not isinstance(network, nn.Module):
        raise OtoscopeError(f"{settings.factory} returned {type(network).__name__}; it must return a torch.nn.Module")
    if path is not None:
        fill(network, read_state(path, loading, key=settings.key), path, prefix=settings.prefix)
    return network


def read_state(path: Path, loading: Loading, *, key: str = "") -> dict[str, torch.Tensor]:
    """Read a state dict from safetensors or a checkpoint, without running code.

    Raises
    ------
    OtoscopeError
        If it is neither, is damaged, or holds no state dict.
    """
    found = open_checked(path, ("safetensors", "torch"), trust=loading.trust, remedy="give weights or a checkpoint")
    try:
        if found.kind == "safetensors":
            from safetensors.torch import load_file

            document: Any = load_file(path)
        else:
            document = torch.load(path, map_location="cpu", weights_only=not (found.runs and loading.trust))
    except Exception as error:  # noqa: BLE001 - torch and safetensors raise whatever a damaged file provokes
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise OtoscopeError(f"{path}: cannot be read as weights ({reason}); fetch or save it again") from None
    return _state_in(document, path, key)


def _state_in(document: Any, path: Path, key: str) -> dict[str, torch.Tensor]:
    """Find the state dict in what a checkpoint holds."""
    if isinstance(document, nn.Module):
        return document.state_dict()
    for name in [key] if key else ["", "state_dict", "model_state_dict", "model", "net"]:
        inner = document.get(name) if name and isinstance(document, Mapping) else document
        if isinstance(inner, Mapping) and inner and all(isinstance(value, torch.Tensor) for value in inner.values()):
            return dict(inner)
    keys = ", ".join(map(str, list(document)[:8])) if isinstance(document, Mapping) else type(document).__name__
    raise OtoscopeError(f"{path}: holds no state dict; say where it lies by [model.settings] key (it has {keys})")


def fill(network: nn.Module, state: dict[str, torch.Tensor], path: Path, *, prefix: str = "") -> None:
    """Fill in weights; every one must be there, and finite.

    Raises
    ------
    OtoscopeError
        If names or shapes differ, or weights are not finite.
    """
    if prefix and not any(name.startswith(prefix) for name in state):
        raise OtoscopeError(f"{path}: no name begins with {prefix!r}; they are called like {next(iter(state))!r}")
    try:
        network.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n", 1)[-1].split())[:200]
        raise OtoscopeError(
            f"{path}: does not fit the network ({reason}); take the weights that belong to it"
        ) from None
    if not all(value.isfinite().all() for value in network.state_dict().values() if value.is_floating_point()):
        raise OtoscopeError(f"{path}: holds weights that are not finite; take the weights that belong to the network")


def _stored(path: Path | None, loading: Loading) -> Callable[[torch.Tensor], Any]:
    """Load a network that its file holds whole."""
    if path is None:
        raise OtoscopeError("[model] lacks 'path' and [model.settings] lacks 'factory'; give one of them, or both")
    found = open_checked(path, KINDS, trust=loading.trust, remedy=REMEDY)
    if found.kind == "safetensors" or (found.kind == "torch" and not found.runs):
        raise OtoscopeError(
            f'{path}: holds weights but no network; say what builds it: [model.settings] factory = "file.py:function"'
        )
    try:
        if found.kind == "torchscript":
            return _script(path)
        if found.kind == "torch.export":
            return _program(path)
        network = torch.load(path, map_location="cpu", weights_only=False)
    except OtoscopeError:
        raise
    except Exception as error:  # noqa: BLE001 - unpickling raises whatever the pickle provokes
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise OtoscopeError(f"{path}: cannot be loaded ({reason})") from None
    if not isinstance(network, nn.Module):
        raise OtoscopeError(f"{path}: holds {type(network).__name__}, not a torch.nn.Module; {REMEDY}")
    return network


def _script(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch announces the end of TorchScript
        network: nn.Module = torch.jit.load(str(path), map_location="cpu")
    return network


def _program(path: Path) -> Callable[[torch.Tensor], Any]:
    """Load an exported program with its modules, so that layers can be watched; fixed at one item: one by one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec")  # torch warns of its own code
        program = torch.export.load(path)
        network = torch.export.unflatten(program)
    inputs = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in inputs]
    if len(shapes) != 1:
        raise OtoscopeError(f"{path}: takes {len(shapes)} inputs; export it with one, the sound")
    items = shapes[0][0] if len(shapes[0]) else 1
    if not isinstance(items, int):
        return network
    if items != 1:
        raise OtoscopeError(
            f"{path}: was exported for {items} items at a time; export it with a dynamic first dimension"
        )
    return _OneByOne(network)


class _OneByOne(nn.Module):
    """A network that takes one item at a time, keeping the axis for items."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Score items (n, …)."""
        return item_by_item(lambda item: self.network(item[None])[0])(items)
