"""Fitting: recipes, learning rates, pieces, threads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.corpus import HEADROOM
from otoscope.mer_models.data import Clip
from otoscope.mer_models.draws import balanced, drawn, pieces, soft_target, targets
from otoscope.mer_models.fit import Recipe, one_cycle


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"gain": HEADROOM + 1},
        {"stride": 0},
        {"draws": {"emopia": 0}},
        {"stretch": -0.1},
    ],
)
def test_impossible_recipes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OtoscopeError, match="got"):
        Recipe(**change)


def test_learning_rate_rises_and_falls() -> None:
    rates = [one_cycle(position) for position in np.linspace(0, 1, 101)]
    assert max(rates) == rates[20] == 1
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0)
    assert np.diff(rates[:21]).min() > 0
    assert np.diff(rates[20:]).max() < 0


def test_renderings_of_one_piece_count_once(tmp_path: Path) -> None:
    clips = [Clip(name, tmp_path, f"emopia:{name}", "emopia", font, 0) for font in "xy" for name in "ab"]
    clips.append(Clip("a", tmp_path, "emotify:a", "emotify", quadrant=0))
    assert pieces(clips, np.array([0, 1, 2, 3, 4])) == [[0, 2], [1, 3], [4]]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 6), st.integers(0, 9))
def test_balanced_draws_are_as_many_in_every_epoch(kinds: list[int], draws: int, seed: int) -> None:
    found = balanced(np.array(kinds), draws, np.random.default_rng(seed))
    assert len(found) == draws * len(kinds)
    times = np.bincount(found, minlength=len(kinds))
    for kind in set(kinds):
        own = times[np.array(kinds) == kind]
        assert own.max() - own.min() <= 2


def test_balanced_draws_are_even_over_epochs() -> None:
    kinds = np.array([0] * 30 + [1] * 7 + [3] * 3)
    rng = np.random.default_rng(0)
    counts = np.mean([np.bincount(kinds[balanced(kinds, 3, rng)], minlength=4) for _ in range(200)], axis=0)
    np.testing.assert_allclose(counts, [40, 40, 0, 40], atol=0.5)


def test_data_sets_are_drawn_as_often_as_asked(tmp_path: Path) -> None:
    clips = [Clip(str(n), tmp_path, f"a:{n}", "a", quadrant=n % 3 % 2) for n in range(30)]
    clips += [Clip(str(n), tmp_path, f"b:{n}", "b", quadrant=n % 4) for n in range(20)]
    groups = [[index] for index in range(50)]
    found = drawn(clips, groups, {"a": 2, "b": 5}, np.random.default_rng(0), even=True)
    quadrants = np.array([clips[index].quadrant for index in found])
    assert (found < 30).sum() == 60
    assert (found >= 30).sum() == 100
    assert abs((quadrants[found < 30] == 0).sum() - 30) <= 4
    plain = drawn(clips, groups, 2, np.random.default_rng(0), even=False)
    assert np.bincount(plain).tolist() == [2] * 50


def test_a_clip_on_the_threshold_belongs_to_both_sides(tmp_path: Path) -> None:
    assert soft_target(0.0, 0.0, (0.0, 0.0), 0.45) == [0.25] * 4
    surely = soft_target(9.0, -9.0, (0.0, 0.0), 0.45)
    assert surely[3] == pytest.approx(1)
    assert sum(soft_target(0.3, -0.2, (0.1, 0.4), 0.45)) == pytest.approx(1)
    assert np.argmax(soft_target(-0.3, 0.2, (0.0, 0.0), 0.45)) == 1
    clips = [Clip(str(n), tmp_path, str(n), "b", quadrant=0, valence=n / 5, arousal=n / 5) for n in range(5)]
    clips.append(Clip("x", tmp_path, "x", "a", quadrant=2))
    soft = targets(clips, np.arange(6), 0.45)
    assert soft[2].tolist() == [0.25] * 4  # the median
    assert soft[5].tolist() == [0, 0, 1, 0]
    assert [int(one) for one in targets(clips, np.arange(6), 0.0)] == [0, 0, 0, 0, 0, 2]
