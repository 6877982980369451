"""A folder of hostile files, through the front door: nothing runs, nothing is created, one line each, exit code 1."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner, Result

from otoscope.cli import main
from tests import hostile
from tests.builders import RATE, music

CARD = """
[model]
name = "guest"
kind = "{kind}"
{path}
labels = {labels}
{settings}

[input]
rate = 8000
"""


def card(path: Path, *, kind: str = "torch", file: str = "", labels: str = '["a", "b"]', settings: str = "") -> Path:
    named = f'path = "{file}"' if file else ""
    path.write_text(CARD.format(kind=kind, path=named, labels=labels, settings=settings))
    return path


def load(spec: Path, folder: Path, *options: str) -> Result:
    sound = folder / "sound.wav"
    soundfile.write(sound, music(seconds=0.5), RATE)
    return CliRunner().invoke(main, ["predict", str(sound), "--model", str(spec), *options], catch_exceptions=False)


def assert_refused(result: Result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("otoscope: error: ")
    assert lines[0].isprintable()
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("bare", [True, False], ids=["bare", "by a card"])
def test_no_hostile_file_runs_or_leaves_anything(tmp_path: Path, bare: bool) -> None:
    marker = tmp_path / "ran"
    files = hostile.hostile_files(tmp_path / "files", marker)
    assert len(files) > 20
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for name, path in files.items():
        for kind in ["torch"] if bare else ["torch", "onnx", "tflite", "sklearn"]:
            settings = '[model.settings]\nfeatures = "mfcc"' if kind == "sklearn" else ""
            spec = path if bare else card(path.parent / "guest.toml", kind=kind, file=path.name, settings=settings)
            assert_refused(load(spec, tmp_path), name)
    assert not marker.exists()
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.name for path in left} <= {"guest.toml", "sound.wav"}


def test_with_trust_the_harmless_ones_load(tmp_path: Path) -> None:
    hostile.harmless_files(tmp_path)
    for name in ("scripted.pt", "module.pt", "program.pt2"):
        spec = card(tmp_path / "guest.toml", file=name)
        refused = load(spec, tmp_path)
        assert_refused(refused, name, "--trust")
        heard = load(spec, tmp_path, "--trust")
        # the network answers with steps, so all that is left to say is how they become one
        assert heard.exit_code in (0, 1)
        assert "--trust" not in heard.output + heard.stderr


@pytest.mark.parametrize("name", ["../outside.pt", "/etc/passwd", "a/../../outside.pt"])
def test_a_card_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.pt").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    assert_refused(load(card(tmp_path / "folder" / "card.toml", file=name), tmp_path), "climbs out")
    labelled = card(tmp_path / "folder" / "card.toml", file="x.pt", labels=f'"{name}"')
    (tmp_path / "folder" / "x.pt").write_bytes(b"x")
    assert_refused(load(labelled, tmp_path))


@pytest.mark.parametrize(
    "label", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a\\u001b[31mb", "a\\nb", "a\\u202eb", " "]
)
def test_labels_with_markup_or_control_characters_are_refused(tmp_path: Path, label: str) -> None:
    hostile.harmless_files(tmp_path)
    spec = card(tmp_path / "card.toml", file="module.pt", labels=f'["fine", "{label}"]')
    assert_refused(load(spec, tmp_path, "--trust"), "label")


def test_a_card_cannot_grant_trust_however_deep(tmp_path: Path) -> None:
    hostile.harmless_files(tmp_path)
    for settings in ("trust = true", "[model.settings]\ntrust = true", "[model.settings.deep]\ntrust = true"):
        spec = card(tmp_path / "card.toml", file="module.pt", settings=settings)
        assert_refused(load(spec, tmp_path), "cannot grant trust")


def test_a_card_of_a_hundred_megabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    with path.open("wb") as stream:
        stream.truncate(100_000_000)
    assert_refused(load(path, tmp_path), "too large for a model card")


@pytest.mark.parametrize("part", ["a", '"a b"', "'a'", "a . b "])
def test_a_key_of_thousands_of_parts_is_refused_before_it_is_parsed(tmp_path: Path, part: str) -> None:
    (tmp_path / "card.toml").write_text("[model]\n" + ".".join([part] * 20_000) + " = 1\n")
    assert_refused(load(tmp_path / "card.toml", tmp_path), "holds a key of more than 50 parts")


def test_a_long_list_of_numbers_is_no_such_key(tmp_path: Path) -> None:
    hostile.harmless_files(tmp_path)
    mean = "[" + ", ".join(["0.5"] * 128) + "]"
    front_end = f"[input.front_end]\nmean = {mean}\nstft = {{ n_fft = 512, hop_length = 256 }}"
    spec = card(tmp_path / "card.toml", file="module.pt")
    spec.write_text(spec.read_text() + front_end)
    assert "parts" not in load(spec, tmp_path, "--trust").stderr


def test_a_card_nested_a_thousand_deep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text("[model]\nx = " + "[" * 5000 + "]" * 5000)
    assert_refused(load(tmp_path / "card.toml", tmp_path), "no valid TOML")


@pytest.mark.parametrize(
    "settings",
    [
        '[model.settings]\nfunction = "os:getcwd"',
        '[model.settings]\nfunction = "evil.py:run"',
    ],
)
def test_functions_need_trust(tmp_path: Path, settings: str) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n\ndef run(x):\n    return x[:, :2]\n")
    assert_refused(load(card(tmp_path / "card.toml", kind="python", settings=settings), tmp_path), "--trust")
    assert not (tmp_path / "ran").exists()


def test_commands_need_trust(tmp_path: Path) -> None:
    settings = f'[model.settings]\ncommand = ["touch", "{tmp_path / "ran"}", "{{file}}"]'
    assert_refused(load(card(tmp_path / "card.toml", kind="command", settings=settings), tmp_path), "touch", "--trust")
    assert not (tmp_path / "ran").exists()


def test_addresses_need_the_network_to_be_allowed_and_trust_is_not_enough(tmp_path: Path) -> None:
    settings = '[model.settings]\nurl = "http://127.0.0.1:9/score"'
    spec = card(tmp_path / "card.toml", kind="http", settings=settings)
    assert_refused(load(spec, tmp_path, "--trust"), "127.0.0.1", "--allow-network")


def test_a_file_with_another_checksum_than_its_card_names_is_refused(tmp_path: Path) -> None:
    hostile.harmless_files(tmp_path)
    spec = card(tmp_path / "card.toml", file="module.pt", settings=f'sha256 = "{"0" * 64}"')
    assert_refused(load(spec, tmp_path, "--trust"), "its sha256 is", "the card names 0000000000000000")


def test_numbers_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    hostile.harmless_files(tmp_path)
    spec = card(tmp_path / "card.toml", file="module.pt")
    text = spec.read_text()
    for heard in (
        "n_samples = 99999999999",
        "[input.front_end]\nn_bands = 99999999\nstft = { n_fft = 512, hop_length = 256 }",
        "[input.front_end]\nstft = { n_fft = 9999999999, hop_length = 256 }",
        "[input.front_end]\nn_frames = 9999999999\nstft = { n_fft = 512, hop_length = 256 }",
    ):
        spec.write_text(text + heard)
        assert_refused(load(spec, tmp_path, "--trust"), "[input", "must")
