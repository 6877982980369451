"""Emotion over time: known courses come back exactly, all of a recording is heard, misfits are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats
from otoscope.adapters.stream import survey
from otoscope.adapters.windows import Windowed
from otoscope.mer_models.timeline import Timeline, check_step, follow, plane, quadrants, smoothed
from tests.builders import RATE, Function, loudness
from tests.emotions import LABELS, known_model, sound, wandering, write


def test_a_certain_quadrant_is_a_corner_of_the_plane() -> None:
    corners = plane(np.eye(4), LABELS, "softmax")
    np.testing.assert_array_equal(corners, [[1, 1], [-1, 1], [-1, -1], [1, -1]])
    np.testing.assert_array_equal(plane(np.full((1, 4), 0.25), LABELS, "softmax"), [[0, 0]])


def test_quadrants_are_known_by_number_and_by_the_names_models_give_them() -> None:
    assert quadrants(("Q3", "Q1", "Q4", "Q2"), "softmax") == (1, 3, 0, 2)
    assert quadrants(("aggressive", "relaxed", "happy", "sad"), "softmax") == (2, 0, 3, 1)
    shuffled = plane(np.array([[0.1, 0.2, 0.3, 0.4]]), ("aggressive", "relaxed", "happy", "sad"), "softmax")
    assert shuffled is not None
    np.testing.assert_allclose(shuffled, [[0.3 + 0.2 - 0.1 - 0.4, 0.3 + 0.1 - 0.4 - 0.2]], atol=1e-12)


@pytest.mark.parametrize(
    ("labels", "output"),
    [
        (LABELS, "sigmoid"),  # four yes-or-no answers are no shares of 1
        ((*LABELS, "other"), "softmax"),
        (("happy", "sad", "sadness", "anxiety"), "softmax"),
        (("rock", "jazz", "pop", "folk"), "softmax"),
        (("valence", "energy"), "regression"),
    ],
)
def test_other_models_have_scores_alone(labels: tuple[str, ...], output: Any) -> None:
    assert plane(np.full((2, len(labels)), 0.2), labels, output) is None


def test_a_model_with_axes_of_its_own_keeps_them() -> None:
    scores = np.array([[3.0, 7.0, 1.0]])
    np.testing.assert_array_equal(plane(scores, ("Arousal", "Valence", "x"), "regression"), [[7, 3]])


def test_a_known_course_comes_back_exactly() -> None:
    samples = sound(12.3, lambda t: 0.8 * np.sin(t), lambda t: t / 12.3 - 0.5)
    timeline = follow(known_model(), Audio(samples, RATE, "course"), step=0.25)
    assert timeline.plane is not None
    starts = [*np.arange(0, 11.3, 0.25), 11.3]
    np.testing.assert_allclose(timeline.starts, starts)
    for start, point in zip(starts, timeline.plane, strict=True):
        heard = samples[round(start * RATE) : round(start * RATE) + RATE].astype(np.float64)
        np.testing.assert_allclose(point, [heard[0::2].mean(), heard[1::2].mean()], atol=1e-6)
    np.testing.assert_allclose(timeline.scores.sum(axis=1), 1)
    np.testing.assert_allclose(timeline.ends[-1], 12.3)
    # the mean of the slope over a window is its value in the middle
    np.testing.assert_allclose(timeline.plane[:, 1], timeline.centres / 12.3 - 0.5, atol=1e-4)


def test_a_file_is_followed_as_the_same_sound_in_memory(tmp_path: Path) -> None:
    samples = wandering(25, seed=1)
    path = write(tmp_path / "sound.wav", samples)
    told: list[tuple[int, int]] = []
    streamed = follow(known_model(), survey(path), step=0.5, progress=lambda *where: told.append(where))
    np.testing.assert_array_equal(streamed.scores, follow(known_model(), Audio(samples, RATE), step=0.5).scores)
    assert told[-1][0] == told[-1][1]
    assert all(done <= total for done, total in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_batches_are_as_small_as_asked_and_change_nothing() -> None:
    sizes: list[int] = []
    model = known_model()

    def watched(waveforms: Float32) -> Floats:
        sizes.append(len(waveforms))
        return np.asarray(model.predict(waveforms))

    watching = Function(watched, labels=LABELS, n_samples=RATE, output="softmax")
    audio = Audio(wandering(9, seed=2), RATE)
    few = follow(watching, audio, step=0.5, batch_size=3)
    assert max(sizes) == 3
    np.testing.assert_array_equal(few.scores, follow(model, audio, step=0.5).scores)


def test_the_end_is_heard_unless_a_grid_is_wanted() -> None:
    audio = Audio(wandering(3.7, seed=3), RATE)
    assert follow(known_model(), audio, step=1.0).starts.tolist() == [0, 1, 2, 2.7]
    assert follow(known_model(), audio, step=1.0, tail=False).starts.tolist() == [0, 1, 2]


def test_a_short_recording_is_padded_and_that_is_said() -> None:
    samples = sound(0.5, lambda t: 0 * t + 0.8, lambda t: 0 * t + 0.4)
    timeline = follow(known_model(), Audio(samples, RATE))
    assert timeline.plane is not None
    np.testing.assert_allclose(timeline.plane, [[0.4, 0.2]], atol=1e-6)  # half of the window is silence
    assert any("padded with 0.50 s of silence" in note for note in timeline.notes)
    assert timeline.ends.tolist() == [0.5]
    assert follow(known_model(), Audio(wandering(1, seed=0), RATE)).notes == ()


def test_silence_is_said() -> None:
    timeline = follow(known_model(), Audio(np.zeros(2 * RATE, dtype=np.float32), RATE))
    assert any("digital silence" in note for note in timeline.notes)


def test_a_longer_window_averages_the_models_own() -> None:
    audio = Audio(wandering(8, seed=4), RATE)
    timeline = follow(known_model(), audio, window=2.5, step=1.0, tail=False)
    windowed = Windowed(known_model(), round(2.5 * RATE))
    expected = [windowed.predict(audio.cut(start, 2.5).samples[None])[0] for start in timeline.starts]
    np.testing.assert_allclose(timeline.scores, expected)
    shrunk = follow(known_model(), audio, window=60.0)  # no silence where the model's own window would do
    assert shrunk.window == 8
    assert shrunk.notes == ()


def test_a_model_that_hears_any_length_hears_ten_seconds_or_what_there_is() -> None:
    model = Function(loudness)
    assert follow(model, Audio(wandering(15, seed=0), RATE)).window == 10
    assert follow(model, Audio(wandering(4, seed=0), RATE)).window == 4
    assert follow(model, Audio(wandering(15, seed=0), RATE), window=2).window == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"step": 0.0}, "does not move"),
        ({"step": -1.0}, "does not move"),
        ({"step": float("nan")}, "does not move"),
        ({"step": 1.5}, "larger than the window of 1 s"),
        ({"step": 1e-8}, r"give --step 0.0011 s"),
        ({"window": 0.5}, "too short: the model hears 1 s"),
        ({"window": float("inf")}, "too short"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(OtoscopeError, match=words):
        follow(known_model(), Audio(wandering(8, seed=0), RATE), **settings)  # type: ignore[arg-type]
    check_step(1.0, window=1.0)
    with pytest.raises(OtoscopeError, match=r"give --step 0.099 s"):  # an hour, 521 classes
        check_step(0.05, window=1.0, seconds=3600, n_classes=521)


def _timeline(scores: Floats, *, step: float = 1.0) -> Timeline:
    starts = np.asarray(np.arange(len(scores)) * step, dtype=np.float64)
    return Timeline("x", float(starts[-1] + 1), LABELS, "softmax", starts, 1.0, step, scores)


@given(n=st.integers(1, 30), seconds=st.floats(0.1, 40), step=st.sampled_from([0.25, 1.0]), seed=st.integers(0, 99))
def test_smoothing_is_a_mean_over_neighbours(n: int, seconds: float, step: float, seed: int) -> None:
    timeline = _timeline(np.random.default_rng(seed).dirichlet(np.ones(4), n), step=step)
    found = smoothed(timeline, seconds)
    for centre, row in zip(timeline.centres, found.scores, strict=True):
        near = [
            scores
            for c, scores in zip(timeline.centres, timeline.scores, strict=True)
            if abs(c - centre) <= seconds / 2 + 1e-9
        ]
        np.testing.assert_allclose(row, np.mean(near, axis=0), atol=1e-12)
    np.testing.assert_allclose(found.scores.sum(axis=1), 1)
    assert found.plane is not None
    assert f"smoothed over {seconds:g} s" in found.notes[-1]


def test_smoothing_over_no_time_is_refused() -> None:
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(OtoscopeError, match="--smooth"):
            smoothed(_timeline(np.full((3, 4), 0.25)), seconds)


def test_the_nearest_window_is_the_one_around_a_moment() -> None:
    timeline = _timeline(np.full((5, 4), 0.25))
    assert [timeline.nearest(moment) for moment in (0, 0.5, 2.4, 2.6, 99)] == [0, 0, 2, 2, 4]
    assert replace(timeline, window=3.0, seconds=7.0).nearest(3.5) == 2
