"""Drafts of model cards: what a file tells of itself, and what its user must say.

`draft` recognises a file by its content and writes a card that holds kind, path, checksum and, for ONNX and TFLite, the
layout that the shapes of its input suggest and a label for each output. What no file tells (the sampling rate, the
settings of the front end, what the classes are called) stands there as a first guess behind ``# check:``.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from otoscope.adapters.card import sha256_of
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.labels import read_text
from otoscope.adapters.ports import Graph, Port
from otoscope.adapters.safety import clean_text, sniff

KINDS = {
    "onnx": "onnx",
    "tflite": "tflite",
    "skops": "sklearn",
    "pickle": "sklearn",
    "safetensors": "torch",
    "torch": "torch",
    "torchscript": "torch",
    "torch.export": "torch",
}
BANDS = range(20, 513)  # sizes that an axis of bands usually has
USUAL = 16_000  # an open size, as of samples
MAX_TRIAL = 2**24
FEW = 20  # labels that a line can hold
Sizes = tuple[int | str, ...]

FRONT_END = """
[input.front_end]  # check: every setting; `otoscope doctor` shows the scores that follow from them
n_bands = {n_bands}
exponent = 2
compression = "decibels"  # or log, ln, log1p, ln1p, none
n_frames = {n_frames}
stft = {{ n_fft = 1024, hop_length = 256 }}
"""


def draft(path: Path) -> str:
    """Write a card for a file, as TOML.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OtoscopeError
        If the file is none that a card can describe.
    """
    _refuse_what_needs_none(path)
    found = sniff(path)
    if found.kind not in KINDS:
        what = "a recording" if found.kind == "unknown" and is_recording(path) else found.kind
        raise OtoscopeError(f"{path}: is {what}; a card can describe {', '.join(KINDS)} files")
    kind = KINDS[found.kind]
    graph = _graph(path, kind)
    inputs, outputs = (graph.inputs, graph.outputs) if graph is not None else ((), ())
    output, returns = _scores(graph) if graph is not None else ("softmax", "logits" if kind == "torch" else "scores")
    whole = found.kind in ("torchscript", "torch.export") or (kind == "torch" and bool(found.runs))
    labels, note = _labels(path, outputs)
    name = clean_text(path.stem, "the file's name")
    lines = [
        "[model]",
        f"name = {json.dumps(name)}",
        f'kind = "{kind}"' + ("  # loading it runs code: --trust" if found.runs else ""),
        f"path = {json.dumps(path.name)}",
        f'sha256 = "{sha256_of(path)}"',
        f"labels = {labels}{note}",
        f'output = "{output}"  # check: softmax, sigmoid or regression',
        f'returns = "{returns}"  # check: before or after the activation',
        *([] if whole else _settings(kind, inputs, outputs)),
        "",
        "[input]",
        "rate = 16000  # check: in hertz",
        *_hearing(inputs),
    ]
    return "\n".join(lines).rstrip() + '\n\n[licence]\nweights = "unknown"  # check\n'


def _refuse_what_needs_none(path: Path) -> None:
    """Say what to do with what is no file of a model, or needs no card."""
    transformers = path / "config.json" if path.is_dir() else path.parent / "config.json"
    if transformers.is_file():
        raise OtoscopeError(f"{path}: a folder of transformers needs no card; use --model {transformers.parent}")
    if path.is_dir():
        raise OtoscopeError(f"{path}: is a folder; give the file of a model")
    if not path.is_file():
        raise OtoscopeError(f"{path}: no such file; give the file of a model")


def is_recording(path: Path) -> bool:
    """Whether libsndfile takes a file for a recording."""
    import soundfile

    try:
        soundfile.info(path)
    except (soundfile.SoundFileError, RuntimeError):
        return False
    return True


def _graph(path: Path, kind: str) -> Graph | None:
    """Open a graph to see what it takes and gives; of other files nothing is known."""
    if kind == "onnx":
        from otoscope.adapters.onnx_model import OnnxGraph

        return OnnxGraph(path)
    if kind == "tflite":
        from otoscope.adapters.tflite_model import TfliteGraph

        return TfliteGraph(path)
    return None


def _scores(graph: Graph) -> tuple[str, str]:
    """Guess kind of output and what is returned from the answers to noise; where it cannot be asked, softmax."""
    rng = np.random.default_rng(0)
    try:
        sizes = [_trial_size(port) for port in graph.inputs]
        if any(np.prod(size) > MAX_TRIAL for size in sizes):
            return "softmax", "scores"
        feeds = {
            port.name: port.encode(rng.standard_normal(size).astype(np.float32))
            for port, size in zip(graph.inputs, sizes, strict=True)
        }
        answer = graph.outputs[0].decode(graph.run(feeds, [graph.outputs[0].name])[0])
    except (OtoscopeError, IndexError):
        return "softmax", "scores"
    if answer.min() < 0 or answer.max() > 1:
        return "softmax", "logits"
    together = answer.shape[-1] > 1 and np.allclose(answer.sum(axis=-1), 1, atol=1e-3)
    return ("softmax" if together else "sigmoid"), "scores"


def _trial_size(port: Port) -> tuple[int, ...]:
    """Fill the open sizes of an input: one item, and as many samples or frames as are usual."""
    usual = [1] + [USUAL] * max(0, len(port.shape) - 1) if len(port.shape) > 1 else [USUAL]
    return tuple(size if isinstance(size, int) else usual[place] for place, size in enumerate(port.shape))


def _labels(path: Path, outputs: tuple[Port, ...]) -> tuple[str, str]:
    """Take a file of labels beside the model that has one for each output, else number them or ask for a file."""
    size = outputs[0].shape[-1] if outputs and outputs[0].shape else None
    files = [file for pattern in ("*.txt", "*.csv") for file in path.parent.glob(pattern) if not file.is_symlink()]
    for file in sorted(files, key=lambda file: (not file.name.startswith(path.stem), file.name)):
        with suppress(OtoscopeError):  # what is no text holds no labels
            lines = [line for line in read_text(file).splitlines() if line.strip()]
            if len(lines) - (file.suffix == ".csv") == size:
                return json.dumps(file.name), "  # check: one label a line, in the order of the scores"
    if isinstance(size, int) and size > FEW:
        return json.dumps(f"{path.stem}.labels.txt"), f"  # check: write this file, {size} lines with a name each"
    names = [f"class {i}" for i in range(size if isinstance(size, int) else 2)]
    return json.dumps(names), "  # check: names in the order of the scores, or a file with one a line"


def _settings(kind: str, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> list[str]:
    if kind == "torch":
        return ["", "[model.settings]", 'factory = "net.py:make"  # check: what builds the network; runs with --trust']
    if kind == "sklearn":
        return ["", "[model.settings]", 'features = "mfcc"  # check: the features that it was trained on']
    told = [f"# it takes {'; '.join(map(str, inputs))}", f"# it gives {'; '.join(map(str, outputs))}"]
    others = [port for port in inputs if port is not _sound(inputs)]
    return told if not others else [*told, "", "[model.settings]", *(f"# check: {port}" for port in others)]


def _sound(inputs: tuple[Port, ...]) -> Port | None:
    """Give the input that most likely hears: the first that takes floating numbers."""
    floating = [port for port in inputs if port.dtype is not None and port.dtype.kind == "f"]
    return floating[0] if floating else (inputs[0] if inputs else None)


def _hearing(inputs: tuple[Port, ...]) -> list[str]:
    """Guess layout and front end from the shape of the input."""
    port = _sound(inputs)
    if port is None:
        return ["# n_samples = 48000  # check: the length of its window, where it is fixed"]
    axes = _axes(port.shape)
    if "bands" not in axes:
        size = port.shape[axes.index("samples")]
        length = f"n_samples = {size}" if isinstance(size, int) else "# n_samples = 48000  # check: where it is fixed"
        return [length, f"layout = {json.dumps(axes)}"]
    n_bands, n_frames = (port.shape[axes.index(axis)] for axis in ("bands", "frames"))
    front_end = FRONT_END.format(
        n_bands=n_bands if isinstance(n_bands, int) else 128, n_frames=n_frames if isinstance(n_frames, int) else 100
    )
    if not isinstance(n_frames, int):
        front_end = front_end.replace("n_frames", "# n_frames")
    return [
        "n_samples = 48000  # check: the length of its window",
        f"layout = {json.dumps(axes)}  # check",
        *front_end.splitlines(),
    ]


def _axes(shape: Sizes) -> list[str]:
    """Name the axes of an input by their sizes."""
    if len(shape) <= 1:
        return ["samples"]
    axes = ["items"] + ["channels" if size == 1 else "" for size in shape[1:]]
    unnamed = [place for place, axis in enumerate(axes) if not axis]
    if len(unnamed) <= 1:
        return [axis or "samples" for axis in axes]
    sizes = {place: shape[place] for place in unnamed[-2:]}
    likely = [place for place, size in sizes.items() if isinstance(size, int) and size in BANDS]
    bands = min(likely, key=lambda place: (sizes[place] not in (40, 64, 80, 96, 128, 256), place), default=unnamed[-1])
    return [axis or ("bands" if place == bands else "frames") for place, axis in enumerate(axes)]
