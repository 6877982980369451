"""Evaluation: methods × metrics over many recordings.

For each recording and method one `Row`: its metrics (`otoscope.explainers.measures` tells what each is of), the figures
of the gates, the verdict and the curves. `otoscope.explainers.evaluation_table` sums rows up, with intervals over the
recordings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import BATCH_SIZE, Model
from otoscope.explainers.curves import Curves
from otoscope.explainers.evaluation_columns import find_metrics
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.gates import Figures
from otoscope.explainers.measures import measure, sensitivity
from otoscope.explainers.methods import Settings, find_method, settings_for
from otoscope.explainers.routes import Progress, quiet
from otoscope.explainers.verdict import GATES


@dataclass(frozen=True, eq=False)
class Row:
    """What one explanation amounts to.

    Attributes
    ----------
    recording, sha256, model, method, target : str
    units : str
        Of the curves: ``log-odds`` or ``score``.
    metrics : dict
        As `otoscope.explainers.measures.measure` gives them.
    gates : dict
        Figures behind the verdict.
    verdict : str or None
    reasons : tuple of str
    curves : Curves or None
    """

    recording: str
    sha256: str
    model: str
    method: str
    target: str
    units: str
    metrics: Figures
    gates: Figures
    verdict: str | None
    reasons: tuple[str, ...]
    curves: Curves | None

    def to_document(self) -> dict[str, Any]:
        """Make it plain, for JSON."""
        plain = {**vars(self), "reasons": list(self.reasons)}
        if self.curves is not None:
            plain["curves"] = {name: values.tolist() for name, values in vars(self.curves).items()}
        return plain


def from_document(document: Mapping[str, Any]) -> Row:
    """Read a row back.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is damaged.
    """
    curves = document["curves"]
    words = {name: str(document[name]) for name in ("recording", "sha256", "model", "method", "target", "units")}
    figures = {
        group: {str(name): None if value is None else float(value) for name, value in document[group].items()}
        for group in ("metrics", "gates")
    }
    verdict = document["verdict"]
    return Row(
        **words,  # type: ignore[arg-type]
        **figures,  # type: ignore[arg-type]
        verdict=None if verdict is None else str(verdict),
        reasons=tuple(map(str, document["reasons"])),
        curves=None if curves is None else Curves(**{name: np.array(values) for name, values in curves.items()}),
    )


class Question(NamedTuple):
    """What every recording is asked."""

    target: str = "top"
    start: float | None = None
    duration: float | None = None
    seed: int = 0
    sensitivity: bool = False


def evaluate_one(
    model: Model,
    audio: Audio,
    method: str,
    question: Question,
    *,
    settings: Settings,
    batch_size: int = BATCH_SIZE,
    name: str | None = None,
) -> Row:
    """Explain one recording by one method and measure the explanation."""

    def ask(sound: Audio, start: float | None, duration: float | None, target: str, chosen: Settings) -> Explanation:
        return explain(
            model,
            sound,
            method=method,
            target=target,
            start=start,
            duration=duration,
            settings=chosen,
            seed=question.seed,
            batch_size=batch_size,
            name=name,
        )

    found = ask(audio, question.start, question.duration, question.target, settings)
    metrics = measure(found, model)
    if question.sensitivity:
        span, target, ungated = found.span, found.target.name, replace(settings, gates="none")
        metrics["max_sensitivity"] = sensitivity(
            found, audio, lambda noisy: ask(noisy, span.start, span.duration, target, ungated)
        )
    verdict, known = found.verdict, {**found.fidelity, **found.gates}
    return Row(
        recording=audio.name,
        sha256=found.audio_sha256,
        model=found.model,
        method=method,
        target=found.target.name,
        units="log-odds" if found.scale == "log_odds" else "score",
        metrics=metrics,
        gates={gate: known[gate] for gate in GATES if known.get(gate) is not None},
        verdict=None if verdict is None else verdict.word,
        reasons=() if verdict is None else verdict.reasons,
        curves=found.curves,
    )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Rows, and what they add up to.

    Attributes
    ----------
    rows : tuple of Row
    metrics : tuple of str
        Those to show.
    seed : int
        Of the bootstrap.
    """

    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    seed: int = 0

    def to_document(self) -> dict[str, Any]:
        """Sum up: means with their intervals, what beats what, verdicts; as in ``evaluation.json``."""
        from otoscope.explainers.evaluation_table import summary

        return summary(self.rows, self.metrics, seed=self.seed)

    def markdown(self) -> str:
        """Write the tables."""
        from otoscope.explainers.evaluation_table import markdown

        return markdown(self.to_document())

    def save(self, folder: str | Path) -> Path:
        """Write ``evaluation.md``, ``.csv``, ``.json``, ``.png`` and ``rows.csv`` into a folder."""
        from otoscope.explainers.evaluation_table import write

        Path(folder).mkdir(parents=True, exist_ok=True)
        write(Path(folder), self.rows, self.metrics, seed=self.seed)
        return Path(folder)


def evaluate(
    model: Model,
    recordings: Iterable[Audio],
    *,
    methods: Sequence[str] = ("lime",),
    metrics: Sequence[str] | None = None,
    target: str = "top",
    start: float | None = None,
    duration: float | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    name: str | None = None,
    progress: Progress = quiet,
) -> Evaluation:
    """Explain recordings by several methods and measure the explanations.

    Parameters
    ----------
    model : Model
    recordings : iterable of Audio
        Different ones; the intervals are over them.
    methods : sequence of str
    metrics : sequence of str, optional
        What to show; all that fit where None. ``max_sensitivity`` is measured only where it is named.
    target : str
        ``top``: of each recording, what the model hears there.
    start, duration : float, optional
        Span in seconds; chosen where None.
    settings : Settings, optional
        For all methods; each takes those it uses. With ``gates="none"`` there are no curves and no verdicts.
    seed, batch_size : int
    name : str, optional
        What to call the model.
    progress : callable
        Told (done, total) explanations, where the number of recordings is known.

    Raises
    ------
    OtoscopeError
        If a method or metric does not exist, or a recording cannot be explained.

    Examples
    --------
    >>> import otoscope
    >>> audio = otoscope.load_audio(otoscope.demo_recording())
    >>> found = evaluate(otoscope.load_model("harmonics"), [audio], methods=["occlusion"], duration=2.0)
    >>> found.rows[0].metrics["gain"] > found.rows[0].metrics["gain.random"]
    True
    """
    chosen, settings = find_metrics(metrics), settings or Settings()
    refuse(methods, chosen, settings)
    heard = list(recordings)
    question = Question(target, start, duration, seed, "max_sensitivity" in chosen)
    rows: list[Row] = []
    for audio in heard:
        for method in methods:
            progress(len(rows), len(heard) * len(methods))
            own = settings_for(settings, method)
            rows.append(evaluate_one(model, audio, method, question, settings=own, batch_size=batch_size, name=name))
    if not rows:
        raise OtoscopeError("there is nothing to evaluate; give a recording and a method at least")
    return Evaluation(tuple(rows), chosen, seed)


def refuse(methods: Sequence[str], metrics: Sequence[str], settings: Settings) -> None:
    """Raise an error for methods and metrics that cannot be evaluated so."""
    for method in methods:
        if find_method(method).needs_two_level:
            raise OtoscopeError(f"{method} needs a corpus and is not evaluated; its second level is that of lime")
    if "seed_agreement" in metrics and settings.gates != "full":
        raise OtoscopeError("seed_agreement comes from a second seed; ask for it by --gates full")
