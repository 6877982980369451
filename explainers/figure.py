"""The picture of an explanation: spectrogram, map, weights; for grouped layers also pitch class × time.

PNG, or SVG or PDF for a paper: there text, bars and outlines are vectors, the cells of the picture an image. Letters
are outlines in SVG, so that they look the same everywhere, and embedded TrueType in PDF, so that they can be searched.

In the map grey is what sounds, red speaks for the target and blue against it, the stronger the more colour; evidence is
outlined. Time in seconds of the recording, frequency in hertz on a log axis with the Cs marked.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from otoscope.adapters.errors import OtoscopeError, one_line, unknown
from otoscope.adapters.lettering import lettering
from otoscope.adapters.pitch import C0
from otoscope.explainers import grid
from otoscope.explainers.evidence import members
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.level_one import is_level_one
from otoscope.explainers.parts import Bools, Parts
from otoscope.explainers.targets import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_ROWS = 320
FLOOR = -80.0
FOR, AGAINST = np.array([0.84, 0.10, 0.11]), np.array([0.13, 0.36, 0.80])
Width = Literal["screen", "double", "single"]

UNDATED: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
STABLE: Any = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "otoscope"}
PAPER_FONT = 8.5  # points; "small" letters, the smallest on paper, have 7.1


class Look(NamedTuple):
    """What fits into a picture of some width: inches, ratios, how many bars, and the inches for their names."""

    width: float
    height: float
    height_with_pitch: float
    pitch_ratio: float
    map_ratio: float
    n_bars: int
    name_width: float


LOOKS = {
    "screen": Look(13.0, 7.2, 8.6, 0.55, 2.6, 10, 3.0),
    "double": Look(7.0, 4.4, 6.4, 1.15, 1.9, 6, 1.9),
    "single": Look(3.3, 4.6, 4.6, 0.0, 0.0, 5, 2.3),
}


def draw(explanation: Explanation, path: str | Path, *, width: Width = "screen") -> None:
    """Draw an explanation into a PNG, SVG or PDF file; the same explanation gives the same bytes.

    Parameters
    ----------
    explanation : Explanation
    path : str or Path
    width : {"screen", "double", "single"}
        13 inches, or two columns (7 inches) or one (3.3 inches) of a paper, with letters of 7 points at least. One
        column has no room for the plain spectrogram, nor for pitch class × time.

    Raises
    ------
    OtoscopeError
        If the suffix or the width is none of these.
    """
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    suffix = Path(path).suffix.lower()
    if suffix not in UNDATED:
        raise OtoscopeError(f"{path}: pictures are {', '.join(UNDATED)}; choose one of these suffixes")
    if width not in LOOKS:
        raise unknown("width", width, LOOKS)
    look = LOOKS[width]
    with lettering():
        rcParams.update({**STABLE, **({} if width == "screen" else {"font.size": PAPER_FONT})})
        figure = Figure(figsize=(look.width, look.height), layout="constrained")
        if width == "single":
            upper, lower = figure.subplots(2, 1, height_ratios=[1.2, 1])
            _map(explanation, upper)
            _bars(explanation, lower, look)
            _title(figure, look, explanation.audio.name, explanation.method, explanation.target.name)
        else:
            _wide(figure, explanation, look)
        figure.savefig(path, dpi=100 if width == "screen" else 300, metadata=UNDATED[suffix])


def _wide(figure: Figure, explanation: Explanation, look: Look) -> None:
    """Draw spectrogram and map above one another, the weights beside them."""
    pitch = "groups" in explanation.native
    figure.set_figheight(look.height_with_pitch if pitch else look.height)
    ratios = [1, 1, look.pitch_ratio] if pitch else [1, 1]
    cells = figure.add_gridspec(len(ratios), 2, width_ratios=[look.map_ratio, 1], height_ratios=ratios)
    _spectrogram(explanation, figure.add_subplot(cells[0, 0]))
    _map(explanation, figure.add_subplot(cells[1, 0]))
    if pitch:
        _groups(explanation, figure.add_subplot(cells[2, 0]), "x-small" if look is LOOKS["screen"] else "small")
    _bars(explanation, figure.add_subplot(cells[:, 1]), look)
    method = explanation.method
    if is_level_one(explanation.native):
        method += f", level two: {explanation.native['names'][int(explanation.native['feature'])]}"
    _title(figure, look, explanation.audio.name, explanation.model, method, explanation.target.name)


def _title(figure: Figure, look: Look, *told: str) -> None:
    """Write a title in one line where it fits, else in two, with long names shortened."""
    pieces = [as_text(fitted(one, 0.46 * look.width, "large")) for one in told]
    whole = fitted(" · ".join(told), 0.96 * look.width, "large") == one_line(" · ".join(told))
    figure.suptitle(" · ".join(pieces) if whole else "\n".join((" · ".join(pieces[:2]), " · ".join(pieces[2:]))))


def as_text(text: str) -> str:
    r"""Keep matplotlib from reading dollars as mathematics, and what no font and no XML can hold out of the picture.

    >>> as_text("5 $\ta\x01")
    '5 \\$ a\\x01'
    """
    return one_line(text).replace("$", r"\$")


def shortened(text: str, n: int) -> str:
    """Leave out the middle of a long name: often only its end tells it from another.

    >>> shortened("part 12: 0.1-0.2 s", 9)
    'part….2 s'
    """
    return text if len(text) <= n else f"{text[: n // 2]}…{text[len(text) - (n - 1 - n // 2) :]}"


def fitted(text: str, inches: float, size: str) -> str:
    """Put text on one line, shortened until it is no wider than that in letters of some size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    text, font = one_line(text), FontProperties(size=size)
    lengths = range(2, min(len(text), 200) + 1)

    def points(n: int) -> float:
        return float(text_to_path.get_text_width_height_descent(shortened(text, n), font, ismath=False)[0])

    if len(lengths) and points(lengths[-1]) <= 72 * inches:
        return shortened(text, lengths[-1])
    n_fitting = bisect_right(lengths, 72 * inches, key=points)
    return shortened(text, lengths[n_fitting - 1]) if n_fitting else text[:1]


