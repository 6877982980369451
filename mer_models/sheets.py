"""Tables that other people wrote: comma-separated and their kin, read strictly and told about by line.

Every data set comes with such tables, and every one of them strays somewhere: a byte-order mark, spaces around names
and values, semicolons instead of commas, columns without a name, capitals that come and go between releases. `read`
takes these as they are. What cannot be meant is an `OtoscopeError` that names the file, the row (the line at which a
text editor shows it, the first being 1), the fault and the remedy: a missing column, too many or too few cells, a
number that is none or lies outside its scale, an empty cell where a value is needed, an id that stands twice.

- *Encoding*: UTF-8 with or without a mark, UTF-16 with one; anything else is read as Latin-1.
- *Separator*: the one of comma, semicolon and tab that brings the most of the wanted columns to light in the first row;
  where a data set's authors use a certain one, another is an error.
- *Columns* are found by name, whatever its case, with spaces for underscores or the other way round.
- *Cells* end with their line, quoted or not: a quotation mark that is not closed must not swallow rows.
- *Numbers* have a decimal point; "nan", "NA" and the like count as empty.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from otoscope.adapters.errors import OtoscopeError, plain

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
EMPTY = frozenset({"", "nan", "na", "n/a", "null", "none"})
NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
WHOLE = re.compile(r"([+-]?\d{1,18})(?:\.0*)?", re.ASCII)
UNNAMED = re.compile(r"unnamed: ?\d+")  # how pandas writes a column without a name

K = TypeVar("K", bound=Hashable)


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """Bring the name of a column to the form in which names are compared.

    >>> folded(" Song_ID ")
    'song id'
    """
    return " ".join(name.replace("_", " ").split()).casefold()


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes
    ----------
    where : str
        File and line, for errors.
    cells : tuple of str
        Stripped, by the columns of the table.
    places : mapping of str to int
        Names of columns, as `folded` gives them → places among the cells.
    """

    where: str
    cells: tuple[str, ...]
    places: Mapping[str, int]

    def fault(self, fault: str) -> OtoscopeError:
        """Make the error for something that is wrong with this row."""
        return OtoscopeError(f"{self.where}: {fault}")

    def has(self, column: str) -> bool:
        """Tell whether the table has a column."""
        return folded(column) in self.places

    def text(self, column: str, *, blank: bool = False) -> str:
        """Read the text of a cell; `blank` allows that there is none."""
        text = self.cells[self.places[folded(column)]]
        if not text and not blank:
            raise self.fault(f"{column} is empty; fill it in or leave the row out")
        return text

    def number(self, column: str, *, low: float = -math.inf, high: float = math.inf) -> float:
        """Read a number, within a scale (ends included)."""
        value = self.number_or_none(column, low=low, high=high)
        if value is None:
            raise self.fault(f"{column} is empty or not a number; fill it in or leave the row out")
        return value

    def number_or_none(self, column: str, *, low: float = -math.inf, high: float = math.inf) -> float | None:
        """Read a number, or None where the cell is empty."""
        text = self.text(column, blank=True)
        if text.casefold() in EMPTY:
            return None
        if not NUMBER.fullmatch(text):
            hint = "write decimals with a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else "correct it"
            raise self.fault(f"{column} is {_shown(text)}, not a number; {hint}")
        return self._within(column, float(text), low, high)

    def whole(self, column: str, *, low: float = -math.inf, high: float = math.inf) -> int:
        """Read a whole number, within a scale (ends included)."""
        text = self.text(column)
        match = WHOLE.fullmatch(text)
        if not match:
            raise self.fault(f"{column} is {_shown(text)}, not a whole number; correct it")
        return int(self._within(column, int(match[1]), low, high))

    def _within(self, column: str, value: float, low: float, high: float) -> float:
        if not (math.isfinite(value) and low <= value <= high):
            raise self.fault(f"{column} is {value:g}, outside {low:g} to {high:g}; correct it")
        return value


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes
    ----------
    path : Path
    columns : tuple of str
        Names as they stand in the file, stripped; columns without one are left out.
    rows : tuple of Row
        At least one.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read(path: str | Path, columns: Sequence[str], *, separator: str | None = None, ragged: bool = False) -> Sheet:
    """Read a table.

    Parameters
    ----------
    path : str or Path
    columns : sequence of str
        What the table must have; it may have more.
    separator : str, optional
        The one that the data set's authors use, if no other will do.
    ragged : bool
        Whether rows may end early, as if the cells that are missing were empty.

    Raises
    ------
    OtoscopeError
        Naming file, row, fault and remedy.
    """
    path = Path(path)
    text = _decoded(path)
    candidates = {mark: _first(path, text, mark) for mark in SEPARATORS}
    found = max(candidates, key=lambda mark: _promise(candidates[mark][1], columns))
    line, header = candidates[found]
    if not any(header):
        raise OtoscopeError(f"{path}: is empty; fetch it again")
    where = f"{path}: row {line}"
    if separator is not None and separator != found and len(header) > 1:
        told = f"has its cells separated by {SEPARATORS[found]}, not by {SEPARATORS[separator]}"
        raise OtoscopeError(f"{where}: {told}; fetch it again, or export it so")
    kept = [place for place, name in enumerate(header) if name and not UNNAMED.fullmatch(folded(name))]
    names = [header[place] for place in kept]
    _check_header(where, names, columns)
    places = {name: place for place, name in reversed(list(enumerate(map(folded, names))))}
    rows = []
    records = _records(path, text, found)
    next(records)  # the names of the columns
    for line, cells in records:
        at = f"{path}: row {line}"
        _check_length(at, cells, header, kept[-1] + 1, ragged, found)
        cells = [*cells, *[""] * (len(header) - len(cells))]
        rows.append(Row(at, tuple(cells[place] for place in kept), places))
    if not rows:
        raise OtoscopeError(f"{path}: holds no rows below its names of columns; fetch it again")
    return Sheet(path, tuple(names), tuple(rows))


