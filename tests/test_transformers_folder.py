"""Folders of transformers one does not trust, or that are broken: one line that names the fault, and nothing runs."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from otoscope.adapters.card import read_card, write_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.loading import Loading
from otoscope.adapters.registry import load_model
from otoscope.adapters.transformers_model import from_card, from_folder
from tests.builders import music
from tests.hf_models import LABELS, build

transformers: Any = pytest.importorskip("transformers")

RATE = 16_000
SOUND = music(seconds=0.5, rate=RATE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("whole") / "model", "wav2vec2")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """Copy a folder that may then be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def edit(file: Path, *without: str, **changes: Any) -> None:
    table = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in {**table, **changes}.items() if key not in without}))


def config(*without: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", *without, **changes)


def heard(*without: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "preprocessor_config.json", *without, **changes)


def write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_bytes(data))


def void(_result: object) -> None:
    """Drop a result."""


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def without_head(folder: Path) -> None:
    transformers.Wav2Vec2ForCTC.from_pretrained(folder).save_pretrained(folder)


def shards(name: str) -> Callable[[Path], None]:
    def split(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"classifier.bias": name}}))

    return split


def other_kind(folder: Path) -> None:
    transformers.BertConfig(hidden_size=8).save_pretrained(folder)


NAMES = {"0": "calm", "1": "tense"}
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (remove("config.json"), "holds no config.json; give the folder"),
    "no JSON": (write("config.json", b"{"), r"config.json: is no valid JSON \("),
    "no text": (write("config.json", b"\xff\xfe\x00"), r"config.json: is no valid JSON \("),
    "a list": (write("config.json", b"[]"), "config.json: holds no settings but list"),
    "deep": (write("config.json", b"[" * 200_000), "config.json: is no valid JSON"),
    "huge file": (write("config.json", b" " * (17 << 20)), "config.json: is too large for settings"),
    "huge number": (config(hidden_size=10**30), "config.json: holds the number"),
    "not a number": (heard(padding_value=float("nan")), "preprocessor_config.json: holds the number inf"),
    "no preprocessor": (remove("preprocessor_config.json"), "holds no preprocessor_config.json, which says how"),
    "no weights": (remove("model.safetensors"), "holds neither model.safetensors nor pytorch_model.bin"),
    "half the weights": (cut, "model.safetensors"),
    "other weights": (write("model.safetensors", b"PK\x03\x04"), "model.safetensors"),
    "unfitting weights": (config(hidden_size=16), "transformers .* cannot load it|lack"),
    "no head": (without_head, r"its weights lack classifier.bias and 3 more.*saved as Wav2Vec2ForCTC"),
    "unknown type": (config(model_type="wav3vec"), "knows no model_type 'wav3vec'"),
    "no type": (config("model_type"), "knows no model_type None"),
    "strange type": (config(model_type=["x"]), "knows no model_type"),
    "no audio": (other_kind, "bert models classify no audio; give one of audio-spectrogram-transformer, data2vec"),
    "one label twice": (config(id2label={"0": "a", "1": "a", "2": "b"}), "two labels are called 'a'"),
    "a gap in the labels": (config(id2label={"0": "a", "2": "b"}), "id2label must name the classes 0, 1, 2"),
    "markup": (config(id2label={"0": "<script>", "1": "a", "2": "b"}), "a label .* holds markup"),
    "other number of labels": (config(id2label=NAMES, label2id={"calm": 0, "tense": 1}), "cannot load it|lack"),
    "impossible settings": (config(num_attention_heads=7), "cannot load it"),
    "other extractor": (
        lambda folder: void(transformers.WhisperFeatureExtractor().save_pretrained(folder)),
        "its network does not take what its feature extractor makes|cannot load it",
    ),
    "no rate": (heard(sampling_rate="fast"), "its feature extractor states no sampling_rate"),
    "strange rate": (heard(sampling_rate=3), "its network does not take what its feature extractor makes .rate must"),
    "quantised": (config(quantization_config={"bits": 4}), "quantization_config is set: the model is quantised"),
    "other file": (config(transformers_weights="../x.safetensors"), "transformers_weights is set"),
    "kernel": (config(attn_implementation="some/kernel"), "attn_implementation names code on the network"),
    "strange code": (config(auto_map="x"), "would run code from the model's folder .x.; a type that"),
    "an image model": (
        config(model_type="rf_detr", backbone="some/where", backbone_config=None),
        "config.json: rf_detr models classify no audio",
    ),
    "an extractor of images": (
        heard(feature_extractor_type="OneFormerImageProcessor", repo_path="/etc", class_info_file="passwd"),
        "feature_extractor_type is 'OneFormerImageProcessor'; give one of Wav2Vec2FeatureExtractor, AST",
    ),
    "another auto class": (heard(feature_extractor_type="AutoTokenizer"), "feature_extractor_type is 'AutoTokenizer'"),
    "no class of extractors": (heard(feature_extractor_type=["x"]), "feature_extractor_type is .'x'."),
    "other settings": (config(configuration_files=["config.4.0.0.json"]), "configuration_files is set: it names other"),
    "kernel deep inside": (config(x=[{"_attn_implementation": {"": "some/kernel"}}]), "names code on the network"),
    "deep code": (config(x=[{"y": {"auto_map": {"AutoConfig": "own.X"}}}]), "config.json: would run code .*own.X"),
    "layers": (config(num_hidden_layers=1001), "'num_hidden_layers' is 1001, more than 1000; correct it"),
    "convolutions": (config(conv_dim=[16] * 1001), "'conv_dim' has 1001 entries, more than 1000"),
    "positions": (config(max_source_positions=100_001), "'max_source_positions' is 100001, more than 100000"),
    "wide": (config(hidden_size=131_072), r"config.json: describes a network of \d+ numbers, its weights hold \d+; "),
    "a wide head": (config(classifier_proj_size=1 << 24), r"config.json: describes a network of \d+ numbers"),
    "many labels": (
        config("id2label", "label2id", num_labels=100_001),
        "config.json: asks for more than 100000 labels",
    ),
    "many names": (config(id2label={str(i): f"l{i}" for i in range(100_001)}), "asks for more than 100000 labels"),
    "n_fft": (heard(n_fft=(1 << 17) + 1), "preprocessor_config.json: n_fft must lie between 1 and 131072, got 131073"),
    "feature_size": (heard(feature_size=4097), "feature_size must lie between 1 and 4096"),
    "mel": (heard(num_mel_bins=1 << 24), "num_mel_bins must lie between 1 and 4096"),
    "chunk": (heard(chunk_length=601), "chunk_length must lie between 1 and 600"),
    "chunk of text": (heard(chunk_length="x" * 99), "chunk_length must lie between 1 and 600, got 'xxx"),
    "frames": (heard(max_length=100_001), "max_length must lie between 1 and 100000"),
    "hop": (heard(hop_length=0), "hop_length must lie between 1 and"),
    "samples": (heard(chunk_length=600, sampling_rate=768_000), "would need far more memory than any model's"),
    "filters": (heard(n_fft=1 << 17, feature_size=4096, hop_length=1 << 17), "would need far more memory"),
    "cells": (heard(hop_length=1, n_fft=4096), "would need far more memory"),
    "shard outside": (shards("../x.safetensors"), "names '../x.safetensors', which is no file beside it"),
    "shard missing": (shards("x.safetensors"), "x.safetensors: no such file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_broken_is_told_in_one_line(damage: str, folder: Path) -> None:
    spoil, match = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(OtoscopeError, match=match) as caught:
        from_folder(folder, Loading())
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_an_adapter_beside_the_weights_is_not_loaded(folder: Path, whole: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/where"}))
    expected = from_folder(whole, Loading()).predict(SOUND[None])
    np.testing.assert_array_equal(from_folder(folder, Loading()).predict(SOUND[None]), expected)


def as_pickled(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return state


def test_a_checkpoint_of_tensors_needs_no_trust(folder: Path, whole: Path) -> None:
    torch.save(as_pickled(folder), folder / "pytorch_model.bin")
    model = from_folder(folder, Loading())
    np.testing.assert_array_equal(model.predict(SOUND[None]), from_folder(whole, Loading()).predict(SOUND[None]))


def test_shards_are_read(folder: Path, whole: Path) -> None:
    transformers.Wav2Vec2ForSequenceClassification.from_pretrained(folder).save_pretrained(
        folder, max_shard_size="20KB"
    )
    if (folder / "model.safetensors").exists():
        (folder / "model.safetensors").unlink()
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    model = from_folder(folder, Loading())
    np.testing.assert_array_equal(model.predict(SOUND[None]), from_folder(whole, Loading()).predict(SOUND[None]))


RAN: list[str] = []


class Evil:
    """What a pickle may do."""

    def __reduce__(self) -> Any:
        """Run something when unpickled."""
        return RAN.append, ("ran",)


@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_that_would_run_something_is_refused(plain: bool, folder: Path) -> None:
    state = {**as_pickled(folder), "classifier.bias": Evil()}
    file = folder / "pytorch_model.bin"
    if plain:
        file.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, file)
    RAN.clear()
    with pytest.raises(OtoscopeError, match=r"pytorch_model.bin: .*would run code from it \(.*say --trust"):
        from_folder(folder, Loading())
    assert not RAN


OWN_CODE = """
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
class OwnConfig(Wav2Vec2Config):
    model_type = "own"
class OwnModel(Wav2Vec2ForSequenceClassification):
    config_class = OwnConfig
"""


REPEATING: dict[str, Callable[[torch.Tensor], Any]] = {
    "repeats 4 bytes as": lambda _: torch.zeros(1).expand(1 << 24, 32),
    "is no plain tensor": lambda _: torch.sparse_coo_tensor(size=(1 << 24, 32), check_invariants=True).coalesce(),  # type: ignore[call-arg]
    "holds int under 'projector.weight', no tensor": lambda _: 5,
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch, of the tensor that is made here
@pytest.mark.parametrize("match", REPEATING)
def test_weights_that_pretend_to_be_larger_are_refused(match: str, folder: Path) -> None:
    state: dict[str, Any] = as_pickled(folder)
    state["projector.weight"] = REPEATING[match](state["projector.weight"])
    torch.save(state, folder / "pytorch_model.bin")
    edit(folder / "config.json", classifier_proj_size=1 << 24)
    with pytest.raises(OtoscopeError, match=match):
        from_folder(folder, Loading())


def test_many_keys_that_show_the_same_weights_are_refused(folder: Path) -> None:
    state = as_pickled(folder)
    state |= {f"x{i}": state["projector.weight"] for i in range(10)}  # tied weights are no harm
    torch.save(state, folder / "pytorch_model.bin")
    from_folder(folder, Loading())
    torch.save({f"x{i}": one for one in [torch.zeros(100_000)] for i in range(20)}, folder / "pytorch_model.bin")
    with pytest.raises(OtoscopeError, match=r"its tensors show 400000 bytes as 8000000; save"):
        from_folder(folder, Loading())


def test_hundred_thousand_names_of_which_two_are_the_same_take_no_time(folder: Path) -> None:
    names = {str(i): f"l{i}" for i in range(99_998)} | {"99998": "x", "99999": "x"}
    edit(folder / "config.json", "label2id", id2label=names)
    start = time.monotonic()
    with pytest.raises(OtoscopeError, match="two labels are called 'x'"):
        from_folder(folder, Loading())
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("fault", [MemoryError, RecursionError])
def test_running_out_of_memory_is_told_in_one_line(
    fault: type[Exception], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise fault

    for place in ("safetensors.torch.load_file", "transformers.Wav2Vec2Config.from_dict"):
        with monkeypatch.context() as patch:
            patch.setattr(place, fail)
            with pytest.raises(OtoscopeError, match=rf"model: .*{fault.__name__}"):
                from_folder(folder, Loading())


FILES = ["config.json", "preprocessor_config.json", "model.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_a_link_out_of_the_folder_needs_trust(name: str, folder: Path) -> None:
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to("../elsewhere")
    with pytest.raises(OtoscopeError, match=rf"/{name}: is a link that leaves the folder; copy .* --trust"):
        from_folder(folder, Loading())
    from_folder(folder, Loading(trust=True))
    (folder.parent / "elsewhere").rename(folder / "beside")
    (folder / name).unlink()
    (folder / name).symlink_to("beside")
    from_folder(folder, Loading())


def test_a_shard_and_a_processor_that_are_links_out_need_trust(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere")
    index = {"weight_map": {"classifier.bias": "x.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "x.safetensors").symlink_to("../elsewhere")
    with pytest.raises(OtoscopeError, match=r"/x.safetensors: is a link that leaves"):
        from_folder(folder, Loading())
    (folder / "processor_config.json").symlink_to("../elsewhere")
    with pytest.raises(OtoscopeError, match=r"/processor_config.json: is a link that leaves"):
        from_folder(folder, Loading())


def test_the_links_of_a_hubs_cache_are_followed(folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "abc", tmp_path / "hub" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for i, file in enumerate(sorted(folder.iterdir())):
        file.rename(blobs / str(i))
        (snapshot / file.name).symlink_to(f"../../blobs/{i}")
    from_folder(snapshot, Loading())
    (blobs / "0").rename(tmp_path / "secret")
    (blobs / "0").symlink_to(tmp_path / "secret")
    with pytest.raises(OtoscopeError, match="is a link that leaves the folder"):
        from_folder(snapshot, Loading())


def test_transformers_reads_no_file_of_a_folder_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("read by itself")

    for name in ("AutoConfig", "Wav2Vec2Config", "AutoFeatureExtractor", "Wav2Vec2FeatureExtractor"):
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", refuse)
    from_folder(folder, Loading())


def test_transformers_is_offline_and_asks_nobody_while_it_loads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from transformers import dynamic_module_utils

    seen = []
    real = transformers.Wav2Vec2Config.from_dict

    def look(settings: dict[str, Any]) -> Any:
        seen.append((constants.is_offline_mode(), dynamic_module_utils.TIME_OUT_REMOTE_CODE))
        return real(settings)

    monkeypatch.setattr(transformers.Wav2Vec2Config, "from_dict", look)
    before = constants.is_offline_mode(), dynamic_module_utils.TIME_OUT_REMOTE_CODE
    from_folder(folder, Loading())
    assert seen == [(True, 0)]
    edit(folder / "config.json", num_attention_heads=7)
    with pytest.raises(OtoscopeError):
        from_folder(folder, Loading())
    assert (constants.is_offline_mode(), dynamic_module_utils.TIME_OUT_REMOTE_CODE) == before


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "processor_config.json"])
def test_code_from_the_folder_needs_trust(name: str, top: bool, folder: Path) -> None:
    (folder / "own.py").write_text("raise SystemExit('ran')")
    own = {"auto_map": {"AutoConfig": "own.OwnConfig", "AutoFeatureExtractor": "own.OwnEar"}}
    if name == "processor_config.json":
        (folder / name).write_text(json.dumps(own if top else {"feature_extractor": own}))
    elif not top:
        edit(folder / name, deep=[own])
    else:
        edit(folder / name, **own)
    with pytest.raises(OtoscopeError, match=rf"/{name}: would run code from the model's folder \(.*own.OwnEar.*trust"):
        from_folder(folder, Loading())


def test_code_from_the_folder_runs_for_those_who_trust_it(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))
    monkeypatch.syspath_prepend(str(modules))
    (folder / "own.py").write_text(OWN_CODE)
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForAudioClassification": "own.OwnModel"}
    edit(folder / "config.json", model_type="own", auto_map=auto_map)
    with pytest.raises(OtoscopeError, match="say --trust"):
        from_folder(folder, Loading())
    assert not list(modules.rglob("ran"))
    model = from_folder(folder, Loading(trust=True))
    assert list(modules.rglob("ran"))
    assert model.no_gradients == "no front end in torch is known for own models"
    expected = from_folder(whole, Loading()).predict(SOUND[None])
    np.testing.assert_allclose(model.predict(SOUND[None]), expected, atol=1e-5)
    (folder / "own.py").write_text(OWN_CODE + "\n# other code\n")
    assert from_folder(folder, Loading(trust=True)).fingerprint != model.fingerprint


def test_nothing_is_fetched_and_nothing_is_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    log = transformers.utils.logging
    before = log.get_verbosity(), log.is_progress_bar_enabled()
    from_folder(folder, Loading())
    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_half_precision_is_heard_in_single(folder: Path) -> None:
    model = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(folder)
    model.half().save_pretrained(folder)
    loaded = from_folder(folder, Loading())
    network: Any = loaded.network
    assert {weights.dtype for weights in network.parameters()} == {torch.float32}
    assert np.isfinite(loaded.predict(SOUND[None])).all()


def test_weights_that_are_left_over_are_noted(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    save_file({**state, "extra.weight": torch.ones(2)}, folder / "model.safetensors", {"format": "pt"})
    assert any("extra.weight" in note for note in from_folder(folder, Loading()).notes)


def test_the_fingerprint_knows_weights_and_settings(folder: Path, whole: Path, tmp_path: Path) -> None:
    first = from_folder(whole, Loading()).fingerprint
    assert from_folder(folder, Loading()).fingerprint == first
    edit(folder / "config.json", transformers_version="0", _name_or_path="elsewhere")
    assert from_folder(folder, Loading()).fingerprint == first
    edit(folder / "config.json", num_attention_heads=4)  # the same weights, another network
    assert from_folder(folder, Loading()).fingerprint != first
    assert from_folder(build(tmp_path / "other", "wav2vec2", seed=1), Loading()).fingerprint != first


def test_an_extractor_inside_a_processor_is_found(folder: Path, whole: Path) -> None:
    table = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": {**table, "do_normalize": True}}))
    assert from_folder(folder, Loading()).hearing.normalise == "standard"
    assert from_folder(whole, Loading()).hearing.normalise == "none"


# Cards.


def card(folder: Path, model: dict[str, Any] | None = None, **tables: Any) -> Any:
    about = {"name": "small", "kind": "transformers", "path": folder.name, "labels": ["x", "y", "z"], **(model or {})}
    path = folder.parent / "small.toml"
    write_card(path, {"model": about, **tables})
    return read_card(path)


def test_a_card_names_the_classes(folder: Path, whole: Path) -> None:
    model = from_card(card(folder, input={"rate": RATE}), Loading())
    assert model.labels == ("x", "y", "z")
    assert model.output == "softmax"
    np.testing.assert_array_equal(model.predict(SOUND[None]), from_folder(whole, Loading()).predict(SOUND[None]))
    assert load_model(str(folder.parent / "small.toml")).labels == ("x", "y", "z")
    assert load_model(str(folder)).labels == LABELS


def test_a_card_may_state_the_output_else_the_folder_does(folder: Path) -> None:
    edit(folder / "config.json", problem_type="multi_label_classification")
    assert from_card(card(folder), Loading()).output == "sigmoid"
    assert from_card(card(folder, {"output": "softmax"}), Loading()).output == "softmax"


@pytest.mark.parametrize(
    ("model", "tables", "match"),
    [
        ({"labels": ["x", "y"]}, {}, r"small.toml: names 2 labels, .*config.json has 3"),
        ({}, {"input": {"rate": 22_050}}, r"small.toml: \[input\] rate is 22050 Hz, .* hears 16000 Hz"),
        ({}, {"input": {"rate": RATE, "n_samples": 5}}, r"small.toml: \[input\] n_samples: the folder says itself"),
        ({"settings": {"layer": "x"}}, {}, r"small.toml: \[model.settings\]: unknown key 'layer'"),
        ({"pool": "mean"}, {}, "leave out answer and pool"),
        ({"path": "model/config.json"}, {}, "config.json: is no folder; let path name the folder"),
        ({"path": "../model"}, {}, "climbs out of the card's folder"),
    ],
)
def test_a_card_that_contradicts_the_folder_is_refused(
    model: dict[str, Any], tables: dict[str, Any], match: str, folder: Path
) -> None:
    with pytest.raises(OtoscopeError, match=match):
        from_card(card(folder, model, **tables), Loading())
