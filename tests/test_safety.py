"""The door for files one does not trust: every hostile file is refused in one line, and nothing of it ever runs."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.pickles import HARMLESS, UNRESOLVED
from otoscope.adapters.safety import Found, clean_text, inside, open_checked, sniff
from tests import hostile
from tests.builders import DATA

KINDS: tuple[str, ...] = (
    "safetensors",
    "tflite",
    "onnx",
    "skops",
    "torchscript",
    "torch.export",
    "torch",
    "pickle",
    "zip",
)
KINDS += ("hdf5", "npy", "npz", "python", "toml", "json", "text", "unknown")
NEED_TRUST = {"module.pt", "sklearn.joblib", "packed.joblib", "scripted.pt", "program.pt2"}


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("marker") / "ran"


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory, marker: Path) -> dict[str, Path]:
    return hostile.pickled_files(tmp_path_factory.mktemp("pickled"), marker)


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return hostile.bombs(tmp_path_factory.mktemp("bombs"))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return hostile.harmless_files(tmp_path_factory.mktemp("harmless"))


def refusal(path: Path, *, trust: bool = False, allowed: tuple[str, ...] = KINDS) -> str:
    """Give the one line that refuses a file, empty where it passes."""
    try:
        open_checked(path, allowed, trust=trust, remedy="get another")
    except OtoscopeError as error:
        text = str(error)
        assert text.startswith(str(path) if str(path).isprintable() else ascii(str(path)))
        assert text.isprintable()
        assert "; " in text  # the remedy
        return text
    return ""


def written(path: Path, data: bytes | bytearray) -> Path:
    path.write_bytes(data)
    return path


# Hostile files


def test_no_pickle_passes_without_trust_and_none_runs(pickled: dict[str, Path], marker: Path) -> None:
    for name, path in pickled.items():
        assert "loading it would run code from it (" in refusal(path), name
        assert not marker.exists(), name


def test_what_a_pickle_would_run_is_named(pickled: dict[str, Path]) -> None:
    for name, path in pickled.items():
        runs = sniff(path).runs
        known = [run for run in runs if run.startswith(("posix.system", "pathlib."))]
        assert known or UNRESOLVED in runs, name
    assert sniff(pickled["names by the memo.pkl"]) == Found("pickle", ("posix.system",))
    assert sniff(pickled["a name that is computed.pkl"]).runs == ("builtins.str", UNRESOLVED)
    assert sniff(pickled["hidden.pt"]) == Found("torch", ("posix.system",))
    assert sniff(pickled["readme.zip"]) == Found("pickle", ("posix.system in readme.txt",))
    assert sniff(pickled["nested.zip"]).runs == ("posix.system in inner",)


def test_a_trusted_pickle_passes_and_is_still_not_run(pickled: dict[str, Path], marker: Path) -> None:
    for name, path in pickled.items():
        assert refusal(path, trust=True) == "", name
    assert not marker.exists()


def test_trust_does_not_widen_what_is_allowed(pickled: dict[str, Path]) -> None:
    for suffix in ("safetensors", "onnx", "tflite"):
        text = refusal(pickled[f"renamed.{suffix}"], trust=True, allowed=(suffix,))
        assert text.endswith(f"is a pickle, not {'an' if suffix == 'onnx' else 'a'} {suffix} file; get another")


@pytest.mark.parametrize("name", hostile.evasive_pickles(Path("marker")))
def test_evasive_pickles_are_no_paper_tigers(name: str, tmp_path: Path) -> None:
    data = hostile.evasive_pickles(tmp_path / "ran")[name]
    try:
        pickle.load(io.BytesIO(data))
    except (EOFError, pickle.UnpicklingError):
        pass
    assert (tmp_path / "ran").exists()


def test_bombs_and_lies_are_refused_even_if_trusted(bombs: dict[str, Path]) -> None:
    reasons = {
        "bomb.zip": "unpack to 11010048000 bytes",
        "nothing-behind.zip": "unpack to",
        "lying.zip": "holds more than it declares",
        "lying-pickle.zip": "holds more than it declares",
        "many.zip": "100001 members",
        "array.npz": "promises more than is there",
        "array.npy": "promises more than is there",
        "evil-name.zip": "climbs out",
        "drive.zip": "climbs out",
        "absolute.zip": "climbs out",
        "deep.zip": "too deep",
        "nested-bomb.zip": "unpack to 314572800 bytes",
        "bomb.gz": "more than 200 times",
        "header.safetensors": "promises a safetensors header",
        "long-header.safetensors": "promises a safetensors header",
    }
    assert bombs.keys() == reasons.keys()
    for name, path in bombs.items():
        assert reasons[name] in refusal(path, trust=True), name


def test_bombs_are_not_unpacked(bombs: dict[str, Path]) -> None:
    tracemalloc.start()
    try:
        for name in ("bomb.zip", "nested-bomb.zip", "lying.zip", "array.npy", "bomb.gz"):
            with pytest.raises(OtoscopeError, match=r"\.(zip|npy|gz): "):
                sniff(bombs[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 << 20


def test_a_directory_of_members_too_many_to_read_is_not_read(tmp_path: Path) -> None:
    path = hostile.write_zip(tmp_path / "a.zip", *[("m" * 1000, b"\3\0", 0)] * 17_000)
    assert "too large a directory" in refusal(path)


def stored(*members: tuple[str, bytes]) -> bytes:
    """Pack a plain archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def test_members_are_counted_across_nested_archives(tmp_path: Path) -> None:
    inner = hostile.write_zip(tmp_path / "inner.zip", *[(f"{i:x}", b"\3\0", 0) for i in range(40_000)]).read_bytes()
    assert refusal(written(tmp_path / "two.zip", stored(*[(f"{i}", inner) for i in range(2)]))) == ""
    path = written(tmp_path / "many.zip", stored(*[(f"{i}", inner) for i in range(60)]))
    assert "nests archives of more than 100000 members in all" in refusal(path, trust=True)


