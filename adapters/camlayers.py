"""Layers for class activation maps: tapped in a common layout, found and understood by probing.

Captum's Grad-CAM takes a layer's activations as (n, n_channels, …) and all behind the channels as places. Networks
order their axes as they like: (n, channels, time, frequency), tokens (n, time, channels), with a special token in
front. A *tap* is an identity module through which the activations of a layer are led in the layout (n, n_channels,
[n_rows,] n_frames), rows from low to high frequency; it hangs on the network only while somebody watches.

`find_layers` understands a network nobody has described by what it answers to a few sounds
(`otoscope.adapters.probing`): where the answer of an axis moves along with a click, this axis is time; where it moves
along with the pitch of a tone, it is frequency. How places map to seconds and hertz is read off the same answers. A
layer at which the gradient lives on a single place (behind the last attention of a network that reads one token only)
is left out. Layers that know frequency come first, later ones before earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.hearing import BAND_AXES
from otoscope.adapters.model import CamLayer, Floats
from otoscope.adapters.probing import PROBE_SECONDS, Seen, is_convolution, look, number, probing_sounds, with_gradient

if TYPE_CHECKING:
    from otoscope.adapters.network import NetworkModel

MONOTONE = 0.9  # least rank correlation of place and position
AROUND = 2  # places beside the peak of an answer; attention blurs the rest
REACH = 0.4  # least share of an axis that the answers must span


def tapped(
    name: str,
    module: nn.Module,
    arrange: Callable[[torch.Tensor], torch.Tensor],
    restore: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    band_edges: Floats | None = None,
    frames: tuple[float, float] | None = None,
) -> CamLayer:
    """Make a layer whose activations are seen in the common layout.

    Parameters
    ----------
    name : str
    module : torch.nn.Module
        The layer; of several outputs the first counts.
    arrange : callable
        Output of the layer to (n, n_channels, [n_rows,] n_frames).
    restore : callable
        ``(output, arranged) -> output``: the way back, with what `arrange` left aside taken from the output.
    band_edges, frames
        See `CamLayer`.
    """
    tap = nn.Identity()

    def through(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (restore(output[0], tap(arrange(output[0]).clone())), *output[1:])
        return restore(output, tap(arrange(output).clone()))  # a clone: what follows may work in place

    @contextmanager
    def watch() -> Iterator[None]:
        handle = module.register_forward_hook(through, prepend=True)  # before hooks that record outputs
        try:
            yield
        finally:
            handle.remove()

    return CamLayer(name, tap, band_edges=band_edges, frames=frames, watch=watch)


def declared_layer(model: NetworkModel, name: str, axes: tuple[str, ...]) -> CamLayer:
    """Make a layer whose axes somebody knows.

    Parameters
    ----------
    model : NetworkModel
    name : str
        As in ``network.named_modules()``.
    axes : tuple of str
        Of its output: ``items`` first, then ``frames`` and, where it has one, ``bands`` (from low to high); the others,
        e.g. ``channels``, hold channels.

    Raises
    ------
    OtoscopeError
        If there is no such layer, or no axis is time.
    """
    modules = dict(model.network.named_modules())
    if name not in modules:
        raise unknown("layer", name, [one for one in modules if one])
    if axes[:1] != ("items",) or axes.count("frames") != 1 or axes.count("bands") > 1:
        raise OtoscopeError(f"axes of a layer begin with items and hold frames once, got {', '.join(axes)}")
    frequency = axes.index("bands") if "bands" in axes else None
    arrange, restore = _views(len(axes), axes.index("frames"), frequency, upside_down=False)
    edges = model.hearing.front_end.edges if frequency is not None and model.hearing.front_end is not None else None
    return tapped(name, modules[name], arrange, restore, band_edges=edges)


def find_layers(model: NetworkModel) -> tuple[CamLayer, ...]:
    """Find the layers of a torch network fit for class activation maps, the best first.

    Parameters
    ----------
    model : NetworkModel

    Returns
    -------
    tuple of CamLayer
        Empty where no layer has an axis for time.

    Raises
    ------
    OtoscopeError
        If nobody can look inside (TorchScript), or the network cannot hear the sounds it is probed with.
    """
    if isinstance(model.network, torch.jit.ScriptModule):
        raise OtoscopeError("TorchScript lets nobody look at its layers; load the network by a factory to use gradcam")
    length = model.n_samples or min(round(PROBE_SECONDS * model.rate), model.max_samples or 2**31)
    base, clicks, tones = probing_sounds(model.rate, length)
    seen = look(model, base, {**clicks, **tones})
    alive = with_gradient(model, base, seen)
    found = []
    for name in sorted(alive, key=lambda name: -seen[name].order):
        layer = _understand(model, name, seen[name], length, list(clicks), list(tones))
        if layer is not None:
            found.append(layer)
    return tuple(sorted(found, key=lambda layer: layer.band_edges is None))  # stable: later layers stay first


def _understand(
    model: NetworkModel, name: str, layer: Seen, length: int, clicks: list[str], tones: list[str]
) -> CamLayer | None:
    """Find out what the axes of a layer mean; None where none is time."""
    time = _moving_axis(layer, clicks, set())
    if time is None:
        time = _usual_time_axis(model, layer)  # it may hear none of the clicks
    if time is None or (time != 1 and not is_convolution(layer.module)):
        return None  # activations and norms behind a convolution only repeat its map
    frequency = _frequency_axis(model, layer, tones, time)
    upside_down = frequency is not None and _slope(layer, tones, frequency) < -0.5
    arrange, restore = _views(len(layer.shape), time, frequency, upside_down=upside_down)
    edges = None
    if frequency is not None:
        edges = _band_edges(model, layer, tones, frequency, upside_down=upside_down)
    return tapped(
        name, layer.module, arrange, restore, band_edges=edges, frames=_frames(layer, clicks, time, length / model.rate)
    )


def _centroids(layer: Seen, sounds: list[str], axis: int) -> Floats:
    """Where along an axis the answer to each sound lies, in places: the middle of what stands around its peak."""
    profiles = np.array([layer.profiles[sound][axis - 1] for sound in sounds])  # (n_sounds, n_places)
    places = np.arange(profiles.shape[1])
    near = profiles * (np.abs(places - profiles.argmax(axis=1)[:, None]) <= AROUND)
    total = near.sum(axis=1)
    return np.asarray(near @ places / np.where(total > 0, total, 1))


def _slope(layer: Seen, sounds: list[str], axis: int) -> float:
    """Rank correlation of place and position, signed."""
    from scipy.stats import spearmanr

    places = _centroids(layer, sounds, axis)
    return 0.0 if np.ptp(places) == 0 else float(spearmanr(places, [number(sound) for sound in sounds]).statistic)


def _moving_axis(layer: Seen, sounds: list[str], taken: set[int]) -> int | None:
    """Find the axis along which the answer moves with the sounds; the one it moves farthest along, of several."""
    best, farthest = None, 0.0
    for axis in range(1, len(layer.shape)):
        size = layer.shape[axis]
        if axis in taken or size < 2 or any(sound not in layer.profiles for sound in sounds):
            continue
        if is_convolution(layer.module) and axis == 1:
            continue  # its channels
        reach = float(np.ptp(_centroids(layer, sounds, axis))) / (size - 1)
        if abs(_slope(layer, sounds, axis)) >= MONOTONE and reach > max(REACH, farthest):
            best, farthest = axis, reach
    return best


def _usual_time_axis(model: NetworkModel, layer: Seen) -> int | None:
    """Where a convolution has its time: last, or as the declared layout orders bands and frames."""
    if not is_convolution(layer.module):
        return None
    if len(layer.shape) == 3:
        return 2 if layer.shape[2] > 1 else None
    layout = model.hearing.layout or BAND_AXES
    if model.hearing.front_end is None:
        return None
    time = 3 if layout.index("bands") < layout.index("frames") else 2
    return time if layer.shape[time] > 1 else None


def _frequency_axis(model: NetworkModel, layer: Seen, tones: list[str], time: int) -> int | None:
    """Find the axis of frequency: behind a declared front end the other place of a convolution, else by tones."""
    if len(layer.shape) != 4:
        return None
    if is_convolution(layer.module) and model.hearing.front_end is not None:
        other = 5 - time  # of axes 2 and 3
        return other if layer.shape[other] > 1 else None
    return _moving_axis(layer, tones, {time})


def _views(
    ndim: int, time: int, frequency: int | None, *, upside_down: bool
) -> tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """Make the ways to (n, n_channels, [n_rows,] n_frames) and back; all other axes are channels."""
    channels = [axis for axis in range(1, ndim) if axis not in (time, frequency)]
    last = [time] if frequency is None else [frequency, time]
    order = [0, *channels, *last]
    back = [order.index(axis) for axis in range(ndim)]

    def arrange(x: torch.Tensor) -> torch.Tensor:
        x = x.permute(order).flatten(1, len(channels))
        return x.flip(2) if upside_down else x

    def restore(output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        x = x.flip(2) if upside_down else x
        unflat: torch.Tensor = x.unflatten(1, [output.shape[axis] for axis in channels])
        return unflat.permute(back)

    return arrange, restore


def _frames(layer: Seen, clicks: list[str], time: int, seconds: float) -> tuple[float, float] | None:
    """Read off where the first frame begins and how long each is; None where they divide the window evenly."""
    n_frames = layer.shape[time]
    places = _centroids(layer, clicks, time)
    if _slope(layer, clicks, time) < MONOTONE:
        return None  # it heard too few of the clicks
    per_second, first = np.polyfit([number(click) for click in clicks], places, 1)
    if per_second <= 0:
        return None
    step = 1 / per_second
    start = -(first + 0.5) * step
    evenly = max(abs(start), abs(start + n_frames * step - seconds)) <= 1.5 * step  # no closer can it be read
    return None if evenly else (float(start), float(step))


def _band_edges(model: NetworkModel, layer: Seen, tones: list[str], frequency: int, *, upside_down: bool) -> Floats:
    """Edges in hertz of the rows: of the front end's bands where they divide evenly, else read off."""
    if model.hearing.front_end is not None:
        return model.hearing.front_end.edges
    n_rows = layer.shape[frequency]
    places = _centroids(layer, tones, frequency)
    places = n_rows - 1 - places if upside_down else places
    rising = np.maximum.accumulate(places)
    pitches = np.log([number(tone) for tone in tones])
    inner = np.exp(np.interp(np.arange(1, n_rows) - 0.5, rising, pitches))
    edges = np.concatenate([[0.0], inner, [model.rate / 2]])
    return np.asarray(np.maximum.accumulate(edges + 1e-6 * np.arange(len(edges))))