def rows(parts: Parts) -> Floats:
    """Frequencies of the picture's rows in hertz, shape (n_rows,): log-spaced from C1 to the Nyquist frequency."""
    return np.asarray(np.geomspace(2 * C0, parts.audio.rate / 2, N_ROWS))


def level(parts: Parts) -> Floats:
    """Loudness of the picture's cells, shape (n_rows, n_frames), from 0 (80 dB below the loudest) to 1."""
    power = parts.power[bins(parts)]
    loudest = float(power.max()) or 1.0
    return np.asarray(1 - np.maximum(10 * np.log10(np.maximum(power / loudest, 1e-30)), FLOOR) / FLOOR)


def colour(explanation: Explanation) -> Floats:
    """How much each cell speaks for (to 1) or against (to −1) the target, shape (n_rows, n_frames).

    Black-box methods colour a whole part by its weight; Grad-CAM colours by its map.
    """
    parts = explanation.parts
    if explanation.units != "relative":
        per_part = members(explanation.groups, parts.k).T @ explanation.weights
        cells = per_part[parts.labels][bins(parts)]
    else:
        bands = np.searchsorted(grid.band_edges()[1:-1], rows(parts))
        step = parts.stft.hop_length / explanation.audio.rate
        columns = (np.arange(parts.labels.shape[1]) * step / grid.SECONDS).astype(int)
        cells = explanation.map[bands][:, np.minimum(columns, explanation.map.shape[1] - 1)]
    return np.asarray(cells / (float(np.abs(cells).max()) or 1.0))


def bins(parts: Parts) -> Any:
    """STFT bin of each row of the picture, shape (n_rows,)."""
    width = parts.audio.rate / parts.stft.n_fft
    return np.minimum(np.round(rows(parts) / width).astype(int), parts.stft.n_bins - 1)


