"""librosa, whose functions numba compiles and keeps on disk, imported by one process at a time.

Numba writes a generalised universal function (peak picking, zero crossings, parabolic interpolation) as two files that
belong together, one after the other, when the module that holds it is first imported. Where two processes do so at
once, the files of one may end beside those of the other; whoever loads such a pair, now or ever after, dies of a
segmentation fault (numba issue 10128, open in 0.68). So librosa is imported here and nowhere else, under a lock.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

MODULES = ("util.utils", "core.audio", "core.pitch")  # that hold universal functions


@cache
def load_librosa() -> ModuleType:
    """Import librosa, and what numba compiles of it that otoscope uses, while no other process does.

    The first process compiles, in some seconds; the ones after it load what it wrote, in less than one.
    """
    from filelock import FileLock

    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):  # a disk that knows no locks: go on without
            stack.enter_context(FileLock(lock_file()))
        for name in MODULES:
            import_module(f"librosa.{name}")
    return import_module("librosa")


def lock_file() -> Path:
    """Find the file to lock: beside numba's own files, so that machines that share a disk share it too.

    Where librosa's folder is read-only, numba writes to the user's own cache, and the lock lies among temporary files.
    """
    spec = find_spec("librosa")
    beside = Path(spec.origin if spec and spec.origin else __file__).parent / "__pycache__"
    if os.access(beside, os.W_OK):
        return beside / "otoscope.lock"
    user = getattr(os, "getuid", lambda: "user")()  # Windows has a temporary folder for each user
    return Path(tempfile.gettempdir()) / f"otoscope-{user}.lock"
