"""Mel blinders: which bands a pitch class may see, and the filters that look through them.

A band belongs to a pitch class where it lies nearest to a partial h·f0 of one of its notes (or within a half-width in
cents). The selectivity tells how far such a layer can tell pitch classes apart at all: Slaney's mel bands are equally
wide below 1 kHz (13 Hz at 256 bands and 22,050 Hz), so neighbouring semitones share bands below about 220 Hz, and high
partials of one pitch class are partials of others (the third partial of C is a G).
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from otoscope.adapters import pitch
from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.frontend import FrontEnd

Mask = npt.NDArray[np.bool_]
MaskKind = Literal["harmonic", "random", "regular", "all"]
Pooling = Literal["peak", "statistics"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the paper leaves open, and the sizes.

    Attributes
    ----------
    octaves : (int, int)
        First and last octave of the fundamentals.
    n_harmonics : int
        Partials per note, the fundamental included.
    half_width : float
        Of a comb's teeth, in cents; 0 keeps the band nearest to each partial.
    n_channels : int
        Filters per pitch class.
    pool : int
        ``peak``: frames per average. ``statistics``: distance of the frames that share a peak, so that learning from
        every `pool`-th frame and judging by all of them expect the same peaks.
    dropout, head_dropout : float
        Of the activations (single averages before ``peak``, whole channels before ``statistics``), and before each
        linear layer.
    mask : {"harmonic", "random", "regular", "all"}
        What a bank may see: its harmonics, or, to test whether these matter, as many bands at random, as many at equal
        steps over the whole range (shifted from bank to bank), or all.
    pooling : {"peak", "statistics"}
        Over time: the greatest average; or mean, standard deviation and peak of each channel.
    hidden : int
        Units between the pooled activations and the logits; 0 for none.
    compact : bool
        Store only the weights behind the blinders.
    """

    octaves: tuple[int, int] = (1, 8)
    n_harmonics: int = 8
    half_width: float = 0.0
    n_channels: int = 32
    pool: int = 32
    dropout: float = 0.1
    head_dropout: float = 0.2
    mask: MaskKind = "harmonic"
    pooling: Pooling = "peak"
    hidden: int = 0
    compact: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that no network can be built from."""
        if self.mask not in get_args(MaskKind):
            raise unknown("mask", self.mask, get_args(MaskKind))
        if self.pooling not in get_args(Pooling):
            raise unknown("pooling", self.pooling, get_args(Pooling))
        if self.hidden < 0:
            raise OtoscopeError(f"hidden must be at least 0, got {self.hidden}")
        if not 0 <= self.octaves[0] <= self.octaves[1]:
            raise OtoscopeError(f"octaves must ascend from 0 or more, got {self.octaves}")
        if min(self.n_harmonics, self.n_channels, self.pool) < 1 or self.half_width < 0:
            raise OtoscopeError(
                f"n_harmonics, n_channels and pool must be at least 1, half_width at least 0; got {self}"
            )
        if not (0 <= self.dropout < 1 and 0 <= self.head_dropout < 1):
            raise OtoscopeError(f"dropout must lie in [0, 1), got {self.dropout} and {self.head_dropout}")


@dataclasses.dataclass(frozen=True, eq=False)
class Selectivity:
    """How well a mel spectrogram can tell pitch classes apart.

    Attributes
    ----------
    kept : ndarray of int, shape (12,)
        Bands that each pitch class sees, from C to B.
    shared : ndarray, shape (12,)
        Share of these that some other pitch class sees too.
    """

    kept: npt.NDArray[np.int64]
    shared: npt.NDArray[np.float64]


def blinders(front_end: FrontEnd, *, settings: Settings | None = None) -> Mask:
    """Mark the bands that each bank may see, shape (12, n_mels)."""
    settings = settings or Settings()
    harmonic = _harmonic(front_end, settings)
    n_mels, kept = harmonic.shape[1], harmonic.sum(axis=1).tolist()
    if settings.mask == "random":
        rng = np.random.default_rng(0)
        return np.stack([_marked(rng.permutation(n_mels)[:n], n_mels) for n in kept])
    if settings.mask == "regular":
        steps = [(np.arange(n) + bank / 12) * n_mels / n for bank, n in enumerate(kept)]
        return np.stack([_marked(np.floor(places).astype(int), n_mels) for places in steps])
    return np.ones_like(harmonic) if settings.mask == "all" else harmonic


def _marked(places: npt.NDArray[np.intp], n: int) -> Mask:
    return np.asarray(np.isin(np.arange(n), places))


def _harmonic(front_end: FrontEnd, settings: Settings) -> Mask:
    """Mark the bands nearest to the partials of each pitch class, shape (12, n_mels)."""
    rows = []
    for pitch_class in range(12):
        teeth = pitch.partials(pitch_class, octaves=settings.octaves, n_harmonics=settings.n_harmonics)
        rows.append(pitch.comb(front_end.centres, teeth, half_width=settings.half_width))
    mask = np.stack(rows)
    if not mask.any(axis=1).all():
        raise OtoscopeError(f"some pitch class sees no band with {settings}; take more octaves or harmonics")
    return mask


def selectivity(front_end: FrontEnd, *, settings: Settings | None = None) -> Selectivity:
    """Count the bands each pitch class keeps, and the share of them that it shares with others."""
    mask = blinders(front_end, settings=settings)
    common = mask.sum(axis=0) > 1  # (n_mels,)
    kept = mask.sum(axis=1)
    return Selectivity(kept, (mask & common).sum(axis=1) / kept)


class PitchFilters(nn.Module):
    """Twelve banks of one-frame filters, each behind its own blinders.

    Kernels are stored at full height, as the parameter count of the paper tells (weights outside the mask are zero,
    unused and untrained), or, compact, as the bands that are seen.

    Parameters
    ----------
    mask : ndarray of bool, shape (12, n_mels)
    n_channels : int
        Filters per bank.
    compact : bool
    """

    mask: torch.Tensor
    bands: torch.Tensor
    seen: torch.Tensor

    def __init__(self, mask: Mask, n_channels: int, *, compact: bool = False) -> None:
        super().__init__()
        n_banks, n_mels = mask.shape
        widest = int(mask.sum(axis=1).max())
        bands = np.argsort(~mask, axis=1, kind="stable")[:, :widest].copy()  # (n_banks, widest), the seen ones first
        self.compact = compact
        self.weight = nn.Parameter(torch.empty(n_banks, n_channels, widest if compact else n_mels))
        self.bias = nn.Parameter(torch.empty(n_banks, n_channels))
        self.register_buffer("mask", torch.from_numpy(mask))
        self.register_buffer("bands", torch.from_numpy(bands), persistent=False)
        # A narrower bank has unused places at the end: zero, and never trained.
        self.register_buffer("seen", torch.from_numpy(np.take_along_axis(mask, bands, axis=1)), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights of variance 2 / bands seen (He et al., 2015), zero outside the mask."""
        fan_in = self.mask.sum(dim=1).view(-1, 1, 1)
        used = self.seen if self.compact else self.mask
        with torch.no_grad():
            nn.init.normal_(self.weight)
            self.weight.mul_((2 / fan_in).sqrt() * used[:, None])
            nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter bands (n, n_mels, n_frames) into (n, n_banks * n_channels, n_frames)."""
        n, _, n_frames = x.shape
        n_banks, widest = self.bands.shape
        # Only what is seen is gathered and multiplied: 2.5 times faster at 32 items than one product over all bands.
        gathered = x[:, self.bands.flatten()].view(n, n_banks, widest, n_frames)
        index = self.bands[:, None].expand(-1, self.weight.shape[1], -1)
        weight = self.weight if self.compact else self.weight.gather(2, index)
        weight = weight * self.seen[:, None]  # (n_banks, n_channels, widest)
        return (weight @ gathered + self.bias[..., None]).flatten(1, 2)
