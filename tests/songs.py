"""Tiny copies of the data sets, and where the real ones lie."""

import os
import stat
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from otoscope.adapters.model import Float32
from otoscope.mer_models.demo_recording import Note, midi
from otoscope.mer_models.harmonics import RATE
from tests.builders import DATA

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the recordings (OTOSCOPE_DATA or ../shared/data)")
HEADER = (
    "track id, genre, amazement, solemnity, tenderness, nostalgia, calmness, power, joyful_activation, tension, "
    "sadness, mood, liked, disliked, age, gender, mother tongue\n"
)

# A synthesiser for tests: counts its calls and writes one second of a tone that depends on the MIDI file's bytes.
SYNTHESISER = """#!{python}
import sys, zlib, pathlib
import numpy as np, soundfile
arguments = sys.argv[1:]
rate, target = int(arguments[arguments.index("-r") + 1]), arguments[arguments.index("-F") + 1]
score = pathlib.Path(arguments[-1]).read_bytes()
with open({calls!r}, "a") as file:
    file.write(" ".join(arguments) + "\\n")
if b"broken" in score:
    sys.exit("no notes")
tone = 0.1 * np.sin(np.arange(rate) * (1 + zlib.crc32(score) % 7) / 20)
soundfile.write(target, np.stack([tone, 0 * tone], 1), rate)
"""


def install_synthesiser(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the test synthesiser on the path; give the file that lists its calls."""
    programs, calls = folder / "bin", folder / "calls"
    programs.mkdir()
    program = programs / "fluidsynth"
    program.write_text(SYNTHESISER.format(python=sys.executable, calls=str(calls)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    calls.touch()
    return calls


def tone(frequency: float, *, seconds: float = 6.5, level: float = 0.2, seed: int = 0) -> Float32:
    """Sine with a little noise, shape (n_samples,)."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (level * np.sin(2 * np.pi * frequency * time) + 1e-3 * noise).astype(np.float32)


def tiny_emopia(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "midis.zip", "w") as archive:
        archive.writestr("midis/", "")
        for index, name in enumerate(names):
            archive.writestr(f"midis/{name}.mid", midi([Note(0, 0.5, 50 + index, 90)]))
    return folder


def tiny_emotify(folder: Path, rows: list[str]) -> Path:
    (folder / "audio").mkdir(parents=True)
    (folder / "listeners.csv").write_text(HEADER + "".join(f"{row},3,1,0,30,1,English\n" for row in rows))
    for track in {int(row.split(",")[0]) for row in rows}:
        tone = 0.1 * np.sin(np.arange(22050) * track / 30)
        soundfile.write(folder / "audio" / f"{track:03d}.ogg", tone, 22050, format="OGG", subtype="VORBIS")
    return folder


def tiny_font(folder: Path, name: str = "piano") -> Path:
    path = folder / f"{name}.sf2"
    path.write_bytes(f"the font {name}".encode())
    return path
