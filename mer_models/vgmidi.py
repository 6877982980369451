"""VGMIDI: phrases of 200 piano arrangements of video-game music as MIDI, each in one quadrant of valence and arousal.

Ferreira, Whitehead, "Learning to generate music with sentiment" (ISMIR 2019). Thirty people judged each piece while
they listened; most pieces are one phrase, three are two or three phrases with labels of their own. The layout of the
authors' repository:

- ``vgmidi_labelled.csv``: id, series, console, game, piece, midi, valence, arousal; the last two are −1 or 1. ``id`` is
  that of the piece and stands in as many rows as the piece has phrases; ``midi`` is the path of a phrase.
- ``labelled/phrases.zip``, or the same unpacked in ``labelled/phrases/``: the phrases. Only the names count, not the
  folders in ``midi``, which changed between releases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from otoscope.adapters.errors import plain
from otoscope.mer_models import sheets
from otoscope.mer_models.data import Clip
from otoscope.mer_models.render import Progress, quiet
from otoscope.mer_models.scores import loose, packed, play

QUADRANTS = {(1, 1): 0, (-1, 1): 1, (-1, -1): 2, (1, -1): 3}
LISTENERS = 30  # of every piece


def read_vgmidi(
    folder: str | Path, *, fonts: Sequence[str | Path], cache: str | Path, workers: int = 2, progress: Progress = quiet
) -> tuple[Clip, ...]:
    """List VGMIDI's labelled phrases, rendered by each font.

    Parameters
    ----------
    folder : str or Path
    fonts : sequence of str or Path
        Sound fonts.
    cache : str or Path
        Folder in which recordings are kept.
    workers : int
        Synthesisers running at once.
    progress : callable
        Told how far rendering is, and what the table does not name.

    Raises
    ------
    OtoscopeError
        If a file, a font or the synthesiser is missing, or the table is broken.
    """
    folder = Path(folder)
    table = sheets.read(folder / "vgmidi_labelled.csv", ["id", "midi", "valence", "arousal"])
    rows = sheets.keyed(table.rows, _phrase, what="phrase")
    about = {name: (_quadrant(row), row.text("id")) for name, row in rows.items()}
    scores = _scores(folder, rows, progress)
    clips = []
    for font, paths in play(scores, fonts, cache=cache, workers=workers, progress=progress).items():
        for name, (quadrant, piece) in about.items():
            clips.append(Clip(name, paths[name], f"vgmidi:{piece}", "vgmidi", font, quadrant, listeners=LISTENERS))
    return tuple(clips)


def _phrase(row: sheets.Row) -> str:
    return PurePosixPath(row.text("midi").replace("\\", "/")).stem


def _quadrant(row: sheets.Row) -> int:
    valence, arousal = (row.whole(column, low=-1, high=1) for column in ("valence", "arousal"))
    if (valence, arousal) not in QUADRANTS:
        raise row.fault(f"valence and arousal are {valence} and {arousal}, must be -1 or 1; correct them")
    return QUADRANTS[valence, arousal]


def _scores(folder: Path, rows: Mapping[str, sheets.Row], progress: Progress) -> dict[str, bytes]:
    """MIDI files of the phrases in the table."""
    unpacked = folder / "labelled" / "phrases"
    scores = loose(unpacked) if unpacked.is_dir() else packed(unpacked.with_suffix(".zip"))
    spaced = {" ".join(name.split()): midi for name, midi in scores.items()}  # as cells of tables are
    for name, row in rows.items():
        if name not in spaced:
            raise row.fault(f"names {plain(name)}.mid, which {unpacked} does not hold; fetch the phrases again")
    if strange := sorted(set(spaced) - set(rows)):
        progress(f"{unpacked}: {len(strange)} phrases that no table names are left out: {plain(strange[0])}, …")
    return {name: spaced[name] for name in rows}
