"""Bounds on what the folder of a transformers model may ask for, checked before anything is built from it.

A line of JSON can ask for a million layers or a window of a year. Real models stay far below the bounds here: the
deepest audio networks have some fifty layers, the widest front ends a few hundred bands. What a network needs beyond
single settings is counted, not guessed: it is built on torch's device "meta", which allocates nothing, and may not be
much larger than the weights that the files really hold.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from otoscope.adapters.errors import OtoscopeError

MAX_LAYERS = 1000  # and entries of any list
MAX_POSITIONS = 100_000
MAX_LABELS = 100_000
MAX_PARAMETERS = 4_000_000_000  # the largest of this kind, XLS-R, has 2.2e9
MAX_GROWTH, MAX_FRESH = 2, 10_000_000  # a network may be this many times its weights, and so much more
MAX_SHARED = 4  # keys that may show one and the same weights
# Settings of feature extractors: the largest that can be meant.
HEARD = {
    "sampling_rate": 768_000,
    "n_fft": 1 << 17,
    "hop_length": 1 << 17,
    "feature_size": 4096,
    "num_mel_bins": 4096,
    "chunk_length": 600,
    "max_length": 100_000,
    "stride": 1000,
}
MAX_SAMPLES, MAX_CELLS, MAX_FILTERS = 1 << 26, 1 << 27, 1 << 26


def tables(value: object) -> Iterator[dict[str, Any]]:
    """Walk through the JSON objects in a JSON value, however deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
        waiting.extend(one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())


def check_network(file: Path, settings: Mapping[str, Any]) -> None:
    """Refuse settings of a network that no network has."""
    names = settings.get("id2label")
    n_labels = len(names) if isinstance(names, dict | list) else 0
    if max(n_labels, _number(settings.get("num_labels"))) > MAX_LABELS:
        raise OtoscopeError(f"{file}: asks for more than {MAX_LABELS} labels; correct id2label or num_labels")
    for table in tables(dict(settings)):
        for key, value in table.items():
            most = MAX_POSITIONS if key.endswith(("positions", "position_embeddings")) else None
            # One of data2vec's layers is made for each of its "num_conv_pos_embeddings".
            most = MAX_LAYERS if "layers" in key or key == "num_conv_pos_embeddings" else most
            if most is not None and _number(value) > most:
                raise OtoscopeError(f"{file}: {key!r:.60} is {value}, more than {most}; correct it")
            if isinstance(value, list) and len(value) > MAX_LAYERS:
                raise OtoscopeError(f"{file}: {key!r:.60} has {len(value)} entries, more than {MAX_LAYERS}; correct it")


def check_extractor(file: Path, heard: Mapping[str, Any]) -> None:
    """Refuse settings of a feature extractor that no model hears with."""
    if type(heard.get("sampling_rate", 16_000)) is not int:
        raise OtoscopeError(f"{file}: its feature extractor states no sampling_rate; add it there, in hertz")
    for key, most in HEARD.items():
        value = heard.get(key, 1)
        if not isinstance(value, int | float) or not 1 <= value <= most:
            raise OtoscopeError(f"{file}: {key} must lie between 1 and {most}, got {value!r:.40}; correct it")
    samples = heard.get("chunk_length", 30) * heard.get("sampling_rate", 16_000)
    n_fft, bands = heard.get("n_fft", 400), heard.get("feature_size", 80)
    cells = samples / heard.get("hop_length", 160) * max(n_fft, bands)
    kaldi = heard.get("max_length", 1024) * heard.get("num_mel_bins", 128)
    if samples > MAX_SAMPLES or max(cells, kaldi) > MAX_CELLS or n_fft * bands > MAX_FILTERS:
        raise OtoscopeError(
            f"{file}: its feature extractor would need far more memory than any model's: {samples:g} samples, "
            f"{max(cells, kaldi):g} cells; correct chunk_length, hop_length, n_fft, feature_size or max_length"
        )


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0


def check_state(file: Path, state: Mapping[Any, Any]) -> None:
    """Refuse weights that pretend to be larger than what the file holds: views that repeat a few numbers."""
    held: dict[int, int] = {}
    needed = 0
    for key, tensor in state.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise OtoscopeError(f"{file}: holds {type(tensor).__name__} under {key!r:.60}, no tensor; leave it out")
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise OtoscopeError(f"{file}: {key!r:.60} is no plain tensor; save the model again with save_pretrained")
        storage, size = tensor.untyped_storage(), tensor.numel() * tensor.element_size()
        held[storage.data_ptr()] = storage.nbytes()
        needed += size
        if size > storage.nbytes():
            raise OtoscopeError(
                f"{file}: {key!r:.60} repeats {storage.nbytes()} bytes as {size}; save the model again with "
                "save_pretrained"
            )
    if needed > MAX_SHARED * sum(held.values()) + (1 << 20):
        raise OtoscopeError(
            f"{file}: its tensors show {sum(held.values())} bytes as {needed}; save the model again with "
            "save_pretrained"
        )


def check_size(file: Path, network: type[Any], config: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Count the numbers of a network before any is allocated; refuse more than its weights can fill."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        built = network(copy.deepcopy(config))
    needed = sum(tensor.numel() for part in (built.parameters(), built.buffers()) for tensor in part)
    held = sum(tensor.numel() for tensor in state.values())
    if needed > min(MAX_GROWTH * held + MAX_FRESH, MAX_PARAMETERS):
        raise OtoscopeError(
            f"{file}: describes a network of {needed} numbers, its weights hold {held}; correct it, or get the weights "
            "that belong to it"
        )
