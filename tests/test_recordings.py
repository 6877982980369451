"""Recordings are found by name whatever their format, and what is wrong with one is told with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.recordings import find, subfolder
from tests.layouts import record


def test_numbers_match_with_and_without_zeros_and_names_in_any_case(tmp_path: Path) -> None:
    paths = [record(tmp_path / name) for name in ("007.mp3", "12.ogg", "Song A.mp3")]
    (tmp_path / "._12.mp3").touch()  # what other systems leave behind
    (tmp_path / "notes.txt").touch()
    told: list[str] = []
    found = find(tmp_path, {"7": "t", "012": "t", "song a": "t"}, progress=told.append)
    assert list(found.values()) == paths
    assert list(found) == ["7", "012", "song a"]
    assert told == []
    find(tmp_path, {"7": "t"}, progress=told.append)
    assert told == [f"{tmp_path}: 2 recordings that no table names are left out: 12.ogg, Song A.mp3"]


def test_faults_are_told(tmp_path: Path) -> None:
    record(tmp_path / "1.mp3")
    with pytest.raises(
        OtoscopeError, match=r"2\.\*: no such recording \(and 1 more\), but t, row 3 names it; it holds 1"
    ):
        find(tmp_path, {"2": "t, row 3", "3": "t, row 4"})
    with pytest.raises(OtoscopeError, match="nowhere: no such folder"):
        find(tmp_path / "nowhere", {"2": "t"})
    record(tmp_path / "01.ogg")
    with pytest.raises(OtoscopeError, match=r"1\.mp3: is the same recording as 01\.ogg by name"):
        find(tmp_path, {"1": "t"})
    (tmp_path / "01.ogg").unlink()
    (tmp_path / "1.mp3").write_bytes(b"")
    with pytest.raises(OtoscopeError, match=r"1\.mp3: cannot be read as audio"):
        find(tmp_path, {"1": "t"})


def test_a_folder_is_found_where_its_recordings_are(tmp_path: Path) -> None:
    record(tmp_path / "Set1" / "set1" / "1.mp3")
    assert subfolder(tmp_path, "SET1") == tmp_path / "Set1" / "set1"
    with pytest.raises(OtoscopeError, match="holds no folder a or b"):
        subfolder(tmp_path, "a", "b")
    (tmp_path / "a").mkdir()
    with pytest.raises(OtoscopeError, match="a: holds no recordings"):
        subfolder(tmp_path, "a", "b")
    (tmp_path / "B.zip").touch()
    with pytest.raises(OtoscopeError, match=r"B\.zip: is packed; unpack it"):
        subfolder(tmp_path, "a", "b")
