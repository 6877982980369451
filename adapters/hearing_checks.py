"""How a model hears: what moves its scores besides the parts of a sound, such as silence, level, padding.

Hardly any of these breaks the contract (a model must be able to answer near silence, and a span of the usual length).
They warn, because each is a way in which an explanation can be right about the model and yet mislead its reader. How
far a change moves the explained scale is measured on ordinary sounds; what counts as noticeable, and why, stands in
`otoscope.adapters.patient`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from otoscope.adapters.audio import MIN_SECONDS, Audio
from otoscope.adapters.model import Float32, Floats, capability
from otoscope.adapters.patient import CLIP, SAME, Found, Patient, Status, check, refused
from otoscope.adapters.windows import DITHER, SPAN_SECONDS

OFFSET = 0.05  # of full scale: a bad sound card
NARROW = 16_000  # hertz: what speech archives and many training sets were resampled to
COMMON = 44_100  # hertz
LONG = 30.0  # seconds
SHORT = 16  # samples, of which resampling leaves none
COARSE = 1 / 4096  # of the range: answers with wider steps than 12 bits are told
ONE_VALUE = 1e-6  # of the range: closer scores count as one
INDIFFERENT = 1e-4  # of the range between sounds: float32 leaves about a hundredth of it


@check("silence", contract=True)
def silence(patient: Patient) -> Found:
    """Ask about digital silence and about noise at −90 dBFS."""
    noise = (DITHER * patient.rng.standard_normal(patient.length)).astype(np.float32)
    quiet, hiss = patient.ask(np.stack([np.zeros_like(noise), noise]), bare=True)
    if not np.isfinite(hiss).all():
        return (
            "fail",
            "not finite on noise at −90 dBFS",
            "a recording with a rest cannot be scored; add a floor to the logarithm",
        )
    if not np.isfinite(quiet).all():
        meaning = "otoscope puts noise at −90 dBFS under every input; add a floor to the logarithm to do without"
        return "warn", f"not finite on digital silence; noise at −90 dBFS: {patient.label(hiss)}", meaning
    classes = [int(np.argmax(hiss))]
    change = float(np.abs(patient.on_scale(quiet[None], classes) - patient.on_scale(hiss[None], classes))[0])
    told = f"silence: {patient.label(quiet)}; noise at −90 dBFS: {patient.label(hiss)}"
    if change <= patient.noticeable:
        return "pass", told, "what all parts switched off are compared with"
    meaning = "digital silence is a sound of its own to it; compare with --off mean or --off noise"
    return "warn", f"{told}; {patient.told(change)} apart", meaning


@check("level")
def level(patient: Patient) -> Found:
    """Ask about the same sounds 6 and 20 dB quieter."""
    softer, soft = (patient.moved(patient.ask(patient.ordinary * np.float32(10 ** (-db / 20)))) for db in (6, 20))
    meaning = "level is part of what it hears, so a weight holds some loudness; compare recordings at one level only"
    status = patient.verdict(max(softer, soft))
    return status, f"−6 dB: {patient.told(softer)}; −20 dB: {patient.told(soft)}", "" if status == "pass" else meaning


@check("own level")
def own_level(patient: Patient) -> Found:
    """Look whether the clip's own maximum or level is divided out: declared, or seen as exact indifference to gain."""
    half = patient.ask(patient.ordinary / 2)
    gain = patient.difference(patient.scores[8:], half)
    spoken = _declared(patient.model)
    if saturated(patient, patient.scores[8:]) == 1:
        return "skip", "scores on ordinary sounds are clipped, so nothing can be seen", ""
    spread = float(np.ptp(patient.scores, axis=0).max())
    if not spoken and _grid(patient.scores.ravel())[0] > 0:
        return "skip", "scores come in steps, so indifference to gain tells nothing", ""
    if not spoken and (gain > INDIFFERENT * spread or spread <= SAME):
        return "pass", f"−6 dB moves scores by {gain:.2g}, so nothing is divided out", ""
    quiet = patient.ordinary / 4
    loud = quiet.copy()
    loud[:, patient.length // 3] = 1.0  # one sample: hardly any sound, but the new maximum
    change = patient.moved(patient.ask(loud), patient.ask(quiet))
    why = f"declares {spoken}" if spoken else f"−6 dB moves scores by {gain:.2g} only"
    meaning = (
        "what it hears is relative to the clip itself: removing a loud part raises all others, so weights interact"
    )
    return "warn", f"{why}; one loud click: {patient.told(change)}", meaning


def _declared(model: Any) -> str:
    """Name the setting by which a model declares to divide by something of the clip itself."""
    hearing: Any = getattr(model, "hearing", None)
    front_end: Any = getattr(hearing, "front_end", None) or getattr(capability(model, "spectrogram"), "front_end", None)
    if getattr(hearing, "normalise", "none") != "none":
        return f"normalise = {hearing.normalise!r} of the waveform"
    if getattr(front_end, "normalise", "none") != "none":
        return f"normalise = {front_end.normalise!r} of the spectrogram"
    return f"top = {front_end.top:g}" if getattr(front_end, "top", None) is not None else ""


@check("offset")
def offset(patient: Patient) -> Found:
    """Add a constant of 0.05 to every sample."""
    change = patient.moved(patient.ask(patient.ordinary + np.float32(OFFSET)))
    meaning = "a constant that nobody hears moves it, and no part holds it; take it out of recordings first"
    status = patient.verdict(change)
    return status, f"+{OFFSET} of full scale: {patient.told(change)}", "" if status == "pass" else meaning


@check("padding")
def padding(patient: Patient) -> Found:
    """Put silence behind the sound: beside the same length filled by the sound itself where the window is fixed."""
    quarter = max(1, patient.length // 4)
    if patient.model.n_samples is None:
        whole, longest = patient.ordinary, getattr(patient.model, "max_samples", None)
        if longest is not None and patient.length + quarter > longest:
            whole = whole[:, :-quarter]
        change = patient.moved(patient.ask(np.pad(whole, ((0, 0), (0, quarter)))), patient.ask(whole))
        told = f"{quarter / patient.model.rate:.2g} s of silence behind: {patient.told(change)}"
    else:
        filled, padded = patient.ordinary.copy(), patient.ordinary.copy()
        filled[:, -quarter:] = filled[:, :quarter]
        padded[:, -quarter:] = 0
        change = patient.moved(patient.ask(padded), patient.ask(filled))
        told = f"last quarter of the window silent, not filled: {patient.told(change)}"
    meaning = "padding is heard: choose spans of whole windows, and do not compare padded spans with full ones"
    status = patient.verdict(change)
    return status, told, "" if status == "pass" else meaning


@check("history")
def history(patient: Patient) -> Found:
    """Send the sounds through another rate and back, as files that were resampled or stored with less bandwidth."""
    rates = [rate for rate in (NARROW, COMMON) if rate != patient.model.rate]
    if patient.length * min(rates) < SHORT * patient.model.rate:
        return "skip", f"the window of {patient.length} samples is too short to be resampled", ""
    changes = {rate: patient.moved(patient.ask(_through(patient.ordinary, patient.model.rate, rate))) for rate in rates}
    told = "; ".join(f"through {rate / 1000:g} kHz: {patient.told(change)}" for rate, change in changes.items())
    status = patient.verdict(max(changes.values()))
    meaning = "it hears what a file went through before; compare only recordings with the same history"
    return status, told, "" if status == "pass" else meaning


def _through(sounds: Float32, rate: int, other: int) -> Float32:
    """Resample sounds (n, n_samples) to another rate and back."""
    back = [Audio(sound, rate).at(other).at(rate).samples for sound in sounds]
    return np.stack([np.pad(b, (0, max(0, sounds.shape[1] - len(b))))[: sounds.shape[1]] for b in back])


@check("stereo")
def stereo(patient: Patient) -> Found:
    """Say what becomes of stereo; what was averaged away before the model cannot be measured here."""
    meaning = "otoscope averages channels before the model: what is out of phase between them is not heard"
    return "pass", f"asked in mono, (n, {patient.length})", meaning


@check("lengths", contract=True)
def lengths(patient: Patient) -> Found:
    """Find the shortest and the longest input that a model of any length takes."""
    model = patient.model
    if model.n_samples is not None:
        return "pass", f"one length, {model.n_samples / model.rate:.3g} s", ""
    most = getattr(model, "max_samples", None)
    stated = min(most / model.rate, LONG) if most else None
    for seconds in [stated] if stated else [SPAN_SECONDS, LONG]:
        if reason := _refused_at(patient, seconds):
            meaning = "longer spans cannot be explained; declare max_samples, so that they are heard window by window"
            status: Status = "warn" if seconds == LONG and not stated else "fail"
            return status, f"{seconds:.3g} s: {reason}", meaning
    shortest = _shortest(patient)
    told = f"from {shortest:.2g} s to " + (f"{stated:.3g} s" if stated else f"{LONG:g} s at least")
    if shortest > 1:
        return "warn", told, "shorter recordings cannot be explained; let predict pad them with silence"
    return "pass", told, ""


def _refused_at(patient: Patient, seconds: float) -> str | None:
    """Say why it does not take a length, or None."""
    n_samples = max(1, round(seconds * patient.model.rate))
    sound = np.resize(patient.ordinary[0], n_samples)[None]
    if reason := refused(lambda: patient.ask(sound)):
        return reason
    return None if np.isfinite(patient.seen[-1]).all() else "scores are not finite"


def _shortest(patient: Patient) -> float:
    """Find the shortest length in seconds, to a fifth, from the shortest recording that otoscope reads."""
    low, high = MIN_SECONDS, patient.length / patient.model.rate
    if low >= high or _refused_at(patient, low) is None:
        return min(low, high)
    while high > 1.2 * low:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if _refused_at(patient, middle) else (low, middle)
    return high


@check("saturation")
def saturation(patient: Patient) -> Found:
    """Count scores so close to 0 or 1 that log-odds are clipped."""
    if not patient.probabilities:
        return "skip", "values are explained as they are", ""
    share = saturated(patient, patient.scores)
    told = f"{round(share * len(patient.scores))} of {len(patient.scores)} highest scores beyond 1 − 1e-6"
    meaning = "log-odds are clipped there and weights too small; explain a contrast, or another class"
    return ("warn", told, meaning) if share else ("pass", told, "")


def saturated(patient: Patient, scores: Floats) -> float:
    """Share of the sounds (n, n_classes) whose highest score cannot be told from 0 or 1."""
    if not patient.probabilities:
        return 0.0
    best = scores.max(axis=1)
    return float(np.mean((best < CLIP) | (best > 1 - CLIP)))


@check("steps")
def steps(patient: Patient) -> Found:
    """Look whether all answers so far lie on a coarse grid, as those of 8-bit models do."""
    answers = np.concatenate(patient.seen)
    answers = answers[np.isfinite(answers).all(axis=1)]
    step, values = _grid(answers.ravel())
    if step == 0:
        return "pass", f"{values} different values in {len(answers)} answers", ""
    meaning = "log-odds near 0 and 1 jump by whole steps; use --clip 0.002 and more calls"
    return "warn", f"{values} different values in {len(answers)} answers, in steps of {step:.3g}", meaning


def _grid(values: Floats) -> tuple[float, int]:
    """Width of the steps on which values lie, 0 where they lie on none, and how many differ."""
    size = float(np.ptp(values))
    if size == 0:
        return 0.0, 1
    ordered = np.sort((values - values.min()) / size)
    distinct = ordered[np.append(True, np.diff(ordered) > ONE_VALUE)]
    gaps = np.diff(distinct)
    # The smallest gap is the step, or two or three of them where neighbouring steps were not taken.
    for parts in (1, 2, 3):
        counts = gaps / (gaps.min() / parts)
        if len(distinct) > 5 and gaps.min() / parts > COARSE and np.all(np.abs(counts - np.round(counts)) < 0.02):
            return float(gaps.min() / parts * size), len(distinct)
    return 0.0, len(distinct)
