"""Spans and windows: models that hear 1, 3, 6 or 29 seconds made comparable.

An explanation covers a *span* of a recording. A model hears *windows*; the span's score is the mean over windows spaced
evenly so that the last one ends with the span. `Windowed` is itself a model of the span's length, so explainers never
see windows: its STFT lies the frames of all windows side by side, its band scores are means over windows too. A span
shorter than one window is padded with zeros at its end, and `padding` says how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats, Model, Output, ask, capability, checked

if TYPE_CHECKING:
    import torch

    from otoscope.adapters.audio import Audio
    from otoscope.adapters.frontend import FrontEnd
    from otoscope.adapters.model import CamLayer

SPAN_SECONDS = 10.0
DITHER = 10.0 ** (-90 / 20)


@dataclass(frozen=True)
class Span:
    """A stretch of a recording, in seconds."""

    start: float
    duration: float


class Windowed:
    """A model over spans of `n_samples` samples, by means over the windows of another.

    Parameters
    ----------
    model : Model
    n_samples : int
        Length of the span in samples at the model's rate.

    Attributes
    ----------
    starts : ndarray of int, shape (n_windows,)
        First sample of each window.
    window : int
        Length of a window in samples.
    padding : int
        Zeros put behind a span that is shorter than a window.
    dither : ndarray, shape (window,), or None
        Noise at −90 dBFS under every window, for models that are not finite on digital silence.
    """

    def __init__(self, model: Model, n_samples: int) -> None:
        self.model = model
        self.labels: tuple[str, ...] = model.labels
        self.rate: int = model.rate
        self.output: Output = model.output
        self.n_samples: int = n_samples
        self.window = model.n_samples or min(n_samples, getattr(model, "max_samples", None) or n_samples)
        self.padding = max(0, self.window - n_samples)
        total = n_samples + self.padding
        n_windows = -(-total // self.window)
        self.starts = np.round(np.linspace(0, total - self.window, n_windows)).astype(int)
        self.dither = self._dither()
        self.spectrogram = self._spectrogram()
        self.gradients = WindowedGradients(self) if capability(model, "gradients") is not None else None

    @property
    def fingerprint(self) -> str:
        """That of the model inside."""
        return self.model.fingerprint

    def predict(self, waveforms: Float32, /) -> Floats:
        """Score spans (n, n_samples) as (n, n_classes)."""
        return np.asarray(self.each(waveforms).mean(axis=1))

    def each(self, waveforms: Float32) -> Floats:
        """Score every window of spans (n, n_samples), (n, n_windows, n_classes)."""
        windows = self.slices(np.asarray(waveforms, dtype=np.float32))  # (n, n_windows, window)
        n, n_windows, _ = windows.shape
        if self.dither is not None:
            windows = windows + self.dither
        scores = ask(self.model, windows.reshape(n * n_windows, -1))
        return scores.reshape(n, n_windows, -1)

    def spans(self) -> list[Span]:
        """Where the windows lie, in seconds from the start of the span."""
        seconds = min(self.window, self.n_samples) / self.rate
        return [Span(float(start) / self.rate, seconds) for start in self.starts]

    def slices(self, waveforms: Any) -> Any:
        """Cut spans (n, n_samples), arrays or tensors, into windows (n, n_windows, window)."""
        if waveforms.shape[-1] != self.n_samples:
            raise OtoscopeError(f"got waveforms of shape {tuple(waveforms.shape)}, need (n, {self.n_samples})")
        if len(self.starts) == 1 and not self.padding:
            return waveforms[:, None]  # nothing to cut, nothing to copy
        if isinstance(waveforms, np.ndarray):
            padded = np.pad(waveforms, ((0, 0), (0, self.padding))) if self.padding else waveforms
            return np.stack([padded[:, s : s + self.window] for s in self.starts], axis=1)
        import torch

        longer = torch.nn.functional.pad(waveforms, (0, self.padding))
        return torch.stack([longer[:, s : s + self.window] for s in self.starts], dim=1)

    def _dither(self) -> Float32 | None:
        silence = np.zeros((1, self.window), dtype=np.float32)
        with np.errstate(all="ignore"):
            if _is_finite(self.model.predict(silence)):
                return None
        noise = np.random.default_rng(0).standard_normal(self.window) * DITHER
        return noise.astype(np.float32)

    def _spectrogram(self) -> WindowedSpectrogram | None:
        inner = capability(self.model, "spectrogram")
        return WindowedSpectrogram(self) if inner is not None and self.dither is None else None

    def notes(self) -> tuple[str, ...]:
        """Say what was done to make the span fit the model."""
        notes = list(getattr(self.model, "notes", ()))
        if self.padding:
            notes.append(f"padded with {self.padding / self.rate:.2f} s of silence to the model's window")
        if self.dither is not None:
            notes.append("the model is not finite on digital silence; noise at -90 dBFS lies under every input")
        return tuple(notes)


def _mean(scores: Floats, n_windows: int) -> Floats:
    """Mean over the windows of each span, (n · n_windows, n_classes) to (n, n_classes)."""
    return np.asarray(scores.reshape(-1, n_windows, scores.shape[-1]).mean(axis=1))


def window_scores(model: Model, audio: Audio) -> tuple[list[Span], Floats]:
    """Score a recording window by window.

    Returns
    -------
    spans : list of Span
        The windows, evenly spaced, the last ending with the recording; one for a model that hears any length.
    scores : ndarray, shape (n_windows, n_classes)
    """
    samples = audio.at(model.rate).samples
    windowed = Windowed(model, len(samples))
    return windowed.spans(), windowed.each(samples[None])[0]


def _is_finite(raw: object) -> bool:
    """Whether scores are finite; what is no array of numbers is left to `ask`, which says what is wrong."""
    try:
        return bool(np.isfinite(np.asarray(raw, dtype=np.float64)).all())
    except (TypeError, ValueError):
        return True


class WindowedGradients:
    """Logits of a span: means over its windows."""

    def __init__(self, windowed: Windowed) -> None:
        self.windowed = windowed
        self.inner = capability(windowed.model, "gradients")

    def logits(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Score spans (n, n_samples) as (n, n_classes); autograd can cross it."""
        return self.window_logits(waveforms).mean(dim=1)

    def window_logits(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Score each window of spans (n, n_samples), (n, n_windows, n_classes); autograd can cross it."""
        windows = self.windowed.slices(waveforms)
        if self.windowed.dither is not None:
            windows = windows + windows.new_tensor(self.windowed.dither)
        n, n_windows, _ = windows.shape
        logits: torch.Tensor = self.inner.logits(windows.flatten(0, 1))
        return logits.reshape(n, n_windows, -1)

    def layers(self) -> tuple[CamLayer, ...]:
        """List the layers of the model inside; they see (n · n_windows, …)."""
        layers: Sequence[CamLayer] = self.inner.layers()
        return tuple(layers)


class WindowedSpectrogram:
    """The spectrogram capability over a span: the frames of its windows lie side by side."""

    def __init__(self, windowed: Windowed) -> None:
        self.windowed = windowed
        self.inner = capability(windowed.model, "spectrogram")
        self.front_end: FrontEnd = self.inner.front_end

    @cached_property
    def n_frames(self) -> int:
        """Count the frames of a span by transforming one: a model may pad its windows before it does."""
        import torch

        return int(self.stft(torch.zeros(1, self.windowed.n_samples)).shape[-1])

    def stft(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Transform spans (n, n_samples) to complex (n, n_bins, n_windows · n_frames)."""
        windows = self.windowed.slices(waveforms)
        n, n_windows, _ = windows.shape
        spectra = self.inner.stft(windows.flatten(0, 1))  # (n · n_windows, n_bins, n_frames)
        spectra = spectra.reshape(n, n_windows, *spectra.shape[1:]).transpose(1, 2)
        return spectra.flatten(2)  # type: ignore[no-any-return]

    def bands(self, energies: torch.Tensor, /) -> torch.Tensor:
        """Sum energies (n, n_bins, frames) into bands (n, n_bands, frames)."""
        bands: torch.Tensor = self.inner.bands(energies)
        return bands

    def predict_bands(self, bands: torch.Tensor, /) -> Floats:
        """Score band energies (n, n_bands, n_windows · n_frames) as (n, n_classes)."""
        n, n_bands, _ = bands.shape
        n_windows = len(self.windowed.starts)
        windows = bands.reshape(n, n_bands, n_windows, -1).transpose(1, 2).flatten(0, 1)
        scores = checked(self.inner.predict_bands(windows), n * n_windows, self.windowed.model)
        return _mean(scores, n_windows)
