"""Read the files of a folder that transformers wrote, before transformers sees them.

Settings are JSON objects: bounded, their numbers sane, nothing in them that would fetch, patch or run something.
Weights are safetensors, whole or in shards, or a checkpoint of tensors only; they are read here as a dictionary of
tensors, so that transformers finds nothing else to open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.loading import Loading
from otoscope.adapters.safety import open_checked

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
}
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
)


def read_config(path: Path, loading: Loading) -> dict[str, Any]:
    """Read the network's settings."""
    if not (path / CONFIG).is_file():
        raise OtoscopeError(f"{path}: holds no {CONFIG}; give the folder that save_pretrained wrote")
    table = _read(path / CONFIG)
    _refuse(path / CONFIG, table, loading)
    return table


def read_preprocessor(path: Path, loading: Loading) -> dict[str, Any]:
    """Read the extractor's settings from where transformers looks first."""
    if (path / PROCESSOR).is_file():
        processor = _read(path / PROCESSOR)
        nested = processor.get("feature_extractor", processor.get("audio_processor"))
        if isinstance(nested, dict):
            _refuse(path / PROCESSOR, nested, loading)
            return nested
    if not (path / PREPROCESSOR).is_file():
        raise OtoscopeError(
            f"{path}: holds no {PREPROCESSOR}, which says how the model hears; save its feature extractor there"
        )
    table = _read(path / PREPROCESSOR)
    _refuse(path / PREPROCESSOR, table, loading)
    return table


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


def _refuse(file: Path, table: Mapping[str, Any], loading: Loading) -> None:
    """Refuse settings that would fetch or run something; the model's own code runs for those who trust it."""
    for key, why in REFUSED.items():
        if table.get(key):
            raise OtoscopeError(f"{file}: {key} is set: {why}")
    for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        if "/" in str(table.get(key, "")):
            raise OtoscopeError(f"{file}: {key} names code on the network; remove the entry")
    if table.get("auto_map"):
        names = str(table["auto_map"])[:200]
        loading.run_code(file, f"code from the model's folder ({names}); a type that transformers ships needs none")


def read_weights(path: Path, loading: Loading) -> dict[str, torch.Tensor]:
    """Read the weights as a dictionary of tensors."""
    remedy = "save the model again with save_pretrained"
    try:
        if (path / SAFE).is_file():
            return _read_safe(path / SAFE, remedy)
        if (path / SHARDED).is_file():
            names = sorted(set(_read(path / SHARDED).get("weight_map", {}).values()))
            if strange := [name for name in names if Path(str(name)).name != name]:
                raise OtoscopeError(f"{path / SHARDED}: names {strange[0]!r}, which is no file beside it; {remedy}")
            return {key: tensor for name in names for key, tensor in _read_safe(path / name, remedy).items()}
        if (path / PICKLED).is_file():
            found = open_checked(path / PICKLED, {"torch", "pickle"}, trust=loading.trust, remedy=remedy)
            state = torch.load(path / PICKLED, map_location="cpu", weights_only=not found.runs)
            if not isinstance(state, dict):
                raise OtoscopeError(f"{path / PICKLED}: holds {type(state).__name__}, no state dict; {remedy}")
            return state
    except OtoscopeError:
        raise
    except FAULTS as error:
        raise OtoscopeError(f"{path}: its weights cannot be read ({first_line(error)}); get them again") from None
    raise OtoscopeError(f"{path}: holds neither {SAFE} nor {PICKLED}; get the weights")


def _read_safe(file: Path, remedy: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    open_checked(file, {"safetensors"}, trust=False, remedy=remedy)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise OtoscopeError(f"{file}: is damaged ({first_line(error)}); get it again") from None


def first_line(error: Exception) -> str:
    """Say what an error says, shortened, in one line."""
    text = " ".join(str(error).split())
    return (text[:200] or type(error).__name__).rstrip(".:")
