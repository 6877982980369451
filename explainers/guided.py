"""Guided Grad-CAM: the fine structure of guided backpropagation where the rectified Grad-CAM map is high.

Selvaraju et al., 2017: the elementwise product of the map, raised to the input's resolution, and of guided
backpropagation (Springenberg et al., 2015), which lets through a ReLU only what raises the target:
∂y/∂in = 1[in > 0] · max(0, ∂y/∂out). Here the input is the cell mask of `otoscope.explainers.cell_mask`, so the product
lies on the cells of the STFT; y is the target's logit (a contrast: the difference of two). A cell's height in the map
is that of the layer's cell that covers it; of groups of channels, the sum of those that hear it.

The map is rectified, so this method shows what speaks *for* the target only: of a cue that speaks against it the map is
zero. Where the product is negative, a cell in a place that matters would raise the target by falling silent.

Only modules of `torch.nn.ReLU` can be guided. The rule is applied to the gradient at the output of each (Captum's
`GuidedBackprop`, which applies it to all that flows back to the input, also cuts what reaches the input by another way,
such as a residual connection); where there is none, the method has nothing to guide and refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Model
from otoscope.explainers.cell_mask import asking, finite, whole_mask
from otoscope.explainers.explanation import Outcome
from otoscope.explainers.gradcam import Cam, class_activation_map, find_layer, heights
from otoscope.explainers.gradients import cells_of, relative
from otoscope.explainers.methods import Request, all_methods, method

NAME = "guided_gradcam"


@method(
    NAME,
    "multiply the rectified Grad-CAM map by guided backpropagation to the cells of the spectrogram",
    uses={"layer"},
    white_box=True,
)
def guided_gradcam(request: Request) -> Outcome:
    """Multiply the map by the guided gradient."""
    from captum.attr import Saliency

    layer = find_layer(request.model, request.settings.layer, method=NAME)
    relus = find_relus(request.model.model)
    parts = cells_of(request, NAME)
    cam = class_activation_map(request.model, parts.audio.samples, request.target, layer)
    with guided(relus):
        gradient = Saliency(asking(request, parts, logit=True)).attribute(whole_mask(parts), abs=False)
    raised = heights(Cam(np.maximum(cam.cells, 0), layer), parts, request.model)
    return relative(
        parts,
        raised * finite(gradient, NAME),
        n_calls=2,
        silent="the product is zero everywhere: this layer holds nothing that speaks for the target",
    )


def find_relus(model: Model) -> list[nn.ReLU]:
    """List the ReLU modules of a model's network.

    Raises
    ------
    OtoscopeError
        If there are none, naming the methods that fit.
    """
    network = getattr(model, "network", None)
    modules = network.modules() if isinstance(network, nn.Module) else ()
    found = [module for module in modules if isinstance(module, nn.ReLU)]
    if not found:
        others = ", ".join(name for name in all_methods() if name != NAME)
        raise OtoscopeError(
            f"this network has no torch.nn.ReLU module whose gradient could be guided, so {NAME} cannot explain it; "
            f"use {others}"
        )
    return found


@contextmanager
def guided(relus: list[nn.ReLU]) -> Iterator[None]:
    """Let only what raises the target flow back through these modules; the hooks are removed in the end."""

    def watch(_module: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient.clamp(min=0))

    handles = [relu.register_forward_hook(watch) for relu in relus]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
