"""The sounds of generated scenes: music, and the cues and decoys that are planted in it.

All last three seconds at 16 kHz, shape (n_samples,), and have a loudness, the root mean square while they sound. Music
is generated (`tests.builders.music`), or an excerpt of a real recording where there are any. Where a sound lies is a
union of boxes in seconds × hertz.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import fft

from otoscope.adapters.audio import Audio, load_audio
from tests.builders import DATA, Float32, music, tone
from tests.planted import Box, place

RATE = 16000
SECONDS = 3.0
N_SAMPLES = round(RATE * SECONDS)
LOUDNESS = 0.1  # root mean square of the music
Where = Literal["time", "frequency", "both"]
Boxes = tuple[Box, ...]


@dataclass(frozen=True, eq=False)
class Planted:
    """A sound and where it lies.

    Attributes
    ----------
    samples : ndarray, shape (n_samples,)
        Silent outside the boxes.
    boxes : tuple of boxes
    """

    samples: Float32
    boxes: Boxes

    @cached_property
    def region(self) -> npt.NDArray[np.bool_]:
        """Cells of the common grid on which it lies, widened by the STFT's resolution."""
        return place(self.boxes, rate=RATE, seconds=SECONDS)


@lru_cache
def recordings() -> tuple[Audio, ...]:
    """Read the real recordings that are long enough, once."""
    found = [load_audio(path).at(RATE) for path in sorted((DATA / "music").glob("*.ogg"))]
    return tuple(audio for audio in found if audio.seconds > SECONDS + 1)


def background(rng: np.random.Generator) -> Float32:
    """Draw music, shape (n_samples,): an excerpt of a real recording where there are any, or generated notes."""
    known = recordings()
    if known and rng.random() < 0.5:
        audio = known[rng.integers(len(known))]
        sound = audio.cut(rng.uniform(0, audio.seconds - SECONDS), SECONDS).samples[:N_SAMPLES]
    else:
        sound = music(seconds=SECONDS, rate=RATE, seed=int(rng.integers(2**31)))
    return np.asarray(sound * (LOUDNESS / max(1e-9, rms(sound))), dtype=np.float32)


def rms(sound: npt.NDArray[np.floating]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


def apart(sounds: Sequence[Planted]) -> bool:
    """Whether no two sounds share a cell of the common grid."""
    return int(np.sum([one.region for one in sounds], axis=0).max()) <= 1


Drawn = tuple[Float32, tuple[Planted, ...], tuple[Planted, ...]]  # music, cues, decoys


def _stretches(rng: np.random.Generator, ground: Float32, n_cues: int, level: float) -> Drawn | None:
    """Turn the music down in stretches; the model hears all that is left there."""
    rest, found = ground.copy(), []
    for start in np.sort(rng.uniform(0.1, SECONDS - 0.7, n_cues + 1)):
        end = start + rng.uniform(0.35, 0.6)
        gate = _gate(start - 0.01, end + 0.01)  # the ramps lie outside
        passage = gate * ground
        loudness = rms(passage) * np.sqrt(SECONDS / (end - start))
        if loudness < 0.1 * LOUDNESS:
            return None
        rest *= 1 - gate
        found.append(Planted(passage * np.float32(level / loudness), ((start, end, 0.0, RATE / 2),)))
    order = rng.permutation(len(found))
    chosen = [found[index] for index in order]
    return (rest, tuple(chosen[:n_cues]), tuple(chosen[n_cues:])) if apart(found) else None


def _throughout(rng: np.random.Generator, ground: Float32, n_cues: int, level: float) -> Drawn | None:
    """Add bands of noise or harmonic series that sound all the time."""
    kind = (_series, _hiss)[rng.integers(2)]
    found = [kind(rng, 0.0, SECONDS, level, _pitch(rng)) for _ in range(n_cues + 1)]
    return (ground, tuple(found[:n_cues]), tuple(found[n_cues:])) if apart(found) else None


def _moments(rng: np.random.Generator, ground: Float32, n_cues: int, level: float) -> Drawn | None:
    """Add bursts, chirps or bands of noise; one decoy has the first cue's pitch and the other one its time."""
    kind = (_burst, _chirp, _hiss)[rng.integers(3)]
    length, pitches = rng.uniform(0.3, 0.6), [_pitch(rng) for _ in range(n_cues + 1)]
    starts = rng.uniform(0.05, SECONDS - length - 0.05, n_cues + 1)
    turn = int(rng.integers(2**31))  # cue and decoy alike

    def sound(start: float, pitch: float) -> Planted:
        return kind(np.random.default_rng(turn), start, start + length, level, pitch)

    cues = [sound(start, pitch) for start, pitch in zip(starts[:n_cues], pitches[:n_cues], strict=True)]
    decoys = [sound(starts[-1], pitches[0]), sound(starts[0], pitches[-1])]
    return (ground, tuple(cues), tuple(decoys)) if apart([*cues, *decoys]) else None


DRAW: dict[Where, Callable[[np.random.Generator, Float32, int, float], Drawn | None]] = {
    "time": _stretches,
    "frequency": _throughout,
    "both": _moments,
}


def _pitch(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(250), np.log(5000))))


