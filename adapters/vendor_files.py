"""Read the files of a folder that transformers wrote, before transformers sees them.

Settings are JSON objects: bounded, their numbers sane, nothing in them that would fetch, patch or run something; at no
depth, for transformers may look anywhere. No file may be a link that leaves the folder, or it would show another one.
Weights are safetensors, whole or in shards, or a checkpoint of tensors only; they are read here as a dictionary of
tensors, so that transformers finds nothing else to open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from otoscope.adapters.errors import OtoscopeError, one_line
from otoscope.adapters.loading import Loading
from otoscope.adapters.safety import open_checked
from otoscope.adapters.vendor_bounds import check_extractor, check_network, check_state, tables

CONFIG, PREPROCESSOR, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
SAFE, SHARDED, PICKLED = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
MAX_BYTES = 16 << 20  # of a file of settings
MAX_NUMBER = 1 << 24  # of a setting: nothing that is built from it gets out of hand
# Settings by which a configuration would make transformers fetch, patch or replace something.
REFUSED = {
    "quantization_config": "the model is quantised; save it again without quantisation",
    "transformers_weights": "it names another file of weights; call that file model.safetensors",
    "fusion_config": "it would patch the network; remove the entry",
    "kernel_config": "it would fetch kernels; remove the entry",
    "configuration_files": "it names other settings to use instead of these; keep those in config.json",
}
IMPLEMENTATIONS = (
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "experts_implementation",
    "_experts_implementation",
    "_experts_implementation_internal",
)
FAULTS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ImportError,
    ArithmeticError,
    UnpicklingError,
    EOFError,
    MemoryError,
)


def read_config(path: Path, loading: Loading) -> dict[str, Any]:
    """Read the network's settings."""
    file = _find(path, CONFIG, loading)
    if file is None:
        raise OtoscopeError(f"{path}: holds no {CONFIG}; give the folder that save_pretrained wrote")
    table = _read(file)
    _refuse(file, table, loading)
    check_network(file, table)
    return table


def read_preprocessor(path: Path, loading: Loading) -> dict[str, Any]:
    """Read the extractor's settings from where transformers looks first."""
    nested = None
    if (file := _find(path, PROCESSOR, loading)) is not None:
        processor = _read(file)
        _refuse(file, processor, loading)
        nested = processor.get("feature_extractor", processor.get("audio_processor"))
    if isinstance(nested, dict) and file is not None:
        check_extractor(file, nested)
        return nested
    if (file := _find(path, PREPROCESSOR, loading)) is None:
        raise OtoscopeError(
            f"{path}: holds no {PREPROCESSOR}, which says how the model hears; save its feature extractor there"
        )
    table = _read(file)
    _refuse(file, table, loading)
    check_extractor(file, table)
    return table


def _find(folder: Path, name: str, loading: Loading) -> Path | None:
    """Find a file of the folder; one that is a link out of it could show any file of this machine."""
    file = folder / name
    if not file.is_file():
        return None
    home, target = folder.resolve(), file.resolve()
    # In the cache of the hub a folder "snapshots/x" is made of links to "blobs" beside it.
    homes = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    if not loading.trust and not any(target.is_relative_to(one) for one in homes):
        raise OtoscopeError(f"{file}: is a link that leaves the folder; copy the file itself there, or say --trust")
    return file


def _read(file: Path) -> dict[str, Any]:
    """Read a JSON object whose numbers are sane."""
    if file.stat().st_size > MAX_BYTES:
        raise OtoscopeError(f"{file}: is too large for settings ({file.stat().st_size} bytes); get it again")
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        worst = max(_numbers(table), key=abs, default=0)
    except (ValueError, RecursionError) as error:
        raise OtoscopeError(f"{file}: is no valid JSON ({error}); get it again") from None
    if not isinstance(table, dict):
        raise OtoscopeError(f"{file}: holds no settings but {type(table).__name__}; get it again")
    if not abs(worst) <= MAX_NUMBER:
        raise OtoscopeError(f"{file}: holds the number {worst:.3g}, which no setting can mean; correct it")
    return table


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield float("inf") if value != value or abs(value) > MAX_NUMBER**2 else value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _numbers(item)


def _refuse(file: Path, settings: dict[str, Any], loading: Loading) -> None:
    """Refuse settings that would fetch or run something; the model's own code runs for those who trust it."""
    for table in tables(settings):
        for key, why in REFUSED.items():
            if table.get(key):
                raise OtoscopeError(f"{file}: {key} is set: {why}")
        for key in IMPLEMENTATIONS:
            if "/" in str(table.get(key, "")):
                raise OtoscopeError(f"{file}: {key} names code on the network; remove the entry")
        if table.get("auto_map"):
            names = one_line(str(table["auto_map"])[:200])
            loading.run_code(file, f"code from the model's folder ({names}); a type that transformers ships needs none")


def read_weights(path: Path, loading: Loading) -> dict[str, torch.Tensor]:
    """Read the weights as a dictionary of tensors."""
    remedy = "save the model again with save_pretrained"
    try:
        if (file := _find(path, SAFE, loading)) is not None:
            return _read_safe(file, remedy)
        if (file := _find(path, SHARDED, loading)) is not None:
            return _read_shards(file, loading, remedy)
        if (file := _find(path, PICKLED, loading)) is not None:
            return _read_pickled(file, loading, remedy)
    except OtoscopeError:
        raise
    except FAULTS as error:
        raise OtoscopeError(f"{path}: its weights cannot be read ({first_line(error)}); get them again") from None
    raise OtoscopeError(f"{path}: holds neither {SAFE} nor {PICKLED}; get the weights")


def _read_shards(file: Path, loading: Loading, remedy: str) -> dict[str, torch.Tensor]:
    names = sorted(set(_read(file).get("weight_map", {}).values()))
    if strange := [name for name in names if Path(str(name)).name != name]:
        raise OtoscopeError(f"{file}: names {strange[0]!r:.80}, which is no file beside it; {remedy}")
    files = [_find(file.parent, name, loading) or file.parent / name for name in names]
    return {key: tensor for one in files for key, tensor in _read_safe(one, remedy).items()}


def _read_pickled(file: Path, loading: Loading, remedy: str) -> dict[str, torch.Tensor]:
    found = open_checked(file, {"torch", "pickle"}, trust=loading.trust, remedy=remedy)
    state = torch.load(file, map_location="cpu", weights_only=not found.runs)
    if not isinstance(state, dict):
        raise OtoscopeError(f"{file}: holds {type(state).__name__}, no state dict; {remedy}")
    check_state(file, state)
    return state


def _read_safe(file: Path, remedy: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    open_checked(file, {"safetensors"}, trust=False, remedy=remedy)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise OtoscopeError(f"{file}: is damaged ({first_line(error)}); get it again") from None


def first_line(error: BaseException) -> str:
    """Say what an error says, shortened, in one line."""
    text = one_line(str(error))
    return (text[:200] or type(error).__name__).rstrip(".:")
