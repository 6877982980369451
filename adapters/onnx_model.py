"""Models in ONNX files, run by onnxruntime.

A card of kind ``onnx`` says how the network hears (``[input]``: waveforms, or a declared front end) and what its
further inputs get (`otoscope.adapters.graphs.GraphSettings`). ONNX files hold no code: no library of custom operators
is ever registered, and weights in further files are read from the file's own folder only. Where a front end is
declared, the bands route works as for any network; gradients there are none.

No code is not no danger: a graph is a program all the same. It may loop for ever, or ask for more memory than there is,
and nothing here bounds its time or its memory, which onnxruntime offers no way to do. Run a file from somebody you do
not know in a process that you can end, under a limit of memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from otoscope.adapters.card import Card, sha256_of
from otoscope.adapters.errors import OtoscopeError, one_line
from otoscope.adapters.graphs import GraphSettings, graph_model
from otoscope.adapters.loading import Loading, require
from otoscope.adapters.onnx_external import external_files
from otoscope.adapters.ports import Array, Port, told
from otoscope.adapters.safety import open_checked

if TYPE_CHECKING:
    from otoscope.adapters.network import NetworkModel

SETTINGS = (GraphSettings,)
REMEDY = "give a card of kind onnx an ONNX file"
FATAL = 4  # of onnxruntime's severities: what goes wrong comes as an exception
TYPES = {"float": "float32", "double": "float64"}  # ONNX's words for numpy's


def from_card(card: Card, loading: Loading) -> NetworkModel:
    """Load the ONNX file that a card describes.

    Raises
    ------
    OtoscopeError
        If onnxruntime is missing, the file is none of ONNX, or card and network do not fit each other.
    """
    file = card.weights
    open_checked(file, {"onnx"}, trust=loading.trust, remedy=REMEDY)
    digest = "".join(sha256_of(one) for one in (file, *external_files(file)))
    return graph_model(card, loading, OnnxGraph(file, device=loading.device), digest=digest)


class OnnxGraph:
    """A graph in a session of onnxruntime.

    Parameters
    ----------
    path : Path
    device : str
        ``cpu``, ``cuda`` or ``cuda:1`` ….
    """

    def __init__(self, path: Path, *, device: str = "cpu") -> None:
        onnxruntime = require("onnxruntime", "onnx")
        state = require("onnxruntime.capi.onnxruntime_pybind11_state", "onnx")
        # Its errors have no class in common but Exception.
        named = [one for one in vars(state).values() if isinstance(one, type) and issubclass(one, Exception)]
        self.errors: tuple[type[Exception], ...] = (*named, RuntimeError, ValueError)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL
        # Threads that wait by spinning would hold the cores while torch makes the next batch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = _providers(device, onnxruntime.get_available_providers())
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except self.errors as error:
            raise OtoscopeError(f"{path}: onnxruntime cannot open it ({_reason(error)})") from None
        if providers[0] != "CPUExecutionProvider" and self.session.get_providers()[0] == "CPUExecutionProvider":
            raise OtoscopeError(f"onnxruntime cannot use {device} here; check its CUDA libraries, or use --device cpu")
        self.inputs = tuple(_port(one) for one in self.session.get_inputs())
        self.outputs = tuple(_port(one) for one in self.session.get_outputs())

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str], /) -> list[Array]:
        """Answer with the outputs that are wanted."""
        try:
            return [np.asarray(one) for one in self.session.run(list(wanted), dict(feeds))]
        except self.errors as error:
            raise OtoscopeError(
                f"the network failed ({_reason(error)}); it takes {told(self.inputs)}; check [input] and the length"
            ) from None


def _providers(device: str, available: Sequence[str]) -> list[Any]:
    """Where onnxruntime runs; never silently somewhere else."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if kind == "cuda" and "CUDAExecutionProvider" in available:
        return [("CUDAExecutionProvider", {"device_id": number or "0"}), "CPUExecutionProvider"]
    remedy = "; install onnxruntime-gpu, or use --device cpu" if kind == "cuda" else "; use --device cpu"
    raise OtoscopeError(f"onnxruntime here knows no device {device!r}{remedy}")


def _port(one: Any) -> Port:
    """Read what onnxruntime says of an input or output."""
    word = one.type.removeprefix("tensor(").removesuffix(")")
    try:
        dtype = np.dtype(TYPES.get(word, word)) if one.type.startswith("tensor(") else None
    except TypeError:  # text, or a number that numpy does not know
        dtype = None
    if dtype is not None and dtype.kind not in "fiub":
        dtype = None
    return Port(one.name, tuple(size if isinstance(size, int) else size or "?" for size in one.shape or ()), dtype)


def _reason(error: Exception) -> str:
    """Bring an error of onnxruntime to one line, without its codes."""
    return one_line(str(error).rpartition("[ONNXRuntimeError] : ")[2])[:400]
