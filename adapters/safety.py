"""Look at a file before it is opened: what it is, what loading it would run, whether it is a bomb.

Auditing other people's models means opening files one does not trust. Nothing here executes a file or believes its
name. `otoscope.adapters.pickles` reads what a pickle would import, `otoscope.adapters.archives` looks into archives.
PyTorch checkpoints lose the names that ``torch.load(weights_only=True)`` allows. The kind binds the loader: a `torch`
file without names is harmless to that call, not to ``pickle.load``.

Every fault is an `OtoscopeError` of one line that names the file, the fault and the remedy.
"""

from __future__ import annotations

import io
import json
import re
import stat
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from otoscope.adapters.archives import (
    MAX_MEMBERS,
    NPY,
    RUNS_CODE,
    ZIP,
    Found,
    climbs,
    shown,
    sniff_npy,
    sniff_zip,
    unpacked,
)
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.pickles import BROKEN, HEAD, LEGACY, MB, Budget, legacy_names, pickle_names

__all__ = ["Found", "clean_text", "inside", "open_checked", "sniff"]

SPOKEN = {"pickle": "a pickle", "torchscript": "a TorchScript archive", "torch.export": "a torch.export program"}
SPOKEN |= {"torch": "a PyTorch checkpoint", "zip": "a zip archive", "unknown": "a file of unknown kind"}
HDF5 = b"\x89HDF\r\n\x1a\n"
TOML = re.compile(r"(?:[ \t\r]*(?:#[^\n]*)?\n)*[ \t]*(?:\[\[?[^\[\]\n]+\]\]?|[\w.\"'-]+[ \t]*=[ \t]*\S)")
ONNX = {1: 0, 5: 0} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), 2)  # wire types of ModelProto's fields


def sniff(path: Path) -> Found:
    """Recognise a file by its content, without executing it; bombs and lies are refused before anything is unpacked.

    Refused are archives that declare more than 16 GB, more than 200 times their size (from 256 MB on) or more than
    100,000 members, members whose names climb out or that hold more than they declare, arrays and safetensors headers
    that promise more than the file holds, and packed streams whose first 50 MB come from less than 250 kB.
    """
    with _opened(path) as (stream, size):
        head = stream.read(HEAD)
        stream.seek(0)
        if not head:
            return Found("empty")
        if head.startswith(ZIP):
            return sniff_zip(stream, size, Budget())
        return sniff_npy(stream, size, Budget()) if head.startswith(NPY) else _plain(stream, size, head, path.suffix)


def open_checked(path: Path, allowed: Collection[str], *, trust: bool, remedy: str) -> Found:
    """Let a file pass to its loader: it is of an allowed kind and runs nothing, or the user trusts it."""
    found = sniff(path)
    what = _spoken(found.kind)
    if found.kind == "empty":
        raise OtoscopeError(f"{shown(path)}: is empty; get it again")
    if found.kind not in allowed:
        raise OtoscopeError(f"{shown(path)}: is {what}, not {' or '.join(map(_spoken, allowed))}; {remedy}")
    if (found.kind in RUNS_CODE or found.runs) and not trust:
        names = ", ".join(map(shown, found.runs[:5])) + (", …" if len(found.runs) > 5 else "")
        convert = "" if found.kind == "python" else "convert it to skops or safetensors, or "
        raise OtoscopeError(
            f"{shown(path)}: is {what}; loading it would run code from it{names and f' ({names})'}; "
            f"{convert}say --trust if you trust where it comes from"
        )
    return found


def clean_text(text: str, what: str) -> str:
    """Pass a label or a name from a file one does not trust, stripped of the spaces around it."""
    clean, shown = text.strip(), ascii(text[:40])[:40]
    if not clean:
        raise OtoscopeError(f"{what} is blank; give it a text")
    if len(clean) > 200:
        raise OtoscopeError(f"{what} {shown} is longer than 200 characters; shorten it")
    # Zero-width joiners are of category Cf too, but Persian and emoji are spelt with them.
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\u200c\u200d" for c in clean):
        raise OtoscopeError(f"{what} {shown} holds control characters; remove them")
    if re.search(r"<[A-Za-z/!?]|&#", clean):
        raise OtoscopeError(f"{what} {shown} holds markup; remove it")
    return clean


