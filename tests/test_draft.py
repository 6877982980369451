"""Drafts of cards: what a file tells, and that a corrected draft loads."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from otoscope.adapters.card import read_card
from otoscope.adapters.draft import draft
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.registry import load_model
from otoscope.cli import main
from tests import hostile
from tests.builders import DATA


def onnx_file(path: Path, shape: list[Any], classes: int = 3) -> Path:
    """Write a network that averages whatever it takes and answers with that many equal scores."""
    from onnx import TensorProto, helper, numpy_helper, save

    ends = [
        helper.make_tensor_value_info("sound", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", classes]),
    ]
    flat = [
        helper.make_node("Flatten", ["sound"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axes"], ["mean"], keepdims=1),
        helper.make_node("MatMul", ["mean", "ones"], ["scores"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([1]), "axes"),
        numpy_helper.from_array(np.ones((1, classes), np.float32), "ones"),
    ]
    model = helper.make_model(helper.make_graph(flat, "g", ends[:1], ends[1:], weights), ir_version=8)
    model.opset_import[0].version = 18
    save(model, path)
    return path


@pytest.mark.parametrize(
    ("shape", "layout", "size"),
    [
        (["n", 16000], ["items", "samples"], {"n_samples": 16000}),
        (["n", "t"], ["items", "samples"], {}),
        (["n", 1, 16000], ["items", "channels", "samples"], {"n_samples": 16000}),
        (["n", 101, 64], ["items", "frames", "bands"], {"n_bands": 64, "n_frames": 101}),
        (["n", 1, 128, "t"], ["items", "channels", "bands", "frames"], {"n_bands": 128}),
        (["n", 64, 96], ["items", "bands", "frames"], {"n_bands": 64, "n_frames": 96}),
    ],
)
def test_the_shape_of_the_input_suggests_the_layout(
    tmp_path: Path, shape: list[Any], layout: list[str], size: dict[str, int]
) -> None:
    text = draft(onnx_file(tmp_path / "net.onnx", shape))
    heard = tomllib.loads(text)["input"]
    assert heard["layout"] == layout
    told = {**heard, **heard.get("front_end", {})}
    assert size.items() <= told.items()
    assert ("n_frames" in size) == ("n_frames" in told)
    (tmp_path / "net.toml").write_text(text)
    model = load_model(str(tmp_path / "net.toml"))
    assert model.labels == ("class 0", "class 1", "class 2")
    assert model.predict(np.full((2, model.n_samples or 9000), 0.1, np.float32)).shape == (2, 3)


@pytest.mark.skipif(not (DATA / "models").is_dir(), reason="needs the models of other people; set OTOSCOPE_DATA")
@pytest.mark.parametrize(
    ("name", "output"),
    [("mtt_musicnn.onnx", "sigmoid"), ("yamnet.tflite", "sigmoid"), ("piano_emotion.tflite", "softmax")],
)
def test_the_kind_of_scores_is_guessed_by_asking(tmp_path: Path, name: str, output: str) -> None:
    shutil.copy(DATA / "models" / name, tmp_path / name)
    about = tomllib.loads(draft(tmp_path / name))["model"]
    assert (about["output"], about["returns"]) == (output, "scores")


def test_whole_networks_get_no_factory(tmp_path: Path) -> None:
    files = hostile.harmless_files(tmp_path)
    for name, whole in (("scripted.pt", True), ("program.pt2", True), ("module.pt", True), ("state.pt", False)):
        assert ("factory" in draft(files[name])) is not whole, name


def test_what_needs_no_card_is_told_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(OtoscopeError, match=rf"needs no card; use --model {tmp_path}$"):
            draft(path)
    sound = tmp_path / "other" / "a.wav"
    sound.parent.mkdir()
    soundfile.write(sound, np.zeros(800), 8000)
    with pytest.raises(OtoscopeError, match=r"a\.wav: is a recording; a card can describe"):
        draft(sound)
    with pytest.raises(OtoscopeError, match=r"a\.wav: is a recording, no model"):
        load_model(str(sound))


def test_labels_beside_the_file_are_found_and_many_are_asked_for(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "net.onnx", ["n", 16000], classes=30)
    assert tomllib.loads(draft(path))["model"]["labels"] == "net.labels.txt"
    (tmp_path / "notes.txt").write_text("one\ntwo\n")
    (tmp_path / "a.labels.txt").write_text("\n".join(f"other {i}" for i in range(30)))
    (tmp_path / "net.labels.csv").write_text("index,label\n" + "".join(f"{i},name {i}\n" for i in range(30)))
    assert tomllib.loads(draft(path))["model"]["labels"] == "net.labels.csv"
    (tmp_path / "net.toml").write_text(draft(path))
    assert read_card(tmp_path / "net.toml").labels[7] == "name 7"


def test_every_harmless_file_gets_a_card_that_keeps_the_rules(tmp_path: Path) -> None:
    files = hostile.harmless_files(tmp_path)
    for name, path in files.items():
        if "array" in name:
            continue  # no model
        card = tmp_path / f"{name}.toml"
        card.write_text(draft(path))
        about = read_card(card).model
        assert about.kind in ("onnx", "sklearn", "torch"), name
        assert read_card(card).weights == path.resolve()


def test_what_no_card_can_describe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(OtoscopeError, match=r"notes\.txt: is text; a card can describe onnx, tflite"):
        draft(tmp_path / "notes.txt")
    with pytest.raises(OtoscopeError, match="no such file"):
        draft(tmp_path / "nothing")


@pytest.mark.skipif(not (DATA / "models").is_dir(), reason="needs the models of other people; set OTOSCOPE_DATA")
def test_the_command_line_drafts_a_card_that_the_next_command_takes(tmp_path: Path) -> None:
    for name in ("msd_musicnn.onnx", "msd_musicnn.labels.txt"):
        shutil.copy(DATA / "models" / name, tmp_path / name)
    told = CliRunner().invoke(main, ["card", str(tmp_path / "msd_musicnn.onnx")], catch_exceptions=False)
    assert told.exit_code == 0
    (tmp_path / "card.toml").write_text(told.output)
    card = read_card(tmp_path / "card.toml")
    assert (card.model.kind, len(card.labels)) == ("onnx", 50)
    assert card.hearing.layout == ("items", "frames", "bands")
    refused = CliRunner().invoke(main, ["predict", "x.wav", "--model", str(tmp_path / "msd_musicnn.onnx")])
    assert refused.exit_code == 1
