"""The span that is explained: chosen, given, and never beyond the recording."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.wrap import wrap
from otoscope.explainers.methods import Settings
from otoscope.explainers.span import choose_span

RATE = 2205


def level(waveforms: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(1, np.abs(waveforms).mean(axis=1, keepdims=True)))


MODEL = wrap(level, rate=RATE, labels=["loud"], output="sigmoid", n_samples=RATE)


@given(n_samples=st.integers(RATE // 10, 40 * RATE), duration=st.none() | st.floats(0.05, 15))
def test_the_span_lies_in_the_recording_and_fits_the_model(n_samples: int, duration: float | None) -> None:
    audio = Audio(np.full(n_samples, 0.1, dtype=np.float32), RATE)
    if duration is not None and duration > audio.seconds:
        with pytest.raises(OtoscopeError, match="less than the duration"):
            choose_span(MODEL, audio, "top", None, duration, Settings())
        return
    span, windowed, _, _ = choose_span(MODEL, audio, "top", None, duration, Settings())
    assert len(audio.cut(span.start, span.duration).samples) == windowed.n_samples
    assert span.start >= 0
    assert span.start + span.duration <= audio.seconds + 1e-9
    assert span.duration == pytest.approx(duration or min(10.0, audio.seconds))


def test_in_a_long_recording_the_stretch_that_scores_highest_is_chosen() -> None:
    samples = np.full(60 * RATE, 0.01, dtype=np.float32)
    samples[31 * RATE : 41 * RATE] = 0.9
    span, _, _, asked = choose_span(MODEL, Audio(samples, RATE), "loud", None, None, Settings())
    assert abs(span.start - 31) < 0.6
    assert span.duration == 10
    assert asked > 1


def test_a_given_start_is_kept() -> None:
    audio = Audio(np.full(30 * RATE, 0.1, dtype=np.float32), RATE)
    span, _, _, asked = choose_span(MODEL, audio, "top", 27.0, None, Settings())
    assert (span.start, span.duration, asked) == (27.0, 3.0, 1)
