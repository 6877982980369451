"""The declared front end: waveform → STFT → energies in bands → compression, in torch.

A model that says how it hears can be explained better: gradients cross this front end, and because everything before
the compression is linear in the energies, a neighbourhood of perturbed recordings can be scored without an STFT per
sample (`otoscope.explainers.routes`). One `FrontEnd` describes the common front ends; a model holds one and feeds its
network with ``compress(bands(|STFT|**exponent))``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.spectra import Stft, decibels, log_filterbank, mel_filterbank

Compression = Literal["decibels", "log", "log1p", "none"]


@dataclass(frozen=True)
class FrontEnd:
    """How a model hears.

    Attributes
    ----------
    rate : int
        In hertz.
    stft : Stft
    filterbank : {"mel", "log", "none"}
        Slaney mel bands, log-frequency bands, or the bins themselves.
    n_bands : int
        Mel bands, or log-frequency bands per octave.
    fmin, fmax : float
        In hertz; `fmax` is half the rate where None.
    exponent : {1, 2}
        Of the magnitudes before the filterbank.
    compression : {"decibels", "log", "log1p", "none"}
        Decibels above `reference`, not below `floor`; log10(x + floor); log10(1 + reference·x).
    reference, floor : float
        Fixed numbers, never taken from the clip.
    """

    rate: int
    stft: Stft = field(default_factory=Stft)
    filterbank: Literal["mel", "log", "none"] = "mel"
    n_bands: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    exponent: int = 2
    compression: Compression = "decibels"
    reference: float = 1.0
    floor: float = -80.0

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if self.exponent not in (1, 2):
            raise OtoscopeError(f"exponent must be 1 or 2, got {self.exponent}")
        if self.compression not in ("decibels", "log", "log1p", "none"):
            raise OtoscopeError(f"compression must be decibels, log, log1p or none, got {self.compression!r}")
        if self.filterbank not in ("mel", "log", "none"):
            raise OtoscopeError(f"filterbank must be mel, log or none, got {self.filterbank!r}")
        if self.compression == "log" and self.floor <= 0:
            raise OtoscopeError(f"log10(x + floor) needs a floor above 0, got {self.floor:g}")

    @cached_property
    def _filters(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        if self.filterbank == "none":
            return np.eye(self.stft.n_bins, dtype=np.float32), self.stft.frequencies(self.rate)
        if self.filterbank == "mel":
            return mel_filterbank(self.rate, self.stft.n_fft, n_mels=self.n_bands, fmin=self.fmin, fmax=self.fmax)
        return log_filterbank(
            self.rate, self.stft.n_fft, bands_per_octave=self.n_bands, fmin=self.fmin or 30.0, fmax=self.fmax
        )

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """The filterbank, shape (n_bands, n_bins)."""
        return self._filters[0]

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Band centres in hertz, shape (n_bands,)."""
        return self._filters[1]

    @cached_property
    def _tensor(self) -> torch.Tensor:
        return torch.from_numpy(self.weights)

    def energies(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Transform (n, n_samples) to ``|STFT|**exponent`` (n, n_bins, n_frames)."""
        spectra = self.stft.forward(waveforms)
        power = torch.addcmul(spectra.real.square(), spectra.imag, spectra.imag)
        return power if self.exponent == 2 else power.clamp(min=1e-20).sqrt()

    def bands(self, energies: torch.Tensor) -> torch.Tensor:
        """Sum energies (n, n_bins, n_frames) into bands (n, n_bands, n_frames); linear."""
        if self.filterbank == "none":
            return energies
        return self._tensor.to(energies) @ energies

    def compress(self, bands: torch.Tensor) -> torch.Tensor:
        """Compress band energies, cell by cell."""
        if self.compression == "decibels":
            return decibels(bands, reference=self.reference, floor=self.floor)
        if self.compression == "log":
            return torch.log10(bands + self.floor)
        if self.compression == "log1p":
            return torch.log10(1 + self.reference * bands)
        return bands

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Transform (n, n_samples) to what the network sees, (n, n_bands, n_frames)."""
        return self.compress(self.bands(self.energies(waveforms)))

    def settings(self) -> dict[str, Any]:
        """All settings as plain values, for fingerprints and cards."""
        return asdict(self)
