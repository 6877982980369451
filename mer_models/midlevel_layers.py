"""The layers of the mid-level networks: nine convolutions, an average, and one or two linear maps.

After Chowdhury, Vall, Haunschmid and Widmer (ISMIR 2019), see `otoscope.mer_models.midlevel_nets`. Spectrograms come as
(n, 1, n_frames, n_bands). Behind every convolution stand batch norm and ReLU; behind the second and the fourth, a
pooling that halves the map, and dropout::

    layer     kernel  places       channels      parameters
    1         5×5/2   157 × 75           64           1,792
    2         3×3     157 × 75           64          37,056
    pool               78 × 37
    3, 4      3×3      78 × 37          128         221,952
    pool               39 × 18
    5, 6      3×3      39 × 18          256         886,272
    7         3×3      39 × 18          384         885,888
    8         3×3      39 × 18          512       1,771,008
    9         3×3      37 × 16          256       1,180,416
    average             1 × 1           256
                                                  4,984,384 before the linear maps

The last convolution pads nothing. As 1×1, as in the institute's later code, it leaves 39 × 18 places and has 1,048,576
weights fewer. Weights are drawn after He et al. (normal, fan-in). The network takes any number of frames and bands that
outlasts its pooling; `places` says where on the spectrogram the places of each map lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.descriptors import FEATURES
from otoscope.mer_models.soundtracks import EMOTIONS

Design = Literal["a2e", "a2mid", "a2mid2e", "joint"]
Level = Literal["midlevel", "emotion"]

LABELS: dict[Level, tuple[str, ...]] = {"midlevel": FEATURES, "emotion": EMOTIONS}
LEVELS: dict[Design, tuple[Level, ...]] = {
    "a2e": ("emotion",),
    "a2mid": ("midlevel",),
    "a2mid2e": ("midlevel", "emotion"),
    "joint": ("midlevel", "emotion"),
}
# (kernel, stride, padding) of the first eight convolutions; pooling halves the map behind two of them.
CONVOLUTIONS = ((5, 2, 2), *[(3, 1, 1)] * 7)
POOLED = (2, 4)
WIDEST = 4096


@dataclass(frozen=True)
class Settings:
    """The section ``[model.settings]`` of a card of kind ``midlevel``.

    Attributes
    ----------
    design : {"a2e", "a2mid", "a2mid2e", "joint"}
        Which levels there are, and which of them the other one reads.
    last_kernel : {3, 1}
        Of the last convolution: 3 in the paper's figure, 1 in the institute's later code.
    channels : tuple of int
        Of the nine convolutions.
    dropout : float
        Behind both poolings.
    drop : {"cells", "channels"}
        What is dropped: single cells, or whole channels as in the institute's later code.
    """

    design: Design = "joint"
    last_kernel: Literal[3, 1] = 3
    channels: tuple[int, ...] = (64, 64, 128, 128, 256, 256, 384, 512, 256)
    dropout: float = 0.3
    drop: Literal["cells", "channels"] = "cells"

    def __post_init__(self) -> None:
        """Refuse what no network can be built of."""
        if self.design not in LEVELS:
            raise OtoscopeError(f"design must be one of {', '.join(LEVELS)}, got {self.design!r}")
        if len(self.channels) != len(CONVOLUTIONS) + 1 or not all(1 <= width <= WIDEST for width in self.channels):
            raise OtoscopeError(f"channels must be nine numbers from 1 to {WIDEST}, got {list(self.channels)}")
        if not 0 <= self.dropout < 1:
            raise OtoscopeError(f"dropout must be at least 0 and below 1, got {self.dropout:g}")
        if self.last_kernel not in (1, 3) or self.drop not in ("cells", "channels"):
            raise OtoscopeError(f"last_kernel is 3 or 1, drop cells or channels; got {self.last_kernel}, {self.drop}")

    @property
    def levels(self) -> tuple[Level, ...]:
        """What the network answers, the lower level first."""
        return LEVELS[self.design]

    @property
    def convolutions(self) -> tuple[tuple[int, int, int], ...]:
        """Kernel, stride and padding of all nine convolutions."""
        return (*CONVOLUTIONS, (self.last_kernel, 1, 0))


class Convolution(nn.Conv2d):
    """A convolution whose weights are drawn after He et al., also when they are drawn afresh."""

    def reset_parameters(self) -> None:
        """Draw normal weights scaled by the fan-in, and no bias."""
        _draw(self)


class Linear(nn.Linear):
    """A linear layer whose weights are drawn like those of `Convolution`."""

    def reset_parameters(self) -> None:
        """Draw normal weights scaled by the fan-in, and no bias."""
        _draw(self)


def _draw(layer: Convolution | Linear) -> None:
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class MidlevelNet(nn.Module):
    """The network behind the front end.

    Parameters
    ----------
    settings : Settings, optional
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or Settings()
        self.features = _features(settings)
        width = settings.channels[-1]
        self.midlevel = Linear(width, len(FEATURES)) if "midlevel" in settings.levels else None
        reads = width if self.midlevel is None else len(FEATURES)
        self.emotion = Linear(reads, len(EMOTIONS)) if "emotion" in settings.levels else None

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Score spectrograms (n, 1, n_frames, n_bands) on each level, (n, 7) and (n, 8)."""
        if x.ndim != 4 or x.shape[1] != 1 or too_small(self.settings, *x.shape[2:]):
            raise OtoscopeError(
                f"got a spectrogram of shape {tuple(x.shape)}, need (n, 1, n_frames, n_bands), with more frames "
                "and bands than the pooling takes away"
            )
        heard = self.features(x).mean(dim=(-2, -1))  # (n, n_channels)
        said: dict[str, torch.Tensor] = {}
        if self.midlevel is not None:
            heard = said["midlevel"] = self.midlevel(heard)
        if self.emotion is not None:
            said["emotion"] = self.emotion(heard)
        return said


def _features(settings: Settings) -> nn.Sequential:
    """Build all up to the average over places."""
    features, before = nn.Sequential(), 1
    rate = settings.dropout
    for number, (width, shape) in enumerate(zip(settings.channels, settings.convolutions, strict=True), start=1):
        features.add_module(f"conv{number}", Convolution(before, width, *shape))
        features.add_module(f"norm{number}", nn.BatchNorm2d(width))
        features.add_module(f"relu{number}", nn.ReLU(inplace=True))
        if number in POOLED:
            features.add_module(f"pool{number}", nn.MaxPool2d(2))
            features.add_module(f"drop{number}", nn.Dropout(rate) if settings.drop == "cells" else nn.Dropout2d(rate))
        before = width
    return features


def map_sizes(settings: Settings, size: int) -> list[int]:
    """Count the places along one axis of each convolution's map, from the cells of the input; below 1 for too few."""
    sizes = []
    for number, (kernel, stride, padding) in enumerate(settings.convolutions, start=1):
        size = (size + 2 * padding - kernel) // stride + 1
        sizes.append(size)
        if number in POOLED:
            size //= 2
    return sizes


def too_small(settings: Settings, *sizes: int) -> bool:
    """Whether nothing would be left of an input with so many frames or bands."""
    return any(map_sizes(settings, size)[-1] < 1 for size in sizes)


def places(settings: Settings) -> list[tuple[float, int]]:
    """Say where the places of each convolution's map lie: place i is centred on cell ``first + step · i``.

    Returns
    -------
    list of (first, step)
        In cells of the input, of all nine maps; the same for frames and for bands.
    """
    first, step, found = 0.0, 1, []
    for number, (kernel, stride, padding) in enumerate(settings.convolutions, start=1):
        first, step = first + step * ((kernel - 1) / 2 - padding), step * stride
        found.append((first, step))
        if number in POOLED:
            first, step = first + step / 2, step * 2
    return found
