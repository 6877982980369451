"""Let transformers build the model of a folder, and believe nothing it only logs.

`otoscope.adapters.vendor_files` has read settings and weights; transformers builds the network from them, of a type
that classifies audio, and the feature extractor, one of four; it opens no file of the folder itself, asks nobody and
fetches nothing. Only a folder with code of its own that the user trusts is left to transformers' own ways. What it then
says of the weights is taken seriously: one that the file lacks is an error, for transformers would draw it at random
(the head of a model made for another task) and say so in its log only, and the explanation would be one of chance.
Labels are checked, noise that an extractor would add is left out, and nothing is printed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from otoscope.adapters.errors import OtoscopeError, one_line
from otoscope.adapters.loading import Loading, require
from otoscope.adapters.safety import clean_text
from otoscope.adapters.vendor_bounds import check_size
from otoscope.adapters.vendor_files import (
    CONFIG,
    FAULTS,
    IMPLEMENTATIONS,
    PREPROCESSOR,
    first_line,
    read_config,
    read_preprocessor,
    read_weights,
)
from otoscope.adapters.vendor_quiet import quiet, secluded

VOLATILE = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")
# Where it came from, and how it is computed on another machine: nothing of this reaches the network here.
DROPPED = ("_name_or_path", "name_or_path", "_commit_hash", *IMPLEMENTATIONS)
EXTRACTORS = (
    "Wav2Vec2FeatureExtractor",
    "ASTFeatureExtractor",
    "WhisperFeatureExtractor",
    "SeamlessM4TFeatureExtractor",
)
HARMLESS_MISSING = ("masked_spec_embed",)  # used in training only


@dataclass(frozen=True, eq=False)
class Folder:
    """What a folder holds.

    Attributes
    ----------
    path : Path
    model : transformers.PreTrainedModel
        In evaluation mode, float32.
    extractor : transformers.FeatureExtractionMixin
    labels : tuple of str
    digest : str
        Identity of the settings.
    notes : tuple of str
    """

    path: Path
    model: Any
    extractor: Any
    labels: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]

    @property
    def config(self) -> Any:
        """The network's configuration."""
        return self.model.config

    @property
    def rate(self) -> int:
        """Sampling rate in hertz."""
        return int(self.extractor.sampling_rate)


def read_folder(path: Path, loading: Loading) -> Folder:
    """Read and check a folder.

    Raises
    ------
    OtoscopeError
        Naming the folder or the file, the fault and the remedy.
    """
    transformers = require("transformers", "transformers")
    settings, heard = read_config(path, loading), read_preprocessor(path, loading)
    own = bool(settings.get("auto_map") or heard.get("auto_map"))  # trusted by now
    state = read_weights(path, loading)
    with secluded(), quiet(transformers), _told(path, transformers):
        network, config, extractor = (_own if own else _known)(path, settings, heard, transformers)
        labels = _labels(path / CONFIG, config)
        if not own:
            check_size(path / CONFIG, network, config, state)
        model, report = network.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    if not isinstance(getattr(extractor, "sampling_rate", None), int):
        raise OtoscopeError(f"{path}: its feature extractor states no sampling_rate; add it to {PREPROCESSOR}")
    notes = [*_complete(path, report, settings), *_without_dither(extractor)]
    digest = _digest(settings, heard, path if own else None)
    return Folder(path, model.float().eval(), extractor, labels, digest, tuple(notes))


