"""`wrap`: put a live object behind the predict interface.

A callable is asked as it is and checked at every answer. A `torch.nn.Module` becomes a `NetworkModel` with gradients.
Where a front end is declared, either gets the spectrogram capability. Whatever already looks like a `Model` is given
back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import Float32, Floats, Model, Output, Returns, checked, probe_fingerprint, probe_sounds

if TYPE_CHECKING:
    from otoscope.adapters.card import Card
    from otoscope.adapters.frontend import FrontEnd
    from otoscope.adapters.hearing import Hearing
    from otoscope.adapters.loading import Loading


class CallableModel:
    """A function from waveforms (n, n_samples) to scores (n, n_classes) as a model.

    Parameters
    ----------
    function : callable
    rate : int
        In hertz.
    labels : sequence of str
    n_samples : int, optional
        Length of the window it hears; None for any.
    output : {"softmax", "sigmoid", "regression"}
    returns : {"logits", "scores"}
        Whether the activation is still to be applied.
    batch_size : int, optional
        Most waveforms the function is given at once; None for all.
    digest : str, optional
        Identity of what answers; by its answers to eight fixed sounds where None.
    notes : tuple of str
        What a reader of its explanations must know.
    """

    def __init__(
        self,
        function: Callable[[Float32], Any],
        *,
        rate: int,
        labels: Sequence[str],
        n_samples: int | None,
        output: Output,
        returns: Returns = "scores",
        batch_size: int | None = None,
        digest: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.function = function
        self.rate = rate
        self.labels = tuple(labels)
        self.n_samples = n_samples
        self.output: Output = output
        self.returns: Returns = returns
        self.batch_size = batch_size
        self.digest = digest
        self.notes = notes

    def predict(self, waveforms: Float32, /) -> Floats:
        """Score waveforms (n, n_samples) as (n, n_classes)."""
        step = self.batch_size or max(1, len(waveforms))
        starts = range(0, max(1, len(waveforms)), step)
        return np.concatenate([self._scores(np.array(waveforms[start : start + step])) for start in starts])

    def _scores(self, batch: Float32) -> Floats:
        raw = _plain(self.function(batch))
        # NaN is left to `ask`, so that a function that is not finite on silence can be helped (see `Windowed`).
        return checked(raw if self.returns == "scores" else activated(raw, self.output), len(batch), self, finite=False)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the scores on eight fixed sounds, where a function shows no weights."""
        return self.digest or probe_fingerprint(self)


def from_function(
    card: Card,
    loading: Loading,
    function: Callable[[Float32], Any],
    *,
    output: Output | None = None,
    digest: str | None = None,
    notes: tuple[str, ...] = (),
) -> CallableModel:
    """Join a function from waveforms to scores and what its card says of them."""
    rate, n_samples = card.waveform()
    return CallableModel(
        function,
        rate=rate,
        labels=card.labels,
        n_samples=n_samples,
        output=output or card.model.output,
        returns=card.model.returns or "scores",
        batch_size=loading.batch_size,
        digest=digest,
        notes=notes,
    )


def activated(logits: Any, output: Output) -> Any:
    """Apply the activation to logits (n, n_classes); what is no array of numbers is left to the check."""
    try:
        x = np.asarray(logits)
    except ValueError:  # rows of different lengths
        return logits
    if output == "regression" or x.dtype.kind not in "fiub" or x.ndim == 0 or x.size == 0:
        return logits
    x = x.astype(np.float64)
    if output == "sigmoid":
        return 0.5 + 0.5 * np.tanh(0.5 * x)  # the logistic function, without overflow
    with np.errstate(invalid="ignore"):  # what is not finite stays so
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)


