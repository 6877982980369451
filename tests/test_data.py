"""The table of clips: thresholds, quadrants, folds by song, and what is written down."""

import csv
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.data import COLUMNS, Clip, folds, known_quadrant, medians, with_quadrants, write_table


def judged(name: str, valence: float, arousal: float) -> Clip:
    return Clip(name, Path(name), f"emotify:{name}", "emotify", valence=valence, arousal=arousal)


def test_quadrants_follow_the_thresholds() -> None:
    clips = [judged("a", 1, 1), judged("b", -1, 1), judged("c", -1, -1), judged("d", 1, -1)]
    assert [clip.quadrant for clip in with_quadrants(clips, (0, 0))] == [0, 1, 2, 3]
    assert [clip.quadrant for clip in with_quadrants(clips, (2, 0))] == [1, 1, 2, 2]
    rendered = Clip("x", Path("x"), "emopia:x", "emopia", "font", 3)
    assert with_quadrants([rendered], (9, 9)) == (rendered,)


def test_medians_are_those_of_the_clips_given() -> None:
    clips = [judged("a", 1, 10), judged("b", 2, 20), judged("c", 6, 90)]
    assert medians(clips) == {"emotify": (2, 20)}
    assert medians(clips[:2]) == {"emotify": (1.5, 15)}
    assert medians([Clip("x", Path("x"), "emopia:x", "emopia", "font", 3)]) == {}


def test_a_clip_without_quadrant_is_no_label() -> None:
    with pytest.raises(OtoscopeError, match="a: has no quadrant"):
        known_quadrant(judged("a", 1, 1))


@settings(max_examples=100, deadline=None)
@given(
    songs=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=3, max_size=40),
    n_folds=st.integers(2, 10),
    seed=st.integers(0, 1000),
)
def test_folds_never_share_a_song_and_none_is_empty(songs: list[tuple[int, int]], n_folds: int, seed: int) -> None:
    clips = [
        Clip(f"{song}_{part}", Path("x"), f"emopia:{song}", "emopia", font, quadrant)
        for font in ("one", "two")
        for song, (n_parts, quadrant) in enumerate(songs)
        for part in range(n_parts)
    ]
    if n_folds > len(songs):
        with pytest.raises(OtoscopeError, match="cannot be dealt out"):
            folds(clips, n_folds=n_folds, seed=seed)
        return
    dealt = folds(clips, n_folds=n_folds, seed=seed)
    for song in {clip.song for clip in clips}:
        assert len({int(fold) for fold, clip in zip(dealt, clips, strict=True) if clip.song == song}) == 1
    assert set(dealt.tolist()) == set(range(n_folds))
    np.testing.assert_array_equal(dealt, folds(clips, n_folds=n_folds, seed=seed))
    shuffled = list(reversed(clips))
    np.testing.assert_array_equal(dealt[::-1], folds(shuffled, n_folds=n_folds, seed=seed))


def test_folds_are_balanced_and_depend_on_the_seed() -> None:
    rng = np.random.default_rng(0)
    clips = []
    for song in range(200):
        quadrant = int(rng.integers(4))
        clips += [Clip(f"{song}", Path("x"), f"s{song}", "emopia", "", quadrant)] * int(rng.integers(1, 5))
    dealt = folds(clips, n_folds=5, seed=0)
    quadrants = np.array([clip.quadrant for clip in clips])
    for quadrant in range(4):
        shares = np.bincount(dealt[quadrants == quadrant], minlength=5)
        assert shares.max() - shares.min() <= 4
    assert not np.array_equal(dealt, folds(clips, n_folds=5, seed=1))


def test_fewer_than_two_folds_are_refused() -> None:
    with pytest.raises(OtoscopeError, match="folds"):
        folds([Clip("a", Path("a"), "s", "emopia", "", 0)] * 3, n_folds=1, seed=0)


def test_thresholds_belong_to_a_data_set() -> None:
    mixed = [judged("a", 1, 1), replace(judged("b", 4, 4), dataset="deam"), replace(judged("c", 6, 6), dataset="deam")]
    assert medians(mixed) == {"emotify": (1, 1), "deam": (5, 5)}
    assert [clip.quadrant for clip in with_quadrants(mixed, medians(mixed))] == [2, 2, 0]
    with pytest.raises(OtoscopeError, match="deam: has no thresholds"):
        with_quadrants(mixed, medians(mixed[:1]))


def test_a_clip_can_be_a_key_whatever_was_rated() -> None:
    one, other = (replace(judged("a", 1, 1), ratings={"liking": value}) for value in (1.0, 2.0))
    assert len({one, other, replace(other)}) == 2
    assert pickle.loads(pickle.dumps(one)) == one


def test_the_table_says_all_and_reads_back(tmp_path: Path) -> None:
    clips = [
        Clip("Q3_x_0", Path("far/away/x.flac"), "emopia:x", "emopia", "piano", 2, listeners=1),
        Clip("7", Path("b"), "deam:7", "deam", valence=0.1 + 0.2, arousal=-1.0, genre='pop, "hard"'),
    ]
    path = tmp_path / "clips.csv"
    write_table(clips, np.array([0, 3]), path)
    with path.open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    known = {"recording": "Q3_x_0", "song": "emopia:x", "dataset": "emopia", "font": "piano", "quadrant": "Q3"}
    assert first == dict.fromkeys(COLUMNS, "") | known | {"listeners": "1", "fold": "0"}
    assert float(second["valence"]) == 0.1 + 0.2
    assert (second["genre"], second["quadrant"], second["fold"]) == ('pop, "hard"', "", "3")
    assert [file.name for file in tmp_path.iterdir()] == ["clips.csv"]


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "clips.csv"
    path.write_text("earlier")
    with pytest.raises(OtoscopeError, match="1 clips have 2 folds"):
        write_table([judged("a", 1, 1)], [0, 1], path)
    broken = replace(judged("a", 1, 1), quadrant="none")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write_table([judged("a", 1, 1), broken], [0, 1], path)
    assert path.read_text() == "earlier"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OtoscopeError, match=r"clips\.csv: cannot be written"):
        write_table([judged("a", 1, 1)], [0], tmp_path / "nowhere" / "clips.csv")
