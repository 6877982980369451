"""Rendering: MIDI files become recordings, once.

``fluidsynth -ni -q -g 0.8 -r 22050 -F out.wav FONT in.mid`` plays a MIDI file through a sound font. The result is kept
as mono 16-bit FLAC in a cache whose file names hold a hash of everything the sound depends on (the MIDI bytes, the
font's bytes, the settings), so a changed font or file is rendered anew and nothing else is. Files appear whole or not
at all: each is written beside its place and moved there. Two fonts give two timbres of the same music.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.whole_file import whole_file

RATE = 22050
GAIN = 0.8
TIMEOUT = 600.0  # seconds; the longest clip takes about two

Progress = Callable[[str], None]


def quiet(_: str) -> None:
    """Report no progress."""


def check_fonts(fonts: tuple[Path, ...]) -> None:
    """Refuse to start without the synthesiser or a font, before any work is done.

    Raises
    ------
    OtoscopeError
        Saying what to install.
    """
    if shutil.which("fluidsynth") is None:
        raise OtoscopeError("fluidsynth: not found; install it (Debian: apt install fluidsynth)")
    find_fonts(fonts)


def find_fonts(fonts: tuple[Path, ...]) -> None:
    """Raise an error for sound fonts that are not there, or that cannot be told apart by name."""
    for font in fonts:
        if not font.is_file():
            raise OtoscopeError(
                f"{font}: no such sound font; name another, or install one (Debian: fluid-soundfont-gm)"
            )
    if len({font.stem for font in fonts}) < len(fonts):
        raise OtoscopeError(f"two sound fonts have the same name: {', '.join(map(str, fonts))}; rename one")


def render(
    scores: Mapping[str, bytes], font: Path, *, cache: Path, workers: int = 2, progress: Progress = quiet
) -> dict[str, Path]:
    """Render MIDI files through one font.

    Parameters
    ----------
    scores : mapping of str to bytes
        Names and MIDI bytes.
    font : Path
        A sound font (sf2, sf3).
    cache : Path
        Folder for the recordings, made where missing.
    workers : int
        Synthesisers running at once.
    progress : callable
        Told after every hundredth file.

    Returns
    -------
    dict of str to Path
        The recordings, mono FLAC at 22,050 Hz.

    Raises
    ------
    OtoscopeError
        If the synthesiser or font is missing, or a file cannot be rendered.
    """
    check_fonts((font,))
    folder = cache / font.stem
    folder.mkdir(parents=True, exist_ok=True)
    settings = font_key(font)
    paths = {name: folder / f"{name}-{score_key(midi, settings)}.flac" for name, midi in scores.items()}
    missing = [name for name, path in paths.items() if not path.is_file()]

    def one(name: str) -> None:
        try:
            _synthesise(scores[name], font, paths[name])
        except OtoscopeError as error:
            raise OtoscopeError(f"{name}.mid: {error}") from None

    with ThreadPoolExecutor(workers) as pool:  # each thread only waits for a process
        for done, _ in enumerate(pool.map(one, missing), start=1):
            if done % 100 == 0 or done == len(missing):
                progress(f"rendered {done} of {len(missing)} clips with {font.stem}")
    return paths


def font_key(font: Path) -> str:
    """Hash a font's bytes and the settings of the synthesiser."""
    with font.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{digest} rate={RATE} gain={GAIN} mono"


def score_key(midi: bytes, settings: str) -> str:
    """Hash a MIDI file together with what `font_key` gave."""
    return hashlib.sha256(settings.encode() + b"\0" + midi).hexdigest()[:16]


def _synthesise(midi: bytes, font: Path, target: Path) -> None:
    """Render one MIDI file into a mono FLAC file."""
    with tempfile.TemporaryDirectory() as name:
        score, wave = Path(name, "in.mid"), Path(name, "out.wav")
        score.write_bytes(midi)
        command = ["fluidsynth", "-ni", "-q", "-g", str(GAIN), "-r", str(RATE), "-F", str(wave), str(font), str(score)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise OtoscopeError(f"fluidsynth took longer than {TIMEOUT:g} s; leave this file out") from None
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no sound came out"]
        if done.returncode != 0 or not wave.is_file():
            raise OtoscopeError(f"fluidsynth failed ({said[0]}); check the file and the font {font.name}")
        store(wave, target)


def store(wave: Path, target: Path) -> None:
    """Keep a recording as mono 16-bit FLAC; it appears whole or not at all."""
    import soundfile

    samples, rate = soundfile.read(wave, dtype="float32", always_2d=True)  # (n_samples, n_channels)
    if len(samples) == 0:
        raise OtoscopeError("holds no notes; leave this file out")
    with whole_file(target) as partial:
        soundfile.write(partial, samples.mean(axis=1), rate, format="FLAC", subtype="PCM_16")
