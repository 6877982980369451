"""Tables of other people: what can be meant is read, what cannot is told with file and line."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import sheets
from otoscope.mer_models.sheets import Row, keyed, locate, read

COLUMNS = ["song_id", "valence", "title"]


def table(folder: Path, content: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def values(path: Path) -> list[tuple[int, float, str]]:
    return [(row.whole("song_id"), row.number("valence"), row.text("title")) for row in read(path, COLUMNS).rows]


@pytest.mark.parametrize(
    "content",
    [
        "song_id,valence,title\n1,2.5,a b\n2,-3e1,c\n",
        "\ufeffsong_id,valence,title\r\n1,2.5,a b\r\n2,-3e1,c\r\n",
        "song_id,valence,title\n1,2.5,a b\n2,-3e1,c\n".encode("utf-16"),
        "song_id;valence;title\r1;2.5;a b\r2;-3e1;c",
        "Song ID \t VALENCE\ttitle\n 1 \t2.5 \t  a   b\n2.0\t-30.\tc\n",
        ' song_id , "valence" , title \n\n"1" , 2.5 , "a b"\n , , \n2,-30,c,,\n\n',
        ",song_id,Unnamed: 1,valence,more,title,\n0,1,x,2.5,,a b,\n1,2,y,-30,7,c,\n",
        "valence,title,song id\n2.5,a b,01\n-30,c,+2\n",
    ],
)
def test_what_can_be_meant_is_read(content: str | bytes, tmp_path: Path) -> None:
    assert values(table(tmp_path, content)) == [(1, 2.5, "a b"), (2, -30.0, "c")]


def test_columns_without_a_name_are_dropped(tmp_path: Path) -> None:
    sheet = read(table(tmp_path, ",b,Unnamed: 2, a ,,\n0,1,x,2,y,\n"), ["a"])
    assert sheet.columns == ("b", "a")
    assert sheet.rows[0].cells == ("1", "2")


def test_text_that_is_not_utf_8_is_read_as_latin_1(tmp_path: Path) -> None:
    path = table(tmp_path, "song_id,valence,title\n1,2,Björk\n".encode("latin-1"))
    assert values(path) == [(1, 2.0, "Björk")]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "is empty"),
        (" \n\t\n", "is empty"),
        ("song_id,valence,title\n", "holds no rows below"),
        ("song_id,valance,title\n1,2,a\n", "row 1: lacks the column 'valence', has song_id, valance, title"),
        ("\n\nsong_id,title\n1,2,a\n", "row 3: lacks the column 'valence'"),
        ("song_id|valence|title\n1|2|a\n", r"row 1: lacks .*cells are separated by commas, semicolons or tabs"),
        ("song_id,valence,Valence,title\n1,2,2,a\n", "row 1: has the column 'valence' twice"),
        ("song_id,valence,title\n1,2\n", "row 2: has 2 cells, the first row 3"),
        ("song_id,valence,title\n\n1,2,a\n2,3,b,c\n", "row 4: has 4 cells, the first row 3"),
        ("song_id;valence;title\n1;2;a\n2,3,b\n", "row 3: has 1 cell, the first row 3; separate cells by semicolons"),
        ('song_id,valence,title\n1,2,a\n2,3,"b\n3,4,c\n4,x,d', "row 3: has a cell that goes on over lines"),
        ('song_id,valence,title\n1,2,"a\n2,3,b\n3,4,"c\n', "row 2: has a cell that goes on over lines"),
        ("song_id,valence,title\n1,2,a\n2,\0,b\n", "row 3: holds bytes that are no text"),
        ('song_id,valence,title\n1,2,"' + "a" * 140_000, "row 2: cannot be taken apart"),
        ("song_id,valence,title\n1,2,\n", "row 2: title is empty"),
        ("song_id,valence,title\n1,,a\n", "row 2: valence is empty"),
        ("song_id,valence,title\n1,NaN,a\n", "row 2: valence is empty"),
        ("song_id;valence;title\n1;2,5;a\n", "row 2: valence is '2,5', not a number; write decimals with a point"),
        ("song_id,valence,title\n1,0x1,a\n", "row 2: valence is '0x1', not a number"),
        ("song_id,valence,title\n1,1_0,a\n", "row 2: valence is '1_0', not a number"),
        ("song_id,valence,title\n1,inf,a\n", "row 2: valence is 'inf', not a number"),
        ("song_id,valence,title\n1,1e400,a\n", "row 2: valence is inf, outside"),
        ("song_id,valence,title\n1,٣,a\n", "row 2: valence is '٣', not a number"),
        ("song_id,valence,title\n1.5,2,a\n", "row 2: song_id is '1.5', not a whole number"),
        ("song_id,valence,title\n" + "9" * 5000 + ",2,a\n", r"row 2: song_id is '9{40}…', not a whole number"),
        ("song_id,valence,title\n1,\x1b[31m,a\n", r"row 2: valence is '\\x1b\[31m'"),
    ],
)
def test_what_cannot_be_meant_is_told(content: str, fault: str, tmp_path: Path) -> None:
    path = table(tmp_path, content)
    with pytest.raises(OtoscopeError, match=fault) as told:
        values(path)
    assert str(told.value).startswith(f"{path}: ")
    assert str(told.value).isprintable()


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match=r"nothing\.csv: no such file"):
        read(tmp_path / "nothing.csv", COLUMNS)
    with pytest.raises(OtoscopeError, match="cannot be read"):
        read(tmp_path, COLUMNS)


def test_a_row_is_the_line_at_which_it_begins(tmp_path: Path) -> None:
    path = table(tmp_path, "\r\nsong_id,valence,title\r\n\r\n1,2,a\r\n,,\r\n2,x,b\r\n")
    first, second = read(path, COLUMNS).rows
    assert first.where == f"{path}: row 4"
    with pytest.raises(OtoscopeError, match="row 6: valence is 'x'"):
        second.number("valence")


def test_scales_hold_their_ends(tmp_path: Path) -> None:
    (row,) = read(table(tmp_path, "a,b\n1,9\n"), ["a", "b"]).rows
    assert row.number("a", low=1, high=9) == 1
    assert row.number("b", low=1, high=9) == row.whole("b", low=1, high=9) == 9
    with pytest.raises(OtoscopeError, match="b is 9, outside 1 to 8"):
        row.whole("b", low=1, high=8)
    with pytest.raises(OtoscopeError, match=r"a is 1, outside 1\.5 to 8"):
        row.number_or_none("a", low=1.5, high=8)


def test_cells_may_be_missing_only_where_that_is_allowed(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b,c\n1,NA\n2,3,4\n")
    short, whole = read(path, ["a"], ragged=True).rows
    assert [short.number_or_none(column) for column in "abc"] == [1, None, None]
    assert [whole.number_or_none(column) for column in "abc"] == [2, 3, 4]
    assert short.text("c", blank=True) == ""
    assert short.has("C")
    assert not short.has("d")
    with pytest.raises(OtoscopeError, match="row 2: has 2 cells"):
        read(path, ["a"])


def test_a_declared_separator_is_checked(tmp_path: Path) -> None:
    path = table(tmp_path, "a;b\n1;2\n")
    assert read(path, ["a", "b"], separator=";").columns == ("a", "b")
    with pytest.raises(OtoscopeError, match="row 1: has its cells separated by semicolons, not by commas"):
        read(path, ["a", "b"], separator=",")


def test_ids_stand_once(tmp_path: Path) -> None:
    rows = read(table(tmp_path, "id,b\n1,2\n2,2\n01,3\n"), ["id"]).rows
    assert list(keyed(rows[:2], lambda row: row.whole("id"), what="song")) == [1, 2]
    assert len(keyed(rows, lambda row: row.text("id"), what="song")) == 3
    with pytest.raises(OtoscopeError, match=r"row 4: song '1' stands at .*table\.csv: row 2 already"):
        keyed(rows, lambda row: row.whole("id"), what="song")


def test_tables_are_found_at_any_depth_the_nearest_first(tmp_path: Path) -> None:
    for place in ("b/c/x_1.csv", "x_2.csv", "b/._x_1.csv", "b/x_1.csv"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in locate(tmp_path, "x_*.csv")]
    assert found == ["x_2.csv", "b/x_1.csv", "b/c/x_1.csv"]
    with pytest.raises(OtoscopeError, match=r"holds no y\.csv"):
        locate(tmp_path, "y.csv")


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=12)


@settings(max_examples=150)
@given(
    rows=st.lists(st.tuples(st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9), CELLS, CELLS), min_size=1, max_size=6),
    separator=st.sampled_from(list(sheets.SEPARATORS)),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    order=st.permutations(["song_id", "valence", "title", "more"]),
)
def test_what_the_csv_module_writes_is_read_back(
    rows: list[tuple[int, float, str, str]],
    separator: str,
    end: str,
    encoding: str,
    order: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, order, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    named = [dict(zip(["song_id", "valence", "title", "more"], row, strict=True)) for row in rows]
    writer.writerows(named)
    path = table(tmp_path_factory.mktemp("t"), file.getvalue().encode(encoding))
    for row, expected in zip(read(path, COLUMNS).rows, named, strict=True):
        assert row.whole("song_id") == expected["song_id"]
        assert row.number("valence") == expected["valence"]
        assert row.text("title", blank=True) == " ".join(str(expected["title"]).split())


VALID = b'song_id, valence,title ,arousal\n1,2.5,one,3\n2,1,"two, or more",NaN\n10,9.0,three,1\n\n11,5,four,2\n'
PIECES = [b",", b";", b"\t", b"\n", b"\r", b'"', b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"nan", b"-", b"1", b" "]


@settings(max_examples=400)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(VALID)), st.integers(0, 6), st.sampled_from([*PIECES, b""]) | st.binary(max_size=4)
        ),
        max_size=5,
    )
)
@example(edits=[(0, 0, b"\xff\xfe")])
@example(edits=[(0, len(VALID), b"")])
def test_whatever_happens_to_a_table_it_is_read_or_told_in_one_line(
    edits: list[tuple[int, int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = VALID
    for start, length, piece in edits:
        content = content[:start] + piece + content[start + length :]
    path, told = table(tmp_path_factory.mktemp("t"), content), ""
    try:
        rows = keyed(read(path, COLUMNS).rows, lambda row: row.whole("song_id", low=1), what="song")
        for row in rows.values():
            assert row.text("title")
            assert 1 <= row.number("valence", low=1, high=9) <= 9
            if row.has("arousal"):
                value = row.number_or_none("arousal", low=1, high=9)
                assert value is None or math.isfinite(value)
    except OtoscopeError as error:
        told = str(error)
    assert not told or (told.startswith(f"{path}: ") and told.isprintable())


def test_a_row_tells_where_it_stands() -> None:
    row = Row("a.csv: row 7", ("x",), {"b": 0})
    assert str(row.fault("is odd; mend it")) == "a.csv: row 7: is odd; mend it"
