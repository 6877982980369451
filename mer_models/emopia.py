"""EMOPIA: 1,078 clips of 387 pop piano pieces as MIDI, each in one quadrant of valence and arousal.

Hung, Ching, Doh, Kim, Nam, Yang, "EMOPIA: a multi-modal pop piano dataset for emotion recognition and emotion-based
music generation" (ISMIR 2021); CC BY-NC-SA 4.0. Four annotators, one per clip. The sound comes from sound fonts.

- ``midis.zip``: ``Q{1-4}_{song}_{clip}.mid``; the name tells all, and the song may hold underscores itself. Q1 is
  positive valence and high arousal, Q2 V−A+, Q3 V−A−, Q4 V+A−.
- ``train.csv``, ``val.csv``, ``test.csv`` (fname, label; the published split by song, 767, 198 and 86 clips) and
  ``label.csv`` (ID, 4Q, annotator), any of which may be missing. They say again what the names say; where one
  contradicts the names or names a clip that is not there, that is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import sheets
from otoscope.mer_models.data import Clip
from otoscope.mer_models.render import Progress, quiet
from otoscope.mer_models.scores import packed, play

SPLITS = ("train", "val", "test")


def parse_emopia(name: str) -> tuple[int, str]:
    """Read quadrant and song out of a clip's name.

    >>> parse_emopia("Q3_a_b-c_12")
    (2, 'a_b-c')
    """
    match = re.fullmatch(r"Q([1-4])_(.+)_([^_]+)", name)
    if not match:
        raise OtoscopeError(f"{name!r} is not named like Q1_song_clip; rename it or leave it out")
    return int(match[1]) - 1, match[2]


def read_scores(folder: str | Path) -> dict[str, bytes]:
    """Read EMOPIA's MIDI files, by name in ascending order."""
    return packed(Path(folder, "midis.zip"))


def split(folder: str | Path) -> dict[str, str]:
    """Read the published split: clip → "train", "val" or "test"; clips that are in none of the files are left out."""
    rows: dict[str, sheets.Row] = {}
    parts: dict[str, str] = {}
    for part in SPLITS:
        path = Path(folder, f"{part}.csv")
        if path.is_file():
            own = sheets.read(path, ["fname", "label"]).rows
            rows = sheets.keyed([*rows.values(), *own], lambda row: row.text("fname"), what="clip")
            parts |= {row.text("fname"): part for row in own}
    return parts


def read_emopia(
    folder: str | Path, *, fonts: Sequence[str | Path], cache: str | Path, workers: int = 2, progress: Progress = quiet
) -> tuple[Clip, ...]:
    """List EMOPIA's clips, rendered by each font.

    Parameters
    ----------
    folder : str or Path
        Holds ``midis.zip``.
    fonts : sequence of str or Path
        Sound fonts.
    cache : str or Path
        Folder in which recordings are kept.
    workers : int
        Synthesisers running at once.
    progress : callable
        Told how far rendering is.

    Raises
    ------
    OtoscopeError
        If a file, a font or the synthesiser is missing, or a table contradicts the names.
    """
    scores = read_scores(folder)
    about = {name: parse_emopia(name) for name in scores}
    check_labels(Path(folder), {name: quadrant for name, (quadrant, _) in about.items()})
    clips = []
    for font, paths in play(scores, fonts, cache=cache, workers=workers, progress=progress).items():
        for name, (quadrant, song) in about.items():
            clips.append(Clip(name, paths[name], f"emopia:{song}", "emopia", font, quadrant, listeners=1))
    return tuple(clips)


def check_labels(folder: Path, quadrants: Mapping[str, int]) -> None:
    """Compare the tables that are there with the names of the clips."""
    split(folder)  # no clip may be in two parts
    for stem, name, label in (*((part, "fname", "label") for part in SPLITS), ("label", "ID", "4Q")):
        path = folder / f"{stem}.csv"
        for row in sheets.read(path, [name, label]).rows if path.is_file() else ():
            clip, told = row.text(name), row.text(label)
            if clip not in quadrants:
                raise row.fault(f"names {clip!r:.80}, which midis.zip does not hold; fetch both again")
            if told.removeprefix("Q") != str(quadrants[clip] + 1):
                raise row.fault(f"says {told!r:.20} of {clip}, its name another quadrant; fetch both again")
