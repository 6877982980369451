"""Sounds that a model is examined with, besides the eight by which opaque models are recognised."""

from __future__ import annotations

import numpy as np

from otoscope.adapters.model import Float32


def music(rate: int, n_samples: int, rng: np.random.Generator) -> Float32:
    """Make a piece of music of shape (n_samples,): twelve beats with notes, bursts of noise on some, a rest."""
    time = np.arange(n_samples) / rate
    beat = max(1, n_samples // 12)
    sound = np.zeros(n_samples)
    for number in range(12):
        if number == 9:
            continue  # the rest: digital silence, as the other beats do not ring on
        here = slice(number * beat, (number + 1) * beat if number < 11 else n_samples)
        local = np.arange(len(time[here])) / rate
        fundamental = 110.0 * 2.0 ** (rng.choice([0, 3, 5, 7, 10, 12, 15]) / 12)
        partials = [h for h in range(1, 6) if h * fundamental < rate / 2]
        sound[here] += sum(np.sin(2 * np.pi * h * fundamental * local) / h for h in partials) * np.exp(-4 * local)
        if number % 3 == 2:
            sound[here] += rng.uniform(-1, 1, len(local)) * np.exp(-30 * local)
    return np.asarray(0.5 * sound / max(np.abs(sound).max(), 1e-9), dtype=np.float32)


def loudest(samples: Float32, length: int) -> Float32:
    """Cut the loudest stretch of `length` samples, in half steps; shorter ones are filled up with silence."""
    if len(samples) <= length:
        return np.pad(samples, (0, length - len(samples)))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.append(np.arange(0, len(samples) - length, max(1, length // 2)), len(samples) - length)
    first = int(starts[np.argmax(energy[starts + length] - energy[starts])])
    return samples[first : first + length]
