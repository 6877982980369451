"""Explanations for other tools: what is written is read back by plain readers of each format."""

from __future__ import annotations

import csv
import errno
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import characters, text

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.cli import main
from otoscope.cli_export import KINDS
from otoscope.explainers.document import to_document
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.exports import FORMATS, as_audacity, as_csv, as_raven, export, extents
from otoscope.explainers.figure import Width
from otoscope.explainers.methods import Settings
from otoscope.explainers.report import find_results
from otoscope.explainers.store import result_folder, save, slug
from tests.builders import RATE, Function, noise, sigmoid, tone

EVIL = '=cmd()\t"<img src=x onerror=alert(1)>"\n'


NAMES = (EVIL, "a\rb", "\n=1", "\r=1", "+1", "-1", "@SUM(A1)", "＝1", 'a"b,c;d', "a\u2028b", "a\x00b\x1b[31m", "\\", "")


def explained(method: str = "lime", *, target: str | int = 0, output: Any = "softmax", **asked: Any) -> Explanation:
    """Explain a tone that comes after half a second."""
    samples = 0.02 * noise(seconds=2.0, level=1.0)
    samples[RATE // 2 :] += tone(440.0, seconds=1.5, level=0.3)

    def score(x: Any) -> Any:
        level = sigmoid(20 * (np.abs(x).mean(axis=1) - 0.1))
        return np.stack([level, 1 - level], axis=1)

    model = Function(score, rate=RATE, labels=(EVIL, "quiet"), output=output)
    audio = Audio(samples.astype(np.float32), RATE, "b.wav")
    own = {"calls": 64, "n_parts": 12, "parts": "grid"} if method == "lime" else {}
    return explain(model, audio, method=method, target=target, start=0.25, settings=Settings(**{**own, **asked}))


@pytest.fixture(scope="module")
def found() -> Explanation:
    return explained()


def boxes_of_labels(told: str) -> list[tuple[float, float, float, float]]:
    """Read Audacity labels as Audacity does: pairs of lines."""
    lines = told.splitlines()
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


def test_the_box_of_a_group_is_the_union_of_its_parts(found: Explanation) -> None:
    groups = np.random.default_rng(0).random((len(found.weights), found.parts.k)) < 0.2
    groups[:, 0] |= ~groups.any(axis=1)
    boxes = extents(replace(found, groups=groups))
    for box, group in zip(boxes, groups, strict=True):
        own = found.parts.extents[group]
        assert box.tolist() == [min(own[:, 0]), max(own[:, 1]), min(own[:, 2]), max(own[:, 3])]
    assert all(len(set(column)) > 1 for column in boxes.T)  # or a wrong end would not be seen


def test_the_table_holds_every_part_and_no_formula() -> None:
    found = explained()
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert len(rows) == len(found.weights)
    strongest = found.strongest(1)[0]
    assert float(rows[0]["weight"]) == pytest.approx(found.weights[strongest], rel=1e-5)
    assert float(rows[0]["se"]) == pytest.approx(found.se[strongest], rel=1e-5)  # type: ignore[index]
    assert sum(int(row["evidence"]) for row in rows) == found.chosen.sum()
    assert sum(float(row["energy"]) for row in rows) == pytest.approx(1, abs=1e-4)
    boxes = [[float(row[key]) for key in ("start", "end", "low", "high")] for row in rows]
    np.testing.assert_allclose(boxes, extents(found)[found.strongest(len(rows))], atol=1e-3)
    assert found.interval is not None
    interval = [float(rows[0][f"interval_{end}"]) for end in ("low", "high")]
    np.testing.assert_allclose(interval, found.interval[strongest], rtol=1e-5)
    assert rows[0]["name"] == found.names[strongest]


def test_what_a_method_does_not_give_is_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(explained("occlusion")))))
    assert {row[key] for row in rows for key in ("se", "interval_low", "interval_high")} == {""}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_name_breaks_a_table(found: Explanation, tmp_path: Path, name: str) -> None:
    evil = replace(found, names=tuple(name for _ in found.names), target=replace(found.target, name=name))
    with export(evil, tmp_path, "csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.weights)
    assert {row["name"].removeprefix("'") for row in rows} == {name}
    assert not rows[0]["name"].startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))
    assert None not in rows[0]  # no field too many
    labels = export(evil, tmp_path, "audacity").read_bytes().decode().split("\n")
    assert [line.count("\t") for line in labels] == [2] * (2 * int(found.chosen.sum())) + [0]
    assert not any(line.startswith("\\") for line in labels[::2])
    table = export(evil, tmp_path, "raven").read_bytes().decode().split("\n")
    assert [line.count("\t") for line in table] == [9] * (1 + int(found.chosen.sum())) + [0]


@given(name=text(characters(exclude_categories=["Cs"])))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_comes_back_from_the_table(found: Explanation, name: str) -> None:
    rows = list(csv.reader(io.StringIO(as_csv(replace(found, names=tuple(name for _ in found.names))), newline="")))
    assert {len(row) for row in rows} == {11}
    assert {row[0] for row in rows[1:]} <= {name, f"'{name}"}
    lines = as_audacity(replace(found, names=tuple(name for _ in found.names))).splitlines()
    assert len(lines) == 2 * found.chosen.sum()


