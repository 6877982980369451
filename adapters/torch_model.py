"""PyTorch networks as models: waveform in, or behind a declared front end.

`TorchModel` puts a `torch.nn.Module` behind the predict interface and offers gradients, the spectrogram capability
(where a `FrontEnd` is declared) and fresh weights. The network returns logits (values for regression); it is used in
evaluation mode and without gradients unless these are asked for, and every switch is put back afterwards.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.model import BATCH_SIZE, CamLayer, Float32, Floats, Output

# Spectra and activations are far larger than waveforms: on a CPU a few items at a time stay in reach of its caches
# and of the allocator's pools, which halves the time; a GPU wants many.
CPU_BATCH = 4


def band_edges(front_end: FrontEnd) -> Floats:
    """Edges in hertz half-way between band centres, shape (n_bands + 1,)."""
    centres = front_end.centres
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[max(0.0, 2 * centres[0] - inner[0])], inner, [front_end.rate / 2]])


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switch a network to evaluation for a moment; each module's mode comes back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class TorchModel:
    """A torch network behind the predict interface.

    Parameters
    ----------
    network : torch.nn.Module
        Takes waveforms (n, n_samples), or, with a front end, compressed bands (n, n_bands, n_frames); returns logits
        (n, n_classes).
    rate : int
        In hertz.
    labels : sequence of str
    n_samples : int, optional
        Length of its window; None for any length.
    output : {"softmax", "sigmoid", "regression"}
    front_end : FrontEnd, optional
    layers : callable, optional
        Makes the `CamLayer` tuple from the network; the last convolution where None.
    device : str
    batch_size : int
        Most items in memory at once.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        rate: int,
        labels: Sequence[str],
        n_samples: int | None = None,
        output: Output = "softmax",
        front_end: FrontEnd | None = None,
        layers: Callable[[nn.Module], tuple[CamLayer, ...]] | None = None,
        device: str = "cpu",
        batch_size: int = BATCH_SIZE,
    ) -> None:
        if front_end is not None and front_end.rate != rate:
            raise OtoscopeError(
                f"the front end hears {front_end.rate} Hz, the model {rate} Hz; give both the same rate"
            )
        self.network = network.to(device)
        self.rate = rate
        self.labels = tuple(labels)
        self.n_samples = n_samples
        self.output: Output = output
        self.front_end = front_end
        self.device = device
        self.batch_size = batch_size
        self._layers = layers
        self.gradients = self
        self.spectrogram = TorchSpectrogram(self, front_end) if front_end is not None else None

    @property
    def fingerprint(self) -> str:
        """The sha256 of weights and settings."""
        digest = hashlib.sha256()
        front_end = self.front_end.settings() if self.front_end else None
        settings = [repr(self.network), self.rate, self.labels, self.n_samples, self.output, front_end]
        digest.update(json.dumps(settings, sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(str(tensor.dtype).encode())
            digest.update(tensor.detach().cpu().double().numpy().tobytes())  # numpy knows no bfloat16
        return digest.hexdigest()

    def predict(self, waveforms: Float32, /) -> Floats:
        """Score waveforms (n, n_samples) as (n, n_classes)."""
        waveforms = np.ascontiguousarray(waveforms, dtype=np.float32)
        if not waveforms.flags.writeable:
            waveforms = waveforms.copy()  # torch takes over writable memory only
        return self.score(torch.from_numpy(waveforms), self.logits)

    def logits(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Score (n, n_samples) as (n, n_classes) before the activation; autograd can cross it."""
        heard = waveforms if self.front_end is None else self.front_end(waveforms)
        with evaluating(self.network):
            return self.flat(self.network(heard))

    def flat(self, logits: object) -> torch.Tensor:
        """Check the network's answer and bring it to (n, n_classes)."""
        if not isinstance(logits, torch.Tensor):
            raise OtoscopeError(
                f"the network returned {type(logits).__name__}; need one tensor of logits (n, n_classes)"
            )
        return logits[:, None] if logits.ndim == 1 else logits

    def score(self, items: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> Floats:
        """Apply `function` and the activation to items, batch by batch."""
        scores = []
        with torch.no_grad():  # not inference_mode: a network may cache tensors that gradients cross later
            for batch in items.split(min(self.batch_size, CPU_BATCH) if self.device == "cpu" else self.batch_size):
                logits = function(batch.to(self.device)).double()
                if self.output == "softmax":
                    logits = logits.softmax(-1)
                elif self.output == "sigmoid":
                    logits = logits.sigmoid()
                scores.append(logits.cpu().numpy())
        return np.concatenate(scores)

    def layers(self) -> tuple[CamLayer, ...]:
        """List the layers fit for class activation maps, the best first."""
        if self._layers is not None:
            return self._layers(self.network)
        edges = band_edges(self.front_end) if self.front_end is not None else None
        found = [
            CamLayer(name, module, edges if isinstance(module, nn.Conv2d) else None)
            for name, module in self.network.named_modules()
            if isinstance(module, nn.Conv1d) or (isinstance(module, nn.Conv2d) and edges is not None)
        ]
        return tuple(reversed(found))

    def randomised(self, seed: int) -> TorchModel:
        """Copy the model with fresh weights.

        Raises
        ------
        OtoscopeError
            If a module has weights but no ``reset_parameters`` to draw them afresh.
        """
        network = copy.deepcopy(self.network)
        for name, module in network.named_modules():
            own = list(module.parameters(recurse=False))
            if own and not callable(getattr(module, "reset_parameters", None)):
                kind = type(module).__name__
                raise OtoscopeError(
                    f"module {name or kind!r} ({kind}) has weights but no reset_parameters to draw them"
                )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in network.modules():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
        return TorchModel(
            network,
            rate=self.rate,
            labels=self.labels,
            n_samples=self.n_samples,
            output=self.output,
            front_end=self.front_end,
            layers=self._layers,
            device=self.device,
            batch_size=self.batch_size,
        )


class TorchSpectrogram:
    """The spectrogram capability of a `TorchModel` with a declared front end."""

    def __init__(self, model: TorchModel, front_end: FrontEnd) -> None:
        self.model = model
        self.front_end = front_end

    @cached_property
    def filters(self) -> Any:
        """The filterbank as a sparse array (n_bands, n_bins)."""
        from scipy.sparse import csr_array

        return csr_array(self.front_end.weights)

    def stft(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Transform (n, n_samples) to complex (n, n_bins, n_frames)."""
        return self.front_end.stft.forward(waveforms)

    def bands(self, energies: torch.Tensor, /) -> torch.Tensor:
        """Sum energies (n, n_bins, n_frames) into bands (n, n_bands, n_frames)."""
        # A bin belongs to two bands at most, so the sparse product does a hundredth of the work.
        n, n_bins, n_frames = energies.shape
        columns = energies.detach().cpu().movedim(1, 0).reshape(n_bins, n * n_frames)
        summed = torch.from_numpy(self.filters @ columns.numpy())
        return summed.reshape(-1, n, n_frames).movedim(0, 1)

    def predict_bands(self, bands: torch.Tensor, /) -> Floats:
        """Score band energies (n, n_bands, n_frames) as (n, n_classes)."""
        return self.model.score(bands, self._logits)

    def _logits(self, bands: torch.Tensor) -> torch.Tensor:
        with evaluating(self.model.network):
            return self.model.flat(self.model.network(self.front_end.compress(bands)))
