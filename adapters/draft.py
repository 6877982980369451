"""Drafts of model cards: what a file tells of itself, and what its user must say.

`draft` recognises a file by its content and writes a card that holds kind, path, checksum and, for ONNX and TFLite, the
layout that the shapes of its input suggest and a label for each output. What no file tells (the sampling rate, the
settings of the front end, what the classes are called) stands there as a first guess behind ``# check:``.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from otoscope.adapters.card import sha256_of
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.labels import read_text
from otoscope.adapters.ports import Port
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
    if not path.is_file():
        raise OtoscopeError(f"{path}: no such file; give the file of a model")
    found = sniff(path)
    if found.kind not in KINDS:
        raise OtoscopeError(f"{path}: is {found.kind}; a card can describe {', '.join(KINDS)} files")
    kind = KINDS[found.kind]
    inputs, outputs = _ports(path, kind)
    labels, note = _labels(path, outputs)
    name = clean_text(path.stem, "the file's name")
    lines = [
        "[model]",
        f"name = {json.dumps(name)}",
        f'kind = "{kind}"' + ("  # loading it runs code: --trust" if found.runs else ""),
        f"path = {json.dumps(path.name)}",
        f'sha256 = "{sha256_of(path)}"',
        f"labels = {labels}{note}",
        'output = "softmax"  # check: softmax, sigmoid or regression',
        f'returns = "{"logits" if kind == "torch" else "scores"}"  # check: before or after the activation',
        *_settings(kind, inputs, outputs),
        "",
        "[input]",
        "rate = 16000  # check: in hertz",
        *_hearing(inputs),
    ]
    return "\n".join(lines).rstrip() + '\n\n[licence]\nweights = "unknown"  # check\n'


def _ports(path: Path, kind: str) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Open a graph to see what it takes and gives; of other files nothing is known."""
    if kind == "onnx":
        from otoscope.adapters.onnx_model import OnnxGraph

        graph = OnnxGraph(path)
        return graph.inputs, graph.outputs
    if kind == "tflite":
        from otoscope.adapters.tflite_model import TfliteGraph

        lite = TfliteGraph(path)
        return lite.inputs, lite.outputs
    return (), ()


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
