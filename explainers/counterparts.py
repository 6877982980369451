"""Counterparts: which label of one model stands for which of another, so that both are asked about the same thing.

Models seldom share labels: what one calls ``happy`` another calls ``exuberance``. In this order:

1. a *mapping*, a TOML file with one table per concept, in it the label of each model by the model's name::

       [happy]
       piano-emotion = "happy"
       harmonics = "exuberance"
       msd-musicnn = "happy"

   A target is then a concept; ``top`` is the concept whose label scores highest with the first model. Tables may name
   further models, so that one file serves many comparisons;
2. the same label (regardless of case), where every model has it;
3. on request, the label whose scores rise and fall with those of the first model's target: Spearman's correlation
   over stretches of all recordings, of which there must be `LEAST` at least;
4. each model's own top label, where ``top`` was asked for: the targets differ then, which is noted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import Model
from otoscope.adapters.spectra import Floats
from otoscope.adapters.toml_text import read_toml
from otoscope.adapters.windows import Windowed
from otoscope.explainers.targets import Target, resolve_target

LEAST = 5  # stretches, from which a correlation says something
MOST = 24  # stretches of a recording

Concepts = dict[str, dict[str, str]]  # label of each model, by concept and by the model's name
Models = Mapping[str, Model]


@dataclass(frozen=True)
class Counterpart:
    """What a model is asked about.

    Attributes
    ----------
    target : str
        Label, contrast, or ``top``.
    stands_for : str
        The concept, or the first model's label that it is taken to mean; empty where it is the model's own.
    correlation : float or None
        Where it was found by correlation.
    """

    target: str
    stands_for: str
    correlation: float | None = None


def read_mapping(path: Path) -> Concepts:
    """Read a mapping file.

    Raises
    ------
    OtoscopeError
        If it cannot be read, or holds anything but tables of labels.
    """
    concepts = {}
    for concept, labels in read_toml(path, what="mapping file").items():
        if not isinstance(labels, dict) or not labels or not all(isinstance(one, str) for one in labels.values()):
            raise OtoscopeError(
                f'{path}: [{concept}] must be a table of labels by model, such as harmonics = "sadness"'
            )
        concepts[concept] = dict(labels)
    if not concepts:
        raise OtoscopeError(f'{path}: maps nothing; give tables such as [sad] with lines such as harmonics = "sadness"')
    return concepts


def check_mapping(path: Path, concepts: Concepts, models: Models, targets: Sequence[str]) -> Concepts:
    """Refuse labels that a model does not have and targets that are no concept; give the concepts all models have.

    Raises
    ------
    OtoscopeError
    """
    for concept, labels in concepts.items():
        for name in models.keys() & labels.keys():
            try:
                resolve_target(labels[name], models[name].labels, models[name].output)
            except OtoscopeError as error:
                raise OtoscopeError(f"{path}: [{concept}] {name}: {error}") from None
    whole = {concept: labels for concept, labels in concepts.items() if models.keys() <= labels.keys()}
    for target in targets:
        if target != "top" and target not in concepts:
            raise OtoscopeError(f"{path}: {unknown('concept', target, (*concepts, 'top'))}")
        if target != "top" and target not in whole:
            missing = next(name for name in models if name not in concepts[target])
            raise OtoscopeError(f"{path}: [{target}] names no label of {missing}; add one")
    if not whole:
        missing = next(name for name in models if any(name not in labels for labels in concepts.values()))
        raise OtoscopeError(f"{path}: no concept names a label of every model ({missing} lacks one); add them")
    return whole


def by_mapping(concepts: Concepts, target: str, models: Models, scores: Floats) -> dict[str, Counterpart]:
    """Find what each model is asked about by a mapping that names all of them.

    Parameters
    ----------
    concepts : dict
        See `check_mapping`.
    target : str
        A concept, or ``top``.
    models : dict of Model
    scores : ndarray, shape (n_classes,)
        Of the first model.
    """
    name, first = next(iter(models.items()))
    if target == "top":
        indices = {
            concept: resolve_target(labels[name], first.labels, first.output).index
            for concept, labels in concepts.items()
        }
        target = max(indices, key=lambda concept: float(scores[indices[concept]]))
    return {one: Counterpart(concepts[target][one], target) for one in models}


def by_label(
    target: Target, asked: str, models: Models, likeness: Mapping[str, Floats] | None
) -> dict[str, Counterpart]:
    """Find what each model is asked about by the same label, else by likeness, else by its own top.

    Parameters
    ----------
    target : Target
        Of the first model.
    asked : str
        As the user put it.
    models : dict of Model
    likeness : dict of ndarray, each (n_classes of the first model, n_classes)
        Correlations of scores with those of the first model, by name; None where they are not to be used.

    Raises
    ------
    OtoscopeError
        If a model has no such label and there is no other way.
    """
    found = {}
    for place, (name, model) in enumerate(models.items()):
        if place == 0 or has(model, target.name):
            found[name] = Counterpart(target.name, target.name)
        elif likeness is not None and target.against is None:
            row = likeness[name][target.index]
            best = int(row.argmax())
            found[name] = Counterpart(model.labels[best], target.name, round(float(row[best]), 4))
        elif asked == "top" and target.against is None:
            found[name] = Counterpart("top", "")
        else:
            raise OtoscopeError(
                f"{name}: {unknown('target', target.name, model.labels)}; say by --mapping which label stands for it, "
                "or let --match correlation find one"
            )
    return found


def has(model: Model, label: str) -> bool:
    """Whether a model has a label or a contrast of that name."""
    try:
        return resolve_target(label, model.labels, model.output).name.casefold() == label.casefold()
    except OtoscopeError:
        return False


def likenesses(models: Models, recordings: Sequence[Audio], seconds: float) -> dict[str, Floats]:
    """Correlate the scores of all models with those of the first over stretches of recordings.

    Parameters
    ----------
    models : dict of Model
    recordings : sequence of Audio
    seconds : float
        Length of a stretch; each begins half of it after the one before.

    Returns
    -------
    dict of ndarray, each (n_classes of the first model, n_classes)
        Spearman's; 0 where a score does not vary.

    Raises
    ------
    OtoscopeError
        If there are fewer than five stretches.
    """
    places = [(audio, start) for audio in recordings for start in _starts(audio, seconds)]
    if len(places) < LEAST:
        raise OtoscopeError(
            f"--match correlation needs {LEAST} stretches of {seconds:g} s at least, these recordings hold "
            f"{len(places)}; give more, or say by --mapping which labels belong together"
        )
    scores = {name: np.stack(_scores(model, recordings, seconds)) for name, model in models.items()}
    first = next(iter(scores.values()))
    return {name: correlations(first, other) for name, other in scores.items()}


def _starts(audio: Audio, seconds: float) -> Floats:
    """Where the stretches of a recording begin, in seconds, shape (n,)."""
    last = max(0.0, audio.seconds - seconds)
    return np.asarray(np.floor(100 * np.linspace(0, last, min(MOST, 1 + int(2 * last / seconds)))) / 100)


def _scores(model: Model, recordings: Sequence[Audio], seconds: float) -> list[Floats]:
    found = []
    for audio in recordings:
        own = audio.at(model.rate)
        for start in _starts(audio, seconds):
            samples = own.cut(float(start), seconds).samples
            found.append(Windowed(model, len(samples)).predict(samples[None])[0])
    return found


def correlations(first: Floats, second: Floats) -> Floats:
    """Spearman's correlation of every column of one table with every column of another.

    Parameters
    ----------
    first, second : ndarray, shapes (n, n_first) and (n, n_second)

    Returns
    -------
    ndarray, shape (n_first, n_second)
        0 where a column does not vary.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(one, axis=0) - (len(one) + 1) / 2 for one in (first, second)]
    sizes = [np.sqrt((one**2).sum(axis=0)) for one in ranks]
    units = [np.where(size > 0, one / np.where(size > 0, size, 1), 0) for one, size in zip(ranks, sizes, strict=True)]
    return np.asarray(np.clip(units[0].T @ units[1], -1, 1))
