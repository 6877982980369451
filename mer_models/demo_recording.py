"""The recipe of ``demo.ogg``: notes → MIDI bytes → sound font → ogg.

Two piano pieces in the public domain that differ in almost everything an emotion model may listen to: the opening of
J. S. Bach's Prelude in C major (BWV 846, 1722), soft broken chords in major, and the opening of E. Grieg's "In the Hall
of the Mountain King" (op. 46 no. 4, 1875/1888) in B minor, here in octaves, loud and staccato, with its bass. The notes
below were written down from the scores; `midi` turns them into a standard MIDI file of format 0 (480 ticks a quarter).

Run ``python -m otoscope.mer_models.demo_recording --font FluidR3_GM.sf2`` to make the recording again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from otoscope.adapters.audio import load_audio
from otoscope.mer_models.render import render
from otoscope.mer_models.shipped import demo_recording

TICKS = 480  # per quarter note
BASIC_FONT = "/usr/share/sounds/sf2/FluidR3_GM.sf2"


@dataclass(frozen=True)
class Note:
    """One note: start and length in seconds, pitch as a MIDI number (A4 is 69), velocity 1 to 127."""

    start: float
    length: float
    pitch: int
    velocity: int


# Each bar of the prelude is one chord of five notes, broken twice: two held below, three repeated above.
PRELUDE = ((60, 64, 67, 72, 76), (60, 62, 69, 74, 77))
# Eighths of the theme from B3 on, in B minor; 0 is a rest. Below it the bass steps between tonic and fifth.
MOUNTAIN_KING = (59, 61, 62, 64, 66, 62, 66, 0, 65, 61, 65, 0, 64, 60, 64, 0)
MOUNTAIN_KING_END = (59, 61, 62, 64, 66, 62, 66, 71, 69, 66, 62, 66, 69, 0, 0, 0)


def prelude(*, sixteenth: float = 0.19, velocity: int = 50) -> list[Note]:
    """Break the chords: low, second, then the upper three twice, each half bar anew."""
    notes = []
    for bar, chord in enumerate(PRELUDE):
        for half in range(2):
            start = (16 * bar + 8 * half) * sixteenth
            for step, voice in enumerate((0, 1, 2, 3, 4, 2, 3, 4)):
                held = (8 - step) if voice < 2 else 1.5
                notes.append(Note(start + step * sixteenth, held * sixteenth, chord[voice], velocity))
    return notes


def mountain_king(start: float, *, eighth: float = 0.16, velocity: int = 112) -> list[Note]:
    """Play the theme in octaves, short and loud, over a bass of tonic and fifth."""
    notes = []
    for step, pitch in enumerate(MOUNTAIN_KING + MOUNTAIN_KING_END):
        time = start + step * eighth
        if pitch:
            notes += [Note(time, 0.4 * eighth, pitch + octave, velocity) for octave in (-12, 0, 12)]
        if step % 2 == 0:
            notes.append(Note(time, 0.4 * eighth, 35 if step % 4 == 0 else 42, velocity))
    return notes


def variable_length(value: int) -> bytes:
    """Write a number seven bits at a time, as MIDI writes its waiting times.

    >>> variable_length(480).hex()
    '8360'
    """
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | (value & 0x7F))
    return bytes(reversed(groups))


def midi(notes: Sequence[Note]) -> bytes:
    """Write notes as a standard MIDI file at 120 quarters a minute, the tempo of a file that names none."""
    per_second = 2 * TICKS
    events = [(round(note.start * per_second), 1, note.pitch, note.velocity) for note in notes]
    events += [(round((note.start + note.length) * per_second), 0, note.pitch, 0) for note in notes]
    track, now = bytearray(), 0
    for time, on, pitch, velocity in sorted(events):  # at one moment, ends come before beginnings
        track += variable_length(time - now) + bytes([0x90 if on else 0x80, pitch, velocity])
        now = time
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4) + (0).to_bytes(2) + (1).to_bytes(2) + TICKS.to_bytes(2)
    return header + b"MTrk" + len(track).to_bytes(4) + bytes(track)


def score() -> list[Note]:
    """List the notes of the whole recording: the prelude, then the mountain king."""
    return [*prelude(), *mountain_king(6.3)]


def make(target: Path, *, font: Path, seconds: float = 12.0) -> None:
    """Render the score into an ogg file, cut to length with a short fade."""
    import soundfile

    with tempfile.TemporaryDirectory() as cache:
        audio = load_audio(render({"demo": midi(score())}, font, cache=Path(cache))["demo"])
    samples = audio.samples[: round(seconds * audio.rate)].copy()
    samples *= 0.7 / np.abs(samples).max()
    fade = round(0.2 * audio.rate)
    samples[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    soundfile.write(target, samples, audio.rate, format="OGG", subtype="VORBIS")


def main() -> None:
    """Make ``demo.ogg``."""
    parser = argparse.ArgumentParser(description="make the demo recording again")
    parser.add_argument("--font", type=Path, default=Path(BASIC_FONT), help="FluidR3_GM.sf2 (MIT)")
    parser.add_argument("--out", type=Path, default=demo_recording())
    options = parser.parse_args()
    make(options.out, font=options.font)


if __name__ == "__main__":
    main()
