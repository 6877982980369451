"""Letters of figures: which fonts are taken, that all figures take them, and that nobody is warned."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped]
from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped]
from matplotlib import font_manager
from matplotlib.figure import Figure

from otoscope.adapters.lettering import FAMILIES, OWN, families, lettering
from otoscope.explainers.figure import draw
from tests.test_exports import explained

KANJI = "漢"


def make_font(path: Path, family: str) -> Path:
    """Make a font that holds one letter, a full square, and is not there in bold."""
    pen = TTGlyphPen(None)
    for x, y in ((0, 0), (0, 800), (1000, 800), (1000, 0)):
        (pen.lineTo if pen.points else pen.moveTo)((x, y))
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(KANJI): "square"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return path


def ink() -> npt.NDArray[np.float64]:
    """Draw the letter, upright and bold, and tell how dark each is."""
    found = []
    for weight in ("normal", "bold"):
        figure = Figure(figsize=(1, 1), dpi=50)
        figure.text(0.1, 0.3, KANJI, fontsize=30, fontweight=weight)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="rgba")
        found.append(255 - np.frombuffer(buffer.getvalue(), dtype=np.uint8).reshape(-1, 4)[:, :3].mean())
    return np.array(found)


def test_installed_families_are_taken_in_order_and_matplotlibs_own_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for installed, expected in (
        ([], []),
        (["Comic Sans MS", "Malgun Gothic", "Noto Sans CJK JP"], ["Noto Sans CJK JP", "Malgun Gothic"]),
        (["WenQuanYi Zen Hei"], ["WenQuanYi Zen Hei"]),
        (reversed(FAMILIES), list(FAMILIES)),
    ):
        monkeypatch.setattr(font_manager, "get_font_names", lambda installed=installed: list(installed))
        assert families() == [OWN, *expected]


def test_a_letter_comes_from_a_font_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    monkeypatch.setattr("otoscope.adapters.lettering.FAMILIES", ("Square Test",))
    with lettering():
        boxes = ink()
    font_manager.fontManager.addfont(make_font(tmp_path / "square.ttf", "Square Test"))
    with lettering():
        assert families() == [OWN, "Square Test"]
        letters = ink()
    assert np.all(letters > 1.5 * boxes)
    assert caplog.records == []  # such as: there is no bold


@pytest.mark.skipif(len(families()) == 1, reason="no font with Chinese, Japanese or Korean letters is installed")
def test_an_installed_font_draws_two_letters_differently() -> None:
    def drawn(letter: str) -> bytes:
        figure, buffer = Figure(figsize=(1, 1)), io.BytesIO()
        figure.text(0.2, 0.2, letter, fontsize=30)
        figure.savefig(buffer, format="rgba")
        return buffer.getvalue()

    with lettering():
        assert len({drawn("東"), drawn("京"), drawn("\U000f0000")}) == 3


def test_a_letter_that_no_font_has_warns_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    found = explained()
    named = replace(found, model="\U000f0001漢", names=tuple(f"{name} 東京" for name in found.names))
    capfd.readouterr()
    for suffix in (".png", ".svg", ".pdf"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            draw(named, tmp_path / f"a{suffix}", width="single")
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_what_was_changed_is_put_back() -> None:
    finder, before = logging.getLogger("matplotlib.font_manager"), dict(matplotlib.rcParams)
    level, filters = finder.level, list(warnings.filters)
    with contextlib.suppress(KeyError), lettering():
        assert matplotlib.rcParams["font.family"] == families()
        raise KeyError
    assert dict(matplotlib.rcParams) == before
    assert (finder.level, list(warnings.filters)) == (level, filters)


def test_every_module_that_draws_takes_them() -> None:
    root = Path(__file__).parents[1]
    texts = {
        path.name: path.read_text(encoding="utf-8")
        for folder in ("explainers", "mer_models", "otoscope")
        for path in (root / folder).glob("*.py")
    }
    drawing = {name for name, text in texts.items() if ".savefig(" in text}
    assert {"figure.py", "effects_figure.py", "comparison_figure.py", "evaluation_figure.py"} <= drawing
    assert {name for name in drawing if "lettering()" not in texts[name]} == set()
