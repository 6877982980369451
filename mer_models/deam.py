"""DEAM: 1,802 songs, free to share, and how their valence and arousal were heard, as a whole and by half seconds.

Aljanaki, Yang, Soleymani, "Developing a benchmark for emotional analysis of music" (PLoS ONE 12(3), 2017): 1,744
excerpts of 45 s (numbers 2 to 2000) and 58 whole songs (2001 to 2058). At least five people heard each; how many is
not in the averaged tables.

- ``DEAM_audio/MEMD_audio/{number}.mp3``;
- ``DEAM_Annotations/annotations/annotations averaged per song/song_level/static_annotations_averaged_songs_*.csv``, two
  files: song_id, valence_mean, valence_std, arousal_mean, arousal_std, from 1 to 9; the second has more columns;
- ``…/dynamic (per second annotations)/arousal.csv`` and ``valence.csv``: song_id, sample_15000ms, sample_15500ms, …,
  from −1 to 1, one song a row, nothing where a song is over. The first 15 s were not rated.

Files are found by name at any depth.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import recordings, sheets
from otoscope.mer_models.data import Clip, Course
from otoscope.mer_models.render import Progress, quiet

STATIC = "static_annotations_averaged_songs_*.csv"
LOW, HIGH = 1.0, 9.0
SAMPLE = re.compile(r"sample (\d{1,9})ms")  # a column of a dynamic table, as `sheets.folded` gives its name


def read_deam(folder: str | Path, *, progress: Progress = quiet) -> tuple[Clip, ...]:
    """List DEAM's songs with their valence and arousal as a whole.

    Parameters
    ----------
    folder : str or Path
    progress : callable
        Told what is left out.

    Returns
    -------
    tuple of Clip
        Named by their number, from 1 to 9; `ratings` holds valence_std and arousal_std, the spread over listeners.

    Raises
    ------
    OtoscopeError
        Naming what is missing or wrong.
    """
    rows: dict[int, sheets.Row] = {}
    for path in sheets.locate(folder, STATIC):
        own = sheets.read(path, ["song_id", "valence_mean", "arousal_mean"]).rows
        rows = sheets.keyed([*rows.values(), *own], _song, what="song")
    found = recordings.find(
        recordings.subfolder(folder, "MEMD_audio", "DEAM_audio", "audio"),
        {str(number): row.where for number, row in rows.items()},
        progress=progress,
    )
    return tuple(_clip(str(number), found[str(number)], row) for number, row in rows.items())


def dynamic(folder: str | Path) -> dict[str, Course]:
    """Read how valence and arousal changed while songs played, by the names of the clips.

    Moments at which one of the two is missing are left out, and so are songs without any other.

    Returns
    -------
    dict of str to Course
        From −1 to 1, every half second.

    Raises
    ------
    OtoscopeError
        Naming table, row and fault, or a song that only one of the tables holds.
    """
    arousal_path = sheets.locate(folder, "arousal.csv")[0]
    valence_path = arousal_path.with_name("valence.csv")
    arousal, valence = _moments(arousal_path), _moments(valence_path)
    for one, other, path in ((arousal, valence, valence_path), (valence, arousal, arousal_path)):
        if lost := sorted(set(one) - set(other)):
            raise OtoscopeError(f"{path}: lacks song {lost[0]}, which the table beside it holds; fetch both again")
    courses = {}
    for number, aroused in arousal.items():
        times = sorted(set(aroused) & set(valence[number]))
        if times:
            courses[str(number)] = Course(
                np.array(times) / 1000,
                np.array([valence[number][time] for time in times]),
                np.array([aroused[time] for time in times]),
            )
    return courses


def _song(row: sheets.Row) -> int:
    return row.whole("song_id", low=1)


def _clip(name: str, path: Path, row: sheets.Row) -> Clip:
    spreads = ("valence_std", "arousal_std")
    return Clip(
        name,
        path,
        f"deam:{name}",
        "deam",
        valence=row.number("valence_mean", low=LOW, high=HIGH),
        arousal=row.number("arousal_mean", low=LOW, high=HIGH),
        ratings={spread: row.number(spread, low=0, high=HIGH - LOW) for spread in spreads if row.has(spread)},
    )


def _moments(path: Path) -> dict[int, dict[int, float]]:
    """Read a dynamic table: song → milliseconds → value."""
    sheet = sheets.read(path, ["song_id"], ragged=True)
    times = {column: int(match[1]) for column in sheet.columns if (match := SAMPLE.fullmatch(sheets.folded(column)))}
    if not times:
        raise OtoscopeError(f"{path}: row 1: has no columns like sample_15000ms; fetch it again")
    found: dict[int, dict[int, float]] = {}
    for number, row in sheets.keyed(sheet.rows, _song, what="song").items():
        known = {time: row.number_or_none(column, low=-1, high=1) for column, time in times.items()}
        found[number] = {time: value for time, value in known.items() if value is not None}
    return found
