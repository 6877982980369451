"""``otoscope compare``: what it writes, what it refuses, its exit codes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from otoscope.cli import main
from otoscope.explainers.comparison_report import FILES
from otoscope.explainers.store import load_explanation
from tests.builders import music
from tests.test_cli import assert_refused

RATE = 22050
QUICK = ("--parts", "grid", "--n-parts", "4", "--calls", "16", "--gates", "none")
TWO = ("--model", "harmonics", "--model", "harmonics-1")

EAR = """
import numpy as np
def predict(x):
    power = np.log10((x.astype(float) ** 2).mean(1, keepdims=True) + 1e-6)
    loud = 1 / (1 + np.exp(-power - 3))
    return np.hstack([loud, 1 - loud])
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)], catch_exceptions=False)


def recording(folder: Path, name: str = "tune.wav", *, seconds: float = 2.0, seed: int = 0) -> Path:
    path = folder / name
    soundfile.write(path, music(seconds=seconds, rate=RATE, seed=seed), RATE)
    return path


@pytest.fixture
def tune(tmp_path: Path) -> Path:
    return recording(tmp_path)


@pytest.fixture
def ear(tmp_path: Path) -> Path:
    """Card of a model that hears one second at 8,000 Hz."""
    (tmp_path / "ear.py").write_text(EAR)
    card = tmp_path / "ear.toml"
    card.write_text(
        '[model]\nname = "ear"\nkind = "python"\nlabels = ["loud", "quiet"]\noutput = "sigmoid"\n'
        '[model.settings]\nfunction = "ear.py:predict"\n[input]\nrate = 8000\nn_samples = 8000\n'
    )
    return card


