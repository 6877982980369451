"""Emotify: listeners one by one, who of them counts, and both layouts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.data import known_quadrant, medians, with_quadrants
from otoscope.mer_models.emotify import AROUSAL, EMOTIONS, VALENCE, Judgement, judgements, read_emotify
from tests import layouts
from tests.builders import DATA
from tests.songs import needs_data, tiny_emotify


def test_emotions_are_summed_and_listeners_averaged(tmp_path: Path) -> None:
    seven, twelve = read_emotify(layouts.emotify(tmp_path / "emotify"))
    assert (seven.name, seven.song, seven.dataset, seven.font) == ("007", "emotify:007", "emotify", "")
    assert seven.arousal == pytest.approx((3 + 1) / 2)
    assert seven.valence == pytest.approx((0 + 1) / 2)
    assert (twelve.arousal, twelve.valence) == (-4, 1)
    assert seven.quadrant is None
    assert (seven.genre, twelve.genre) == ("rock", "pop")
    assert (seven.listeners, twelve.listeners) == (2, 1)
    assert seven.ratings["power"] == 0.5
    assert seven.ratings["joyful_activation"] == seven.ratings["liked"] == 1
    assert set(seven.ratings) == {*EMOTIONS, "liked", "disliked"}


def test_the_layout_of_its_authors_is_read(tmp_path: Path) -> None:
    folder = layouts.emotify_of_its_authors(tmp_path / "emotify")
    clips = {clip.name: clip for clip in read_emotify(folder)}
    places = {name: "/".join(clip.path.parts[-2:]) for name, clip in clips.items()}
    assert places == {"001": "classical/1.mp3", "100": "classical/100.mp3", "101": "rock/1.mp3", "400": "pop/100.mp3"}
    (folder / "emotifymusic" / "rock" / "1.mp3").rename(folder / "emotifymusic" / "rock" / "101.mp3")
    with pytest.raises(OtoscopeError, match=r"rock/1\.\*: no such recording, but .*data\.csv: row 4 names it"):
        read_emotify(folder)
    shutil.rmtree(folder / "emotifymusic")
    (folder / "emotifymusic.zip").touch()
    with pytest.raises(OtoscopeError, match=r"emotifymusic\.zip: is packed"):
        read_emotify(folder)
    table = folder / "data.csv"
    table.write_text(table.read_text().replace("rock", "folk"))
    with pytest.raises(OtoscopeError, match=r"row 4: genre 'folk' is none of classical, rock"):
        read_emotify(folder)


def test_judgements_tell_who_listened(tmp_path: Path) -> None:
    heard = judgements(layouts.emotify_of_its_authors(tmp_path / "emotify"))
    assert list(heard) == ["001", "100", "101", "400"]
    (first,) = heard["001"]
    assert first == Judgement(frozenset({"calmness"}), 21, 1, 3, True, False, "English")
    assert (first.valence, first.arousal) == (1, -1)
    (last,) = heard["400"]
    assert last.age is None
    assert heard["101"][0].language == ""


def test_labels_can_be_formed_from_some_listeners(tmp_path: Path) -> None:
    folder = tiny_emotify(tmp_path / "emotify", ["7,rock,0,0,0,0,0,1,1,1,0", "7,rock,1,1,0,0,0,0,1,0,0"])
    table = folder / "listeners.csv"
    table.write_text(table.read_text().replace(",30,1,", ",17,0,", 1))
    (young,) = read_emotify(folder, keep=lambda one: one.age is not None and one.age < 18)
    assert (young.arousal, young.listeners) == (3, 1)
    (old,) = read_emotify(folder, keep=lambda one: one.gender == 1)
    assert (old.arousal, old.listeners) == (1, 1)
    with pytest.raises(OtoscopeError, match="holds no listener of those asked for"):
        read_emotify(folder, keep=lambda one: one.language == "Dutch")


def test_songs_that_no_chosen_listener_heard_are_left_out_and_told(tmp_path: Path) -> None:
    told: list[str] = []
    clips = read_emotify(
        layouts.emotify(tmp_path / "e"), keep=lambda one: "sadness" in one.emotions, progress=told.append
    )
    assert [clip.name for clip in clips] == ["012"]
    assert any("1 songs were heard by none" in line for line in told)


def test_a_table_without_listeners_columns_is_enough(tmp_path: Path) -> None:
    folder = layouts.emotify(tmp_path / "emotify")
    table = folder / "listeners.csv"
    table.write_text("\n".join(",".join(line.split(",")[:11]) for line in table.read_text().splitlines()))
    assert judgements(folder)["012"] == [Judgement(frozenset({"tenderness", "nostalgia", "calmness", "sadness"}))]
    assert "liked" not in read_emotify(folder)[0].ratings


@needs_data
def test_real_emotify_is_read_whole() -> None:
    clips = read_emotify(DATA / "emotify")
    assert [clip.name for clip in clips] == [f"{track:03d}" for track in range(1, 401)]
    quadrants = [known_quadrant(clip) for clip in with_quadrants(clips, medians(clips))]
    assert np.bincount(quadrants).min() > 40
    arousal = np.array([clip.arousal for clip in clips])
    assert arousal[100:200].mean() > arousal[:100].mean()  # rock excites more than classical music
    assert [clip.genre for clip in clips[::100]] == ["classical", "rock", "electronic", "pop"]
    heard = [clip.listeners or 0 for clip in clips]
    assert (sum(heard), min(heard), max(heard)) == (8407, 11, 59)


@needs_data
def test_real_listeners_agree_with_a_plain_sum() -> None:
    header, *lines = (DATA / "emotify" / "listeners.csv").read_text(encoding="utf-8").splitlines()
    names = [name.strip() for name in header.split(",")]
    sums: dict[str, list[tuple[int, int]]] = {}
    for line in lines:
        row = dict(zip(names, line.split(","), strict=True))
        both = tuple(sum(sign * int(row[name]) for name, sign in signs.items()) for signs in (VALENCE, AROUSAL))
        sums.setdefault(f"{int(row['track id']):03d}", []).append((both[0], both[1]))
    for clip in read_emotify(DATA / "emotify"):
        assert (clip.valence, clip.arousal) == pytest.approx(tuple(np.mean(sums[clip.name], axis=0)))
