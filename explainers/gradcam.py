"""Grad-CAM: which cells of a layer, raised a little, would raise the target.

Selvaraju et al., 2017, through Captum's `LayerGradCam` with ``attr_dim_summation=False``: the map is Σ_c α_c A_c
with α_c the mean of ∂y/∂A_c over the layer's cells and y the target's logit (a contrast: the difference of
two logits). It is kept signed. What the layer's axes mean decides where the map lies:

* time and frequency: each cell covers its share of the window and of the bands;
* time only: each frame is spread over frequency by the recording's energy;
* groups of channels (the harmonics CNN: pitch class × time): each group's map is laid on the bands it may see.

The weights are the signed mass of the map in each part, scaled to Σ|w| = 1. *Brightness* is the mean of the rectified
map scaled to 0–1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import CamLayer, Gradients
from otoscope.adapters.windows import Windowed
from otoscope.explainers import grid
from otoscope.explainers.explanation import Outcome, lay_cells
from otoscope.explainers.makers import cut
from otoscope.explainers.methods import Request, fitting_black_boxes, method, refuse_black_box
from otoscope.explainers.parts import Parts
from otoscope.explainers.targets import Floats, Target

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Cam:
    """A class activation map over the windows of a span.

    Attributes
    ----------
    cells : ndarray, shape (n_windows, n_rows, n_frames)
        One row per group of channels, per band of frequencies, or a single one (time only).
    layer : CamLayer
    """

    cells: Floats
    layer: CamLayer


@method(
    "gradcam",
    "weigh a layer's activations by their gradients and lay them on seconds × hertz",
    uses={"layer"},
    white_box=True,
)
def gradcam(request: Request) -> Outcome:
    """Compute the map and the signed share of it in each part."""
    parts = cut(request.whole, request.settings.parts or "superpixels", request.settings.n_parts)
    layer = find_layer(request.model, request.settings.layer)
    cam = class_activation_map(request.model, parts.audio.samples, request.target, layer)
    cells = on_stft(cam, parts, request.model)
    weights = parts.spread(cells)
    size = float(np.abs(weights).sum()) or 1.0
    notes = () if weights.any() else ("the map is zero everywhere: this layer does not move the target here",)
    return Outcome(
        parts,
        weights / size,
        len(request.model.starts),
        names=parts.names,
        units="relative",
        map=on_common_grid(cam, parts, request.model, cells) / size,
        route="gradients",
        fidelity={"brightness": brightness(cam.cells)},
        native=_native(cam, request.model),
        notes=notes,
    )


def find_layer(model: Windowed, name: str | None, *, method: str = "gradcam") -> CamLayer:
    """Find the layer by name, or the best one, for a method.

    Raises
    ------
    OtoscopeError
        If the model has no gradients or no fitting layer, naming the methods that fit.
    """
    refuse_black_box(method, model.model)
    layers = model.gradients.layers() if model.gradients is not None else ()
    if not layers:
        raise OtoscopeError(
            f"this model has no layer with a time axis for Grad-CAM to look at; use {fitting_black_boxes()}"
        )
    if name is None:
        return layers[0]
    for layer in layers:
        if layer.name == name:
            return layer
    raise unknown("layer", name, [layer.name for layer in layers])


def class_activation_map(model: Windowed, samples: np.ndarray, target: Target, layer: CamLayer) -> Cam:
    """Compute the signed map by Captum.

    Parameters
    ----------
    model : Windowed
    samples : ndarray, shape (n_samples,)
    target : Target
    layer : CamLayer
    """
    gradients = model.gradients
    assert gradients is not None  # noqa: S101 - found by find_layer

    def chosen(logits: torch.Tensor) -> torch.Tensor:
        one = logits[:, target.index]
        return one if target.against is None else one - logits[:, target.against]

    device = getattr(model.model, "device", "cpu")
    return Cam(activation_maps(gradients, samples[None], chosen, layer, device=device), layer)


def activation_maps(
    gradients: Gradients,
    waveforms: np.ndarray,
    chosen: Callable[[torch.Tensor], torch.Tensor],
    layer: CamLayer,
    *,
    device: str = "cpu",
) -> Floats:
    """Compute the signed maps of several waveforms at once by Captum.

    Parameters
    ----------
    gradients : Gradients
    waveforms : ndarray, shape (n, n_samples)
    chosen : callable
        Logits (n, n_classes) to the number (n,) that each waveform is asked about.
    layer : CamLayer
    device : str

    Returns
    -------
    ndarray, shape (n, n_rows, n_frames)
        One row per group of channels, per band of frequencies, or a single one (time only).
    """
    import torch
    from captum.attr import LayerGradCam

    def answer(items: torch.Tensor) -> torch.Tensor:
        return chosen(gradients.logits(items))

    items = torch.from_numpy(np.array(waveforms, dtype=np.float32)).to(device).requires_grad_()
    with layer.watch():
        attribution = LayerGradCam(answer, layer.module).attribute(items, attr_dim_summation=False)
    channels = attribution.detach().cpu().double().numpy()  # (n, n_channels, …, n_frames)
    if channels.ndim < 3:
        raise OtoscopeError(
            f"layer {layer.name!r} has no time axis (its activations are {channels.ndim}-D); use another"
        )
    if layer.groups is not None:
        n, _, n_frames = channels.shape
        return np.asarray(channels.reshape(n, len(layer.groups), -1, n_frames).sum(axis=2))
    summed = channels.sum(axis=1)  # (n, [n_rows,] n_frames)
    return np.asarray(summed if summed.ndim == 3 else summed[:, None, :])


def on_stft(cam: Cam, parts: Parts, model: Windowed) -> Floats:
    """Lay the map on the parts' STFT cells, (n_bins, n_frames), mass for mass."""
    n_bins, n_frames = parts.labels.shape
    step = parts.stft.hop_length / parts.audio.rate
    frames = grid.frame_edges(n_frames, step, parts.audio.seconds)
    row_cells, row_edges = _rows(cam)
    total = np.zeros((row_cells.shape[1], n_frames))
    for window, edges in zip(row_cells, _time_edges(cam, model), strict=True):
        total += window @ grid.overlap(edges, frames).T
    if row_edges is None:
        energy = parts.power.sum(axis=0, dtype=np.float64)
        share = np.where(energy > 0, parts.power / np.where(energy > 0, energy, 1), 1 / n_bins)
        return np.asarray(total * share)
    return grid.overlap(row_edges, grid.bin_edges(n_bins, parts.audio.rate / parts.stft.n_fft)) @ total


