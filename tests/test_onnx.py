"""ONNX files as models: what they hear, in which batches, in streams, and what they must not reach."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import otoscope
from otoscope.adapters.audio import Audio
from otoscope.adapters.card import write_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.model import Model, capability
from otoscope.adapters.onnx_external import external_files
from otoscope.adapters.registry import load_model
from otoscope.adapters.spectra import Stft
from tests.builders import DATA, music, noise

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
helper = pytest.importorskip("onnx.helper")
TYPES = onnx.TensorProto

Array = npt.NDArray[Any]
Shape = Sequence[int | str]
RATE, N = 8000, 800
RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((N, 3)).astype(np.float32) * 0.05


def value(name: str, shape: Shape, kind: int = TYPES.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def tensor(name: str, array: Array) -> Any:
    return onnx.numpy_helper.from_array(array, name)


def save(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    tensors: Sequence[Any] = (),
    domains: Sequence[str] = ("",),
) -> Path:
    """Write an ONNX file."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(tensors))
    opsets = [helper.make_opsetid(domain, 17 if domain == "" else 1) for domain in domains]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 9
    path.write_bytes(model.SerializeToString())
    return path


def card(path: Path, labels: Sequence[str] = ("a", "b", "c"), **other: Any) -> str:
    """Write a card beside an ONNX file."""
    settings = {"settings": other.pop("settings")} if "settings" in other else {}
    hears = {"rate": RATE, "n_samples": N} | other.pop("input", {})
    about = {"name": path.stem, "kind": "onnx", "labels": list(labels), "output": "regression", "path": path.name}
    hears = {key: one for key, one in hears.items() if one is not None}
    write_card(path.with_suffix(".toml"), {"model": about | other | settings, "input": hears})
    return str(path.with_suffix(".toml"))


def linear(path: Path, *, takes: Shape = ("n", N), gives: Shape = ("n", 3), kind: int = TYPES.FLOAT) -> Path:
    """Waveforms times WEIGHTS."""
    cast = helper.make_node("Cast", ["x"], ["f"], to=TYPES.FLOAT)
    product = helper.make_node("MatMul", ["f", "w"], ["scores"])
    return save(path, [cast, product], [value("x", takes, kind)], [value("scores", gives)], [tensor("w", WEIGHTS)])


@pytest.fixture
def sounds() -> npt.NDArray[np.float32]:
    return np.stack([noise(seconds=0.1, seed=seed, level=0.2) for seed in range(7)])


def test_waveforms_go_in_and_the_cards_answer_comes_out(tmp_path: Path, sounds: Array) -> None:
    model = load_model(card(linear(tmp_path / "m.onnx"), output="softmax", returns="logits"))
    logits = sounds.astype(np.float64) @ WEIGHTS
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(model.predict(sounds) - expected).max() < 1e-5
    assert capability(model, "gradients") is None
    assert capability(model, "spectrogram") is None


@pytest.mark.parametrize(
    ("takes", "gives"),
    [((1, N), (1, 3)), ((3, N), (3, 3)), (("n", N), ("n", 3)), (("n", "t"), ("n", 3)), (("n", N), (1, 3))],
)
def test_batches_of_any_size_are_cut_to_what_the_graph_takes(
    tmp_path: Path, sounds: Array, takes: Shape, gives: Shape
) -> None:
    model = load_model(card(linear(tmp_path / "m.onnx", takes=takes, gives=gives)))
    for n in (1, 2, 3, 7):
        assert np.abs(model.predict(sounds[:n]) - sounds[:n] @ WEIGHTS).max() < 1e-5


