"""The MIDI files of a data set: read from a zip archive or a folder, and played by sound fonts.

An archive is looked at before it is unpacked (bombs and climbing names are refused), and nothing of it is written to
disk. A file that does not begin as MIDI files do is told by name, before any is rendered.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from otoscope.adapters.errors import OtoscopeError, plain
from otoscope.adapters.safety import open_checked
from otoscope.mer_models.render import Progress, check_fonts, render

SUFFIXES = frozenset({".mid", ".midi"})
HEAD = b"MThd"


def packed(path: Path) -> dict[str, bytes]:
    """Read the MIDI files in a zip archive, by name without suffix, in ascending order.

    Raises
    ------
    OtoscopeError
        Naming the archive, or the file in it, and the fault.
    """
    if not path.is_file():
        raise OtoscopeError(f"{path}: no such file; fetch the data set and put its MIDI files there")
    open_checked(path, {"zip"}, trust=False, remedy="fetch it again")
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.namelist()):
                name = PurePosixPath(member)
                if name.suffix.casefold() in SUFFIXES and not name.name.startswith("."):
                    found[name.stem] = _checked(archive.read(member), f"{path}: {plain(member)}", name.stem in found)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
        raise OtoscopeError(f"{path}: cannot be read ({error}); fetch it again") from None
    if not found:
        raise OtoscopeError(f"{path}: holds no MIDI files (*.mid); fetch it again")
    return found


def loose(folder: Path) -> dict[str, bytes]:
    """Read the MIDI files in a folder, by name without suffix, in ascending order."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.casefold() in SUFFIXES and not path.name.startswith("."):
            found[path.stem] = _checked(path.read_bytes(), str(path), path.stem in found)
    if not found:
        raise OtoscopeError(f"{folder}: holds no MIDI files (*.mid); fetch them and put them there")
    return found


def _checked(midi: bytes, where: str, doubled: bool) -> bytes:
    if not midi.startswith(HEAD):
        raise OtoscopeError(f"{where}: is no MIDI file; fetch it again or leave it out")
    if doubled:
        raise OtoscopeError(f"{where}: is there twice by name; remove one of them")
    return midi


def play(
    scores: Mapping[str, bytes],
    fonts: Sequence[str | Path],
    *,
    cache: str | Path,
    workers: int,
    progress: Progress,
) -> dict[str, dict[str, Path]]:
    """Render MIDI files by each sound font; what was rendered before is taken from the cache.

    Returns
    -------
    dict of str to dict of str to Path
        Name of the font → name of the score → recording.
    """
    sources = tuple(Path(font) for font in fonts)
    if not sources:
        raise OtoscopeError("MIDI files need a sound font; name one with --font")
    check_fonts(sources)
    return {font.stem: render(scores, font, cache=Path(cache), workers=workers, progress=progress) for font in sources}
