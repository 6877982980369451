"""Look at a file before it is opened: what it is, what loading it would run, whether it is a bomb.

Nothing here executes a file or believes its name. A pickle is a program for a small stack machine. Its opcodes are
walked with `pickletools.genops` on a stack of which only the strings are known, which yields every name that loading
would import. Where the walk fails (joblib puts raw arrays between opcodes, hostile files what only the real machine
reads), and beyond what is looked at (50 MB and a million opcodes a file), `UNRESOLVED` joins the names: an evasive
pickle is never harmless. PyTorch checkpoints lose the names that ``torch.load(weights_only=True)`` allows. The kind
binds the loader: a `torch` file without names is harmless to that call, not to ``pickle.load``.

Every fault is an `OtoscopeError` of one line that names the file, the fault and the remedy.
"""

from __future__ import annotations

import bz2
import copy
import io
import json
import lzma
import math
import pickletools
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from otoscope.adapters.errors import OtoscopeError

SPOKEN = {"pickle": "a pickle", "torchscript": "a TorchScript archive", "torch.export": "a torch.export program"}
SPOKEN |= {"torch": "a PyTorch checkpoint", "zip": "a zip archive", "unknown": "a file of unknown kind"}
RUNS_CODE = frozenset({"pickle", "torchscript", "torch.export", "python"})
UNRESOLVED = "an unresolvable name"
HEAD, MB = 512, 1 << 20  # HEAD bytes tell most files and members
MAX_LOOK, MAX_NAMES, MAX_MEMBERS, MAX_DIRECTORY = 50 * MB, 1000, 100_000, 16 * MB
MAX_UNPACKED, MAX_RATIO, RATIO_FROM = 16 * 1024 * MB, 200, 256 * MB

ZIP, NPY, HDF5 = (b"PK\x03\x04", b"PK\x05\x06"), b"\x93NUMPY", b"\x89HDF\r\n\x1a\n"
LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # pickled magic number of torch.save before 1.6
ARRAY = re.compile(
    rb"\{'descr': '[<>|=]?(?:(O)\d?|([a-zA-Z])(\d{1,9}))(?:\[\w+\])?', 'fortran_order': (?:True|False), "
    rb"'shape': \(((?:\d{1,20}, ?)*(?:\d{1,20})?)\), \} *\n?"
)
TOML = re.compile(r"(?:[ \t\r]*(?:#[^\n]*)?\n)*[ \t]*(?:\[\[?[^\[\]\n]+\]\]?|[\w.\"'-]+[ \t]*=[ \t]*\S)")
STORAGE = re.compile(r"[^/]+/(?:data|constants|data/weights|data/constants)/\w+")  # raw numbers, never unpickled
# What torch.load(weights_only=True) allows; a test compares it with torch's own list.
HARMLESS = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|(builtins|__builtin__)\.(set|complex|bytearray)"
    r"|torch\.(Size|device|bool|((cuda|sparse|cuda\.sparse)\.)?([A-Z]\w*(Storage|Tensor)|Tensor)"
    r"|(bfloat|float|complex|u?int|qu?int|bits)\d+\w*|per_(tensor|channel)_\w+"
    r"|storage\.(Typed|Untyped)Storage|nn\.parameter\.Parameter|serialization\._get_layout"
    r"|_tensor\._rebuild_from_type_v2|_utils\._rebuild_(parameter(_with_state)?|tensor(_v2|_v3)?|qtensor|sparse_tensor"
    r"|meta_tensor_no_storage|nested_tensor|wrapper_subclass|device_tensor_from_(numpy|cpu_tensor)))"
)
ONNX = {1: 0, 5: 0} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), 2)  # wire types of ModelProto's fields
STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
CALLS = {"REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"}
_BROKEN = (OSError, EOFError, ValueError, LookupError, ArithmeticError, MemoryError, RuntimeError, Warning)
BROKEN = (*_BROKEN, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile)  # what hostile bytes raise


@dataclass(frozen=True)
class Found:
    """What a file is, and the names of what loading it would run."""

    kind: str
    runs: tuple[str, ...] = ()


@dataclass
class _Budget:
    """What looking into one file may still cost."""

    bytes: int = MAX_LOOK
    opcodes: int = 1_000_000


@dataclass
class _Walk:
    """What was seen along a pickle; `cut` where bytes or budget ended before STOP."""

    names: dict[str, None] = field(default_factory=dict)
    calls: bool = False
    stopped: bool = False
    cut: bool = False
    end: int = 0


def sniff(path: Path) -> Found:
    """Recognise a file by its content, without executing it; what `check_archive` refuses is refused."""
    with _opened(path) as (stream, size):
        head = stream.read(HEAD)
        stream.seek(0)
        if not head:
            return Found("empty")
        if head.startswith(ZIP):
            return _zip(stream, size, _Budget())
        return _npy(stream, size, _Budget()) if head.startswith(NPY) else _plain(stream, size, head, path.suffix)


