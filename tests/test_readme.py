"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from otoscope.adapters.card import read_card
from otoscope.adapters.card_schema import card_schema
from otoscope.adapters.conformance import check_model
from otoscope.adapters.registry import kinds

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str, word: str) -> str:
    """Find the code block of a language that holds a word."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL) if word in text]
    return str(found)


def test_the_adapter_for_an_unlisted_framework_is_short_and_keeps_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = block("python", "their_weights.npy")
    assert sum(1 for line in code.splitlines() if line.strip()) < 15
    rng = np.random.default_rng(0)
    np.save(tmp_path / "their_weights.npy", 0.001 * rng.standard_normal((4001, 2)))
    np.save(tmp_path / "their_bias.npy", np.zeros(2))
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(code, scope)
    check_model(scope["model"])


GUIDE = (Path(__file__).parents[1] / "docs/cards/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", GUIDE, flags=re.DOTALL))
def test_the_cards_to_copy_keep_the_rules(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.toml").write_text(text, encoding="utf-8")
    card = read_card(tmp_path / "card.toml")
    assert jsonschema.Draft202012Validator(card_schema()).is_valid(card.tables)
    assert card.hearing.rate == 16000
    assert card.labels


def test_there_is_a_card_to_copy_for_every_kind() -> None:
    shown = set(re.findall(r'^kind = "(\w+)"', GUIDE, flags=re.MULTILINE))
    published = {read_card(path).model.kind for path in (Path(__file__).parents[1] / "docs/cards").glob("*.toml")}
    trained = {"harmonics", "midlevel"}  # `otoscope train` writes their cards
    assert shown | published | trained == set(kinds())


def test_the_card_keeps_the_rules(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(block("toml", "msd-musicnn"), encoding="utf-8")
    card = read_card(tmp_path / "card.toml")
    assert card.hearing.front_end is not None
    shown, published = card.hearing, read_card(Path(__file__).parents[1] / "docs/cards/msd_musicnn.toml").hearing
    assert shown == published


def test_what_the_readme_names_exists() -> None:
    for folder in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / folder).exists(), folder


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^otoscope (\w+)", README, flags=re.MULTILINE))))
def test_the_commands_exist(command: str) -> None:
    from otoscope.cli import main

    assert command in main.commands
