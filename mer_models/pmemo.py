"""PMEmo: the choruses of 794 pop songs, 767 of them rated, as a whole and by half seconds.

Zhang, Zhang, Yang, Sun, "The PMEmo dataset for music emotion recognition" (ICMR 2018), release of 2019. 457 people
rated, at least ten each song; how many is not in the averaged tables. For research; the music is commercial.

- ``PMEmo2019/chorus/{musicId}.mp3``;
- ``PMEmo2019/annotations/static_annotations.csv``: musicId, Arousal(mean), Valence(mean), from 0 to 1;
- ``PMEmo2019/annotations/dynamic_annotations.csv``: musicId, frameTime, Arousal(mean), Valence(mean), from 0 to 1,
  every half second; the first 15 s of a chorus are left out.

Files are found by name at any depth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from otoscope.mer_models import recordings, sheets
from otoscope.mer_models.data import Clip, Course
from otoscope.mer_models.render import Progress, quiet

VALENCE, AROUSAL = "Valence(mean)", "Arousal(mean)"
LONGEST = 3600.0  # seconds


def read_pmemo(folder: str | Path, *, progress: Progress = quiet) -> tuple[Clip, ...]:
    """List PMEmo's rated songs with their valence and arousal as a whole.

    Parameters
    ----------
    folder : str or Path
    progress : callable
        Told what is left out.

    Returns
    -------
    tuple of Clip
        Named by their musicId, from 0 to 1.

    Raises
    ------
    OtoscopeError
        Naming what is missing or wrong.
    """
    table = sheets.read(sheets.locate(folder, "static_annotations.csv")[0], ["musicId", VALENCE, AROUSAL])
    rows = sheets.keyed(table.rows, _song, what="song")
    wanted = {str(number): row.where for number, row in rows.items()}
    found = recordings.find(recordings.subfolder(folder, "chorus"), wanted, progress=progress)
    return tuple(_clip(str(number), found[str(number)], row) for number, row in rows.items())


def dynamic(folder: str | Path) -> dict[str, Course]:
    """Read how valence and arousal changed while choruses played, by the names of the clips.

    Moments at which one of the two is missing are left out, and so are songs without any other.

    Returns
    -------
    dict of str to Course
        From 0 to 1, every half second.

    Raises
    ------
    OtoscopeError
        Naming table, row and fault.
    """
    path = sheets.locate(folder, "dynamic_annotations.csv")[0]
    moments = sheets.keyed(
        sheets.read(path, ["musicId", "frameTime", VALENCE, AROUSAL]).rows,
        lambda row: (_song(row), row.number("frameTime", low=0, high=LONGEST)),
        what="song and time",
    )
    known: dict[int, list[tuple[float, float, float]]] = {}
    for (number, time), row in sorted(moments.items(), key=lambda moment: moment[0]):
        valence, arousal = (row.number_or_none(column, low=0, high=1) for column in (VALENCE, AROUSAL))
        if valence is not None and arousal is not None:
            known.setdefault(number, []).append((time, valence, arousal))
    return {str(number): Course(*np.array(points).T) for number, points in known.items()}


def _song(row: sheets.Row) -> int:
    return row.whole("musicId", low=1)


def _clip(name: str, path: Path, row: sheets.Row) -> Clip:
    valence, arousal = (row.number(column, low=0, high=1) for column in (VALENCE, AROUSAL))
    return Clip(name, path, f"pmemo:{name}", "pmemo", valence=valence, arousal=arousal)
