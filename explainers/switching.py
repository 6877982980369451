"""What the methods share that switch parts on and off: the question, and what is told of the answers.

Such a method makes masks (n, k), has them scored (`ask`), and turns the values (n,) on the explained scale into
weights; `outcome` keeps the calls, so that other targets and scales are refitted without new ones, and says what was
clipped.
"""

from __future__ import annotations

from collections.abc import Mapping

from otoscope.explainers.explanation import Outcome
from otoscope.explainers.methods import Request
from otoscope.explainers.neighbourhoods import Masks
from otoscope.explainers.parts import Bools, Parts
from otoscope.explainers.routes import Asked, Route, open_route
from otoscope.explainers.targets import Floats, clipped_share

NOTABLE = 0.01  # share of clipped scores from which a reader must know


def ask(request: Request, parts: Parts, masks: Masks, *, route: Route | None = None) -> tuple[Floats, Asked]:
    """Score masks (n, k) by the route that was asked for, or by another one where it is given: (n, n_classes)."""
    route = request.settings.route if route is None else route
    way = open_route(request.model, parts, masks, route=route, batch_size=request.batch_size)
    return way.scores(masks, request.progress), way


def outcome(
    request: Request,
    parts: Parts,
    masks: Masks,
    scores: Floats,
    way: Asked,
    weights: Floats,
    *,
    se: Floats | None = None,
    interval: Floats | None = None,
    groups: Bools | None = None,
    fidelity: Mapping[str, float | None] | None = None,
) -> Outcome:
    """Tell what was found.

    Parameters
    ----------
    request : Request
    parts : Parts
    masks : ndarray, shape (n, k)
    scores : ndarray, shape (n, n_classes)
    way : Asked
        The route they came by, which stays open to further questions.
    weights : ndarray, shape (n_weights,)
    se : ndarray, shape (n_weights,), or None
    interval : ndarray, shape (n_weights, 2), or None
    groups : ndarray of bool, shape (n_weights, k), or None
    fidelity : mapping
        Figures of the method's own; the clipped share and the difference of the routes come on top.
    """
    settings = request.settings
    clipped = clipped_share(scores, request.target, request.model.output, request.scale, clip=settings.clip)
    return Outcome(
        parts,
        weights,
        way.n_calls,
        se=se,
        interval=interval,
        groups=groups,
        names=parts.names if groups is None else parts.group_names,
        masks=masks,
        scores=scores,
        route=way.route,
        fidelity={**(fidelity or {}), "clipped": clipped, "route_difference": way.difference},
        notes=(f"{clipped:.0%} of the scores were clipped before the logarithm",) if clipped > NOTABLE else (),
        ask=way.scores,
    )
