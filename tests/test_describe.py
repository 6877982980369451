"""What a trained model's card says, from clips and scores given by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from otoscope.adapters.card import read_card, write_card
from otoscope.mer_models.blinders import Settings
from otoscope.mer_models.data import Clip
from otoscope.mer_models.describe import describe
from otoscope.mer_models.fit import Recipe


def said(part: str, calls: list[int]) -> list[dict[str, Any]]:
    """Make what was said about four clips, one of each quadrant and with three windows."""
    scores = [(0.94 * np.eye(4)[call] + 0.015).tolist() for call in calls]
    return [
        {"part": part, "name": str(q), "song": str(q), "genre": "", "quadrant": q, "scores": [scores[q]] * 3}
        for q in range(4)
    ]


RIGHT, WRONG = [0, 1, 2, 3], [1, 2, 3, 0]
CLIPS = (
    Clip("Q1_a_0", Path("a"), "emopia:a", "emopia", "TimGM6mb", 0),
    Clip("Q1_a_1", Path("b"), "emopia:a", "emopia", "TimGM6mb", 0),
    Clip("Q1_a_0", Path("c"), "emopia:a", "emopia", "my_font", 0),
    Clip("001", Path("d"), "emotify:001", "emotify", quadrant=1, valence=0.25, arousal=-0.5),
)


def test_a_card_tells_sources_figures_and_licences(tmp_path: Path) -> None:
    fits = [
        {"clips": said("emopia/TimGM6mb", RIGHT) + said("emotify", WRONG)},
        {"clips": said("emopia/TimGM6mb", WRONG)},
    ]
    form = (Settings(), Recipe())
    card = describe(CLIPS, fits, form, epochs=7, seed=3, cool=0.85, command="otoscope train …")
    assert card["data"]["emopia"] == {"clips": 2, "songs": 1, "fonts": ["TimGM6mb", "my_font"]}
    assert card["data"]["emotify"]["thresholds"] == {"valence": 0.25, "arousal": -0.5}
    assert card["data"]["seed"] == 3
    assert card["measured"]["command"] == "otoscope train …"
    assert card["measured"]["protocol"].startswith("2 folds by song")
    rendered, real = card["measured"]["emopia/TimGM6mb"], card["measured"]["emotify"]
    assert rendered["macro_f1"] == {"mean": 0.5, "std": pytest.approx(0.7071)}
    assert rendered["clip_macro_f1"] == rendered["macro_f1"]
    assert rendered["f1_sadness"]["mean"] == 0.5
    assert real["macro_f1"] == {"mean": 0, "std": 0}
    assert real["arousal_auc"]["mean"] == 0.5  # WRONG calls Q1 Q2, Q2 Q3, Q3 Q4 and Q4 Q1
    assert real["calibration_error"]["mean"] == pytest.approx(0.955)
    assert rendered["calibration_error"]["mean"] == pytest.approx((0.045 + 0.955) / 2)
    assert rendered["calibration_error_of_all"] == pytest.approx(0.455)  # sure to .955, right half of the time
    assert card["data"]["temperature"] == 0.85
    assert card["data"]["recipe"]["epochs"] == 7
    assert card["licence"]["TimGM6mb"] == "GPL-2"
    assert card["licence"]["my_font"] == "see the sound font"
    assert "BY-NC-SA" in card["licence"]["emopia"]
    write_card(tmp_path / "m.toml", {**card, "model": {"name": "m", **card["model"]}})
    assert read_card(tmp_path / "m.toml").tables["measured"]["emopia/TimGM6mb"]["n"] == 24