def test_bytes_are_counted_across_nested_archives(tmp_path: Path) -> None:
    padded = hostile.zip_with(tmp_path / "inner.zip", {"a": bytes(40 * hostile.MB)}).read_bytes()
    names = [f"{i}" for i in range(6)]
    assert refusal(written(tmp_path / "six.zip", stored(*[(name, padded) for name in names]))) == ""
    noise = os.urandom(2 * hostile.MB)  # else the ratio is refused
    path = written(tmp_path / "seven.zip", stored(("noise", noise), *[(name, padded) for name in (*names, "6")]))
    assert "too large to check" in refusal(path, trust=True)


def split(benign: bytes, evil: bytes) -> dict[str, bytes]:
    """Make archives in which two readers find two directories."""
    end = len(benign) - 22
    length, start = struct.unpack("<LL", benign[end + 12 : end + 20])
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, length, start)
    return {
        "one behind the other": evil[:-22] + benign,
        "something before": evil[:4] + benign,
        "a comment": benign[:-2] + b"\4\0abcd",
        "something behind": benign + b"abcd",
        "a wider end elsewhere": benign[:end] + locator + benign[end:],
        "a wider end at its place, said to be elsewhere": benign[:end] + end64 + locator + benign[end:],
        "fewer members than there are": benign[: end + 8] + b"\0\0\0\0" + benign[end + 12 :],
        "a directory further before": benign[: end + 16] + struct.pack("<L", start - 1) + benign[end + 20 :],
    }


@pytest.mark.parametrize("name", split(stored(("a", b"")), b""))
def test_an_archive_with_two_directories_is_refused(tmp_path: Path, marker: Path, name: str) -> None:
    objects: tuple[object, ...] = {}, hostile.ByShell(marker)
    benign, evil = (stored(("m/data.pkl", pickle.dumps(one, 2).ljust(200, b"\0"))) for one in objects)
    assert refusal(written(tmp_path / "whole.pt", benign)) == ""
    told = refusal(written(tmp_path / "a.pt", split(benign, evil)[name]), trust=True)
    assert re.search("directory is not where|ends in a comment|whose end is not where|members that says 0", told), told


def test_a_wider_end_at_its_place_passes(tmp_path: Path) -> None:
    benign = stored(("a", b"hello"))
    length, start = struct.unpack("<LL", benign[-10:-2])
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, length, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(benign) - 22, 1)
    wide = (
        benign[:-22] + end64 + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    )
    assert sniff(written(tmp_path / "a.zip", wide)) == Found("zip")


@pytest.mark.parametrize(
    ("at", "value"), [(8, 1), (10, 12), (20, 99), (24, 77)], ids=["flag", "bzip2", "packed", "size"]
)
def test_a_member_with_a_strange_directory_is_refused(tmp_path: Path, at: int, value: int) -> None:
    data = bytearray(hostile.zip_with(tmp_path / "a.zip", {"m": b"hello"}).read_bytes())
    data[data.index(b"PK\1\2") + at] = value
    assert "has a member m that" in refusal(written(tmp_path / "b.zip", data))


