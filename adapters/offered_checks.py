"""What a model offers beyond `predict`, whether that is the same model, and what it costs.

The bands route, Grad-CAM and the randomisation check each enter a model by another door than `predict`. What they say
holds for the model only where all doors lead to the same scores.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters import traces
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats, capability
from otoscope.adapters.patient import SAME, SAME_IN_BATCH, Found, Patient, check
from otoscope.adapters.windows import SPAN_SECONDS

BLACK_BOX = "lime, occlusion and every other black-box method fit"
# Where a model compared its declared front end with the one it came with: the largest difference that is allowed, if it
# names none itself. Compressed bands are of the order of 1 to 100, so this is arithmetic, not another definition.
FRONT_END_LIMIT = 1e-3
CALLS = 2048  # the explainers' default
BATCH = 16
SLOW = 0.5  # seconds for one item, above which fewer are asked
UNLIKELY = 20_011  # a seed by which nobody drew the weights of a trained model
OCCASIONS = 0.002  # seconds between two looks at the memory


@check("front end", contract=True)
def front_end(patient: Patient) -> Found:
    """Compare scores from declared bands with scores from waveforms, and the declared front end with the original."""
    model: Any = patient.model
    away = getattr(model, "front_end_difference", None)
    away = float(away() if callable(away) else away) if away is not None else None
    limit = float(getattr(model, "front_end_limit", FRONT_END_LIMIT))
    told = "" if away is None else f"declared and original front end differ by {away:.2g}; "
    meaning = "parts would be cut and mixed in bands that it does not hear; correct [input.front_end]"
    if away is not None and not away <= limit:
        return "fail", f"{told}at most {limit:g} is allowed", meaning
    spectrogram = capability(model, "spectrogram")
    if spectrogram is None:
        return ("pass", told.removesuffix("; "), "") if told else ("skip", "declares none", "--route bands is closed")
    gap = patient.difference(patient.scores, _by_bands(patient, spectrogram))
    told += f"scores from bands and from waveforms differ by {gap:.2g}"
    return ("pass", told, "") if gap <= SAME_IN_BATCH else ("fail", told, meaning)


def _by_bands(patient: Patient, spectrogram: Any) -> Floats:
    """Answers to the reference sounds by the way through the declared bands."""
    import torch

    rows = []
    with torch.no_grad():
        for sound in patient.heard(patient.sounds):  # one by one: spectra are large
            energies = spectrogram.stft(torch.from_numpy(sound[None])).abs() ** spectrogram.front_end.exponent
            rows.append(np.asarray(spectrogram.predict_bands(spectrogram.bands(energies)), dtype=np.float64))
    return np.concatenate(rows)


@check("gradients", contract=True)
def gradients(patient: Patient) -> Found:
    """Compare logits with scores; look at the gradient, the layers for maps, and hooks left behind."""
    offered = capability(patient.model, "gradients")
    if offered is None:
        return "skip", getattr(patient.model, "no_gradients", "offers none"), BLACK_BOX
    hooks = traces.hooks(patient.model)
    logits, slope = _logits_and_slope(patient, offered)
    gap = patient.difference(patient.scores[8:], _activated(logits, patient.model.output))
    told = f"scores from logits and from predict differ by {gap:.2g}"
    if gap > SAME_IN_BATCH:
        return "fail", told, "Grad-CAM would explain another function than predict; correct logits or output"
    if not np.isfinite(slope).all() or not slope.any():
        told = "is zero everywhere" if np.isfinite(slope).all() else "holds NaN or infinity"
        meaning = f"gradients do not reach the sound, so Grad-CAM says nothing; {BLACK_BOX}"
        return "fail", f"the gradient by the waveform {told}", meaning
    try:
        layers = offered.layers()
        with ExitStack() as watched:
            for layer in layers:
                watched.enter_context(layer.watch())
    except OtoscopeError as error:
        return "warn", f"{told}; no layers: {error}", f"Grad-CAM cannot be used; {BLACK_BOX}"
    if (left := traces.hooks(patient.model) - hooks) != 0:
        return (
            "fail",
            f"{left} hooks are left behind",
            "every later answer is slower or different; remove hooks in finally",
        )
    if not layers:
        return "warn", f"{told}; no layer with a time axis", f"Grad-CAM cannot be used; {BLACK_BOX}"
    names = ", ".join(layer.name for layer in layers[:4]) + (", …" if len(layers) > 4 else "")
    return "pass", f"{told}; layers {names}", ""


def _logits_and_slope(patient: Patient, offered: Any) -> tuple[Floats, Floats]:
    """Logits (n, n_classes) of the ordinary sounds, and the gradient of the highest of each, (n, n_samples)."""
    import torch

    waveforms = torch.from_numpy(patient.heard(patient.ordinary)).to(getattr(patient.model, "device", "cpu"))
    with torch.enable_grad():
        waveforms.requires_grad_()
        logits = offered.logits(waveforms)
        # By the waveforms alone: the gradients of the weights stay as their owner left them.
        slope = None
        if logits.requires_grad:
            (slope,) = torch.autograd.grad(logits.amax(dim=1).sum(), waveforms, allow_unused=True)
    slope = torch.zeros_like(waveforms) if slope is None else slope
    return logits.detach().cpu().double().numpy(), slope.cpu().double().numpy()


def _activated(logits: Floats, output: str) -> Floats:
    if output == "softmax":
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    return np.asarray(1 / (1 + np.exp(-logits))) if output == "sigmoid" else logits


@check("fresh weights", contract=True)
def randomised(patient: Patient) -> Found:
    """Compare the model with its copy with fresh weights, and with itself afterwards."""
    make = getattr(patient.model, "randomised", None)
    meaning = "whether explanations depend on what was learned cannot be checked by randomisation"
    if make is None:
        return "skip", "offers none", meaning
    try:
        other = make(UNLIKELY + patient.seed)
    except OtoscopeError as error:
        return "skip", str(error), meaning
    change = patient.difference(patient.scores[8:], np.asarray(other.predict(patient.heard(patient.ordinary))))
    back = patient.difference(patient.scores[8:], patient.ask(patient.ordinary))
    if back > SAME_IN_BATCH:
        return (
            "fail",
            f"asking for a copy moves the model itself by {back:.2g}",
            "the sanity check destroys the model; copy it first",
        )
    if change <= SAME:
        told = f"the copy's scores differ by {change:.2g} only"
        return (
            "fail",
            told,
            "the sanity check would find every explanation blind to what was learned; draw all weights afresh",
        )
    return "pass", f"the copy's scores differ by {change:.2g}, the model stays", ""


@check("speed")
def speed(patient: Patient) -> Found:
    """Time one item alone and a batch."""
    alone, together, n = _timed(patient)[:3]
    windows = np.ceil(SPAN_SECONDS * patient.model.rate / patient.length)
    estimate = CALLS * together * max(1, windows)
    minutes = f"{estimate:.0f} s" if estimate < 120 else f"{estimate / 60:.0f} min"
    told = f"{1000 * alone:.3g} ms alone, {1000 * together:.3g} ms each of {n}, {1 / together:.3g} items/s"
    return "pass", f"{told}; {CALLS} calls about {SPAN_SECONDS:g} s by waveforms: {minutes}", ""


@check("memory")
def memory(patient: Patient) -> Found:
    """Say how far the memory of the process grew while a batch was answered."""
    _, _, n, grown = _timed(patient)
    if grown is None:
        return "skip", "resident memory cannot be read on this system", ""
    told = f"{grown / 2**20:.1f} MiB more while {n} items are answered, {grown / n / 2**20:.2g} MiB each"
    return "pass", told, ""


def _timed(patient: Patient) -> tuple[float, float, int, int | None]:
    """Seconds of one item alone, of one among n, n, and bytes by which memory grew; measured once."""
    if patient.timed is not None:
        return patient.timed
    alone = min(_seconds(patient, 1) for _ in range(3))
    n = BATCH if alone < SLOW else 4
    with _Watch() as watch:
        together = _seconds(patient, n) / n
    patient.timed = (alone, together, n, watch.grown)
    return patient.timed


def _seconds(patient: Patient, n: int) -> float:
    sounds = np.resize(patient.sounds, (n, patient.length))
    start = time.perf_counter()
    patient.ask(sounds)
    return time.perf_counter() - start


class _Watch:
    """Looks at the resident memory again and again while a block runs (Linux); frameworks allocate beside Python."""

    grown: int | None = None

    def __enter__(self) -> _Watch:
        self._stop = threading.Event()
        self._before = self._peak = _resident() or 0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._stop.wait(OCCASIONS):
            self._peak = max(self._peak, _resident() or 0)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._before:
            self.grown = max(self._peak, _resident() or 0) - self._before


def _resident() -> int | None:
    """Resident memory of this process in bytes."""
    import os

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
