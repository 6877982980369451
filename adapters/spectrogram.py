"""The spectrogram capability of a network with a declared front end: scores from band energies.

Everything before the compression is linear in the energies, so `otoscope.explainers.routes` can mix energies instead of
sounds and enter the model here.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.model import Floats

if TYPE_CHECKING:
    from otoscope.adapters.network import NetworkModel


class NetworkSpectrogram:
    """The spectrogram capability of a `NetworkModel` with a declared front end."""

    def __init__(self, model: NetworkModel, front_end: FrontEnd) -> None:
        self.model = model
        self.front_end = front_end

    @cached_property
    def filters(self) -> Any:
        """The filterbank as a sparse array (n_bands, n_bins)."""
        from scipy.sparse import csr_array

        return csr_array(self.front_end.weights)

    def stft(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Transform (n, n_samples) to complex (n, n_bins, n_frames)."""
        return self.model.hearing.stft(waveforms)

    def bands(self, energies: torch.Tensor, /) -> torch.Tensor:
        """Sum energies (n, n_bins, n_frames) into bands (n, n_bands, n_frames)."""
        # A bin belongs to two bands at most, so the sparse product does a hundredth of the work.
        n, n_bins, n_frames = energies.shape
        columns = energies.detach().cpu().movedim(1, 0).reshape(n_bins, n * n_frames)
        summed = torch.from_numpy(self.filters @ columns.numpy())
        return summed.reshape(-1, n, n_frames).movedim(0, 1)

    def predict_bands(self, bands: torch.Tensor, /) -> Floats:
        """Score band energies (n, n_bands, n_frames) as (n, n_classes)."""
        return self.model.score(bands, self.model.hearing.behind_bands)
