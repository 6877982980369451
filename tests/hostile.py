"""Files that want to run code or fill the memory when they are opened, and harmless files of the same kinds.

Whatever unpickles one of the hostile files for real creates the file `marker`; a test that opens them asserts that it
does not exist. Bombs are written by hand: a deflate stream of zeros repeats one flushed block, and the directory of an
archive says what one likes.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from torch import nn

MB = 1 << 20
Member = tuple[str, bytes, int]  # name, deflated bytes, size that the directory declares


class ByShell:
    """Object that runs a command of the shell when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        """Say what to call when this is unpickled."""
        return os.system, (f"touch {self.marker}",)


class ByTouch(ByShell):
    """Object that creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Say what to call when this is unpickled."""
        return Path.touch, (self.marker,)


def command(marker: Path) -> bytes:
    """Opcodes that call what lies on the stack with the command that creates the marker, and stop."""
    text = f"touch {marker}".encode()
    return b"\x8c" + bytes([len(text)]) + text + b"\x85R."


def evasive_pickles(marker: Path) -> dict[str, bytes]:
    """Pickles that hide what they call from a reader who only looks for ``os.system``; each of them runs."""
    shell = b"cposix\nsystem\n" + command(marker)
    text = f"touch {marker}".encode()
    by_hand = b"cposix\nsystem\n(S'" + text + b"'\ntR."
    by_memo = b"\x8c\x06system\x940\x8c\x05posix\x940h\x01h\x00\x93"
    made = b"\x8c\x05posix\x85R\x8c\x06system\x93"
    # Across the end of a frame of two bytes the C machine skips the second when it reads a file: a string of one
    # character there, a long one that swallows the call for `pickletools`.
    framed = b"\x80\x04\x95" + struct.pack("<Q", 2) + b"X\xff" + (b"\1\0\0\0a0" + by_hand).ljust(999, b".")
    return {
        "protocol 0 by hand": by_hand,
        "inst": b"(S'" + text + b"'\niposix\nsystem\n.",
        "names by the memo": b"\x80\x04" + by_memo + command(marker),
        "names by put and get": b"\x80\x04"
        + by_memo.replace(b"\x94", b"q\x07", 1)
        .replace(b"\x94", b"r\x09\0\0\0")
        .replace(b"h\x01h\x00", b"j\x09\0\0\0g7\n")
        + command(marker),
        "a name that is computed": b"\x80\x04cbuiltins\nstr\n" + made + command(marker),
        "a number that only C reads": b"\x80\x02I0x10\n0" + shell,
        "no stop": b"\x80\x02" + shell[:-1],
        "rubbish after the call": b"\x80\x02" + shell[:-1] + b"\xff" * 100,
        "behind 60 MB": b"\x80\x04\x8e" + struct.pack("<Q", 60 * MB) + bytes(60 * MB) + b"0" + shell,
        "across a frame": framed,
        "behind another": b"\x80\x02K\x010" + shell,
    }


def write_zip(path: Path, *members: Member) -> Path:
    """Write an archive whose directory declares what one likes."""
    body, directory = bytearray(), bytearray()
    for name, packed, size in members:
        common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(packed), size, len(name), 0)
        directory += b"PK\1\2\x14\0" + common + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\3\4" + common + name.encode() + packed
    count = min(len(members), 0xFFFF)  # readers go by the size of the directory
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    path.write_bytes(body + directory + end)
    return path


def deflated(data: bytes) -> bytes:
    """Raw deflate stream of some bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def zeros(megabytes: int) -> bytes:
    """Raw deflate stream of zeros, made by repeating the block of one megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes + packer.flush()


def zip_with(path: Path, members: dict[str, bytes]) -> Path:
    """Write a plain archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def huge_array() -> bytes:
    """Bare array file of 100 bytes that promises 8 TB."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    return stream.getvalue() + bytes(100)