def check_archive(path: Path) -> None:
    """Refuse bombs and lies before anything is unpacked; `sniff` does this as it goes.

    Refused are archives that declare more than 16 GB, more than 200 times their size (from 256 MB on) or more than
    100,000 members, members whose names climb out or that hold more than they declare, arrays and safetensors headers
    that promise more than the file holds, and packed streams whose first 50 MB come from less than 250 kB.
    """
    sniff(path)


def open_checked(path: Path, allowed: Collection[str], *, trust: bool, remedy: str) -> Found:
    """Let a file pass to its loader: it is of an allowed kind and runs nothing, or the user trusts it."""
    found = sniff(path)
    what = _spoken(found.kind)
    if found.kind == "empty":
        raise OtoscopeError(f"{_shown(path)}: is empty; get it again")
    if found.kind not in allowed:
        raise OtoscopeError(f"{_shown(path)}: is {what}, not {' or '.join(map(_spoken, allowed))}; {remedy}")
    if (found.kind in RUNS_CODE or found.runs) and not trust:
        names = ", ".join(map(_shown, found.runs[:5])) + (", …" if len(found.runs) > 5 else "")
        convert = "" if found.kind == "python" else "convert it to skops or safetensors, or "
        raise OtoscopeError(
            f"{_shown(path)}: is {what}; loading it would run code from it{names and f' ({names})'}; "
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
        file = base if _climbs(name) else (base / name).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long
        file = base
    if file == base or not file.is_relative_to(base):
        raise OtoscopeError(f"{_shown(folder)}: {_shown(name)} is not inside this folder; put the file there")
    return file


def _climbs(name: str) -> bool:
    return "\0" in name or ".." in re.split(r"[/\\]", name) or re.match(r"[/\\]|[A-Za-z]:", name) is not None


def _spoken(kind: str) -> str:
    return SPOKEN.get(kind, f"{'an' if kind[0] in 'aehino' else 'a'} {kind} file")


def _shown(name: str | Path) -> str:
    """Name for one line of text: escaped and cut where it holds what a plain name does not."""
    text = str(name)
    escaped = ascii(text[:120]).replace("<", r"\x3c").replace("&", r"\x26")
    return text if text.isprintable() and not set("<&") & set(text) and len(text) < 1000 else escaped


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OtoscopeError("is a folder or a device, not a file; name a file")
        with path.open("rb") as stream:
            yield stream, status.st_size
    except FileNotFoundError:
        raise OtoscopeError(f"{_shown(path)}: no such file; correct its name") from None
    except OtoscopeError as fault:
        raise OtoscopeError(f"{_shown(path)}: {fault}") from None
    except BROKEN as error:
        raise OtoscopeError(f"{_shown(path)}: cannot be read ({_shown(repr(error))}); get it again") from None


def _read(stream: IO[bytes], size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := stream.read(min(size - len(data), MB))):
        data += piece
    return bytes(data)


def _walk(data: bytes, budget: _Budget, start: int = 0) -> _Walk:
    """Walk along a pickle, without executing it."""
    stream, walk, stack, memo = io.BytesIO(data), _Walk(), list[object](), dict[object, object]()
    stream.seek(start)
    frame = 0
    try:
        for opcode, arg, at in pickletools.genops(stream):
            if (at or 0) < frame < stream.tell() + (opcode.name == "FRAME"):
                walk.names[UNRESOLVED] = None  # across the end of a frame the C machine goes on elsewhere
                walk.calls = True
            if opcode.name == "FRAME":
                frame = stream.tell() + int(arg or 0)
            budget.opcodes -= 1
            if budget.opcodes < 0 or len(walk.names) >= MAX_NAMES:
                walk.cut = True
                break
            name = _step(opcode, arg, stack, memo)
            if name is not None:
                walk.names[name[:200]] = None
            walk.calls |= opcode.name in CALLS
            walk.stopped = opcode.name == "STOP"
    except BROKEN:
        walk.cut = stream.tell() >= len(data)
    walk.end = stream.tell()
    return walk


def _step(opcode: pickletools.OpcodeInfo, arg: Any, stack: list[object], memo: dict[object, object]) -> str | None:
    """Do one opcode on a stack of which only strings and marks are known; return the name that it imports."""
    if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if arg is None else arg] = stack[-1]
        return None
    taken = _take(stack, opcode.stack_before)
    if opcode.name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[arg])
    elif opcode.name == "DUP":
        stack += taken * 2
    else:
        stack += [arg if opcode.name in STRINGS else what for what in opcode.stack_after]
    if opcode.name in ("GLOBAL", "INST"):
        return str(arg).replace(" ", ".", 1)
    if opcode.name == "STACK_GLOBAL":
        words = [word for word in taken if isinstance(word, str)]
        return ".".join(words) if len(words) == 2 else UNRESOLVED
    return UNRESOLVED if opcode.name.startswith("EXT") else None


