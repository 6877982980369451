"""What one explanation is worth: every metric that fits it, from its own round trip, curves, map and calls.

What the functions of `otoscope.explainers.faithfulness` are given here, and what none of them says:

==============================  ========================================================================================
deletion, insertion             areas on the *explained scale* (log-odds for probabilities), from the gates'
                                curves, in the order of the weights; a recording's value does not depend on others
gain                            insertion − deletion
gain_over_energy, …_random      gain − the gain of the same parts ordered by energy, or by chance (the mean)
comprehensiveness, sufficiency  on the score: a probability, a value, or a contrast's difference
AI, AD, AG, FF, Fid-In          of one class of a classifier, on probabilities, after one softmax or sigmoid; evidence
                                is the sound that is written as such; None for a regression or a contrast
SPS, COMP                       of the map on the common grid, in the bands that the model hears, *rectified*: L-MAC's
                                mask holds what speaks for the class, and so does the positive side of a signed map
infidelity                      over the calls behind the weights, scaled by β, in squared units of the scale; so it
                                tells methods apart that ask alike. None without such calls, or where they are no more
                                than the weights, which then fit them whatever the model says
top_3 … top_11                  top-k fidelity, by as many further calls
max_sensitivity                 only on request: largest relative change of the *map* (parts may change) in `DRAWS`
                                repeats with uniform noise of `RADIUS` of the recording's peak; each costs as much as
                                the explanation
seed_agreement                  correlation with another seed, from ``gates="full"``
seconds, calls                  of the explanation, gates included
==============================  ========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.model import Model
from otoscope.adapters.resampling import resampled
from otoscope.adapters.windows import Windowed
from otoscope.explainers import faithfulness as f
from otoscope.explainers.curves import Curves
from otoscope.explainers.evaluation_columns import COLUMNS, KS, RANKINGS
from otoscope.explainers.evidence import evidence_parts
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.gates import Figures, own_calls, weights_on
from otoscope.explainers.targets import Floats, on_scale

RADIUS = 1e-3  # of the recording's peak: 60 dB below it
DRAWS = 3


def measure(e: Explanation, model: Model) -> Figures:
    """Measure an explanation by every metric that needs no second one; see the module's text.

    Parameters
    ----------
    e : Explanation
    model : Model
        The explained one, which top-k fidelity asks once for each k.

    Returns
    -------
    dict
        By the names of `COLUMNS`; None where a metric does not fit. Deletion, insertion and gain of the orders by
        energy and by chance are called ``deletion.energy`` and so on.
    """
    return {
        **dict.fromkeys(COLUMNS),
        **_of_curves(e.curves),
        **_of_evidence(e),
        "sparseness": f.sparseness(_rectified(e)),
        "complexity": f.complexity(_rectified(e)),
        "infidelity": _infidelity(e),
        **_top_k(e, model),
        "seed_agreement": e.gates.get("seed"),
        "seconds": e.seconds,
        "calls": float(e.n_calls),
    }


def _of_curves(curves: Curves | None) -> Figures:
    if curves is None:
        return {}
    found: Figures = {}
    for place, ranking in enumerate(RANKINGS):
        end = "" if ranking == "own" else f".{ranking}"
        found[f"deletion{end}"] = f.area(curves.counts, curves.deletion[place])
        found[f"insertion{end}"] = f.area(curves.counts, curves.insertion[place])
    gains = dict(zip(RANKINGS, map(float, curves.gain()), strict=True))
    over = {f"gain_over_{other}": gains["own"] - gains[other] for other in RANKINGS[1:]}
    return {**found, "gain": gains["own"], **{f"gain.{other}": gains[other] for other in RANKINGS[1:]}, **over}


def _of_evidence(e: Explanation) -> Figures:
    trip = e.round_trip
    full, kept, rest = ([said.score] for said in (trip.original, trip.evidence, trip.complement))
    found = {"comprehensiveness": f.comprehensiveness(full, rest), "sufficiency": f.sufficiency(full, kept)}
    if e.output != "regression" and e.target.against is None:
        found |= {
            "average_increase": f.average_increase(full, kept),
            "average_drop": f.average_drop(full, kept),
            "average_gain": f.average_gain(full, kept),
            "faithfulness_to_filtering": f.faithfulness_to_filtering(full, rest),
        }
    if e.output != "regression" and len(e.labels) > 1:
        found["input_fidelity"] = f.input_fidelity([trip.original.all], [trip.evidence.all])
    return {name: float(values[0]) for name, values in found.items()}


def _rectified(e: Explanation) -> Floats:
    """Keep what speaks for the target, in the bands that the model hears."""
    return np.asarray(e.map[e.heard].clip(min=0))


def _infidelity(e: Explanation) -> float | None:
    if e.masks is None or e.scores is None or not own_calls(e) or len(e.masks) <= len(e.weights) + 1:
        return None
    values = on_scale(e.scores, e.target, e.output, e.scale, clip=e.settings["clip"])
    return f.infidelity(weights_on(e.masks, e.groups), values, e.weights, e.score.scaled, normalise=True)


def _top_k(e: Explanation, model: Model) -> Figures:
    """Ask whether the k best parts alone keep the top class; a classifier of one class has no other."""
    if e.output == "regression" or len(e.labels) < 2:
        return {}
    selections = f.top_k_masks(e.weights, KS).astype(bool)
    masks = np.stack([evidence_parts(e.groups, one, e.parts.k) for one in selections])  # (n_ks, k)
    windowed = Windowed(model, len(e.audio.at(model.rate).samples))
    scores = windowed.predict(resampled(e.parts.compose(masks.astype(np.uint8)), e.audio.rate, windowed))
    kept = f.top_k_fidelity(int(np.argmax(e.score.all)), scores)
    return {f"top_{k}": float(same) for k, same in zip(KS, kept, strict=True)}


def sensitivity(e: Explanation, audio: Audio, again: Callable[[Audio], Explanation]) -> float:
    """Explain the recording with a little noise, `DRAWS` times, and see how far the map goes."""
    rng = np.random.default_rng(e.seed)
    radius = RADIUS * float(np.abs(audio.samples).max(initial=0.0))
    noises = (rng.uniform(-radius, radius, len(audio.samples)).astype(np.float32) for _ in range(DRAWS))
    maps = [again(Audio(audio.samples + noise, audio.rate, audio.name)).map.ravel() for noise in noises]
    return f.max_sensitivity(e.map.ravel(), maps)
