"""Does a model keep the contract? The checks of `otoscope.adapters.model.Model`, in the order in which they matter.

Everything an explanation says rests on four promises: scores of the declared kind come back, the same sound gets the
same score, one item does not depend on the others beside it, and asking leaves no trace. Each check says what a breach
does to explanations. Thresholds and their reasons stand in `otoscope.adapters.patient`.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from otoscope.adapters import traces
from otoscope.adapters.model import Output
from otoscope.adapters.patient import SAME, SAME_IN_BATCH, SUM, WANDERS, Found, Patient, Status, check, refused


@check("attributes", contract=True)
def attributes(patient: Patient) -> Found:
    """Check labels, rate, length and kind of output."""
    faults = list(_faults(patient.model))
    if faults:
        return "fail", "; ".join(faults), "otoscope cannot name what it explains, or asks at the wrong rate or length"
    model = patient.model
    length = "any length" if model.n_samples is None else f"{model.n_samples / model.rate:.3g} s"
    n = len(model.labels)
    return "pass", f"{n} {'class' if n == 1 else 'classes'}, {model.rate} Hz, {length}, {model.output}", ""


def _faults(model: Any) -> list[str]:
    labels, faults = model.labels, []
    if not isinstance(labels, tuple) or not all(isinstance(label, str) and label.strip() for label in labels):
        faults.append(f"labels must be a tuple of names, got {labels!r:.60}")
    elif not labels or len(set(labels)) < len(labels):
        faults.append("labels must name each class once, at least one")
    for name, value in (("rate", model.rate), ("n_samples", model.n_samples)):
        if not _whole(value) and not (name == "n_samples" and value is None):
            faults.append(f"{name} must be a whole number (int) of at least 1, got {value!r:.40}")
    if model.output not in get_args(Output):
        faults.append(f"output must be one of {', '.join(get_args(Output))}, got {model.output!r:.40}")
    return faults


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@check("scores", contract=True, vital=True)
def scores(patient: Patient) -> Found:
    """Check that numbers of the right shape come back."""
    return "pass", f"of shape {patient.scores.shape}", ""  # had by the door, which says what is wrong


@check("type", contract=True)
def kind_of_number(patient: Patient) -> Found:
    """Check the type of the scores."""
    raw = patient.model.predict(patient.sounds[:1].copy())
    if isinstance(raw, np.ndarray) and raw.dtype == np.float64:
        return "pass", "float64", ""
    kind = getattr(raw, "dtype", type(raw).__name__)
    return "fail", f"predict returns {kind}", "small weights are lost by rounding: return a numpy array of float64"


@check("finite", contract=True, vital=True)
def finite(patient: Patient) -> Found:
    """Look for NaN and infinity on sounds that are not silent."""
    wrong = int(np.count_nonzero(~np.isfinite(patient.scores).all(axis=1)))
    if wrong:
        told = f"NaN or infinite on {wrong} of {len(patient.scores)} ordinary sounds"
        return "fail", told, "nothing can be explained where there is no score; correct the model or its input scaling"
    return "pass", f"on all {len(patient.scores)} sounds", ""


@check("range", contract=True)
def in_range(patient: Patient) -> Found:
    """Compare range and sum of the scores with the declared kind."""
    found, output = patient.scores, patient.model.output
    told = f"{found.min():.3g} to {found.max():.3g}"
    if output == "regression":
        return "pass", told, ""
    if found.min() < -SAME or found.max() > 1 + SAME:
        return "fail", f"{told}, but says {output}", 'return probabilities, or declare output="regression"'
    away = float(np.abs(found.sum(axis=1) - 1).max())
    if output == "softmax" and away > SUM:
        told = f"sums miss 1 by up to {away:.2g}, but says softmax"
        return "fail", told, 'log-odds would be wrong: normalise, or declare output="sigmoid"'
    if output == "sigmoid" and found.shape[1] > 1 and away < SUM:
        told = "sums are 1 on every sound, but says sigmoid"
        return "warn", told, 'the classes exclude one another: declare output="softmax", so that contrasts are right'
    return "pass", told + (", sums are 1" if output == "softmax" else ""), ""


@check("determinism", contract=True)
def determinism(patient: Patient) -> Found:
    """Ask twice."""
    away = patient.difference(patient.scores, patient.ask(patient.sounds))
    status: Status = "pass" if away <= SAME else "warn" if away <= WANDERS else "fail"
    meaning = "parts whose weight is below this noise cannot be found; switch off dropout, dither and random crops"
    return status, f"asked twice, scores differ by {away:.2g}", "" if status == "pass" else meaning


@check("batch", contract=True)
def batch(patient: Patient) -> Found:
    """Ask one by one, and in another order."""
    alone = np.concatenate([patient.ask(sound[None]) for sound in patient.sounds])
    turned = patient.ask(patient.sounds[::-1])[::-1]
    away = max(patient.difference(patient.scores, alone), patient.difference(patient.scores, turned))
    told = f"one by one or reversed, scores differ by {away:.2g}"
    if away <= SAME_IN_BATCH:
        return "pass", told, ""
    meaning = "a score depends on the other items beside it, so weights depend on batch size; score items independently"
    return "fail", told, meaning


@check("input", contract=True)
def untouched(patient: Patient) -> Found:
    """Look whether predict writes into what it is given, and whether it takes what must not be written to."""
    given = patient.ordinary[:1].copy()
    patient.model.predict(given)
    if not np.array_equal(given, patient.ordinary[:1]):
        away = float(np.abs(given - patient.ordinary[:1]).max())
        meaning = "every later question would be about another sound; let predict work on a copy"
        return "fail", f"predict changes its input by up to {away:.2g}", meaning
    given.setflags(write=False)
    refusal = refused(lambda: patient.model.predict(given))
    if refusal:
        return "fail", f"refuses a read-only array: {refusal}", "recordings are read-only; let predict work on a copy"
    return "pass", "left as it was; read-only is taken", ""


@check("own state", contract=True)
def own_state(patient: Patient) -> Found:
    """Look whether asking changes the network: its modes, and its buffers such as running statistics."""
    modes, buffers, _ = patient.before
    if not modes:
        return "skip", "shows no torch network", "whether asking changes the model is seen by 'determinism' only"
    patient.ask(patient.ordinary[:1])
    if moved := traces.changed(buffers, traces.buffers(patient.model)):
        meaning = "each question changes the model that answers the next one; use evaluation mode"
        return "fail", f"predict changes {len(moved)} buffers, first {moved[0]}", meaning
    if switched := traces.changed(modes, traces.modes(patient.model)):
        meaning = "training that goes on afterwards is silently different; put each module's mode back"
        return "fail", f"predict leaves {len(switched)} modules in another mode, first {switched[0]}", meaning
    return "pass", f"modes of {len(modes)} modules and {len(buffers)} buffers stay as they were", ""


@check("surroundings")
def surroundings(patient: Patient) -> Found:
    """Look whether asking changes what all code shares: random generators, torch's gradient mode and default type."""
    *_, settings = patient.before
    generators = traces.generators()
    patient.ask(patient.ordinary[:1])
    moved = traces.changed(generators, traces.generators()) + traces.changed(settings, traces.settings())
    if not moved:
        return "pass", "random generators and torch settings stay as they were", ""
    meaning = (
        "results of other code depend on whether this model was asked; use a generator of its own, put back the rest"
    )
    return "warn", f"predict changes {', '.join(moved)}", meaning


@check("fingerprint", contract=True)
def fingerprint(patient: Patient) -> Found:
    """Read the fingerprint before and after a question."""
    first = patient.model.fingerprint
    patient.ask(patient.ordinary[:1])
    second = patient.model.fingerprint
    if not isinstance(first, str) or not first:
        return (
            "fail",
            f"is {first!r:.40}",
            "results could not be told apart by model; give a str of weights and settings",
        )
    if first != second:
        told = f"changes from {first[:14]}… to {second[:14]}…"
        return "fail", told, "results of one model look like results of two; hash weights and settings only"
    return "pass", f"{first[:14]}…", ""


@check("variety")
def variety(patient: Patient) -> Found:
    """Look whether it tells any sounds apart."""
    spread = float(np.ptp(patient.scores, axis=0).max())
    if spread <= SAME:
        meaning = "all weights will be zero; look at input scaling, rate and weights"
        return "warn", f"says the same to all {len(patient.scores)} sounds, to {spread:.2g}", meaning
    return "pass", f"scores range over {spread:.2g} between sounds", ""
