"""Weights beside an ONNX file: which files it names, and that they lie in its own folder.

An ONNX file may keep its tensors in further files and names them by path. onnxruntime before 1.24 reads whatever such a
path leads to, ``../../anything`` included, and later versions left gaps for a while; so the names are read here, before
the file is opened. They also belong to the identity of the model: its weights lie there.

The file is a protocol buffer: fields of (number << 3 | wire type, value). Only the fields that may lead to a tensor are
followed (onnx.proto: model → graph → node → attribute → tensor → external data), everything else is stepped over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.safety import inside

# message -> field number -> message that lies there
FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "key", 2: "value"},
}
MAX_DEPTH = 64
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class _NotOnnx(Exception):
    """The bytes are no protocol buffer of this kind."""


def external_files(path: Path) -> tuple[Path, ...]:
    """Find the files that hold weights of an ONNX file, sorted.

    Raises
    ------
    OtoscopeError
        If a name climbs out of the file's folder, a file is missing, or the file is no ONNX file.
    """
    if not path.stat().st_size:
        raise OtoscopeError(f"{path}: is empty")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            names = set(_locations(data, 0, len(data), "model"))
        except _NotOnnx:
            raise OtoscopeError(f"{path}: is damaged or no ONNX file; fetch it again") from None
    return tuple(_beside(path, name) for name in sorted(names))


def _beside(path: Path, name: str) -> Path:
    try:
        file = inside(path.parent, name)
    except OtoscopeError:
        raise OtoscopeError(
            f"{path}: names {name[:200]!r} for its weights, outside its own folder; it is not opened"
        ) from None
    if not file.is_file():
        raise OtoscopeError(f"{path}: names {name[:200]!r} for its weights, which is missing; put it beside the file")
    return file


def _locations(data: mmap.mmap, start: int, stop: int, message: str, depth: int = 0) -> Iterator[str]:
    """Walk through a message, bytes `start` to `stop`; give the location of each tensor's data outside the file."""
    if depth > MAX_DEPTH:
        raise _NotOnnx
    inner, entry = FIELDS[message], dict.fromkeys(FIELDS["entry"].values(), b"")
    for number, first, last in _fields(data, start, stop):
        if number in inner and message == "entry":
            entry[inner[number]] = data[first:last]
        elif number in inner:
            yield from _locations(data, first, last, inner[number], depth + 1)
    if entry["key"] == b"location":
        yield entry["value"].decode("utf-8", "replace")


def _fields(data: mmap.mmap, place: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Give number, start and end of each field of a message that holds bytes; step over the others."""
    while place < stop:
        tag, place = _varint(data, place)
        wire, length = tag & 7, {FIXED64: 8, FIXED32: 4}.get(tag & 7, 0)
        if wire == VARINT:
            _, place = _varint(data, place)
        elif wire == BYTES:
            length, place = _varint(data, place)
        elif wire not in (FIXED64, FIXED32):
            raise _NotOnnx
        if tag >= 2**32 or tag < 8 or place + length > stop:
            raise _NotOnnx
        if wire == BYTES:
            yield tag >> 3, place, place + length
        place += length


def _varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    """Read a number of up to ten bytes, seven bits in each, and the place behind it."""
    number = 0
    for i, byte in enumerate(data[place : place + 10]):
        number |= (byte & 127) << (7 * i)
        if byte < 128:
            return number, place + i + 1
    raise _NotOnnx
