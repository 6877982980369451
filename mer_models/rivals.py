"""The rivals: networks of the same depth whose filters know nothing of music.

Fong, Kumar and Sudhir (Marketing Science 44(1), 2025) set their harmonics CNN against atheoretical ones with square,
time, frequency, and time-and-frequency filters and 5 to 10 million parameters; sizes and layers are not published.
Ours share everything with the harmonics CNN that can be shared (six seconds, front end, one layer of filters,
normalisation by the training set) and differ in the filters and in what they need to place them:

    x → filters (32 channels) → batch norm → ReLU → average pooling → dropout → flatten → linear → ReLU → dropout →
    linear → four logits

- ``square``: 5 × 5 cells;
- ``time``: 1 band × 17 frames (1.6 s);
- ``frequency``: 65 bands × 1 frame, sliding over the bands;
- ``time_frequency``: both, 16 channels each, side by side (after the pairs of filters of Pons et al., 2016).

They hear a frame of 4,096 samples every 2,048 rather than every 512, and their filters move in steps of two, which
makes them sixteen times as fast to train.
Shapes: compressed bands (n, n_mels, n_frames); logits (n, n_classes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import unknown
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.model import Floats
from otoscope.adapters.spectra import Stft
from otoscope.mer_models.harmonics import FRONT_END, LABELS, N_SAMPLES, HarmonicsNet

Filters = Literal["square", "time", "frequency", "time_frequency"]

STRIDE = 4
RIVAL_FRONT_END: FrontEnd = replace(FRONT_END, stft=Stft(FRONT_END.stft.n_fft, STRIDE * FRONT_END.stft.hop_length))
SHAPES: dict[str, tuple[tuple[int, int], ...]] = {
    "square": ((5, 5),),
    "time": ((1, 17),),
    "frequency": ((65, 1),),
    "time_frequency": ((1, 17), (65, 1)),
}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a rival.

    Attributes
    ----------
    n_channels, hidden : int
        Filters of all shapes together, and units of the hidden layer.
    stride : int
        Of the filters, in bands and in frames.
    pool : int
        Of the average, in bands and in frames.
    dropout, head_dropout : float
    """

    n_channels: int = 32
    hidden: int = 192
    stride: int = 2
    pool: int = 2
    dropout: float = 0.1
    head_dropout: float = 0.3


class RivalNet(nn.Module):
    """An atheoretical network of one layer of filters.

    Parameters
    ----------
    filters : {"square", "time", "frequency", "time_frequency"}
    sizes : Sizes, optional
    front_end : FrontEnd
    n_samples : int
        Length of its window in samples.
    n_classes : int
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(
        self,
        filters: Filters,
        sizes: Sizes | None = None,
        *,
        front_end: FrontEnd = RIVAL_FRONT_END,
        n_samples: int = N_SAMPLES,
        n_classes: int = len(LABELS),
    ) -> None:
        super().__init__()
        if filters not in SHAPES:
            raise unknown("filters", filters, get_args(Filters))
        sizes = sizes or Sizes()
        n_mels, n_frames = front_end.n_bands, front_end.stft.n_frames(n_samples)
        shapes = SHAPES[filters]
        self.register_buffer("mean", torch.full((n_mels, 1), front_end.floor / 2))
        self.register_buffer("spread", torch.full((n_mels, 1), abs(front_end.floor) / 4))
        self.filters = nn.ModuleList(
            nn.Conv2d(1, sizes.n_channels // len(shapes), (h, w), stride=sizes.stride, padding=(h // 2, w // 2))
            for h, w in shapes
        )
        self.norm = nn.BatchNorm2d(sizes.n_channels)
        self.relu = nn.ReLU()
        self.average = nn.AvgPool2d(sizes.pool)
        self.dropout = nn.Dropout(sizes.dropout)
        step = sizes.stride
        width = sizes.n_channels * (-(-n_mels // step) // sizes.pool) * (-(-n_frames // step) // sizes.pool)
        self.hidden = nn.Linear(width, sizes.hidden)
        self.head_dropout = nn.Dropout(sizes.head_dropout)
        self.linear = nn.Linear(sizes.hidden, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score compressed bands (n, n_mels, n_frames) as logits (n, n_classes)."""
        x = ((x - self.mean) / self.spread)[:, None]  # (n, 1, n_mels, n_frames)
        x = torch.cat([filters(x) for filters in self.filters], dim=1)  # (n, n_channels, n_mels, n_frames)
        x = self.dropout(self.average(self.relu(self.norm(x)))).flatten(1)
        logits: torch.Tensor = self.linear(self.head_dropout(torch.relu(self.hidden(x))))
        return logits


class HybridNet(nn.Module):
    """The harmonics CNN with hand-crafted features beside its pooled activations.

    Parameters
    ----------
    harmonics : HarmonicsNet
    features : ndarray, shape (n, n_features)
        Of the training set; they give the scale.
    dropout : float
        Of the features.
    """

    feature_mean: torch.Tensor
    feature_spread: torch.Tensor

    def __init__(self, harmonics: HarmonicsNet, features: Floats, *, dropout: float = 0.3) -> None:
        super().__init__()
        self.harmonics = harmonics
        spread = np.where(features.std(axis=0) > 0, features.std(axis=0), 1)
        self.register_buffer("feature_mean", torch.from_numpy(features.mean(axis=0)).float())
        self.register_buffer("feature_spread", torch.from_numpy(spread).float())
        self.dropout = nn.Dropout(dropout)
        seen, n_classes = harmonics.linear.in_features, harmonics.linear.out_features
        self.linear = nn.Linear(seen + features.shape[1], n_classes)
        del harmonics.linear  # its place is taken

    def forward(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Score compressed bands (n, n_mels, n_frames) and features (n, n_features) as logits (n, n_classes)."""
        scaled = ((features - self.feature_mean) / self.feature_spread).clamp(-5, 5)
        logits: torch.Tensor = self.linear(torch.cat([self.harmonics.pooled(x), self.dropout(scaled)], dim=1))
        return logits
