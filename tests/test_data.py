"""Readers and folds, on tiny copies of both data sets and, where they are there, on the real ones."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.data import (
    Clip,
    folds,
    known_quadrant,
    medians,
    parse_emopia,
    read_emotify,
    read_scores,
    with_quadrants,
)
from tests.builders import DATA
from tests.songs import needs_data, tiny_emotify


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
    with pytest.raises(OtoscopeError, match=r"midis\.zip: cannot be read"):
        read_scores(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("midis/readme.txt", "empty")
    with pytest.raises(OtoscopeError, match=r"midis\.zip: holds no MIDI files"):
        read_scores(tmp_path)


def test_emotify_sums_emotions_and_averages_listeners(tmp_path: Path) -> None:
    # amazement solemnity tenderness nostalgia calmness power joyful_activation tension sadness
    rows = ["7,rock,0,0,0,0,0,1,1,1,0", "7,rock,1,1,0,0,0,0,1,0,0", "12,pop,0,0,1,1,1,0,0,0,1"]
    seven, twelve = read_emotify(tiny_emotify(tmp_path / "emotify", rows))
    assert (seven.name, seven.song, seven.dataset, seven.font) == ("007", "emotify:007", "emotify", "")
    assert seven.arousal == pytest.approx((3 + 1) / 2)
    assert seven.valence == pytest.approx((0 + 1) / 2)
    assert twelve.arousal == -4
    assert twelve.valence == 1
    assert seven.quadrant is None


def test_emotify_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match=r"listeners\.csv: no such file"):
        read_emotify(tmp_path)
    folder = tiny_emotify(tmp_path / "emotify", ["7,rock,0,0,0,0,0,1,1,1,0"])
    (folder / "audio" / "007.ogg").unlink()
    with pytest.raises(OtoscopeError, match=r"007\.ogg: no such file"):
        read_emotify(folder)
    table = folder / "listeners.csv"
    table.write_text(table.read_text().replace("tension", "fear"))
    with pytest.raises(OtoscopeError, match=r"a column is missing .*tension"):
        read_emotify(folder)


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
    assert medians(clips) == (2, 20)
    assert medians(clips[:2]) == (1.5, 15)
    assert medians([Clip("x", Path("x"), "emopia:x", "emopia", "font", 3)]) == (0, 0)


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


@needs_data
def test_real_emopia_has_the_published_counts() -> None:
    about = [parse_emopia(name) for name in read_scores(DATA / "emopia")]
    assert len(about) == 1078
    assert len({song for _, song in about}) == 387
    assert np.bincount([quadrant for quadrant, _ in about]).tolist() == [250, 265, 253, 310]


@needs_data
def test_real_emotify_is_read_whole() -> None:
    clips = read_emotify(DATA / "emotify")
    assert [clip.name for clip in clips] == [f"{track:03d}" for track in range(1, 401)]
    quadrants = [known_quadrant(clip) for clip in with_quadrants(clips, medians(clips))]
    assert np.bincount(quadrants).min() > 40
    arousal = np.array([clip.arousal for clip in clips])
    assert arousal[100:200].mean() > arousal[:100].mean()  # rock excites more than classical music