def pickled_files(folder: Path, marker: Path) -> dict[str, Path]:
    """Files of every wrapping with a pickle that creates the marker inside."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}

    def add(name: str, data: bytes) -> None:
        files[name] = folder / name
        files[name].write_bytes(data)

    evil = pickle.dumps(ByShell(marker), protocol=2)
    for protocol in range(6):
        add(f"shell-{protocol}.pkl", pickle.dumps(ByShell(marker), protocol=protocol))
        add(f"touch-{protocol}.pkl", pickle.dumps([ByTouch(marker)], protocol=protocol))
    for name, data in evasive_pickles(marker).items():
        add(f"{name}.pkl", data)
    for suffix in ("safetensors", "onnx", "tflite", "npy", "txt", "toml", "json"):
        add(f"renamed.{suffix}", evil)
    add("shell.pkl.gz", gzip.compress(evil))
    torch.save({"weight": torch.zeros(2), "extra": ByShell(marker)}, folder / "hidden.pt")
    torch.save(ByShell(marker), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    joblib.dump([np.arange(9.0), ByShell(marker)], folder / "plain.joblib")
    for packing in ("zlib", "gzip", "bz2", "lzma", "xz"):
        joblib.dump(ByShell(marker), folder / f"{packing}.joblib", compress=(packing, 3))
    np.save(folder / "objects.npy", np.array([ByShell(marker)], dtype=object), allow_pickle=True)
    np.savez(folder / "objects.npz", plain=np.zeros(3), objects=np.array([ByShell(marker)], dtype=object))
    zip_with(folder / "model.zip", {"model/data.pkl": evil, "model/version": b"3\n"})
    zip_with(folder / "root.zip", {"data.pkl": evil})
    zip_with(folder / "readme.zip", {"readme.txt": pickle.dumps(ByShell(marker), protocol=0)})
    zip_with(folder / "beside.pt", {"m/data.pkl": pickle.dumps({}, protocol=2), "m/data/0": evil})
    zip_with(folder / "with.skops", {"schema.json": json.dumps({}).encode(), "more.bin": evil})
    zip_with(folder / "nested.zip", {"inner": (folder / "model.zip").read_bytes()})
    return files | {path.name: path for path in folder.iterdir()}


def bombs(folder: Path) -> dict[str, Path]:
    """Files that unpack to far more than they are, or lie about it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "bomb.zip": write_zip(folder / "bomb.zip", *((f"{i}", zeros(3500), 3500 * MB) for i in range(3))),
        "nothing-behind.zip": write_zip(
            folder / "nothing-behind.zip", *((f"{i}", b"\3\0", 3500 * MB) for i in range(9))
        ),
        "lying.zip": write_zip(folder / "lying.zip", ("m", zeros(300), 100)),
        "lying-pickle.zip": write_zip(folder / "lying-pickle.zip", ("m", deflated(pickle.dumps(bytes(9999))), 5000)),
        "many.zip": write_zip(folder / "many.zip", *(("m", b"\3\0", 0) for _ in range(100_001))),
        "array.npz": zip_with(folder / "array.npz", {"a.npy": huge_array()}),
        "evil-name.zip": zip_with(folder / "evil-name.zip", {"../../evil": b"hello"}),
        "drive.zip": zip_with(folder / "drive.zip", {"c:/evil": b"hello"}),
        "absolute.zip": zip_with(folder / "absolute.zip", {"/evil": b"hello"}),
        "deep.zip": folder / "deep.zip",
        "nested-bomb.zip": folder / "nested-bomb.zip",
        "array.npy": folder / "array.npy",
        "bomb.gz": folder / "bomb.gz",
        "header.safetensors": folder / "header.safetensors",
        "long-header.safetensors": folder / "long-header.safetensors",
    }
    inner = write_zip(folder / "inner.zip", ("m", zeros(300), 300 * MB)).read_bytes()
    zip_with(files["nested-bomb.zip"], {"m/data.pkl": pickle.dumps({}, protocol=2), "m/data/0": inner})
    twice = zip_with(folder / "twice.zip", {"a": zip_with(folder / "once.zip", {"a": b"hello"}).read_bytes()})
    zip_with(files["deep.zip"], {"a": twice.read_bytes()})
    files["array.npy"].write_bytes(huge_array())
    files["bomb.gz"].write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + zeros(10_000))
    files["header.safetensors"].write_bytes(struct.pack("<Q", 2000) + b'{"w":{}}')
    files["long-header.safetensors"].write_bytes(struct.pack("<Q", 2**60) + b'{"w":{}}')
    return files


def hostile_files(folder: Path, marker: Path) -> dict[str, Path]:
    """Every hostile file, by name."""
    return pickled_files(folder / "pickles", marker) | bombs(folder / "bombs")


class Net(nn.Module):
    """One convolution: sound (n, n_samples) to logits (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 9)

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        """Average the convolution over time."""
        return self.conv(sound[:, None]).mean(-1)  # type: ignore[no-any-return]


def harmless_files(folder: Path) -> dict[str, Path]:
    """Write a harmless file of each kind; those of packages that are not installed are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    net = Net()
    torch.save(net.state_dict(), folder / "state.pt")
    torch.save(net.state_dict(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(mixed_checkpoint(net), folder / "mixed.pt")
    torch.save(net, folder / "module.pt")
    save_file(net.state_dict(), folder / "weights.safetensors")
    fitted = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    joblib.dump(fitted, folder / "sklearn.joblib")
    joblib.dump(fitted, folder / "packed.joblib", compress=3)
    np.save(folder / "array.npy", np.zeros((2, 3)))
    np.savez_compressed(folder / "arrays.npz", a=np.zeros((2, 3)), b=np.array("text"))
    write_programs(net, folder)
    if find_spec("skops"):
        import skops.io

        skops.io.dump(fitted, folder / "sklearn.skops")
    if find_spec("onnx"):
        write_onnx(folder / "net.onnx")
    return {path.name: path for path in folder.iterdir()}


def mixed_checkpoint(net: nn.Module) -> dict[str, object]:
    """Checkpoint with everything that ``weights_only`` allows in everyday files."""
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.zeros(1, 99)).sum().backward()
    optimiser.step()
    kinds = {
        f"{kind}": torch.zeros(2, dtype=kind) for kind in (torch.bfloat16, torch.int8, torch.bool, torch.complex64)
    }
    return {
        "optimiser": optimiser.state_dict(),
        "parameter": nn.Parameter(torch.zeros(2)),
        "sparse": torch.eye(3).to_sparse(),
        "size": torch.Size([1]),
        "device": torch.device("cpu"),
        "others": [{1, 2}, 1 + 2j, b"bytes", bytearray(b"bytes"), torch.float16],
        **kinds,
    }


def write_programs(net: nn.Module, folder: Path) -> None:
    """Write a net as TorchScript and as a torch.export program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        torch.jit.script(net).save(folder / "scripted.pt")
        torch.export.save(torch.export.export(net, (torch.zeros(2, 99),)), folder / "program.pt2")


def write_onnx(path: Path) -> None:
    """Write a model that passes its input on."""
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, producer_name="otoscope")
    helper.set_model_props(model, {"labels": "a,b,c"})
    save(model, path)


def copies(files: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Copy files to names that say nothing about their kind."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: Path(shutil.copy(path, folder / f"{i}.bin")) for i, (name, path) in enumerate(files.items())}
