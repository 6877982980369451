"""Look into archives and arrays before anything is unpacked: their kind, the pickles in them, bombs and lies.

Readers find the directory of a zip archive in different ways: zipfile looks where it ends, that of torch where it is
said to begin. What was looked at must be what is loaded, so an archive passes only where both are the same place. On
this rests that a `torch` file whose `runs` are empty may be read by ``torch.load(weights_only=True)``, and by no other
call.

A fault is an `OtoscopeError` that gives the reason; `otoscope.adapters.safety` adds the file.
"""

from __future__ import annotations

import bz2
import copy
import io
import lzma
import math
import re
import struct
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.pickles import BROKEN, HARMLESS, HEAD, MAX_LOOK, MB, UNRESOLVED, Budget, pickle_names, read

RUNS_CODE = frozenset({"pickle", "torchscript", "torch.export", "python"})
MAX_MEMBERS, MAX_DIRECTORY = Budget.members, 16 * MB
END, END64, LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
MAX_UNPACKED, MAX_RATIO, RATIO_FROM = 16 * 1024 * MB, 200, 256 * MB
ZIP, NPY = (b"PK\x03\x04", b"PK\x05\x06"), b"\x93NUMPY"
NUMBER = rb"'[<>|=]?[a-zA-NP-Z]\d{1,9}(?:\[\w+\])?'"
FIELDS = rb"\[(?:\('[\w .-]*', " + NUMBER + rb"\)(?:, )?)+\]"  # records of plain numbers
ARRAY = re.compile(
    rb"\{'descr': (?:'[<>|=]?(O)\d?'|(" + NUMBER + rb"|" + FIELDS + rb")), 'fortran_order': (?:True|False), "
    rb"'shape': \(((?:\d{1,20}, ?)*(?:\d{1,20})?)\), \} *\n?"
)
WIDTH = re.compile(rb"(?:^|', )'[<>|=]?([a-zA-Z])(\d{1,9})")  # of the array, or of each field; names are no widths
STORAGE = re.compile(r"[^/]+/(?:data|constants|data/weights|data/constants)/\w+")  # raw numbers, never unpickled


@dataclass(frozen=True)
class Found:
    """What a file is, and the names of what loading it would run.

    Empty `runs` of a `torch` file mean that ``torch.load(weights_only=True)`` reads it; any other call may run code.
    """

    kind: str
    runs: tuple[str, ...] = ()


def sniff_zip(stream: IO[bytes], size: int, budget: Budget, depth: int = 0) -> Found:
    """Check the directory, then look at each member."""
    runs, kinds = dict[str, None](), set[str]()
    n_members = _check_directory(stream, size)
    with zipfile.ZipFile(_Capped(stream)) as archive:
        members = archive.infolist()
        budget.members -= len(members)
        if depth and budget.members < 0:
            raise OtoscopeError(f"nests archives of more than {MAX_MEMBERS} members in all; do not open it")
        _check_members(members, size)
        if n_members not in (len(members), len(members) & 0xFFFF, 0xFFFF):
            raise OtoscopeError(f"is an archive of {len(members)} members that says {n_members}; get it again")
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


