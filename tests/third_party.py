"""Other people's models: their files beside their cards, and their front ends written again, plainly, in numpy."""

from __future__ import annotations

import os
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.builders import DATA

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

CARDS = Path(__file__).parents[1] / "docs" / "cards"
INSTALL = "pip install --no-deps -r tests/third_party.txt"


def place(name: str, folder: Path) -> Path:
    """Lay a card and what it names into a folder, as its guide says; skip where the model is not there.

    Parameters
    ----------
    name : str
        Of the card, e.g. ``yamnet``.
    folder : Path
    """
    about = tomllib.loads((CARDS / f"{name}.toml").read_text(encoding="utf-8"))["model"]
    package = about.get("package", "")
    if package and find_spec(package) is None:
        pytest.skip(f"needs the package {package}; run: {INSTALL}")
    if not package:
        _copy(DATA / "models" / about["path"], folder)
    for beside in (about["labels"], about.get("settings", {}).get("factory", "").partition(":")[0]):
        if isinstance(beside, str) and beside:
            _copy(CARDS / beside if (CARDS / beside).is_file() else DATA / "models" / beside, folder)
    return Path(shutil.copyfile(CARDS / f"{name}.toml", folder / f"{name}.toml"))


def _copy(file: Path, folder: Path) -> None:
    """Put a file into a folder; a model by a hard link where that goes."""
    if not file.is_file():
        pytest.skip(f"needs {file}; set OTOSCOPE_DATA")
    if (folder / file.name).exists():
        return
    try:
        if file.parent == CARDS:
            raise OSError("stays as it is, whatever a test does to the copy")
        os.link(file, folder / file.name)
    except OSError:
        shutil.copyfile(file, folder / file.name)


def frames(samples: Float32, length: int, hop: int) -> Floats:
    """Cut into frames, shape (n_frames, length)."""
    n_frames = 1 + (len(samples) - length) // hop
    return np.stack([samples[i * hop : i * hop + length].astype(np.float64) for i in range(n_frames)])


def hann(length: int) -> Floats:
    """Periodic Hann window."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length))


def musicnn_bands(samples: Float32) -> Float32:
    """Make MusiCNN's input from 16,000 Hz, shape (187, 96).

    Frames of 512 samples around every 256th, zeros beyond the edges; power; 96 mel bands; log10(10,000 x + 1).
    """
    import librosa

    around = np.pad(samples, 256)
    power = np.abs(np.fft.rfft(frames(around, 512, 256) * hann(512))) ** 2  # (n_frames, 257)
    bands = power @ librosa.filters.mel(sr=16000, n_fft=512, n_mels=96).T
    return np.asarray(np.log10(10000 * bands + 1)[:187], dtype=np.float32)


def vibenet_mel(samples: Float32) -> Float32:
    """Make VibeNet's input from 16,000 Hz, shape (128, n_frames).

    Frames of 640 samples every 320, filled up to 1024; power; 128 mel bands; decibels, 80 below the loudest at least.
    """
    import librosa

    power = np.abs(np.fft.rfft(frames(samples, 640, 320) * hann(640), n=1024)) ** 2  # (n_frames, 513)
    bands = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=128, fmin=0.0, fmax=8000.0) @ power.T
    levels = 10 * np.log10(np.maximum(1e-10, bands))
    return np.asarray(np.maximum(levels, levels.max() - 80), dtype=np.float32)


def session(path: Path) -> Any:
    """Open an ONNX file without any of our code."""
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


class Lite:
    """A TFLite file without any of our code, one item at a time."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_path=str(path))
        self.interpreter.allocate_tensors()

    def __call__(self, item: Float32) -> Float32:
        """Answer for one item in the shape that the file declares."""
        taken, given = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]
        self.interpreter.set_tensor(taken["index"], item.reshape(taken["shape"]))
        self.interpreter.invoke()
        return np.array(self.interpreter.get_tensor(given["index"]))


# The AudioSet classes that ESC-10's classes are called in AudioSet's own words.
ESC10 = {
    "baby_cry": ("Baby cry, infant cry", "Crying, sobbing"),
    "chainsaw": ("Chainsaw",),
    "clock_tick": ("Tick-tock", "Tick", "Clock"),
    "dog_bark": ("Dog", "Bark"),
    "fire_crackling": ("Fire", "Crackle"),
    "helicopter": ("Helicopter",),
    "person_sneeze": ("Sneeze",),
    "rain": ("Rain", "Raindrop", "Rain on surface"),
    "rooster": ("Chicken, rooster", "Crowing, cock-a-doodle-doo"),
    "sea_waves": ("Waves, surf", "Ocean"),
}
