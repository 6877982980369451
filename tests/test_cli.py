"""The command line: what it prints, what it refuses, what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from otoscope.cli import main

RATE = 22050
QUICK = ["--parts", "grid", "--n-parts", "4", "--calls", "16"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **settings: str) -> Path:
    soundfile.write(path, samples, rate, **settings)
    return path


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    time = np.arange(2 * RATE) / RATE
    return write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 440 * time))


def assert_refused(result: Result, *words: str, out: Path | None = None) -> None:
    """Exit code 1, one line on stderr with these words, nothing written."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("otoscope: error: ")
    for word in words:
        assert word in lines[0]
    if out is not None:
        assert not out.exists()


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    quiet = np.zeros(RATE, dtype=np.float32)
    text = folder / "text.wav"
    text.write_text("this is no audio")
    broken = quiet.copy()
    broken[100] = np.nan
    endless = quiet.copy()
    endless[7] = np.inf
    return {
        "missing": (folder / "nothing.wav", "no such file"),
        "folder": (folder, "is a folder"),
        "text": (text, "cannot be read as audio"),
        "empty": (write(folder / "empty.wav", quiet[:0]), "no samples"),
        "nan": (write(folder / "nan.wav", broken, subtype="FLOAT"), "NaN or infinite"),
        "infinite": (write(folder / "inf.wav", endless, subtype="FLOAT"), "NaN or infinite"),
        "one sample": (write(folder / "one.wav", quiet[:1]), "too short"),
        "three hours": (write(folder / "long.wav", np.zeros(3 * 3600 * 100, dtype=np.int16), 100), "too long"),
    }


@pytest.mark.parametrize("case", ["missing", "folder", "text", "empty", "nan", "infinite", "one sample", "three hours"])
def test_a_bad_recording_is_one_line_and_nothing_is_written_not_even_for_the_good_one(
    case: str, tmp_path: Path, tone: Path
) -> None:
    path, fault = bad_files(tmp_path)[case]
    out = tmp_path / "out"
    assert_refused(run("explain", tone, path, "--out", out, *QUICK), str(path), fault, out=out)
    assert_refused(run("predict", path), str(path), fault)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "harmonic"], ["unknown model 'harmonic'", "'harmonics'"]),
        (["--model", "nothing.toml"], ["nothing.toml", "no such model card"]),
        (["--method", "lmie"], ["unknown method 'lmie'", "'lime'"]),
        (["--target", "exuberence"], ["unknown target 'exuberence'", "'exuberance'"]),
        (["--target", "9"], ["unknown target '9'"]),
        (["--parts", "superpixel"], ["unknown part maker 'superpixel'", "'superpixels'"]),
        (["--method", "gradcam", "--calls", "64"], ["--calls means nothing to gradcam", "lime"]),
        (["--method", "gradcam", "--layer", "rleu"], ["unknown layer 'rleu'", "'relu'"]),
        (["--calls", "20", "--n-parts", "64"], ["20 calls are too few", "give at least"]),
        (["--neighbourhood", "exhaustive", "--calls", "16"], ["too many"]),
        (["--start", "5"], ["cannot start at 5 s"]),
        (["--start", "1", "--duration", "3"], ["does not fit"]),
        (["--duration", "3"], ["less than the duration"]),
        (["--device", "nonsense"], ["device 'nonsense'"]),
        (["--method", "occlusion", "--notes", "H9"], ["'H9' is not a note"]),
        (["--render", "nnls"], ["--domain bands"]),
    ],
)
def test_a_wish_that_cannot_be_granted_is_one_line_and_nothing_is_written(
    arguments: list[str], words: list[str], tmp_path: Path, tone: Path
) -> None:
    out = tmp_path / "out"
    assert_refused(run("explain", tone, "--out", out, *arguments), *words, out=out)


def test_wrong_usage_is_exit_code_2(tone: Path) -> None:
    assert run("explain", tone).exit_code == 2
    assert run("explain", tone, "--out", "x", "--off", "loud").exit_code == 2
    assert run("nonsense").exit_code == 2


