"""Letters in pictures: names in any script for which this machine has a font.

The font that comes with matplotlib has no Chinese, Japanese or Korean letters. Matplotlib takes every letter from the
first font of a list that has it, so behind its own stand those of `FAMILIES` that are installed; which is in front
decides no more than the shape of letters that several scripts share. A letter that no font has is drawn as a box, and
nobody is warned of it: the reader of a picture sees it, and nothing else is wrong.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

OWN = "DejaVu Sans"  # comes with matplotlib
FAMILIES = (
    "Noto Sans CJK JP",  # the faces of one file: each has the letters of all
    "Noto Sans CJK SC",
    "Noto Sans CJK TC",
    "Noto Sans CJK KR",
    "Noto Sans JP",
    "Noto Sans SC",
    "Noto Sans TC",
    "Noto Sans KR",
    "Source Han Sans",
    "Source Han Sans JP",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "Source Han Sans KR",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "IPAGothic",
    "NanumGothic",
    "Hiragino Sans",  # macOS
    "PingFang SC",
    "PingFang HK",
    "Heiti TC",
    "Apple SD Gothic Neo",
    "Yu Gothic",  # Windows
    "Microsoft YaHei",
    "Microsoft JhengHei",
    "Malgun Gothic",
    "Arial Unicode MS",
)


def families() -> list[str]:
    """Name the fonts to draw with, matplotlib's own first."""
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    return [OWN, *(family for family in FAMILIES if family in installed)]


@contextmanager
def lettering() -> Iterator[None]:
    """Draw in matplotlib's own style, whatever the reader's is, with letters of every script that can be had."""
    from matplotlib import rc_context, rcdefaults, rcParams

    finder = logging.getLogger("matplotlib.font_manager")
    heard = finder.level
    with rc_context(), warnings.catch_warnings():
        rcdefaults()  # a reader's own style must change neither bytes nor sizes of letters
        rcParams["font.family"] = families()
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        finder.setLevel(logging.ERROR)  # few of these fonts are there in bold
        try:
            yield
        finally:
            finder.setLevel(heard)
