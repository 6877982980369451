"""The published schemas: kept by every kind of result, complete, and strict enough to find what is broken."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from otoscope.adapters.audio import Audio
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.report import find_results, write_report
from otoscope.explainers.store import load_explanation, save
from otoscope.explainers.story import story
from tests import test_two_level as levels
from tests.builders import RATE, TinyImageNet, music, torch_model
from tests.test_exports import EVIL, explained

DOCS = Path(__file__).parents[1] / "docs"
Document = dict[str, Any]


def gradcam() -> Explanation:
    model = torch_model(TinyImageNet(3))
    return explain(model, Audio(music(), RATE, "music.wav"), method="gradcam", target=0)


CASES: dict[str, Callable[[], Explanation]] = {
    "lime": explained,
    "unchecked": lambda: explained(gates="none"),
    "occlusion": lambda: explained("occlusion"),
    "gradcam": gradcam,
    "two_level": levels.explained,
    "contrast": lambda: explained(target=f"{EVIL}-quiet"),
    "regression": lambda: explained(output="regression", target="quiet"),
    "score": lambda: explained(scale="score"),
}


def schema(name: str) -> Any:
    return json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))


def closed(node: Any) -> Any:
    """Close every object that lists its keys, so that a key nobody described is found; conditions stay open."""
    if isinstance(node, list):
        return [closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    shut = {key: value if key == "allOf" else closed(value) for key, value in node.items()}
    return {**shut, "additionalProperties": False} if "properties" in shut else shut


def faults(name: str, document: Any, *, shut: bool = False) -> list[str]:
    rules = closed(schema(name)) if shut else schema(name)
    jsonschema.Draft202012Validator.check_schema(rules)
    return [error.message for error in jsonschema.Draft202012Validator(rules).iter_errors(document)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a result of every case; the index is written over them all."""
    folder = tmp_path_factory.mktemp("results")
    for name, make in CASES.items():
        save(make(), folder / name)
    write_report(folder)
    return folder


def document(results: Path, case: str) -> Document:
    told: Document = json.loads((results / case / "explanation.json").read_text(encoding="utf-8"))
    return told


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_result_keeps_the_schema_and_no_key_is_undescribed(results: Path, case: str) -> None:
    told = document(results, case)
    assert faults("explanation", told, shut=True) == []
    older = {
        key: value for key, value in told.items() if key not in ("windows", "gates", "verdict", "curves", "memory")
    }
    assert faults("explanation", older) == []
    if told["verdict"]:
        earlier = {key: value for key, value in told["verdict"].items() if key != "remedies"}
        assert faults("explanation", {**told, "verdict": earlier}) == []
    newer = {**told, "anew": 1, "span": {**told["span"], "anew": 1}}
    assert faults("explanation", newer) == []
    assert faults("explanation", newer, shut=True)


def test_the_cases_are_what_they_are_called(results: Path) -> None:
    told = {case: document(results, case) for case in CASES}
    assert len(find_results(results)) == len(CASES)
    assert told["gradcam"]["units"] == "relative"
    assert told["gradcam"]["gap"] is None
    assert len(told["occlusion"]["weights"]) != len(told["occlusion"]["parts"]["names"])  # groups
    assert told["contrast"]["target"]["against"] == 1
    assert told["regression"]["model"]["output"] == "regression"
    assert told["unchecked"]["verdict"] is None
    assert "level_one" in told["two_level"]
    assert told["lime"]["windows"]


def test_the_index_keeps_its_schema(results: Path) -> None:
    index = json.loads((results / "index.json").read_text(encoding="utf-8"))
    assert len(index["results"]) == len(CASES)
    assert faults("index", index, shut=True) == []


