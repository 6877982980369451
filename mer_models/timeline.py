r"""Emotion over time: what a model says of one window after the other.

Music changes its mood, and a model that hears six seconds can follow it: its window is moved along the recording by
`step` seconds and asked each time (Fong, Kumar and Sudhir, Marketing Science 44(1), 2025, read the course of emotions
in songs and films this way). Window i begins at the sample nearest to i · step; where something is left at the end, one
more window ends with the recording, so that all of it is heard. A recording shorter than one window is padded with
zeros, and the timeline says so.

Where a model's four labels are the quadrants of valence and arousal and its scores are probabilities p, a window has a
place in the plane, the expected sign of either axis:

    valence = p(Q1) + p(Q4) − p(Q2) − p(Q3)         Q2 (V−A+) | Q1 (V+A+)
    arousal = p(Q1) + p(Q2) − p(Q3) − p(Q4)         Q3 (V−A−) | Q4 (V+A−)

each from −1 to 1; a model with labels called valence and arousal has its own. Other models have scores alone.

Smoothing, where it is asked for, is a centred moving average over all windows whose centres lie within half its width
(in seconds) of a window's own. It is linear, so probabilities still add up to 1 and the plane may be had before or
after.

A recording is read in blocks and scored in batches, so memory does not grow with its length, but for the scores.

Shapes: scores (n_windows, n_classes), plane (n_windows, 2), valence first. Times in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import BATCH_SIZE, Floats, Model, Output
from otoscope.adapters.stream import Recording, batches, cut
from otoscope.adapters.windows import SPAN_SECONDS, Windowed

STEP, LEAST_STEP = 1.0, 1e-3  # seconds
MOST_SCORES = 20_000_000  # of one timeline, windows times classes

# What quadrants are called, by number and by the names that models give them.
QUADRANTS = (
    ("q1", "exuberance", "happy"),
    ("q2", "anxiety", "aggressive"),
    ("q3", "sadness", "sad"),
    ("q4", "contentment", "relaxed"),
)
SIGNS = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=np.float64)  # of valence and arousal in each quadrant

Progress = Callable[[int, int], None]


def quiet(_done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """What a model said of one window after the other.

    Attributes
    ----------
    name : str
        Of the recording.
    seconds : float
        Duration of the recording.
    labels : tuple of str
    output : {"softmax", "sigmoid", "regression"}
    starts : ndarray, shape (n_windows,)
        In seconds.
    window : float
        Length of a window in seconds; it may reach beyond a shorter recording.
    step : float
        In seconds.
    scores : ndarray, shape (n_windows, n_classes)
    notes : tuple of str
        What a reader must know.
    """

    name: str
    seconds: float
    labels: tuple[str, ...]
    output: Output
    starts: Floats
    window: float
    step: float
    scores: Floats
    notes: tuple[str, ...] = ()

    @property
    def ends(self) -> Floats:
        """Where the windows end in seconds, shape (n_windows,); none behind the recording's end."""
        return np.minimum(self.starts + self.window, self.seconds)

    @property
    def centres(self) -> Floats:
        """Where the windows have their middles in seconds, shape (n_windows,)."""
        return (self.starts + self.ends) / 2

    @cached_property
    def plane(self) -> Floats | None:
        """Valence and arousal, shape (n_windows, 2); None for a model that does not know them."""
        return plane(self.scores, self.labels, self.output)

    def nearest(self, moment: float) -> int:
        """Find the window whose middle lies nearest to a moment in seconds."""
        return int(np.argmin(np.abs(self.centres - moment)))


def quadrants(labels: Sequence[str], output: Output) -> tuple[int, ...] | None:
    """Find the columns of Q1 to Q4 among a model's labels; None where they are no quadrants, or no probabilities.

    >>> quadrants(("aggressive", "relaxed", "happy", "sad"), "softmax")
    (2, 0, 3, 1)
    """
    names = [label.casefold() for label in labels]
    found = [[names.index(name) for name in known if name in names] for known in QUADRANTS]
    if output != "softmax" or len(names) != len(QUADRANTS) or any(len(columns) != 1 for columns in found):
        return None
    return tuple(columns[0] for columns in found)


def plane(scores: Floats, labels: Sequence[str], output: Output) -> Floats | None:
    """Place scores in the plane of valence and arousal.

    Parameters
    ----------
    scores : ndarray, shape (n_windows, n_classes)
    labels : sequence of str
    output : {"softmax", "sigmoid", "regression"}

    Returns
    -------
    ndarray, shape (n_windows, 2), or None
        Valence and arousal, from −1 to 1 where they come from quadrants; None where the model knows neither.

    Examples
    --------
    >>> plane(np.array([[0.5, 0.25, 0.0, 0.25]]), ("Q1", "Q2", "Q3", "Q4"), "softmax")
    array([[0.5, 0.5]])
    """
    columns = quadrants(labels, output)
    if columns is not None:
        return np.asarray(scores[:, columns] @ SIGNS)
    names = [label.casefold() for label in labels]
    if "valence" in names and "arousal" in names:
        return scores[:, [names.index("valence"), names.index("arousal")]]
    return None


