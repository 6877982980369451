"""Occlusion: what is lost when one thing falls silent.

The weight of a comb (a pitch class, a note) or of a part is scale(all) − scale(without it) (Zeiler & Fergus, 2014; for
combs of partials after the harmonics CNN of Fong, Kumar & Sudhir, 2025). Combs overlap, since the third partial of C is
a G; the disjoint variant gives each bin to its nearest pitch class.

``ablation`` is the same for parts of any kind, superpixels by default, and never combs (in images: Captum's
`FeatureAblation`).
"""

from __future__ import annotations

import numpy as np

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.explainers.combs import comb_parts
from otoscope.explainers.evidence import members
from otoscope.explainers.explanation import Outcome
from otoscope.explainers.lime import lime_parts
from otoscope.explainers.makers import cut
from otoscope.explainers.methods import Request, Settings, changed, method
from otoscope.explainers.parts import Parts
from otoscope.explainers.routes import Route
from otoscope.explainers.switching import ask, outcome


@method(
    "occlusion",
    "silence one comb of partials (or part) at a time and see what is lost",
    uses={"combs", "notes", "half_width", "n_harmonics", "octaves"},
)
def occlusion(request: Request) -> Outcome:
    """Weigh each group of parts by what the target loses without it."""
    return leave_out(request, occlusion_parts(request), route="waveform")


@method(
    "ablation",
    "silence one part at a time, of any kind, and see what is lost",
    uses={"domain", "render", "route"},
)
def ablation(request: Request) -> Outcome:
    """Weigh each part by what the target loses without it."""
    return leave_out(request, lime_parts(request))


def leave_out(request: Request, parts: Parts, *, route: Route | None = None) -> Outcome:
    """Weigh each part, or each group where there are groups, by what the target loses without it."""
    without = 1 - members(parts.groups, parts.k)  # (n_weights, k): one thing off in each
    masks = np.concatenate([np.ones((1, parts.k)), without]).astype(np.uint8)
    scores, way = ask(request, parts, masks, route=route)
    values = request.value(scores)
    return outcome(request, parts, masks, scores, way, values[0] - values[1:], groups=parts.groups)


def _refuse_unused(settings: Settings, combed: bool) -> None:
    """Raise an error for a setting that would reach nothing."""
    of_combs = {"notes", "half_width", "n_harmonics", "octaves"} & changed(settings)
    if of_combs and not combed:
        raise OtoscopeError(f"{min(of_combs)} is a setting of overlapping combs; leave parts and combs as they are")
    if settings.notes and "octaves" in changed(settings):
        raise OtoscopeError("notes name their octaves themselves; leave out octaves")


def occlusion_parts(request: Request) -> Parts:
    """Make combs for harmonic parts, else whatever the part maker makes."""
    settings = request.settings
    maker = settings.parts or "harmonic"
    if settings.combs not in ("overlapping", "disjoint"):
        raise unknown("kind of combs", settings.combs, ("overlapping", "disjoint"))
    combed = maker == "harmonic" and settings.combs == "overlapping"
    _refuse_unused(settings, combed)
    if combed:
        return comb_parts(
            request.whole,
            notes=settings.notes,
            half_width=settings.half_width,
            n_harmonics=settings.n_harmonics,
            octaves=settings.octaves,
        )
    return cut(request.whole, maker, settings.n_parts)
