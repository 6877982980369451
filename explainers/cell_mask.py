"""The cell mask: what a model says as a differentiable function of how loud each cell of the STFT is.

A mask m (n_bins, n_frames) sets the gain of every cell of the recording's STFT X; what is left out is replaced by the
off sound's O, which is 0 for silence::

    x(m) = ISTFT(m ⊙ X + (1 − m) ⊙ O)            x(1) the recording, x(0) all off

and `value` is the number that is explained, of the logits of x(m)'s windows. Every gradient method of this house is
a way to differentiate value(x(m)). The gains of parts are gains of their cells, so the derivative by a part's gain is
the sum over its cells, and for silence it is input × gradient of the complex STFT.

The value is `otoscope.explainers.targets.on_scale` of the span's scores (their mean over windows), from logits and
in logarithms, so that nothing need be clipped: where a probability saturates its log-odds still have a gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Output
from otoscope.explainers.methods import Request, fitting_black_boxes
from otoscope.explainers.parts import Parts
from otoscope.explainers.targets import Floats, Scale, Target

Ask = Callable[[torch.Tensor], torch.Tensor]


def value(logits: torch.Tensor, target: Target, output: Output, scale: Scale) -> torch.Tensor:
    """Bring the logits of a span's windows to the explained scale; differentiable, in float64.

    Parameters
    ----------
    logits : Tensor, shape (n, n_windows, n_classes)
        Before the activation; of a regression the values.
    target : Target
    output : {"softmax", "sigmoid", "regression"}
    scale : {"log_odds", "score"}

    Returns
    -------
    Tensor of float64, shape (n,)
        The `on_scale` of the scores' means over the windows, unclipped.
    """
    logits = logits.double()
    chosen = _value(logits, target.index, target, output, scale)
    return chosen if target.against is None else chosen - _value(logits, target.against, target, output, scale)


def _value(logits: torch.Tensor, column: int, target: Target, output: Output, scale: Scale) -> torch.Tensor:
    """Value of one class, (n,)."""
    one = logits[..., column]  # (n, n_windows)
    if output == "regression":
        return one.mean(dim=1)
    if output == "sigmoid":
        yes, no = (torch.nn.functional.logsigmoid(sign * one) for sign in (1, -1))
    else:
        others = torch.cat([logits[..., :column], logits[..., column + 1 :]], dim=-1)
        every = logits.logsumexp(dim=-1)
        yes, no = one - every, others.logsumexp(dim=-1) - every
    if scale == "score":
        return yes.exp().mean(dim=1)
    if output == "softmax" and target.against is not None:
        return _log_mean(yes)
    return _log_mean(yes) - _log_mean(no)


def _log_mean(logarithms: torch.Tensor) -> torch.Tensor:
    """Logarithm of the mean over windows, (n, n_windows) to (n,)."""
    return logarithms.logsumexp(dim=1) - torch.log(torch.tensor(float(logarithms.shape[1])))


def asking(request: Request, parts: Parts, *, logit: bool = False) -> Ask:
    """Make the function from cell masks (n, n_bins, n_frames) to values (n,).

    Parameters
    ----------
    request : Request
        Of a model with gradients.
    parts : Parts
        On whose STFT grid the cells lie.
    logit : bool
        The target's logit itself (of a contrast the difference) in place of the explained scale.
    """
    model, n_samples = request.model, len(parts.audio.samples)
    gradients, off = model.gradients, parts.off_spectrum
    assert gradients is not None  # noqa: S101 - black boxes are refused by the methods
    output: Output = "regression" if logit else model.output
    scale: Scale = "score" if logit else request.scale
    device = getattr(model.model, "device", "cpu")
    moved = parts.spectrum if off is None else parts.spectrum - off

    def ask(masks: torch.Tensor) -> torch.Tensor:
        spectra = masks * moved if off is None else off + masks * moved
        logits = gradients.window_logits(parts.stft.inverse(spectra, n_samples).to(device))
        if torch.is_grad_enabled() and not logits.requires_grad:
            raise OtoscopeError(f"gradients do not reach this model's sound; use {fitting_black_boxes()}")
        return value(logits, request.target, output, scale)

    return ask


def whole_mask(parts: Parts) -> torch.Tensor:
    """Mask of the recording as it is, ones of shape (1, n_bins, n_frames); gradients are asked at it."""
    return torch.ones(1, *parts.labels.shape, requires_grad=True)


def finite(attribution: torch.Tensor, method: str) -> Floats:
    """Bring an attribution (1, n_bins, n_frames) to an array (n_bins, n_frames).

    Raises
    ------
    OtoscopeError
        If it is not finite.
    """
    if not attribution.isfinite().all():
        raise OtoscopeError(
            f"the gradient is not finite here (a root or logarithm of nothing in the model's front end?), so {method} "
            f"cannot explain it; use {fitting_black_boxes()}"
        )
    cells: Floats = attribution[0].detach().double().numpy()
    return cells
