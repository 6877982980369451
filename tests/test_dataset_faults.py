"""Every fault in a data set's folder is told in one line that names the file and the row."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import deam, pmemo
from otoscope.mer_models.datasets import MIDI, READERS, gather
from otoscope.mer_models.emotify import judgements
from tests import layouts
from tests.layouts import read
from tests.songs import install_synthesiser

AVERAGED = "DEAM_Annotations/annotations/annotations averaged per song"
STATIC = f"{AVERAGED}/song_level/static_annotations_averaged_songs_1_2000.csv"
SECOND = f"{AVERAGED}/song_level/static_annotations_averaged_songs_2000_2058.csv"
DYNAMIC = f"{AVERAGED}/dynamic (per second annotations)"
ANNOTATIONS, METADATA = "metadata_annotations/annotations.csv", "metadata_annotations/metadata.csv"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install_synthesiser(tmp_path, monkeypatch)
    return tmp_path / "data"


def change(path: str, old: str, new: str) -> Callable[[Path], Any]:
    """Replace text in a table, where it first stands."""

    def changed(folder: Path) -> None:
        text = (folder / path).read_text(encoding="utf-8")
        assert old in text, text
        (folder / path).write_text(text.replace(old, new, 1), encoding="utf-8")

    return changed


def remove(path: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / path).unlink()


def rename(path: str, name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / path).rename(folder / Path(path).with_name(name))


def put(path: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / path).write_bytes(content)


def zipped(path: str, members: dict[str, bytes]) -> Callable[[Path], Any]:
    def packed(folder: Path) -> None:
        with zipfile.ZipFile(folder / path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return packed


def pack(path: str) -> Callable[[Path], Any]:
    """Put an archive in the place of a folder."""

    def packed(folder: Path) -> None:
        (folder / path).rename(folder / "elsewhere")
        zipped(f"{path}.zip", {"x": b""})(folder)

    return packed


FAULTS = [
    # files that are missing, renamed, doubled, packed, empty or corrupt
    ("emotify", remove("listeners.csv"), r"listeners\.csv: no such file; fetch"),
    ("emotify", remove("audio/012.ogg"), r"audio/012\.\*: no such recording, but .*listeners\.csv: row 4 names it"),
    ("emotify", rename("audio/012.ogg", "twelve.ogg"), r"012\.\*: no such recording.*it holds twelve\.ogg"),
    ("emotify", put("audio/012.ogg", b""), r"012\.ogg: cannot be read as audio"),
    ("emotify", put("audio/012.ogg", b"OggS" + bytes(99)), r"012\.ogg: cannot be read as audio"),
    ("emotify", put("audio/12.wav", b""), r"12\.wav: is the same recording as 012\.ogg by name; remove one"),
    ("emopia", remove("midis.zip"), r"midis\.zip: no such file; fetch"),
    ("emopia", put("midis.zip", b"PK\x03\x04 broken"), r"midis\.zip: is an archive that"),
    ("emopia", zipped("midis.zip", {"readme.txt": b"x"}), r"midis\.zip: holds no MIDI files"),
    ("emopia", zipped("midis.zip", {"a/Q1_a_0.mid": b"MP3"}), r"midis\.zip: a/Q1_a_0\.mid: is no MIDI file"),
    (
        "emopia",
        zipped("midis.zip", {"a/Q1_a_0.mid": b"MThd", "b/Q1_a_0.mid": b"MThd"}),
        r"midis\.zip: b/Q1_a_0\.mid: is there twice by name",
    ),
    ("emopia", zipped("midis.zip", {"song.mid": b"MThd"}), r"'song' is not named like Q1_song_clip"),
    ("vgmidi", remove("labelled/phrases.zip"), r"phrases\.zip: no such file"),
    ("vgmidi", remove("vgmidi_labelled.csv"), r"vgmidi_labelled\.csv: no such file"),
    (
        "soundtracks",
        remove("Set1/234.mp3"),
        r"234\.\*: no such recording, but .*mean_ratings_set1\.csv: row 6 names it",
    ),
    ("soundtracks", pack("Set1"), r"Set1\.zip: is packed; unpack it"),
    ("soundtracks", rename("mean_ratings_set1.csv", "mean_ratings_set1.xls"), r"set1\.xls: is a spreadsheet"),
    ("deam", remove("DEAM_audio/MEMD_audio/10.mp3"), r"10\.\*: no such recording, but .*1_2000\.csv: row 3 names it"),
    ("deam", pack("DEAM_audio/MEMD_audio"), r"MEMD_audio\.zip: is packed; unpack it"),
    ("pmemo", remove("PMEmo2019/annotations/static_annotations.csv"), r"holds no static_annotations\.csv"),
    ("pmemo", put("PMEmo2019/chorus/1000.mp3", b"ID3" + bytes(200)), r"1000\.mp3: cannot be read as audio"),
    ("midlevel", remove(METADATA), r"holds no metadata\.csv"),
    ("midlevel", remove("audio/3.mp3"), r"audio/3\.\*: no such recording, but .*annotations\.csv: row 4 names it"),
    # tables with missing columns, wrong numbers of cells, wrong separators
    ("emotify", change("listeners.csv", "tension", "fear"), r"listeners\.csv: row 1: lacks the column 'tension'"),
    ("soundtracks", change("mean_ratings_set1.csv", ",sad,", ",glad,"), r"row 1: lacks the column 'sad', has number"),
    (
        "soundtracks",
        change("mean_ratings_set1.csv", "003,", "003;"),
        r"set1\.csv: row 4: has 9 cells, the first row 10",
    ),
    ("deam", change(STATIC, "10,7.5,1.2", "10,7.5"), r"1_2000\.csv: row 3: has 4 cells, the first row 5"),
    ("midlevel", change(ANNOTATIONS, "\n3,", "\n3,3,"), r"annotations\.csv: row 4: has 9 cells, the first row 8"),
    (
        "midlevel",
        lambda folder: layouts.write(folder / ANNOTATIONS, ["song_id,a,b,c,d,e,f", "1,1,2,3,4,5,6"]),
        r"annotations\.csv: row 1: has 6 columns beside song_id, needs 7",
    ),
    ("midlevel", change(METADATA, ";A\n", ";A;B\n"), r"metadata\.csv: row 2: has 7 cells"),
    (
        "midlevel",
        change(ANNOTATIONS, "melody, articulation", "articulation, melody"),
        r"annotations\.csv: row 1: column 2 is 'articulation', where melodiousness is expected",
    ),
    (
        "midlevel",
        lambda folder: put(METADATA, (folder / METADATA).read_bytes().replace(b",", b" ").replace(b";", b","))(folder),
        r"metadata\.csv: row 1: has its cells separated by commas, not by semicolons",
    ),
    # ids that stand twice, and tables that contradict one another
    (
        "emopia",
        change("test.csv", "Q4_four_7,Q4", "Q1_one_0,Q1"),
        r"test\.csv: row 2: clip 'Q1_one_0' stands at .*train",
    ),
    ("emopia", change("train.csv", "Q1_one_1,Q1", "Q1_one_1,Q2"), r"train\.csv: row 3: says 'Q2' of Q1_one_1"),
    ("emopia", change("label.csv", "Q3_three_0", "Q3_tree_0"), r"label\.csv: row 5: names 'Q3_tree_0', which midis"),
    ("vgmidi", change("vgmidi_labelled.csv", "Caverns_1", "Caverns_0"), r"row 4: phrase 'Other.* stands at .*row 3"),
    ("vgmidi", change("vgmidi_labelled.csv", "A Wish_0", "A Fish_0"), r"row 2: names Mana_SNES.*A Fish_0\.mid"),
    (
        "soundtracks",
        change("mean_ratings_set2.csv", "\n084", "\n010"),
        r"set2\.csv: row 3: excerpt '10' stands at .*row 2",
    ),
    ("soundtracks", change("set1_tracklist.csv", "002", "001"), r"set1_tracklist\.csv: row 3: excerpt '1' stands"),
    ("deam", change(SECOND, "2001, 5", "10, 5"), r"2058\.csv: row 2: song '10' stands at .*1_2000\.csv: row 3"),
    (
        "pmemo",
        change("PMEmo2019/annotations/static_annotations.csv", "1000,", "01,"),
        r"row 3: song '1' stands at .*row 2",
    ),
    ("midlevel", change(ANNOTATIONS, "\n2,", "\n1,"), r"annotations\.csv: row 3: song '1' stands at .*row 2"),
    ("midlevel", change(METADATA, "\n3;", "\n4;"), r"annotations\.csv: row 4: song '3' is not in metadata\.csv"),
    ("emotify", change("listeners.csv", "7,rock", "7,pop"), r"row 3: track 7 is of another genre .*'rock'.* row 2"),
    # values that are no numbers, empty, or out of range
    ("emotify", change("listeners.csv", "12,pop,0", "12,pop,2"), r"row 4: amazement is 2, outside 0 to 1"),
    ("emotify", change("listeners.csv", "12,pop,0", "12,pop,no"), r"row 4: amazement is 'no', not a whole number"),
    ("emotify", change("listeners.csv", "12,pop", "twelve,pop"), r"row 4: track id is 'twelve', not a whole number"),
    ("emotify", change("listeners.csv", ",30,1", ",300,1"), r"row 2: age is 300, outside 0 to 150"),
    ("vgmidi", change("vgmidi_labelled.csv", "mid,1,-1", "mid,0,-1"), r"row 2: valence and arousal are 0 and -1"),
    ("soundtracks", change("mean_ratings_set1.csv", "001,", "001,9.1,"), r"row 2: has 11 cells|row 2: valence is 9\.1"),
    ("soundtracks", change("mean_ratings_set1.csv", "001,1.7", "001,9.1"), r"row 2: valence is 9\.1, outside 1 to 9"),
    ("soundtracks", change("mean_ratings_set1.csv", "001,1.7", "001,nan"), r"row 2: valence is empty or not a number"),
    ("soundtracks", change("mean_ratings_set1.csv", "001,1", "361,1"), r"row 2: number is 361, outside 1 to 360"),
    ("deam", change(STATIC, "7.5", "75"), r"row 3: valence_mean is 75, outside 1 to 9"),
    (
        "pmemo",
        change("PMEmo2019/annotations/static_annotations.csv", "0.575", "0;575"),
        r"row 2: Valence\(mean\) is '0;575'",
    ),
    ("midlevel", change(ANNOTATIONS, "\n3,", "\n3,1"), r"row 4: melody is 14, outside 0 to 10"),
    (
        "midlevel",
        change(METADATA, "soundtracks;2", "soundtracks;s2"),
        r"metadata\.csv: row 5: ID at file source is 's2'",
    ),
]


@pytest.mark.parametrize(("name", "spoil", "fault"), FAULTS)
def test_a_fault_is_told_in_one_line_with_file_and_row(
    name: str, spoil: Callable[[Path], Any], fault: str, data: Path
) -> None:
    spoil(layouts.LAYOUTS[name](data / name))
    with pytest.raises(OtoscopeError, match=fault) as told:
        read(data, name)
    assert len(str(told.value).splitlines()) == 1
    assert not (data.parent / "cache").exists()  # nothing is rendered before everything is checked


@pytest.mark.parametrize(
    ("reader", "name", "spoil", "fault"),
    [
        (deam.dynamic, "deam", change(f"{DYNAMIC}/arousal.csv", "-0.1", "-1.1"), r"row 2: sample_15000ms is -1\.1"),
        (deam.dynamic, "deam", change(f"{DYNAMIC}/valence.csv", "\n10,", "\n11,"), r"valence\.csv: lacks song 10"),
        (deam.dynamic, "deam", remove(f"{DYNAMIC}/valence.csv"), r"valence\.csv: no such file"),
        (deam.dynamic, "deam", change(f"{DYNAMIC}/valence.csv", "\n10,", "\n2,"), r"row 3: song '2' stands at"),
        (deam.dynamic, "deam", put(f"{DYNAMIC}/valence.csv", b"song_id,a\n1,2\n"), r"row 1: has no columns like"),
        (
            pmemo.dynamic,
            "pmemo",
            change("PMEmo2019/annotations/dynamic_annotations.csv", "1,16.0", "1,15.50"),
            r"dynamic_annotations\.csv: row 3: song and time .* stands at",
        ),
        (
            pmemo.dynamic,
            "pmemo",
            change("PMEmo2019/annotations/dynamic_annotations.csv", "0.45", "4.5"),
            r"row 3: Arousal\(mean\) is 4\.5, outside 0 to 1",
        ),
    ],
)
def test_a_fault_in_time_is_told(
    reader: Callable[[Path], Any], name: str, spoil: Callable[[Path], Any], fault: str, tmp_path: Path
) -> None:
    folder = layouts.LAYOUTS[name](tmp_path / name)
    spoil(folder)
    with pytest.raises(OtoscopeError, match=fault):
        reader(folder)


def everything(folder: Path) -> None:
    """Read a data set of recordings in every way there is."""
    gather(folder.parent, names=[folder.name], cache=folder.parent / "cache")
    for name, read_more in {"deam": deam.dynamic, "pmemo": pmemo.dynamic, "emotify": judgements}.items():
        if folder.name == name:
            read_more(folder)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoilt")
    for name in set(READERS) - MIDI:
        layouts.LAYOUTS[name](folder / name)
    return folder


@settings(max_examples=40)
@given(draw=st.data())
@pytest.mark.parametrize("name", sorted(set(READERS) - MIDI))
def test_whatever_happens_to_the_tables_of_a_set_it_is_told_in_one_line(
    name: str, draw: st.DataObject, spoilt: Path
) -> None:
    path = draw.draw(st.sampled_from(sorted((spoilt / name).rglob("*.csv"))))
    content = path.read_bytes()
    start, length = draw.draw(st.integers(0, len(content))), draw.draw(st.integers(0, 9))
    piece = draw.draw(st.sampled_from([b"", b",", b";", b"\n", b'"', b"-", b"9", b"nan", b"\xff", b"x"]))
    told = ""
    try:
        path.write_bytes(content[:start] + piece + content[start + length :])
        everything(spoilt / name)
    except OtoscopeError as error:
        told = str(error)
    finally:
        path.write_bytes(content)
    assert told.isprintable()
