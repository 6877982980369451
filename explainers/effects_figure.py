"""The picture of level one: effects over the corpus and of this recording, shares of R², correlations of the features.

Rows are features, the largest centred effect of this recording at the top; the last row is the remainder. Left, boxes
are the centred effects over the corpus (whiskers as in `otoscope.explainers.level_one`, no outliers), the dot is this
recording, the dashed line the corpus's mean: the dots add up to how far the score lies from that of the corpus. In the
middle, how much of R² each feature is credited with, and below what none of them explains. Right, the features'
correlations: where they are strong, single weights and effects mean little.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.adapters.lettering import lettering
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.figure import AGAINST, FOR, as_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ints = npt.NDArray[np.intp]


@lettering()
def draw_effects(explanation: Explanation, path: str | Path) -> None:
    """Draw level one of a two-level explanation into a PNG file."""
    from matplotlib.figure import Figure

    native = explanation.native
    order = np.argsort(-np.abs(native["centred_effects"]), kind="stable")
    figure = Figure(figsize=(13, 1.9 + 0.42 * (len(order) + 1)), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[2.1, 1.0, 1.1], gridspec_kw={"wspace": 0.06})
    _effects(left, native, order, explanation.units)
    _shares(middle, native, order)
    _correlation(right, native, order)
    r2 = float(native["r2"])
    told = "does not vary" if np.isnan(r2) else f"held-out R² {r2:.2f}"
    figure.suptitle(
        as_text(
            f"level one: {explanation.target.name} of {explanation.model} by {len(order)} features, {told} "
            f"({int(native['n_spans'])} spans of {int(native['n_recordings'])} recordings)"
        )
    )
    figure.savefig(path, dpi=100, metadata={"Software": None})


def names(native: dict[str, Any], order: Ints) -> list[str]:
    """Names of the features in their order, readable."""
    return [as_text(str(native["names"][index]).replace("_", " ")) for index in order]


def _rows(axes: Axes, labels: list[str], drilled: int) -> None:
    """Label the rows from the top down; the feature that level two drills into is bold."""
    axes.set_yticks(range(len(labels)), labels)
    axes.get_yticklabels()[drilled].set_fontweight("bold")
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _effects(axes: Axes, native: dict[str, Any], order: Ints, units: str) -> None:
    d = len(order)
    boxes = native["boxes"][[*order, d]]
    dots = np.append(native["centred_effects"][order], native["remainder"])
    keys = ("whislo", "q1", "med", "q3", "whishi")
    axes.bxp(
        [dict(zip(keys, row, strict=True)) for row in boxes.tolist()],
        positions=range(d + 1),
        orientation="horizontal",
        showfliers=False,
        widths=0.5,
        patch_artist=True,
        boxprops={"facecolor": "0.9", "edgecolor": "0.6"},
        whiskerprops={"color": "0.6"},
        capprops={"color": "0.6"},
        medianprops={"color": "0.5"},
        manage_ticks=False,
    )
    axes.scatter(dots, range(d + 1), s=55, zorder=3, color=np.where(dots[:, None] > 0, FOR, AGAINST), edgecolor="w")
    axes.axvline(0, color="0.3", linestyle="--", linewidth=0.9, zorder=0)
    axes.axhline(d - 0.5, color="0.7", linewidth=0.8)
    drilled = int(np.flatnonzero(order == int(native["feature"]))[0])
    _rows(axes, [*names(native, order), "remainder"], drilled)
    edge = max(float(np.abs(boxes).max()), float(np.abs(dots).max())) * 1.02 or 1.0
    axes.set_xlim(-edge, edge * 1.3)
    for row, dot in enumerate(dots):
        axes.annotate(
            f"{dot + 0.0:+.2f}".replace("-0.00", "+0.00"),
            (1.0, row),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            fontsize=9,
        )
    axes.set_xlabel(f"centred effect ({units})")
    axes.set_title("effects: boxes the corpus, dots this recording", loc="left", fontsize=10)


def _shares(axes: Axes, native: dict[str, Any], order: Ints) -> None:
    d = len(order)
    shares, (low, high) = native["shares"][order], native["intervals"][order].T
    errors = np.stack([shares - low, high - shares]).clip(min=0)
    axes.barh(range(d), 100 * shares, xerr=100 * errors, color="0.55", ecolor="0.2", capsize=2, height=0.6)
    axes.barh([d], [100 * (1 - float(native["r2_fitted"]))], color="0.88", height=0.6)
    axes.axhline(d - 0.5, color="0.7", linewidth=0.8)
    axes.set_yticks([])
    axes.set_ylim(d + 0.6, -0.6)
    for row, share in enumerate([*shares, 1 - float(native["r2_fitted"])]):
        axes.annotate(
            f"{share:.1%}", (1.0, row), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=9
        )
    axes.set_xlim(0, 100 * 1.25)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("% of the variance, with 95 % intervals")
    axes.set_title("shares of R² (Shapley)", loc="left", fontsize=10)


def _correlation(axes: Axes, native: dict[str, Any], order: Ints) -> None:
    d = len(order)
    table = native["correlation"][np.ix_(order, order)]
    axes.imshow(table, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto", extent=(-0.5, d - 0.5, d - 0.5, -0.5))
    for row in range(d):
        for column in range(d):
            dark = abs(table[row, column]) > 0.6
            axes.text(
                column,
                row,
                "1" if row == column else f"{table[row, column]:+.2f}".replace("0.", "."),
                ha="center",
                va="center",
                fontsize=7.5,
                color="w" if dark else "0.2",
            )
    axes.set_yticks([])
    axes.set_ylim(d + 0.6, -0.6)
    axes.set_xticks(range(d), names(native, order), rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("correlations of the features", loc="left", fontsize=10)
