"""Level one fitted at the door: a model, a mid-level model and a corpus become the effects of its features.

A fit needs a corpus of at least 100 spans; for a model that comes with the package a fit may be shipped beside its
weights, as ``NAME-effects.npz`` (`write_effects` makes such a file). It is found by the model's fingerprint, so it can
never be taken for another version's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

import otoscope.mer_models
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Model
from otoscope.adapters.registry import load_model
from otoscope.adapters.windows import SPAN_SECONDS
from otoscope.corpus import Corpus, find_corpus, listen, some, too_few
from otoscope.explainers.effects import MIN_SPANS, Effects, TwoLevel, check_features, load_effects
from otoscope.explainers.routes import Progress, quiet

Bar = Callable[[str], AbstractContextManager[Progress]]


def no_bar(_label: str) -> AbstractContextManager[Progress]:
    """Draw no progress bar."""
    return nullcontext(quiet)


def fit_effects(
    corpus: Corpus, model: Model, midlevel: Model, *, about: str = "", cache: Path | None = None, bar: Bar = no_bar
) -> Effects:
    """Ask both models about a corpus and keep what an effect is fitted from.

    Parameters
    ----------
    corpus : Corpus
    model, midlevel : Model
    about : str
        What the corpus is, in words; its folder's name where empty.
    cache : Path, optional
    bar : callable
        Makes a progress callback for a label.

    Raises
    ------
    OtoscopeError
        If too little could be heard, or the mid-level model has too many features.
    """
    check_features(midlevel.labels)
    with bar("corpus, model") as progress:
        said = listen(corpus, model, cache=cache, progress=progress)
    with bar("corpus, mid-level") as progress:
        named = listen(corpus, midlevel, cache=cache, progress=progress)
    heard = np.isfinite(said.scores).all(axis=1) & np.isfinite(named.scores).all(axis=1)
    left_out = [*corpus.unread, *dict.fromkeys((*said.left_out, *named.left_out))]
    if heard.sum() < MIN_SPANS:
        raise too_few(corpus, int(heard.sum()), left_out)
    recordings = np.repeat(np.arange(len(corpus.files)), [len(starts) for starts in corpus.starts])[heard]
    count = "1 recording" if len(left_out) == 1 else f"{len(left_out)} recordings"
    return Effects(
        features=named.scores[heard],
        scores=said.scores[heard],
        recordings=np.unique(recordings, return_inverse=True)[1].astype(np.int64),
        names=midlevel.labels,
        labels=model.labels,
        output=model.output,
        fingerprint=model.fingerprint,
        midlevel=midlevel.fingerprint,
        corpus=corpus.sha256,
        seconds=corpus.seconds,
        about=about or corpus.folder.resolve().name,
        notes=(f"left out of the corpus: {count} ({some(left_out)})",) if left_out else (),
    )


def write_effects(
    path: str | Path, corpus: str | Path, model: Model, midlevel: Model, *, about: str = "", bar: Bar = no_bar
) -> Path:
    """Fit a model's effects over a folder of recordings and write them into a file, e.g. ``NAME-effects.npz``."""
    return fit_effects(find_corpus(corpus, seconds=span_seconds(model)), model, midlevel, about=about, bar=bar).save(
        path
    )


def span_seconds(model: Model) -> float:
    """Length of the spans a model is explained on, in seconds."""
    return max(SPAN_SECONDS, (model.n_samples or 0) / model.rate)


def shipped_effects(fingerprint: str) -> Effects | None:
    """Find the effects that come with the package for the model with this fingerprint."""
    for path in sorted(Path(otoscope.mer_models.__file__).parent.glob("*-effects.npz")):
        effects = load_effects(path)
        if effects.fingerprint == fingerprint:
            return effects
    return None


def fit_two_level(
    model: Model,
    midlevel: Model | None = None,
    corpus: str | Path | None = None,
    *,
    cache: Path | None = None,
    bar: Bar = no_bar,
) -> TwoLevel:
    """Make what the two-level method needs.

    Parameters
    ----------
    model : Model
        The one to be explained.
    midlevel : Model, optional
        A model of up to 12 features that people can name; ``load_model("midlevel")`` where None.
    corpus : str or Path, optional
        Folder with recordings for at least 100 spans; where None the fit that comes with the package, if there is one.
    cache : Path, optional
    bar : callable

    Raises
    ------
    OtoscopeError
        If there is no corpus and no fit, or the corpus is too small.
    """
    midlevel = load_model("midlevel") if midlevel is None else midlevel
    if corpus is not None:
        found = find_corpus(corpus, seconds=span_seconds(model))
        return TwoLevel(midlevel, fit_effects(found, model, midlevel, cache=cache, bar=bar))
    effects = shipped_effects(model.fingerprint)
    if effects is None:
        raise OtoscopeError(
            "no effects are shipped for this model; give --corpus, a folder with recordings for at least "
            f"{MIN_SPANS} spans of {span_seconds(model):g} s"
        )
    if effects.midlevel != midlevel.fingerprint:
        raise OtoscopeError("the effects that are shipped for this model are of another mid-level model; give --corpus")
    return TwoLevel(midlevel, effects)
