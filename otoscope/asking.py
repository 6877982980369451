"""What several models are asked about one recording: the same span, and labels that mean the same.

The span is as long as the longest of 10 s and the models' windows, or the whole of a shorter recording, and lies where
the first model scores highest for its target, unless told otherwise. Resampling rounds the length of a recording, so a
span ends with the shortest of what the models hear. Labels are found by `otoscope.explainers.counterparts`.
"""

from __future__ import annotations

from pathlib import Path

from otoscope.adapters.audio import Audio, load_audio
from otoscope.adapters.model import Floats, Model
from otoscope.adapters.windows import SPAN_SECONDS, Span
from otoscope.explainers.counterparts import (
    Concepts,
    Counterpart,
    by_label,
    by_mapping,
    check_mapping,
    likenesses,
    read_mapping,
)
from otoscope.explainers.span import MIN_SPAN, choose_span
from otoscope.explainers.targets import resolve_target
from otoscope.runs import Run

ROUNDING = 1e-3  # seconds by which rates may disagree about the length of a recording


class Asker:
    """Finds for each recording the span, and which label every model is asked about.

    Parameters
    ----------
    run : Run
        Files, targets, start, duration and settings.
    models : dict of Model
        By name; the first one leads.
    mapping : Path or None
        File that says which labels mean the same.
    match : bool
        Whether labels may be paired by the correlation of their scores over all files.

    Raises
    ------
    OtoscopeError
        If the mapping is wrong, or a target exists in no way.
    """

    def __init__(self, run: Run, models: dict[str, Model], *, mapping: Path | None, match: bool) -> None:
        self.run, self.models = run, models
        self.lead = next(iter(models))
        windows = [(model.n_samples or 0) / model.rate for model in models.values()]
        self.seconds = run.duration or max(SPAN_SECONDS, *windows)
        self.concepts: Concepts | None = None
        if mapping is not None:
            self.concepts = check_mapping(mapping, read_mapping(mapping), models, run.targets)
            return
        self.likeness = self._likeness() if match and len(models) > 1 else None
        first = models[self.lead]
        for target in run.targets:
            if target != "top" or first.output == "regression":
                by_label(resolve_target(target, first.labels, first.output), target, models, self.likeness)

    def _likeness(self) -> dict[str, Floats]:
        recordings = [load_audio(file) for file in self.run.files]
        return likenesses(self.models, recordings, min(self.seconds, *(one.seconds for one in recordings)))

    def ask(self, audio: Audio, asked: str) -> tuple[Span, dict[str, Counterpart]]:
        """Choose the span of a recording that all models explain, and what each is asked about there.

        Raises
        ------
        OtoscopeError
            If the span lies outside the recording.
        """
        first, run = self.models[self.lead], self.run
        target = asked
        if self.concepts is not None and asked != "top":
            target = self.concepts[asked][self.lead]
        shortest = min(audio.at(rate).seconds for rate in {model.rate for model in self.models.values()})
        own = audio.at(first.rate)
        span, windowed, resolved, _ = choose_span(first, own, target, *self._wanted(shortest), run.settings)
        if span.start + span.duration > shortest:
            late = span.start + span.duration - shortest
            span = (
                Span(span.start, span.duration - late)
                if run.start is not None
                else Span(span.start - late, span.duration)
            )
        if self.concepts is None:
            return span, by_label(resolved, asked, self.models, self.likeness)
        scores = windowed.predict(own.cut(span.start, span.duration).samples[None])[0]
        return span, by_mapping(self.concepts, asked, self.models, scores)

    def _wanted(self, shortest: float) -> tuple[float | None, float | None]:
        """Start and duration to ask for in a recording of which the models hear that many seconds."""
        start, duration = self.run.start, self.run.duration
        if duration is not None:
            return start, shortest if 0 < duration - shortest < ROUNDING else duration
        if start is None:
            return (0.0, shortest) if shortest <= self.seconds else (None, self.seconds)
        beyond = not 0 <= start < shortest - MIN_SPAN  # which is refused further on
        return start, None if beyond else min(self.seconds, shortest - start)
