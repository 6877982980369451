"""A file is written whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from otoscope.adapters.whole_file import whole_file


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


@pytest.mark.parametrize("before", [None, "earlier"])
def test_what_is_written_takes_the_place_at_the_end(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "scores.csv"
    if before is not None:
        path.write_text(before)
    with whole_file(path) as partial:
        partial.write_text("later")
        assert (path.read_text() if path.exists() else None) == before
    assert path.read_text() == "later"
    assert names(tmp_path) == ["scores.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "earlier"])
def test_what_goes_wrong_leaves_all_as_it_was(tmp_path: Path, before: str | None, error: type[BaseException]) -> None:
    path = tmp_path / "scores.csv"
    if before is not None:
        path.write_text(before)

    def break_off() -> None:
        with whole_file(path) as partial:
            partial.write_text("la")
            raise error("half way")

    with pytest.raises(error, match="half way"):
        break_off()
    assert (path.read_text() if path.exists() else None) == before
    assert names(tmp_path) == ([] if before is None else ["scores.csv"])


def test_nothing_written_is_an_error_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("earlier")
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass
    assert path.read_text() == "earlier"
    assert names(tmp_path) == ["scores.csv"]


def test_the_name_is_kept_beside_its_place_and_hidden(tmp_path: Path) -> None:
    path = tmp_path / "frames-1.lengths.npy"
    with whole_file(path) as partial:
        assert partial.name == path.name
        hidden, *_ = partial.relative_to(tmp_path).parts  # beside it, so that moving never crosses file systems
        assert hidden.startswith(".")
        np.save(partial, np.arange(3))  # would add another suffix to a name without this one
    assert np.load(path).tolist() == [0, 1, 2]
    assert names(tmp_path) == [path.name]


def test_a_file_may_be_read_by_others_as_any_file_may(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain", tmp_path / "whole"
    plain.write_text("x")
    with whole_file(path) as partial:
        partial.write_text("x")
    assert path.stat().st_mode == plain.stat().st_mode


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    path, both = tmp_path / "scores.csv", Barrier(2)

    def write(letter: str) -> None:
        with whole_file(path) as partial, partial.open("w") as file:
            file.write(letter * 1000)
            both.wait(timeout=60)  # the other one is half way too
            file.write(letter * 1000)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
    assert path.read_text() in ("a" * 2000, "b" * 2000)
    assert names(tmp_path) == ["scores.csv"]


def test_a_missing_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "nowhere" / "scores.csv"):
        pass
