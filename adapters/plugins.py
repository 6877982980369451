"""Plug-ins: what other packages offer by entry points, listed from metadata and imported only when used.

=======================  ==========================================================================================
group                    points to
=======================  ==========================================================================================
``otoscope.models``      ``(*, device, batch_size) -> Model``; a card ``<name>.toml`` beside its module tells the rest
``otoscope.kinds``       ``(card, loading) -> Model``, the loader of cards of this kind
``otoscope.explainers``  a function registered by ``@method(name, …)`` (`otoscope.explainers.methods`)
``otoscope.parts``       a function registered by ``@maker(name)`` (`otoscope.explainers.makers`)
=======================  ==========================================================================================

A source separator is a part maker: it separates ``whole.audio`` and hands its sounds, (n, n_samples) at that rate, to
`otoscope.explainers.stems.separated`, which adds what they leave open::

    @maker("my_separator")
    def my_separator(whole, n_parts):
        return separated(whole, model(whole.audio.samples), ["vocals", "drums", "bass", "other"])
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from otoscope.adapters.errors import OtoscopeError, unknown

T = TypeVar("T")


def points(group: str) -> dict[str, EntryPoint]:
    """List the entry points of a group by name, without importing what they name."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda p: p.name)}


def told(point: EntryPoint) -> str:
    """Say in one line what a plug-in is, from its package's metadata."""
    if point.dist is None:
        return point.value
    return f"{point.dist.metadata.json.get('summary') or point.value} ({point.dist.name})"


def registered(name: str, registry: Mapping[str, T], group: str, what: str) -> T:
    """Look up a name in a registry; a plug-in of this name is imported, which registers it.

    Raises
    ------
    OtoscopeError
        If nothing has this name, or the plug-in cannot be imported or registers something else.
    """
    if name in registry:
        return registry[name]
    offered = points(group)
    if name not in offered:
        raise unknown(what, name, [*registry, *offered])
    try:
        offered[name].load()
    except Exception as error:  # noqa: BLE001 - importing a plug-in runs its code, which may raise anything
        raise OtoscopeError(f"{what} {name!r} ({offered[name].value}) cannot be imported: {error}") from None
    if name not in registry:
        raise OtoscopeError(f"{offered[name].value} registers no {what} {name!r}; its author must name it so")
    return registry[name]