def test_a_graph_that_answers_for_its_first_item_only_is_asked_one_by_one(tmp_path: Path, sounds: Array) -> None:
    numbers = [tensor("from", np.array([0])), tensor("to", np.array([1])), tensor("w", WEIGHTS)]
    nodes = [
        helper.make_node("Slice", ["x", "from", "to"], ["first"]),
        helper.make_node("MatMul", ["first", "w"], ["scores"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, [value("x", ("n", N))], [value("scores", (1, 3))], numbers)
    assert np.abs(load_model(card(path)).predict(sounds) - sounds @ WEIGHTS).max() < 1e-5


@pytest.mark.parametrize("gives", [(3,), (1, 3), ("steps", 3)])
def test_a_waveform_without_an_axis_for_items(tmp_path: Path, sounds: Array, gives: Shape) -> None:
    shape = tensor("shape", np.array([-1, N]))
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["row"]), helper.make_node("MatMul", ["row", "w"], ["y"])]
    if len(gives) == 1:
        nodes.append(helper.make_node("Squeeze", ["y", "axes"], ["scores"]))
    elif gives[0] == "steps":  # two steps: the scores and twice the scores
        nodes += [
            helper.make_node("Add", ["y", "y"], ["z"]),
            helper.make_node("Concat", ["y", "z"], ["scores"], axis=0),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["y"], ["scores"]))
    tensors = [shape, tensor("w", WEIGHTS), tensor("axes", np.array([0]))]
    path = save(tmp_path / "m.onnx", nodes, [value("x", (N,))], [value("scores", gives)], tensors)
    pooled = {"pool": "last"} if gives[0] == "steps" else {}
    model = load_model(card(path, input={"layout": ["samples"]}, **pooled))
    expected = sounds @ WEIGHTS * (2 if pooled else 1)
    assert np.abs(model.predict(sounds) - expected).max() < 1e-5


def test_whole_numbers_are_rounded_and_kept_within_their_range(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx", kind=TYPES.INT16)
    model = load_model(card(path, input={"full_scale": 32768.0}))
    sounds = np.stack([np.full(N, 1.0), np.full(N, -1.0), np.full(N, 0.6 / 32768)]).astype(np.float32)
    heard = np.stack([np.full(N, 32767.0), np.full(N, -32768.0), np.ones(N)])
    assert np.allclose(model.predict(sounds), heard @ WEIGHTS.astype(np.float64), rtol=1e-4, atol=1e-3)


def test_half_precision_goes_in_and_comes_out(tmp_path: Path, sounds: Array) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"])]
    half = value("x", ("n", N), TYPES.FLOAT16), value("scores", ("n", 3), TYPES.FLOAT16)
    path = save(tmp_path / "m.onnx", nodes, [half[0]], [half[1]], [tensor("w", WEIGHTS.astype(np.float16))])
    scores = load_model(card(path)).predict(sounds)
    assert scores.dtype == np.float64
    assert 1e-6 < np.abs(scores - sounds @ WEIGHTS).max() < 1e-2  # half precision, not single


def scaled(path: Path, shape: Shape, kind: int = TYPES.FLOAT) -> Path:
    """Waveforms times WEIGHTS times a second input."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Cast", ["gain"], ["g"], to=TYPES.FLOAT),
        helper.make_node("Mul", ["y", "g"], ["scores"]),
    ]
    inputs = [value("gain", shape, kind), value("x", ("n", N))]
    return save(path, nodes, inputs, [value("scores", ("n", 3))], [tensor("w", WEIGHTS)])


@pytest.mark.parametrize(
    ("shape", "kind", "given", "factor"),
    [
        ((), TYPES.INT64, 3, 3),
        ((1,), TYPES.FLOAT, 0.5, 0.5),
        (("n", 1), TYPES.FLOAT, 2, 2),
        ((3,), TYPES.FLOAT, [1.0, 2.0, 3.0], [1, 2, 3]),
        ((1, 3), TYPES.INT32, [[1, 2, 3]], [1, 2, 3]),
    ],
)
def test_further_inputs_get_what_the_card_says(
    tmp_path: Path, sounds: Array, shape: Shape, kind: int, given: Any, factor: Any
) -> None:
    path = scaled(tmp_path / "m.onnx", shape, kind)
    model = load_model(card(path, settings={"input": "x", "constants": {"gain": given}}))
    assert np.abs(model.predict(sounds) - sounds @ WEIGHTS * np.array(factor)).max() < 1e-5
    other = load_model(card(path, settings={"input": "x", "constants": {"gain": 7}}))
    assert other.fingerprint != model.fingerprint


def recurrent(path: Path, *, takes: Shape = ("n", "t"), state: Shape = ("n", 1), gives: Shape = ("n", 1)) -> Path:
    """Next = half of the state + the mean of what is heard; the answer is the state."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[-1], keepdims=1),
        helper.make_node("Mul", ["h", "half"], ["kept"]),
        helper.make_node("Add", ["kept", "mean"], ["speech"]),
        helper.make_node("Identity", ["speech"], ["next"]),
    ]
    outputs = [value("next", state), value("speech", gives)]
    half = tensor("half", np.array(0.5, dtype=np.float32))
    return save(path, nodes, [value("h", state), value("x", takes)], outputs, [half])