def _take(stack: list[object], before: list[pickletools.StackObject]) -> list[object]:
    """Take what an opcode needs from the stack; IndexError where it holds too little."""
    taken: list[object] = []
    if pickletools.markobject in before:
        while (top := stack.pop()) is not pickletools.markobject:
            taken.append(top)
        before = before[: before.index(pickletools.markobject)]
    return (taken + [stack.pop() for _ in before])[::-1]


def _pickle(stream: IO[bytes], size: int, budget: _Budget, *, proof: bool = False) -> tuple[str, ...] | None:
    """Names that the pickle at the start of a stream imports, None where there is none.

    Proof is a walk with a sound stack up to a call or to STOP. Where none is needed, a pickle's first two bytes
    suffice, and so do opcodes that go on beyond what is looked at.
    """
    data = _read(stream, HEAD)
    walk = _walk(data, budget)
    if walk.cut and size > len(data) and budget.bytes > 0:
        data += _read(stream, budget.bytes)
        budget.bytes -= len(data)
        walk = _walk(data, budget)
    proven = (walk.calls or walk.stopped) if walk.names else (walk.stopped and walk.end == size)
    hinted = (data[:1] == b"\x80" and data[1:2] <= b"\x05") or (walk.cut and len(data) < size)
    if not proven and (proof or not hinted):
        return None
    return (*walk.names, *(() if walk.stopped else (UNRESOLVED,)))


def _plain(stream: IO[bytes], size: int, head: bytes, suffix: str) -> Found:
    if head.startswith(HDF5):
        return Found("hdf5")
    if head.startswith(LEGACY):
        return _legacy(stream)
    budget, unpacked = _Budget(), _unpacked(stream, head)
    if unpacked:
        names = _pickle(io.BytesIO(unpacked), len(unpacked) + 1, budget)
        return Found("unknown") if names is None else Found("pickle", names)
    kind = _marked(stream, size, head)
    stream.seek(0)
    names = _pickle(stream, size, budget, proof=kind is not None)
    if names is not None:
        return Found("pickle", names)
    if kind is None and head[8:9] == b"{" and not head[:8].decode("latin-1").isprintable():
        raise OtoscopeError("promises a safetensors header that it does not hold; get it again")
    return Found(kind or _text(stream, suffix))


def _legacy(stream: IO[bytes]) -> Found:
    """Walk along the four pickles after the magic number: protocol, system, the object, the keys of its storages."""
    data, end, budget, names = _read(stream, MAX_LOOK), len(LEGACY), _Budget(), dict[str, None]()
    for _ in range(4):
        walk = _walk(data, budget, end)
        names |= walk.names if walk.stopped else {**walk.names, UNRESOLVED: None}
        end = walk.end
    return Found("torch", tuple(name for name in names if not HARMLESS.fullmatch(name)))


def _unpacked(stream: IO[bytes], head: bytes) -> bytes:
    """Unpack the first 50 MB of a gzip, zlib, bz2, lzma or xz stream; nothing where it is none."""
    stream.seek(0)
    decoder: Any = bz2.BZ2Decompressor()
    if head.startswith((b"\x1f\x8b", b"x")):
        decoder = zlib.decompressobj(47)  # gzip or zlib, as its header says
    elif head.startswith((b"\xfd7zXZ", b"]\0\0")):
        decoder = lzma.LZMADecompressor(memlimit=256 * MB)
    elif not head.startswith(b"BZh"):
        return b""
    data, taken = bytearray(), 0
    with suppress(*BROKEN):
        while len(data) <= MAX_LOOK and not decoder.eof and (piece := stream.read(1 << 16)):
            taken += len(piece)
            data += decoder.decompress(piece, MAX_LOOK + 1 - len(data))
    if len(data) > max(MAX_LOOK, MAX_RATIO * taken):
        raise OtoscopeError("unpacks to more than 200 times its size; do not open it")
    return bytes(data)


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


