"""A small world for the mid-level networks: short sounds whose ratings follow from what can be heard in them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import Floats
from otoscope.adapters.spectra import Stft
from otoscope.mer_models.data import Clip
from otoscope.mer_models.descriptors import FEATURES
from otoscope.mer_models.midlevel_layers import Settings
from otoscope.mer_models.midlevel_nets import FRONT_END, HEARING
from otoscope.mer_models.soundtracks import EMOTIONS

RATE = 8000
N_SAMPLES = 6400
NARROW = Settings(channels=(4, 4, 6, 6, 8, 8, 8, 8, 16), dropout=0.0)
SMALL: Hearing = replace(
    HEARING,
    rate=RATE,
    n_samples=N_SAMPLES,
    front_end=replace(FRONT_END, rate=RATE, stft=Stft(512, 128, window="hann_symmetric"), n_bands=12, fmax=4000.0),
)
# Every emotion hangs on one feature, up or down, and a little on the others.
EMOTION_WEIGHTS = 0.8 * np.resize(np.eye(7) * np.array([1, -1, 1, -1, 1, -1, 1])[:, None], (8, 7))
EMOTION_WEIGHTS += np.random.default_rng(5).uniform(-0.05, 0.05, EMOTION_WEIGHTS.shape)


def rate_features(pitch: float, staccato: float, hiss: float) -> Floats:
    """Seven ratings from 1 to 9 of a sound with these properties, each 0 to 1."""
    heard = [1 - hiss, staccato, hiss, 1 - staccato, hiss, 1 - hiss, pitch]
    return 1 + 8 * np.array(heard)


def sound(pitch: float, staccato: float, hiss: float, *, seconds: float = 1.0, seed: int = 0) -> Floats:
    """Play notes of a sine, high or low, short or long, with more or less noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    notes = np.sin(2 * np.pi * 200 * 2 ** (3 * pitch) * time) * (time * 5 % 1 < 1 - 0.8 * staccato)
    return 0.3 * notes + 0.15 * hiss * np.random.default_rng(seed).standard_normal(len(time))


def tiny_clips(folder: Path, n: int = 24, *, seed: int = 0, **changes: Any) -> list[Clip]:
    """Write sounds of a second and rate them; emotions are linear in the features."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, clips = np.random.default_rng(seed), []
    for index in range(n):
        properties = rng.uniform(size=3).tolist()
        path = folder / f"{index:03d}.wav"
        soundfile.write(path, sound(*properties, seed=index), RATE, subtype="FLOAT")
        features = rate_features(*properties)
        emotions = 5 + EMOTION_WEIGHTS @ (features - 5)
        ratings = dict(zip(FEATURES + EMOTIONS, [*features.tolist(), *emotions.tolist()], strict=True))
        clips.append(Clip(path.stem, path, f"soundtracks:{index:03d}", "soundtracks", ratings=ratings))
    return [replace(clip, **changes) for clip in clips]
