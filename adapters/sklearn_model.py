"""Estimators of scikit-learn: kind ``sklearn``, a classifier or regressor on features of the sound.

``[model.settings]`` names the features and their settings (`otoscope.adapters.features`)::

    [model.settings]
    features = "mfcc"
    n_mfcc = 13
    statistics = ["mean", "std"]

Files written by skops are read without running anything; types that skops does not know need trust, and the error names
them. So do types that it knows but that do more than calculate: a `CountVectorizer` opens every file whose name it is
given, and a classifier before it in the pipeline can give it any name. Only the modules of `NUMERIC` need no trust.
Pickles and joblib files run what they like, so they need trust always.

What the estimator is asked for: probabilities where it has them ("softmax", or "sigmoid" where each class is decided
for itself), else its decision values or, of a regressor, its predictions ("regression"). A card that says ``output`` is
held to it. The columns are the card's labels in their order, which is that of the estimator's ``classes_``.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from otoscope.adapters.archives import shown
from otoscope.adapters.card import Card, sha256_of
from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.features import EXTRACTORS, Features, count_cells, extract, feature_names
from otoscope.adapters.loading import Loading, require
from otoscope.adapters.model import Float32, Floats, Output, probe_sounds
from otoscope.adapters.safety import open_checked
from otoscope.adapters.wrap import CallableModel, from_function

SETTINGS = tuple(EXTRACTORS.values())
N_TRIALS = 4  # sounds that an estimator is tried on when it is loaded

# What only calculates. Not among them: feature_extraction, which opens files, and datasets, which fetches them.
SKLEARN = (
    "_loss base calibration cluster compose covariance cross_decomposition decomposition discriminant_analysis dummy "
    "ensemble feature_selection frozen gaussian_process impute isotonic kernel_approximation kernel_ridge linear_model "
    "manifold metrics mixture model_selection multiclass multioutput naive_bayes neighbors neural_network pipeline "
    "preprocessing random_projection semi_supervised svm tree utils"
)
NUMERIC = (*(f"sklearn.{name}" for name in SKLEARN.split()), "builtins", "collections", "numpy", "scipy")

Way = Literal["predict_proba", "decision_function", "predict"]


def from_card(card: Card, loading: Loading) -> CallableModel:
    """Load the estimator that a card describes.

    Raises
    ------
    OtoscopeError
        If the file cannot be read without trust, or the estimator does not fit the features or the labels.
    """
    card.refuse("returns", "answer", "pool")
    rate, n_samples = card.waveform()
    settings = read_settings(card)
    count_cells(n_samples or rate, rate, settings)
    file = card.weights
    estimator, notes = load_estimator(file, loading)
    trial = extract(probe_sounds(rate, n_samples or rate)[:N_TRIALS], rate, settings)  # says at once what cannot be
    _check_features(estimator, settings)
    way, output = _way(estimator, trial, card)
    _check_labels(estimator, way, _scores(estimator, way, trial), card.labels)

    def score(waveforms: Float32) -> Floats:
        return _scores(estimator, way, extract(waveforms, rate, settings))

    about = [sha256_of(file), asdict(settings), card.labels, rate, n_samples, way, output]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return from_function(card, loading, score, output=output, digest=digest, notes=notes)


def read_settings(card: Card) -> Features:
    """Read which features the card names, and their settings."""
    name = card.model.settings.get("features")
    if name is None:
        raise OtoscopeError(f"[model.settings] lacks 'features', one of {', '.join(EXTRACTORS)}; add it")
    if not isinstance(name, str):
        raise OtoscopeError(
            f"features must be one of {', '.join(EXTRACTORS)}, with their settings beside it: "
            'features = "mfcc", n_mfcc = 13; own features: kind = "python"'
        )
    if name not in EXTRACTORS:
        raise OtoscopeError(f'{unknown("features", name, EXTRACTORS)}; own features: kind = "python"')
    return card.settings(EXTRACTORS[name])


def load_estimator(path: Path, loading: Loading) -> tuple[Any, tuple[str, ...]]:
    """Read an estimator, and what is to be noted about it.

    Parameters
    ----------
    path : Path
        Written by skops, pickle or joblib.
    loading : Loading

    Returns
    -------
    estimator : object
    notes : tuple of str
        Where it was fitted by another version of scikit-learn.

    Raises
    ------
    OtoscopeError
        If the file holds no estimator, or reading it would run code that nobody allowed.
    """
    remedy = "save it again by skops.io.dump, which needs no trust"
    found = open_checked(path, ("skops", "pickle"), trust=loading.trust, remedy=remedy)
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InconsistentVersionWarning)
        estimator = _read_skops(path, loading) if found.kind == "skops" else _read_pickle(path)
    told = [warning for warning in caught if issubclass(warning.category, InconsistentVersionWarning)]
    for warning in caught:
        if warning not in told:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if not any(hasattr(estimator, name) for name in ("predict_proba", "decision_function", "predict")):
        raise OtoscopeError(f"{path}: holds {_name(estimator)}, which cannot predict; save a fitted estimator")
    return estimator, _notes([warning.message for warning in told])


def _read_skops(path: Path, loading: Loading) -> Any:
    """Read a file of skops; unknown types are asked about first."""
    with _unseen("torch"):
        io = require("skops.io", "sklearn")
    wrong = (
        io.exceptions.UnsupportedTypeException,
        io.exceptions.UntrustedTypesFoundException,
        zipfile.BadZipFile,
        AttributeError,
        EOFError,
        ImportError,
        KeyError,
        NotImplementedError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    )
    try:
        types = io.get_untrusted_types(file=path)
        beyond = _beyond_numbers(path)
    except wrong as error:
        raise _unreadable(path, error) from None
    if types:
        loading.run_code(path, f"code of types that skops does not know: {', '.join(types)}"[:400])
    if beyond:
        loading.run_code(path, f"estimators that may open files or do more than calculate: {', '.join(beyond)}"[:400])
    try:
        return io.load(path, trusted=types)
    except wrong as error:
        raise _unreadable(path, error) from None


def _beyond_numbers(path: Path) -> list[str]:
    """Name the types in a file of skops whose modules are not among the numeric ones.

    Every table of the schema is looked at, whether skops would make an object of it or not.
    """
    with zipfile.ZipFile(path) as archive:
        rest = [json.loads(archive.read("schema.json"))]
    found = set[str]()
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            module = node.get("__module__")
            if module is not None and not any(f"{module}.".startswith(f"{name}.") for name in NUMERIC):
                found.add(shown(f"{module}.{node.get('__class__')}"[:100]))
            rest += node.values()
        elif isinstance(node, list):
            rest += node
    return sorted(found)


@contextmanager
def _unseen(name: str) -> Iterator[None]:
    """Keep a framework from being imported for a moment.

    skops walks through all modules of scikit-learn, one of which imports torch, for seconds, where it is installed.
    """
    there = name in sys.modules
    if not there:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not there:
            del sys.modules[name]


def _read_pickle(path: Path) -> Any:
    """Read a trusted pickle or joblib file."""
    joblib = require("joblib", "sklearn")

    try:
        return joblib.load(path)
    except Exception as error:  # whatever the pickle runs
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> OtoscopeError:
    return OtoscopeError(f"{path}: cannot be read ({reason(error)}); install what it needs, or save it again")


def reason(error: BaseException) -> str:
    """Say an exception in one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def _notes(messages: list[Any]) -> tuple[str, ...]:
    """Say once that the estimator was fitted by another version."""
    if not messages:
        return ()
    first = messages[0]
    versions = f"{first.original_sklearn_version}, read by {first.current_sklearn_version}"
    return (f"fitted by scikit-learn {versions}; its answers may differ from those of the original",)