Break = Callable[[Document], Any]
BROKEN: dict[str, tuple[str, Break]] = {
    "another schema": ("lime", lambda d: d.update(schema="otoscope/explanation/2")),
    "unknown units": ("lime", lambda d: d.update(units="hertz")),
    "no weights": ("lime", lambda d: d.update(weights=[])),
    "a yes for a weight": ("lime", lambda d: d["weights"][0].update(weight=True)),
    "half an interval": ("lime", lambda d: d["weights"][0].update(interval=[0.0])),
    "a negative error": ("lime", lambda d: d["weights"][0].update(se=-1.0)),
    "evidence as a number": ("lime", lambda d: d["weights"][0].update(evidence=1)),
    "a span before the start": ("lime", lambda d: d["span"].update(start=-1)),
    "a span of no length": ("lime", lambda d: d["span"].update(duration=0)),
    "no answer to silence": ("lime", lambda d: d["round_trip"].pop("off")),
    "an unknown verdict": ("lime", lambda d: d["verdict"].update(word="perhaps")),
    "a remedy that is no list": ("lime", lambda d: d["verdict"].update(remedies="more calls")),
    "a window without a score": ("lime", lambda d: d["windows"][0].pop("score")),
    "a window that ends in words": ("lime", lambda d: d["windows"][0].update(end="late")),
    "a figure in words": ("lime", lambda d: d["fidelity"].update(r2="good")),
    "a box below zero": ("lime", lambda d: d["parts"]["extents"][0].__setitem__(2, -5.0)),
    "a box of five": ("lime", lambda d: d["parts"]["extents"][0].append(1.0)),
    "an index as text": ("lime", lambda d: d["target"].update(index="0")),
    "a short checksum": ("lime", lambda d: d["audio"].update(sha256="abc")),
    "one note as text": ("lime", lambda d: d.update(notes="quiet")),
    "log-odds without a gap": ("lime", lambda d: d.update(gap=None)),
    "log-odds on the score scale": ("lime", lambda d: d.update(scale="score")),
    "relative weights with a gap": ("gradcam", lambda d: d.update(gap=0.5)),
    "log-odds of values": ("regression", lambda d: d.update(scale="log_odds")),
    "two levels without the first": ("two_level", lambda d: d.pop("level_one")),
    "a feature without an effect": ("two_level", lambda d: d["level_one"]["features"][0].pop("effect")),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_documents_fail(results: Path, fault: str) -> None:
    case, damage = BROKEN[fault]
    told = copy.deepcopy(document(results, case))
    assert faults("explanation", told) == []
    damage(told)
    assert faults("explanation", told)


def test_every_key_that_is_required_is_missed(results: Path) -> None:
    told = document(results, "lime")
    for key in schema("explanation")["required"]:
        assert faults("explanation", {name: value for name, value in told.items() if name != key}), key
    index = json.loads((results / "index.json").read_text(encoding="utf-8"))
    entry = index["results"][0]
    for key in schema("index")["properties"]["results"]["items"]["required"]:
        shorter = {name: value for name, value in entry.items() if name != key}
        assert faults("index", {**index, "results": [shorter]}), key
    assert faults("index", {**index, "results": [{**entry, "strongest": entry["strongest"] * 4}]})


def described(node: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    """Tell of each key whether the schema says what it means."""
    for key, value in node.get("properties", {}).items():
        ways = [value, *value.get("anyOf", [])]
        yield f"{path}{key}", "const" in value or any("description" in way for way in ways)
        for way in ways:
            yield from described(way, f"{path}{key}.")
            if isinstance(way.get("items"), dict):
                yield from described(way["items"], f"{path}{key}[].")


@pytest.mark.parametrize("name", ["explanation", "index"])
def test_every_key_is_described(name: str) -> None:
    found = dict(described(schema(name)))
    assert len(found) > 30
    assert [path for path, told in found.items() if not told] == []


def test_results_of_earlier_versions_load_without_remedies(results: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(results / "lime", tmp_path / "lime")
    told = document(results, "lime")
    assert told["verdict"].pop("remedies")
    told.pop("windows")
    told["settings"].pop("zoom")
    (folder / "explanation.json").write_text(json.dumps(told), encoding="utf-8")
    found = load_explanation(folder).verdict
    assert found is not None
    assert found.word == told["verdict"]["word"]
    assert "What may help" not in story(told)[2]
    assert write_report(tmp_path).exists()