def by_hand(sound: Array, chunk: int, context: int) -> list[float]:
    """Do what the recurrent graph does, sample by sample."""
    padded = [0.0] * context + [float(x) for x in sound] + [0.0] * (-len(sound) % chunk)
    state, answers = 0.0, []
    for start in range(0, len(padded) - context, chunk):
        heard = padded[start : start + context + chunk]
        state = state / 2 + sum(heard) / len(heard)
        answers.append(state)
    return answers


@pytest.mark.parametrize(
    "shapes",
    [{}, {"takes": (1, "t"), "state": (1, 1), "gives": (1, 1)}, {"takes": ("n", 264)}, {"state": (1, 1)}],
)
@pytest.mark.parametrize("pool", ["mean", "max", "first", "last"])
def test_a_recurrent_network_hears_chunk_after_chunk(
    tmp_path: Path, sounds: Array, shapes: Mapping[str, Shape], pool: str
) -> None:
    settings = {"chunk": 200, "context": 64, "state": {"h": "next"}}
    path = recurrent(tmp_path / "m.onnx", **shapes)
    sounds = sounds[:, :750] + np.float32(0.1)  # the last chunk is not full
    model = load_model(card(path, ["speech"], pool=pool, settings=settings, input={"n_samples": None}))
    steps = [by_hand(sound, 200, 64) for sound in sounds]
    pools = {"mean": np.mean, "max": np.max, "first": lambda x: x[0], "last": lambda x: x[-1]}
    expected = [pools[pool](one) for one in steps]  # type: ignore[operator]
    assert len(steps[0]) == 4
    assert np.abs(model.predict(sounds)[:, 0] - expected).max() < 1e-6
    assert np.array_equal(model.predict(sounds), model.predict(sounds))  # no state is left behind
    assert "25 ms" in model.notes[0]  # type: ignore[attr-defined]


FRONT = {"n_bands": 24, "compression": "log1p", "reference": 100.0, "stft": {"n_fft": 256, "hop_length": 128}}


def behind_bands(path: Path, *, n_frames: int | str = 7) -> Path:
    """Mean over frames of (n, 1, frames, bands), times weights."""
    weights = RNG.standard_normal((24, 3)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["scores"]),
    ]
    takes = value("x", ("n", 1, n_frames, 24))
    return save(path, nodes, [takes], [value("scores", ("n", 3))], [tensor("w", weights)])


def test_a_declared_front_end_makes_what_the_graph_takes(tmp_path: Path) -> None:
    import torch

    path = behind_bands(tmp_path / "m.onnx")
    heard = {"layout": ["items", "channels", "frames", "bands"], "front_end": FRONT}
    model = load_model(card(path, input=heard))
    sounds = np.stack([music(seconds=0.1, seed=seed) for seed in range(3)])
    settings = {key: one for key, one in FRONT.items() if key != "stft"}
    bands = FrontEnd(rate=RATE, stft=Stft(256, 128), **settings)(torch.from_numpy(sounds))  # type: ignore[arg-type]
    weights = onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    assert np.abs(model.predict(sounds) - bands.mean(-1).numpy() @ weights).max() < 1e-5


