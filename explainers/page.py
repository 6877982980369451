"""What the page of a recording plays with: sounds, parts, weights and the model's own answers, as JSON.

The page takes the sound apart by itself (``sound.js``), so it holds each explained span once, and for each way to take
it apart the map of which cell belongs to which part: a few kilobytes, where a sound for each of 64 parts would take
megabytes. Parts that overlap (soft masks, stems) cannot be had from such a map; they come as sounds.

Sounds are FLAC of 16 bits: all browsers of the last years play it, and a mix made in the page is that of the
explanation to rounding. (MP3 and Opus are a quarter of the size, but 20 dB below the music lies what they changed, and
Opus cuts off what is very low; ``python -m tests.bench_page`` measures it.)

A score is predicted for every mix: ``base`` + Σ weights of what is on. Where the model itself was asked about a mix, of
all parts, none, the evidence, everything else, or the steps of the insertion and deletion curves, its answer is shown
beside the prediction.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.adapters.audio import Audio
from otoscope.explainers.embedding import sound_file
from otoscope.explainers.explanation import Explanation, Score
from otoscope.explainers.faithfulness import ranking
from otoscope.explainers.gates import own_calls, weights_on
from otoscope.explainers.parts import Parts
from otoscope.explainers.targets import on_scale

Data = dict[str, Any]

FAINT = 0.1  # of full scale: quieter sounds are raised before they are rounded to 16 bits
DECIMALS = 5


def page_data(explanations: list[Explanation]) -> Data:
    """Gather what the page of a recording needs.

    Parameters
    ----------
    explanations : list of Explanation
        Of one recording, in the order in which they are to be shown.

    Returns
    -------
    dict
        ``sounds``, ``phases`` (of the off value ``noise``), ``parts`` and ``explanations``; what several explanations
        share is there once.
    """
    sounds: dict[str, Data] = {}
    parts: dict[str, Data] = {}
    phases: list[str] = []
    entries = []
    for explanation in explanations:
        audio = explanation.parts.audio
        sound = _key(audio.samples, audio.rate)
        if sound not in sounds:
            sounds[sound] = encoded(audio)
        way = _key(explanation.parts.labels, sound, *_particular(explanation.parts))
        if way not in parts:
            parts[way] = taken_apart(explanation.parts)
            if "phase" in parts[way]:  # one for all ways to take a sound apart, and large
                phase = parts[way]["phase"]
                phases += [] if phase in phases else [phase]
                parts[way]["phase"] = phases.index(phase)
        entries.append(
            {**entry(explanation), "sound": list(sounds).index(sound), "parts": list(parts).index(way)},
        )
    shared = {"sounds": list(sounds.values()), "phases": phases, "parts": list(parts.values())}
    return {**shared, "explanations": entries}


def encoded(audio: Audio) -> Data:
    """Encode a sound: FLAC as text, its rate, its length, and by what its samples are to be multiplied."""
    peak = float(np.abs(audio.samples).max())
    gain = peak if peak > 1 or 0 < peak < FAINT else 1.0
    content = sound_file(audio.samples / gain, audio.rate, kind="FLAC", subtype="PCM_16")
    return {"rate": audio.rate, "n_samples": len(audio.samples), "gain": gain, "data": _text(content)}


def taken_apart(parts: Parts) -> Data:
    """Tell how a sound is taken apart: which part each cell belongs to, or the sounds of parts that overlap."""
    found: Data = {"k": parts.k, "n_fft": parts.stft.n_fft, "hop_length": parts.stft.hop_length, "off": parts.off}
    if parts.k < 256:
        found["labels"] = _packed(parts.labels.T.astype(np.uint8))
    else:
        found["wide_labels"] = _packed(parts.labels.T.astype("<u2"))
    overlap = parts.shares is not None or parts.recorded is not None
    if overlap:
        found["sounds"] = [encoded(Audio(sound, parts.audio.rate, "")) for sound in parts.sounds]
        if parts.offs is not None:
            found["offs"] = [encoded(Audio(sound, parts.audio.rate, "")) for sound in parts.offs]
    elif parts.off == "noise" and parts.off_spectrum is not None:
        found["phase"] = _packed(np.round(parts.off_spectrum.angle().numpy().T / np.pi * 32767).astype("<i2"))
    return found


def entry(explanation: Explanation) -> Data:
    """Gather what is shown of one explanation."""
    e = explanation
    base, error = prediction(e)
    return {
        "method": e.method,
        "model": e.model,
        "target": e.target.name,
        "start": round(e.span.start, DECIMALS),
        "units": e.units,
        "probability": e.scale == "log_odds" and e.target.against is None,
        "names": list(e.names),
        "weights": _rounded(e.weights),
        "se": None if e.se is None else _rounded(e.se),
        "energy": _rounded(e.energy),
        "groups": None if e.groups is None else [np.flatnonzero(row).tolist() for row in e.groups],
        "evidence": np.flatnonzero(e.chosen).tolist(),
        "order": ranking(e.weights).tolist(),
        "map": _map(e) if e.units == "relative" else None,
        "windows": [[round(w.start, 3), round(w.end, 3), round(w.score, DECIMALS)] for w in e.windows],
        "truth": {
            "all": _told(e.round_trip.original),
            "none": _told(e.round_trip.off),
            "evidence": _told(e.round_trip.evidence),
            "complement": _told(e.round_trip.complement),
        },
        "ladder": _ladder(e),
        "base": None if base is None else round(base, DECIMALS),
        "error": None if error is None else round(error, DECIMALS),
    }


def prediction(explanation: Explanation) -> tuple[float | None, float | None]:
    """Say what the weights predict of a mix: base + Σ weights of what is on, and how far that errs.

    Returns
    -------
    base : float or None
        On the explained scale: the intercept of a fit; of other methods what makes the prediction of the whole
        recording right. None where weights are relative.
    error : float or None
        Of a fit: standard deviation of the calls from what it says of them, √(RSS / (n − n_weights − 1)).
    """
    e = explanation
    if e.units == "relative":
        return None, None
    base = e.fidelity.get("intercept")
    if base is None or e.masks is None or e.scores is None or not own_calls(e):
        return e.score.scaled - float(e.weights.sum()), None
    values = on_scale(e.scores, e.target, e.output, e.scale, clip=e.settings["clip"])
    residual = values - base - weights_on(e.masks, e.groups) @ e.weights
    free = max(1, len(values) - len(e.weights) - 1)
    return base, float(np.sqrt(residual @ residual / free))


def _ladder(e: Explanation) -> Data | None:
    """Give the model's answers as parts are added or removed, the strongest first."""
    if e.curves is None:
        return None
    counts, (insertion, *_), (deletion, *_) = e.curves.counts, e.curves.insertion, e.curves.deletion
    return {"counts": counts.tolist(), "insertion": _rounded(insertion), "deletion": _rounded(deletion)}


def _map(e: Explanation) -> Data:
    size = float(np.abs(e.map).max()) or 1.0
    rows, columns = e.map.shape
    return {"rows": rows, "columns": columns, "cells": _packed(np.round(127 * e.map / size).astype(np.int8))}


def _told(score: Score) -> Data:
    return {"score": round(score.score, DECIMALS), "scaled": round(score.scaled, DECIMALS), "top": score.top}


def _rounded(values: npt.NDArray[Any]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _particular(parts: Parts) -> tuple[Any, ...]:
    """Tell what sets two ways to take a sound apart from one another, besides the labels."""
    shares = None if parts.shares is None else _key(parts.shares)
    recorded = None if parts.recorded is None else _key(parts.recorded)
    return parts.k, parts.stft.n_fft, parts.stft.hop_length, parts.off, parts.seed, shares, recorded


def _key(array: npt.NDArray[Any], *more: Any) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes())
    digest.update(repr((array.shape, *more)).encode())
    return digest.hexdigest()


def _packed(array: npt.NDArray[Any]) -> str:
    """Deflate an array and write it as text."""
    return _text(zlib.compress(np.ascontiguousarray(array).tobytes(), 9))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
