"""Writing a file whole or not at all.

What is written goes under its own name into a hidden folder beside its place and is moved there at the end, which file
systems do at once: a reader finds the old file or the new one, never half of either, and of several writers the last
one wins. The name stays as it is because some writers look at it: numpy and soundfile at the suffix, torch at the stem,
which it writes into the file.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otoscope.adapters.errors import OtoscopeError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Offer a path to write to; what lies there takes the place of `path` only when everything went well.

    Raises
    ------
    OtoscopeError
        If the disk is full.
    OSError
        If the folder of `path` is missing or cannot be written to.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder, "scores.csv")) as partial:
    ...         _ = partial.write_text("0.5")
    ...     [file.name for file in Path(folder).iterdir()]
    ['scores.csv']
    """
    with told_if_full(path), tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        yield partial
        partial.replace(path)


@contextmanager
def told_if_full(path: Path) -> Iterator[None]:
    """Turn the error of a full disk into one that says what could not be written, and what to do.

    Raises
    ------
    OtoscopeError
        If the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OtoscopeError(
            f"{path}: cannot be written, the disk is full ({error.strerror}); make room or choose another place"
        ) from None
