"""Small copies of data sets in the layouts of their authors, with their oddities: stray spaces, marks, old names."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile

from otoscope.mer_models.data import Clip
from otoscope.mer_models.datasets import MIDI, gather
from otoscope.mer_models.demo_recording import Note, midi
from tests.songs import tiny_emopia, tiny_emotify, tiny_font

RATE = 8000
VGMIDI_PHRASES = {  # phrase → (piece, valence, arousal)
    "Mana_SNES_Secret of Mana_A Wish_0": (8132, 1, -1),
    "Other_N64_GoldenEye 007_Caverns_0": (8016, -1, -1),
    "Other_N64_GoldenEye 007_Caverns_1": (8016, -1, 1),
    "Xeno_PS1_Xenogears_Two Pieces_0": (8173, 1, 1),
}
EMOPIA_CLIPS = ["Q1_one_0", "Q1_one_1", "Q2_t_w_o_0", "Q3_three_0", "Q4_four_7"]


def record(path: Path, number: int = 1) -> Path:
    """Write a short tone that depends on a number, as the kind of file that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.1 * np.sin(np.arange(RATE // 4) * (number % 17 + 1) / 20)
    soundfile.write(path, tone, RATE, format={".mp3": "MP3", ".ogg": "OGG"}[path.suffix])
    return path


def write(path: Path, lines: Iterable[str], *, encoding: str = "utf-8", end: str = "\n") -> Path:
    """Write a table line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path


def emotify(folder: Path) -> Path:
    """Write two listenings of one track, one of another."""
    # amazement solemnity tenderness nostalgia calmness power joyful_activation tension sadness
    return tiny_emotify(folder, ["7,rock,0,0,0,0,0,1,1,1,0", "7,rock,1,1,0,0,0,0,1,0,0", "12,pop,0,0,1,1,1,0,0,0,1"])


def emotify_of_its_authors(folder: Path) -> Path:
    """Name the table as they do, and number the recordings anew in each genre."""
    columns = "amazement, solemnity, tenderness, nostalgia, calmness, power, joyful_activation, tension, sadness"
    rows = ["1,classical,0,0,0,0,1,0,0,0,0,3,1,0,21,1,English", "100,classical,0,1,0,0,0,0,0,0,0,3,0,1,41,0,Dutch"]
    rows += ["101,rock,0,0,0,0,0,1,0,0,0,3,0,0,24,1,", "400,pop,0,0,0,0,0,0,1,0,0,5,1,0,,1,Russian"]
    write(
        folder / "data.csv",
        [f"track id, genre, {columns}, mood, liked, disliked, age, gender, mother tongue", *rows],
        end="\r\n",
    )
    for place in ("classical/1", "classical/100", "rock/1", "pop/100"):
        record(folder / "emotifymusic" / f"{place}.mp3")
    return folder


def emopia(folder: Path) -> Path:
    """Five clips of four songs, with the tables that say so again."""
    tiny_emopia(folder, EMOPIA_CLIPS)
    write(folder / "train.csv", ["fname,label", "Q1_one_0,Q1", "Q1_one_1,Q1"])
    write(folder / "test.csv", ["fname,label", "Q4_four_7,Q4"])
    write(folder / "label.csv", ["ID,4Q,annotator", *(f"{name},{name[1]},A" for name in EMOPIA_CLIPS)])
    return folder


def vgmidi(folder: Path) -> Path:
    """Four phrases of three pieces, packed."""
    rows = [
        f"{piece},S,C,G,P,labelled/phrases/{name}.mid,{valence},{arousal}"
        for name, (piece, valence, arousal) in VGMIDI_PHRASES.items()
    ]
    write(folder / "vgmidi_labelled.csv", ["id,series,console,game,piece,midi,valence,arousal", *rows])
    (folder / "labelled").mkdir()
    with zipfile.ZipFile(folder / "labelled" / "phrases.zip", "w") as archive:
        for index, name in enumerate((*VGMIDI_PHRASES, "never labelled")):
            archive.writestr(f"phrases/{name}.mid", midi([Note(0, 0.5, 50 + index, 90)]))
        archive.writestr("__MACOSX/phrases/._never labelled.mid", b"not one")
    return folder


def ratings(number: int) -> list[float]:
    """Give the eight ratings of an excerpt of Soundtracks."""
    return [1 + (number * step) % 71 / 10 for step in (7, 11, 13, 17, 19, 23, 29, 31)]


def soundtracks(folder: Path) -> Path:
    """Eight excerpts of Set 1, five of Set 2 (the second table has a mark, an unnamed column, other capitals)."""
    scales = "valence,energy,tension,anger,fear,happy,sad,tender"
    rows = [f"{n:03d},{','.join(map(str, ratings(n)))},HIGH VALENCE" for n in (1, 2, 3, 186, 234, 256, 283, 295)]
    write(folder / "mean_ratings_set1.csv", [f"number,{scales},TARGET", *rows])
    links = {10: 234, 84: 295, 88: 283, 95: 234, 5: 2}
    rows = [f"{n:03d},{','.join(map(str, ratings(n)))},5.5,6.25,X,Album,{link},," for n, link in links.items()]
    header = f" Number ,{scales.title()},Beauty,Liking,TARGET,soundtrack,link,Unnamed: 13,"
    write(folder / "mean_ratings_set2.csv", [header, *rows], encoding="utf-8-sig")
    albums = {1: "Shallow Grave", 2: "The Rainmaker", 3: "the  Rainmaker ", 234: "Oliver Twist", 283: "Blanc"}
    albums |= {256: "The Portait of a Lady", 186: "The Portrait of a Lady", 295: "Blanc"}
    rows = [f"{n:03d},Happy,{album},6,02:02-02:17" for n, album in albums.items()]
    write(folder / "set1_tracklist.csv", ["Nro,Emotion,Album name,Track,Min:Sec", *rows])
    for number in (1, 2, 3, 186, 234, 256, 283, 295):
        record(folder / "Set1" / f"{number:03d}.mp3", number)
    for number in links:
        record(folder / "Set2" / "set2" / f"{number:03d}.mp3", number)
    return folder


def deam(folder: Path) -> Path:
    """Three songs in two tables; the dynamic tables end where songs do."""
    averaged = folder / "DEAM_Annotations" / "annotations" / "annotations averaged per song"
    name = "static_annotations_averaged_songs"
    header = "song_id, valence_mean, valence_std, arousal_mean, arousal_std"
    write(averaged / "song_level" / f"{name}_1_2000.csv", [header, "2,3.1,0.94,3.0,0.63", "10,7.5,1.2,6.25,1.5"])
    more = ", valence_max_mean, valence_max_std"
    write(averaged / "song_level" / f"{name}_2000_2058.csv", [header + more, "2001, 5.0, 1.0, 4.5, 1.1, 6.1, 0.2"])
    dynamic = averaged / "dynamic (per second annotations)"
    columns = ",".join(f"sample_{time}ms" for time in range(15000, 17000, 500))
    write(
        dynamic / "arousal.csv", [f"song_id,{columns}", "2,-0.1,-0.2,-0.3,", "10,0.5,NaN,0.6,0.7", "2001,.1,.2,.3,.4"]
    )
    write(dynamic / "valence.csv", [f"song_id,{columns}", "2,0.1,0.2,0.3,0.4", "10,1.0,0.9,0.8", "2001,nan,,,"])
    for number in (2, 10, 2001):
        record(folder / "DEAM_audio" / "MEMD_audio" / f"{number}.mp3", number)
    return folder


def pmemo(folder: Path) -> Path:
    """Two rated songs and one that nobody rated."""
    tables = folder / "PMEmo2019" / "annotations"
    write(tables / "static_annotations.csv", ["musicId,Arousal(mean),Valence(mean)", "1,0.4,0.575", "1000,0.25,0.1"])
    rows = ["1,15.5,0.4,0.5", "1,16.0,0.45,0.55", "1000,16.0,0.2,0.1", "1000,15.5,0.1,0.05"]
    write(tables / "dynamic_annotations.csv", ["musicId,frameTime,Arousal(mean),Valence(mean)", *rows])
    for number in (1, 13, 1000):
        record(folder / "PMEmo2019" / "chorus" / f"{number}.mp3", number)
    return folder


def midlevel(folder: Path) -> Path:
    """Five excerpts: two by one artist, one by nobody known, two of Soundtracks' Set 1."""
    tables = folder / "metadata_annotations"
    columns = "melody, articulation , rhythm_complexity, rhythm_stability, dissonance, atonality,mode"
    rows = [f"{song},{','.join(str((song + place) % 9 + 1) for place in range(7))}" for song in (1, 2, 3, 11, 12)]
    write(tables / "annotations.csv", [f"song_id , {columns}", *rows])
    about = ["1;jamendo;77;One, and two;Ann Artist;A", "2;jamendo;78;Three;ann  artist;B", "3;lastfm;x9;Four;;"]
    about += ["11;soundtracks;2;t;James Horner;", "12;Soundtracks;001;t;;"]
    write(tables / "metadata.csv", ["song id;Source;ID at file source;Title;Artist;Album name", *about])
    for number in (1, 2, 3, 11, 12):
        record(folder / "audio" / f"{number}.mp3", number)
    return folder


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "emotify": emotify,
    "emopia": emopia,
    "vgmidi": vgmidi,
    "soundtracks": soundtracks,
    "deam": deam,
    "pmemo": pmemo,
    "midlevel": midlevel,
}


def read(data: Path, *names: str, told: list[str] | None = None) -> tuple[Clip, ...]:
    """Build the layouts that are not there yet, and read them."""
    for name in names:
        if not (data / name).is_dir():
            LAYOUTS[name](data / name)
    fonts = [tiny_font(data.parent)] if MIDI & set(names) else []
    progress = (told if told is not None else []).append
    return gather(data, names=names, fonts=fonts, cache=data.parent / "cache", progress=progress)
