"""Compiled functions: those of librosa that numba compiles and keeps on disk, first called by one process at a time.

Numba writes a generalised universal function (peak picking, zero crossings, parabolic interpolation) as two files that
belong together, one after the other. Where two processes compile it at once, the files of one may end beside those of
the other; whoever loads such a pair, now or ever after, dies of a segmentation fault (numba issue 10128, open in 0.68).
So the first call in a process, which compiles or loads, is made `alone`; the ones after it wait for nobody.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_loaded: set[str] = set()


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Let no other process compile or load numba's functions meanwhile, where this process does `what` the first time.

    Parameters
    ----------
    what
        Name of the calls inside. They are given arrays of the same types each time: others are compiled anew.
    """
    if what in _loaded:
        yield
        return
    from filelock import FileLock

    with FileLock(lock_file()):
        yield
    _loaded.add(what)


def lock_file() -> Path:
    """Find the file to lock: beside numba's own files, so that machines that share a disk share it too.

    Where librosa's folder is read-only, numba writes to the user's own cache, and the lock lies among temporary files.
    """
    import librosa

    beside = Path(librosa.__file__).parent / "__pycache__"
    if os.access(beside, os.W_OK):
        return beside / "otoscope.lock"
    user = getattr(os, "getuid", lambda: "user")()  # Windows has a temporary folder for each user
    return Path(tempfile.gettempdir()) / f"otoscope-{user}.lock"
