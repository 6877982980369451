"""The rules of model cards, published as JSON Schema (``otoscope models --card-schema``, ``docs/card.schema.json``).

They are written down once, as the dataclasses that cards are read into; a module that loads a kind of cards names its
own for ``[model.settings]`` in `SETTINGS`. What no schema can tell is left to reading: whether files exist, whether
layouts and lengths agree.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from otoscope.adapters.card import SECTIONS, STATED, About
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.registry import kinds
from otoscope.adapters.tables import schema


def card_schema() -> dict[str, Any]:
    """Write the rules of a card as JSON Schema, draft 2020-12."""
    free = {"type": "object"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "otoscope model card",
        "type": "object",
        "additionalProperties": False,
        "required": ["model", "input"],
        "properties": {section: free for section in SECTIONS} | {"model": schema(About), "input": _hearing()},
        "allOf": [_settings(kind, rules) for kind, rules in _kinds().items()],
    }


def _hearing() -> dict[str, Any]:
    """Rules of ``[input]``: the front end hears at the model's rate, and says its transform itself."""
    heard = schema(Hearing)
    front_end = heard["properties"]["front_end"]
    del front_end["properties"]["rate"]
    front_end["required"] = ["stft"]
    front_end["properties"]["stft"]["required"] = list(STATED)
    return heard


def _kinds() -> dict[str, list[dict[str, Any]]]:
    """Rules of the settings of our own kinds."""
    own = {name: point.module for name, point in kinds().items() if point.module.startswith("otoscope.")}
    return {name: [schema(one) for one in import_module(module).SETTINGS] for name, module in own.items()}


def _settings(kind: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """Rules of ``[model.settings]`` where the kind is this one."""
    one = rules[0] if len(rules) == 1 else {"anyOf": rules}
    this = {"properties": {"model": {"properties": {"kind": {"const": kind}}}}}
    return {"if": this, "then": {"properties": {"model": {"properties": {"settings": one}}}}}