def test_the_bands_route_explains_it(tmp_path: Path) -> None:
    path = behind_bands(tmp_path / "m.onnx", n_frames="frames")
    heard = {"layout": ["items", "channels", "frames", "bands"], "front_end": FRONT, "n_samples": None}
    model = load_model(card(path, input=heard))
    audio = Audio(music(seconds=1.0, rate=RATE), RATE, "music")
    settings = otoscope.Settings(calls=64, n_parts=8)
    explanation = otoscope.explain(model, audio, method="lime", target="b", settings=settings)
    assert explanation.route == "bands"
    difference = explanation.fidelity["route_difference"]
    assert difference is not None
    assert difference <= 0.01


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        {"input": {"n_samples": 799}},
        r"the network takes x \(n, 800\) float, but \[input\] makes \(items, 799 samples\)",
    ),
    ({"input": {"n_samples": None}}, r"x \(n, 800\) float, but \[input\] makes \(items, samples\); correct layout"),
    ({"input": {"layout": ["items", "channels", "samples"]}}, r"makes \(items, 1 channels, 800 samples\)"),
    ({"input": {"layout": ["samples", "items"]}}, "layout must begin with items, got samples, items"),
    ({"input": {"front_end": FRONT}}, r"x \(n, 800\) float, but \[input\] makes \(items, 24 bands, 7 frames\)"),
    ({"answer": "tags"}, r"no output 'tags'; it has scores \(n, 3\) float"),
    ({"settings": {"input": "y"}}, r"no input 'y'; it has x \(n, 800\) float"),
    ({"settings": {"constants": {"sr": 1}}}, r"no input 'sr'; it has x"),
    ({"labels": ["a", "b"]}, r"the network gives scores \(n, 3\) float, but the card names 2 labels"),
    ({"settings": {"context": 5}}, r"\[model.settings\]: context and state are for networks that hear in steps"),
    ({"settings": {"chunk": 0}}, "need chunk ≥ 1"),
    ({"settings": {"chunk": 400, "state": {"h": "next"}}}, "no input 'h'"),
    ({"settings": {"chunk": 400, "contxt": 3}}, "unknown key 'contxt': did you mean 'context'"),
    ({"settings": {"chunk": 24}, "input": {"front_end": FRONT}}, "chunk is for networks that hear waveforms"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_a_card_that_does_not_fit_is_told_what_the_network_takes(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OtoscopeError, match=message) as error:
        load_model(card(linear(tmp_path / "m.onnx"), **changes))
    assert "\n" not in str(error.value)
    assert "m.toml" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"say by input.*which input hears; the network takes gain \(\) float; x \(n, 800\) float"),
        ({"input": "x"}, r"the network also takes gain \(\) float; give it under \[model.settings.constants\]"),
        ({"constants": {"gain": [1, 2]}}, r"gives gain \(\) float a list of shape \(2,\); give one number"),
        (
            {"constants": {"gain": "loud"}},
            r"gain \(\) float takes a number or a list of numbers, the card gives 'loud'",
        ),
    ],
)
def test_further_inputs_that_are_missing_or_wrong_are_named(
    tmp_path: Path, sounds: Array, settings: dict[str, Any], message: str
) -> None:
    path = scaled(tmp_path / "m.onnx", ())
    with pytest.raises(OtoscopeError, match=message):
        load_model(card(path, settings=settings)).predict(sounds)