def _name(estimator: object) -> str:
    return type(estimator).__name__


def _check_features(estimator: Any, settings: Features) -> None:
    """Hold the number of features against what the estimator was fitted on."""
    wanted, given = getattr(estimator, "n_features_in_", None), len(feature_names(settings))
    if wanted is not None and wanted != given:
        raise OtoscopeError(
            f"{_name(estimator)} was fitted on {wanted} features, [model.settings] makes {given}; "
            "set them as they were in training"
        )


def _way(estimator: Any, trial: Floats, card: Card) -> tuple[Way, Output]:
    """Decide what to ask the estimator for; the card may say."""
    said: Output | None = card.model.output if "output" in card.tables["model"] else None
    name = _name(estimator)
    if said != "regression" and hasattr(estimator, "predict_proba"):
        natural = _kind_of(estimator, trial)
        if said == "softmax" != natural:
            raise OtoscopeError(f'{name} decides each class for itself; say output = "sigmoid"')
        return "predict_proba", said or natural
    if said not in (None, "regression"):
        raise OtoscopeError(f'{name} gives no probabilities; say output = "regression", or fit one that gives them')
    if hasattr(estimator, "decision_function"):
        return "decision_function", "regression"
    if hasattr(estimator, "classes_"):
        raise OtoscopeError(f"{name} gives names of classes only; fit one that gives probabilities")
    return "predict", "regression"


