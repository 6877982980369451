"""Two-level explanations: which features that people can name carry a score, and which sounds carry such a feature.

After Haunschmid, Chowdhury & Widmer (ICML ML4MD 2019) and Chowdhury et al. (ISMIR 2019). *Level one* is linear, over a
corpus (`otoscope.explainers.linear`): scale = Σ w_j·m_j + b + remainder. *Level two* asks of one feature m_j, by
default the one whose effect stands out most in this recording, which parts of the sound make it what it is: a mid-level
model is a model like any other, so this is the same LIME. Its weights times w_j are in the explained model's units, so
that they say what each part adds to the score *by way of this feature*; they add up to w_j·(m_j(recording) − m_j(all
parts off)) but for the surrogate's own gap, `effect_gap`. The explained model itself is asked in the round trip. The
scores kept of the calls are those of the mid-level model, so that another feature needs no new ones.

The two models may hear at different rates. The parts are cut at the higher of the two, so that each model hears all it
can, and whoever hears at the lower one hears them resampled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Model
from otoscope.adapters.resampling import at_rate
from otoscope.adapters.spectra import Stft
from otoscope.adapters.windows import Windowed
from otoscope.explainers.effects import Effects, TwoLevel, find_feature
from otoscope.explainers.explanation import Outcome
from otoscope.explainers.level_one import to_arrays
from otoscope.explainers.lime import lime
from otoscope.explainers.linear import Level
from otoscope.explainers.makers import undivided
from otoscope.explainers.methods import Request, method
from otoscope.explainers.targets import Target

LITTLE = 0.25  # of the variance: below this the features say little about the model
FEW = 20  # recordings
CALLS = 512  # a computed feature is slower than a small network: about 40 ms for ten seconds


@method(
    "two_level",
    "say how far a few features that people can name carry the score, then which sounds carry one of them",
    uses={"zoom", "calls", "neighbourhood", "domain", "route", "feature"},
    needs_two_level=True,
)
def two_level(request: Request) -> Outcome:
    """Fit the effects of the target, then explain one feature by LIME."""
    given, excerpt = request.two_level, request.excerpt
    if given is None or excerpt is None:
        raise OtoscopeError("two_level needs a mid-level model and a corpus; give --corpus, or two_level=TwoLevel(…)")
    check_fit(given, request.model.model)
    effects = given.effects
    level = effects.level(request.target, request.scale, clip=request.settings.clip, seed=request.seed)
    one = level_two_request(request, given.midlevel, excerpt)
    whole = one.whole.audio.samples
    values, silent = one.model.predict(np.stack([whole, one.whole.compose(np.zeros((1, 1)))[0]]))
    score = float(request.value(request.model.predict(request.whole.audio.samples[None]))[0])
    wanted = request.settings.feature
    centred = level.centred(values)
    feature = int(np.argmax(np.abs(centred))) if wanted is None else find_feature(wanted, level.names)
    outcome: Outcome = lime(replace(one, target=Target(feature, None, level.names[feature])))
    weight = float(level.weights[feature])
    weights = weight * outcome.weights
    found = to_arrays(level, values, score, feature)
    return replace(
        outcome,
        weights=weights,
        se=None if outcome.se is None else abs(weight) * outcome.se,
        n_calls=outcome.n_calls + 3,
        fidelity={
            **{key: outcome.fidelity[key] for key in ("r2", "interactions", "route_difference")},
            "features_r2": level.r2,
            "features_r2_fitted": level.r2_fitted,
            "bias": level.bias,
            "remainder": found["remainder"],
            "effect": float(found["effects"][feature]),
            "centred_effect": float(found["centred_effects"][feature]),
            "effect_gap": weight * float(values[feature] - silent[feature]) - float(weights.sum()),
        },
        native=found,
        notes=(*_midlevel_notes(one.model), *notes(level, effects, request), *outcome.notes),
    )


def check_fit(given: TwoLevel, model: Model) -> None:
    """Refuse effects that were fitted to other models.

    Raises
    ------
    OtoscopeError
    """
    effects = given.effects
    pairs = (("model", effects.fingerprint, model), ("mid-level model", effects.midlevel, given.midlevel))
    for what, fingerprint, one in pairs:
        if fingerprint != one.fingerprint:
            raise OtoscopeError(
                f"these effects are those of another {what} ({fingerprint[:18]}…, not {one.fingerprint[:18]}…); "
                "fit them again with --corpus"
            )
    if effects.names != given.midlevel.labels or effects.labels != model.labels:
        raise OtoscopeError("these effects name other features or classes than the models; fit them again")


def level_two_request(request: Request, midlevel: Model, excerpt: Audio) -> Request:
    """Put the same question to the mid-level model, at the higher of the two rates."""
    rate = max(midlevel.rate, request.model.rate)
    audio = excerpt.at(rate)
    heard = Windowed(at_rate(midlevel, rate), len(audio.samples))
    stft = Stft()
    if heard.spectrogram is not None:
        own = heard.spectrogram.front_end.stft
        stft = Stft(own.n_fft, own.hop_length)
    given = request.whole
    whole = undivided(audio, stft, off=request.settings.off, seed=request.seed, start=given.start, stems=given.stems)
    settings = replace(request.settings, calls=request.settings.calls or CALLS)
    return replace(request, model=heard, whole=whole, scale="score", settings=settings)


def _midlevel_notes(heard: Any) -> tuple[str, ...]:
    return tuple(f"mid-level model: {note}" for note in heard.notes())


def notes(level: Level, effects: Effects, request: Request) -> tuple[str, ...]:
    """Say how far level one can be trusted."""
    told = list(effects.notes)
    n, target = len(level.names), request.target.name
    if level.r2 is None:
        told.append(f"the score of {target} does not vary over the corpus, so no feature can say anything about it")
    elif level.r2 < LITTLE:
        told.append(
            f"the {n} features explain little of this model's {target}: held-out R² {level.r2:.2f}; "
            "what they do not say is the remainder"
        )
    if level.turned:
        told.append(
            f"{', '.join(level.turned)}: the weight has another sign than the feature's own correlation with the "
            "score, as collinear features may; read the shares"
        )
    if level.n_recordings < FEW:
        told.append(f"the corpus holds {level.n_recordings} recordings only, so its figures are rough")
    duration = request.whole.audio.seconds
    if not effects.seconds / 2 <= duration <= 2 * effects.seconds:
        told.append(f"the effects were fitted to spans of {effects.seconds:g} s, and this one lasts {duration:.2f} s")
    return tuple(told)