@pytest.mark.parametrize(
    "line",
    [
        "k = 1979-05-27",
        "k = [1979-05-27T07:32:00Z]",
        "k = 0x" + "f" * 400,
        "k = 0x" + "f" * 5000,
        "k = [0x" + "f" * 5000 + "]",
        "k = {a = 1}",
        "k = " + "[" * 70 + "1" + "]" * 70,
    ],
)
def test_constants_that_are_no_numbers_are_told_in_one_line(tmp_path: Path, line: str) -> None:
    path = card(with_constant(tmp_path / "m.onnx", ()), answer="scores", settings={"input": "x"})
    with Path(path).open("a", encoding="utf-8") as stream:
        stream.write(f"\n[model.settings.constants]\n{line}\n")
    with pytest.raises(OtoscopeError, match=r"k \(\) float takes a number or a list of numbers") as error:
        load_model(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


def with_constant(path: Path, shape: Shape) -> Path:
    """Write a graph with a further input that reaches nothing."""
    takes = [value("x", ("n", N)), value("k", shape)]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"]), helper.make_node("Identity", ["k"], ["next"])]
    outputs = [value("scores", ("n", 3)), value("next", shape)]
    return save(path, nodes, takes, outputs, [tensor("w", WEIGHTS)])


@pytest.mark.parametrize("shape", [(1 << 33,), (1 << 40,), (1 << 62, 1 << 62), (1 << 23, 1)])
def test_no_constant_and_no_state_fills_the_memory(tmp_path: Path, shape: Shape) -> None:
    path = with_constant(tmp_path / "m.onnx", shape)
    further: tuple[dict[str, Any], ...] = {"constants": {"k": 1.0}}, {"chunk": N, "state": {"k": "next"}}
    for one in further:
        about: dict[str, Any] = {"answer": "scores", "pool": "mean", "settings": {"input": "x"} | one}
        if shape == (1 << 23, 1):
            load_model(card(path, **about))
            continue
        with pytest.raises(OtoscopeError, match=r"k \(.*\) float would take .* numbers, more than 64 MB") as error:
            load_model(card(path, **about))
        assert "\n" not in str(error.value)


def test_a_fixed_number_of_items_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match=r"the network takes 8\.6e\+09 items at once; export it with an open"):
        load_model(card(linear(tmp_path / "m.onnx", takes=(1 << 33, N), gives=(1 << 33, 3))))


def test_the_name_of_a_state_is_text(tmp_path: Path) -> None:
    path = with_constant(tmp_path / "m.onnx", (1,))
    with pytest.raises(OtoscopeError, match="state 'k' must be the name of an output"):
        load_model(card(path, settings={"input": "x", "chunk": N, "state": {"k": 3}}))


def test_of_several_outputs_the_card_must_name_one(tmp_path: Path, sounds: Array) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    outputs = [value("a", ("n", 3)), value("b", ("n", 3))]
    path = save(tmp_path / "m.onnx", nodes, [value("x", ("n", N))], outputs, [tensor("w", WEIGHTS)])
    with pytest.raises(OtoscopeError, match=r"say by answer.*the network gives a \(n, 3\) float; b \(n, 3\) float"):
        load_model(card(path))
    one, other = (load_model(card(path, answer=name)) for name in ("a", "b"))
    assert np.allclose(one.predict(sounds), -other.predict(sounds))
    assert one.fingerprint != other.fingerprint


def test_what_fails_on_the_way_is_one_line_with_the_networks_inputs(tmp_path: Path) -> None:
    model = load_model(card(linear(tmp_path / "m.onnx", takes=("n", "t")), input={"n_samples": None}))
    with pytest.raises(OtoscopeError, match=r"the network failed \(.*it takes x \(n, t\) float") as error:
        model.predict(np.zeros((2, 801), dtype=np.float32))
    assert "\n" not in str(error.value)


def test_names_from_a_file_cannot_command_the_terminal(tmp_path: Path) -> None:
    name = "x\x1b[2J\nERASED"
    nodes = [helper.make_node("MatMul", [name, "w"], ["scores"])]
    path = save(
        tmp_path / "m.onnx", nodes, [value(name, ("n", N))], [value("scores", ("n", 3))], [tensor("w", WEIGHTS)]
    )
    with pytest.raises(OtoscopeError, match=r"takes x\\x1b\[2J ERASED \(n, 800\)") as error:
        load_model(card(path, input={"n_samples": 5}))
    assert "\x1b" not in str(error.value)


