"""Pairs of sounds that differ in one mid-level feature: a minor sequence and its major twin, march and rubato.

Each pair is two lists of notes, the first with *more* of the feature. `play` makes sound of them without a sound font:
a timbre is a list of partials with an attack and a decay, or noise. The same notes can be written as MIDI
(`otoscope.mer_models.demo_recording.midi`) and played by a synthesiser. The questions are those that the raters of
Aljanaki and Soleymani (2018) were asked:

melodiousness
    a tune over soft chords against drums, noise and clusters; small steps against leaps.
articulation
    one tune with notes of a fifth of their time against notes that join, alone and over held chords.
rhythmic_complexity
    3 against 4 against 5, syncopation and chance against a plain beat with as many strokes.
rhythmic_stability
    a march against rubato, by chance (each beat anew) and by slow waves.
dissonance
    clusters of seconds and tritones against triads.
tonal_stability
    a cadence in one key, major or minor, against one that modulates at every second chord and against chords of chance.
minorness
    a sequence with minor triads, natural and harmonic, against its major twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from otoscope.adapters.model import Float32, Floats
from otoscope.mer_models.demo_recording import Note

Chord = tuple[int, ...]

RATE = 22050
SECONDS = 10.0
RELEASE = 0.05  # seconds
LEVEL = 0.1  # amplitude of the first partial of a note with velocity 100


@dataclass(frozen=True)
class Timbre:
    """How notes sound.

    Attributes
    ----------
    partials : tuple of float
        Amplitudes; noise where empty.
    attack : float
        In seconds.
    decay : float
        In nepers a second.
    """

    partials: tuple[float, ...] = ()
    attack: float = 0.01
    decay: float = 0.0


TIMBRES = {
    "flute": Timbre((1, 0.25, 0.1, 0.04), attack=0.03),
    "organ": Timbre((1, 0.6, 0.5, 0.4, 0.3, 0.2, 0.2, 0.1)),
    "clarinet": Timbre((1, 0, 0.5, 0, 0.3, 0, 0.15, 0, 0.1), attack=0.02),
    "strings": Timbre(tuple(1 / h for h in range(1, 13)), attack=0.04),
    "plucked": Timbre(tuple(1 / h for h in range(1, 13)), attack=0.003, decay=3.0),
    "drum": Timbre(attack=0.001, decay=40.0),
    "hiss": Timbre(),
}
PITCHED = ("flute", "organ", "clarinet", "strings", "plucked")


@dataclass(frozen=True)
class Pair:
    """Two recordings, the first with more of one feature.

    Attributes
    ----------
    feature, name : str
    more, less : tuple of Note
    timbres : tuple of str
        That the pair makes sense in.
    other : str
        The timbre of `less`; that of `more` where "".
    """

    feature: str
    name: str
    more: tuple[Note, ...]
    less: tuple[Note, ...]
    timbres: tuple[str, ...] = PITCHED
    other: str = ""

    def sounds(self, timbre: str) -> tuple[Float32, Float32]:
        """Play both in one of the timbres."""
        return play(self.more, timbre=timbre), play(self.less, timbre=self.other or timbre)


def play(notes: Iterable[Note], *, timbre: str = "organ", seconds: float = SECONDS, seed: int = 0) -> Float32:
    """Make sound of notes, shape (n_samples,), at 22,050 Hz; `seed` draws the noise of drums."""
    rng = np.random.default_rng(seed)
    sound = np.zeros(round(seconds * RATE))
    for note in notes:
        start = round(note.start * RATE)
        wave = _tone(note, TIMBRES[timbre], rng)[: max(0, len(sound) - start)]
        sound[start : start + len(wave)] += LEVEL * note.velocity / 100 * wave
    return sound.astype(np.float32)


def _tone(note: Note, timbre: Timbre, rng: np.random.Generator) -> Floats:
    if timbre.partials:
        return _pitched(note.pitch, note.length, timbre)
    return rng.standard_normal(round((note.length + RELEASE) * RATE)) * _envelope(note.length, timbre)


@lru_cache(maxsize=256)
def _pitched(pitch: int, length: float, timbre: Timbre) -> Floats:
    time = np.arange(round((length + RELEASE) * RATE)) / RATE
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    wave = np.zeros(len(time))
    for number, amplitude in enumerate(timbre.partials, start=1):
        if amplitude and number * frequency < RATE / 2:
            wave += amplitude * np.sin(2 * np.pi * number * frequency * time + number)
    return np.asarray(wave * _envelope(length, timbre))


def _envelope(length: float, timbre: Timbre) -> Floats:
    time = np.arange(round((length + RELEASE) * RATE)) / RATE
    rise, fall = np.minimum(time / timbre.attack, 1), np.minimum((length + RELEASE - time) / RELEASE, 1)
    return np.asarray(rise * fall * np.exp(-timbre.decay * time))


MAJOR: tuple[Chord, ...] = ((60, 64, 67), (65, 69, 72), (67, 71, 74), (60, 64, 67), (57, 60, 64), (62, 65, 69))
NATURAL: tuple[Chord, ...] = ((60, 63, 67), (65, 68, 72), (67, 70, 74), (60, 63, 67), (56, 60, 63), (62, 65, 68))
HARMONIC: tuple[Chord, ...] = ((60, 63, 67), (65, 68, 72), (67, 71, 74), (60, 63, 67), (56, 60, 63), (62, 65, 68))
CLUSTERS: tuple[Chord, ...] = ((60, 61, 66), (62, 63, 68), (59, 65, 66), (64, 65, 70))
TUNE = (60, 62, 64, 65, 67, 65, 64, 62, 60, 64, 67, 72, 71, 67, 69, 65, 67, 64, 65, 62, 60, 64)
STEP = SECONDS / len(TUNE)


def chords(sequence: Sequence[Chord], *, up: int = 0, velocity: int = 100) -> tuple[Note, ...]:
    """Hold ten chords for a second each, the sequence from the start again where it is shorter."""
    return tuple(Note(i, 1.0, p + up, velocity) for i in range(10) for p in sequence[i % len(sequence)])


def tune(*, held: float = 1.0, pitches: Sequence[int] = TUNE, up: int = 0) -> tuple[Note, ...]:
    """Play a tune in even notes that sound for `held` of their time."""
    return tuple(Note(i * STEP, held * STEP, pitch + up, 100) for i, pitch in enumerate(pitches))


def strokes(times: Iterable[float], *, pitch: int = 60) -> tuple[Note, ...]:
    """Strike one note at these times, in seconds."""
    return tuple(Note(float(time), 0.1, pitch, 100) for time in times if 0 <= time < SECONDS)


def minor_pairs() -> list[Pair]:
    """Set minor against major, in four keys."""
    return [
        Pair("minorness", f"{name} minor, {up:+d} semitones", chords(minor, up=up), chords(MAJOR, up=up))
        for name, minor in (("natural", NATURAL), ("harmonic", HARMONIC))
        for up in (0, 3, -4, 6)
    ]


def tonal_pairs(seed: int) -> list[Pair]:
    """Set one key against modulation and chance; clusters against triads."""
    rng = np.random.default_rng(seed)
    chance = chords([tuple((60 + rng.permutation(12)[:3]).tolist()) for _ in range(10)])
    keys = (0, 0, 4, 4, 8, 8, 11, 11, 3, 3)
    modulating = chords([tuple(p + key for p in MAJOR[i % 2]) for i, key in enumerate(keys)])
    return [
        Pair("tonal_stability", "major key against chance", chords(MAJOR), chance),
        Pair("tonal_stability", "minor key against chance", chords(HARMONIC), chance),
        Pair("tonal_stability", "one key against modulation", chords(MAJOR), modulating),
        Pair("dissonance", "clusters against triads", chords(CLUSTERS), chords(MAJOR)),
    ]


def melody_pairs(seed: int) -> list[Pair]:
    """Set a tune against what cannot be sung; its notes cut short against its notes joined."""
    rng = np.random.default_rng(seed)
    soft = chords(((48, 52, 55), (53, 57, 60), (55, 59, 62)), velocity=30)
    leaps = tune(pitches=rng.integers(48, 88, len(TUNE)).tolist())
    noise = (Note(0, SECONDS, 60, 50),)
    sung = (*tune(up=12), *soft)
    return [
        Pair("melodiousness", "tune against noise", sung, noise, other="hiss"),
        Pair("melodiousness", "tune against drums", sung, strokes(np.arange(0, SECONDS, 0.25)), other="drum"),
        Pair("melodiousness", "tune against clusters", sung, (*chords(CLUSTERS), *soft)),
        Pair("melodiousness", "steps against leaps", tune(up=12), leaps),
        Pair("articulation", "staccato against legato", tune(held=0.2), tune(held=1.0)),
        Pair("articulation", "the same over chords", (*tune(held=0.2, up=12), *soft), (*tune(up=12), *soft)),
    ]


def rhythm_pairs(seed: int) -> list[Pair]:
    """Set march against rubato; many layers, syncopation and chance against a plain beat."""
    rng = np.random.default_rng(seed)
    struck = ("drum", "plucked")
    march = strokes(np.arange(0, SECONDS, 0.5))
    rubato = strokes(np.cumsum([0, *0.5 * np.exp(0.35 * rng.standard_normal(30))]))
    waves = strokes(np.cumsum(0.5 + 0.175 * np.sin(0.7 * np.arange(30) + seed)))
    layers = strokes(bar + 2 * i / n for bar in range(0, 10, 2) for n in (3, 4, 5) for i in range(n))
    off_beat = strokes(bar + 0.25 * i for bar in range(0, 10, 2) for i in (0, 1.5, 2.5, 3, 4.5, 6, 7.5))
    return [
        Pair("rhythmic_stability", "march against rubato", march, rubato, struck),
        Pair("rhythmic_stability", "march against waves", march, waves, struck),
        Pair("rhythmic_complexity", "3:4:5 against plain", layers, strokes(np.arange(0, SECONDS, 1 / 6)), struck),
        Pair(
            "rhythmic_complexity", "syncopated against plain", off_beat, strokes(np.arange(0, SECONDS, 2 / 7)), struck
        ),
        Pair(
            "rhythmic_complexity",
            "chance against plain",
            strokes(np.sort(rng.uniform(0, SECONDS, 40))),
            strokes(np.arange(0, SECONDS, 0.25)),
            struck,
        ),
    ]


def pairs(seed: int = 0) -> list[Pair]:
    """List all pairs; `seed` draws what is left to chance."""
    return [*melody_pairs(seed), *rhythm_pairs(seed), *tonal_pairs(seed), *minor_pairs()]
