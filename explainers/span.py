"""The span of a recording that is explained.

As long as the longer of 10 s and the model's window, or the whole of a shorter recording; in a longer one the stretch
that scores highest for the target, found by scoring at most 120 stretches, about one a second.
"""

from __future__ import annotations

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Model
from otoscope.adapters.windows import SPAN_SECONDS, Span, Windowed
from otoscope.explainers.methods import Settings
from otoscope.explainers.targets import Target, default_scale, on_scale, resolve_target

MOST_CANDIDATES = 120
QUIET = 1e-3  # 60 dB below the loudest stretch
MIN_SPAN = 0.05
MAX_SPAN = 120.0  # every part is a sound of this length


def choose_span(
    model: Model, audio: Audio, target: str | int, start: float | None, duration: float | None, settings: Settings
) -> tuple[Span, Windowed, Target, int]:
    """Choose the span and resolve the target on it; also count the windows asked on the way.

    Raises
    ------
    OtoscopeError
        If the span lies outside the recording.
    """
    fixed = _fixed_span(model, audio, start, duration)
    if fixed is None:
        return _best_span(model, audio, target, duration, settings)
    samples = audio.cut(fixed.start, fixed.duration).samples
    windowed = Windowed(model, len(samples))
    scores = windowed.predict(samples[None])[0]
    return fixed, windowed, resolve_target(target, model.labels, model.output, scores), 1


def _span_seconds(model: Model) -> float:
    return max(SPAN_SECONDS, (model.n_samples or 0) / model.rate)


def _fixed_span(model: Model, audio: Audio, start: float | None, duration: float | None) -> Span | None:
    """Give the span where nothing is to be searched for."""
    length = _span_seconds(model) if duration is None else duration
    if not MIN_SPAN <= length <= MAX_SPAN:
        raise OtoscopeError(f"a span of {length:g} s cannot be explained; give {MIN_SPAN:g} to {MAX_SPAN:g} s")
    if start is None and audio.seconds <= length:
        if duration is not None and duration > audio.seconds + 1e-6:
            raise OtoscopeError(f"{audio.name}: lasts {audio.seconds:.2f} s, less than the duration of {duration:g} s")
        return Span(0.0, audio.seconds)
    if start is None:
        return None
    if not 0 <= start < audio.seconds - MIN_SPAN:
        raise OtoscopeError(
            f"{audio.name}: a span cannot start at {start:g} s; the recording lasts {audio.seconds:.2f} s"
        )
    if duration is not None and start + duration > audio.seconds + 1e-6:
        raise OtoscopeError(
            f"{audio.name}: a span of {duration:g} s from {start:g} s on does not fit; the recording lasts "
            f"{audio.seconds:.2f} s"
        )
    return Span(start, min(length, audio.seconds - start))


def _best_span(
    model: Model, audio: Audio, target: str | int, duration: float | None, settings: Settings
) -> tuple[Span, Windowed, Target, int]:
    """Find the stretch that scores highest for the target; what is all but silent beside the rest is passed over."""
    length = _span_seconds(model) if duration is None else duration
    windowed = Windowed(model, len(audio.cut(0.0, length).samples))
    last = (len(audio.samples) - windowed.n_samples) / audio.rate
    n = min(MOST_CANDIDATES, 1 + int(np.ceil(last)))
    starts = np.floor(100 * np.linspace(0, last, n)) / 100  # floored: a rounded start could run over the end
    stretches = [audio.cut(float(start), length).samples for start in starts]
    loudness = np.array([float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) for samples in stretches])
    heard = np.flatnonzero(loudness >= QUIET * loudness.max())
    scores = np.concatenate([windowed.predict(stretches[place][None]) for place in heard])  # (n, n_classes)
    chosen = resolve_target(target, model.labels, model.output, scores.mean(axis=0))
    scale = settings.scale or default_scale(model.output)
    best = int(np.argmax(on_scale(scores, chosen, model.output, scale, clip=settings.clip)))
    return Span(float(starts[heard[best]]), length), windowed, chosen, len(heard)