class _Capped:
    """Stream that refuses to be read in one piece: zipfile reads a directory whole, however large."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.seek, self.tell, self.seekable, self._read = stream.seek, stream.tell, stream.seekable, stream.read

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY:
            raise OtoscopeError("is an archive with too large a directory; get it again")
        return self._read(size if size >= 0 else MAX_DIRECTORY)


def _check_directory(stream: IO[bytes], size: int) -> int:
    """See that all readers find the same directory, and tell how many members the end of the archive states."""
    tail = min(size, END64.size + LOCATOR.size + END.size)
    stream.seek(size - tail)
    data = stream.read(tail)
    stream.seek(0)
    at = tail - END.size
    if at < 0 or data[at : at + 4] != b"PK\5\6":
        raise OtoscopeError("is an archive that ends in a comment or in something else; pack it again")
    *_, n_members, length, start, comment = END.unpack_from(data, at)
    end = size - END.size
    if data[max(0, at - LOCATOR.size) : at].startswith(b"PK\6\7"):
        end -= LOCATOR.size + END64.size
        at64 = at - LOCATOR.size - END64.size
        found = END64.unpack_from(data, at64) if at64 >= 0 else (b"",)
        if found[0] != b"PK\6\6" or LOCATOR.unpack_from(data, at - LOCATOR.size)[2] != end:
            raise OtoscopeError("is an archive whose end is not where it says; pack it again")
        n_members, length, start = found[-3:]
    if comment or start + length != end:
        raise OtoscopeError("is an archive whose directory is not where it says; pack it again")
    return int(n_members)


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    total = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS or total > MAX_UNPACKED or total > max(RATIO_FROM, MAX_RATIO * size):
        raise OtoscopeError(f"is an archive of {len(members)} members that unpack to {total} bytes; do not open it")
    for member in members:
        name, stored = member.orig_filename, member.compress_type == zipfile.ZIP_STORED
        if climbs(name):
            raise OtoscopeError(f"has a member {shown(name)} that climbs out of the archive; do not open it")
        if member.flag_bits & 1 or not (stored or member.compress_type == zipfile.ZIP_DEFLATED):
            raise OtoscopeError(f"has a member {shown(name)} that is encrypted or oddly packed; pack it again")
        if member.compress_size > size or (stored and member.compress_size != member.file_size):
            raise OtoscopeError(f"has a member {shown(name)} that lies about its size; get it again")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget, depth: int, *, raw: bool) -> Found:
    if budget.bytes <= 0 or budget.opcodes <= 0:
        return Found("unknown", (UNRESOLVED,))
    grown = copy.copy(info)  # zipfile stops at the declared size: one byte more shows a lie
    grown.file_size += 1
    grown.CRC = None  # type: ignore[assignment]  # torch can be told to write none
    with archive.open(grown) as member:
        head = member.read(HEAD)
        member.seek(0)
        if head.startswith(ZIP):
            found = _nested(read(member, MAX_LOOK), info, budget, depth)
        elif head.startswith(NPY):
            found = sniff_npy(member, info.file_size, budget)
        else:
            names = pickle_names(member, info.file_size, budget, proof=raw)
            found = Found("unknown") if names is None else Found("pickle", names)
        if member.tell() > info.file_size:
            raise OtoscopeError(f"has a member {shown(info.filename)} that holds more than it declares; get it again")
    return found


def _nested(data: bytes, info: zipfile.ZipInfo, budget: Budget, depth: int) -> Found:
    budget.nested -= len(data)
    if depth or len(data) < info.file_size or budget.nested < 0:
        raise OtoscopeError(
            f"nests an archive {shown(info.filename)} too deep or too large to check; unpack it yourself"
        )
    return sniff_zip(io.BytesIO(data), len(data), budget, depth + 1)


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


def sniff_npy(stream: IO[bytes], size: int, budget: Budget) -> Found:
    """Weigh what an array promises against what it holds; one of objects is a pickle after its header."""
    head = stream.read(10_000)
    start, wide = (12, 4) if head[6:7] > b"\x01" else (10, 2)
    length = int.from_bytes(head[8 : 8 + wide], "little")
    match = ARRAY.fullmatch(head[start : start + length])
    if match is None:
        raise OtoscopeError("has an array header that cannot be checked; save the array again with numpy.save")
    if match[1]:
        stream.seek(start + length)
        return Found("pickle", pickle_names(stream, size - start - length, budget) or (UNRESOLVED,))
    width = sum(int(size) * (4 if kind == b"U" else 1) for kind, size in WIDTH.findall(match[2]))
    if width * math.prod(int(n) for n in re.findall(rb"\d+", match[3])) > size - start - length:
        raise OtoscopeError("holds an array that promises more than is there; get it again")
    return Found("npy")


def unpacked(stream: IO[bytes], head: bytes) -> bytes:
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


def climbs(name: str) -> bool:
    """Tell whether a name may lead out of the folder that it is taken from."""
    return "\0" in name or ".." in re.split(r"[/\\]", name) or re.match(r"[/\\]|[A-Za-z]:", name) is not None


def shown(name: str | Path) -> str:
    """Name for one line of text: escaped and cut where it holds what a plain name does not."""
    text = str(name)
    escaped = ascii(text[:120]).replace("<", r"\x3c").replace("&", r"\x26")
    return text if text.isprintable() and not set("<&") & set(text) and len(text) < 1000 else escaped