def heights(cam: Cam, parts: Parts, model: Windowed) -> Floats:
    """Read the map's height at each of the parts' STFT cells, (n_bins, n_frames): its value there, not its mass."""
    rows, edges = _rows(cam)
    layer = CamLayer(cam.layer.name, cam.layer.module, band_edges=edges, frames=cam.layer.frames)
    mass, flat = (on_stft(Cam(cells, layer), parts, model) for cells in (rows, np.ones_like(rows)))
    return np.asarray(np.divide(mass, flat, out=np.zeros_like(mass), where=flat > 0))


def on_common_grid(cam: Cam, parts: Parts, model: Windowed, cells: Floats) -> Floats:
    """Lay the map on the common grid; directly where it has a frequency axis, else by its STFT cells."""
    row_cells, row_edges = _rows(cam)
    if row_edges is None:
        return lay_cells(parts, cells)
    duration = parts.audio.seconds
    laid = [
        grid.lay(window, row_edges, edges, duration)
        for window, edges in zip(row_cells, _time_edges(cam, model), strict=True)
    ]
    return np.asarray(sum(laid))


def _rows(cam: Cam) -> tuple[Floats, Floats | None]:
    """Rows of the map (n_windows, n_rows, n_frames) and their edges in hertz; None for time only."""
    layer = cam.layer
    if layer.groups is not None:
        return np.einsum("gb,wgt->wbt", layer.groups.astype(np.float64), cam.cells), layer.band_edges
    if layer.band_edges is None or cam.cells.shape[1] == 1:
        return cam.cells.sum(axis=1, keepdims=True), None
    n_bands, n_rows = len(layer.band_edges) - 1, cam.cells.shape[1]
    positions = np.linspace(0, n_bands, n_rows + 1)
    return cam.cells, np.interp(positions, np.arange(n_bands + 1), layer.band_edges)


def _time_edges(cam: Cam, model: Windowed) -> list[Floats]:
    """Edges in seconds of the frames of each window; what lies in padding has no width."""
    n_frames = cam.cells.shape[2]
    relative = np.linspace(0, model.window, n_frames + 1)
    if cam.layer.frames is not None:
        first, step = cam.layer.frames
        relative = np.clip((first + step * np.arange(n_frames + 1)) * model.rate, 0, model.window)
    end = model.n_samples
    return [np.clip(start + relative, 0, end) / model.rate for start in model.starts]


def brightness(cells: Floats) -> float:
    """Mean of the rectified map, scaled to 0–1."""
    rectified = np.maximum(cells, 0)
    return float(rectified.mean() / rectified.max()) if rectified.max() > 0 else 0.0


def _native(cam: Cam, model: Windowed) -> dict[str, object]:
    """Keep the map of each group of channels on the columns of the common grid (pitch class × time)."""
    if cam.layer.groups is None:
        return {}
    columns = grid.column_edges(model.n_samples / model.rate)
    laid = sum(
        window @ grid.overlap(edges, columns).T
        for window, edges in zip(cam.cells, _time_edges(cam, model), strict=True)
    )
    return {"groups": np.asarray(laid), "group_names": np.array(cam.layer.group_names)}
