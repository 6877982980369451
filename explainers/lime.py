"""Spectrogram LIME: switch parts of the sound on and off, and fit what that does to the score.

After Ribeiro et al., 2016, for audio after Mishra et al., 2017, Chowdhury et al., 2019 and Haunschmid et al., 2020;
with the designs of `otoscope.explainers.neighbourhoods`. Parts are cut from the recording's STFT, or, with
``domain="bands"``, from the model's own filtered spectrogram, in which part k's STFT mask is (Fᵀ m_k)/(Fᵀ 1).
"""

from __future__ import annotations

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.explainers.explanation import Outcome
from otoscope.explainers.makers import cut
from otoscope.explainers.methods import CALLS, Request, method
from otoscope.explainers.neighbourhoods import make_masks
from otoscope.explainers.parts import Parts
from otoscope.explainers.routes import score_masks
from otoscope.explainers.surrogate import fit
from otoscope.explainers.targets import clipped_share


@method(
    "lime",
    "switch parts of the spectrogram on and off and fit a linear model of the score",
    uses={"calls", "neighbourhood", "domain", "render", "route"},
)
def lime(request: Request) -> Outcome:
    """Fit a linear model of the score in the parts."""
    settings = request.settings
    parts = lime_parts(request)
    masks = make_masks(settings.neighbourhood, parts.k, settings.calls or CALLS, request.seed)
    scored = score_masks(
        request.model,
        parts,
        masks,
        route=settings.route,
        batch_size=request.batch_size,
        progress=request.progress,
    )
    surrogate = fit(masks, request.value(scored.scores), settings.neighbourhood, seed=request.seed)
    clipped = clipped_share(scored.scores, request.target, request.model.output, request.scale, clip=settings.clip)
    return Outcome(
        parts,
        surrogate.weights,
        scored.n_calls,
        se=surrogate.se,
        names=parts.names,
        masks=masks,
        scores=scored.scores,
        route=scored.route,
        fidelity={
            "r2": surrogate.r2,
            "interactions": surrogate.interactions,
            "intercept": surrogate.intercept,
            "clipped": clipped,
            "route_difference": scored.difference,
        },
        notes=(f"{clipped:.0%} of the scores were clipped before the logarithm",) if clipped > 0.01 else (),
    )


def lime_parts(request: Request) -> Parts:
    """Take the recording apart in the domain that was asked for."""
    settings = request.settings
    maker = settings.parts or "superpixels"
    if settings.domain == "stft":
        if settings.render != "mask":
            raise OtoscopeError("pinv and nnls render filtered spectrograms; use them with --domain bands")
        return cut(request.whole, maker, settings.n_parts)
    if settings.domain != "bands":
        raise unknown("domain", settings.domain, ("stft", "bands"))
    spectrogram = request.model.spectrogram
    if spectrogram is None:
        raise OtoscopeError("this model declares no spectrogram; use --domain stft")
    filtered = request.whole.with_(filters=spectrogram.front_end.weights)
    return cut(filtered, maker, settings.n_parts)
