"""The sounds of a listening test: two to compare, which nothing but what is in them tells apart.

*Equal loudness.* Both sounds are composed afresh from the parts, in one way, brought to one root-mean-square level,
`LEVEL`, or as near below as `PEAK` allows, measured once encoded, and encoded to the same number of bytes.

No two sounds to compare are the same bytes: noise of one 16-bit step lies under each, or evidence that is used twice
would be told by that. A whole recording, which is no secret, is encoded once for every level it is needed at.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.spectra import Floats
from otoscope.explainers.embedding import MP3_RATES, as_data, mp3, unbroken
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.listening import Pair, Rng

LEVEL = 0.1  # root mean square, −20 dB of full scale
PEAK = 0.9  # of full scale: what encoding adds stays below 1
MOST_MADE_UP = 1.1  # gain for what encoding takes away
STEP = 2.0**-16  # standard deviation of the noise under each sound

Recordings = dict[tuple[str, float], tuple[str, float]]  # hash and level: data and gain


@dataclass(frozen=True, eq=False)
class Sounds:
    """Two sounds to compare and the recording, each as data, with the gains that brought them to one level."""

    evidence: str
    other: str
    recording: str | None
    gains: dict[str, float]
    level: float  # root mean square, of full scale


def sounds_of(pair: Pair, explanation: Explanation, *, rng: Rng, recordings: Recordings | None = None) -> Sounds:
    """Compose, level and encode the sounds of a pair; the recording too where those encoded before are given."""
    parts, rate = explanation.parts, explanation.parts.audio.rate
    played = parts.compose(np.stack([pair.candidate.evidence, pair.other.parts]))
    audios = {"evidence": Audio(played[0], rate), "random": Audio(played[1], rate)}
    if recordings is not None:
        audios["recording"] = parts.audio
    if rate not in MP3_RATES:  # before levelling, as resampling moves the peaks
        audios = {name: audio.at(44100) for name, audio in audios.items()}
    gains, level = equal_loudness({name: audio.samples.astype(np.float64) for name, audio in audios.items()})
    encoded: dict[str, bytes] = {}
    for name in ("evidence", "random"):
        encoded[name], gains[name] = _encode_at(level, audios[name], gains[name], rng)
    size = max(map(len, encoded.values()))
    evidence, other = (as_data("audio/mpeg", padded(content, size)) for content in encoded.values())
    recording = None
    if recordings is not None:
        key = (parts.audio.sha256, level)
        if key not in recordings:
            content, gain = _encode_at(level, audios["recording"], gains["recording"], rng)
            recordings[key] = as_data("audio/mpeg", content), gain
        recording, gains["recording"] = recordings[key]
    return Sounds(evidence, other, recording, gains, level)


def equal_loudness(sounds: Mapping[str, Floats]) -> tuple[dict[str, float], float]:
    """Gains that bring sounds, each (n_samples,), to one root-mean-square level at which none clips, and that level."""
    rms = {name: float(np.sqrt(np.mean(samples**2))) for name, samples in sounds.items()}
    level = min(LEVEL, *(PEAK * rms[name] / float(np.abs(samples).max()) for name, samples in sounds.items()))
    return {name: level / own for name, own in rms.items()}, level


def _encode_at(level: float, audio: Audio, gain: float, rng: Rng) -> tuple[bytes, float]:
    """Encode a sound, its gain corrected by what encoding took away; give that gain too."""
    lost = level / _level(_encode(audio, gain, rng), len(audio.samples))
    gain *= min(lost, MOST_MADE_UP)  # MP3 takes away what is very high
    return _encode(audio, gain, rng), gain


def _encode(audio: Audio, gain: float, rng: Rng) -> bytes:
    samples = audio.samples * gain + STEP * rng.standard_normal(len(audio.samples))
    return base64.b64decode(mp3(Audio(samples.astype(np.float32), audio.rate)).partition(",")[2])


def _level(content: bytes, n_samples: int) -> float:
    """Measure the root mean square of an MP3 of so many samples, of full scale."""
    import soundfile

    samples, _ = unbroken(lambda: soundfile.read(io.BytesIO(content)))
    return math.sqrt(float(np.sum(samples**2)) / n_samples)


def padded(content: bytes, size: int) -> bytes:
    """Put an ID3v2.4 tag with a text of blanks before an MP3, so that every one of up to `size` bytes gets one length.

    >>> len(padded(bytes(100), 120)), len(padded(bytes(120), 120))
    (152, 152)
    """
    text = b"\3\0" + b" " * (size - len(content) + 10)  # UTF-8, no description, the text
    frame = b"TXXX" + _syncsafe(len(text)) + b"\0\0" + text
    return b"ID3\4\0\0" + _syncsafe(len(frame)) + frame + content


def _syncsafe(number: int) -> bytes:
    """Write a number in four bytes of seven bits, as ID3 does."""
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))
