"""All data sets: which there are, and all that a folder holds as one table.

A folder has one sub-folder per data set, each as its authors distribute it:

===========  ===============================================  =========================================================
emotify      400 songs in four genres, 8,407 listenings       ``listeners.csv``, ``audio/``, or the authors' own layout
emopia       1,078 piano clips as MIDI, a quadrant each       ``midis.zip``
vgmidi       204 phrases of piano MIDI, a quadrant each       ``vgmidi_labelled.csv``, ``labelled/phrases.zip``
soundtracks  470 excerpts of film music, eight emotions       ``mean_ratings_set1.csv``, ``Set1/``, same of set 2
deam         1,802 songs, valence and arousal, also in time   ``DEAM_audio/``, ``DEAM_Annotations/``
pmemo        767 choruses, valence and arousal, also in time  ``PMEmo2019/``
midlevel     5,000 excerpts, seven mid-level features         ``metadata_annotations/``, ``audio/``
===========  ===============================================  =========================================================

The modules of these names (`midlevel_set` for the last) tell layouts, scales and sources. MIDI files are rendered by
the sound fonts that are named, and kept. Where Soundtracks and the mid-level set are both there, the excerpts that they
share are one row, with the ratings of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.mer_models.data import Clip
from otoscope.mer_models.deam import read_deam
from otoscope.mer_models.emopia import read_emopia
from otoscope.mer_models.emotify import read_emotify
from otoscope.mer_models.midlevel_set import joined, read_midlevel
from otoscope.mer_models.pmemo import read_pmemo
from otoscope.mer_models.render import Progress, find_fonts, quiet
from otoscope.mer_models.soundtracks import read_soundtracks
from otoscope.mer_models.vgmidi import read_vgmidi


@dataclass(frozen=True)
class Playing:
    """How MIDI files become recordings.

    Attributes
    ----------
    fonts : tuple of Path
        Sound fonts; each gives a rendering of its own.
    cache : Path
        Folder in which recordings are kept.
    workers : int
        Synthesisers running at once.
    progress : callable
        Told one line at a time how far it is.
    """

    fonts: tuple[Path, ...]
    cache: Path
    workers: int = 2
    progress: Progress = quiet


Reader = Callable[[Path, Playing], tuple[Clip, ...]]


READERS: dict[str, Reader] = {
    "emotify": lambda folder, how: read_emotify(folder, progress=how.progress),
    "emopia": lambda folder, how: read_emopia(
        folder, fonts=how.fonts, cache=how.cache, workers=how.workers, progress=how.progress
    ),
    "vgmidi": lambda folder, how: read_vgmidi(
        folder, fonts=how.fonts, cache=how.cache, workers=how.workers, progress=how.progress
    ),
    "soundtracks": lambda folder, how: read_soundtracks(folder, progress=how.progress),
    "deam": lambda folder, how: read_deam(folder, progress=how.progress),
    "pmemo": lambda folder, how: read_pmemo(folder, progress=how.progress),
    "midlevel": lambda folder, how: read_midlevel(folder, progress=how.progress),
}
MIDI = frozenset({"emopia", "vgmidi"})  # these need a sound font


def gather(
    data: str | Path,
    *,
    names: Iterable[str] | None = None,
    fonts: Sequence[str | Path] = (),
    cache: str | Path,
    workers: int = 2,
    progress: Progress = quiet,
) -> tuple[Clip, ...]:
    """List the clips of the data sets in a folder.

    Parameters
    ----------
    data : str or Path
        Has one sub-folder per data set, named as in `READERS`.
    names : iterable of str, optional
        Which data sets; all that are there where None.
    fonts : sequence of str or Path
        Sound fonts; needed for data sets of MIDI files.
    cache : str or Path
        Folder for rendered clips.
    workers : int
        Synthesisers running at once.
    progress : callable
        Told one line at a time how far it is.

    Returns
    -------
    tuple of Clip
        By data set, in the order of `READERS`.

    Raises
    ------
    OtoscopeError
        If there is no data set, or one is not as it should be.
    """
    data = Path(data)
    wanted = _chosen(data, names)
    for name in wanted:
        if name in MIDI and not fonts:
            raise OtoscopeError(f"{data / name}: holds MIDI files, which need a sound font; name one with --font")
    find_fonts(tuple(map(Path, fonts)))  # also where nothing is rendered: a mistyped name is not passed over
    how = Playing(tuple(map(Path, fonts)), Path(cache), workers, progress)
    found = {name: READERS[name](data / name, how) for name in wanted}
    if {"soundtracks", "midlevel"} <= found.keys():
        found["soundtracks"] = joined(found.pop("midlevel"), found["soundtracks"])
    return tuple(clip for clips in found.values() for clip in clips)


def _chosen(data: Path, names: Iterable[str] | None) -> list[str]:
    """Names of data sets, checked, in the order of `READERS`."""
    folders = [f"{name}/" for name in READERS]
    if not data.is_dir():
        raise OtoscopeError(f"{data}: no such folder; name the one that holds {' or '.join(folders)}")
    chosen = [name for name in READERS if (data / name).is_dir()] if names is None else list(names)
    for name in chosen:
        if name not in READERS:
            raise unknown("data set", name, READERS)
        if not (data / name).is_dir():
            raise OtoscopeError(f"{data}: does not hold {name}/; fetch it, or name the folder that does")
    if not chosen:
        raise OtoscopeError(f"{data}: holds neither {' nor '.join(folders)}; name the folder that does")
    return [name for name in READERS if name in chosen]
