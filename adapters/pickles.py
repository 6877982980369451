"""Walk along a pickle without executing it, to learn which names loading it would import.

A pickle is a program for a small stack machine. Its opcodes are walked with `pickletools.genops` on a stack of which
only the strings are known. Where the walk fails (joblib puts raw arrays between opcodes, hostile files what only the
real machine reads), and beyond what is looked at (50 MB and a million opcodes a file), `UNRESOLVED` joins the names: an
evasive pickle is never harmless.
"""

from __future__ import annotations

import io
import lzma
import pickletools
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import IO, Any

UNRESOLVED = "an unresolvable name"
HEAD, MB = 512, 1 << 20  # HEAD bytes tell most files and members
MAX_LOOK, MAX_NAMES = 50 * MB, 1000
LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # pickled magic number of torch.save before 1.6
# What torch.load(weights_only=True) allows; a test compares it with torch's own list.
HARMLESS = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|(builtins|__builtin__)\.(set|complex|bytearray)"
    r"|torch\.(Size|device|bool|((cuda|sparse|cuda\.sparse)\.)?([A-Z]\w*(Storage|Tensor)|Tensor)"
    r"|(bfloat|float|complex|u?int|qu?int|bits)\d+\w*|per_(tensor|channel)_\w+"
    r"|storage\.(Typed|Untyped)Storage|nn\.parameter\.Parameter|serialization\._get_layout"
    r"|_tensor\._rebuild_from_type_v2|_utils\._rebuild_(parameter(_with_state)?|tensor(_v2|_v3)?|qtensor|sparse_tensor"
    r"|meta_tensor_no_storage|nested_tensor|wrapper_subclass|device_tensor_from_(numpy|cpu_tensor)))"
)
STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
CALLS = {"REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"}
_BROKEN = (OSError, EOFError, ValueError, LookupError, ArithmeticError, MemoryError, RuntimeError, Warning)
BROKEN = (*_BROKEN, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile)  # what hostile bytes raise


@dataclass
class Budget:
    """What looking into one file may still cost."""

    bytes: int = MAX_LOOK
    opcodes: int = 1_000_000
    members: int = 100_000  # of an archive and of all archives in it
    nested: int = 256 * MB  # bytes of archives in an archive


@dataclass
class _Walk:
    """What was seen along a pickle; `cut` where bytes or budget ended before STOP."""

    names: dict[str, None] = field(default_factory=dict)
    calls: bool = False
    stopped: bool = False
    cut: bool = False
    end: int = 0


def read(stream: IO[bytes], size: int) -> bytes:
    """Read up to some bytes, a megabyte at a time."""
    data = bytearray()
    while len(data) < size and (piece := stream.read(min(size - len(data), MB))):
        data += piece
    return bytes(data)


def _walk(data: bytes, budget: Budget, start: int = 0) -> _Walk:
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


def pickle_names(stream: IO[bytes], size: int, budget: Budget, *, proof: bool = False) -> tuple[str, ...] | None:
    """Names that the pickle at the start of a stream imports, None where there is none.

    Proof is a walk with a sound stack up to a call or to STOP. Where none is needed, a pickle's first two bytes
    suffice, and so do opcodes that go on beyond what is looked at.
    """
    data = read(stream, HEAD)
    walk = _walk(data, budget)
    if walk.cut and size > len(data) and budget.bytes > 0:
        data += read(stream, budget.bytes)
        budget.bytes -= len(data)
        walk = _walk(data, budget)
    proven = (walk.calls or walk.stopped) if walk.names else (walk.stopped and walk.end == size)
    hinted = (data[:1] == b"\x80" and data[1:2] <= b"\x05") or (walk.cut and len(data) < size)
    if not proven and (proof or not hinted):
        return None
    return (*walk.names, *(() if walk.stopped else (UNRESOLVED,)))


def legacy_names(stream: IO[bytes]) -> tuple[str, ...]:
    """Names in the four pickles after the magic number: protocol, system, the object, the keys of its storages."""
    data, end, budget, names = read(stream, MAX_LOOK), len(LEGACY), Budget(), dict[str, None]()
    for _ in range(4):
        walk = _walk(data, budget, end)
        names |= walk.names if walk.stopped else {**walk.names, UNRESOLVED: None}
        end = walk.end
    return tuple(name for name in names if not HARMLESS.fullmatch(name))
