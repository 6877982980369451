"""Sounds and models that several tests build: small, seeded, and known by heart."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from otoscope.adapters.audio import Audio
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import Output
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.spectra import Stft
from otoscope.adapters.windows import Windowed
from otoscope.explainers.makers import MAKERS, STFT_ONLY, undivided
from otoscope.explainers.methods import Request, Settings
from otoscope.explainers.targets import Target

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

SELF_MADE = tuple(name for name in MAKERS if name != "stems")  # part makers that need nothing but the recording
WAYS = [(maker, "stft") for maker in SELF_MADE] + [(maker, "bands") for maker in SELF_MADE if maker not in STFT_ONLY]
RATE = 8000
DATA = Path(os.environ.get("OTOSCOPE_DATA", Path(__file__).parents[2] / "shared" / "data"))  # real recordings


def tone(
    frequency: float,
    *,
    seconds: float = 1.0,
    rate: int = RATE,
    level: float = 0.3,
    start: float = 0.0,
    stop: float | None = None,
) -> Float32:
    """Sine that sounds from `start` to `stop` with ramps of 10 ms, silent elsewhere."""
    time = np.arange(round(seconds * rate)) / rate
    stop = seconds + 1 if stop is None else stop
    start = -1.0 if start == 0 else start
    ramps = np.clip((time - start) / 0.01, 0, 1) * np.clip((stop - time) / 0.01, 0, 1)
    return np.asarray(level * ramps * np.sin(2 * np.pi * frequency * time), dtype=np.float32)


def noise(*, seconds: float = 1.0, rate: int = RATE, level: float = 0.1, seed: int = 0) -> Float32:
    """White noise of a given standard deviation."""
    rng = np.random.default_rng(seed)
    return np.asarray(level * rng.standard_normal(round(seconds * rate)), dtype=np.float32)


def music(*, seconds: float = 2.0, rate: int = RATE, seed: int = 0, clicks: float = 0.02) -> Float32:
    """Play notes of six partials on a beat, with quiet clicks over a floor of noise 60 dB down."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    sound = 0.0003 * rng.standard_normal(len(time))
    for onset in np.arange(0, seconds, 0.25):
        fundamental = 110.0 * 2.0 ** (rng.choice([0, 3, 5, 7, 10, 12, 15]) / 12)
        decay = np.where(time >= onset, np.exp(-6 * np.maximum(time - onset, 0)), 0)
        for h in range(1, 7):
            if h * fundamental < rate / 2:
                sound += 0.15 / h * decay * np.sin(2 * np.pi * h * fundamental * (time - onset))
        click = (time >= onset) & (time < onset + 0.01)
        sound += clicks * click * rng.standard_normal(len(time))
    return np.asarray(sound, dtype=np.float32)


SOUNDS: dict[str, Callable[[], Float32]] = {
    "silence": lambda: np.zeros(RATE, dtype=np.float32),
    "music": lambda: music(seconds=1.5),
    "very short": lambda: noise(seconds=0.06),
    "noise": lambda: noise(seconds=1.0),
}


class TinyNet(nn.Module):
    """Bands (n, n_bands, n_frames) to logits (n, n_classes) through one convolution and an in-place ReLU."""

    def __init__(self, n_bands: int = 24, n_classes: int = 3, *, seed: int = 0, inplace: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.norm = nn.BatchNorm1d(n_bands)
            self.conv = nn.Conv1d(n_bands, 8, 3, padding=1)
            self.relu = nn.ReLU(inplace=inplace)
            self.drop = nn.Dropout(0.5)
            self.head = nn.Linear(8, n_classes)

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        """Score bands."""
        hidden = self.relu(self.conv(self.norm(bands)))
        return self.head(self.drop(hidden).mean(-1))  # type: ignore[no-any-return]


class TinyImageNet(nn.Module):
    """Bands (n, n_bands, n_frames) to logits through a 2-D convolution, so that its map has a frequency axis."""

    def __init__(self, n_classes: int = 2, *, seed: int = 0, stride: int = 2) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(1, 5, 3, padding=1, stride=stride)
            self.relu = nn.ReLU(inplace=True)
            self.head = nn.Linear(5, n_classes)

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        """Score bands."""
        return self.head(self.relu(self.conv(bands[:, None])).mean((-2, -1)))  # type: ignore[no-any-return]


def front_end(*, rate: int = RATE, n_fft: int = 512, hop: int = 256, n_bands: int = 24, **other: Any) -> FrontEnd:
    """Small log-mel front end."""
    settings: dict[str, Any] = {"compression": "log1p", "reference": 10.0} | other
    return FrontEnd(rate=rate, stft=Stft(n_fft, hop), n_bands=n_bands, **settings)


def torch_model(
    network: nn.Module | None = None,
    *,
    n_samples: int | None = None,
    output: Output = "softmax",
    labels: Sequence[str] = ("calm", "tense", "sad"),
    seed: int = 0,
    **settings: Any,
) -> NetworkModel:
    """Small torch model with a declared front end."""
    heard = settings.pop("front_end", None) or front_end()
    network = network or TinyNet(heard.weights.shape[0], len(labels), seed=seed)
    return NetworkModel(
        network, Hearing(heard.rate, n_samples, front_end=heard), labels=labels, output=output, **settings
    )


class Function:
    """A function as a model: the least that the interface asks for."""

    gradients = None
    spectrogram = None

    def __init__(
        self,
        function: Callable[[Float32], Any],
        *,
        rate: int = RATE,
        labels: Sequence[str] = ("yes",),
        n_samples: int | None = None,
        output: Output = "sigmoid",
    ) -> None:
        self.function = function
        self.rate = rate
        self.labels = tuple(labels)
        self.n_samples = n_samples
        self.output: Output = output
        self.fingerprint = "none"

    def predict(self, waveforms: Float32, /) -> Any:
        """Ask the function."""
        return self.function(waveforms)


def sigmoid(x: npt.ArrayLike) -> Floats:
    """Logistic function."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(x, dtype=np.float64))))


def loudness(waveforms: Float32) -> Floats:
    """Score by the logarithm of the energy: smooth, and fine on silence."""
    power = np.mean(np.square(waveforms, dtype=np.float64), axis=1, keepdims=True)
    return sigmoid(np.log10(power + 1e-6) + 3)


def request(
    model: Any, samples: Float32, *, settings: Settings | None = None, seed: int = 0, index: int = 0
) -> Request:
    """One question, as `explain` would put it."""
    settings = settings or Settings()
    windowed = Windowed(model, len(samples))
    stft = Stft()
    if windowed.spectrogram is not None:
        stft = Stft(windowed.spectrogram.front_end.stft.n_fft, windowed.spectrogram.front_end.stft.hop_length)
    whole = undivided(Audio(samples, model.rate), stft, off=settings.off, seed=seed)
    scale = settings.scale or ("score" if model.output == "regression" else "log_odds")
    return Request(windowed, whole, Target(index, None, model.labels[index]), scale, settings, seed, 32)
