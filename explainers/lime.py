"""Spectrogram LIME: switch parts of the sound on and off, and fit what that does to the score.

After Ribeiro et al., 2016, for audio after Mishra et al., 2017, Chowdhury et al., 2019 and Haunschmid et al., 2020;
with the designs of `otoscope.explainers.neighbourhoods`. Parts are cut from the recording's STFT, or, with
``domain="bands"``, from the model's own filtered spectrogram, in which part k's STFT mask is (Fᵀ m_k)/(Fᵀ 1).
"""

from __future__ import annotations

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.explainers.budget import ask_as_budgeted
from otoscope.explainers.explanation import Outcome
from otoscope.explainers.makers import cut
from otoscope.explainers.methods import Request, method
from otoscope.explainers.parts import Parts
from otoscope.explainers.surrogate import correlation, fit, fit_halves
from otoscope.explainers.switching import outcome
from otoscope.explainers.zoom import zoom_in


@method(
    "lime",
    "switch parts of the spectrogram on and off and fit a linear model of the score",
    uses={"zoom", "calls", "neighbourhood", "domain", "render", "route"},
)
def lime(request: Request) -> Outcome:
    """Fit a linear model of the score in the parts."""
    parts, spent, calls = zoom_in(request, lime_parts(request))
    kind, masks, scores, way = ask_as_budgeted(request, parts, calls)
    way.n_calls += spent
    values = request.value(scores)
    surrogate = fit(masks, values, kind, seed=request.seed)
    halves = fit_halves(masks, values, kind, seed=request.seed)
    return outcome(
        request,
        parts,
        masks,
        scores,
        way,
        surrogate.weights,
        se=surrogate.se,
        interval=surrogate.interval,
        fidelity={
            "r2": surrogate.r2,
            "interactions": surrogate.interactions,
            "intercept": surrogate.intercept,
            "halves": None if halves is None else correlation(*halves),
            "top_again": surrogate.top_again,
            "calls_per_part": None if kind == "exhaustive" else len(masks) / parts.k,
        },
    )


def lime_parts(request: Request, default: str = "superpixels", n_parts: int | None = None) -> Parts:
    """Take the recording apart in the domain that was asked for; methods differ in their default parts and number."""
    if request.given is not None:
        return request.given
    settings = request.settings
    maker, most = settings.parts or default, n_parts or settings.n_parts
    if settings.domain == "stft":
        if settings.render != "mask":
            raise OtoscopeError("pinv and nnls render filtered spectrograms; use them with --domain bands")
        return cut(request.whole, maker, most)
    if settings.domain != "bands":
        raise unknown("domain", settings.domain, ("stft", "bands"))
    spectrogram = request.model.spectrogram
    if spectrogram is None:
        raise OtoscopeError("this model declares no spectrogram; use --domain stft")
    filtered = request.whole.with_(filters=spectrogram.front_end.weights)
    return cut(filtered, maker, most)
