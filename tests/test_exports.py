"""Explanations for other tools: what is written is read back by plain readers of each format, and by the schema."""

from __future__ import annotations

import copy
import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.cli import main
from otoscope.cli_export import KINDS
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.exports import FORMATS, as_audacity, as_csv, as_raven, export, extents
from otoscope.explainers.figure import draw
from otoscope.explainers.methods import Settings
from otoscope.explainers.report import find_results, write_report
from otoscope.explainers.store import result_folder, save
from tests.builders import RATE, Function, noise, sigmoid, tone

DOCS = Path(__file__).parents[1] / "docs"
EVIL = '=cmd()\t"<img src=x onerror=alert(1)>"\n'


def explained(method: str = "lime", *, target: str | int = 0, output: Any = "softmax", **settings: Any) -> Explanation:
    """Explain a tone that comes after half a second."""
    samples = 0.02 * noise(seconds=2.0, level=1.0)
    samples[RATE // 2 :] += tone(440.0, seconds=1.5, level=0.3)

    def score(x: Any) -> Any:
        level = sigmoid(20 * (np.abs(x).mean(axis=1) - 0.1))
        return np.stack([level, 1 - level], axis=1)

    model = Function(score, rate=RATE, labels=(EVIL, "quiet"), output=output)
    audio = Audio(samples.astype(np.float32), RATE, "b.wav")
    own = {"calls": 64, "n_parts": 12, "parts": "grid"} if method == "lime" else {}
    return explain(model, audio, method=method, target=target, start=0.25, settings=Settings(**{**own, **settings}))


def boxes_of_labels(text: str) -> list[tuple[float, float, float, float]]:
    """Read Audacity labels as Audacity does: pairs of lines."""
    lines = text.splitlines()
    found = []
    for place, hertz in zip(lines[::2], lines[1::2], strict=True):
        start, end, _ = place.split("\t")
        backslash, low, high = hertz.split("\t")
        assert backslash == "\\"
        found.append((float(start), float(end), float(low), float(high)))
    return found


@pytest.mark.parametrize("method", ["lime", "occlusion"])
def test_labels_and_selections_are_the_boxes_of_the_evidence(method: str) -> None:
    found = explained(method)
    chosen = [i for i in found.strongest(len(found.weights)) if found.chosen[i]]
    assert chosen
    expected = extents(found)[chosen] - [found.span.start, found.span.start, 0, 0]
    np.testing.assert_allclose(boxes_of_labels(as_audacity(found, span=True)), expected, atol=1e-5)
    rows = list(csv.DictReader(io.StringIO(as_raven(found, span=True)), delimiter="\t"))
    keys = ("Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
    np.testing.assert_allclose([[float(row[key]) for key in keys] for row in rows], expected, atol=1e-3)
    assert [row["Selection"] for row in rows] == [str(n + 1) for n in range(len(chosen))]
    assert all(
        0 <= start < end <= found.audio.seconds + 1e-6
        for start, end, *_ in boxes_of_labels(as_audacity(found, span=True))
    )
    later = boxes_of_labels(as_audacity(found))
    np.testing.assert_allclose(np.array(later)[:, :2] - found.span.start, expected[:, :2], atol=1e-5)


def test_boxes_of_groups_hold_all_their_parts() -> None:
    found = explained("occlusion")
    assert found.groups is not None
    for box, group in zip(extents(found), found.groups, strict=True):
        own = found.parts.extents[group]
        assert box[0] <= own[:, 0].min()
        assert box[1] >= own[:, 1].max()
        assert box[3] >= own[:, 3].max()


def test_the_table_holds_every_part_and_no_formula() -> None:
    found = explained()
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert len(rows) == len(found.weights)
    strongest = found.strongest(1)[0]
    assert float(rows[0]["weight"]) == pytest.approx(found.weights[strongest], rel=1e-5)
    assert float(rows[0]["se"]) == pytest.approx(found.se[strongest], rel=1e-5)  # type: ignore[index]
    assert sum(int(row["evidence"]) for row in rows) == found.chosen.sum()
    assert sum(float(row["energy"]) for row in rows) == pytest.approx(1, abs=1e-4)
    evil = replace(found, names=tuple(EVIL for _ in found.names))
    read = list(csv.DictReader(io.StringIO(as_csv(evil))))
    assert all(row["part"] == f"'{EVIL}" for row in read)
    assert len(as_audacity(evil).splitlines()) == 2 * found.chosen.sum()
    assert len(as_raven(evil).splitlines()) == 1 + found.chosen.sum()
    assert {line.count("\t") for line in as_raven(evil).splitlines()} == {9}


def test_pictures_for_a_paper_are_vectors_and_the_same_every_time(tmp_path: Path) -> None:
    found = explained()
    for kind in ("png", "svg", "pdf"):
        sizes = []
        for width in ("screen", "double", "single"):
            once = export(found, tmp_path / "one", kind, width=width).read_bytes()
            assert export(found, tmp_path / "two", kind, width=width).read_bytes() == once
            sizes.append(once)
        assert len(set(sizes)) == 3
    svg = next((tmp_path / "one").glob("*.svg")).read_text(encoding="utf-8")
    tree = ElementTree.fromstring(svg)
    assert float(tree.attrib["width"].removesuffix("pt")) == pytest.approx(3.4 * 72)
    assert svg.count("<path") > 50  # letters and bars
    pdf = next((tmp_path / "one").glob("*.pdf")).read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf
    with Image.open(export(found, tmp_path / "three", "png", width="double")) as png:
        assert png.width == pytest.approx(2100, abs=2)
    for wrong in ("x.bmp", "x"):
        with pytest.raises(OtoscopeError, match=r"choose one of these suffixes"):
            draw(found, tmp_path / wrong)


def strict(schema: Any) -> Any:
    """Close every object that lists its keys, so that a key nobody described is found."""
    if isinstance(schema, dict):
        closed = {key: strict(value) for key, value in schema.items()}
        return {**closed, "additionalProperties": False} if "properties" in closed else closed
    return [strict(value) for value in schema] if isinstance(schema, list) else schema


def validator(name: str) -> Any:
    schema = strict(json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8")))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("lime", {}),
    ("lime", {"gates": "none"}),
    ("occlusion", {}),
    ("lime", {"target": f"{EVIL}-quiet"}),
    ("lime", {"output": "regression", "target": "quiet"}),
]


def test_results_keep_the_schema(tmp_path: Path) -> None:
    for number, (method, asked) in enumerate(CASES):
        save(explained(method, **asked), tmp_path / str(number))
    write_report(tmp_path)
    check = validator("explanation")
    for folder in find_results(tmp_path):
        document = json.loads((folder / "explanation.json").read_text(encoding="utf-8"))
        assert list(check.iter_errors(document)) == []
    index = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))
    assert list(validator("index").iter_errors(index)) == []
    faults: tuple[dict[str, Any], ...] = (
        {"schema": "otoscope/explanation/2"},
        {"units": "hertz"},
        {"weights": []},
        {"span": {"start": -1, "duration": 1}},
        {"round_trip": {}},
        {"surprise": 1},
        {"verdict": {"word": "perhaps", "reasons": []}},
    )
    for broken in faults:
        assert list(check.iter_errors({**copy.deepcopy(document), **broken}))
    for key in ("model", "weights", "span", "seed"):
        assert list(check.iter_errors({k: v for k, v in document.items() if k != key}))