def window_samples(model: Model, window: float | None, seconds: float) -> int:
    """Length of a window in samples at the model's rate, for a recording that lasts so many seconds.

    The model's own unless another is asked for; `SPAN_SECONDS` for a model that hears any length, and then no longer
    than the recording.

    Raises
    ------
    OtoscopeError
        If it is shorter than what the model hears.
    """
    own = model.n_samples
    if window is None:
        length = own or round(SPAN_SECONDS * model.rate)
    elif not 0 < window < np.inf or (length := round(window * model.rate)) < (own or 1):
        least = f"the model hears {own / model.rate:g} s" if own else "a window needs a length"
        raise OtoscopeError(f"a window of {window:g} s is too short: {least}; give --window more, or leave it out")
    return max(own or 1, min(length, round(seconds * model.rate)))


def check_step(step: float, *, window: float = np.inf, seconds: float = 0.0, n_classes: int = 1) -> None:
    """Refuse a step that leaves gaps, stands still, or makes more scores than anyone can look at.

    Parameters
    ----------
    step, window, seconds : float
        Step, window and recording in seconds.
    n_classes : int

    Raises
    ------
    OtoscopeError
    """
    if not step > 0:
        raise OtoscopeError(f"a step of {step:g} s does not move; give --step more than 0 s")
    if step > window + 1e-9:
        raise OtoscopeError(
            f"a step of {step:g} s is larger than the window of {window:g} s and leaves gaps; give --step at most that"
        )
    least = max(LEAST_STEP, seconds * n_classes / MOST_SCORES)
    if step < least:
        raise OtoscopeError(
            f"a step of {step:g} s makes more windows than anyone can look at; give --step {1.06 * least:.2g} s"
        )


def follow(
    model: Model,
    sound: Audio | Recording,
    *,
    step: float = STEP,
    window: float | None = None,
    tail: bool = True,
    batch_size: int = BATCH_SIZE,
    progress: Progress = quiet,
) -> Timeline:
    """Score a recording window by window.

    Parameters
    ----------
    model : Model
    sound : Audio or Recording
        A `Recording` is read piece by piece.
    step : float
        In seconds, at most the window.
    window : float, optional
        In seconds, at least the model's own, which is the default; in a longer one the model's scores are averaged as
        in `Windowed`.
    tail : bool
        Whether one more window, off the grid of steps, ends with the recording.
    batch_size : int
        Most windows in memory at once.
    progress : callable
        Told (done, total) windows.

    Returns
    -------
    Timeline

    Raises
    ------
    OtoscopeError
        If the window or the step does not fit.
    """
    length = window_samples(model, window, sound.seconds)
    seconds = length / model.rate
    check_step(step, window=seconds, seconds=sound.seconds, n_classes=len(model.labels))
    windowed = Windowed(model, length)
    chunks = iter([sound.at(model.rate).samples]) if isinstance(sound, Audio) else sound.at(model.rate)
    expected = 2 + int(max(0.0, sound.seconds - seconds) / step)
    firsts: list[int] = []
    scores: list[Floats] = []
    for batch in batches(cut(chunks, window=length, step=step * model.rate, tail=tail), batch_size):
        firsts += [first for first, _ in batch]
        scores.append(windowed.predict(np.stack([samples for _, samples in batch])))
        progress(min(len(firsts), expected - 1), expected)
    progress(expected, expected)
    return Timeline(
        sound.name,
        sound.seconds,
        model.labels,
        model.output,
        np.array(firsts) / model.rate,
        seconds,
        step,
        np.concatenate(scores),
        (*_notes(sound, seconds), *windowed.notes()),
    )


def _notes(sound: Audio | Recording, window: float) -> tuple[str, ...]:
    notes = sound.notes() if isinstance(sound, Audio) else ("the recording is digital silence",) * sound.silent
    missing = window - sound.seconds
    return (*notes, f"padded with {missing:.2f} s of silence to the model's window") if missing > 5e-3 else notes


def smoothed(timeline: Timeline, seconds: float) -> Timeline:
    """Average scores over the windows whose centres lie within half of `seconds` of each window's own.

    Raises
    ------
    OtoscopeError
        If `seconds` is no positive time.
    """
    if not 0 < seconds < np.inf:
        raise OtoscopeError(f"scores cannot be smoothed over {seconds:g} s; give --smooth more than 0 s")
    centres, reach = timeline.centres, seconds / 2 + 1e-9
    first = np.searchsorted(centres, centres - reach)
    last = np.searchsorted(centres, centres + reach, side="right")
    sums = np.concatenate([np.zeros((1, timeline.scores.shape[1])), np.cumsum(timeline.scores, axis=0)])
    scores = (sums[last] - sums[first]) / (last - first)[:, None]
    return replace(timeline, scores=scores, notes=(*timeline.notes, f"scores smoothed over {seconds:g} s"))
