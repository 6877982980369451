"""Let transformers build the model of a folder, and believe nothing it only logs.

`otoscope.adapters.vendor_files` has read settings and weights; transformers builds the network from them. What it then
says of the weights is taken seriously: one that the file lacks is an error, for transformers would draw it at random
(the head of a model made for another task) and say so in its log only, and the explanation would be one of chance.
Labels are checked, noise that an extractor would add is left out, and nothing is printed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.loading import Loading, require
from otoscope.adapters.safety import clean_text
from otoscope.adapters.vendor_files import (
    CONFIG,
    FAULTS,
    PREPROCESSOR,
    first_line,
    read_config,
    read_preprocessor,
    read_weights,
)

VOLATILE = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")
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
    state = read_weights(path, loading)
    with _quiet(transformers), _told(path, transformers):
        config = _config(path, settings, transformers, trust=loading.trust)
        labels = _labels(path / CONFIG, config)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(
            str(path), config=config, local_files_only=True, trust_remote_code=loading.trust
        )
        network = _network(path, config, settings, transformers)
        model, report = network.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    if not isinstance(getattr(extractor, "sampling_rate", None), int):
        raise OtoscopeError(f"{path}: its feature extractor states no sampling_rate; add it to {PREPROCESSOR}")
    notes = [*_complete(path, report, settings), *_without_dither(extractor)]
    plain = {key: value for key, value in settings.items() if key not in VOLATILE}
    digest = hashlib.sha256(json.dumps([plain, heard], sort_keys=True).encode()).hexdigest()
    return Folder(path, model.float().eval(), extractor, labels, digest, tuple(notes))


def _config(path: Path, settings: Mapping[str, Any], transformers: Any, *, trust: bool) -> Any:
    """Build the configuration of an audio classifier."""
    kind = settings.get("model_type")
    if settings.get("auto_map") is None and (not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING):
        raise OtoscopeError(
            f"{path / CONFIG}: transformers {transformers.__version__} knows no model_type {kind!r:.60}; "
            "update transformers, or give a model of a type it ships"
        )
    config = transformers.AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=trust)
    known = transformers.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING
    if type(config) not in known and settings.get("auto_map") is None:
        fitting = ", ".join(sorted(one.model_type for one in known))
        raise OtoscopeError(f"{path / CONFIG}: {kind} models classify no audio; give one of {fitting}")
    return config


def _network(path: Path, config: Any, settings: Mapping[str, Any], transformers: Any) -> Any:
    """Find the class of the network; the folder's own only where it is trusted by now."""
    own = settings.get("auto_map", {}).get("AutoModelForAudioClassification")
    if own is None:
        return transformers.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING[type(config)]
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    return get_class_from_dynamic_module(own, str(path), local_files_only=True)


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
        twice = next(label for label in labels if labels.count(label) > 1)
        raise OtoscopeError(f"{file}: two labels are called {twice!r}; name each class once in id2label")
    return tuple(labels)


def _complete(path: Path, report: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Refuse weights that transformers would draw at random; note those it leaves out."""
    missing = [key for key in sorted(report["missing_keys"]) if not key.endswith(HARMLESS_MISSING)]
    missing += sorted(str(entry) for entry in report.get("mismatched_keys", ()))
    if missing:
        made_for = ", ".join(map(str, settings.get("architectures") or ["another task"]))
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise OtoscopeError(
            f"{path}: its weights lack {missing[0]}{more}, which would be random (saved as {made_for:.80}); "
            "train and save it as a model for audio classification"
        )
    unused = sorted(report["unexpected_keys"])
    return [f"{len(unused)} weights of the file belong to no part of this model: {unused[0]} …"] if unused else []


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


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers' log and progress bars off the terminal for a moment."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # The AST's own 128 bands are finer than its bins; that is how it was trained.
            warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
