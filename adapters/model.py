"""The one predict interface, and what a model may offer beyond it.

A black box needs `Model.predict` and the few facts around it. Two optional attributes let explainers do more, and are
looked for by name, never by type (`capability`):

``gradients``
    logits that autograd can cross, and the layers fit for class activation maps;
``spectrogram``
    the declared front end and the rest of the model behind it, so that scores can be had from band energies.

A model may further have a method ``randomised(seed)``: the same network with fresh weights, for sanity checks;
``max_samples``, where it hears any length up to this one; ``notes``, what a reader of its explanations must know; and
``no_gradients``, why it offers none.

`ask` is the door through which every answer of a model comes: it checks shape, kind, finiteness and range once, so that
explainers trust what they get.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from otoscope.adapters.frontend import FrontEnd

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Output = Literal["softmax", "sigmoid", "regression"]
Returns = Literal["logits", "scores"]  # before or after the activation
Pool = Literal["mean", "max", "first", "last"]  # how scores of several steps become one

BATCH_SIZE = 32
MAX_WINDOW = 300  # seconds


@runtime_checkable
class Model(Protocol):
    """What every model looks like from outside.

    `predict` takes float32 waveforms of shape (n, n_samples) at `rate` hertz and returns float64 scores of shape
    (n, n_classes): probabilities after the activation (`output` "softmax", "sigmoid") or values ("regression").
    `n_samples` is the length it hears, None for any. `fingerprint` is the sha256 of weights and settings, or
    ``probe:…``.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def rate(self) -> int:
        """Sampling rate in hertz."""

    @property
    def n_samples(self) -> int | None:
        """Length of the window it hears, in samples; None for any."""

    @property
    def output(self) -> Output:
        """Kind of its scores."""

    @property
    def fingerprint(self) -> str:
        """Identity of weights and settings."""

    def predict(self, waveforms: Float32, /) -> Floats:
        """Score waveforms (n, n_samples) as (n, n_classes)."""


@dataclass(frozen=True, eq=False)
class CamLayer:
    """A layer fit for class activation maps, and what its axes mean.

    Its activations are (n, n_channels, n_frames), or (n, n_channels, n_rows, n_frames); frames divide the model's
    window evenly unless `frames` says otherwise, rows divide `band_edges` evenly, from low to high.

    Attributes
    ----------
    name : str
    module : torch.nn.Module
    frames : (float, float), optional
        Where the first frame begins and how long each is, in seconds.
    band_edges : ndarray, shape (n_bands + 1,), optional
        In hertz; None where the layer knows time only.
    groups : ndarray of bool, shape (n_groups, n_bands), optional
        Where the channels fall into groups of equal size that each see some of the bands only.
    group_names : tuple of str
    watch : callable
        Makes a context in which the module sees the activations; needed while it is asked for them.
    """

    name: str
    module: nn.Module
    band_edges: Floats | None = None
    groups: npt.NDArray[np.bool_] | None = None
    group_names: tuple[str, ...] = ()
    frames: tuple[float, float] | None = None
    watch: Callable[[], AbstractContextManager[object]] = nullcontext


