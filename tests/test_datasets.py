"""Every data set is read right from a small copy of its authors' layout."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import deam, pmemo
from otoscope.mer_models.data import Clip, folds
from otoscope.mer_models.datasets import MIDI, READERS, gather
from otoscope.mer_models.descriptors import FEATURES
from otoscope.mer_models.emopia import split
from otoscope.mer_models.soundtracks import EMOTIONS
from tests import layouts
from tests.layouts import read
from tests.songs import install_synthesiser


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install_synthesiser(tmp_path, monkeypatch)
    return tmp_path / "data"


def by_name(clips: tuple[Clip, ...]) -> dict[str, Clip]:
    return {clip.name: clip for clip in clips}


def test_every_reader_has_a_layout_and_is_told_in_the_docstring() -> None:
    from otoscope.mer_models import datasets

    assert list(layouts.LAYOUTS) == list(READERS)
    for name in READERS:
        assert re.search(rf"^{name} ", datasets.__doc__ or "", flags=re.MULTILINE)


@pytest.mark.parametrize("name", READERS)
def test_clips_belong_to_their_set_and_their_recordings_are_there(name: str, data: Path) -> None:
    clips = read(data, name)
    assert clips
    assert len({(clip.name, clip.font) for clip in clips}) == len(clips)
    for clip in clips:
        assert clip.dataset == name
        assert clip.path.is_file()
        assert clip.song.startswith(f"{name}:") or (name, clip.song.split(":")[0]) == ("midlevel", "soundtracks")
        assert bool(clip.font) == (name in MIDI)
        assert hash(clip) == hash(clip)


def test_emopia_is_read_and_its_split(data: Path) -> None:
    clips = by_name(read(data, "emopia"))
    assert list(clips) == layouts.EMOPIA_CLIPS
    assert clips["Q2_t_w_o_0"].quadrant == 1
    assert clips["Q2_t_w_o_0"].song == "emopia:t_w_o"
    assert clips["Q1_one_0"].song == clips["Q1_one_1"].song
    assert split(data / "emopia") == {"Q1_one_0": "train", "Q1_one_1": "train", "Q4_four_7": "test"}


def test_vgmidi_is_read_packed_and_unpacked(data: Path) -> None:
    told: list[str] = []
    clips = by_name(read(data, "vgmidi", told=told))
    assert {name: clip.quadrant for name, clip in clips.items()} == dict(
        zip(layouts.VGMIDI_PHRASES, (3, 2, 1, 0), strict=True)
    )
    assert [clip.song for clip in clips.values()] == ["vgmidi:8132", "vgmidi:8016", "vgmidi:8016", "vgmidi:8173"]
    assert all(clip.listeners == 30 for clip in clips.values())
    assert any("1 phrases that no table names are left out: never labelled" in line for line in told)
    packed = data / "vgmidi" / "labelled" / "phrases.zip"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(data / "vgmidi" / "labelled")
    packed.unlink()
    assert by_name(read(data, "vgmidi")) == clips


def test_soundtracks_is_read_and_an_album_is_one_song(data: Path) -> None:
    clips = by_name(read(data, "soundtracks"))
    first, second = clips["set1-002"], clips["set2-084"]
    assert dict(first.ratings) == dict(zip(EMOTIONS, layouts.ratings(2), strict=True))
    assert (first.valence, first.arousal) == (first.ratings["valence"], first.ratings["energy"])
    assert (second.ratings["beauty"], second.ratings["liking"]) == (5.5, 6.25)
    assert second.ratings["sad"] == layouts.ratings(84)[6]
    assert first.song == clips["set1-003"].song == clips["set2-005"].song == "soundtracks:the rainmaker"
    assert clips["set2-010"].song == clips["set2-095"].song == clips["set1-234"].song
    assert clips["set2-084"].song == clips["set2-088"].song == "soundtracks:blanc"
    assert clips["set1-001"].song == "soundtracks:shallow grave"
    assert clips["set1-186"].song == clips["set1-256"].song == "soundtracks:the portrait of a lady"


def test_soundtracks_without_its_track_list_follows_links_and_caveats(data: Path) -> None:
    told: list[str] = []
    layouts.soundtracks(data / "soundtracks")
    (data / "soundtracks" / "set1_tracklist.csv").unlink()
    clips = by_name(read(data, "soundtracks", told=told))
    assert any("set1_tracklist.csv: is not there" in line for line in told)
    assert clips["set1-002"].song == clips["set2-005"].song != clips["set1-003"].song
    assert clips["set2-010"].song == clips["set2-095"].song == "soundtracks:set1-234"
    assert clips["set2-084"].song == clips["set2-088"].song == "soundtracks:set1-295"
    (data / "soundtracks" / "mean_ratings_set1.csv").unlink()  # one set will do
    assert {clip.name[:4] for clip in read(data, "soundtracks")} == {"set2"}


def test_deam_is_read_from_both_tables(data: Path) -> None:
    clips = by_name(read(data, "deam"))
    assert list(clips) == ["2", "10", "2001"]
    assert (clips["2"].valence, clips["2"].arousal) == (3.1, 3.0)
    assert (clips["2001"].valence, clips["2001"].arousal) == (5.0, 4.5)
    assert dict(clips["10"].ratings) == {"valence_std": 1.2, "arousal_std": 1.5}


def test_deam_in_time_drops_what_is_missing(tmp_path: Path) -> None:
    courses = deam.dynamic(layouts.deam(tmp_path / "deam"))
    assert set(courses) == {"2", "10"}  # nobody rated the valence of 2001
    np.testing.assert_array_equal(courses["2"].times, [15.0, 15.5, 16.0])
    np.testing.assert_array_equal(courses["2"].arousal, [-0.1, -0.2, -0.3])
    np.testing.assert_array_equal(courses["2"].valence, [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(courses["10"].times, [15.0, 16.0])  # a gap, and a row that ends early
    np.testing.assert_array_equal(courses["10"].valence, [1.0, 0.8])


def test_pmemo_is_read_as_a_whole_and_in_time(data: Path) -> None:
    told: list[str] = []
    clips = by_name(read(data, "pmemo", told=told))
    assert {name: (clip.valence, clip.arousal) for name, clip in clips.items()} == {
        "1": (0.575, 0.4),
        "1000": (0.1, 0.25),
    }
    assert any("1 recordings that no table names are left out: 13.mp3" in line for line in told)
    courses = pmemo.dynamic(data / "pmemo")
    np.testing.assert_array_equal(courses["1000"].times, [15.5, 16.0])  # in order, whatever the table's
    np.testing.assert_array_equal(courses["1000"].valence, [0.05, 0.1])
    np.testing.assert_array_equal(courses["1000"].arousal, [0.1, 0.2])


def test_midlevel_is_read_by_position_and_an_artist_is_one_song(data: Path) -> None:
    clips = by_name(read(data, "midlevel"))
    assert list(clips["3"].ratings) == list(FEATURES)
    assert list(clips["3"].ratings.values()) == [4, 5, 6, 7, 8, 9, 1]
    assert clips["1"].song == clips["2"].song == "midlevel:artist ann artist"
    assert clips["3"].song == "midlevel:3"
    assert [clips[name].song for name in ("11", "12")] == ["soundtracks:set1-002", "soundtracks:set1-001"]
    assert clips["3"].valence is None


def test_what_soundtracks_and_midlevel_share_is_one_row_of_one_song(data: Path) -> None:
    clips = read(data, "midlevel", "soundtracks")
    named = by_name(clips)
    assert set(named) >= {"1", "2", "3"}
    assert not {"11", "12"} & set(named)
    both = named["set1-002"]
    assert set(both.ratings) == {*FEATURES, *EMOTIONS}
    assert both.ratings["melodiousness"] == 11 % 9 + 1
    assert both.ratings["energy"] == layouts.ratings(2)[1]
    assert both.song == "soundtracks:the rainmaker"
    assert set(named["set1-003"].ratings) == set(EMOTIONS)


def test_all_sets_together_are_dealt_out_by_song(data: Path) -> None:
    clips = read(data, *READERS)
    assert [name for name in READERS if any(clip.dataset == name for clip in clips)] == list(READERS)
    dealt = folds(clips, n_folds=3, seed=0)
    for song in {clip.song for clip in clips}:
        assert len({fold for fold, clip in zip(dealt.tolist(), clips, strict=True) if clip.song == song}) == 1


def test_gather_takes_what_is_there_or_what_is_named(data: Path, tmp_path: Path) -> None:
    layouts.pmemo(data / "pmemo")
    layouts.emotify(data / "emotify")
    (data / "holiday photos").mkdir()
    found = gather(data, cache=tmp_path)
    assert [clip.dataset for clip in found] == ["emotify"] * 2 + ["pmemo"] * 2
    assert {clip.dataset for clip in gather(data, names=["pmemo"], cache=tmp_path)} == {"pmemo"}
    for names, fault in ((["deam"], "does not hold deam/"), (["emotfy"], "did you mean 'emotify'")):
        with pytest.raises(OtoscopeError, match=fault):
            gather(data, names=names, cache=tmp_path)
    with pytest.raises(OtoscopeError, match="holds neither emotify/ nor emopia/ nor"):
        gather(tmp_path, cache=tmp_path)
    with pytest.raises(OtoscopeError, match="nowhere: no such folder"):
        gather(tmp_path / "nowhere", cache=tmp_path)
    layouts.vgmidi(data / "vgmidi")
    with pytest.raises(OtoscopeError, match="vgmidi: holds MIDI files, which need a sound font"):
        gather(data, cache=tmp_path)
