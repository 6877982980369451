"""Hugging Face: a local folder of transformers for audio classification.

The folder holds what ``save_pretrained`` writes: ``config.json``, ``preprocessor_config.json`` (or the same inside
``processor_config.json``) and the weights; `otoscope.adapters.vendor_folder` reads it or says why not. How the families
hear is told in `otoscope.adapters.vendor_frontends`, where their tokens lie in `otoscope.adapters.vendor_layers`.

wav2vec 2.0, HuBERT, WavLM and their kin hear any length whole. The AST hears as many frames as its extractor says, and
longer spans in windows of that length; Whisper 30 s, shorter sound padded with silence, as in the vendor's pipeline.
Scores go through the activation that the pipeline applies: softmax, sigmoid for ``multi_label_classification``, none
for ``regression``. Networks run in float32, whatever the weights were saved in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otoscope.adapters.card import Card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.loading import Loading
from otoscope.adapters.model import BATCH_SIZE, Float32, Floats, Output, Returns
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.vendor_files import first_line
from otoscope.adapters.vendor_folder import Folder, read_folder
from otoscope.adapters.vendor_frontends import Vendor, Way, find_way

OUTPUTS: dict[str | None, Output] = {"multi_label_classification": "sigmoid", "regression": "regression"}


@dataclass(frozen=True)
class NoSettings:
    """The section ``[model.settings]``: the folder says everything itself."""


SETTINGS = (NoSettings,)


class TransformersModel(NetworkModel):
    """A network of transformers behind the predict interface.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    extractor : transformers.FeatureExtractionMixin
    way : Way
        How it is heard: in torch, or through the vendor's own extractor.
    labels, output, returns, device, batch_size, digest, notes
        See `NetworkModel`.
    """

    def __init__(
        self,
        model: Any,
        extractor: Any,
        way: Way,
        *,
        labels: tuple[str, ...],
        output: Output = "softmax",
        returns: Returns = "logits",
        device: str = "cpu",
        batch_size: int = BATCH_SIZE,
        digest: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        family = way.family
        super().__init__(
            Vendor(model, extractor) if family is None else model,
            way.hearing,
            labels=labels,
            output=output,
            returns=returns,
            layers=None if family is None else lambda model: family.layers(model.network, way.hearing),
            device=device,
            batch_size=batch_size,
            digest=digest,
            notes=notes,
        )
        self.model = model
        self.extractor = extractor
        self.way = way
        self.shortest = 1 if family is None else family.shortest(model.config)

    @property
    def front_end_difference(self) -> float | None:
        """Largest difference of the front end in torch from the vendor's; None where none is declared."""
        return self.way.difference

    @property
    def no_gradients(self) -> str | None:
        """Why it offers no gradients."""
        return self.way.reason

    @property
    def gradients(self) -> NetworkModel | None:
        """Itself, where autograd can cross the front end."""
        return self if self.way.family is not None else None

    def predict(self, waveforms: Float32, /) -> Floats:
        """Score waveforms (n, n_samples) as (n, n_classes)."""
        self._check(np.shape(waveforms)[-1])
        return super().predict(waveforms)

    def logits(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Score (n, n_samples) as (n, n_classes) before the activation; autograd can cross it."""
        self._check(waveforms.shape[-1])
        return super().logits(waveforms)

    def _check(self, n_samples: int) -> None:
        if n_samples < self.shortest:
            raise OtoscopeError(
                f"this model hears at least {self.shortest} samples ({self.shortest / self.rate:.3f} s), "
                f"got {n_samples}; take a longer span"
            )

    def randomised(self, seed: int) -> TransformersModel:
        """Copy the model with fresh weights, drawn as its architecture draws them."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = type(self.model)(self.model.config)
        return TransformersModel(
            fresh,
            self.extractor,
            self.way,
            labels=self.labels,
            output=self.output,
            returns=self.returns,
            device=self.device,
            batch_size=self.batch_size,
            digest=self.digest,
            notes=self.notes,
        )


def from_folder(folder: Path, loading: Loading) -> TransformersModel:
    """Load a folder that transformers wrote.

    Raises
    ------
    OtoscopeError
        Naming the folder, what is wrong with it and what to do.
    """
    read = read_folder(folder, loading)
    problem = read.config.problem_type
    return _model(read, loading, read.labels, OUTPUTS.get(problem, "softmax"), "logits")


def from_card(card: Card, loading: Loading) -> TransformersModel:
    """Load the folder that a card names; names of classes, kind of output and licence are the card's."""
    card.settings(NoSettings)
    _only_rate(card)
    if not card.weights.is_dir():
        raise OtoscopeError(f"{card.weights}: is no folder; let path name the folder that transformers wrote")
    read = read_folder(card.weights, loading)
    if len(card.labels) != len(read.labels):
        raise OtoscopeError(
            f"{card.path}: names {len(card.labels)} labels, {read.path / 'config.json'} has {len(read.labels)}; "
            "name each class once, in the model's order"
        )
    rate = card.tables.get("input", {}).get("rate", read.rate)
    if rate != read.rate:
        raise OtoscopeError(
            f"{card.path}: [input] rate is {rate} Hz, the model's own extractor hears {read.rate} Hz; correct the card"
        )
    stated = "output" in card.tables["model"]
    output = card.model.output if stated else OUTPUTS.get(read.config.problem_type, "softmax")
    return _model(read, loading, card.labels, output, card.model.returns or "logits")


def _only_rate(card: Card) -> None:
    """Refuse what a card cannot decide for such a model."""
    if strange := [key for key in card.tables.get("input", {}) if key != "rate"]:
        raise OtoscopeError(
            f"{card.path}: [input] {strange[0]}: the folder says itself how the model hears; leave it out"
        )
    if card.model.answer is not None or card.model.pool is not None:
        raise OtoscopeError(f"{card.path}: the model has one answer for each item; leave out answer and pool")


def _model(
    read: Folder, loading: Loading, labels: tuple[str, ...], output: Output, returns: Returns
) -> TransformersModel:
    """Find out how the folder's model hears, and let it hear one sound."""
    with _fitting(read.path):
        way = find_way(read.config.model_type, read.extractor)
    model = TransformersModel(
        read.model,
        read.extractor,
        way,
        labels=labels,
        output=output,
        returns=returns,
        device=loading.device,
        batch_size=loading.batch_size,
        digest=read.digest,
        notes=(*read.notes, way.note),
    )
    with _fitting(read.path):
        model.predict(np.zeros((1, min(model.rate, model.max_samples or model.rate)), dtype=np.float32))
    return model


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Tell in one line that the parts of a folder do not fit each other, which transformers finds out by failing."""
    try:
        yield
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        reason = first_line(error)
        raise OtoscopeError(
            f"{path}: its network does not take what its feature extractor makes ({reason}); config.json and "
            "preprocessor_config.json must belong together"
        ) from None
