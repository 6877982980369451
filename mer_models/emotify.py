"""Emotify: 400 songs in four genres and what 8,407 listenings made people feel.

Aljanaki, Wiering, Veltkamp, "Studying emotion induced by music through a crowdsourcing game" (Information Processing
& Management, 2015). Free for research, not to be passed on. Two layouts are read:

- as its authors distribute it: ``data.csv`` and ``emotifymusic/{classical,rock,electronic,pop}/{1…100}.mp3``, where
  tracks 1 to 100 of the table are classical, 101 to 200 rock, 201 to 300 electronic, 301 to 400 pop, and the files are
  numbered anew in each genre;
- ``listeners.csv`` (the same table) and ``audio/{001…400}.ogg``.

A row of the table is one listening: track id, genre, nine emotions felt or not (0/1), mood before (1–5), liked and
disliked (0/1), age, gender (0/1; which is which is not told), mother tongue. Arousal and valence are sums of emotions,
averaged over listeners:

    arousal = joyful_activation + power + tension − calmness − tenderness − sadness − nostalgia
    valence = joyful_activation + tenderness + calmness − sadness − tension

Between halves of the listeners they agree by r = 0.84 and 0.58. Who listens may be chosen: `read_emotify` takes a
predicate on a `Judgement`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import recordings, sheets
from otoscope.mer_models.data import Clip
from otoscope.mer_models.render import Progress, quiet

EMOTIONS = (
    "amazement",
    "solemnity",
    "tenderness",
    "nostalgia",
    "calmness",
    "power",
    "joyful_activation",
    "tension",
    "sadness",
)
AROUSAL = {
    "joyful_activation": 1,
    "power": 1,
    "tension": 1,
    "calmness": -1,
    "tenderness": -1,
    "sadness": -1,
    "nostalgia": -1,
}
VALENCE = {"joyful_activation": 1, "tenderness": 1, "calmness": 1, "sadness": -1, "tension": -1}
GENRES = ("classical", "rock", "electronic", "pop")  # a hundred tracks each, in this order


@dataclass(frozen=True)
class Judgement:
    """What one listener felt in one track.

    Attributes
    ----------
    emotions : frozenset of str
        Those of `EMOTIONS` that were felt.
    age, gender, mood : int, optional
        Age in years as given; gender 0 or 1; mood before listening, 1 to 5. None where the table has no such column
        or the cell is empty.
    liked, disliked : bool, optional
    language : str
        Mother tongue as given; "" where unknown.
    """

    emotions: frozenset[str]
    age: int | None = None
    gender: int | None = None
    mood: int | None = None
    liked: bool | None = None
    disliked: bool | None = None
    language: str = ""

    @property
    def valence(self) -> int:
        """From −2 to 3."""
        return sum(VALENCE.get(emotion, 0) for emotion in self.emotions)

    @property
    def arousal(self) -> int:
        """From −4 to 3."""
        return sum(AROUSAL.get(emotion, 0) for emotion in self.emotions)


def judgements(folder: str | Path) -> dict[str, list[Judgement]]:
    """Read the listeners of each track, tracks by their number in three digits, in ascending order.

    Raises
    ------
    OtoscopeError
        Naming the table, the row and the fault.
    """
    return {f"{track:03d}": [_judgement(row) for row in rows] for track, rows in _tracks(Path(folder)).items()}


def read_emotify(
    folder: str | Path, *, keep: Callable[[Judgement], bool] | None = None, progress: Progress = quiet
) -> tuple[Clip, ...]:
    """List Emotify's songs with the mean valence and arousal of their listeners.

    Parameters
    ----------
    folder : str or Path
        In either layout.
    keep : callable, optional
        Which listeners to count; all where None. Songs that none of these heard are left out.
    progress : callable
        Told what is left out.

    Returns
    -------
    tuple of Clip
        With genre and number of listeners; `ratings` holds the share of listeners who felt each emotion, and who
        liked and disliked the song.

    Raises
    ------
    OtoscopeError
        If the table or a recording is missing or broken, or no listener is left.
    """
    folder = Path(folder)
    tracks = _tracks(folder)
    paths = _recordings(folder, tracks, progress)
    clips = []
    for track, rows in tracks.items():
        heard = [_judgement(row) for row in rows]
        counted = [judgement for judgement in heard if keep is None or keep(judgement)]
        if counted:
            clips.append(_clip(f"{track:03d}", paths[track], rows[0].text("genre"), counted))
    if not clips:
        raise OtoscopeError(f"{folder}: holds no listener of those asked for; ask for others")
    if len(clips) < len(tracks):
        progress(f"{folder}: {len(tracks) - len(clips)} songs were heard by none of the listeners asked for")
    return tuple(clips)


def _tracks(folder: Path) -> dict[int, list[sheets.Row]]:
    """Rows by track; a track is of one genre."""
    table = folder / "listeners.csv"
    if not table.is_file() and (folder / "data.csv").is_file():
        table = folder / "data.csv"
    tracks: dict[int, list[sheets.Row]] = {}
    for row in sheets.read(table, ["track id", "genre", *EMOTIONS]).rows:
        own = tracks.setdefault(row.whole("track id", low=1, high=9999), [])
        own.append(row)
        if own[0].text("genre").casefold() != row.text("genre").casefold():
            told = f"is of another genre ({row.text('genre')!r:.40}) than at {own[0].where}"
            raise row.fault(f"track {row.text('track id')} {told}; correct one of them")
    return dict(sorted(tracks.items()))


def _judgement(row: sheets.Row) -> Judgement:
    def known(column: str, low: float, high: float) -> int | None:
        return row.whole(column, low=low, high=high) if row.has(column) and row.text(column, blank=True) else None

    def yes(column: str) -> bool | None:
        answer = known(column, 0, 1)
        return None if answer is None else bool(answer)

    return Judgement(
        frozenset(emotion for emotion in EMOTIONS if row.whole(emotion, low=0, high=1)),
        known("age", 0, 150),
        known("gender", 0, 1),
        known("mood", 1, 5),
        yes("liked"),
        yes("disliked"),
        row.text("mother tongue", blank=True) if row.has("mother tongue") else "",
    )


def _recordings(folder: Path, tracks: Mapping[int, list[sheets.Row]], progress: Progress) -> dict[int, Path]:
    """Find the recordings of tracks, in the layout that the folder has."""
    if (folder / "audio").is_dir() or not any(folder.glob("emotifymusic*")):
        wanted = {f"{track:03d}": rows[0].where for track, rows in tracks.items()}
        found = recordings.find(folder / "audio", wanted, progress=progress)
        return {track: found[f"{track:03d}"] for track in tracks}
    numbers: dict[str, dict[int, str]] = {}
    for track, (row, *_) in tracks.items():
        genre = row.text("genre").casefold()
        if genre not in GENRES:
            raise row.fault(f"genre {genre!r:.40} is none of {', '.join(GENRES)}; correct it")
        numbers.setdefault(genre, {})[track] = str(track - 100 * GENRES.index(genre))
    paths: dict[int, Path] = {}
    for genre, own in numbers.items():
        music = recordings.subfolder(folder, genre, "emotifymusic")
        found = recordings.find(music, {own[track]: tracks[track][0].where for track in own}, progress=progress)
        paths |= {track: found[number] for track, number in own.items()}
    return paths


def _clip(name: str, path: Path, genre: str, heard: list[Judgement]) -> Clip:
    felt = {emotion: float(np.mean([emotion in one.emotions for one in heard])) for emotion in EMOTIONS}
    for column in ("liked", "disliked"):
        told = [getattr(one, column) for one in heard if getattr(one, column) is not None]
        felt |= {column: float(np.mean(told))} if told else {}
    return Clip(
        name,
        path,
        f"emotify:{name}",
        "emotify",
        valence=float(np.mean([one.valence for one in heard])),
        arousal=float(np.mean([one.arousal for one in heard])),
        listeners=len(heard),
        genre=genre,
        ratings=felt,
    )
