"""Targets and scales: which number of the model is explained.

A *target* is a label, an index, ``top``, or a contrast ``A-B``. The *scale* says in which units its score is explained.
Probabilities are explained as log-odds by default, because a saturated probability hides what carried it:

==========  ==================================  =================
output      log_odds                            contrast ``A-B``
==========  ==================================  =================
softmax     ln p − ln Σ others                  ln p_A − ln p_B
sigmoid     ln p − ln (1 − p)                   difference of logits
regression  (not offered: explained as value)   difference of values
==========  ==================================  =================

with p clipped to [clip, 1 − clip]. On the scale ``score`` a contrast is the plain difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import Output

Floats = npt.NDArray[np.float64]
Scale = Literal["log_odds", "score"]

CLIP = 1e-6


@dataclass(frozen=True)
class Target:
    """One class, or one against another.

    Attributes
    ----------
    index : int
        Column of the scores.
    against : int or None
        Column of the class it is contrasted with.
    name : str
        Label, or ``A-B``.
    """

    index: int
    against: int | None
    name: str


def resolve_target(target: str | int, labels: tuple[str, ...], output: Output, scores: Floats | None = None) -> Target:
    """Find what a target means for a model.

    Parameters
    ----------
    target : str or int
        A label (exact, else regardless of case), an index, ``top``, or a contrast ``A-B`` of two labels.
    labels : tuple of str
    output : {"softmax", "sigmoid", "regression"}
    scores : ndarray, shape (n_classes,), optional
        Needed for ``top``.

    Raises
    ------
    OtoscopeError
        If there is no such label (naming the nearest), or ``top`` of several regression outputs is asked for.

    Examples
    --------
    >>> resolve_target("rock-jazz", ("rock", "jazz"), "softmax")
    Target(index=0, against=1, name='rock-jazz')
    """
    if target == "top" and "top" not in labels:
        return _top(labels, output, scores)
    index = _find(target, labels)
    if index is not None:
        return Target(index, None, labels[index])
    text = str(target)
    for cut in (i for i, letter in enumerate(text) if letter == "-"):
        first, second = _find(text[:cut], labels), _find(text[cut + 1 :], labels)
        if first is not None and second is not None and first != second:
            return Target(first, second, f"{labels[first]}-{labels[second]}")
    raise unknown("target", target, (*labels, "top"))


def _top(labels: tuple[str, ...], output: Output, scores: Floats | None) -> Target:
    if output == "regression" and len(labels) > 1:
        raise OtoscopeError(f"'top' means nothing for several values; name one of: {', '.join(labels)}")
    index = int(np.argmax(scores)) if scores is not None else 0
    return Target(index, None, labels[index])


def _find(target: str | int, labels: tuple[str, ...]) -> int | None:
    """Column of a label or index."""
    if isinstance(target, str) and target in labels:
        return labels.index(target)
    folded = [label.casefold() for label in labels]
    text = str(target).strip().casefold()
    if text and folded.count(text) == 1:
        return folded.index(text)
    if text.isdecimal() and int(text) < len(labels):
        return int(text)
    return None


def default_scale(output: Output) -> Scale:
    """Log-odds for probabilities, the value itself for regression."""
    return "score" if output == "regression" else "log_odds"


def on_scale(scores: Floats, target: Target, output: Output, scale: Scale, *, clip: float = CLIP) -> Floats:
    """Bring scores (…, n_classes) to the explained scale, shape (…).

    Raises
    ------
    OtoscopeError
        If log-odds are asked of a regression.
    """
    chosen = scores[..., target.index]
    other = None if target.against is None else scores[..., target.against]
    if scale == "score":
        return chosen if other is None else chosen - other
    if output == "regression":
        raise OtoscopeError("log-odds exist for probabilities only; use --scale score")
    if other is None:
        return _log_odds(chosen, clip)
    if output == "softmax":
        return np.asarray(np.log(np.clip(chosen, clip, 1)) - np.log(np.clip(other, clip, 1)))
    return _log_odds(chosen, clip) - _log_odds(other, clip)


def clipped_share(scores: Floats, target: Target, output: Output, scale: Scale, *, clip: float = CLIP) -> float:
    """Share of the scores that the log-odds scale had to clip."""
    if scale == "score" or output == "regression":
        return 0.0
    columns = [target.index] if target.against is None else [target.index, target.against]
    chosen = scores[..., columns]
    most = 1 if target.against is not None and output == "softmax" else 1 - clip
    return float(np.mean((chosen < clip) | (chosen > most)))


def _log_odds(p: Floats, clip: float) -> Floats:
    p = np.clip(p, clip, 1 - clip)
    return np.asarray(np.log(p) - np.log1p(-p))
