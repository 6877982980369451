"""The doctor: whether a model keeps the contract, and what moves its scores besides the parts of a sound.

`examine` runs every check (`checks`: the contract; `hearing_checks`: how it hears; `offered_checks`: what it offers and
costs) and returns one `Finding` each: ``fail`` is a breach of the contract, after which explanations are wrong;
``warn`` is a property of the model that readers of its explanations must know; ``skip`` does not apply. A check that
the model answers with an exception is a failure with its reason, and the others go on; only where no usable scores come
back is the rest skipped. An examination asks for about a hundred items.

>>> import numpy as np
>>> from otoscope.adapters.wrap import wrap
>>> clipped = wrap(lambda x: np.clip(np.abs(x).max(1, keepdims=True) * 3 - 1, 0, 1), rate=8000, output="sigmoid")
>>> findings = examine(clipped)
>>> failed(findings)
False
>>> print(table(findings[:5]))
PASS  attributes  1 class, 8000 Hz, any length, sigmoid
PASS  scores      of shape (9, 1)
PASS  type        float64
PASS  finite      on all 9 sounds
PASS  range       0 to 1
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict

from otoscope.adapters import checks, hearing_checks, offered_checks
from otoscope.adapters.audio import Audio
from otoscope.adapters.model import Model
from otoscope.adapters.patient import CHECKS, Check, Finding, Patient, refused

__all__ = ["Finding", "examine", "failed", "rows", "table"]

# The lists fill themselves when these are imported, in this order.
FAMILIES = (checks, hearing_checks, offered_checks)
WIDTH = 120


def quiet(_done: int, _total: int) -> None:
    """Report no progress."""


def examine(
    model: Model,
    *,
    audio: Audio | None = None,
    seed: int = 0,
    contract_only: bool = False,
    progress: Callable[[int, int], None] = quiet,
) -> tuple[Finding, ...]:
    """Examine a model.

    Parameters
    ----------
    model : Model
    audio : Audio, optional
        A recording of the kind that is to be explained; changes are measured on its loudest window too.
    seed : int
        Of the sounds that are drawn.
    contract_only : bool
        Leave out what cannot fail: how it hears, speed and memory.
    progress : callable
        Told (done, total).

    Returns
    -------
    tuple of Finding
        In the order of the checks.
    """
    patient = Patient(model, audio=audio, seed=seed)
    asked = [one for one in CHECKS if one.contract or not contract_only]
    findings: list[Finding] = []
    for number, one in enumerate(asked):
        progress(number, len(asked))
        ill = next((f for f, before in zip(findings, asked, strict=False) if before.vital and f.status == "fail"), None)
        findings.append(Finding(one.name, "skip", f"not asked, as {ill.check!r} failed") if ill else ask(one, patient))
    progress(len(asked), len(asked))
    return tuple(findings)


def ask(one: Check, patient: Patient) -> Finding:
    """Run one check; an exception from the model is its failure."""
    found: list[Finding] = []
    reason = refused(lambda: found.append(one.run(patient)))
    if reason is None:
        return found[0]
    return Finding(one.name, "fail", f"the model raised {reason}", "what it cannot answer, no method can explain")


def failed(findings: Sequence[Finding]) -> bool:
    """Whether the contract is broken."""
    return any(finding.status == "fail" for finding in findings)


def rows(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Give the findings as plain rows for JSON: check, status, measured, meaning."""
    return [asdict(finding) for finding in findings]


def table(
    findings: Sequence[Finding], *, verbose: bool = False, style: Callable[[str, str], str] = lambda word, _status: word
) -> str:
    """Lay the findings out as text.

    Parameters
    ----------
    findings : sequence of Finding
    verbose : bool
        Tell the meaning of every finding, not of warnings and failures only.
    style : callable
        Gets the padded word of the first column and the status, returns what is shown: colour, on a terminal.
    """
    width = max((len(finding.check) for finding in findings), default=0) + 2
    lines = []
    for finding in findings:
        word = style(finding.status.upper().ljust(4), finding.status)
        lines.append(f"{word}  {finding.check:{width}}{finding.measured}".rstrip())
        if finding.meaning and (verbose or finding.status in ("warn", "fail")):
            margin = " " * (6 + width)
            lines += textwrap.wrap(finding.meaning, WIDTH, initial_indent=margin, subsequent_indent=margin)
    return "\n".join(lines)
