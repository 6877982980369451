"""EMOPIA: names tell quadrant and song, archives are looked at, and the real one has the published counts."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.emopia import check_labels, parse_emopia, read_scores, split
from tests.builders import DATA
from tests.songs import needs_data


def test_a_song_may_hold_underscores() -> None:
    assert parse_emopia("Q1_0vLPYiPN7qY_0") == (0, "0vLPYiPN7qY")
    assert parse_emopia("Q4__a_b__3") == (3, "_a_b_")
    for name in ("Q5_song_1", "song_1", "Q1_song"):
        with pytest.raises(OtoscopeError, match="is not named like"):
            parse_emopia(name)


def test_scores_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "midis.zip"
    with pytest.raises(OtoscopeError, match=r"midis\.zip: no such file"):
        read_scores(tmp_path)
    path.write_bytes(b"no zip")
    with pytest.raises(OtoscopeError, match=r"midis\.zip: is a text file, not a zip archive"):
        read_scores(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("midis/readme.txt", "empty")
    with pytest.raises(OtoscopeError, match=r"midis\.zip: holds no MIDI files"):
        read_scores(tmp_path)


@needs_data
def test_real_emopia_has_the_published_counts() -> None:
    about = [parse_emopia(name) for name in read_scores(DATA / "emopia")]
    assert len(about) == 1078
    assert len({song for _, song in about}) == 387
    assert np.bincount([quadrant for quadrant, _ in about]).tolist() == [250, 265, 253, 310]


@needs_data
def test_the_real_tables_agree_with_the_names() -> None:
    about = {name: parse_emopia(name) for name in read_scores(DATA / "emopia")}
    check_labels(DATA / "emopia", {name: quadrant for name, (quadrant, _) in about.items()})
    parts = split(DATA / "emopia")
    assert [sum(part == name for part in parts.values()) for name in ("train", "val", "test")] == [767, 198, 86]
    songs = {part: {about[name][1] for name, own in parts.items() if own == part} for part in set(parts.values())}
    assert not songs["train"] & songs["val"]
    assert not (songs["train"] | songs["val"]) & songs["test"]