def test_a_json_export_is_the_document(found: Explanation, tmp_path: Path) -> None:
    assert json.loads(export(found, tmp_path, "json").read_text("utf-8")) == json.loads(json.dumps(to_document(found)))


def test_every_format_is_written_and_the_same_twice(found: Explanation, tmp_path: Path) -> None:
    for kind in FORMATS:
        once = export(found, tmp_path / "one", kind)
        assert once.read_bytes() == export(found, tmp_path / "two", kind).read_bytes()
    widths = {export(found, tmp_path / "one", "svg", width=width).read_bytes() for width in get_args(Width)}
    assert len(widths) == 3
    with pytest.raises(OtoscopeError, match="unknown format 'ravn': did you mean 'raven'"):
        export(found, tmp_path, "ravn")


def test_a_place_that_cannot_be_written_is_one_line(
    found: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OtoscopeError, match=r"cannot be written .*; choose another folder"):
            export(found, place, "csv")
    kept = export(found, tmp_path, "csv").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OtoscopeError, match="Input/output error"):
        export(found, tmp_path, "csv")
    assert export_names(tmp_path) == {"file", "b-Function-lime-" + slug(EVIL) + ".csv"}
    assert (tmp_path / f"b-Function-lime-{slug(EVIL)}.csv").read_bytes() == kept


def export_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def run(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["export", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def out(found: Explanation, tmp_path: Path) -> Path:
    """Save a result of each of two methods, as `otoscope explain` does."""
    for one in (found, explained("occlusion")):
        save(one, tmp_path / "out" / result_folder(one, one.audio.name))
    return tmp_path / "out"


def test_the_command_exports_every_format_of_every_result(out: Path) -> None:
    asked = [word for kind in KINDS for word in ("--format", kind)]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    code, told = run(out, *asked)
    assert code == 0, told
    assert len(told.splitlines()) == len(export_names(out / "exports")) == 2 * len(KINDS)
    assert set(KINDS) == set(FORMATS)
    assert f"b-Function-occlusion-{slug(EVIL)}.selections.txt" in export_names(out / "exports")
    assert {path: path.read_bytes() for path in before} == before  # results stay as they are
    assert len(find_results(out)) == 2


def test_a_file_that_exists_is_kept_and_the_others_are_written(out: Path) -> None:
    assert run(out)[0] == 0
    first = next((out / "exports").glob("*lime*.csv"))
    first.write_text("mine")
    code, told = run(out, "--format", "csv", "--format", "json")
    assert code == 1
    assert told.count("use --force") == 2
    assert first.read_text() == "mine"
    assert len(list((out / "exports").glob("*.json"))) == 2
    assert run(out, "--force")[0] == 0
    assert first.read_text() != "mine"


@pytest.mark.parametrize("damage", ["missing", "arrays", "document"])
def test_what_is_damaged_or_missing_is_named_and_the_others_are_exported(out: Path, damage: str) -> None:
    bad, good = find_results(out)
    named = str(bad)
    if damage == "arrays":
        (bad / "arrays.npz").write_bytes(b"PK damaged")
    elif damage == "document":
        (bad / "explanation.json").write_text("{", encoding="utf-8")
    else:
        shutil.rmtree(bad)
    code, told = run(bad, good, "--out", out / "new")
    assert code == 1
    assert named in told.splitlines()[-1]
    assert told.splitlines()[-1].startswith("otoscope: error: 1 could not be exported, the others are written: ")
    assert len(export_names(out / "new")) == 1


def test_nothing_at_all_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, told = run(tmp_path / "empty")
    assert (code, len(told.splitlines())) == (1, 1)
    assert "holds no explanations" in told
    assert "are written" not in told
    assert not (tmp_path / "empty" / "exports").exists()


def test_a_result_named_twice_is_exported_once(out: Path) -> None:
    code, told = run(out, find_results(out)[0], out, "--out", out / "new")
    assert code == 0, told
    assert len(told.splitlines()) == 2


def test_two_results_of_one_name_never_share_a_file(out: Path) -> None:
    shutil.copytree(out, out.parent / "other")
    code, told = run(out, out.parent / "other", "--out", out / "new")
    assert code == 1
    assert told.count("was just written for another result") == 2
    assert len(export_names(out / "new")) == 2
    code, told = run(out, out.parent / "other")
    assert code == 0, told  # each beside its own results
    assert export_names(out / "exports") == export_names(out.parent / "other" / "exports")


def test_a_folder_that_is_a_result_gets_nothing_into_it(out: Path) -> None:
    result = find_results(out)[0]
    before = export_names(result)
    assert run(result)[0] == 0
    assert export_names(result) == before
    assert len(export_names(result.parent / "exports")) == 1


def test_options_reach_what_is_written(out: Path) -> None:
    run(out, "--format", "audacity", "--format", "svg", "--out", out / "a")
    run(out, "--format", "audacity", "--format", "svg", "--out", out / "b", "--span", "--width", "single")
    for path in (out / "a").iterdir():
        assert path.read_bytes() != (out / "b" / path.name).read_bytes()
    code, told = run(out, "--json", "--out", out / "c")
    assert code == 0
    assert {Path(path).name for path in json.loads(told)["written"]} == export_names(out / "c")
    assert run(out, "--format", "docx")[0] == 2
