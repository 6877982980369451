"""Pictures of a comparison: agreement matrices with their tree, maps side by side, and where two explanations differ.

Maps lie over seconds and hertz on the common grid: red for the target and blue against it, each scaled to its own
strongest cell; hatched is what a model cannot hear. A difference is drawn on the shared parts: orange leans to the
first explanation, green to the second, and outlined is what the two sounds hold.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from otoscope.adapters.lettering import lettering
from otoscope.adapters.pitch import C0
from otoscope.adapters.spectra import Floats
from otoscope.explainers.agreement import Clusters
from otoscope.explainers.comparison import Comparison
from otoscope.explainers.difference import Difference
from otoscope.explainers.figure import as_text, bins, outline, show, tinted
from otoscope.explainers.parts import Bools

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FIRST, SECOND = np.array([0.90, 0.45, 0.0]), np.array([0.0, 0.52, 0.42])
TITLES = {
    "spearman": "same order? (Spearman)",
    "iou": "same strongest places?",
    "iou_time": "same strongest moments?",
    "iou_frequency": "same strongest pitches?",
    "sign": "same direction?",
    "mass": "how much in common?",
}
SHOWN = ("spearman", "iou", "iou_time", "iou_frequency", "mass")
MOST_CASES = 6  # rows of maps in the overview
QUANTILE = 0.995  # of a map's cells are shown within full colour


@dataclass(frozen=True, eq=False)
class Strip:
    """The maps of one case, side by side.

    Attributes
    ----------
    title : str
    names : tuple of str
    maps : ndarray, shape (n, n_bands, n_columns)
    heard : ndarray of bool, shape (n, n_bands)
    start, duration : float
        In seconds of the recording.
    """

    title: str
    names: tuple[str, ...]
    maps: Floats
    heard: Bools
    start: float
    duration: float


def strip(title: str, comparison: Comparison) -> Strip:
    """Take from a comparison what is drawn of its maps."""
    targets = [one.target.name for one in comparison.explanations]
    names = tuple(f"{name}\n{target}" for name, target in zip(comparison.names, targets, strict=True))
    return Strip(title, names, comparison.maps, comparison.heard, comparison.start, comparison.duration)


@lettering()
def draw_agreement(agreement: dict[str, Floats], clusters: Clusters) -> bytes:
    """Draw the matrices of a comparison as a PNG."""
    figure = _figure(*_matrix_size(len(clusters.names)))
    _matrices(figure, agreement, clusters)
    return _png(figure)


@lettering()
def draw_maps(maps: Strip) -> bytes:
    """Draw the maps of a case side by side as a PNG."""
    n_rows = -(-len(maps.names) // 3)
    figure = _figure(13, 3.1 * n_rows)
    _maps(figure, maps, min(3, len(maps.names)))
    return _png(figure)


@lettering()
def draw_difference(difference: Difference, first: str, second: str) -> bytes:
    """Draw where two explanations differ as a PNG."""
    figure = _figure(13, 3.6)
    axes = figure.add_subplot()
    parts = difference.parts
    per_part = difference.difference / (float(np.abs(difference.difference).max()) or 1.0)
    cells = per_part[parts.labels][bins(parts)]
    show(parts, axes, tinted(parts, cells, hues=(FIRST, SECOND)))
    outline(parts, axes, difference.more_for_first | difference.more_for_second)
    axes.set_xlabel("seconds")
    axes.set_title(as_text(f"orange: more to {first}   ·   green: more to {second}"), loc="left", fontsize=10)
    return _png(figure)


@lettering()
def draw_overview(path: Path, agreement: dict[str, Floats], clusters: Clusters, strips: Sequence[Strip]) -> None:
    """Draw the matrices over all cases, and below them the maps of the first cases, into a PNG file."""
    width, height = _matrix_size(len(clusters.names))
    shown = strips[:MOST_CASES]
    figure = _figure(max(width, 13), height + 2.9 * len(shown))
    top, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, 2.9 * len(shown)])[:, 0]
    _matrices(top, agreement, clusters)
    for one, maps in zip(below.subfigures(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        _maps(one, maps, len(maps.names))
    path.write_bytes(_png(figure))


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _matrix_size(n: int) -> tuple[float, float]:
    side = max(2.2, 0.55 * n)
    return 3.2 + side * len(SHOWN), side + 0.9


def _matrices(figure: Figure | SubFigure, agreement: dict[str, Floats], clusters: Clusters) -> None:
    """Draw the tree and the matrices in its order."""
    cells = figure.subplots(1, len(SHOWN) + 1, width_ratios=[0.5, *[1] * len(SHOWN)])
    _tree(cells[0], clusters)
    order = list(clusters.order)
    for place, (axes, measure) in enumerate(zip(cells[1:], SHOWN, strict=True)):
        values = agreement[measure][np.ix_(order, order)]
        colours = {"cmap": "RdBu", "vmin": -1, "vmax": 1} if measure == "spearman" else {"cmap": "Blues", "vmax": 1.3}
        axes.imshow(values, **({"vmin": 0, "aspect": "auto"} | colours))
        for (row, column), value in np.ndenumerate(values):
            told = "–" if np.isnan(value) else f"{value:.2f}"
            axes.text(column, row, told, ha="center", va="center", fontsize=8, color="w" if value > 0.75 else "k")
        axes.set_title(TITLES[measure], fontsize=9)
        numbers = [str(number) for number in range(1, len(order) + 1)]
        names = [f"{as_text(clusters.names[one])}  {number}" for one, number in zip(order, numbers, strict=True)]
        axes.set_xticks(range(len(order)), numbers, fontsize=8)
        axes.set_yticks(range(len(order)), names if place == 0 else numbers, fontsize=8)
        axes.tick_params(length=0)


def _tree(axes: Axes, clusters: Clusters) -> None:
    """Draw how the rows join: a fork at the distance of each merge."""
    n = len(clusters.names)
    height = {one: float(place) for place, one in enumerate(clusters.order)}
    depth = dict.fromkeys(range(n), 0.0)
    for number, (a, b, distance, _) in enumerate(clusters.merges):
        axes.plot([depth[a], distance, distance, depth[b]], [height[a], height[a], height[b], height[b]], "0.3", lw=1.2)
        height[n + number], depth[n + number] = (height[a] + height[b]) / 2, distance
    axes.set_ylim(n - 0.5, -0.5)
    axes.invert_xaxis()
    axes.set_yticks([])
    axes.set_xlabel("1 − Spearman", fontsize=8)
    axes.set_title("groups", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "left", "right"]].set_visible(False)


def _maps(figure: Figure | SubFigure, maps: Strip, n_columns: int) -> None:
    """Draw maps in rows of `n_columns`."""
    n_rows = -(-len(maps.names) // n_columns)
    cells = np.atleast_1d(figure.subplots(n_rows, n_columns, sharex=True, sharey=True)).ravel()
    figure.suptitle(as_text(maps.title), fontsize=10, x=0.01, ha="left")
    n_bands = maps.maps.shape[1]
    extent = (maps.start, maps.start + maps.duration, -0.5, n_bands - 0.5)
    for place, axes in enumerate(cells):
        if place >= len(maps.names):
            axes.set_visible(False)
            continue
        values = maps.maps[place]
        most = float(np.quantile(np.abs(values), QUANTILE)) or float(np.abs(values).max()) or 1.0
        share = np.sign(values) * np.minimum(1, np.abs(values) / most) ** 0.6
        axes.imshow(share, origin="lower", aspect="auto", extent=extent, cmap="RdBu_r", vmin=-1, vmax=1)
        deaf = n_bands - int(maps.heard[place].sum())
        if deaf:
            axes.axhspan(n_bands - deaf - 0.5, n_bands - 0.5, facecolor="0.9", edgecolor="0.6", hatch="///", lw=0)
        axes.set_title(as_text(maps.names[place]), fontsize=8)
        cs = range(0, n_bands, 24)
        axes.set_yticks(cs, [f"C{1 + band // 12} · {2 * C0 * 2 ** (band / 12):.0f}" for band in cs])
        axes.tick_params(labelsize=7)
        axes.label_outer()
    cells[0].set_ylabel("hertz", fontsize=8)
