"""Models in TFLite files, run by LiteRT.

A card of kind ``tflite`` says how the network hears (``[input]``: waveforms, or a declared front end) and what its
further inputs get (`otoscope.adapters.graphs.GraphSettings`). Such files mostly take one item at a time, or a single
waveform without an axis for items (``layout = ["samples"]``). Quantised inputs and outputs are brought to their scale;
what an 8-bit network says comes in 256 steps. TFLite files hold no code, and operators that LiteRT does not know are
refused.

Inputs and outputs are called as in the file's signature where it has one, else as its tensors. LiteRT is not
thread-safe; neither are these models.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from otoscope.adapters.card import Card, sha256_of
from otoscope.adapters.errors import OtoscopeError, one_line
from otoscope.adapters.graphs import GraphSettings, graph_model
from otoscope.adapters.loading import Loading, require
from otoscope.adapters.ports import Array, Port, told
from otoscope.adapters.safety import open_checked

if TYPE_CHECKING:
    from otoscope.adapters.network import NetworkModel

SETTINGS = (GraphSettings,)
REMEDY = "give a card of kind tflite a TFLite file"
THREADS = 2


def from_card(card: Card, loading: Loading) -> NetworkModel:
    """Load the TFLite file that a card describes.

    Raises
    ------
    OtoscopeError
        If LiteRT is missing, the file is none of TFLite, or card and network do not fit each other.
    """
    file = card.weights
    open_checked(file, {"tflite"}, trust=loading.trust, remedy=REMEDY)
    if loading.device != "cpu":
        raise OtoscopeError(f"TFLite models run on the CPU only, not on {loading.device!r}; use --device cpu")
    return graph_model(card, loading, TfliteGraph(file), digest=sha256_of(file))


class TfliteGraph:
    """A graph in an interpreter of LiteRT.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        litert = require("ai_edge_litert.interpreter", "tflite")
        try:
            with _quiet():
                self.interpreter = litert.Interpreter(model_path=str(path), num_threads=THREADS)
                # Open sizes stand at 1 until something comes, which may be too little for the network.
                self._ready = not any(-1 in one["shape_signature"] for one in self.interpreter.get_input_details())
                if self._ready:
                    self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise OtoscopeError(f"{path}: LiteRT cannot open it ({one_line(str(error))[:400]})") from None
        takes, gives = self._signature()
        self._taken = {takes.get(one["index"], one["name"]): one for one in self.interpreter.get_input_details()}
        self._given = {gives.get(one["index"], one["name"]): one for one in self.interpreter.get_output_details()}
        self.inputs = tuple(_port(name, detail) for name, detail in self._taken.items())
        self.outputs = tuple(_port(name, detail) for name, detail in self._given.items())

    def _signature(self) -> tuple[dict[int, str], dict[int, str]]:
        """Names of inputs and outputs by the index of their tensor, where the file has one signature."""
        signatures = self.interpreter.get_signature_list()
        if len(signatures) != 1:
            return {}, {}
        runner = self.interpreter.get_signature_runner(next(iter(signatures)))
        details = runner.get_input_details(), runner.get_output_details()
        takes, gives = ({detail["index"]: name for name, detail in one.items()} for one in details)
        return takes, gives

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str], /) -> list[Array]:
        """Answer with the outputs that are wanted."""
        try:
            self._resize(feeds)
            for name, array in feeds.items():
                self.interpreter.set_tensor(self._taken[name]["index"], array)
            self.interpreter.invoke()
            return [self.interpreter.get_tensor(self._given[name]["index"]) for name in wanted]
        except (RuntimeError, ValueError) as error:
            raise OtoscopeError(
                f"the network failed ({one_line(str(error))[:400]})"
                f"; it takes {told(self.inputs)}; check [input] and the "
                "length"
            ) from None

    def _resize(self, feeds: Mapping[str, Array]) -> None:
        """Bring open inputs to the size of what comes."""
        now = {one["index"]: tuple(one["shape"]) for one in self.interpreter.get_input_details()}
        changed = [name for name in feeds if now[self._taken[name]["index"]] != feeds[name].shape]
        for name in changed:
            self.interpreter.resize_tensor_input(self._taken[name]["index"], feeds[name].shape, strict=True)
        if changed or not self._ready:
            self._ready = False  # it stays so where this fails
            with _quiet():
                self.interpreter.allocate_tensors()
            self._ready = True


def _port(name: str, detail: Mapping[str, Any]) -> Port:
    """Read what LiteRT says of an input or output."""
    sizes = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    dtype = np.dtype(detail["dtype"])
    scale, zero = detail["quantization"]
    shape = tuple(int(size) if size >= 0 else "?" for size in sizes)
    return Port(name, shape, dtype if dtype.kind in "fiub" else None, float(scale), int(zero))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what LiteRT writes to stderr when it sets up from the terminal; what goes wrong comes as an exception."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr to keep clean
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
