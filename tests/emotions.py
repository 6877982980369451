"""A model whose emotions are known by heart, and sounds that carry them.

The model hears one second at 8,000 Hz: valence is the mean of the even samples, arousal that of the odd ones, and its
four probabilities are the products of their shares, so that the plane gives both back exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from otoscope.adapters.model import Float32, Floats
from tests.builders import RATE, Function

LABELS = ("exuberance", "anxiety", "sadness", "contentment")

CARD = """[model]
name = "known"
kind = "python"
labels = ["exuberance", "anxiety", "sadness", "contentment"]
output = "softmax"
[model.settings]
function = "net.py:predict"
[input]
rate = 8000
n_samples = 8000
"""
NET = """import numpy as np
def predict(x):
    v, a = x[:, 0::2].mean(1, dtype=np.float64), x[:, 1::2].mean(1, dtype=np.float64)
    return np.stack([(1 + v) * (1 + a), (1 - v) * (1 + a), (1 - v) * (1 - a), (1 + v) * (1 - a)], 1) / 4
"""


def quadrants_of(waveforms: Float32) -> Floats:
    v, a = waveforms[:, 0::2].mean(1, dtype=np.float64), waveforms[:, 1::2].mean(1, dtype=np.float64)
    return np.stack([(1 + v) * (1 + a), (1 - v) * (1 + a), (1 - v) * (1 - a), (1 + v) * (1 - a)], axis=1) / 4


def known_model(*, n_samples: int | None = RATE) -> Function:
    return Function(quadrants_of, labels=LABELS, n_samples=n_samples, output="softmax")


def known_card(folder: Path) -> Path:
    (folder / "net.py").write_text(NET)
    path = folder / "known.toml"
    path.write_text(CARD)
    return path


def sound(seconds: float, valence: Callable[[Floats], Floats], arousal: Callable[[Floats], Floats]) -> Float32:
    """Make samples of which the even ones follow one function of time in seconds, and the odd ones another."""
    time = np.arange(round(seconds * RATE)) / RATE
    return np.where(np.arange(len(time)) % 2 == 0, valence(time), arousal(time)).astype(np.float32)


def wandering(seconds: float, *, seed: int) -> Float32:
    """Emotions that go their own way: smooth, within ±0.9."""
    rng = np.random.default_rng(seed)
    phases, speeds = rng.uniform(0, 2 * np.pi, (2, 3)), rng.uniform(0.2, 1.5, (2, 3))

    def course(axis: int) -> Callable[[Floats], Floats]:
        return lambda t: 0.3 * np.sin(speeds[axis][:, None] * t + phases[axis][:, None]).sum(axis=0)

    return sound(seconds, course(0), course(1))


def write(path: Path, samples: Float32, *, rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path
