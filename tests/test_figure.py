"""The picture of an explanation: vectors for a paper, letters one can read, and the same bytes every time."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.figure import LOOKS, Width, draw, shortened
from tests.test_exports import explained

WIDTHS: tuple[Width, ...] = get_args(Width)
PAPER: tuple[Width, ...] = ("double", "single")
SVG = "{http://www.w3.org/2000/svg}"
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
HOSTILE = ("a\x00b\x01", "--><script>alert(1)</script>", "$x^2$ $", "tab\tline\nend\r", "\\alpha_{", "x" * 500, "")


@pytest.fixture(scope="module")
def found() -> Explanation:
    return explained()


def pixels(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.width


def with_pitch(found: Explanation) -> Explanation:
    """Give an explanation a map of pitch class × time, as that of the harmonics CNN has."""
    cells = np.random.default_rng(0).uniform(-1, 1, (12, 20))
    return replace(found, native={"groups": cells, "group_names": np.array(PITCHES)})


def texts(
    found: Explanation, path: Path, width: Width, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, float, Any]]:
    """Draw, and list what is written: text, points, and its box as shares of the figure."""
    told: list[tuple[str, float, Any]] = []
    save = Figure.savefig

    def look(figure: Any, *args: Any, **settings: Any) -> None:
        save(figure, *args, **settings)
        figure.set_dpi(settings["dpi"])  # saving puts it back, and boxes would be those of another size
        figure.draw_without_rendering()
        for text in figure.findobj(Text):
            if text.get_text() and text.get_visible():
                box = text.get_window_extent().transformed(figure.transFigure.inverted())
                told.append((text.get_text(), text.get_fontsize(), box))

    monkeypatch.setattr(Figure, "savefig", look)
    draw(found, path, width=width)
    return told


@pytest.mark.parametrize("width", PAPER)
@pytest.mark.parametrize("pitch", [False, True])
def test_letters_on_paper_can_be_read(
    found: Explanation, tmp_path: Path, width: Width, pitch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = texts(with_pitch(found) if pitch else found, tmp_path / "a.png", width, monkeypatch)
    assert len(told) > 20
    assert min(points for _, points, _ in told) >= 7
    if pitch and width == "double":
        rows = sorted((box.y0, box.y1) for text, _, box in told if text in PITCHES)
        assert len(rows) == 12
        assert all(below[1] <= above[0] + 1e-3 for below, above in itertools.pairwise(rows))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("pitch", [False, True])
def test_nothing_written_leaves_the_page(
    found: Explanation, tmp_path: Path, width: Width, pitch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"part {i}: 10.2-12.2 s, 10.55-13.73 kHz" for i in range(10, 10 + len(found.names))]
    for place, name in zip(found.strongest(3), ("a name without end " * 20, "m" * 99, "MALE SPEECH " * 9), strict=True):
        names[place] = name
    long = replace(found, names=tuple(names), model="m" * 300)
    told = texts(with_pitch(long) if pitch else long, tmp_path / "a.png", width, monkeypatch)
    inside = [text for text, _, box in told if box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1 and box.y1 <= 1]
    outside = {text for text, _, _ in told} - set(inside)
    assert any(text.endswith("kHz") and "…" not in text for text in inside)  # the names parts are given fit as they are
    # Ticks beyond the limits of an axis keep their text, and are not drawn.
    assert {text for text in outside if not re.fullmatch(r"[−\d.]+|C\d · \d+", text)} == set()


def test_a_vector_figure_holds_cells_as_images_and_all_else_as_vectors(found: Explanation, tmp_path: Path) -> None:
    for width, images in (("screen", 2), ("double", 2), ("single", 1)):
        draw(found, tmp_path / "a.svg", width=width)  # type: ignore[arg-type]
        tree = ElementTree.parse(tmp_path / "a.svg").getroot()
        assert float(tree.attrib["width"].removesuffix("pt")) == pytest.approx(72 * LOOKS[width].width)
        assert len(list(tree.iter(f"{SVG}image"))) == images
        assert list(tree.iter(f"{SVG}text")) == []  # letters are outlines
        assert len(list(tree.iter(f"{SVG}use"))) > 100  # one for each letter
        draw(found, tmp_path / "a.pdf", width=width)  # type: ignore[arg-type]
        pdf = (tmp_path / "a.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert pdf.count(b"/Subtype /Image") - pdf.count(b"/SMask") == images
        assert b"/FontFile2" in pdf  # TrueType, embedded
        assert b"/Type3" not in pdf
        (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf)
        assert float(box) == pytest.approx(72 * LOOKS[width].width)


def test_a_paper_has_columns_of_the_usual_width_and_three_hundred_dots_an_inch(
    found: Explanation, tmp_path: Path
) -> None:
    for width, inches in (("double", 7.0), ("single", 3.3)):
        draw(found, tmp_path / "a.png", width=width)  # type: ignore[arg-type]
        assert pixels(tmp_path / "a.png") == pytest.approx(300 * inches, abs=1)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_explanation_gives_the_same_bytes_whatever_the_style(
    found: Explanation, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(found, tmp_path / f"one{suffix}", width="double")
    once = (tmp_path / f"one{suffix}").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "pdf.fonttype": 3, "svg.hashsalt": "x"}):
        draw(found, tmp_path / f"two{suffix}", width="double")
        assert matplotlib.rcParams["font.size"] == 20  # put back
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / f"two{suffix}").read_bytes() == once
    assert b"CreationDate" not in once
    assert b"dc:date" not in once
    assert not re.search(rb"20\d\d-\d\d-\d\d", once)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_breaks_a_figure(found: Explanation, tmp_path: Path, name: str) -> None:
    evil = replace(found, names=tuple(name for _ in found.names), model=name or "m")
    for width in PAPER:
        draw(evil, tmp_path / "a.svg", width=width)
        tree = ElementTree.parse(tmp_path / "a.svg").getroot()
        assert not any(element.tag.endswith("script") for element in tree.iter())
        draw(evil, tmp_path / "a.pdf", width=width)


def test_a_long_name_keeps_both_its_ends() -> None:
    for n in range(3, 40):
        told = shortened("abcdefghijklmnopqrstuvwxyz0123", n)
        assert len(told) == min(n, 30)
        assert told[0] == "a"
        assert n < 4 or told[-1] == "3"


@pytest.mark.parametrize("wrong", ["x.bmp", "x", "x.svg.gz", ".png"])
def test_another_suffix_is_refused_with_the_choices(found: Explanation, tmp_path: Path, wrong: str) -> None:
    with pytest.raises(OtoscopeError, match=r"pictures are \.png, \.svg, \.pdf") as error:
        draw(found, tmp_path / wrong)
    assert wrong in str(error.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OtoscopeError, match="unknown width 'singel': did you mean 'single'"):
        draw(found, tmp_path / "x.png", width="singel")  # type: ignore[arg-type]
    draw(found, tmp_path / "X.PNG")
    assert pixels(tmp_path / "X.PNG") == 1300