def test_existing_results_are_kept_without_force(tmp_path: Path, tone: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    result = run("explain", tone, "--out", out, *QUICK)
    assert_refused(result, str(out), "--force")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert run("explain", tone, "--out", out, *QUICK, "--force").exit_code == 0
    assert (out / "mine.txt").read_text() == "precious"
    assert_refused(run("explain", tone, "--out", out / "mine.txt", *QUICK), "is a file")


def test_an_unwritable_folder_is_one_line(tmp_path: Path, tone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, to whom every folder is writable: let the system call refuse.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    out = tmp_path / "out"
    assert_refused(run("explain", tone, "--out", out, *QUICK), str(out), "Permission denied", out=out)


def test_explain_writes_the_promised_files_and_tells_the_story(tmp_path: Path, tone: Path) -> None:
    out = tmp_path / "out"
    result = run(
        "explain", tone, "--method", "lime", "--method", "gradcam", "--target", "sadness", "--out", out, *QUICK
    )
    assert result.exit_code == 0, result.output
    for word in ("target", "sadness", "strongest", "round trip", "padded", f"report: {out / 'report.html'}"):
        assert word in result.stdout
    folders = sorted(path.parent.name for path in out.glob("tone-*/harmonics/*/explanation.json"))
    assert folders == ["gradcam-sadness", "lime-sadness"]
    assert (out / "report.html").exists()
    assert (out / "index.json").exists()
    assert not list(out.glob("**/.*"))


def test_json_is_all_that_stdout_holds(tmp_path: Path, tone: Path) -> None:
    explained = json.loads(run("explain", tone, "--out", tmp_path / "out", *QUICK, "--json").stdout)
    assert explained["failed"] == []
    assert explained["results"][0]["method"] == "lime"
    assert {m["name"] for m in json.loads(run("models", "--json").stdout)["models"]} >= {
        "harmonics",
        "harmonics-1",
        "harmonics-2",
    }
    told = json.loads(run("methods", "--json").stdout)["methods"]
    assert set(told) >= {"lime", "occlusion", "ablation", "gradcam", "two_level", "shapley", "kernelshap", "rise"}
    windows = json.loads(run("predict", tone, "--json").stdout)[0]["windows"]
    assert sum(windows[0]["scores"].values()) == pytest.approx(1)


def test_the_seed_decides_the_bytes(tmp_path: Path, tone: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        many = ("--parts", "grid", "--n-parts", "16", "--calls", "64")  # of four parts all combinations are asked
        result = run("explain", tone, "--out", tmp_path / name, *many, "--seed", seed)
        assert result.exit_code == 0, result.output
    calls = [next((tmp_path / name).glob("*/*/*/calls.npz")).read_bytes() for name in "abc"]
    assert calls[0] == calls[1]
    assert calls[0] != calls[2]


def test_resume_keeps_what_is_there_and_adds_what_is_missing(tmp_path: Path, tone: Path) -> None:
    out = tmp_path / "out"
    run("explain", tone, "--out", out, *QUICK)
    kept = next(out.glob("*/*/lime-*/explanation.json"))
    before = kept.stat().st_mtime_ns
    both = ["--method", "lime", "--method", "gradcam"]
    assert run("explain", tone, "--out", out, *QUICK, *both, "--resume").exit_code == 0
    assert kept.stat().st_mtime_ns == before
    assert list(out.glob("*/*/gradcam-*/explanation.json"))
    other = run("explain", tone, "--out", out, *QUICK, "--resume", "--seed", 1)  # another seed is another question
    assert other.exit_code == 1
    assert "other settings" in other.stderr
    assert run("explain", tone, "--out", out, *QUICK, "--resume", "--equal-loudness").exit_code == 1
    assert kept.stat().st_mtime_ns == before
    assert run("explain", tone, "--out", out, *QUICK, "--force", "--seed", 1).exit_code == 0
    assert kept.stat().st_mtime_ns != before


def test_a_file_that_fails_later_is_named_and_the_others_are_kept(tmp_path: Path, tone: Path) -> None:
    short = write(tmp_path / "short.wav", np.random.default_rng(0).uniform(-0.2, 0.2, RATE // 2))
    out = tmp_path / "out"
    result = run("explain", tone, short, "--start", "1", "--out", out, *QUICK)
    assert result.exit_code == 1
    assert "1 of 2 files failed" in result.stderr
    assert str(short) in result.stderr
    assert list(out.glob("tone-*/*/*/explanation.json"))
    assert (out / "report.html").exists()


def test_silence_and_clipping_work_and_say_so(tmp_path: Path) -> None:
    silent = write(tmp_path / "silent.wav", np.zeros(2 * RATE))
    loud = 3 * np.sin(2 * np.pi * 220 * np.arange(2 * RATE) / RATE)
    clipped = write(tmp_path / "clipped.wav", np.clip(loud, -1, 1))
    asked = ("--method", "lime", "--method", "gradcam", *QUICK, "--out", tmp_path / "out")
    result = run("explain", silent, clipped, *asked)
    assert result.exit_code == 0, result.output
    assert "digital silence" in result.stdout
    assert "clipped" in result.stdout


def test_stereo_at_the_models_rate_is_mixed_down_and_not_taken_for_a_batch(tmp_path: Path) -> None:
    time = np.arange(6 * RATE) / RATE
    left, right = 0.3 * np.sin(2 * np.pi * 330 * time), 0.3 * np.sin(2 * np.pi * 550 * time)
    stereo = write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    mono = write(tmp_path / "mono.wav", (left + right) / 2, subtype="FLOAT")
    first, second = json.loads(run("predict", stereo, mono, "--json").stdout)
    assert len(first["windows"]) == 1
    assert first["windows"][0]["scores"] == pytest.approx(second["windows"][0]["scores"], abs=1e-5)


def test_a_long_recording_is_scored_window_by_window(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, 20 * RATE)
    windows = json.loads(run("predict", write(tmp_path / "long.wav", noise), "--json").stdout)[0]["windows"]
    assert [round(window["start"], 2) for window in windows] == [0, 4.67, 9.33, 14]
    assert windows[-1]["end"] == pytest.approx(20)


def stopped_while_drawing(arguments: list[str], signal: str) -> int:
    """Run the program, have it signalled half-way through writing a result, and give its exit code."""
    script = (
        "import os, signal, otoscope.explainers.figure as figure\n"
        f"figure.draw = lambda *_: os.kill(os.getpid(), signal.{signal})\n"
        "from otoscope.cli import main\nmain()\n"
    )
    return subprocess.run([sys.executable, "-c", script, *arguments], check=False, capture_output=True).returncode


def test_a_killed_run_leaves_no_half_report_and_can_go_on(tmp_path: Path, tone: Path) -> None:
    out = tmp_path / "out"
    arguments = ["explain", str(tone), "--out", str(out), *QUICK]
    assert stopped_while_drawing(arguments, "SIGKILL") == -9
    assert not list(out.glob("**/report.html"))
    assert not [path for path in out.glob("*/*/*/explanation.json") if ".partial" not in str(path)]
    assert run(*arguments, "--resume").exit_code == 0
    assert len(list(out.glob("**/explanation.json"))) == 1


def test_a_terminated_run_tidies_up(tmp_path: Path, tone: Path) -> None:
    out = tmp_path / "out"
    arguments = ["explain", str(tone), "--out", str(out), *QUICK]
    assert stopped_while_drawing(arguments, "SIGTERM") == 143
    assert not [path for path in out.glob("**/*") if path.is_file()]


def test_help_and_listings_import_nothing_heavy() -> None:
    script = (
        "import sys; from otoscope.cli import main; main(%r, standalone_mode=False); "
        "print([m for m in %r if m in sys.modules])"
    )
    heavy = ("torch", "librosa", "captum", "matplotlib", "skimage", "scipy")
    for arguments in (["--help"], ["models"], ["explain", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", script % (arguments, heavy)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "100"},
        )
        assert done.stdout.strip().splitlines()[-1] == "[]", arguments


def test_every_command_shows_an_example() -> None:
    for name, command in main.commands.items():
        assert f"otoscope {name}" in (command.help or ""), name
        assert run(name, "--help").exit_code == 0


def test_models_and_methods_have_one_line_each() -> None:
    lines = run("models").stdout.splitlines()
    assert any(line.startswith("harmonics ") and "= harmonics-2" in line for line in lines)
    assert any(line.startswith("harmonics-1") and "22050 Hz" in line for line in lines)
    told = run("methods").stdout
    for word in ("lime", "occlusion", "gradcam", "superpixels", "hpss", "harmonic", "grid"):
        assert word in told


def test_a_method_that_does_not_fit_the_model_is_refused_before_any_work(tone: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def predict(x):\n    return abs(x).mean(1, keepdims=True)\n")
    card = tmp_path / "card.toml"
    about = '[model]\nname = "loud"\nkind = "python"\nlabels = ["loud"]\noutput = "regression"\n'
    card.write_text(about + '[model.settings]\nfunction = "net.py:predict"\n[input]\nrate = 8000\n')
    options = ["--model", card, "--trust", "--out", tmp_path / "out", *QUICK]
    refused = run("explain", tone, "--method", "lime", "--method", "gradcam", *options)
    assert_refused(refused, "gradcam cannot explain it; use lime, occlusion", out=tmp_path / "out")
    told = run("explain", tone, "--method", "lime", *options)
    assert told.exit_code == 0
    assert "loud, lime" in told.stdout


def test_the_doctor_ends_with_3_where_a_check_fails(tmp_path: Path, tone: Path) -> None:
    (tmp_path / "net.py").write_text("import random\ndef predict(x):\n    return x[:, :2] * 0 + random.random()\n")
    card = tmp_path / "card.toml"
    card.write_text(
        '[model]\nname = "dice"\nkind = "python"\nlabels = ["a", "b"]\noutput = "sigmoid"\n'
        '[model.settings]\nfunction = "net.py:predict"\n[input]\nrate = 8000\nn_samples = 8000\n'
    )
    sick = run("doctor", tone, "--model", card, "--trust")
    assert sick.exit_code == 3
    assert any(line.startswith("FAIL  determinism") for line in sick.stdout.splitlines())
    told = json.loads(run("doctor", "--model", card, "--trust", "--json").stdout)
    assert told["failed"] is True
    assert {"check", "status", "measured", "meaning"} <= set(told["findings"][0])
    assert run("doctor", "--model", "harmonics", "--verbose").exit_code == 0
    assert_refused(run("doctor", "--model", card), "--trust")


def test_the_name_of_a_recording_cannot_command_the_terminal(tmp_path: Path) -> None:
    time = np.arange(RATE) / RATE
    path = write(tmp_path / "a\x1b[31mb.wav", 0.3 * np.sin(2 * np.pi * 440 * time))
    for arguments in (("predict", path), ("explain", path, "--out", tmp_path / "out", *QUICK)):
        told = run(*arguments)
        assert told.exit_code == 0
        assert "\x1b" not in told.output
        assert "a\\x1b[31mb.wav" in told.output
