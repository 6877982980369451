"""Networks as models: any function from tensors to tensors behind a declared hearing.

`NetworkModel` joins a `Hearing` (waveforms → the network's input), a network and an activation into a model. Where the
network is a `torch.nn.Module` it offers gradients, layers for class activation maps and fresh weights; where a front
end is declared, whatever the framework, it offers the spectrogram capability. Modules are used in evaluation mode and
without gradients unless these are asked for, and every switch is put back afterwards.

A network returns logits, or with ``returns="scores"`` probabilities after the activation (values for regression), of
shape (n, n_classes). Several outputs: `answer` names the one that counts. Several steps, (n, n_steps, n_classes):
`pool` says how they become one.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.hearing import Hearing, item_by_item
from otoscope.adapters.model import BATCH_SIZE, CamLayer, Float32, Floats, Output, Pool, Returns, probe_fingerprint
from otoscope.adapters.spectrogram import NetworkSpectrogram

if TYPE_CHECKING:
    from otoscope.adapters.card import Card
    from otoscope.adapters.loading import Loading

# Spectra and activations are far larger than waveforms: on a CPU a few items at a time stay in reach of its caches
# and of the allocator's pools, which halves the time; a GPU wants many.
CPU_BATCH = 4
PROBABILITY_EPS = 1e-7

POOLS: dict[Pool, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda steps: steps.mean(dim=1),
    "max": lambda steps: steps.amax(dim=1),
    "first": lambda steps: steps[:, 0],
    "last": lambda steps: steps[:, -1],
}


@contextmanager
def evaluating(network: object) -> Iterator[None]:
    """Switch a module to evaluation for a moment; each module's mode comes back. Other functions have no modes."""
    modes = [(module, module.training) for module in network.modules()] if isinstance(network, nn.Module) else []
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class NetworkModel:
    """A network behind the predict interface.

    Parameters
    ----------
    network : torch.nn.Module or callable
        Takes the input that `hearing` makes, items first, and returns a tensor (n, n_classes).
    hearing : Hearing
    labels : sequence of str
    output : {"softmax", "sigmoid", "regression"}
    returns : {"logits", "scores"}
        Whether the activation is still to be applied.
    answer : str or int, optional
        Which of several outputs counts; ``logits`` or the first where None.
    pool : {"mean", "max", "first", "last"}, optional
        How scores of several steps (n, n_steps, n_classes) become one.
    layers : callable, optional
        Makes the `CamLayer` tuple from the model; found by probing where None.
    device : str
    batch_size : int
        Most items in memory at once.
    digest : str, optional
        Identity of the weights of a network that is no module.
    notes : tuple of str
        What a reader of its explanations must know.
    """

    def __init__(
        self,
        network: Callable[[torch.Tensor], Any],
        hearing: Hearing,
        *,
        labels: Sequence[str],
        output: Output = "softmax",
        returns: Returns = "logits",
        answer: str | int | None = None,
        pool: Pool | None = None,
        layers: Callable[[NetworkModel], tuple[CamLayer, ...]] | None = None,
        device: str = "cpu",
        batch_size: int = BATCH_SIZE,
        digest: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.network: Any = network.to(device) if isinstance(network, nn.Module) else network
        self.hearing = hearing
        self.labels = tuple(labels)
        self.output: Output = output
        self.returns: Returns = returns
        self.answer = answer
        self.pool: Pool | None = pool
        self.device = device
        self.batch_size = batch_size
        self.digest = digest
        self.notes = notes
        self._layers = layers
        self._run = item_by_item(self.network) if hearing.one_by_one else self.network

    @property
    def rate(self) -> int:
        """Sampling rate in hertz."""
        return self.hearing.rate

    @property
    def n_samples(self) -> int | None:
        """Length of its window in samples; None for any."""
        return self.hearing.n_samples

    @property
    def max_samples(self) -> int | None:
        """Longest input in samples of a model that hears any length; None for no limit."""
        return self.hearing.max_samples

    @property
    def gradients(self) -> NetworkModel | None:
        """Itself, where autograd can cross the network."""
        return self if isinstance(self.network, nn.Module) else None

    @cached_property
    def spectrogram(self) -> NetworkSpectrogram | None:
        """The declared front end and what lies behind it."""
        front_end = self.hearing.front_end
        return NetworkSpectrogram(self, front_end) if front_end is not None and self.hearing.linear else None

    @property
    def fingerprint(self) -> str:
        """The sha256 of weights and settings; by its answers where a function shows no weights."""
        if self.digest is None and not isinstance(self.network, nn.Module):
            return probe_fingerprint(self)
        about = repr(self.network) if self.digest is None else self.digest
        answering = [self.output, self.returns, self.answer, self.pool]
        digest = hashlib.sha256()
        digest.update(json.dumps([about, self.labels, self.hearing.settings(), answering], sort_keys=True).encode())
        if isinstance(self.network, nn.Module):
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
        return self.score(torch.from_numpy(waveforms), self.hearing)

    def logits(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Score (n, n_samples) as (n, n_classes) before the activation; autograd can cross it."""
        raw = self._answers(self.hearing(waveforms))
        if self.returns == "logits" or self.output == "regression":
            return raw
        if self.output == "softmax":
            return raw.clamp(min=PROBABILITY_EPS).log()
        return raw.logit(eps=PROBABILITY_EPS)

    def score(self, items: torch.Tensor, hear: Callable[[torch.Tensor], torch.Tensor]) -> Floats:
        """Let the network hear items, batch by batch, and apply the activation."""
        scores = []
        size = min(self.batch_size, CPU_BATCH) if self.device == "cpu" else self.batch_size
        with torch.no_grad():  # not inference_mode: a network may cache tensors that gradients cross later
            for batch in items.split(size):
                raw = self._answers(hear(batch.to(self.device))).double()
                scores.append(self._activate(raw).cpu().numpy())
        return np.concatenate(scores)

    def _answers(self, heard: torch.Tensor) -> torch.Tensor:
        try:
            with evaluating(self.network):
                raw = self._run(heard)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if isinstance(error, OtoscopeError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise OtoscopeError(
                f"the network fails on input of shape {tuple(heard.shape)} ({type(error).__name__}: {reason}); "
                "check [input]: n_samples, layout, front end"
            ) from error
        return self._flat(raw)

    def _activate(self, raw: torch.Tensor) -> torch.Tensor:
        if self.returns == "scores" or self.output == "regression":
            return raw
        return raw.softmax(-1) if self.output == "softmax" else raw.sigmoid()

    def _flat(self, raw: Any) -> torch.Tensor:
        """Pick the answer that counts and bring it to (n, n_classes)."""
        answer: torch.Tensor = raw if isinstance(raw, torch.Tensor) else self._pick(raw)
        if answer.ndim == 3 and self.pool is not None:
            answer = POOLS[self.pool](answer)
        if answer.ndim == 3:
            raise OtoscopeError(
                f"the network returned shape {tuple(answer.shape)}: several steps for each item; say how they become "
                f"one by pool, one of {', '.join(POOLS)}"
            )
        return answer[:, None] if answer.ndim == 1 else answer

    def _pick(self, raw: Any) -> torch.Tensor:
        if isinstance(raw, Mapping):
            name = self.answer if self.answer is not None else ("logits" if "logits" in raw else None)
            known = ", ".join(map(str, raw))
            found = raw.get(name)
        else:
            several = dict(enumerate(raw)) if isinstance(raw, tuple | list) else {}
            known, found = f"0 to {len(several) - 1}", several.get(self.answer)  # type: ignore[arg-type]  # a name finds nothing here
        if isinstance(found, torch.Tensor):
            return found
        raise OtoscopeError(
            f"the network returned {type(raw).__name__}; need one tensor of logits (n, n_classes)"
            + (f"; say which output counts by answer: {known}" if raw else "")
        )

    def layers(self) -> tuple[CamLayer, ...]:
        """List the layers fit for class activation maps, the best first."""
        if self._layers is not None:
            return self._layers(self)
        return self._found

    @cached_property
    def _found(self) -> tuple[CamLayer, ...]:
        from otoscope.adapters.camlayers import find_layers

        return find_layers(self)

    def randomised(self, seed: int) -> NetworkModel:
        """Copy the model with fresh weights.

        Raises
        ------
        OtoscopeError
            If the network is no torch module, or a module has weights but no ``reset_parameters`` to draw them afresh.
        """
        if not isinstance(self.network, nn.Module):
            raise OtoscopeError("only torch modules can be given fresh weights")
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
        return NetworkModel(
            network,
            self.hearing,
            labels=self.labels,
            output=self.output,
            returns=self.returns,
            answer=self.answer,
            pool=self.pool,
            layers=self._layers,
            device=self.device,
            batch_size=self.batch_size,
            notes=self.notes,
        )


def from_network(
    card: Card,
    loading: Loading,
    network: Callable[[torch.Tensor], Any],
    *,
    returns: Returns,
    layers: Callable[[NetworkModel], tuple[CamLayer, ...]] | None = None,
    digest: str | None = None,
    notes: tuple[str, ...] = (),
) -> NetworkModel:
    """Join a network and what its card says of it; `returns` holds where the card says nothing."""
    about = card.model
    return NetworkModel(
        network,
        card.hearing,
        labels=card.labels,
        output=about.output,
        returns=about.returns or returns,
        answer=int(about.answer) if about.answer and about.answer.isdecimal() else about.answer,
        pool=about.pool,
        layers=layers,
        device=loading.device,
        batch_size=loading.batch_size,
        digest=digest,
        notes=notes,
    )
