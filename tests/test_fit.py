"""Fitting: recipes, learning rates, pieces, threads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.corpus import HEADROOM
from otoscope.mer_models.data import Clip
from otoscope.mer_models.fit import Recipe, one_cycle, pieces


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch_size": 1}, {"gain": HEADROOM + 1}, {"stride": 0}])
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
