"""The declared front end: waveform → STFT → energies in bands → compression → normalisation, in torch.

A model that says how it hears can be explained better: gradients cross this front end, and because everything before
the compression is linear in the energies, a neighbourhood of perturbed recordings can be scored without an STFT per
sample (`otoscope.explainers.routes`). One `FrontEnd` describes the common front ends, librosa's, torchaudio's, Kaldi's,
Whisper's; its fields are the keys of ``[input.front_end]`` in a model card. The order is fixed::

    energies = |STFT|**exponent                     (n, n_bins, n_frames)
    bands    = filterbank · energies                (n, n_bands, n_frames), linear up to here
    x        = compression(bands)                   cell by cell
    x        = cut or filled up with `fill` to `n_frames`
    x        = max(x, max(x) − top)                 the clip's own range
    x        = (x − mean of the clip) / its spread  `normalise`
    x        = (x − mean) / std                     fixed numbers, of all or of each band
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.filterbanks import MelScale, log_filterbank, mel_filterbank
from otoscope.adapters.spectra import Stft, decibels

Compression = Literal["decibels", "log", "ln", "log1p", "ln1p", "none"]
Filterbank = Literal["mel", "log", "none"]
Normalise = Literal["none", "clip", "bands"]

TINY = 1e-7
MAX_FILTERS = 2**25  # weights, 128 MiB


@dataclass(frozen=True)
class FrontEnd:
    """How a model hears.

    Attributes
    ----------
    rate : int
        In hertz.
    stft : Stft
    filterbank : {"mel", "log", "none"}
        Mel bands, log-frequency bands, or the bins themselves.
    n_bands : int
        Mel bands, or log-frequency bands per octave.
    fmin, fmax : float
        In hertz; `fmax` is half the rate where None.
    mel_scale : {"slaney", "htk", "kaldi"}
    norm : {"slaney", "none"}
        Whether mel filters are divided by half their width in hertz.
    exponent : {1, 2}
        Of the magnitudes before the filterbank.
    compression : {"decibels", "log", "ln", "log1p", "ln1p", "none"}
        Decibels above `reference`, not below `floor`; log10 or ln of x + floor; log10 or ln of 1 + reference·x.
    reference, floor : float
        Fixed numbers, never taken from the clip.
    clamp : bool
        For ``log`` and ``ln``: max(x, floor) rather than x + floor.
    n_frames : int, optional
        Frames the network takes; what is missing is filled up, what is too much is cut.
    fill : float
    top : float, optional
        Range below the clip's own loudest cell, in compressed units (librosa's ``top_db``, Whisper's 8).
    normalise : {"none", "clip", "bands"}
        To zero mean and unit spread, over the whole clip or over each band.
    mean, std : float or tuple of float
        Fixed numbers of the training set: one, or one for each band.
    """

    rate: int
    stft: Stft = field(default_factory=Stft)
    filterbank: Filterbank = "mel"
    n_bands: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    mel_scale: MelScale = "slaney"
    norm: Literal["slaney", "none"] = "slaney"
    exponent: int = 2
    compression: Compression = "decibels"
    reference: float = 1.0
    floor: float = -80.0
    clamp: bool = False
    n_frames: int | None = None
    fill: float = 0.0
    top: float | None = None
    normalise: Normalise = "none"
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if self.exponent not in (1, 2):
            raise OtoscopeError(f"exponent must be 1 or 2, got {self.exponent}")
        self._check_words()
        self._check_sizes()
        if self.compression in ("log", "ln") and self.floor <= 0:
            raise OtoscopeError(f"{self.compression}(x + floor) needs a floor above 0, got {self.floor:g}")
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if isinstance(numbers, tuple) and len(numbers) != len(self.centres):
                raise OtoscopeError(f"{name} has {len(numbers)} numbers for {len(self.centres)} bands; give one or all")
        if np.any(np.asarray(self.std) == 0):
            raise OtoscopeError("std must not be 0")

    def _check_words(self) -> None:
        for name, known in (("compression", Compression), ("filterbank", Filterbank), ("normalise", Normalise)):
            if getattr(self, name) not in get_args(known):
                *most, last = get_args(known)
                raise OtoscopeError(f"{name} must be {', '.join(most)} or {last}, got {getattr(self, name)!r}")

    def _check_sizes(self) -> None:
        """Refuse sizes that would fill the memory before anything could tell that they are wrong."""
        limits = {"rate": 768_000, "n_bands": 4096, "n_frames": 1_000_000}
        for name, most_allowed in limits.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most_allowed:
                raise OtoscopeError(f"{name} must lie between 1 and {most_allowed}, got {value}")
        if self.stft.n_fft > 2**17:
            raise OtoscopeError(f"n_fft must be at most {2**17}, got {self.stft.n_fft}")
        rows = {"mel": self.n_bands, "log": self.stft.n_bins, "none": self.stft.n_bins}[self.filterbank]
        if rows * self.stft.n_bins > MAX_FILTERS:
            raise OtoscopeError(f"a filterbank of {rows} × {self.stft.n_bins} is too large; take fewer bands or bins")
        if self.filterbank == "log" and 0 < self.fmin < 1:
            raise OtoscopeError(f"fmin must be 0 or at least 1 Hz for log-frequency bands, got {self.fmin:g}")
        if not 0 <= self.fmin < (self.fmax or self.rate / 2):
            raise OtoscopeError(f"need 0 ≤ fmin < fmax, got {self.fmin:g} and {self.fmax} Hz")

    @cached_property
    def _filters(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        if self.filterbank == "none":
            return np.eye(self.stft.n_bins, dtype=np.float32), self.stft.frequencies(self.rate)
        n_fft, fmin, fmax = self.stft.n_fft, self.fmin, self.fmax
        if self.filterbank == "mel":
            norm: Literal["slaney"] | None = "slaney" if self.norm == "slaney" else None
            return mel_filterbank(
                self.rate, n_fft, n_mels=self.n_bands, fmin=fmin, fmax=fmax, scale=self.mel_scale, norm=norm
            )
        return log_filterbank(self.rate, n_fft, bands_per_octave=self.n_bands, fmin=fmin or 30.0, fmax=fmax)

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """The filterbank, shape (n_bands, n_bins)."""
        return self._filters[0]

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Band centres in hertz, shape (n_bands,)."""
        return self._filters[1]

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Edges in hertz half-way between band centres, shape (n_bands + 1,)."""
        centres = self.centres
        inner = (centres[1:] + centres[:-1]) / 2
        return np.concatenate([[max(0.0, 2 * centres[0] - inner[0])], inner, [self.rate / 2]])

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
        """Compress and normalise band energies (n, n_bands, n_frames)."""
        x = self._cells(bands)
        if self.n_frames is not None and x.shape[-1] != self.n_frames:
            x = torch.nn.functional.pad(x, (0, self.n_frames - x.shape[-1]), value=self.fill)  # cuts where negative
        if self.top is not None:
            x = torch.maximum(x, x.amax(dim=(-2, -1), keepdim=True) - self.top)
        if self.normalise != "none":
            over = (-2, -1) if self.normalise == "clip" else (-1,)
            spread, mean = torch.std_mean(x, dim=over, keepdim=True, correction=0)
            x = (x - mean) / (spread + TINY)
        if self.mean == 0 and self.std == 1:
            return x
        return (x - self._column(self.mean, x)) / self._column(self.std, x)

    def _cells(self, bands: torch.Tensor) -> torch.Tensor:
        """Compress cell by cell."""
        if self.compression == "decibels":
            return decibels(bands, reference=self.reference, floor=self.floor)
        if self.compression in ("log", "ln"):
            raised = bands.clamp(min=self.floor) if self.clamp else bands + self.floor
            return raised.log10() if self.compression == "log" else raised.log()
        if self.compression == "log1p":
            return torch.log10(1 + self.reference * bands)
        if self.compression == "ln1p":
            return torch.log1p(self.reference * bands)
        return bands

    @staticmethod
    def _column(numbers: float | tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(numbers, dtype=like.dtype, device=like.device).reshape(-1, 1)

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Transform (n, n_samples) to what the network sees, (n, n_bands, n_frames)."""
        return self.compress(self.bands(self.energies(waveforms)))

    def settings(self) -> dict[str, Any]:
        """All settings as plain values, for fingerprints and cards."""
        return asdict(self)
