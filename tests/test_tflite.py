"""TFLite files as models: fixed and open shapes, waveforms without items, 8-bit numbers, steps, a clean terminal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from otoscope.adapters.card import write_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import capability
from otoscope.adapters.registry import load_model
from tests.builders import noise

pytest.importorskip("ai_edge_litert")
flatbuffers = pytest.importorskip("flatbuffers")
lite = pytest.importorskip("ai_edge_litert.schema_py_generated")

Array = npt.NDArray[Any]
RATE, N = 8000, 800
WEIGHTS = (np.random.default_rng(0).standard_normal((3, N)) * 0.05).astype(np.float32)  # (n_classes, n_samples)
FLOAT, INT8, UINT8, INT16 = (getattr(lite.TensorType, name) for name in ("FLOAT32", "INT8", "UINT8", "INT16"))
OPERATORS = lite.BuiltinOperator


@dataclass(frozen=True)
class Tensor:
    """A tensor of a TFLite file; −1 is an open size, a scale makes it quantised."""

    name: str
    shape: Sequence[int]
    data: Array | None = None
    kind: int = FLOAT
    scale: float | None = None
    zero: int = 0

    def packed(self, buffer: int) -> Any:
        """Write it down."""
        made = lite.TensorT()
        made.name, made.type, made.buffer = self.name, self.kind, buffer
        made.shape, made.hasRank = [max(1, size) for size in self.shape], True
        made.shapeSignature = list(self.shape) if -1 in self.shape else None
        if self.scale is not None:
            made.quantization = lite.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [self.scale], [self.zero]
        return made


@dataclass(frozen=True)
class Step:
    """An operator and the places of its tensors."""

    operator: int
    takes: Sequence[int]
    gives: Sequence[int]
    options: Any = None


def options(kind: str, **values: Any) -> Any:
    made = getattr(lite, f"{kind}T")()
    for name, one in values.items():
        setattr(made, name, one)
    return made


def save(
    path: Path,
    tensors: Sequence[Tensor],
    steps: Sequence[Step],
    takes: Sequence[int],
    gives: Sequence[int],
    signature: tuple[dict[str, int], dict[str, int]] | None = None,
) -> Path:
    """Write a TFLite file."""
    model, graph = lite.ModelT(), lite.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [lite.BufferT()]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], list(takes), list(gives)
    for tensor in tensors:
        buffer = lite.BufferT()
        buffer.data = None if tensor.data is None else np.frombuffer(tensor.data.tobytes(), dtype=np.uint8)
        graph.tensors.append(tensor.packed(0 if tensor.data is None else len(model.buffers)))
        model.buffers += [] if tensor.data is None else [buffer]
    model.operatorCodes = []
    for step in steps:
        code, operator = lite.OperatorCodeT(), lite.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = step.operator
        code.version = 4 if step.operator == OPERATORS.FULLY_CONNECTED else 1
        operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes), step.takes, step.gives
        if step.options is not None:
            operator.builtinOptions = step.options
            operator.builtinOptionsType = getattr(lite.BuiltinOptions, type(step.options).__name__[:-1])
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    if signature is not None:
        model.signatureDefs = [_signature(*signature)]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _signature(takes: dict[str, int], gives: dict[str, int]) -> Any:
    made = lite.SignatureDefT()
    made.signatureKey, made.subgraphIndex = "serving_default", 0
    made.inputs, made.outputs = (
        [options("TensorMap", name=n, tensorIndex=i) for n, i in m.items()] for m in (takes, gives)
    )
    return made


def linear(path: Path, *, takes: Sequence[int] = (1, N), gives: Sequence[int] = (1, 3), **other: Any) -> Path:
    """Waveforms times WEIGHTS."""
    tensors = [Tensor("wave", takes), Tensor("w", (3, N), WEIGHTS), Tensor("scores", gives)]
    step = Step(OPERATORS.FULLY_CONNECTED, [0, 1, -1], [2], options("FullyConnectedOptions"))
    return save(path, tensors, [step], [0], [2], **other)


def logistic(path: Path, kind: int) -> Path:
    """Sigmoid of three samples, quantised to 8 bits (16 where the type says so) on both ends."""
    low = {INT8: -128, UINT8: 0, INT16: 0}[kind]
    step_in, step_out = (8 / 32768, 1 / 32768) if kind == INT16 else (1 / 16, 1 / 256)
    zero = {INT8: 5, UINT8: 133, INT16: 0}[kind]
    tensors = [
        Tensor("wave", (1, 3), kind=kind, scale=step_in, zero=zero),
        Tensor("scores", (1, 3), kind=kind, scale=step_out, zero=low),
    ]
    return save(path, tensors, [Step(OPERATORS.LOGISTIC, [0], [1])], [0], [1])


def card(path: Path, labels: Sequence[str] = ("a", "b", "c"), **other: Any) -> str:
    """Write a card beside a TFLite file."""
    settings = {"settings": other.pop("settings")} if "settings" in other else {}
    hears = {"rate": RATE, "n_samples": N} | other.pop("input", {})
    about = {"name": path.stem, "kind": "tflite", "labels": list(labels), "output": "regression", "path": path.name}
    hears = {key: one for key, one in hears.items() if one is not None}
    write_card(path.with_suffix(".toml"), {"model": about | other | settings, "input": hears})
    return str(path.with_suffix(".toml"))


@pytest.fixture
def sounds() -> npt.NDArray[np.float32]:
    return np.stack([noise(seconds=0.1, seed=seed, level=0.2) for seed in range(7)])


@pytest.mark.parametrize(
    ("takes", "gives", "layout"),
    [((1, N), (1, 3), []), ((3, N), (3, 3), []), ((-1, N), (-1, 3), []), ((N,), (1, 3), ["samples"])],
)
def test_items_go_through_in_the_batches_the_file_takes(
    tmp_path: Path, sounds: Array, takes: Sequence[int], gives: Sequence[int], layout: list[str]
) -> None:
    model = load_model(card(linear(tmp_path / "m.tflite", takes=takes, gives=gives), input={"layout": layout}))
    for n in (1, 2, 7):
        scores = model.predict(sounds[:n])
        assert scores.dtype == np.float64
        assert np.abs(scores - sounds[:n] @ WEIGHTS.T).max() < 1e-5
    assert capability(model, "gradients") is None


def test_an_open_length_is_brought_to_what_comes(tmp_path: Path) -> None:
    tensors = [Tensor("wave", (-1, -1)), Tensor("axis", (1,), np.array([1], np.int32), lite.TensorType.INT32)]
    tensors.append(Tensor("mean", (-1, 1)))
    step = Step(OPERATORS.MEAN, [0, 1], [2], options("ReducerOptions", keepDims=True))
    path = save(tmp_path / "m.tflite", tensors, [step], [0], [2])
    model = load_model(card(path, ["mean"], input={"n_samples": None}))
    for n_samples in (100, 4000, 100):
        waveforms = np.stack([np.full(n_samples, x, np.float32) for x in (0.1, 0.3)])
        assert np.allclose(model.predict(waveforms)[:, 0], [0.1, 0.3])


@pytest.mark.parametrize("kind", [INT8, UINT8, INT16])
def test_quantised_numbers_are_brought_to_their_scale(tmp_path: Path, kind: int) -> None:
    model = load_model(card(logistic(tmp_path / "m.tflite", kind), output="sigmoid", input={"n_samples": 3}))
    waves = np.array([[0, 1, -1], [3, -3, 0.5], [100, -100, 0.03]], dtype=np.float32)
    scores = model.predict(waves)
    assert np.abs(scores - 1 / (1 + np.exp(-waves.astype(np.float64)))).max() < (1e-3 if kind == INT16 else 0.012)
    steps = scores * (32768 if kind == INT16 else 256)
    assert np.allclose(steps, np.rint(steps), atol=1e-3)
    told = any("--clip 0.002" in note for note in model.notes)  # type: ignore[attr-defined]
    assert told == (kind != INT16)


def test_only_probabilities_of_8_bits_are_noted(tmp_path: Path) -> None:
    model = load_model(card(logistic(tmp_path / "m.tflite", INT8), output="regression", input={"n_samples": 3}))
    assert model.notes == ()  # type: ignore[attr-defined]
    plain = load_model(card(linear(tmp_path / "l.tflite"), output="sigmoid", returns="logits"))
    assert plain.notes == ()  # type: ignore[attr-defined]


def stepping(path: Path, signature: bool = True) -> Path:
    """Next = half of the state + the mean of what is heard; the answer is the state."""
    i32 = lite.TensorType.INT32
    tensors = [
        Tensor("h", (1, 1)),
        Tensor("x", (1, 240)),
        Tensor("axis", (1,), np.array([1], np.int32), i32),
        Tensor("mean", (1, 1)),
        Tensor("half", (1, 1), np.array([[0.5]], np.float32)),
        Tensor("kept", (1, 1)),
        Tensor("next", (1, 1)),
        Tensor("one", (1, 1), np.array([[1.0]], np.float32)),
        Tensor("speech", (1, 1)),
    ]
    steps = [
        Step(OPERATORS.MEAN, [1, 2], [3], options("ReducerOptions", keepDims=True)),
        Step(OPERATORS.MUL, [0, 4], [5], options("MulOptions")),
        Step(OPERATORS.ADD, [5, 3], [6], options("AddOptions")),
        Step(OPERATORS.MUL, [6, 7], [8], options("MulOptions")),
    ]
    names = ({"memory": 0, "sound": 1}, {"next_memory": 6, "answer": 8}) if signature else None
    return save(path, tensors, steps, [0, 1], [6, 8], names)


@pytest.mark.parametrize("named", [True, False])
def test_a_recurrent_network_hears_chunk_after_chunk_by_either_name(tmp_path: Path, sounds: Array, named: bool) -> None:
    state = {"memory": "next_memory"} if named else {"h": "next"}
    settings = {"chunk": 200, "context": 40, "state": state}
    path = stepping(tmp_path / "m.tflite", named)
    model = load_model(card(path, ["speech"], settings=settings, pool="last", input={"n_samples": None}))
    expected = []
    for sound in sounds.astype(np.float64):
        padded, level = np.concatenate([np.zeros(40), sound]), 0.0
        for start in range(0, 800, 200):
            level = level / 2 + padded[start : start + 240].mean()
        expected.append(level)
    assert np.abs(model.predict(sounds)[:, 0] - expected).max() < 1e-6


def test_constants_reach_the_network(tmp_path: Path, sounds: Array) -> None:
    tensors = [Tensor("wave", (1, N)), Tensor("gain", (1, N)), Tensor("product", (1, N)), Tensor("w", (3, N), WEIGHTS)]
    tensors.append(Tensor("scores", (1, 3)))
    steps = [
        Step(OPERATORS.MUL, [0, 1], [2], options("MulOptions")),
        Step(OPERATORS.FULLY_CONNECTED, [2, 3, -1], [4], options("FullyConnectedOptions")),
    ]
    path = save(tmp_path / "m.tflite", tensors, steps, [0, 1], [4])
    model = load_model(card(path, settings={"input": "wave", "constants": {"gain": 3}}))
    assert np.abs(model.predict(sounds) - 3 * sounds @ WEIGHTS.T).max() < 1e-5
    with pytest.raises(OtoscopeError, match=r"the network takes wave \(1, 800\) float; gain \(1, 800\) float"):
        load_model(card(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": {"n_samples": 799}}, r"takes wave \(1, 800\) float, but \[input\] makes \(items, 799 samples\)"),
        ({"input": {"layout": ["samples"]}}, r"takes wave \(1, 800\) float, but \[input\] makes \(800 samples\)"),
        ({"answer": "tags"}, r"no output 'tags'; it has scores \(1, 3\) float"),
        ({"labels": ["a"]}, r"gives scores \(1, 3\) float, but the card names 1 labels"),
    ],
)
def test_a_card_that_does_not_fit_is_told_what_the_network_takes(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OtoscopeError, match=message) as error:
        load_model(card(linear(tmp_path / "m.tflite"), **changes))
    assert "\n" not in str(error.value)


def test_what_fails_on_the_way_is_one_line_with_the_networks_inputs(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.tflite", takes=(-1, -1), gives=(-1, 3))
    model = load_model(card(path, input={"n_samples": None}))
    for _ in range(2):
        with pytest.raises(OtoscopeError, match=r"the network failed \(.*it takes wave \(\?, \?\) float") as error:
            model.predict(np.zeros((2, 801), dtype=np.float32))
        assert "\n" not in str(error.value)
        fitting = np.ones((2, 800), dtype=np.float32)  # and it recovers
        assert np.abs(model.predict(fitting) - fitting @ WEIGHTS.T).max() < 1e-5


def test_files_that_are_no_tflite_are_told_apart(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.tflite")
    whole = path.read_bytes()
    for wrong in (b"", b"\x08\x09nothing", whole[: len(whole) // 2], whole[:8] + bytes(len(whole) - 8)):
        path.write_bytes(wrong)
        with pytest.raises(OtoscopeError, match=r"m\.tflite") as error:
            load_model(card(path))
        assert "\n" not in str(error.value)


def test_it_runs_on_the_cpu_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otoscope.adapters.registry.check_device", lambda _: None)  # as if it were there
    with pytest.raises(OtoscopeError, match="TFLite models run on the CPU only, not on 'cuda'"):
        load_model(card(linear(tmp_path / "m.tflite")), device="cuda")


def test_models_keep_their_identity(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.tflite")
    first = load_model(card(path)).fingerprint
    assert load_model(card(path)).fingerprint == first
    assert load_model(card(path, ["a", "b", "d"])).fingerprint != first
    path.write_bytes(path.read_bytes() + b"\0")
    assert load_model(card(path)).fingerprint != first


def test_nothing_is_written_to_the_terminal_and_it_comes_back(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.tflite", takes=(-1, N), gives=(-1, 3))
    code = (
        "import os, numpy as np; from otoscope.adapters.registry import load_model;"
        f"load_model({card(path)!r}).predict(np.zeros((3, {N}), np.float32)); os.write(2, b'still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == (b"", b"still here")
