"""A conformance test for authors of models: it holds a model to the contract of `otoscope.adapters.model`.

A plug-in's whole test is five lines::

    from otoscope.adapters.conformance import check_model
    from my_package import my_model


    def test_my_model_keeps_the_contract():
        check_model(my_model())

`check_model` makes those checks of ``otoscope doctor`` that may fail, and a few that only an author can put right: the
protocol itself, memory layouts, threads. It raises one `AssertionError` that lists all failures.

>>> import numpy as np
>>> from otoscope.adapters.wrap import wrap
>>> def loudness(x):
...     return 1 / (1 + np.exp(-np.square(x).mean(1, keepdims=True)))
>>> check_model(wrap(loudness, rate=8000, n_samples=8000, output="sigmoid"))
>>> check_model(wrap(lambda x: loudness(x) * [[1, 1]], rate=8000, n_samples=8000, output="softmax"))
Traceback (most recent call last):
    ...
AssertionError: CallableModel breaks the contract:
  range: sums miss 1 by up to 0.062, but says softmax (log-odds would be wrong: normalise, or declare output="sigmoid")
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from otoscope.adapters.doctor import ask, examine
from otoscope.adapters.model import Model
from otoscope.adapters.patient import SAME_IN_BATCH, Check, Finding, Found, Patient

NAMES = ("predict", "labels", "rate", "n_samples", "output", "fingerprint")


def check_model(model: Model, *, seed: int = 0) -> None:
    """Make sure that a model keeps the contract.

    Parameters
    ----------
    model : Model
    seed : int
        Of the sounds that are drawn.

    Raises
    ------
    AssertionError
        Listing every failed check, one a line, with what was measured and what it means.
    """
    patient = Patient(model, seed=seed)
    findings = [ask(PROTOCOL, patient)]
    if findings[0].status == "pass":
        findings += examine(model, seed=seed, contract_only=True)
    if all(finding.status != "fail" for finding in findings):  # else its answers are in doubt already
        findings += [ask(one, patient) for one in AUTHORS]
    failures = [f"  {f.check}: {f.measured} ({f.meaning})" for f in findings if f.status == "fail"]
    if failures:
        raise AssertionError("\n".join([f"{type(model).__name__} breaks the contract:", *failures]))


def protocol(patient: Patient) -> Found:
    """Look whether everything is there."""
    if isinstance(patient.model, Model):
        return "pass", f"has {', '.join(NAMES)}", ""
    missing = ", ".join(name for name in NAMES if not hasattr(patient.model, name))
    return "fail", f"lacks {missing}", "it is no otoscope Model; add what is missing"


def layouts(patient: Patient) -> Found:
    """Ask with the same numbers in other memory layouts."""
    pair = patient.heard(patient.sounds[-2:])
    wide = np.repeat(pair, 2, axis=1)
    away = max(
        patient.difference(patient.scores[-2:], _plain(patient, x)) for x in (np.asfortranarray(pair), wide[:, ::2])
    )
    told = f"with strided arrays scores differ by {away:.2g}"
    meaning = "predict reads memory, not numbers; use numpy.ascontiguousarray before handing arrays on"
    return ("pass", told, "") if away <= SAME_IN_BATCH else ("fail", told, meaning)


def threads(patient: Patient) -> Found:
    """Ask from another thread than the one that loaded the model."""
    with ThreadPoolExecutor(1) as pool:
        away = patient.difference(
            patient.scores[-2:], pool.submit(_plain, patient, patient.heard(patient.sounds[-2:])).result()
        )
    told = f"from another thread scores differ by {away:.2g}"
    meaning = "servers and notebooks ask from threads; keep no state that belongs to one thread"
    return ("pass", told, "") if away <= SAME_IN_BATCH else ("fail", told, meaning)


def _plain(patient: Patient, waveforms: np.ndarray) -> np.ndarray:
    """Ask without the copy that the doctor makes."""
    return np.asarray(patient.model.predict(waveforms), dtype=np.float64)


PROTOCOL = Check("protocol", lambda patient: Finding("protocol", *protocol(patient)))
AUTHORS = (
    Check("memory layout", lambda patient: Finding("memory layout", *layouts(patient))),
    Check("threads", lambda patient: Finding("threads", *threads(patient))),
)