def test_a_packed_member_larger_than_its_archive_is_refused(tmp_path: Path) -> None:
    data = bytearray(hostile.write_zip(tmp_path / "a.zip", ("m", hostile.deflated(b"hello"), 5)).read_bytes())
    data[data.index(b"PK\1\2") + 21] = 9
    assert "lies about its size" in refusal(written(tmp_path / "b.zip", data))


def test_an_archive_of_more_than_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hostile.zip_with(tmp_path / "a.zip", {"a": bytes(600), "b": bytes(600)})
    assert sniff(path) == Found("zip")
    monkeypatch.setattr("otoscope.adapters.archives.MAX_UNPACKED", 1000)
    assert "2 members that unpack to 1200 bytes" in refusal(path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (18446744073709551615, 18446744073709551615), }",
        "{'descr': '<U9', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<f', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': 'object', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '<i8'), ('b', '|O8')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', [('b', '<i8')])], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '<i8'), ('b', '<f8')], 'fortran_order': False, 'shape': (99999,), }",
        "{'shape': (1,), 'fortran_order': False, 'descr': '|O', }",
        "__import__('os').abort()",
        "(" * 9000,
    ],
)
def test_arrays_that_cannot_be_weighed_are_refused(tmp_path: Path, header: str) -> None:
    data = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + bytes(99)
    assert "array" in refusal(written(tmp_path / "a.npy", data), trust=True)


# Evasions


def test_a_pickle_that_is_an_onnx_model_too_is_a_pickle(tmp_path: Path) -> None:
    evil = b"X\1\0\0\0a0cposix\nsystem\n(S'true'\ntR."
    both = b"(N2" + evil[:1] + evil[1:].ljust(ord("X")) + b"\x08\x08:\x00"
    assert sniff(written(tmp_path / "a", b"(N2" + bytes([40]) + b"N" * 40 + b"\x08\x08:\x00")).kind == "onnx"
    assert sniff(written(tmp_path / "a", both)) == Found("pickle", ("posix.system",))


def test_a_pickle_that_is_a_safetensors_file_too_is_a_pickle(tmp_path: Path) -> None:
    text = b'\0\0\0{"a":"' + b"a" * 31
    evil = b"X" + struct.pack("<I", len(text)) + text + b"0cposix\nsystem\n(S'true'\ntR."
    both = evil.ljust(8 + int.from_bytes(evil[:8], "little") - 1) + b"}"
    assert sniff(written(tmp_path / "a", both.replace(b"posix", b"p\xff\xff\xffx"))) == Found("safetensors")
    assert sniff(written(tmp_path / "a", both)) == Found("pickle", ("posix.system",))


@pytest.mark.parametrize("length", [0x80, 0x280, 0x480])
def test_a_safetensors_header_that_begins_like_a_pickle_is_none(tmp_path: Path, length: int) -> None:
    header = b'{"__metadata__":{}}'.ljust(length)
    assert sniff(written(tmp_path / "a", struct.pack("<Q", length) + header)) == Found("safetensors")


def test_weights_that_begin_like_a_pickle_are_weights(tmp_path: Path) -> None:
    members = {"m/data.pkl": pickle.dumps({}, protocol=2), "m/data/0": b"\x80\x02\xff\xff"}
    assert sniff(hostile.zip_with(tmp_path / "a.pt", members)) == Found("torch")
    members.pop("m/data.pkl")
    assert sniff(hostile.zip_with(tmp_path / "a.zip", members)) == Found("pickle", (f"{UNRESOLVED} in m/data/0",))


def test_opcodes_without_end_are_never_harmless(tmp_path: Path) -> None:
    state = pickle.dumps({}, protocol=2)
    endless = b"\x80\x02" + b"N0" * 2_000_000 + state[2:]
    found = sniff(hostile.zip_with(tmp_path / "a.pt", {"m/data.pkl": endless, "m/data/0": b""}))
    assert found == Found("torch", (UNRESOLVED, f"{UNRESOLVED} in m/data/0"))


def test_names_without_end_are_bounded(tmp_path: Path) -> None:
    data = b"\x80\x02" + b"".join(b"ca\nb%d\n0" % i for i in range(5000)) + b"N."
    runs = sniff(written(tmp_path / "a.pkl", data)).runs
    assert len(runs) == 1001
    assert runs[-1] == UNRESOLVED
    assert "(a.b0, a.b1, a.b2, a.b3, a.b4, …)" in refusal(tmp_path / "a.pkl")


