"""Effects: what a model and a mid-level model said to a corpus, from which level one of any target is fitted.

Both models' answers to every span are kept, not the fits, so that every target, scale and contrast has its
`otoscope.explainers.linear.Level` without a new call. They lie in one ``.npz`` file: the arrays, and under ``json`` the
rest with ``schema: "otoscope/effects/1"``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import Floats, Model, Output
from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.linear import Level, fit_level
from otoscope.explainers.shares import Ints
from otoscope.explainers.targets import CLIP, Scale, Target, on_scale

SCHEMA = "otoscope/effects/1"
MIN_SPANS = 100
MOST_FEATURES = 12  # the shares ask about all 2^d subsets
ARRAYS = ("features", "scores", "recordings")


@dataclass(frozen=True, eq=False)
class Effects:
    """What a model and a mid-level model said to the spans of a corpus.

    Attributes
    ----------
    features : ndarray, shape (n, d)
        Answers of the mid-level model.
    scores : ndarray, shape (n, n_classes)
        Answers of the explained model.
    recordings : ndarray of int, shape (n,)
        Which recording each span comes from, counted from 0.
    names : tuple of str, length d
        Of the features.
    labels : tuple of str, length n_classes
    output : {"softmax", "sigmoid", "regression"}
    fingerprint, midlevel : str
        Of the two models.
    corpus : str
        Hash of the recordings and of where the spans lie.
    seconds : float
        Length of a span.
    about : str
        What the corpus is, in words.
    notes : tuple of str
        What the reader must know of it, such as recordings that could not be read.
    """

    features: Floats
    scores: Floats
    recordings: Ints
    names: tuple[str, ...]
    labels: tuple[str, ...]
    output: Output
    fingerprint: str
    midlevel: str
    corpus: str
    seconds: float
    about: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the arrays belong together and suffice."""
        n = len(self.features)
        shapes = (n, len(self.names)), (n, len(self.labels)), (n,)
        for name, shape in zip(ARRAYS, shapes, strict=True):
            array = getattr(self, name)
            if array.shape != shape:
                raise OtoscopeError(f"effects: {name} have shape {array.shape}, need {shape}")
            if not np.isfinite(array).all():
                raise OtoscopeError(f"effects: {name} hold NaN or infinite values")
        if self.output not in get_args(Output):
            raise OtoscopeError(f"effects: output must be one of {', '.join(get_args(Output))}, got {self.output!r}")
        check_features(self.names)
        if n < MIN_SPANS:
            raise OtoscopeError(
                f"the corpus holds {n} spans of {self.seconds:g} s that could be heard, and a fit needs at least "
                f"{MIN_SPANS}; add recordings"
            )
        if len(np.unique(self.recordings)) < 2 or self.recordings.min() < 0:
            raise OtoscopeError("the corpus holds one recording only, so none can be held out; add recordings")

    def level(self, target: Target, scale: Scale, *, clip: float = CLIP, seed: int = 0) -> Level:
        """Fit a target on a scale."""
        values = on_scale(self.scores, target, self.output, scale, clip=clip)
        return fit_level(self.features, np.asarray(values), self.recordings, self.names, seed=seed)

    def save(self, path: str | Path) -> Path:
        """Write into one ``.npz`` file, whole or not at all; the same effects give the same bytes."""
        path = Path(path)
        about = {"schema": SCHEMA, **{key: getattr(self, key) for key in TOLD}}
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        arrays["json"] = np.array(json.dumps(about, ensure_ascii=False, sort_keys=True))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as partial:
                np.savez_compressed(partial, allow_pickle=False, **arrays)
        except OSError as error:
            raise OtoscopeError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
        return path


def check_features(names: tuple[str, ...]) -> None:
    """Refuse a mid-level model with too many features."""
    if not 1 <= len(names) <= MOST_FEATURES:
        raise OtoscopeError(
            f"a mid-level model may have up to {MOST_FEATURES} features, this one has {len(names)}; name another"
        )


def find_feature(name: str, names: tuple[str, ...]) -> int:
    """Find a feature by its name, spaces and case aside.

    Raises
    ------
    OtoscopeError
        If there is none of that name.

    Examples
    --------
    >>> find_feature("Tonal stability", ("minorness", "tonal_stability"))
    1
    """
    folded = [one.casefold().replace(" ", "_") for one in names]
    wanted = name.strip().casefold().replace(" ", "_")
    if wanted not in folded:
        raise unknown("feature", name, names)
    return folded.index(wanted)


TOLD = ("names", "labels", "output", "fingerprint", "midlevel", "corpus", "seconds", "about", "notes")
LISTS = ("names", "labels", "notes")


def load_effects(path: str | Path) -> Effects:
    """Read effects from a file.

    Raises
    ------
    OtoscopeError
        If it cannot be read, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise OtoscopeError(f"{path}: no such file; name one that holds effects (.npz)")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            about = json.loads(str(file["json"]))
            arrays = {name: file[name] for name in ARRAYS}
        if about["schema"] != SCHEMA:
            raise OtoscopeError(f"has schema {about['schema']!r}; this version reads {SCHEMA!r}")
        told: dict[str, Any] = {key: tuple(map(str, about[key])) if key in LISTS else about[key] for key in TOLD}
        kinds = {"features": np.float64, "scores": np.float64, "recordings": np.int64}
        told |= {name: arrays[name].astype(kind, casting="safe") for name, kind in kinds.items()}
        return Effects(**told)
    except OtoscopeError as error:
        raise OtoscopeError(f"{path}: {error}") from None
    except Exception as error:  # noqa: BLE001 - zip, array and JSON readers raise of every kind on damaged files
        raise OtoscopeError(f"{path}: holds no effects ({error}); fit them again with --corpus") from None


@dataclass(frozen=True)
class TwoLevel:
    """What the two-level method needs besides the model: a mid-level model, and the effects of its features."""

    midlevel: Model
    effects: Effects
