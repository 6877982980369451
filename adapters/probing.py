"""Probing: what the layers of a network show of clicks and tones.

A quiet baseline is played, then the same with a click at known times and with a tone at known pitches. For every layer
that may be a map, `look` keeps by how much its output moved, place by place along each of its axes. Hooks are removed
as soon as a sound has been played.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats

if TYPE_CHECKING:
    from otoscope.adapters.network import NetworkModel

N_CLICKS, N_TONES = 9, 12
PROBE_SECONDS = 2.0  # of a network that hears any length
MEMORY = 256 * 2**20  # bytes of activations kept while probing


@dataclass
class Seen:
    """What a layer showed while the network was probed.

    Attributes
    ----------
    module : torch.nn.Module
    shape : tuple of int
        Of its output for one sound.
    base : Tensor
        Output for the quiet baseline.
    profiles : dict
        Sound → list of profiles, one for each axis but the first: how much the output moved, place by place.
    order : int
        When it was last called.
    calls : int
        In one pass.
    """

    module: nn.Module
    shape: tuple[int, ...]
    base: torch.Tensor
    profiles: dict[str, list[Floats]] = field(default_factory=dict)
    order: int = 0
    calls: int = 1


def probing_sounds(rate: int, length: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Make a quiet baseline, and the same with a click at known times, and with a tone at known pitches."""
    rng = np.random.default_rng(0)
    time = np.arange(length) / rate
    base = 1e-3 * rng.standard_normal(length)
    width = max(0.004, length / rate / 100)
    burst = 0.5 * rng.standard_normal(length)
    centres = np.linspace(0.1, 0.9, N_CLICKS) * length / rate
    clicks = {f"click {t}": base + burst * (np.abs(time - t) < width / 2) for t in centres.tolist()}
    pitches = np.geomspace(max(60.0, 4 * rate / length), 0.42 * rate, N_TONES).tolist()
    middle = np.abs(time - time[-1] / 2) < time[-1] / 4  # a steady tone is nothing to a network that levels each band
    tones = {f"tone {f}": base + 0.3 * middle * np.sin(2 * np.pi * f * time) for f in pitches}
    return base, clicks, tones


def number(sound: str) -> float:
    """Time of a click in seconds, or pitch of a tone in hertz."""
    return float(sound.split()[1])


def is_convolution(module: nn.Module) -> bool:
    """Whether a module is a convolution, or was one before it was exported."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return True
    type_name = getattr(module, "type_name", None)  # of the stand-ins that torch.export makes
    return callable(type_name) and str(type_name()).endswith((".Conv1d", ".Conv2d"))


def _is_candidate(module: nn.Module) -> bool:
    """Convolutions, and whatever else may return tokens; not what only passes on what it gets."""
    return not isinstance(module, nn.Dropout | nn.Identity | nn.Flatten | nn.Sequential | nn.ModuleList)


@contextmanager
def _hooked(network: nn.Module, hook: Callable[[str, nn.Module, torch.Tensor], None]) -> Iterator[None]:
    """Call a hook with every output that may be a map: at least three axes, items first."""

    def attach(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            if isinstance(first, torch.Tensor) and first.ndim in (3, 4) and first.is_floating_point():
                hook(name, module, first)

        return look

    handles = [
        module.register_forward_hook(attach(name))
        for name, module in network.named_modules()
        if name and _is_candidate(module)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def look(model: NetworkModel, base: Any, sounds: Mapping[str, Any]) -> dict[str, Seen]:
    """Play the baseline, then every sound, and keep by how much each layer's output moved along each axis."""
    seen: dict[str, Seen] = {}
    passed: list[torch.Tensor] = []  # a container hands on the very tensor of its last child
    kept, order = 0, 0

    def first_look(name: str, module: nn.Module, output: torch.Tensor) -> None:
        nonlocal kept, order
        order += 1
        if name in seen:
            seen[name].calls += 1
        elif any(output is other for other in passed):
            return
        elif output.shape[0] == 1 and kept < MEMORY and _may_be_map(module, output):
            kept += 2 * output.numel() * output.element_size()
            passed.append(output)
            seen[name] = Seen(module, tuple(output.shape), output.detach().clone(), order=order)

    _play(model, base, first_look)
    passed.clear()
    for name in [name for name, layer in seen.items() if layer.calls > 1]:
        del seen[name]  # used several times: no single place in the network

    for sound, samples in sounds.items():

        def again(name: str, _module: nn.Module, output: torch.Tensor, sound: str = sound) -> None:
            layer = seen.get(name)
            if layer is None or output.shape != layer.shape:
                return
            moved = (output.detach() - layer.base).double().square()
            axes = range(1, moved.ndim)
            layer.profiles[sound] = [
                moved.sum(dim=[a for a in range(moved.ndim) if a != axis]).cpu().numpy() for axis in axes
            ]

        _play(model, samples, again)
    return seen


def _may_be_map(module: nn.Module, output: torch.Tensor) -> bool:
    """Convolutions of any kind; of other layers those that return tokens (n, time, channels)."""
    if is_convolution(module):
        return sum(size > 1 for size in output.shape[2:]) > 0
    return output.ndim == 3 and output.shape[1] > 1


def _play(model: NetworkModel, samples: Any, hook: Callable[[str, nn.Module, torch.Tensor], None]) -> None:
    waveform = torch.from_numpy(samples.astype(np.float32))[None].to(model.device)
    assert isinstance(model.network, nn.Module)  # noqa: S101 - only networks with gradients are probed
    try:
        with torch.no_grad(), _hooked(model.network, hook):
            model.logits(waveform)
    except OtoscopeError as error:
        reason = str(error).partition("; check [input]")[0]
        raise OtoscopeError(
            f"the network cannot hear the {len(samples) / model.rate:g} s that its layers are probed with ({reason}); "
            "declare n_samples"
        ) from None


def with_gradient(model: NetworkModel, base: Any, seen: Mapping[str, Seen]) -> list[str]:
    """Name the layers that a score depends on; of tokens only where more than one or two of them count."""
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str, _module: nn.Module, output: torch.Tensor) -> None:
        if name in seen and output.requires_grad:
            outputs[name] = output

    waveform = torch.from_numpy(base.astype(np.float32))[None].to(model.device).requires_grad_()
    assert isinstance(model.network, nn.Module)  # noqa: S101 - only networks with gradients are probed
    with torch.enable_grad(), _hooked(model.network, keep):
        score = model.logits(waveform)[:, 0].sum()
    if not outputs or not score.requires_grad:
        return []
    gradients = torch.autograd.grad(score, list(outputs.values()), allow_unused=True)
    return [
        name
        for name, gradient in zip(outputs, gradients, strict=True)
        if gradient is not None and (is_convolution(seen[name].module) or not _reads_few(gradient))
    ]


def _reads_few(gradient: torch.Tensor) -> bool:
    """Whether only one or two special tokens of (n, tokens, channels) count: behind the last attention."""
    counting = int((gradient.abs().sum(dim=(0, 2)) > 0).sum())
    return 1 <= counting <= 2 < gradient.shape[1]
