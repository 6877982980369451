"""Recordings with emotions that people heard: EMOPIA and Emotify as one table.

EMOPIA (Hung et al., ISMIR 2021; CC BY-NC-SA 4.0): 1,078 clips of 387 piano pieces as MIDI (``midis.zip``). The name
tells all: ``Q{1-4}_{song}_{clip}``, where the song may hold underscores itself. Q1 is positive valence and high
arousal, Q2 V−A+, Q3 V−A−, Q4 V+A−. The sound comes from sound fonts (`otoscope.mer_models.render`).

Emotify (Aljanaki, Wiering, Veltkamp, 2015): 30 s of 400 real songs in four genres (``audio/NNN.ogg``) and
``listeners.csv``, one row per listener and song with nine emotions, felt or not (0/1). Arousal and valence are sums of
these, averaged over listeners:

    arousal = joyful_activation + power + tension − calmness − tenderness − sadness − nostalgia
    valence = joyful_activation + tenderness + calmness − sadness − tension

They have no zero of their own, so a quadrant needs thresholds; `medians` takes them from the clips it is given (those
of training, never those held out) and `with_quadrants` applies them.

Quadrants are counted from 0 here (Q1 is 0), in the order of `harmonics.LABELS`. `folds` deals out whole songs, so
neither two clips of a song nor its two renderings are ever on both sides.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.render import Progress, check_fonts, quiet, render

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


@dataclass(frozen=True)
class Clip:
    """One recording and what people heard in it.

    Attributes
    ----------
    name : str
    path : Path
    song : str
        Clips of one song must never be separated; begins with the data set's name.
    dataset : {"emopia", "emotify"}
    font : str
        Of a rendering; "" for a recording.
    quadrant : int, optional
        0 (V+A+), 1 (V−A+), 2 (V−A−) or 3 (V+A−).
    valence, arousal : float, optional
    """

    name: str
    path: Path
    song: str
    dataset: Literal["emopia", "emotify"]
    font: str = ""
    quadrant: int | None = None
    valence: float | None = None
    arousal: float | None = None


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
    path = Path(folder, "midis.zip")
    if not path.is_file():
        raise OtoscopeError(f"{path}: no such file; fetch EMOPIA and put its MIDI files there")
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(name for name in archive.namelist() if name.endswith(".mid"))
            scores = {Path(name).stem: archive.read(name) for name in members}
    except (zipfile.BadZipFile, OSError) as error:
        raise OtoscopeError(f"{path}: cannot be read ({error}); fetch it again") from None
    if not scores:
        raise OtoscopeError(f"{path}: holds no MIDI files (*.mid); fetch EMOPIA again")
    return scores


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
        If a file, a font or the synthesiser is missing.
    """
    sources = tuple(Path(font) for font in fonts)
    check_fonts(sources)
    scores = read_scores(folder)
    about = {name: parse_emopia(name) for name in scores}
    clips = []
    for font in sources:
        paths = render(scores, font, cache=Path(cache), workers=workers, progress=progress)
        for name, (quadrant, song) in about.items():
            clips.append(Clip(name, paths[name], f"emopia:{song}", "emopia", font.stem, quadrant))
    return tuple(clips)


def read_emotify(folder: str | Path) -> tuple[Clip, ...]:
    """List Emotify's songs with the mean valence and arousal of their listeners.

    Raises
    ------
    OtoscopeError
        If the table or a recording is missing, or the table has other columns.
    """
    table = Path(folder, "listeners.csv")
    if not table.is_file():
        raise OtoscopeError(f"{table}: no such file; fetch Emotify and put its table there")
    with table.open(newline="", encoding="utf-8") as file:
        rows = [{(key or "").strip(): value for key, value in row.items()} for row in csv.DictReader(file)]
    heard: dict[int, list[tuple[int, int]]] = {}
    try:
        for row in rows:
            heard.setdefault(int(row["track id"]), []).append((_sum(row, VALENCE), _sum(row, AROUSAL)))
    except (KeyError, ValueError, TypeError) as error:
        raise OtoscopeError(f"{table}: a column is missing or is no number ({error}); fetch it again") from None
    clips = []
    for track, judgements in sorted(heard.items()):
        path = Path(folder, "audio", f"{track:03d}.ogg")
        if not path.is_file():
            raise OtoscopeError(f"{path}: no such file, but the table names it; fetch it again")
        valence, arousal = np.mean(judgements, axis=0).tolist()
        clips.append(Clip(path.stem, path, f"emotify:{path.stem}", "emotify", valence=valence, arousal=arousal))
    return tuple(clips)


def _sum(row: dict[str, str], signs: dict[str, int]) -> int:
    return sum(sign * int(row[emotion]) for emotion, sign in signs.items())


def medians(clips: Sequence[Clip]) -> tuple[float, float]:
    """Median valence and arousal of the clips that have them; (0, 0) where none has."""
    known = [(clip.valence, clip.arousal) for clip in clips if clip.valence is not None]
    if not known:
        return 0.0, 0.0
    valence, arousal = np.median(np.array(known, dtype=np.float64), axis=0).tolist()
    return valence, arousal


def with_quadrants(clips: Sequence[Clip], thresholds: tuple[float, float]) -> tuple[Clip, ...]:
    """Give clips with valence and arousal their quadrant: high is above the threshold."""
    told = []
    for clip in clips:
        if clip.valence is None or clip.arousal is None:
            told.append(clip)
            continue
        positive, excited = clip.valence > thresholds[0], clip.arousal > thresholds[1]
        told.append(replace(clip, quadrant=(0 if positive else 1) if excited else (3 if positive else 2)))
    return tuple(told)


def known_quadrant(clip: Clip) -> int:
    """Quadrant of a clip that must have one."""
    if clip.quadrant is None:
        raise OtoscopeError(f"{clip.name}: has no quadrant; give it one with thresholds first")
    return clip.quadrant


def folds(clips: Sequence[Clip], *, n_folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Deal out songs to folds so that each fold gets its share of every data set and quadrant.

    Songs are drawn in random order, the longest first; each goes to the fold that so far has the fewest clips of its
    kind, and among these to the smallest.

    Parameters
    ----------
    clips : sequence of Clip
        All with a quadrant.
    n_folds, seed : int

    Returns
    -------
    ndarray of int, shape (n_clips,)
        The fold of each clip; clips of one song share it, and no fold is empty.

    Raises
    ------
    OtoscopeError
        If there are fewer songs than folds.
    """
    songs: dict[str, Counter[tuple[str, int | None]]] = {}
    for clip in clips:
        songs.setdefault(clip.song, Counter())[clip.dataset, clip.quadrant] += 1
    if not 2 <= n_folds <= len(songs):
        raise OtoscopeError(f"{len(songs)} songs cannot be dealt out to {n_folds} folds; take 2 to {len(songs)}")
    names = np.random.default_rng(seed).permutation(sorted(songs)).tolist()
    dealt: list[Counter[tuple[str, int | None]]] = [Counter() for _ in range(n_folds)]
    fold_of: dict[str, int] = {}
    for name in sorted(names, key=lambda name: -songs[name].total()):  # stable: random among equals
        kind = songs[name].most_common(1)[0][0]
        fold_of[name] = min(range(n_folds), key=lambda fold: (dealt[fold][kind], dealt[fold].total()))
        dealt[fold_of[name]].update(songs[name])
    return np.array([fold_of[clip.song] for clip in clips])