def test_a_checkpoint_whose_pickle_is_none_is_not_harmless(tmp_path: Path) -> None:
    for data in (b"", b"hello", b"\x93NUMPY\1\0"):
        path = hostile.zip_with(tmp_path / "a.pt", {"m/data.pkl": data})
        assert refusal(path), data


def test_names_are_escaped(tmp_path: Path) -> None:
    for module in ("<script>", "a\x1b[31mb", "a\u202eb", "a&#60;b", "m" * 5000):
        data = b"\x80\x04\x8d" + struct.pack("<Q", len(module.encode())) + module.encode() + b"\x8c\x01f\x93."
        text = refusal(written(tmp_path / "a.pkl", data))
        assert "<" not in text
        assert "&#" not in text
        assert len(text) < 600
    assert refusal(tmp_path / "a\nb.pkl") == f"{ascii(str(tmp_path))[:-1]}/a\\nb.pkl': no such file; correct its name"


# Harmless files


def test_harmless_files_are_recognised(harmless: dict[str, Path], tmp_path: Path) -> None:
    kinds = {
        "state.pt": "torch",
        "legacy.pt": "torch",
        "mixed.pt": "torch",
        "module.pt": "torch",
        "weights.safetensors": "safetensors",
        "sklearn.joblib": "pickle",
        "packed.joblib": "pickle",
        "sklearn.skops": "skops",
        "array.npy": "npy",
        "arrays.npz": "npz",
        "scripted.pt": "torchscript",
        "program.pt2": "torch.export",
        "net.onnx": "onnx",
    }
    for name, path in hostile.copies(harmless, tmp_path).items():  # no name tells the kind
        assert sniff(path).kind == kinds[name], name


def test_harmless_files_pass_as_the_design_says(harmless: dict[str, Path]) -> None:
    for name, path in harmless.items():
        assert bool(refusal(path)) == (name in NEED_TRUST), name
        assert refusal(path, trust=True) == "", name
        sniff(path)


def test_what_runs_nothing_is_what_weights_only_reads(harmless: dict[str, Path]) -> None:
    for name, path in harmless.items():
        found = sniff(path)
        if found.kind == "torch":
            if found.runs:
                with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
                    torch.load(path, weights_only=True)
            else:
                assert torch.load(path, weights_only=True), name
    assert sniff(harmless["module.pt"]).runs == ("tests.hostile.Net", "torch.nn.modules.conv.Conv1d")


def test_all_that_torch_allows_is_harmless_and_little_else() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    assert [name for name in _get_allowed_globals() if not HARMLESS.fullmatch(name)] == []
    for name in ("torch.load", "torch.hub.load", "torch.storage._load_from_bytes", "torch.jit.load", "builtins.eval"):
        assert not HARMLESS.fullmatch(name)
    for module in (torch, torch.serialization, torch.storage, torch._utils, torch._tensor, torch.jit, torch.hub):
        for name, value in vars(module).items():
            full = f"{module.__name__}.{name}"
            if callable(value) and not isinstance(value, type) and HARMLESS.fullmatch(full):
                assert full in _get_allowed_globals()


@pytest.mark.parametrize("name", ["msd_musicnn.onnx", "mtt_musicnn.onnx", "piano_emotion.tflite", "yamnet.tflite"])
def test_real_models_are_recognised(name: str, tmp_path: Path) -> None:
    path = DATA / "models" / name
    if not path.is_file():
        pytest.skip(f"needs {path}; set OTOSCOPE_DATA")
    assert open_checked(path, {path.suffix[1:]}, trust=False, remedy="") == Found(path.suffix[1:])
    labels = written(tmp_path / "cut", path.read_bytes()[:-1])
    assert sniff(labels).kind == ("unknown" if path.suffix == ".onnx" else "tflite")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"[model]\nname = 'a'\n", "toml"),
        (b"# a card\n\nname = 1", "toml"),
        (b'{"a": [1]}', "json"),
        (b"[1, 2]", "json"),
        (b"cat\ndog\nRain\n(inside)\n", "text"),
        ("héavy\nrock\n".encode(), "text"),
        (b"[" * 100_000, "text"),
        (b"x^2 + y", "text"),
        (b"\xff\xfe\0\1", "unknown"),
        (b"\x1f\x8b\x08\0", "unknown"),
        (b":\0", "unknown"),
        (b"\x08\x08:\0", "onnx"),
        (b"\x89HDF\r\n\x1a\n", "hdf5"),
        (pickle.dumps({"a": 1}, protocol=0), "pickle"),
        (pickle.dumps({"a": 1}, protocol=4), "pickle"),
    ],
)
def test_plain_files_are_recognised(tmp_path: Path, data: bytes, kind: str) -> None:
    assert sniff(written(tmp_path / "file", data)) == Found(kind)


