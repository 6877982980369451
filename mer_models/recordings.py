"""The recordings that a data set's table names: found by name, whatever their format, and their headers read.

Tables name recordings by numbers or short names, folders hold them as 7.mp3, 007.mp3 or 007.ogg, depending on the
release. A number is the same with and without leading zeros. What is missing, doubled, empty or no audio is told
before any work, with the file's name; what the table does not name is left out, and told as progress.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from otoscope.adapters.audio import opened
from otoscope.adapters.errors import OtoscopeError, plain
from otoscope.mer_models.render import Progress, quiet

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff"})


def subfolder(folder: str | Path, *names: str) -> Path:
    """Find the first of these folders that holds recordings, at any depth, whatever its case.

    Raises
    ------
    OtoscopeError
        If there is none, or it is packed still.
    """
    folder = Path(folder)
    inner = sorted(path for path in folder.rglob("*") if not path.name.startswith("."))
    wanted = [name.casefold() for name in names]
    fitting = [path for name in wanted for path in inner if path.is_dir() and path.name.casefold() == name]
    for path in fitting:
        if any(_is_recording(file) for file in path.iterdir()):
            return path
    for path in inner:
        if path.suffix.casefold() == ".zip" and path.stem.casefold() in wanted:
            raise OtoscopeError(f"{path}: is packed; unpack it there")
    if fitting:
        raise OtoscopeError(f"{fitting[0]}: holds no recordings; fetch them and put them there")
    raise OtoscopeError(f"{folder}: holds no folder {' or '.join(names)}; fetch the recordings and put them there")


def find(folder: Path, wanted: Mapping[str, str], *, progress: Progress = quiet) -> dict[str, Path]:
    """Find recordings and read their headers.

    Parameters
    ----------
    folder : Path
    wanted : mapping of str to str
        Name without suffix → where it is named, for errors.
    progress : callable
        Told what the folder holds besides.

    Returns
    -------
    dict of str to Path

    Raises
    ------
    OtoscopeError
        Naming what is missing, doubled, empty or no audio.
    """
    there = _listed(folder)
    keys = {_key(name): name for name in wanted}
    strange = [path.name for key, path in there.items() if key not in keys]
    missing = [name for key, name in keys.items() if key not in there]
    if missing:
        first, others = missing[0], len(missing) - 1
        more = f" (and {others} more)" if others else ""
        besides = f"; it holds {plain(strange[0])}, which no table names" if strange else ""
        raise OtoscopeError(
            f"{folder / first}.*: no such recording{more}, but {wanted[first]} names it{besides}; fetch it again"
        )
    if strange:
        some = plain(", ".join(strange[:3])) + (", …" if len(strange) > 3 else "")
        progress(f"{folder}: {len(strange)} recordings that no table names are left out: {some}")
    for key in keys:
        with opened(there[key]):
            pass  # the header can be read
    return {name: there[key] for key, name in keys.items()}


def _key(name: str) -> str:
    return str(int(name)) if name.isascii() and name.isdecimal() and len(name) < 19 else name.casefold()


def _is_recording(path: Path) -> bool:
    return path.suffix.casefold() in SUFFIXES and not path.name.startswith(".")  # such are not meant to be seen


def _listed(folder: Path) -> dict[str, Path]:
    """List the recordings in a folder by name."""
    if not folder.is_dir():
        raise OtoscopeError(f"{folder}: no such folder; fetch the recordings and put them there")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not _is_recording(path):
            continue
        if (key := _key(path.stem)) in found:
            raise OtoscopeError(f"{path}: is the same recording as {found[key].name} by name; remove one of them")
        found[key] = path
    return found
