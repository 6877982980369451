"""`wrap`: put a live object behind the predict interface.

A callable is asked as it is and checked at every answer. A `torch.nn.Module` becomes a `TorchModel`, with gradients
and, where a front end is declared, the spectrogram capability. Whatever already looks like a `Model` is given back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import Float32, Floats, Model, Output, checked, probe_fingerprint, probe_sounds

if TYPE_CHECKING:
    from otoscope.adapters.frontend import FrontEnd


class CallableModel:
    """A function from waveforms (n, n_samples) to scores (n, n_classes) as a model."""

    def __init__(
        self,
        function: Callable[[Float32], Any],
        *,
        rate: int,
        labels: Sequence[str],
        n_samples: int | None,
        output: Output,
    ) -> None:
        self.function = function
        self.rate = rate
        self.labels = tuple(labels)
        self.n_samples = n_samples
        self.output: Output = output

    def predict(self, waveforms: Float32, /) -> Floats:
        """Score waveforms (n, n_samples) as (n, n_classes)."""
        # NaN is left to `ask`, so that a function that is not finite on silence can be helped (see `Windowed`).
        return checked(_plain(self.function(np.array(waveforms))), len(waveforms), self, finite=False)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the scores on eight fixed sounds: a function shows no weights."""
        return probe_fingerprint(self)


def wrap(
    thing: Any,
    *,
    rate: int | None = None,
    labels: Sequence[str] | None = None,
    n_samples: int | None = None,
    output: Output | None = None,
    front_end: FrontEnd | None = None,
    device: str = "cpu",
) -> Model:
    """Put a live object behind the predict interface.

    Parameters
    ----------
    thing : callable, torch.nn.Module or Model
        A callable takes float32 waveforms (n, n_samples) and returns scores (n, n_classes), probabilities after the
        activation or values. A module returns logits (n, n_classes) and takes waveforms, or with `front_end` its
        compressed bands (n, n_bands, n_frames).
    rate : int, optional
        Sampling rate in hertz; that of the front end where None.
    labels : sequence of str, optional
        Names of the classes; ``class 0`` … where None.
    n_samples : int, optional
        Length of the window it hears; None for any.
    output : {"softmax", "sigmoid", "regression"}, optional
        Where None, judged from a callable's scores on eight sounds; "softmax" for a module.
    front_end : FrontEnd, optional
        For modules.
    device : str
        For modules.

    Returns
    -------
    Model

    Raises
    ------
    OtoscopeError
        If the rate is missing, or what comes back are no scores.

    Examples
    --------
    >>> import numpy as np
    >>> loudness = wrap(lambda x: np.abs(x).mean(1, keepdims=True), rate=16000, output="regression")
    >>> loudness.labels
    ('class 0',)
    """
    if isinstance(thing, Model) and not isinstance(thing, type):
        return thing
    if rate is None and front_end is not None:
        rate = front_end.rate
    if rate is None:
        raise OtoscopeError("the model's sampling rate is not known; give rate=… in hertz")
    if not callable(thing):
        raise OtoscopeError(f"cannot wrap {type(thing).__name__}; give a callable, a torch.nn.Module or a Model")
    rate, n_samples = _whole("rate", rate), None if n_samples is None else _whole("n_samples", n_samples)
    if labels is not None:
        labels = _names(labels)
    if output is not None and output not in get_args(Output):
        raise unknown("output", output, get_args(Output))
    torch = sys.modules.get("torch")  # whoever made a module has imported torch
    if torch is not None and isinstance(thing, torch.nn.Module):
        return _wrap_module(thing, rate, labels, n_samples, output or "softmax", front_end, device)
    if front_end is not None:
        raise OtoscopeError("a front end can be declared for torch modules only; a callable takes waveforms")
    names, kind = _judge(thing, rate, labels, n_samples, output)
    return CallableModel(thing, rate=rate, labels=names, n_samples=n_samples, output=kind)


def _whole(name: str, value: Any) -> int:
    """Check a number of hertz or samples."""
    if not isinstance(value, int | float | np.number) or value != int(value) or value < 1:
        raise OtoscopeError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def _names(labels: Sequence[Any]) -> list[str]:
    """Check the labels."""
    if isinstance(labels, str):
        raise OtoscopeError(f"labels must be a list of names, got the text {labels!r}")
    names = [str(label) for label in labels]
    if not all(name.strip() for name in names):
        raise OtoscopeError("a label is empty; name every class")
    if len(set(names)) != len(names):
        raise OtoscopeError("two labels have the same name; name each class once")
    return names


def _plain(raw: Any) -> Any:
    """Take a torch tensor off its graph and device; leave everything else to the check."""
    return raw.detach().cpu().numpy() if hasattr(raw, "detach") else raw


def _wrap_module(
    module: Any,
    rate: int,
    labels: Sequence[str] | None,
    n_samples: int | None,
    output: Output,
    front_end: FrontEnd | None,
    device: str,
) -> Model:
    import torch

    from otoscope.adapters.torch_model import TorchModel

    settings: Any = {"rate": rate, "n_samples": n_samples, "output": output, "front_end": front_end, "device": device}
    if labels is None:
        trial = TorchModel(module, labels=(), **settings)
        with torch.no_grad():
            logits = trial.logits(torch.from_numpy(probe_sounds(rate, n_samples or rate)[:2]).to(device))
        labels = [f"class {i}" for i in range(logits.shape[1])]
    return cast(Model, TorchModel(module, labels=labels, **settings))


def _judge(
    function: Callable[[Float32], Any],
    rate: int,
    labels: Sequence[str] | None,
    n_samples: int | None,
    output: Output | None,
) -> tuple[Sequence[str], Output]:
    """Fill in labels and kind of output from the scores on the probe sounds."""
    if labels is not None and output is not None:
        return labels, output
    given = _plain(function(probe_sounds(rate, n_samples or rate)))
    try:
        raw = np.asarray(given)
    except ValueError:  # rows of different lengths
        raise OtoscopeError("the model returned rows of different lengths; return (n, n_classes)") from None
    if raw.ndim != 2 or len(raw) != 8:
        raise OtoscopeError(f"the model returned shape {raw.shape} for 8 waveforms; predict must return (n, n_classes)")
    labels = labels if labels is not None else [f"class {i}" for i in range(raw.shape[1])]
    open_model = CallableModel(function, rate=rate, labels=labels, n_samples=n_samples, output="regression")
    scores = checked(raw, 8, open_model)
    if output is not None:
        return labels, output
    if scores.min() < 0 or scores.max() > 1:
        return labels, "regression"
    together = scores.shape[1] > 1 and np.allclose(scores.sum(axis=1), 1, atol=1e-3)
    return labels, "softmax" if together else "sigmoid"
