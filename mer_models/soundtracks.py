"""Soundtracks: excerpts of film music and what people heard in them, rated on eight scales.

Eerola, Vuoskoski, "A comparison of the discrete and dimensional models of emotion in music" (Psychology of Music 39,
2011); OSF p6vkg. Ratings are means, from 1 to 9. Set 1: 360 excerpts of about 15 s, a pilot with few raters each
(their number is not told). Set 2: 110 excerpts of these, chosen and cut anew, rated by more people, for beauty and
liking too. *Energy* is what other sets call arousal. Tagged CC BY 4.0, but the music is commercial: do not pass it on.

- ``mean_ratings_set1.csv``: number, valence, energy, tension, anger, fear, happy, sad, tender, TARGET;
- ``mean_ratings_set2.csv``: Number, Valence, …, Tender, Beauty, Liking, TARGET, soundtrack, link (its number in Set 1);
- ``set1_tracklist.csv``: Nro, Emotion, Album name, Track, Min:Sec; optional, and worth having (below);
- ``Set1/001.mp3`` … ``360.mp3`` and ``Set2/001.mp3`` … ``110.mp3``, unpacked from the archives.

Either set may be missing. *Songs*: excerpts of one album share themes and orchestras, often the very track, so an album
counts as one song; without the track list, an excerpt of Set 1 does. Set 2 follows its links, with two exceptions that
the authors report: excerpt 95 of Set 2 is excerpt 10 again, and 84 and 88 are from one track.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import recordings, sheets
from otoscope.mer_models.data import Clip
from otoscope.mer_models.render import Progress, quiet

EMOTIONS = ("valence", "energy", "tension", "anger", "fear", "happy", "sad", "tender")
LOW, HIGH = 1.0, 9.0
SIZES = {"set1": 360, "set2": 110}
SAME = {95: 10, 88: 84}  # excerpts of Set 2 → earlier ones that must stay with them
MISSPELT = {"the portait of a lady": "the portrait of a lady"}


def read_soundtracks(folder: str | Path, *, progress: Progress = quiet) -> tuple[Clip, ...]:
    """List the excerpts of the sets that the folder holds.

    Parameters
    ----------
    folder : str or Path
    progress : callable
        Told what is left out or unknown.

    Returns
    -------
    tuple of Clip
        Named set1-001 and so on, with valence and energy as arousal from 1 to 9; `ratings` holds the eight `EMOTIONS`,
        in Set 2 beauty and liking too, on the same scale.

    Raises
    ------
    OtoscopeError
        Naming what is missing or wrong.
    """
    folder = Path(folder)
    albums = _albums(folder, progress)
    clips: list[Clip] = []
    for name in SIZES:
        if (folder / f"mean_ratings_{name}.csv").is_file():
            clips += _read_set(folder, name, albums, progress)
        elif (folder / f"mean_ratings_{name}.xls").is_file():
            raise OtoscopeError(f"{folder / f'mean_ratings_{name}.xls'}: is a spreadsheet; save it beside as CSV")
    if not clips:
        raise OtoscopeError(f"{folder}: holds neither mean_ratings_set1.csv nor mean_ratings_set2.csv; fetch them")
    return tuple(clips)


def set1_song(number: int) -> str:
    """Song of an excerpt of Set 1 where its album is not known.

    >>> set1_song(7)
    'soundtracks:set1-007'
    """
    return f"soundtracks:set1-{number:03d}"


def _read_set(folder: Path, name: str, albums: dict[int, str], progress: Progress) -> list[Clip]:
    table = sheets.read(folder / f"mean_ratings_{name}.csv", ["number", *EMOTIONS])
    rows = sheets.keyed(table.rows, lambda row: row.whole("number", low=1, high=SIZES[name]), what="excerpt")
    wanted = {f"{number:03d}": row.where for number, row in rows.items()}
    found = recordings.find(recordings.subfolder(folder, name, f"{name}_stimuli"), wanted, progress=progress)
    song_of = _first_songs(albums) if name == "set1" else _second_songs(rows, albums)
    clips = []
    for number, row in rows.items():
        scales = (*EMOTIONS, *(scale for scale in ("beauty", "liking") if row.has(scale)))
        ratings = {scale: row.number(scale, low=LOW, high=HIGH) for scale in scales}
        clips.append(
            Clip(
                f"{name}-{number:03d}",
                found[f"{number:03d}"],
                song_of(number),
                "soundtracks",
                valence=ratings["valence"],
                arousal=ratings["energy"],
                ratings=ratings,
            )
        )
    return clips


def _albums(folder: Path, progress: Progress) -> dict[int, str]:
    """Albums by number in Set 1."""
    path = folder / "set1_tracklist.csv"
    if not path.is_file():
        progress(f"{path}: is not there, so excerpts of one album count as songs of their own")
        return {}
    tracks = sheets.read(path, ["nro", "album name"]).rows
    rows = sheets.keyed(tracks, lambda row: row.whole("nro", low=1, high=SIZES["set1"]), what="excerpt")
    names = {number: sheets.folded(row.text("album name")) for number, row in rows.items()}
    return {number: MISSPELT.get(name, name) for number, name in names.items()}


def _first_songs(albums: dict[int, str]) -> Callable[[int], str]:
    return lambda number: f"soundtracks:{albums[number]}" if number in albums else set1_song(number)


def _second_songs(rows: dict[int, sheets.Row], albums: dict[int, str]) -> Callable[[int], str]:
    def song(number: int) -> str:
        first = SAME.get(number, number)
        row = rows.get(first, rows[number])
        if row.has("link") and row.text("link", blank=True):
            return _first_songs(albums)(row.whole("link", low=1, high=SIZES["set1"]))
        if row.has("soundtrack") and row.text("soundtrack", blank=True):
            return f"soundtracks:{sheets.folded(row.text('soundtrack'))}"
        return f"soundtracks:set2-{first:03d}"

    return song