class Gradients(Protocol):
    """A model that autograd can cross."""

    def logits(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Score (n, n_samples) as (n, n_classes) before the activation."""

    def layers(self) -> tuple[CamLayer, ...]:
        """List the layers fit for class activation maps, the best first."""


class Spectrogram(Protocol):
    """A model whose front end is declared; nothing non-linear comes before its STFT."""

    @property
    def front_end(self) -> FrontEnd:
        """STFT, exponent and filterbank."""

    def stft(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Transform (n, n_samples) to complex (n, n_bins, n_frames)."""

    def bands(self, energies: torch.Tensor, /) -> torch.Tensor:
        """Sum ``|S|**exponent`` (n, n_bins, n_frames) into bands (n, n_bands, n_frames); linear."""

    def predict_bands(self, bands: torch.Tensor, /) -> Floats:
        """Score band energies (n, n_bands, n_frames) as (n, n_classes)."""


def check_window(rate: int, *lengths: int | None) -> None:
    """Refuse rates and windows that nobody hears, before anything is made of that size.

    Raises
    ------
    OtoscopeError
    """
    if not 1000 <= rate <= 768_000:
        raise OtoscopeError(f"rate must lie between 1000 and 768000, got {rate}")
    for length in lengths:
        if length is not None and not 1 <= length <= MAX_WINDOW * rate:
            raise OtoscopeError(
                f"a window must have 1 to {MAX_WINDOW * rate} samples ({MAX_WINDOW} s at {rate} Hz), got {length}"
            )


def capability(model: Model, name: Literal["gradients", "spectrogram"]) -> Any:
    """Look up what a model may offer; None where it does not."""
    return getattr(model, name, None)


def ask(model: Model, waveforms: Float32) -> Floats:
    """Ask a model for its scores and check what comes back.

    Parameters
    ----------
    model : Model
    waveforms : ndarray, shape (n, n_samples)

    Returns
    -------
    ndarray of float64, shape (n, n_classes)

    Raises
    ------
    OtoscopeError
        If the scores have the wrong shape, are no numbers, not finite, or no probabilities though the model says so.
    """
    return checked(model.predict(waveforms), len(waveforms), model)


def checked(raw: object, n: int, model: Model, *, finite: bool = True) -> Floats:
    """Check raw scores against what the model declares; see `ask`. Whether they are finite is checked on request."""
    expected = (n, len(model.labels))
    try:
        scores = np.asarray(raw, dtype=None)
        if scores.dtype.kind not in "fiub":
            raise TypeError(scores.dtype)
    except (TypeError, ValueError):
        kind = type(raw).__name__
        raise OtoscopeError(
            f"the model returned no numbers ({kind}); predict must return scores of shape {expected}"
        ) from None
    if scores.shape != expected:
        raise OtoscopeError(
            f"the model returned scores of shape {scores.shape} for {n} waveforms and {len(model.labels)} labels; "
            f"need {expected}: one label for each score, one row for each waveform"
        )
    scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        if not finite:
            return scores
        raise OtoscopeError(
            f"the model returned {np.count_nonzero(~np.isfinite(scores))} scores that are NaN or infinite"
        )
    if model.output != "regression" and (scores.min() < -1e-6 or scores.max() > 1 + 1e-6):
        raise OtoscopeError(
            f"the model returned scores from {scores.min():.3g} to {scores.max():.3g}, but says {model.output}; "
            'return probabilities, or declare output="regression"'
        )
    return scores


def probe_sounds(rate: int, n_samples: int) -> Float32:
    """Make the eight fixed sounds an opaque model is recognised by, shape (8, n_samples)."""
    time = np.arange(n_samples) / rate
    rng = np.random.default_rng(8)
    noise = rng.uniform(-1, 1, n_samples)
    gate = (time * 4 % 1 < 0.5).astype(float)
    tones = [np.sin(2 * np.pi * f * time) for f in (110.0, 440.0, 1760.0)]
    sweep = np.sin(2 * np.pi * (50 + rate / 8 * time / max(time[-1], 1e-9)) * time)
    clicks = (np.arange(n_samples) % max(1, rate // 8) == 0).astype(float)
    sounds = [0.5 * noise, 0.05 * noise, 0.5 * tones[0], 0.5 * tones[1], 0.5 * tones[2] * gate, 0.5 * sweep, clicks]
    sounds.append(sum(tones) * 0.2 + 0.1 * noise * gate)
    return np.stack(sounds).astype(np.float32)


def probe_fingerprint(model: Model) -> str:
    """Fingerprint of an opaque model: the hash of its scores, rounded to 1e-5, on eight fixed sounds."""
    sounds = probe_sounds(model.rate, model.n_samples or 10 * model.rate)
    scores = np.round(ask(model, sounds), 5) + 0.0  # no negative zero
    return "probe:" + hashlib.sha256(scores.tobytes()).hexdigest()
