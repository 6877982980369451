"""Files of labels: one a line, or a column of a CSV file.

Of a CSV file the column ``display_name`` or ``label`` counts, else the last one; its first row is the header.
"""

from __future__ import annotations

import csv
import stat
from pathlib import Path

from otoscope.adapters.errors import OtoscopeError

MAX_BYTES = 1_000_000
MAX_LABELS = 100_000


def read_text(path: Path) -> str:
    """Read a short text, however long the file turns out to be.

    Raises
    ------
    OtoscopeError
        If it is no regular file, too large, or no text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
            raise OtoscopeError(f"{path}: is no file of labels; give one label a line")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise OtoscopeError(f"{path}: cannot be read ({error.strerror}); give one label a line") from None
    if len(data) > MAX_BYTES:
        raise OtoscopeError(f"{path}: is too large for a list of labels; give one label a line")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise OtoscopeError(f"{path}: is no text in UTF-8; give one label a line") from None


def read_labels(path: Path) -> list[str]:
    """Read a file of labels.

    Raises
    ------
    OtoscopeError
        If it cannot be read as text, or is no table.
    """
    text = read_text(path)
    if path.suffix != ".csv":
        return [line for line in text.splitlines() if line.strip()]
    try:
        rows = [row for row in csv.reader(text.splitlines()) if row]
    except csv.Error as error:
        raise OtoscopeError(f"{path}: is no table ({error}); give one label a row, under a header") from None
    header = rows[0] if rows else []
    column = next((header.index(name) for name in ("display_name", "label") if name in header), len(header) - 1)
    if any(len(row) != len(header) for row in rows):
        raise OtoscopeError(f"{path}: its rows differ in length; give one label a row, under a header")
    return [row[column] for row in rows[1:]]
