"""Files of labels: one a line, or a column of a CSV file.

Of a CSV file the column ``display_name`` or ``label`` counts, else the last one; its first row is the header.
"""

from __future__ import annotations

import csv
from pathlib import Path

from otoscope.adapters.errors import OtoscopeError

MAX_BYTES = 1_000_000
MAX_LABELS = 100_000


def read_labels(path: Path) -> list[str]:
    """Read a file of labels.

    Raises
    ------
    OtoscopeError
        If it is too large, no text, or no table.
    """
    if path.stat().st_size > MAX_BYTES:
        raise OtoscopeError(f"{path}: is too large for a list of labels ({path.stat().st_size} bytes)")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise OtoscopeError(f"{path}: is no text in UTF-8; give one label a line") from None
    if path.suffix != ".csv":
        return [line for line in text.splitlines() if line.strip()]
    rows = [row for row in csv.reader(text.splitlines()) if row]
    header = rows[0] if rows else []
    column = next((header.index(name) for name in ("display_name", "label") if name in header), len(header) - 1)
    if any(len(row) != len(header) for row in rows):
        raise OtoscopeError(f"{path}: its rows differ in length; give one label a row, under a header")
    return [row[column] for row in rows[1:]]
