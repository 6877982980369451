"""Writing a file whole or not at all.

What is written goes under its own name into a hidden folder beside its place and is moved there at the end, which file
systems do at once: a reader finds the old file or the new one, never half of either, and of several writers the last
one wins. The name stays as it is because some writers look at it: numpy and soundfile at the suffix, torch at the stem,
which it writes into the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Offer a path to write to; what lies there takes the place of `path` only when everything went well.

    Raises
    ------
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
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        yield partial
        partial.replace(path)
