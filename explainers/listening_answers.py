"""What people answered in a listening test, read back: the key beside the page, and tables of answers.

Tables come by way of spreadsheets, so cells may be separated by semicolons as well as commas, and what cannot be read
is told with its file, its row and what to do.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.listening_page import KEY_SCHEMA
from otoscope.explainers.listening_score import ANSWERS, Answer

COLUMNS = ("test id", "listener", "pair id", "answer", "times played a", "times played b")
NEEDED = ("evidence", "repeats", "target", "method", "model", "scale", "folder", "model_difference")

Document = dict[str, Any]


def read_key(path: Path) -> Document:
    """Read the key of a test.

    Raises
    ------
    OtoscopeError
        If it is none, or damaged.
    """
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OtoscopeError(f"{path}: no such file; the key lies beside the page it was made with") from None
    except OSError as error:
        raise OtoscopeError(f"{path}: cannot be read ({error.strerror}); name the file ending in .key.json") from None
    except ValueError:
        raise OtoscopeError(f"{path}: is no JSON; name the file ending in .key.json beside the page") from None
    if not isinstance(key, dict) or key.get("schema") != KEY_SCHEMA:
        raise OtoscopeError(f"{path}: is no key of a listening test ({KEY_SCHEMA}); name the one beside the page")
    if not _is_whole(key):
        raise OtoscopeError(f"{path}: this key is damaged; make the page again with the same seed")
    return key


def _is_whole(key: Mapping[str, Any]) -> bool:
    pairs = key.get("pairs")
    if not isinstance(key.get("test"), str) or not isinstance(pairs, dict) or not pairs:
        return False
    return all(
        isinstance(facts, dict)
        and all(name in facts for name in NEEDED)
        and facts["evidence"] in ("A", "B")
        and (facts["repeats"] is None or facts["repeats"] in pairs)
        and isinstance(facts["model_difference"], int | float)
        for facts in pairs.values()
    )


def read_answers(path: Path, key: Mapping[str, Any]) -> list[Answer]:
    """Read a table of answers, as the page saves it or a spreadsheet saves that again.

    Parameters
    ----------
    path : Path
        UTF-8; cells separated by commas or semicolons.
    key : dict
        Of the test.

    Raises
    ------
    OtoscopeError
        Naming the file, the row and the remedy.
    """
    rows = _rows(path)
    header = [name.strip().casefold() for name in rows[0][1]]
    if missing := [name for name in COLUMNS if name not in header]:
        raise OtoscopeError(
            f"{path}: lacks the column {missing[0]!r} (cells are separated by commas or semicolons); give the table "
            "as the page saved it"
        )
    if len(rows) < 2:
        raise OtoscopeError(f"{path}: holds no answers; save it again when some are given")
    found = []
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            held = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            raise OtoscopeError(
                f"{path}: row {number}: has {held}, the first row {len(header)}; give the table as the page saved it"
            )
        found.append(_answer(f"{path}: row {number}", dict(zip(header, map(str.strip, cells), strict=True)), key))
    return found


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Rows that hold something, each with the number of its (last) line; at least one."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise OtoscopeError(f"{path}: no such file") from None
    except OSError as error:
        raise OtoscopeError(f"{path}: cannot be read ({error.strerror}); name the CSV that the page saved") from None
    except UnicodeDecodeError:
        raise OtoscopeError(
            f"{path}: is not UTF-8 text; give the file as the page saved it, or save it from the spreadsheet as "
            "'CSV UTF-8'"
        ) from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise OtoscopeError(
            f"{path}: row {reader.line_num}: is no CSV ({error}); give the table as the page saved it"
        ) from None
    if not rows:
        raise OtoscopeError(f"{path}: is empty; give the table as the page saved it")
    return rows


def _answer(where: str, cells: Mapping[str, str], key: Mapping[str, Any]) -> Answer:
    """Read one row."""
    test, pair = cells["test id"], cells["pair id"]
    if test != key["test"]:
        raise OtoscopeError(
            f"{where}: answers test {test!r}, the key is of {key['test']!r}; give the key beside its page"
        )
    if pair not in key["pairs"]:
        raise OtoscopeError(f"{where}: there is no pair {pair!r} in this test; give the table as the page saved it")
    if not cells["listener"]:
        raise OtoscopeError(f"{where}: names no listener; write a name or number into that column")
    said = {answer.casefold(): answer for answer in ANSWERS}.get(cells["answer"].casefold())
    if said is None:
        raise OtoscopeError(f"{where}: has the answer {cells['answer']!r}; it must be one of {', '.join(ANSWERS)}")
    played = [cells["times played a"], cells["times played b"]]
    if not all(times.isdecimal() for times in played):
        raise OtoscopeError(f"{where}: 'times played' holds {', '.join(played)!r}; both must be whole numbers")
    return Answer(cells["listener"], pair, said, heard=all(int(times) > 0 for times in played))