def locate(folder: str | Path, pattern: str) -> tuple[Path, ...]:
    """Find tables by name (a glob pattern) at any depth, those nearest to the folder first.

    Raises
    ------
    OtoscopeError
        If there is none.
    """
    found = [path for path in Path(folder).rglob(pattern) if not path.name.startswith(".") and path.is_file()]
    if not found:
        raise OtoscopeError(f"{folder}: holds no {pattern}; fetch the data set's tables and put them there")
    return tuple(sorted(found, key=lambda path: (len(path.parts), path)))


def keyed(rows: Iterable[Row], key: Callable[[Row], K], *, what: str) -> dict[K, Row]:
    """Order rows by an id that must stand once.

    Parameters
    ----------
    rows : iterable of Row
    key : callable
        Reads the id.
    what : str
        What the id is called in errors.
    """
    found: dict[K, Row] = {}
    for row in rows:
        name = key(row)
        if name in found:
            raise row.fault(f"{what} {_shown(str(name))} stands at {found[name].where} already; remove one of them")
        found[name] = row
    return found


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise OtoscopeError(f"{path}: no such file; fetch the data set again, or put the file there") from None
    except OSError as error:
        raise OtoscopeError(f"{path}: cannot be read ({error.strerror}); fetch it again") from None
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if "\0" in text:
        line = len(re.split(r"\r\n|\r|\n", text[: text.index("\0")]))
        raise OtoscopeError(f"{path}: row {line}: holds bytes that are no text; fetch it again")
    return text


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Give the rows that are not blank, each with its line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        for line, record in enumerate(reader, start=1):
            if reader.line_num > line:  # no data set has such cells, and rows would be lost in them
                told = "has a cell that goes on over lines; look for a quotation mark that is not closed"
                raise OtoscopeError(f"{path}: row {line}: {told}")
            cells = [" ".join(cell.split()) for cell in record]
            if any(cells):
                yield line, cells
    except csv.Error as error:
        told = f"cannot be taken apart ({error}); look for a quotation mark that is not closed"
        raise OtoscopeError(f"{path}: row {reader.line_num}: {told}") from None


def _first(path: Path, text: str, separator: str) -> tuple[int, list[str]]:
    return next(_records(path, text, separator), (1, []))


def _promise(header: Sequence[str], columns: Sequence[str]) -> tuple[int, int]:
    names = set(map(folded, header))
    return sum(folded(column) in names for column in columns), len(header)


def _check_header(where: str, names: Sequence[str], columns: Sequence[str]) -> None:
    have = [folded(name) for name in names]
    for column in columns:
        if folded(column) not in have:
            shown = plain(", ".join(names[:12])) + (", …" if len(names) > 12 else "")
            hint = "" if len(names) > 1 else " (cells are separated by commas, semicolons or tabs)"
            raise OtoscopeError(f"{where}: lacks the column {column!r}, has {shown:.300}{hint}; fetch the file again")
        if have.count(folded(column)) > 1:
            raise OtoscopeError(f"{where}: has the column {column!r} twice; remove one of them")


def _check_length(
    where: str, cells: Sequence[str], header: Sequence[str], needed: int, ragged: bool, separator: str
) -> None:
    if (len(cells) < needed and not ragged) or any(cells[len(header) :]):
        n = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
        told = f"has {n}, the first row {len(header)}; separate cells by {SEPARATORS[separator]}, as there"
        raise OtoscopeError(f"{where}: {told}, and look for quotation marks that are not closed")
