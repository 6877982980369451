"""Targets and scales: which number is explained, and in which units."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.targets import Target, clipped_share, default_scale, on_scale, resolve_target

LABELS = ("Happy", "sad", "lo-fi", "hip-hop", "lo", "A", "a")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Happy", (0, None, "Happy")),
        ("hApPy", (0, None, "Happy")),
        (" sad ", (1, None, "sad")),
        ("lo-fi", (2, None, "lo-fi")),
        ("A", (5, None, "A")),
        ("a", (6, None, "a")),
        (3, (3, None, "hip-hop")),
        ("3", (3, None, "hip-hop")),
        ("top", (1, None, "sad")),
        ("Happy-sad", (0, 1, "Happy-sad")),
        ("sad-happy", (1, 0, "sad-Happy")),
        ("lo-fi-hip-hop", (2, 3, "lo-fi-hip-hop")),
        ("hip-hop-lo-fi", (3, 2, "hip-hop-lo-fi")),
        ("lo-hip-hop", (4, 3, "lo-hip-hop")),
        ("0-1", (0, 1, "Happy-sad")),
    ],
)
def test_targets_are_found(asked: Any, found: tuple[int, int | None, str]) -> None:
    scores = np.array([0.1, 0.9, 0.3, 0, 0, 0, 0])
    assert resolve_target(asked, LABELS, "sigmoid", scores) == Target(*found)


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("hapy", "Happy"), ("hiphop", "hip-hop"), ("lo-fy", "lo-fi"), ("hip-hop-sda", None), (7, None), ("-1", None)],
)
def test_unknown_targets_are_answered_with_the_nearest(asked: Any, nearest: str | None) -> None:
    with pytest.raises(OtoscopeError, match=f"unknown target '{asked}'") as caught:
        resolve_target(asked, LABELS, "softmax")
    if nearest:
        assert f"did you mean '{nearest}'?" in str(caught.value)


@pytest.mark.parametrize("asked", ["", "-", "sad-sad", "A-", "²", "٣٣"])
def test_strange_targets_are_errors_of_ours(asked: str) -> None:
    with pytest.raises(OtoscopeError, match="unknown target"):
        resolve_target(asked, LABELS, "softmax")


def test_a_name_that_fits_two_labels_is_not_guessed() -> None:
    with pytest.raises(OtoscopeError, match="unknown target 'ROCK'"):
        resolve_target("ROCK", ("rock", "Rock"), "softmax")


def test_a_label_may_be_a_number_or_top() -> None:
    assert resolve_target("1", ("1", "0"), "softmax").index == 0
    assert resolve_target("top", ("slow", "top"), "softmax", np.array([1.0, 0])).index == 1


def test_top_of_several_values_is_refused() -> None:
    with pytest.raises(OtoscopeError, match="'top' means nothing for several values; name one of: valence, energy"):
        resolve_target("top", ("valence", "energy"), "regression", np.zeros(2))
    assert resolve_target("top", ("valence",), "regression", np.zeros(1)).index == 0


P = np.array([[0.7, 0.2, 0.1], [0.01, 0.98, 0.01]])


@pytest.mark.parametrize(
    ("output", "scale", "against", "formula"),
    [
        ("softmax", "log_odds", None, np.log(P[:, 0]) - np.log(P[:, 1] + P[:, 2])),
        ("softmax", "log_odds", 2, np.log(P[:, 0]) - np.log(P[:, 2])),
        ("sigmoid", "log_odds", None, np.log(P[:, 0]) - np.log(1 - P[:, 0])),
        ("sigmoid", "log_odds", 1, np.log(P[:, 0] / (1 - P[:, 0])) - np.log(P[:, 1] / (1 - P[:, 1]))),
        ("regression", "score", None, P[:, 0]),
        ("regression", "score", 1, P[:, 0] - P[:, 1]),
        ("softmax", "score", None, P[:, 0]),
        ("sigmoid", "score", 2, P[:, 0] - P[:, 2]),
    ],
)
def test_scales_by_formula(output: Any, scale: Any, against: int | None, formula: Any) -> None:
    np.testing.assert_allclose(on_scale(P, Target(0, against, "x"), output, scale), formula)


def test_log_odds_of_a_regression_are_refused() -> None:
    with pytest.raises(OtoscopeError, match="log-odds exist for probabilities only; use --scale score"):
        on_scale(P, Target(0, None, "x"), "regression", "log_odds")


def test_default_scales() -> None:
    assert [default_scale(output) for output in ("softmax", "sigmoid", "regression")] == [
        "log_odds",
        "log_odds",
        "score",
    ]


@given(st.floats(0, 1), st.sampled_from([1e-6, 1 / 512]))
def test_saturated_probabilities_stay_finite(p: float, clip: float) -> None:
    limit = np.log((1 - clip) / clip)
    value = on_scale(np.array([[p, 1 - p]]), Target(0, None, "x"), "sigmoid", "log_odds", clip=clip)[0]
    assert -limit * (1 + 1e-9) <= value <= limit * (1 + 1e-9)


@pytest.mark.parametrize(
    ("output", "against", "expected"),
    [("sigmoid", None, 0.5), ("softmax", None, 0.5), ("sigmoid", 1, 0.5), ("softmax", 1, 0.25)],
)
def test_the_clipped_share_counts_what_the_scale_changed(output: Any, against: int | None, expected: float) -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.9, 0.1]])
    # In the contrast of a softmax a probability of 1 is left alone, so only the zeros count: 1 of 4 in each column.
    assert clipped_share(scores, Target(0, against, "x"), output, "log_odds") == expected
    assert clipped_share(scores, Target(0, against, "x"), output, "score") == 0
    assert clipped_share(scores, Target(0, against, "x"), "regression", "score") == 0
