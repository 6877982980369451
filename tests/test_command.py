"""The command that a report shows: given to the program again, it makes the same explanation."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from otoscope.adapters.audio import write_wav
from otoscope.cli import main
from otoscope.explainers.methods import Settings
from otoscope.explainers.report import find_results
from otoscope.explainers.story import OPTIONS, command
from otoscope.runs import Run, explain_one
from tests import test_two_level as levels
from tests.builders import noise
from tests.test_schema import faults

Document = dict[str, Any]
RATE = 8000
MODEL = "import numpy\ndef predict(x):\n    return numpy.minimum(1, 2 * abs(x[:, :4000]).mean(1, keepdims=True))\n"
CARD = """[model]
name = "early"
kind = "python"
labels = ["early"]
output = "sigmoid"
[model.settings]
function = "net.py:predict"
[input]
rate = 8000
n_samples = 8000
"""


@pytest.fixture
def song(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a recording, whose name looks like an option, and a card that needs trust; the folder is the current one."""
    monkeypatch.chdir(tmp_path)
    write_wav("-my song.wav", noise(seconds=2, rate=RATE), RATE)
    Path("net.py").write_text(MODEL)
    Path("card.toml").write_text(CARD)
    return Path("-my song.wav")


def parsed(document: Document) -> dict[str, Any]:
    """Read the command as the program does."""
    words = shlex.split(command(document))
    assert words[:2] == ["otoscope", "explain"]
    return main.commands["explain"].make_context("explain", words[2:]).params


def read(folder: Path) -> Document:
    told: Document = json.loads((folder / "explanation.json").read_text(encoding="utf-8"))
    assert faults("explanation", told, shut=True) == []
    return told


def test_what_a_model_was_loaded_with_is_given_again(song: Path) -> None:
    asked = ["explain", f"./{song}", "--model", "card.toml", "--out", "one", "--trust", "--batch-size", "5"]
    asked += ["--equal-loudness", "--method", "occlusion", "--parts", "grid", "--n-parts", "6", "--off", "noise"]
    first = CliRunner().invoke(main, asked)
    assert first.exit_code == 0, first.output
    (one,) = (read(folder) for folder in find_results(Path("one")))
    words = shlex.split(command(one))
    again = CliRunner().invoke(main, words[1:])
    assert again.exit_code == 0, again.output
    (two,) = (read(folder) for folder in find_results(Path("report")))
    for key in ("weights", "round_trip", "gains", "options", "model"):
        assert two[key] == one[key]
    assert command(two) == command(one)
    assert parsed(one)["batch_size"] == 5


def test_what_the_program_takes_by_itself_is_not_said_nor_what_is_no_option_of_ours(song: Path) -> None:
    model, asked = levels.linear_model(), Settings(parts="grid", n_parts=4, calls=16)
    loading = {"device": "cpu", "trust": False, "allow_network": False}
    run = Run([song], "early", ["lime"], ["yes"], asked, Path("out"), loading=loading)
    document = read(Path(explain_one(run, model, None, song, "lime", "yes", {})["folder"]))
    assert "options" not in document
    assert not any(f"--{name.replace('_', '-')}" in command(document) for name in (*OPTIONS, "equal-loudness"))
    changed = {**document, "options": {"out": "/etc", "; rm": True, "device": "cpu; rm -r ."}}
    assert parsed(changed)["device"] == "cpu; rm -r ."
    assert parsed(changed)["out"] == Path("report")


def test_a_corpus_and_a_device_are_given_again_where_they_mean_something(song: Path) -> None:
    model, mid = levels.linear_model(), levels.midlevel()
    given = levels.fitted(model, mid)
    loading = {"device": "cuda", "trust": True, "allow_network": True}
    settings = Settings(parts="grid", n_parts=4, calls=16)
    files, out = [song], Path("out")
    run = Run(
        files, "card.toml", ["two_level", "lime"], ["yes"], settings, out,
        corpus=Path("my songs"), midlevel="own.toml", loading=loading,
    )  # fmt: skip
    expected = {"device": "cuda", "trust": True, "allow_network": True, "model_name": "card.toml", "batch_size": 32}
    for method, two_level, corpus, midlevel in (
        ("two_level", given, Path("my songs"), "own.toml"),
        ("lime", None, None, None),  # which would refuse a corpus
    ):
        document = read(Path(explain_one(run, model, two_level, song, method, "yes", {})["folder"]))
        found = parsed(document)
        assert {key: found[key] for key in expected} == expected
        assert (found["corpus"], found["midlevel"]) == (corpus, midlevel)
        assert found["files"] == (Path("-my song.wav"),)


class Asked(Exception):
    """Ends a command where the work would begin."""


@pytest.mark.parametrize(
    ("words", "place", "name"),
    [
        (["explain"], "otoscope.runs.carry_out", None),
        (["compare", "--seeds", "2"], "otoscope.comparing.compare_models", None),
        (["timeline", "--explain", "1"], "otoscope.emotion.timelines", "run"),
    ],
    ids=lambda one: one[0] if isinstance(one, list) else "",
)
def test_every_command_that_explains_keeps_how_models_are_loaded(
    words: list[str], place: str, name: str | None, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Run] = []

    def stop(first: Any, *_: Any, **named: Any) -> None:
        runs.append(named[name] if name else getattr(first, "run", first))
        raise Asked

    monkeypatch.setattr(place, stop)
    with pytest.raises(Asked):
        CliRunner().invoke(
            main, [*words, f"./{song}", "--model", "card.toml", "--trust", "--out", "out"], catch_exceptions=False
        )
    assert runs[0].options(two_level=False) == {"trust": True}