def wrap(
    thing: Any,
    *,
    rate: int | None = None,
    labels: Sequence[str] | None = None,
    n_samples: int | None = None,
    output: Output | None = None,
    front_end: FrontEnd | None = None,
    hearing: Hearing | None = None,
    returns: Returns | None = None,
    device: str = "cpu",
) -> Model:
    """Put a live object behind the predict interface.

    Parameters
    ----------
    thing : callable, torch.nn.Module or Model
        A callable takes float32 waveforms (n, n_samples) and returns scores (n, n_classes). With `front_end` it takes
        its compressed bands (n, n_bands, n_frames), with `hearing` whatever that makes of the waveforms; a module gets
        tensors, any other callable arrays.
    rate : int, optional
        Sampling rate in hertz; that of the front end where None.
    labels : sequence of str, optional
        Names of the classes; ``class 0`` … where None.
    n_samples : int, optional
        Length of the window it hears; None for any.
    output : {"softmax", "sigmoid", "regression"}, optional
        Where None, judged from a callable's scores on eight sounds; "softmax" for a module.
    front_end : FrontEnd, optional
    hearing : Hearing, optional
        Rate, length, front end, normalisation, layout of the axes in one; instead of the three above.
    returns : {"logits", "scores"}, optional
        Whether the activation is still to be applied; "logits" for a module, "scores" for any other callable.
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
    rate, n_samples = _sizes(rate, n_samples, front_end, hearing)
    if not callable(thing):
        raise OtoscopeError(f"cannot wrap {type(thing).__name__}; give a callable, a torch.nn.Module or a Model")
    if labels is not None:
        labels = _names(labels)
    for name, value, known in (("output", output, get_args(Output)), ("returns", returns, get_args(Returns))):
        if value is not None and value not in known:
            raise unknown(name, value, known)
    torch = sys.modules.get("torch")  # whoever made a module has imported torch
    is_module = torch is not None and isinstance(thing, torch.nn.Module)
    if is_module or front_end is not None or hearing is not None:
        from otoscope.adapters.hearing import Hearing

        heard = hearing or Hearing(rate, n_samples, front_end=front_end)
        network = thing if is_module else _on_arrays(thing)
        return _wrap_network(network, heard, labels, output, returns or ("logits" if is_module else "scores"), device)
    returns = returns or "scores"
    names, kind = _judge(thing, rate, labels, n_samples, output or ("softmax" if returns == "logits" else None))
    return CallableModel(thing, rate=rate, labels=names, n_samples=n_samples, output=kind, returns=returns)


def _sizes(
    rate: int | None, n_samples: int | None, front_end: FrontEnd | None, hearing: Hearing | None
) -> tuple[int, int | None]:
    """Find rate and length of the window, wherever they were given."""
    if hearing is not None:
        if (rate, n_samples, front_end) != (None, None, None):
            raise OtoscopeError("a hearing holds rate, n_samples and front end already; give one or the other")
        return hearing.rate, hearing.n_samples
    if rate is None and front_end is not None:
        rate = front_end.rate
    if rate is None:
        raise OtoscopeError("the model's sampling rate is not known; give rate=… in hertz")
    return _whole("rate", rate), None if n_samples is None else _whole("n_samples", n_samples)


def _on_arrays(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let a function of arrays take and return tensors."""

    def run(items: Any) -> Any:
        import torch

        return torch.as_tensor(np.array(_plain(function(items.numpy())), dtype=np.float64))

    return run


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


def _wrap_network(
    network: Any,
    hearing: Hearing,
    labels: Sequence[str] | None,
    output: Output | None,
    returns: Returns,
    device: str,
) -> Model:
    """Put a network behind a hearing; fill in labels and kind of output from its answers to the probe sounds."""
    from otoscope.adapters.network import NetworkModel

    probes = probe_sounds(hearing.rate, hearing.n_samples or hearing.rate)
    if labels is None:
        trial = NetworkModel(network, hearing, labels=(), output="regression", returns=returns, device=device)
        labels = [f"class {i}" for i in range(trial.predict(probes[:2]).shape[1])]
    if output is None and returns == "scores":
        trial = NetworkModel(network, hearing, labels=labels, output="regression", returns=returns, device=device)
        output = _kind_of(trial.predict(probes))
    return cast(
        Model,
        NetworkModel(network, hearing, labels=labels, output=output or "softmax", returns=returns, device=device),
    )


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
    return labels, _kind_of(scores)


def _kind_of(scores: Floats) -> Output:
    """Judge what kind of scores these are."""
    if scores.min() < 0 or scores.max() > 1:
        return "regression"
    together = scores.shape[1] > 1 and np.allclose(scores.sum(axis=1), 1, atol=1e-3)
    return "softmax" if together else "sigmoid"