def _npy(stream: IO[bytes], size: int, budget: _Budget) -> Found:
    """Weigh what an array promises against what it holds; one of objects is a pickle after its header."""
    head = stream.read(10_000)
    start, wide = (12, 4) if head[6:7] > b"\x01" else (10, 2)
    length = int.from_bytes(head[8 : 8 + wide], "little")
    match = ARRAY.fullmatch(head[start : start + length])
    if match is None:
        raise OtoscopeError("has an array header that cannot be checked; save the array again with numpy.save")
    if match[1]:
        stream.seek(start + length)
        return Found("pickle", _pickle(stream, size - start - length, budget) or (UNRESOLVED,))
    width = int(match[3]) * (4 if match[2] == b"U" else 1)
    if width * math.prod(int(n) for n in re.findall(rb"\d+", match[4])) > size - start - length:
        raise OtoscopeError("holds an array that promises more than is there; get it again")
    return Found("npy")


class _Capped:
    """Stream that refuses to be read in one piece: zipfile reads a directory whole, however large."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.seek, self.tell, self.seekable, self._read = stream.seek, stream.tell, stream.seekable, stream.read

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY:
            raise OtoscopeError("is an archive with too large a directory; get it again")
        return self._read(size if size >= 0 else MAX_DIRECTORY)


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    total = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS or total > MAX_UNPACKED or total > max(RATIO_FROM, MAX_RATIO * size):
        raise OtoscopeError(f"is an archive of {len(members)} members that unpack to {total} bytes; do not open it")
    for member in members:
        name, stored = member.orig_filename, member.compress_type == zipfile.ZIP_STORED
        if _climbs(name):
            raise OtoscopeError(f"has a member {_shown(name)} that climbs out of the archive; do not open it")
        if member.flag_bits & 1 or not (stored or member.compress_type == zipfile.ZIP_DEFLATED):
            raise OtoscopeError(f"has a member {_shown(name)} that is encrypted or oddly packed; pack it again")
        if member.compress_size > size or (stored and member.compress_size != member.file_size):
            raise OtoscopeError(f"has a member {_shown(name)} that lies about its size; get it again")


def _zip(stream: IO[bytes], size: int, budget: _Budget, depth: int = 0) -> Found:
    """Check the directory, then look at each member."""
    runs, kinds = dict[str, None](), set[str]()
    with zipfile.ZipFile(_Capped(stream)) as archive:
        members = archive.infolist()
        _check_members(members, size)
        kind = _archive_kind([member.filename for member in members])
        torch = kind.startswith("torch")
        for info in members:
            main, raw = torch and info.filename.endswith("/data.pkl"), torch and STORAGE.fullmatch(info.filename)
            found = _member(archive, info, budget, depth, raw=bool(raw))
            names = found.runs if found.kind == "pickle" or not main else (UNRESOLVED,)
            names = tuple(name for name in names if not (torch and HARMLESS.fullmatch(name)))
            runs |= dict.fromkeys(name if main else f"{name} in {info.filename}" for name in names)
            kinds.add(found.kind)
    if kinds & RUNS_CODE and not torch:
        kind = "pickle"
    return Found("npz" if kind == "zip" and kinds == {"npy"} else kind, tuple(runs))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget, depth: int, *, raw: bool) -> Found:
    if budget.bytes <= 0 or budget.opcodes <= 0:
        return Found("unknown", (UNRESOLVED,))
    grown = copy.copy(info)  # zipfile stops at the declared size: one byte more shows a lie
    grown.file_size += 1
    grown.CRC = None  # type: ignore[assignment]  # torch can be told to write none
    with archive.open(grown) as member:
        head = member.read(HEAD)
        member.seek(0)
        if head.startswith(ZIP):
            found = _nested(_read(member, MAX_LOOK), info, budget, depth)
        elif head.startswith(NPY):
            found = _npy(member, info.file_size, budget)
        else:
            names = _pickle(member, info.file_size, budget, proof=raw)
            found = Found("unknown") if names is None else Found("pickle", names)
        if member.tell() > info.file_size:
            raise OtoscopeError(f"has a member {_shown(info.filename)} that holds more than it declares; get it again")
    return found


def _nested(data: bytes, info: zipfile.ZipInfo, budget: _Budget, depth: int) -> Found:
    if depth or len(data) < info.file_size:
        raise OtoscopeError(
            f"nests an archive {_shown(info.filename)} too deep or too large to check; unpack it yourself"
        )
    return _zip(io.BytesIO(data), len(data), budget, depth + 1)


def _archive_kind(names: list[str]) -> str:
    """Tell the kind by the members' names; torch puts all of them in one folder."""
    tails = {name.partition("/")[2] for name in names}
    if "schema.json" in names:
        return "skops"
    if (
        tails & {"archive_format", "serialized_exported_program.json"}
        or any(tail.startswith("models/") and tail.endswith(".json") for tail in tails)
        or "serialized_exported_program.json" in names
    ):
        return "torch.export"
    if "constants.pkl" in tails or any(tail.startswith("code/") for tail in tails):
        return "torchscript"
    return "torch" if "data.pkl" in tails else "zip"