def _gate(start: float, end: float) -> Float32:
    """One between two times with ramps of 10 ms, zero elsewhere."""
    time = np.arange(N_SAMPLES) / RATE
    return np.clip(np.minimum((time - start) / 0.01, (end - time) / 0.01), 0, 1).astype(np.float32)


def _levelled(sound: npt.NDArray[np.floating], start: float, end: float, level: float) -> Float32:
    """Give a sound its loudness while it sounds."""
    return np.asarray(sound * (level / (rms(sound) * np.sqrt(SECONDS / (end - start)))), dtype=np.float32)


def _around(start: float, end: float, low: float, high: float) -> Box:
    """Box around frequencies, with room for the skirts of what starts and stops."""
    return (start, end, low - max(25, 0.01 * low), high + max(25, 0.01 * high))


def _burst(_rng: np.random.Generator, start: float, end: float, level: float, pitch: float) -> Planted:
    """Tone."""
    sound = _gate(start, end) * tone(pitch, seconds=SECONDS, rate=RATE)
    return Planted(_levelled(sound, start, end, level), (_around(start, end, pitch, pitch),))


def _series(rng: np.random.Generator, start: float, end: float, level: float, pitch: float) -> Planted:
    """Three to five partials."""
    fundamental, n = pitch / 2, int(rng.integers(3, 6))
    partials = [h * fundamental for h in range(1, n + 1) if h * fundamental < 0.45 * RATE]
    sound = sum(tone(f, seconds=SECONDS, rate=RATE, level=1 / h) for h, f in enumerate(partials, start=1))
    boxes = tuple(_around(start, end, f, f) for f in partials)
    return Planted(_levelled(_gate(start, end) * sound, start, end, level), boxes)


def _chirp(rng: np.random.Generator, start: float, end: float, level: float, pitch: float) -> Planted:
    """Glide by a third to an octave, up or down, in a staircase of boxes."""
    octaves = rng.uniform(0.3, 1.0) * rng.choice([-1, 1])
    along = np.clip((np.arange(N_SAMPLES) / RATE - start) / (end - start), 0, 1)
    sound = _gate(start, end) * np.sin(2 * np.pi * np.cumsum(pitch * 2 ** (octaves * along)) / RATE)
    steps = np.linspace(0, 1, 7)
    times, pitches = start + steps * (end - start), pitch * 2 ** (octaves * steps)
    boxes = tuple(_around(times[i], times[i + 1], *sorted(pitches[i : i + 2])) for i in range(6))
    return Planted(_levelled(sound, start, end, level), boxes)


def _hiss(rng: np.random.Generator, start: float, end: float, level: float, pitch: float) -> Planted:
    """Noise in a band of a third of an octave."""
    spectrum = fft.rfft(rng.standard_normal(N_SAMPLES))
    frequencies = np.arange(len(spectrum)) / SECONDS
    low, high = pitch * 2 ** (-1 / 6), pitch * 2 ** (1 / 6)
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    sound = _gate(start, end) * fft.irfft(spectrum, n=N_SAMPLES)
    return Planted(_levelled(sound, start, end, level), (_around(start, end, low, high),))