def inside(folder: Path, name: str) -> Path:
    """Resolve a name inside a folder, by way of links too; the file need not exist."""
    try:
        base = folder.resolve()
        file = base if climbs(name) else (base / name).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long
        file = base
    if file == base or not file.is_relative_to(base):
        raise OtoscopeError(f"{shown(folder)}: {shown(name)} is not inside this folder; put the file there")
    return file


def _spoken(kind: str) -> str:
    return SPOKEN.get(kind, f"{'an' if kind[0] in 'aehino' else 'a'} {kind} file")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OtoscopeError("is a folder or a device, not a file; name a file")
        with path.open("rb") as stream:
            yield stream, status.st_size
    except FileNotFoundError:
        raise OtoscopeError(f"{shown(path)}: no such file; correct its name") from None
    except OtoscopeError as fault:
        raise OtoscopeError(f"{shown(path)}: {fault}") from None
    except BROKEN as error:
        raise OtoscopeError(f"{shown(path)}: cannot be read ({shown(repr(error))}); get it again") from None


def _plain(stream: IO[bytes], size: int, head: bytes, suffix: str) -> Found:
    if head.startswith(HDF5):
        return Found("hdf5")
    if head.startswith(LEGACY):
        return Found("torch", legacy_names(stream))
    budget, packed = Budget(), unpacked(stream, head)
    if packed:
        names = pickle_names(io.BytesIO(packed), len(packed) + 1, budget)
        return Found("unknown") if names is None else Found("pickle", names)
    kind = _marked(stream, size, head)
    stream.seek(0)
    names = pickle_names(stream, size, budget, proof=kind is not None)
    if names is not None:
        return Found("pickle", names)
    if kind is None and head[8:9] == b"{" and not head[:8].decode("latin-1").isprintable():
        raise OtoscopeError("promises a safetensors header that it does not hold; get it again")
    return Found(kind or _text(stream, suffix))


def _marked(stream: IO[bytes], size: int, head: bytes) -> str | None:
    """Recognise the kinds of models that are no archives."""
    if head[4:8] == b"TFL3":
        return "tflite"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length <= min(size - 8, 100_000_000):  # the bound of the safetensors library
        stream.seek(8 + max(0, length - 64))
        if stream.read(min(length, 64)).rstrip()[-1:] in (b"}", b""):  # spaces fill it up
            return "safetensors"
    stream.seek(0)
    return "onnx" if _is_onnx(stream, size) else None


def _is_onnx(stream: IO[bytes], size: int) -> bool:
    """Walk along the fields of a ModelProto; a version of the format (1) and a graph (7) must be among them."""
    seen: set[int] = set()
    for _ in range(MAX_MEMBERS):
        if stream.tell() == size:
            return {1, 7} <= seen
        number, wire = divmod(_varint(stream), 8)
        if ONNX.get(number) != wire:
            return False
        value = _varint(stream)
        if value < 0 or (wire and value > size - stream.tell()):
            return False
        stream.seek(value if wire else 0, io.SEEK_CUR)
        seen.add(number)
    return False


def _varint(stream: IO[bytes]) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = int.from_bytes(stream.read(1) or b"\xff")
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    return -1


def _text(stream: IO[bytes], suffix: str) -> str:
    stream.seek(0)
    data = stream.read(MB)
    text = data.decode("utf-8", "replace")
    if re.search(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]", text[:-3] + text[-3:].rstrip("\ufffd")):
        return "unknown"
    if suffix.lower() == ".py":
        return "python"
    if text.lstrip().startswith(("{", "[")):
        with suppress(ValueError, RecursionError):
            json.loads(text)
            return "json"
    return "toml" if TOML.match(text) else "text"
