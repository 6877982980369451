"""Models that are given sound at another rate than their own.

Where two models are asked about the same sounds, the sounds lie at the higher of the two rates, so that each hears all
it can; whoever hears at the lower one hears them resampled (soxr, high quality).
"""

from __future__ import annotations

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.model import Float32, Floats, Model, Output


class Resampled:
    """A model that is given its waveforms at another rate than its own.

    Parameters
    ----------
    model : Model
    rate : int
        That of the waveforms, in hertz.
    """

    gradients = None
    spectrogram = None

    def __init__(self, model: Model, rate: int) -> None:
        self.model = model
        self.rate = rate
        self.labels: tuple[str, ...] = model.labels
        self.output: Output = model.output
        self.fingerprint: str = model.fingerprint
        self.n_samples = None if model.n_samples is None else -(-model.n_samples * rate // model.rate)
        longest = getattr(model, "max_samples", None)
        self.max_samples = None if longest is None else longest * rate // model.rate
        self.notes: tuple[str, ...] = getattr(model, "notes", ())

    def predict(self, waveforms: Float32, /) -> Floats:
        """Score waveforms (n, n_samples) at the other rate as (n, n_classes)."""
        return self.model.predict(resampled(waveforms, self.rate, self.model))


def resampled(waveforms: Float32, rate: int, model: Model) -> Float32:
    """Bring waveforms (n, n_samples) from a rate to a model's, at the length it hears; a missing last sample is 0."""
    if rate == model.rate:
        return waveforms
    sounds = np.stack([Audio(sound, rate).at(model.rate).samples for sound in waveforms])
    length = model.n_samples or sounds.shape[1]
    return np.pad(sounds, ((0, 0), (0, max(0, length - sounds.shape[1]))))[:, :length]


def at_rate(model: Model, rate: int) -> Model:
    """Let a model be given waveforms at a rate."""
    return model if model.rate == rate else Resampled(model, rate)
