"""The mid-level set: 5,000 excerpts and how musicians rated seven features of them.

Aljanaki, Soleymani, "A data-driven approach to mid-level perceptual musical feature modeling" (ISMIR 2018); OSF 5aupt.
Excerpts of about 15 s from several collections, rated from 1 to 10.

- ``metadata_annotations/annotations.csv`` (commas): song_id, then seven columns whose names hold stray spaces and
  differ between releases, so they are read by their order, which is that of `otoscope.mer_models.descriptors.FEATURES`:
  melodiousness, articulation, rhythmic complexity, rhythmic stability, dissonance, tonal stability, minorness. The
  sixth is called atonality by some; it is high for tonally stable music (on Soundtracks, r = .85 with valence).
- ``metadata_annotations/metadata.csv`` (semicolons): song id; Source; ID at file source; Title; Artist; album.
- ``audio/{song id}.mp3``.

*Songs*: the set is customarily split by artist, so all excerpts of an artist count as one song. All 360 excerpts of
Set 1 of `otoscope.mer_models.soundtracks` are among these (source "soundtracks"); they are songs of that set, and
`joined` puts what people said of them in both sets into one row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import recordings, sheets
from otoscope.mer_models.data import Clip
from otoscope.mer_models.descriptors import FEATURES
from otoscope.mer_models.render import Progress, quiet
from otoscope.mer_models.soundtracks import SIZES, set1_song

LOW, HIGH = 0.0, 10.0
ID = "song_id"
NO_ARTIST = sheets.EMPTY | {"-", "unknown", "unknown artist", "various", "various artists"}
# What would show that the columns stand in another order.
SIGNS = (r"melod", r"articul", r"complex", r"rhythm\w* stab", r"dissonan", r"tonal", r"\b(minor|modal|mode\b)")


def read_midlevel(folder: str | Path, *, progress: Progress = quiet) -> tuple[Clip, ...]:
    """List the excerpts of the mid-level set.

    Parameters
    ----------
    folder : str or Path
    progress : callable
        Told what is left out.

    Returns
    -------
    tuple of Clip
        Named by their song id; `ratings` holds the seven `FEATURES`, from 1 to 10.

    Raises
    ------
    OtoscopeError
        Naming what is missing or wrong.
    """
    sheet = sheets.read(sheets.locate(folder, "annotations.csv")[0], [ID], separator=",")
    columns = _columns(sheet)
    rows = sheets.keyed(sheet.rows, lambda row: row.text(ID), what="song")
    about = sheets.keyed(
        sheets.read(
            sheets.locate(folder, "metadata.csv")[0], [ID, "source", "ID at file source", "artist"], separator=";"
        ).rows,
        lambda row: row.text(ID),
        what="song",
    )
    if lost := next((row for name, row in rows.items() if name not in about), None):
        raise lost.fault(f"song {lost.text(ID)!r:.40} is not in metadata.csv; fetch both tables again")
    wanted = {name: row.where for name, row in rows.items()}
    found = recordings.find(recordings.subfolder(folder, "audio"), wanted, progress=progress)
    clips = []
    for name, row in rows.items():
        ratings = {
            feature: row.number(column, low=LOW, high=HIGH) for feature, column in zip(FEATURES, columns, strict=True)
        }
        clips.append(Clip(name, found[name], _song(name, about[name]), "midlevel", ratings=ratings))
    return tuple(clips)


def joined(clips: Sequence[Clip], soundtracks: Sequence[Clip]) -> tuple[Clip, ...]:
    """Put the excerpts that are in Soundtracks too into one row.

    Parameters
    ----------
    clips : sequence of Clip
        Of the mid-level set.
    soundtracks : sequence of Clip
        Of Soundtracks.

    Returns
    -------
    tuple of Clip
        Soundtracks' clips, those of Set 1 with the seven features beside their emotions, then the clips of the
        mid-level set that are not among them.
    """
    names = {set1_song(int(clip.name.removeprefix("set1-"))) for clip in soundtracks if clip.name.startswith("set1-")}
    known = {clip.song: clip for clip in clips if clip.song in names}
    both = []
    for clip in soundtracks:
        twin = known.get(f"soundtracks:{clip.name}")
        both.append(clip if twin is None else replace(clip, ratings={**twin.ratings, **clip.ratings}))
    return (*both, *(clip for clip in clips if clip.song not in names))


def _columns(sheet: sheets.Sheet) -> list[str]:
    """Names of the seven columns; their number must be right, and their names must not show another order."""
    columns = [column for column in sheet.columns if sheets.folded(column) != sheets.folded(ID)]
    where = f"{sheet.path}: row 1"
    if len(columns) != len(FEATURES) or len(set(map(sheets.folded, columns))) < len(FEATURES):
        raise OtoscopeError(f"{where}: has {len(columns)} columns beside {ID}, needs {len(FEATURES)}; fetch it again")
    for place, column in enumerate(columns):
        shown = [other for other, sign in enumerate(SIGNS) if re.search(sign, sheets.folded(column))]
        if shown and place not in shown:
            told = f"column {place + 2} is {column!r:.40}, where {FEATURES[place]} is expected"
            raise OtoscopeError(f"{where}: {told}; put the columns in the order of their authors")
    return columns


def _song(name: str, about: sheets.Row) -> str:
    if about.text("source", blank=True).casefold() == "soundtracks":
        return set1_song(about.whole("ID at file source", low=1, high=SIZES["set1"]))
    artist = sheets.folded(about.text("artist", blank=True))
    return f"midlevel:{name}" if artist in NO_ARTIST else f"midlevel:artist {artist}"