def read(out: Path) -> dict[str, object]:
    return json.loads((out / "compare.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_recordings_models_and_methods_give_one_report(tmp_path: Path) -> None:
    files = [recording(tmp_path, "a&<b>.wav"), recording(tmp_path, "c.wav", seed=1)]
    out = tmp_path / "out"
    options = (*TWO, "--method", "lime", "--method", "occlusion", "--target", "sadness", *QUICK, "--gates", "quick")
    result = run(*files, *options, "--out", out)
    assert result.exit_code == 0, result.output
    lines = result.stdout.strip().splitlines()
    assert lines[0].startswith("harmonics and harmonics-1 by lime ")
    assert lines[1].startswith("harmonics and harmonics-1 by occlusion ")
    assert lines[-1] == f"report: {out / 'compare.html'}"
    told = read(out)
    assert told["schema"] == "otoscope/comparison/1"
    assert [row["name"] for row in told["rows"]] == [  # type: ignore[attr-defined]
        "harmonics · lime",
        "harmonics · occlusion",
        "harmonics-1 · lime",
        "harmonics-1 · occlusion",
    ]
    cases: list[dict[str, object]] = told["cases"]  # type: ignore[assignment]
    assert [case["recording"] for case in cases] == ["a&<b>.wav", "c.wav"]
    for case in cases:
        assert len(case["differences"]) == 2  # type: ignore[arg-type]
        for one in case["explanations"]:  # type: ignore[attr-defined]
            assert load_explanation(one["folder"]).target.name == "sadness"
    mean = np.mean([case["agreement"]["spearman"][0][2] for case in cases])  # type: ignore[index]
    assert told["agreement"]["spearman"][0][2] == pytest.approx(mean, abs=1e-5)  # type: ignore[index]
    assert told["trusted"]["checked"] == 8  # type: ignore[index]
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((out / "compare.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 2 * 6
    assert rows[0]["same_target"] == "1"
    assert float(rows[1]["spearman"]) == cases[0]["agreement"]["spearman"][0][2]  # type: ignore[index]


def test_the_page_is_safe_and_holds_everything_itself(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(recording(tmp_path, "a&<b>.wav"), *TWO, *QUICK, "--out", out).exit_code == 0
    page = (out / "compare.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in page
    assert "<b>" not in page
    assert "a&amp;&lt;b&gt;.wav" in page
    assert "<script" not in page
    assert not [
        address for address in re.findall(r'(?:src|href)="([^"]*)"', page) if not address.startswith(("data:", "#"))
    ]
    assert page.count("<audio") >= 2


def test_all_models_explain_the_same_span_and_deafness_is_marked(tmp_path: Path, ear: Path) -> None:
    out = tmp_path / "out"
    tune = recording(tmp_path, seconds=13.0)
    options = ("--model", ear, "--model", "harmonics", "--trust", *QUICK, "--out", out)
    assert run(tune, *options).exit_code == 0
    case = read(out)["cases"][0]  # type: ignore[index]
    spans = [load_explanation(one["folder"]).span for one in case["explanations"]]
    assert spans[0] == spans[1]
    assert spans[0].duration == 10
    assert [one["heard_below_hz"] for one in case["explanations"]] == [4000, 11025]
    assert any("ear hears nothing above 4 kHz" in note for note in case["notes"])
    assert any("the targets differ" in note for note in case["notes"])  # no label is shared, top was asked
    assert run(tune, *options, "--force", "--start", "1.5", "--duration", "2").exit_code == 0
    case = read(out)["cases"][0]  # type: ignore[index]
    assert (case["start"], case["duration"]) == (1.5, 2)


def test_labels_are_matched_by_a_mapping_or_by_correlation(tmp_path: Path, ear: Path) -> None:
    tune = recording(tmp_path, seconds=4.0)
    models = ("--model", ear, "--model", "harmonics", "--trust", *QUICK)
    mapping = tmp_path / "words.toml"
    mapping.write_text('[strong]\near = "loud"\nharmonics = "anxiety"\n[weak]\near = "quiet"\nharmonics = "sadness"\n')
    mapped = tmp_path / "mapped"
    assert (
        run(tune, *models, "--target", "weak", "--mapping", mapping, "--out", mapped, "--duration", "1").exit_code == 0
    )
    case = read(mapped)["cases"][0]  # type: ignore[index]
    assert [(one["explained"], one["stands_for"]) for one in case["explanations"]] == [
        ("quiet", "weak"),
        ("sadness", "weak"),
    ]
    assert "quiet" in next(note for note in case["notes"] if note.startswith("asked about what each calls weak"))
    paired = tmp_path / "paired"
    told = run(tune, *models, "--target", "loud", "--match", "correlation", "--duration", "1", "--out", paired)
    assert told.exit_code == 0, told.output
    case = read(paired)["cases"][0]  # type: ignore[index]
    assert [one["stands_for"] for one in case["explanations"]] == ["loud", "loud"]
    assert re.search(r"was taken for loud, with which its score correlates by [+-]\d", " ".join(case["notes"]))
    assert_refused(run(tune, *models, "--target", "loud", "--out", tmp_path / "x"), "--mapping", out=tmp_path / "x")


def test_a_check_that_fails_is_exit_code_3(tmp_path: Path, tune: Path) -> None:
    out = tmp_path / "out"
    options = (tune, *TWO, *QUICK, "--target", "sadness", "--out", out)
    failed = run(*options, "--min-spearman", "1")
    assert failed.exit_code == 3
    assert "harmonics and harmonics-1 (lime)" in failed.stderr
    assert "is below 1" in failed.stderr
    assert read(out)["check"]["passed"] is False  # type: ignore[index]
    assert "failed" in (out / "compare.html").read_text(encoding="utf-8")
    assert run(*options, "--min-spearman", "-1", "--resume").exit_code == 0
    assert read(out)["check"] == {"min_spearman": -1, "passed": True, "below": []}


def test_a_check_without_anything_to_check_does_not_pass(tmp_path: Path, tune: Path, ear: Path) -> None:
    out = tmp_path / "out"
    result = run(tune, "--model", ear, "--model", "harmonics", "--trust", *QUICK, "--out", out, "--min-spearman", "0.5")
    assert result.exit_code == 1
    assert "found nothing to check" in result.stderr
    assert (out / "compare.html").exists()


def test_seeds_show_how_far_a_model_agrees_with_itself(tmp_path: Path, tune: Path) -> None:
    out = tmp_path / "out"
    assert run(tune, *QUICK, "--seeds", "2", "--seed", "3", "--out", out).exit_code == 0
    told = read(out)
    assert [row["name"] for row in told["rows"]] == ["harmonics · seed 3", "harmonics · seed 4"]  # type: ignore[attr-defined]
    assert told["rivals"]["kind"] == "seeds"  # type: ignore[index]
    assert list((out / "seed-4").glob("*/harmonics/lime-*/explanation.json"))


def test_releases_are_compared_by_their_results(tmp_path: Path, tune: Path) -> None:
    for release in ("old", "new"):
        explained = CliRunner().invoke(main, ["explain", str(tune), *QUICK, "--out", str(tmp_path / release)])
        assert explained.exit_code == 0
    pair = ("--results", tmp_path / "old", "--results", tmp_path / "new")
    out = tmp_path / "out"
    same = run(*pair, "--out", out, "--min-spearman", "0.99")
    assert same.exit_code == 0, same.output
    assert same.stdout.startswith("old and new (harmonics · lime) agree well: Spearman +1.00")
    before = {name: (out / name).read_bytes() for name in FILES}
    assert run(*pair, "--out", out, "--min-spearman", "0.99", "--force").exit_code == 0
    assert {name: (out / name).read_bytes() for name in FILES} == before  # the same question gives the same bytes
    folder = next((tmp_path / "new").glob("*/*/lime-*"))
    with np.load(folder / "arrays.npz") as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(folder / "arrays.npz", **{**arrays, "map": -arrays["map"]})
    turned = run(*pair, "--out", out, "--force", "--min-spearman", "0.5")
    assert turned.exit_code == 3
    assert "old and new (harmonics · lime): -1.000 is below 0.5" in turned.stderr
    (folder / "arrays.npz").write_bytes(b"broken")
    assert_refused(run(*pair, "--out", tmp_path / "x"), str(folder), "is damaged", out=tmp_path / "x")


def test_results_of_different_recordings_are_refused(tmp_path: Path, tune: Path) -> None:
    other = recording(tmp_path, "other.wav", seed=9)
    for path in (tune, other):
        CliRunner().invoke(main, ["explain", str(path), *QUICK, "--out", str(tmp_path / path.stem)])
    out = tmp_path / "out"
    result = run("--results", tmp_path / "tune", "--results", tmp_path / "other", "--out", out)
    assert_refused(result, "have nothing in common to compare", "tune.wav", "other.wav", out=out)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_refused(run("--results", tmp_path / "tune", "--results", empty, "--out", out), str(empty), "holds no expl")
    assert_refused(run("--results", tmp_path / "tune", "--out", out), "name two different folders", out=out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "harmonics", "--model", "harmonic"], ["unknown model 'harmonic'", "'harmonics'"]),
        ([*TWO, "--method", "lmie"], ["unknown method 'lmie'", "'lime'"]),
        ([*TWO, "--method", "two_level"], ["two_level needs a corpus", "--results"]),
        ([*TWO, "--target", "sadnes"], ["unknown target 'sadnes'", "'sadness'"]),
        ([*TWO, "--mapping", "none.toml"], ["none.toml", "no such mapping file"]),
        ([*TWO, "--match", "correlation"], ["needs 5 stretches"]),
        ([*TWO, "--method", "gradcam", "--calls", "64"], ["--calls means nothing to gradcam"]),
        ([*TWO, "--start", "5"], ["cannot start at 5 s"]),
        ([*TWO, "--start", "1", "--duration", "3"], ["does not fit"]),
        ([*TWO, "--duration", "3"], ["less than the duration"]),
        ([*TWO, "--parts", "gird"], ["unknown part maker 'gird'", "'grid'"]),
        (["--model", "harmonics"], ["nothing to compare", "--seeds 2"]),
        (["--model", "harmonics", "--model", "harmonics"], ["two models are called 'harmonics'"]),
        (["--seeds", "2", "--min-spearman", "0.5"], ["--min-spearman checks how far models agree"]),
    ],
)
def test_a_wish_that_cannot_be_granted_is_one_line_and_nothing_is_written(
    arguments: list[str], words: list[str], tmp_path: Path, tune: Path
) -> None:
    out = tmp_path / "out"
    assert_refused(run(tune, *arguments, "--out", out), *words, out=out)


def test_wrong_usage_is_exit_code_2(tmp_path: Path, tune: Path) -> None:
    out = ("--out", tmp_path / "out")
    for arguments in (
        out,
        (tune, *TWO),
        (tune, "--results", tmp_path, *out),
        (tune, *TWO, "--mapping", "a.toml", "--match", "correlation", *out),
        ("--results", tmp_path, "--results", tmp_path / "b", "--calls", "64", *out),
        ("--results", tmp_path, "--results", tmp_path / "b", "--model", "harmonics", *out),
        (tune, *TWO, "--min-spearman", "2", *out),
    ):
        assert run(*arguments).exit_code == 2, arguments


def test_a_file_that_fails_is_named_and_the_others_are_compared(tmp_path: Path, tune: Path) -> None:
    short = recording(tmp_path, "short.wav", seconds=0.5)
    out = tmp_path / "out"
    result = run(tune, short, *TWO, *QUICK, "--start", "1", "--out", out)
    assert result.exit_code == 1
    assert "1 of 2 recordings failed, the others are compared" in result.stderr
    assert str(short) in result.stderr
    told = read(out)
    assert [case["recording"] for case in told["cases"]] == ["tune.wav"]  # type: ignore[attr-defined]
    assert "short.wav" in (out / "compare.html").read_text(encoding="utf-8")


def test_resume_makes_what_is_missing_and_a_broken_result_loses_nothing(tmp_path: Path, tune: Path) -> None:
    out = tmp_path / "out"
    options = (tune, *QUICK, "--target", "sadness", "--out", out)
    assert run(*options, *TWO).exit_code == 0
    assert_refused(run(*options, *TWO), str(out), "--force")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("**/explanation.json")}
    assert len(kept) == 2
    assert run(*options, *TWO, "--method", "lime", "--method", "occlusion", "--resume").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(out.glob("**/explanation.json"))) == 4
    broken = next(iter(kept))
    broken.write_text("{")
    before = sorted(str(path) for path in out.glob("**/*"))
    assert_refused(run(*options, *TWO, "--resume"), str(broken), "cannot be read")
    assert sorted(str(path) for path in out.glob("**/*")) == before


def test_json_is_for_machines(tmp_path: Path, tune: Path) -> None:
    told = json.loads(run(tune, *TWO, *QUICK, "--out", tmp_path / "out", "--json").stdout)
    assert told["report"].endswith("compare.html")
    assert told["rivals"]["pairs"][0]["first"] == "harmonics"