def show(parts: Parts, axes: Axes, image: Floats, **settings: Any) -> None:
    """Show a picture (n_rows, n_frames), plain or in colours, over seconds and hertz."""
    low, high = np.log2(rows(parts)[[0, -1]])
    extent = (parts.start, parts.start + parts.audio.seconds, low, high)
    axes.imshow(image, origin="lower", aspect="auto", extent=extent, interpolation="nearest", **settings)
    marks = [2 * C0 * 2**octave for octave in range(10) if 2 * C0 * 2**octave < 2**high]
    axes.set_yticks(np.log2(marks), [f"C{octave + 1} · {mark:.0f}" for octave, mark in enumerate(marks)])
    axes.set_ylabel("hertz")


def _spectrogram(explanation: Explanation, axes: Axes) -> None:
    show(explanation.parts, axes, level(explanation.parts), cmap="magma", vmin=0, vmax=1)
    axes.set_title("what sounds", loc="left", fontsize="medium")


def tinted(parts: Parts, strength: Floats, hues: tuple[Floats, Floats] = (FOR, AGAINST)) -> Floats:
    """Tint what sounds, grey, by strength (n_rows, n_frames), 1 to −1, in two hues; (n_rows, n_frames, 3)."""
    loud, strength = level(parts)[..., None], strength[..., None]
    grey = 1 - 0.75 * loud
    hue = np.where(strength > 0, *hues)
    share = np.abs(strength) ** 0.7
    colours = 1 - (1 - hue) * (0.15 + 0.85 * loud)
    return np.asarray((1 - share) * grey + share * colours)


def _map(explanation: Explanation, axes: Axes) -> None:
    show(explanation.parts, axes, tinted(explanation.parts, colour(explanation)))
    outlined = explanation.groups is None and outline(explanation.parts, axes, explanation.evidence_mask)
    axes.set_title(
        "red for, blue against" + (", outlined: evidence" if outlined else ""),
        loc="left",
        fontsize="medium",
    )
    axes.set_xlabel("seconds")


def outline(parts: Parts, axes: Axes, chosen: Bools) -> bool:
    """Draw a line around chosen parts (k,), where there is one to draw."""
    inside = chosen[parts.labels][bins(parts)]
    if inside.all() or not inside.any() or min(inside.shape) < 2:
        return False
    low, high = np.log2(rows(parts)[[0, -1]])
    extent = (parts.start, parts.start + parts.audio.seconds, low, high)
    axes.contour(inside, levels=[0.5], colors="k", linewidths=0.7, extent=extent)
    return True


def _groups(explanation: Explanation, axes: Axes, size: str) -> None:
    cells = explanation.native["groups"]
    start, limit = explanation.span.start, float(np.abs(cells).max()) or 1.0
    extent = (start, start + explanation.audio.seconds, -0.5, len(cells) - 0.5)
    axes.imshow(cells, origin="lower", aspect="auto", extent=extent, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_yticks(range(len(cells)), [str(name) for name in explanation.native["group_names"]], fontsize=size)
    axes.set_title("which notes, when", loc="left", fontsize="medium")
    axes.set_xlabel("seconds")


def _bars(explanation: Explanation, axes: Axes, look: Look) -> None:
    strongest = explanation.strongest(look.n_bars)[::-1]
    weights = explanation.weights[strongest]
    errors = None if explanation.se is None else 2 * explanation.se[strongest]
    colours = np.where(weights[:, None] > 0, FOR, AGAINST)
    axes.barh(range(len(strongest)), weights, xerr=errors, color=colours, ecolor="0.4", height=0.5)
    axes.set_yticks([])
    for place, index in enumerate(strongest):
        axes.annotate(
            as_text(fitted(explanation.names[index], look.name_width, "small")),
            (0.02, place + 0.27),
            xycoords=("axes fraction", "data"),
            fontsize="small",
            va="bottom",
            in_layout=False,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5},
        )
    axes.set_ylim(-0.6, len(strongest) + 0.1)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel(f"weight ({explanation.units})" + ("" if errors is None else " ± 2 se"))
    axes.set_title("strongest parts", loc="left", fontsize="medium")
    axes.spines[["top", "right", "left"]].set_visible(False)