def _kind_of(estimator: Any, trial: Floats) -> Output:
    """Judge whether probabilities exclude each other, by what the estimator says of itself and by their sums."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    raw = _ask(estimator, "predict_proba", trial)
    if isinstance(raw, list) or getattr(last, "multilabel_", False):
        return "sigmoid"
    rows = np.asarray(raw)
    return "softmax" if rows.ndim == 2 and np.allclose(rows.sum(axis=1), 1, atol=1e-3) else "sigmoid"


def _ask(estimator: Any, way: Way, features: Floats) -> Any:
    """Ask the estimator about features (n, n_features)."""
    with warnings.catch_warnings():
        # Fitted on a table with names; features here have an order only.
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        try:
            return getattr(estimator, way)(features)
        except Exception as error:  # the estimator may be of any library
            raise OtoscopeError(f"{_name(estimator)}.{way} fails ({reason(error)})") from error


def _scores(estimator: Any, way: Way, features: Floats) -> Floats:
    """Ask the estimator about features (n, n_features); scores (n, n_classes)."""
    raw = _ask(estimator, way, features)
    if isinstance(raw, list):  # several yes-or-no outputs, each (n, 2)
        if any(np.ndim(output) != 2 or np.shape(output)[1] != 2 for output in raw):
            raise OtoscopeError(f"{_name(estimator)} has outputs of more than yes and no; explain one output at a time")
        raw = np.stack([output[:, 1] for output in raw], axis=1)
    scores = np.asarray(raw)
    return scores[:, None] if scores.ndim == 1 else scores


def _check_labels(estimator: Any, way: Way, scores: Floats, labels: tuple[str, ...]) -> None:
    """Hold the labels against the estimator's columns and the names of its classes."""
    if scores.shape[1:] != (len(labels),):
        raise OtoscopeError(
            f"{_name(estimator)}.{way} gives {scores.shape[-1]} columns, the card has {len(labels)} labels; "
            "name each column"
        )
    classes = getattr(estimator, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.dtype.kind not in "UO":
        return
    names = tuple(map(str, classes))
    if way == "decision_function" and len(names) == 2 and labels == names[:1]:
        raise OtoscopeError(
            f"the estimator's values are high for {names[1]}, not {names[0]}; call the label {names[1]}"
        )
    if len(names) == len(labels):
        if names != labels and sorted(names) == sorted(labels):
            raise OtoscopeError(f"the estimator's columns are {', '.join(names)[:300]}; give the labels in this order")