def test_the_demo_keeps_the_schema_too(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "demo")])
    assert done.exit_code == 0, done.output
    check = validator("explanation")
    methods = set()
    for folder in find_results(tmp_path / "demo"):
        document = json.loads((folder / "explanation.json").read_text(encoding="utf-8"))
        methods.add(document["method"])
        assert list(check.iter_errors(document)) == []
    assert methods == {"lime", "occlusion", "gradcam", "two_level"}


def test_the_command_exports_everything_and_names_what_it_cannot(tmp_path: Path) -> None:
    for method in ("lime", "occlusion"):
        found = explained(method)
        save(found, tmp_path / "out" / result_folder(found, found.audio.name))
    asked = [word for kind in KINDS for word in ("--format", kind)]
    done = CliRunner().invoke(main, ["export", str(tmp_path / "out"), *asked])
    assert done.exit_code == 0, done.output
    written = sorted(path.name for path in (tmp_path / "out" / "exports").iterdir())
    assert len(written) == 2 * len(KINDS)
    assert set(KINDS) == set(FORMATS)
    again = CliRunner().invoke(main, ["export", str(tmp_path / "out"), *asked])
    assert again.exit_code == 1
    assert "use --force" in again.output + str(again.exception)
    (find_results(tmp_path / "out")[0] / "arrays.npz").write_bytes(b"broken")
    partly = CliRunner().invoke(main, ["export", str(tmp_path / "out"), "--force", "--out", str(tmp_path / "new")])
    assert partly.exit_code == 1
    assert "damaged" in partly.output + str(partly.exception)
    assert len(list((tmp_path / "new").iterdir())) == 1
    (tmp_path / "empty").mkdir()
    nothing = CliRunner().invoke(main, ["export", str(tmp_path / "empty")])
    assert nothing.exit_code == 1
    assert "holds no explanations" in nothing.output + str(nothing.exception)


def test_a_notebook_shows_picture_players_and_story() -> None:
    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[tuple[str, dict[str, str | None]]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append((tag, dict(attrs)))

    found = explained()
    text = found._repr_html_()
    parser = Tags()
    parser.feed(text)
    images = [attributes for tag, attributes in parser.tags if tag == "img"]
    assert len(images) == 1  # the label is one too, and stays text
    assert str(images[0]["src"]).startswith("data:image/png;base64,")
    assert sum(tag == "audio" for tag, _ in parser.tags) == 3
    assert not any(tag == "script" for tag, _ in parser.tags)
    assert f"{found.round_trip.evidence.score:.3f}" in text
    assert found.verdict is not None
    assert found.verdict.reasons[0] in text