def test_files_that_are_no_onnx_are_told_apart(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx")
    whole = path.read_bytes()
    for wrong in (b"", b"PK\x03\x04 no archive", whole[: len(whole) // 2], b"\x00" * 64):
        path.write_bytes(wrong)
        with pytest.raises(OtoscopeError, match=r"m\.onnx") as error:
            load_model(card(path))
        assert "\n" not in str(error.value)


def test_operators_from_elsewhere_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Shell", ["x"], ["scores"], domain="evil")]
    path = save(tmp_path / "m.onnx", nodes, [value("x", ("n", N))], [value("scores", ("n", 3))], domains=("", "evil"))
    with pytest.raises(OtoscopeError, match=r"m.onnx: onnxruntime cannot open it \(.*evil.*Shell"):
        load_model(card(path))


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    from otoscope.adapters.onnx_model import OnnxGraph

    with pytest.raises(OtoscopeError, match="knows no device 'mps'; use --device cpu"):
        OnnxGraph(linear(tmp_path / "m.onnx"), device="mps")
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(OtoscopeError, match="install onnxruntime-gpu, or use --device cpu"):
            OnnxGraph(tmp_path / "m.onnx", device="cuda:1")


def test_nothing_is_written_to_the_terminal(tmp_path: Path) -> None:
    spare = tensor("spare", np.zeros(3, dtype=np.float32))  # onnxruntime warns of tensors that nothing uses
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"])]
    tensors = [tensor("w", WEIGHTS), spare]
    path = save(tmp_path / "m.onnx", nodes, [value("x", ("n", N))], [value("scores", ("n", 3))], tensors)
    code = (
        "import numpy as np; from otoscope.adapters.registry import load_model;"
        f"load_model({card(path)!r}).predict(np.zeros((1, {N}), np.float32))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == (b"", b"")


# Weights beside the file.


def outside(name: str, location: str, shape: Sequence[int] = (N, 3)) -> Any:
    """Make a tensor whose numbers lie in a further file."""
    proto = TYPES(name=name, data_type=TYPES.FLOAT, dims=shape, data_location=TYPES.EXTERNAL)
    for key, text in (("location", location), ("offset", "0"), ("length", str(4 * int(np.prod(shape))))):
        proto.external_data.add(key=key, value=text)
    return proto


def branching(inner: Any) -> list[Any]:
    """Hide a constant in a branch of a branch."""
    for name in ("out", "out", "w"):
        graph = helper.make_graph([inner], "branch", [], [value("out", (N, 3))])
        inner = helper.make_node("If", ["yes"], [name], then_branch=graph, else_branch=graph)
    return [inner]


def with_external(path: Path, location: str, place: str = "initializer") -> Path:
    """Write a graph whose weights lie in a further file, named in one of many places."""
    proto = outside("w", location)
    nodes, tensors, domains = [], [tensor("yes", np.array(True))], [""]
    if place == "initializer":
        tensors.append(proto)
    elif place == "constant":
        nodes.append(helper.make_node("Constant", [], ["w"], value=proto))
    elif place == "branch":
        nodes += branching(helper.make_node("Constant", [], ["out"], value=proto))
    nodes.append(helper.make_node("MatMul", ["x", "w"], ["scores"]))
    return save(path, nodes, [value("x", ("n", N))], [value("scores", ("n", 3))], tensors, domains)


PLACES = ("initializer", "constant", "branch")


@pytest.mark.parametrize("place", PLACES)
def test_weights_beside_the_file_are_read_and_belong_to_its_identity(tmp_path: Path, sounds: Array, place: str) -> None:
    path = with_external(tmp_path / "m.onnx", "w.bin", place)
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    assert external_files(path) == (tmp_path / "w.bin",)
    model = load_model(card(path))
    assert np.abs(model.predict(sounds) - sounds @ WEIGHTS).max() < 1e-5
    (tmp_path / "w.bin").write_bytes((2 * WEIGHTS).tobytes())
    other = load_model(card(path))
    assert other.fingerprint != model.fingerprint
    assert np.abs(other.predict(sounds) - 2 * sounds @ WEIGHTS).max() < 1e-5


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", ["up", "absolute", "link"])
def test_weights_outside_the_files_folder_are_never_read(tmp_path: Path, way: str, place: str) -> None:
    secret, folder = tmp_path / "secret.bin", tmp_path / "model"
    folder.mkdir()
    secret.write_bytes(WEIGHTS.tobytes())
    (folder / "link.bin").symlink_to(secret)
    location = {"up": "../secret.bin", "absolute": str(secret), "link": "link.bin"}[way]
    path = with_external(folder / "m.onnx", location, place)
    with pytest.raises(OtoscopeError, match="for its weights, outside its own folder; it is not opened"):
        load_model(card(path))


def test_weights_that_are_missing_or_cut_are_named(tmp_path: Path) -> None:
    path = with_external(tmp_path / "m.onnx", "w.bin")
    with pytest.raises(OtoscopeError, match=r"m.onnx: names 'w.bin' for its weights, which is missing"):
        load_model(card(path))
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(OtoscopeError, match=r"m.onnx: onnxruntime cannot open it"):
        load_model(card(path))


def test_every_place_of_the_format_that_may_name_a_file_is_looked_at(tmp_path: Path) -> None:
    files = [f"{i}.bin" for i in range(8)]
    for name in files:
        (tmp_path / name).touch()
    tensors = [outside("t", name, (1,)) for name in files]
    sparse = [onnx.SparseTensorProto(values=tensors[i], indices=tensors[i + 1], dims=[4]) for i in (0, 2)]
    node = helper.make_node("Constant", [], ["w"])
    node.attribute.extend(
        [
            onnx.AttributeProto(name="a", tensors=[tensors[4]]),
            onnx.AttributeProto(name="b", sparse_tensor=sparse[0]),
            onnx.AttributeProto(name="c", graphs=[onnx.GraphProto(initializer=[tensors[5]])]),
        ]
    )
    function = onnx.FunctionProto(name="f", node=[node], attribute_proto=[onnx.AttributeProto(name="d", t=tensors[6])])
    graph = onnx.GraphProto(sparse_initializer=[sparse[1]])
    training = onnx.TrainingInfoProto(algorithm=onnx.GraphProto(initializer=[tensors[7]]))
    model = onnx.ModelProto(ir_version=9, graph=graph, functions=[function], training_info=[training])
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert [file.name for file in external_files(path)] == files


@given(st.data())
def test_damaged_files_are_refused_or_read_but_never_break_anything(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = with_external(folder / "damaged.onnx", "nowhere.bin", "branch")
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    with suppress(OtoscopeError):
        assert external_files(path) == ()  # nothing is there to be found


def all_tensors(message: Any) -> Iterator[Any]:
    """Find all tensors of a message by the library's own description of the format."""
    for descriptor, found in message.ListFields():
        if descriptor.message_type is not None:
            for one in [found] if not isinstance(found, Sequence) and hasattr(found, "ListFields") else found:
                if isinstance(one, TYPES):
                    yield one
                yield from all_tensors(one)


def test_a_real_file_that_keeps_its_weights_beside_is_read_the_same(tmp_path: Path) -> None:
    path = DATA / "models" / "mtt_musicnn.onnx"
    if not path.is_file():
        pytest.skip(f"needs {path}; set OTOSCOPE_DATA")
    assert external_files(path) == ()
    parted = tmp_path / "parted.onnx"
    onnx.save(
        onnx.load(path), parted, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=100_000
    )
    kept = [one for one in all_tensors(onnx.load(parted, load_external_data=False)) if one.external_data]
    assert 2 <= len(kept) < len(list(all_tensors(onnx.load(path))))
    assert {file.name for file in external_files(parted)} == {
        entry.value for one in kept for entry in one.external_data if entry.key == "location"
    }


def test_models_keep_their_identity(tmp_path: Path) -> None:
    first: Model = load_model(card(linear(tmp_path / "m.onnx")))
    assert first.fingerprint == load_model(card(tmp_path / "m.onnx")).fingerprint
    changed = {"labels": ["a", "b", "d"]}, {"input": {"full_scale": 2.0}}, {"output": "sigmoid"}
    prints = {load_model(card(tmp_path / "m.onnx", **one)).fingerprint for one in changed}
    assert len(prints | {first.fingerprint}) == 4
