"""Names and cards: what can be loaded, and what is said when it cannot."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from otoscope.adapters import registry
from otoscope.adapters.card import beside, read_card, write_card
from otoscope.adapters.errors import OtoscopeError

CARD: dict[str, dict[str, Any]] = {
    "model": {"name": "mine", "kind": "harmonics", "labels": ["a", "b"], "output": "softmax"},
    "input": {"rate": 8000},
    "licence": {"weights": "CC0"},
}


def card(folder: Path, text: str) -> Path:
    path = folder / "card.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_card_comes_back(tmp_path: Path) -> None:
    write_card(tmp_path / "mine.toml", CARD)
    card = read_card(tmp_path / "mine.toml")
    assert card.tables == CARD
    assert card.labels == ("a", "b")
    assert card.hearing.rate == 8000


GOOD = '[model]\nname = "x"\nkind = "harmonics"\nlabels = ["a"]\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[model", "is no valid TOML"),
        (GOOD + "[surprise]\na = 1\n", r"unknown section \[surprise\]; a model card has model, input"),
        ('model = "x"\n', r"model must be a section \[model\]"),
        (GOOD + "trust = true\n", r"a card cannot grant trust; remove \[model\] trust"),
        (GOOD + "[input]\ntrust = true\n", r"a card cannot grant trust; remove \[input\] trust"),
        ("trust = true\n", r"unknown section \[trust\]"),
        ("", r"\[model\] lacks 'name'"),
        ('[model]\nname = "x"\nkind = "y"\n', r"\[model\] lacks 'labels'"),
        ("# " + "x" * 1_000_001, "is too large for a model card"),
    ],
)
def test_bad_cards_are_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(OtoscopeError, match=r"card\.toml: " + reason):
        read_card(card(tmp_path, text))


def test_a_card_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(OtoscopeError, match="is no valid TOML"):
        read_card(tmp_path / "card.toml")


@pytest.mark.parametrize("name", ["../outside.bin", "/etc/passwd", "a/../../outside.bin"])
def test_a_card_names_files_in_its_own_folder_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.bin").write_bytes(b"x")
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(OtoscopeError, match="climbs out of the card's folder"):
        beside(folder / "card.toml", name)


def test_a_file_beside_a_card_is_found_or_missed_by_name(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    assert beside(tmp_path / "card.toml", "weights.bin") == (tmp_path / "weights.bin").resolve()
    with pytest.raises(OtoscopeError, match=r"names 'other\.bin', which is missing"):
        beside(tmp_path / "card.toml", "other.bin")


def test_a_link_out_of_the_folder_is_no_way_around(tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_bytes(b"x")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(OtoscopeError, match="climbs out"):
        beside(folder / "card.toml", "weights.bin")


def test_registered_names_are_the_entry_points() -> None:
    names = registry.model_names()
    assert {"harmonics", "harmonics-1"} <= set(names)
    assert set(names) == {point.name for point in entry_points(group="otoscope.models")}


def test_models_are_loaded_by_name_with_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        def load(self) -> Any:
            return lambda *, device, batch_size: (device, batch_size)

    monkeypatch.setattr(registry, "model_names", lambda: {"mine": Point()})
    got: Any = registry.load_model("mine", batch_size=7)
    assert got == ("cpu", 7)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("harmonic", "unknown model 'harmonic': did you mean 'harmonics'"),
        ("nowhere.toml", r"nowhere\.toml: no such model card"),
        ("", "unknown model ''"),
    ],
)
def test_unknown_models_are_answered_with_the_nearest(spec: str, reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        registry.load_model(spec)


def test_other_files_are_refused_unopened(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80")
    with pytest.raises(OtoscopeError, match=r"model\.pkl: is a pickle; loading it would run code"):
        registry.load_model(str(tmp_path / "model.pkl"))


def test_an_unknown_kind_is_refused_by_name(tmp_path: Path) -> None:
    path = card(tmp_path, GOOD.replace("harmonics", "harmonicas"))
    with pytest.raises(OtoscopeError, match=r"card\.toml: unknown kind 'harmonicas': did you mean 'harmonics'"):
        registry.load_model(str(path))


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(OtoscopeError, match=f"device '{device}' cannot be used here.*use --device cpu"):
        registry.load_model("harmonics", device=device)


def test_a_model_is_called_by_its_card_its_folder_or_its_short_name(tmp_path: Path) -> None:
    assert registry.name_of("harmonics") == "harmonics"
    assert registry.name_of(str(card(tmp_path, GOOD.replace('"x"', '"my tagger"')))) == "my tagger"
    assert registry.name_of(str(tmp_path)) == "my tagger"
    (tmp_path / "ast-small").mkdir()
    assert registry.name_of(str(tmp_path / "ast-small") + "/") == "ast-small"
