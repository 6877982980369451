"""The published rules of cards: as committed, kept by every card of ours, and as strict as reading is."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from otoscope.adapters.card import read_card, write_card
from otoscope.adapters.card_schema import card_schema
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.registry import kinds

ROOT = Path(__file__).parents[1]
CARDS = sorted([*ROOT.glob("docs/cards/*.toml"), *ROOT.glob("mer_models/*.toml")])
VALIDATOR = jsonschema.Draft202012Validator(card_schema())


def test_the_published_schema_is_the_one_in_force() -> None:
    """The recipe: ``otoscope models --card-schema > docs/card.schema.json``."""
    assert json.loads((ROOT / "docs/card.schema.json").read_text(encoding="utf-8")) == card_schema()
    VALIDATOR.check_schema(card_schema())


def test_every_kind_of_ours_publishes_its_settings() -> None:
    told = {rule["if"]["properties"]["model"]["properties"]["kind"]["const"] for rule in card_schema()["allOf"]}
    assert told == {name for name, point in kinds().items() if point.module.startswith("otoscope.")}


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_our_cards_keep_the_rules(path: Path) -> None:
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    assert [error.message for error in VALIDATOR.iter_errors(tables)] == []
    card = read_card(path)
    assert card.hearing.rate > 0
    assert card.model.summary
    assert card.model.source
    assert card.tables["licence"]["weights"]


def changed(tables: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    tables = copy.deepcopy(tables)
    *above, key = place.split(".")
    inner = tables
    for name in above:
        inner = inner.setdefault(name, {})
    if value is None:
        del inner[key]
    else:
        inner[key] = value
    return tables


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("model.name", None),
        ("model.labels", 3),
        ("model.output", "softmx"),
        ("model.licence", "CC0"),
        ("model.n_parameters", 1.5),
        ("input.rate", None),
        ("input.rate", "16000"),
        ("input.rat", 16000),
        ("input.layout", "items"),
        ("input.front_end.n_mels", 96),
        ("input.front_end.compression", "dB"),
        ("input.front_end.stft", None),
        ("input.front_end.stft.n_fft", None),
        ("input.front_end.stft.window", "blackman"),
        ("input.front_end.mean", ["0"]),
        ("input.front_end.rate", 16000),
        ("surprise", {}),
        ("model.settings.chunks", 512),
        ("model.settings.chunk", "512"),
    ],
)
def test_what_the_schema_refuses_reading_refuses_too(tmp_path: Path, place: str, value: Any) -> None:
    from otoscope.adapters.graphs import GraphSettings

    tables = tomllib.loads((ROOT / "docs/cards/msd_musicnn.toml").read_text(encoding="utf-8"))
    wrong = changed(tables, place, value)
    assert VALIDATOR.is_valid(tables)
    assert not VALIDATOR.is_valid(wrong)
    write_card(tmp_path / "card.toml", wrong)
    with pytest.raises(OtoscopeError, match=r"card\.toml: "):
        _ = (card := read_card(tmp_path / "card.toml")).hearing, card.settings(GraphSettings)
