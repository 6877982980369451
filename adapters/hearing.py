"""What a network takes in: how waveforms become its input.

A `Hearing` is the section ``[input]`` of a model card: rate and length, full scale and normalisation of the waveform,
the declared front end, and in which order the network wants its axes. `Hearing.__call__` carries it out in torch, so
that autograd can cross it; `Hearing.behind_bands` enters it half-way, behind the linear part of the front end.

Layouts are words: ``items``, ``samples`` for waveforms, ``bands`` and ``frames`` behind a front end, ``channels`` for
an axis of length one. Without ``items`` the network hears one item at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.frontend import TINY, FrontEnd
from otoscope.adapters.model import check_window

WAVEFORM_AXES = ("items", "samples")
BAND_AXES = ("items", "bands", "frames")


@dataclass(frozen=True)
class Hearing:
    """How waveforms become the input of a network.

    Attributes
    ----------
    rate : int
        In hertz.
    n_samples : int, optional
        Length of the window it hears; None for any length.
    max_samples : int, optional
        Longest input of a network that hears any length; longer spans are heard in windows of this length.
    pad_to : int, optional
        Length in samples that every waveform is brought to before anything else, by zeros behind a shorter one
        (Whisper: 30 s); what is longer is cut. Linear, so the bands route stays open.
    full_scale : float
        What ±1 becomes: 32768 for networks that take 16-bit numbers.
    normalise : {"none", "peak", "standard"}
        Whether each waveform is divided by its own maximum, or brought to zero mean and unit spread.
    front_end : FrontEnd, optional
    layout : tuple of str
        Order of the axes; (items, samples) or (items, bands, frames) where empty.
    """

    rate: int
    n_samples: int | None = None
    max_samples: int | None = None
    pad_to: int | None = None
    full_scale: float = 1.0
    normalise: Literal["none", "peak", "standard"] = "none"
    front_end: FrontEnd | None = None
    layout: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.front_end is not None and self.front_end.rate != self.rate:
            raise OtoscopeError(
                f"the front end hears {self.front_end.rate} Hz, the model {self.rate} Hz; give both the same rate"
            )
        check_window(self.rate, self.n_samples, self.max_samples, self.pad_to)
        if self.n_samples is not None and self.max_samples is not None:
            raise OtoscopeError("max_samples is for networks that hear any length; leave out n_samples or max_samples")
        if self.pad_to is not None and self.pad_to < (self.n_samples or self.max_samples or 1):
            raise OtoscopeError(f"pad_to = {self.pad_to} would cut off what the model hears; make it longer")
        if self.normalise not in ("none", "peak", "standard"):
            raise OtoscopeError(f"normalise must be none, peak or standard, got {self.normalise!r}")
        if not self.full_scale > 0:
            raise OtoscopeError(f"full_scale must be above 0, got {self.full_scale}")
        self._check_layout()

    def _check_layout(self) -> None:
        if self.front_end is None and {"bands", "frames"} & set(self.layout):
            raise OtoscopeError("bands and frames come from a front end; declare [input.front_end]")
        wanted = set(self._axes) - {"items"}
        if self.layout and (
            set(self.layout) - {"items", "channels"} != wanted or len(set(self.layout)) < len(self.layout)
        ):
            raise OtoscopeError(
                f"layout must hold each of {', '.join(sorted(wanted))} once, and may hold items and channels, "
                f"got {', '.join(self.layout)}"
            )

    @property
    def _axes(self) -> tuple[str, ...]:
        return WAVEFORM_AXES if self.front_end is None else BAND_AXES

    @property
    def linear(self) -> bool:
        """Whether nothing non-linear comes before the STFT."""
        return self.front_end is not None and self.normalise == "none"

    @property
    def one_by_one(self) -> bool:
        """Whether the network takes a single item without an axis for it."""
        return bool(self.layout) and "items" not in self.layout

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Turn waveforms (n, n_samples) into the network's input, items first."""
        x = self._padded(waveforms)
        if self.normalise == "peak":
            x = x / x.abs().amax(dim=-1, keepdim=True).clamp(min=TINY)
        elif self.normalise == "standard":
            variance, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
            x = (x - mean) / torch.sqrt(variance + TINY)
        if self.full_scale != 1:
            x = x * self.full_scale
        return self._lay(x if self.front_end is None else self.front_end(x))

    def stft(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Transform waveforms (n, n_samples) to complex (n, n_bins, n_frames); linear."""
        if not self.linear or self.front_end is None:
            raise OtoscopeError("this model declares no linear way to its spectrum")
        return self.front_end.stft.forward(self._padded(waveforms) * self.full_scale)

    def behind_bands(self, bands: torch.Tensor) -> torch.Tensor:
        """Turn band energies (n, n_bands, n_frames) into the network's input, items first."""
        if self.front_end is None:
            raise OtoscopeError("this model declares no front end")
        return self._lay(self.front_end.compress(bands))

    def _padded(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Bring waveforms (n, n_samples) to the length of `pad_to`."""
        if self.pad_to is None or self.pad_to == waveforms.shape[-1]:
            return waveforms
        return torch.nn.functional.pad(waveforms, (0, self.pad_to - waveforms.shape[-1]))  # cuts where negative

    def _lay(self, x: torch.Tensor) -> torch.Tensor:
        """Bring the axes into the network's order; items stay first where it has no axis for them."""
        if not self.layout:
            return x
        layout = self.layout if "items" in self.layout else ("items", *self.layout)
        x = x.permute([self._axes.index(axis) for axis in layout if axis != "channels"])
        return x.unsqueeze(layout.index("channels")) if "channels" in layout else x

    def settings(self) -> dict[str, Any]:
        """All settings as plain values, for fingerprints and cards."""
        return asdict(self)


def item_by_item(run: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Let a function of one item answer for many: (n, …) to (n, …)."""
    return lambda items: torch.stack([run(item) for item in items])