def _digest(settings: Mapping[str, Any], heard: Mapping[str, Any], own: Path | None) -> str:
    """Identify what the model is built from: its settings, and its own code where that runs."""
    plain = {key: value for key, value in settings.items() if key not in VOLATILE}
    digest = hashlib.sha256(json.dumps([plain, heard], sort_keys=True).encode())
    for file in sorted(own.glob("*.py")) if own is not None else ():
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _known(path: Path, settings: dict[str, Any], heard: dict[str, Any], transformers: Any) -> tuple[Any, Any, Any]:
    """Build configuration and extractor of a type that transformers ships from the settings that were checked."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES as KNOWN

    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise OtoscopeError(
            f"{path / CONFIG}: transformers {transformers.__version__} knows no model_type {kind!r:.60}; "
            "update transformers, or give a model of a type it ships"
        )
    if kind not in KNOWN:
        raise OtoscopeError(f"{path / CONFIG}: {kind} models classify no audio; give one of {', '.join(sorted(KNOWN))}")
    plain = {key: value for key, value in settings.items() if key not in DROPPED}
    config = transformers.CONFIG_MAPPING[kind].from_dict(plain)
    network = transformers.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING[type(config)]
    return network, config, _extractor(path, kind, heard, transformers)


def _extractor(path: Path, kind: str, heard: dict[str, Any], transformers: Any) -> Any:
    """Build a feature extractor from checked settings; a class of any name could read files, or fetch them."""
    auto: Any = import_module("transformers.models.auto.feature_extraction_auto")

    name = heard.get("feature_extractor_type", auto.FEATURE_EXTRACTOR_MAPPING_NAMES.get(kind))
    if name not in EXTRACTORS:
        raise OtoscopeError(
            f"{path}: its feature_extractor_type is {name!r:.60}; give one of {', '.join(EXTRACTORS)}, as audio "
            f"classifiers have, in {PREPROCESSOR}"
        )
    return getattr(transformers, name).from_dict(dict(heard))


def _own(path: Path, settings: dict[str, Any], _heard: dict[str, Any], transformers: Any) -> tuple[Any, Any, Any]:
    """Let transformers load configuration and extractor of a folder whose own code is trusted."""
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": True}
    config = transformers.AutoConfig.from_pretrained(str(path), **here)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(str(path), config=config, **here)
    own = (settings.get("auto_map") or {}).get("AutoModelForAudioClassification")
    if own is not None:
        return get_class_from_dynamic_module(own, str(path), local_files_only=True), config, extractor
    known = transformers.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING
    if type(config) not in known:
        raise OtoscopeError(
            f"{path / CONFIG}: its own code classifies no audio; name AutoModelForAudioClassification in auto_map"
        )
    return known[type(config)], config, extractor


def _labels(file: Path, config: Any) -> tuple[str, ...]:
    """Names of the classes in the network's order, checked."""
    names = config.id2label
    if sorted(names) != list(range(len(names))) or not names:
        raise OtoscopeError(f"{file}: id2label must name the classes 0, 1, 2 …; correct it")
    try:
        labels = [clean_text(str(names[index]), "a label") for index in range(len(names))]
    except OtoscopeError as error:
        raise OtoscopeError(f"{file}: {error}") from None
    if len(set(labels)) < len(labels):
        twice = Counter(labels).most_common(1)[0][0]
        raise OtoscopeError(f"{file}: two labels are called {twice!r}; name each class once in id2label")
    return tuple(labels)


def _complete(path: Path, report: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Refuse weights that transformers would draw at random; note those it leaves out."""
    missing = [key for key in sorted(report["missing_keys"]) if not key.endswith(HARMLESS_MISSING)]
    missing += sorted(str(entry) for entry in report.get("mismatched_keys", ()))
    if missing:
        named = settings.get("architectures") or "another task"
        made_for = one_line(", ".join(map(str, named)) if isinstance(named, list) else str(named))
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise OtoscopeError(
            f"{path}: its weights lack {missing[0]}{more}, which would be random (saved as {made_for:.80}); "
            "train and save it as a model for audio classification"
        )
    unused = sorted(report["unexpected_keys"])
    return [f"{len(unused)} weights of the file belong to no part of this model: {unused[0]!r:.80} …"] if unused else []


def _without_dither(extractor: Any) -> list[str]:
    """Leave out the noise an extractor would add: no answer would come twice."""
    if not getattr(extractor, "dither", 0):
        return []
    extractor.dither = 0.0
    return ["the noise (dither) of the model's feature extractor is left out, so that answers repeat"]


@contextmanager
def _told(path: Path, transformers: Any) -> Iterator[None]:
    """Turn what transformers says of a folder into one line."""
    import huggingface_hub.errors

    strict = getattr(huggingface_hub.errors, "StrictDataclassError", ValueError)
    try:
        yield
    except OtoscopeError:
        raise
    except (*FAULTS, strict) as error:
        raise OtoscopeError(
            f"{path}: transformers {transformers.__version__} cannot load it ({first_line(error)}); get it again, "
            "or save it with this version"
        ) from None