def test_python_is_code_and_known_by_its_suffix(tmp_path: Path) -> None:
    assert sniff(written(tmp_path / "a.txt", b"import os\n")).kind == "text"
    assert sniff(written(tmp_path / "a.py", b"import os\n")).kind == "python"
    assert "would run code from it; say --trust" in refusal(tmp_path / "a.py")


def test_recognising_needs_nothing_heavy() -> None:
    code = "import sys, otoscope.adapters.safety; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == "False False\n"


# The door


def test_the_refusal_names_what_would_run(tmp_path: Path) -> None:
    path = written(tmp_path / "evil.pkl", pickle.dumps(hostile.ByShell(Path("/a"))))
    assert refusal(path) == (
        f"{path}: is a pickle; loading it would run code from it (posix.system); "
        "convert it to skops or safetensors, or say --trust if you trust where it comes from"
    )
    assert refusal(path, allowed=("onnx", "torch")) == (
        f"{path}: is a pickle, not an onnx file or a PyTorch checkpoint; get another"
    )


def test_only_files_pass(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        assert "not a file" in refusal(path, trust=True)
    assert "no such file" in refusal(tmp_path / "none")
    assert "is empty" in refusal(written(tmp_path / "empty", b""), allowed=("empty",))
    for path in (tmp_path / "loop", tmp_path / "a\0b", tmp_path / ("a" * 300), tmp_path / "empty" / "a"):
        assert refusal(path)
        with pytest.raises(OtoscopeError, match="; "):
            sniff(path)


# Hostile bytes: nothing but OtoscopeError comes out

HEADS = (
    b"PK\3\4|PK\5\6|\x93NUMPY\1\0|\x1f\x8b\x08\0|x\x9c|BZh9|\xfd7zXZ\0|]\0\0|\x80\4|\x08\x08:|....TFL3|{|[|(c|".split(
        b"|"
    )
)
HEADS += [b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"\1\0\0\0\0\0\0\0{"]


def looks(path: Path) -> Found | None:
    """Give what is found, None where it is refused; any other error fails the test."""
    try:
        return sniff(path)
    except OtoscopeError as error:
        said = str(error)
    assert said.isprintable()
    return None


@given(head=st.sampled_from(HEADS), body=st.binary(max_size=300))
@settings(max_examples=300)
def test_random_bytes_do_no_harm(tmp_path_factory: pytest.TempPathFactory, head: bytes, body: bytes) -> None:
    looks(written(tmp_path_factory.getbasetemp() / "random", head + body))


@given(data=st.data())
@settings(max_examples=400)
def test_damaged_files_do_no_harm(
    tmp_path_factory: pytest.TempPathFactory, harmless: dict[str, Path], pickled: dict[str, Path], data: st.DataObject
) -> None:
    files = [path for path in (*harmless.values(), *pickled.values()) if path.stat().st_size < 20_000]
    damaged = bytearray(data.draw(st.sampled_from(files)).read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    looks(written(tmp_path_factory.getbasetemp() / "damaged", damaged[: data.draw(st.integers(0, len(damaged)))]))


class Inert:
    """What every name of a pickle stands for when it is unpickled for real: it notes calls and does nothing."""

    calls = 0

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Note the call."""
        Inert.calls += 1
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None:
        """Take any state."""


def imported(machine: Callable[[io.BytesIO], Any], data: bytes) -> list[str]:
    """Names that a real unpickler asks for, none of which is imported."""
    asked = []

    class Recorder(machine):  # type: ignore[misc, valid-type]
        def find_class(self, module: str, name: str) -> type[Inert]:
            asked.append(f"{module}.{name}")
            return Inert

    try:
        Recorder(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError):
        pass
    return asked


OPCODES = (
    b"\x8c\1a|\x8c\1b|Va\n|S'b'\n|U\1a|C\1a|ca\nb\n|cb\na\n|ia\nb\n|\x93|\x94|q\0|q\1|h\0|h\1|p1\n|g1\n|g01\n".split(
        b"|"
    )
)
OPCODES += b"r\2\0\0\0|j\2\0\0\0|0|1|2|(|t|)|\x85|\x86|R|b|o|\x81|N|I01\n|K\1|]|a|e|}|s|u|l|d|.|\x82\1|P1\n|Q".split(
    b"|"
)
OPCODES += [b"\x95\2\0\0\0\0\0\0\0"]  # a frame of two bytes


@given(opcodes=st.lists(st.sampled_from(OPCODES), max_size=25), headed=st.booleans())
@settings(max_examples=800)
def test_no_name_escapes_that_a_real_unpickler_asks_for(
    tmp_path_factory: pytest.TempPathFactory, opcodes: list[bytes], headed: bool
) -> None:
    data = b"\x80\4" * headed + b"\x8c\1a\x94\x8c\1b\x94" + b"".join(opcodes)
    found = looks(written(tmp_path_factory.getbasetemp() / "opcodes", data))
    assert found is not None
    if UNRESOLVED in found.runs:
        return
    for machine in (pickle.Unpickler, pickle._Unpickler):
        Inert.calls = 0
        asked = imported(machine, data)
        assert found.kind == "pickle" or not headed
        assert not Inert.calls or found.kind in ("pickle", "text", "unknown")  # no loader takes the latter two
        if found.kind == "pickle":
            assert set(asked) <= set(found.runs)


def test_the_oracle_of_names_sees_calls() -> None:
    evil = pickle.dumps(hostile.ByTouch(Path("/a")))
    assert imported(pickle.Unpickler, evil) == ["pathlib.Path.touch", "pathlib.PosixPath"]


# Texts and names from files


def test_plain_labels_pass() -> None:
    for text in ("rock", "R&B", "drum & bass", "a < b", "<3", "الموسیقی‌ها", "👩‍🎤", "x" * 200):
        assert clean_text(f"  {text} ", "label") == text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "blank"),
        (" \t\n", "blank"),
        ("x" * 201, "longer than 200"),
        ("a\nb", "control"),
        ("a\x1b[31m", "control"),
        ("a\u202eb", "control"),
        ("a\u2028b", "control"),
        ("a\ud800", "control"),
        ("a\0", "control"),
        ("<b>", "markup"),
        ("a</script>", "markup"),
        ("<!--", "markup"),
        ("<?php", "markup"),
        ("&#60;", "markup"),
    ],
)
def test_other_labels_are_refused(text: str, fault: str) -> None:
    with pytest.raises(OtoscopeError, match=f"^label 3 .*{fault}.*; ") as caught:
        clean_text(text, "label 3")
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 120


@given(text=st.text(max_size=220))
@settings(max_examples=50)
def test_any_text_is_clean_or_refused(text: str) -> None:
    try:
        said = clean_text(text, "label")
        assert said == text.strip()
    except OtoscopeError as error:
        said = str(error)
    assert said.isprintable() or "\u200c" in said or "\u200d" in said or not said.isascii()


def test_names_inside_a_folder_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    assert inside(tmp_path, "a.txt") == tmp_path.resolve() / "a.txt"
    assert inside(tmp_path, "sub/a..b") == tmp_path.resolve() / "sub" / "a..b"
    assert inside(tmp_path, "link/a") == tmp_path.resolve() / "sub" / "a"


def test_names_that_climb_out_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    names = (
        "",
        ".",
        "..",
        "../a",
        "a/../../b",
        "/etc/passwd",
        "\\a",
        "a\\..\\b",
        "c:\\a",
        "c:a",
        "a\0b",
        "out/a",
        "loop/a",
    )
    for name in names:
        with pytest.raises(OtoscopeError, match="is not inside this folder; ") as caught:
            inside(folder, name)
        assert str(caught.value).isprintable(), name
        assert not name or "a\0" not in str(caught.value)


def test_zip_and_array_of_the_tests_are_sound(tmp_path: Path) -> None:
    path = hostile.write_zip(tmp_path / "a.zip", ("m", hostile.zeros(2), 2 << 20))
    with zipfile.ZipFile(path) as archive, archive.open("m") as member:
        vars(member)["_expected_crc"] = None
        assert member.read() == bytes(2 << 20)
    assert sniff(path) == Found("zip")
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    assert sniff(written(tmp_path / "a", stream.getvalue())) == Found("npy")


def test_records_of_plain_numbers_are_weighed_by_their_fields(tmp_path: Path) -> None:
    records = np.zeros(5, dtype=[("f8", "<i8"), ("right_child", "<f4"), ("flag", "u1")])
    np.save(tmp_path / "a.npy", records)
    assert sniff(tmp_path / "a.npy") == Found("npy")
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-1])
    assert "promises more than is there" in refusal(tmp_path / "a.npy")
