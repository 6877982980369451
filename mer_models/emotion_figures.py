"""Pictures of emotion over time: a timeline under its spectrogram, and the distances of all places from an ad.

Probabilities that add up to 1 are stacked, other scores drawn as lines; of many labels only those with the largest
means. Quadrants lie on one another as Q3, Q4, Q1, Q2: the lower two are low arousal, the middle two positive valence. A
value stands at the middle of its window and is held to the recording's ends. The path in the plane goes from dark to
light; of a long recording it joins means of neighbouring windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from otoscope.adapters.lettering import lettering
from otoscope.adapters.model import Floats
from otoscope.mer_models.match import Match, Place
from otoscope.mer_models.sketch import LOW, Sketch
from otoscope.mer_models.timeline import Timeline, quadrants

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LABELS = 8
MOST_POINTS = 80  # of a path
MOST_CONTENTS = 8
MOST_LETTERS = 30  # of a recording's name above a small picture
BESIDE = 3  # places drawn beside the ad
COLOURS = ("#eeb13c", "#cf4a3c", "#4c72b0", "#5fa86b")  # Q1 to Q4
ORDER = (2, 3, 0, 1)  # of quadrants, from below
GREY, BAND = "0.75", (0.37, 0.62, 0.63)


@lettering()
def draw_timeline(
    timeline: Timeline,
    sound: Sketch,
    path: str | Path,
    *,
    title: str = "",
    explained: Sequence[tuple[float, float]] = (),
) -> None:
    """Draw a timeline into a PNG file.

    Parameters
    ----------
    timeline : Timeline
    sound : Sketch
        Of its recording.
    path : str or Path
    title : str
    explained : sequence of (float, float)
        Windows to mark, by begin and end in seconds.
    """
    plane = timeline.plane
    figure = _figure(14.0 if plane is not None else 11.0, 8.0 if plane is not None else 6.0)
    n_rows = 2 if plane is None else 3
    cells = figure.add_gridspec(n_rows, 1 if plane is None else 2, width_ratios=[1] if plane is None else [2.2, 1])
    axes = [figure.add_subplot(cells[row, 0]) for row in range(n_rows)]
    _spectrogram(axes[0], sound, timeline.seconds)
    _scores(axes[1], _held(timeline), _ends_held(timeline.scores), timeline)
    if plane is not None:
        _lines(axes[2], timeline, plane)
        _means(figure.add_subplot(cells[0, 1]), timeline)
        _path(figure.add_subplot(cells[1:, 1]), timeline, plane)
    for one in axes:
        _seconds(one, 0, timeline.seconds)
        for start, end in explained:
            colour = "w" if one is axes[0] else "k"
            one.axvspan(start, end, facecolor="none", edgecolor=colour, linestyle="--", linewidth=1.2)
    for start, _ in explained:
        axes[0].annotate(" explained", (start, 0.98), xycoords=_blended(axes[0]), color="w", fontsize=8, va="top")
    figure.suptitle(_plain(title or timeline.name))
    _save(figure, path)


@lettering()
def draw_match(ad: Timeline, contents: Sequence[Timeline], found: Match, path: str | Path, *, title: str = "") -> None:
    """Draw the places that resemble an ad, and how far away all others are, into a PNG file.

    Parameters
    ----------
    ad : Timeline
    contents : sequence of Timeline
    found : Match
    path : str or Path
    title : str
    """
    shown = list(dict.fromkeys([place.content for place in found.places] + list(range(len(contents)))))[:MOST_CONTENTS]
    beside = found.places[:BESIDE]
    figure = _figure(14.0, 3.4 + 1.9 * len(shown))
    cells = figure.add_gridspec(1 + len(shown), 1 + BESIDE, height_ratios=[1.5] + [1] * len(shown))
    axes = figure.add_subplot(cells[0, 0])
    _scores(axes, _held(ad), _ends_held(ad.scores), ad, legend=False)
    axes.set_title(_plain(f"sought: {_short(ad.name)}\n{ad.seconds:.1f} s"), loc="left", fontsize=9)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=MOST_LABELS, frameon=False)
    _seconds(axes, 0, ad.seconds)
    for column, place in enumerate(beside, start=1):
        _beside(figure.add_subplot(cells[0, column]), ad, contents[place.content], place, column)
    for row, number in enumerate(shown, start=1):
        _curve(figure.add_subplot(cells[row, :]), ad, contents[number], found, number)
    left_out = len(contents) - len(shown)
    figure.suptitle(_plain(title) + (f" · {left_out} more not drawn" if left_out else ""))
    _save(figure, path)


def _beside(axes: Axes, ad: Timeline, content: Timeline, place: Place, rank: int) -> None:
    """Draw the course of a place under that of the ad's clock."""
    scores = content.scores[place.index : place.index + len(ad.scores)]
    _scores(axes, place.start + _held(ad), _ends_held(scores), content, legend=False)
    told = f"{rank}: {_short(content.name)}\nfrom {place.start:.1f} s, distance {place.distance:.3f}"
    axes.set_title(_plain(told), loc="left", fontsize=9)
    _seconds(axes, place.start, place.end)


def _curve(axes: Axes, ad: Timeline, content: Timeline, found: Match, number: int) -> None:
    """Draw the distance of every place of a content at its middle, and the chosen ones as bands."""
    curve, null = found.curves[number], found.null
    middles = content.starts[: len(curve)] + ad.seconds / 2
    axes.plot(middles, curve, color="0.2", linewidth=1.2, marker="." if len(curve) < 3 else None)
    axes.axhline(null.median, color="0.5", linestyle="--", linewidth=0.9)
    axes.annotate(
        "median place", (0.995, null.median), xycoords=_blended(axes, flip=True), fontsize=7, ha="right", va="bottom"
    )
    for rank, place in enumerate(found.places, start=1):
        if place.content == number:
            axes.axvspan(
                place.start, place.end, facecolor=(*BAND, 0.7 if rank == 1 else 0.3), edgecolor="w", linewidth=2
            )
            middle = (place.start + place.end) / 2
            axes.annotate(
                str(rank), (middle, 0.97), xycoords=_blended(axes), fontsize=9, fontweight="bold", ha="center", va="top"
            )
    axes.set_ylim(0, 1.15 * max(null.high, *(float(one.max()) for one in found.curves)) or 1.0)
    axes.set_ylabel("distance")
    axes.set_title(_plain(content.name), loc="left", fontsize=9)
    _seconds(axes, 0, content.seconds)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: str | Path) -> None:
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _plain(text: str) -> str:
    """Keep matplotlib from reading dollars as mathematics."""
    return text.replace("$", r"\$")


def _short(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"


def _held(timeline: Timeline) -> Floats:
    """Middles of the windows, with the recording's begin before and its end behind, shape (n_windows + 2,)."""
    return np.concatenate([[0.0], timeline.centres, [timeline.seconds]])


def _ends_held(scores: Floats) -> Floats:
    """Scores with the first and last twice, shape (n_windows + 2, …)."""
    return np.concatenate([scores[:1], scores, scores[-1:]])


def _seconds(axes: Axes, start: float, end: float) -> None:
    """Make an axis of seconds, from a minute on of minutes and seconds."""
    axes.set_xlim(start, end)
    if end >= 60:
        axes.xaxis.set_major_locator(_steps(end - start))
    axes.xaxis.set_major_formatter(_clock(end))


def _clock(end: float) -> Any:
    """Write seconds, or minutes and seconds where the end is a minute or later."""
    return "{x:g} s" if end < 60 else lambda second, _: f"{int(second // 60)}:{int(second % 60):02d}"


def _steps(duration: float) -> Any:
    from matplotlib.ticker import MultipleLocator

    whole = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
    return MultipleLocator(next((step for step in whole if duration / step <= 12), 14400))


def _blended(axes: Axes, *, flip: bool = False) -> Any:
    """Coordinates of the data along one axis, and of the picture along the other."""
    return axes.get_yaxis_transform() if flip else axes.get_xaxis_transform()


def _spectrogram(axes: Axes, sound: Sketch, seconds: float) -> None:
    low, high = np.log2(min(LOW, sound.high / 2)), np.log2(sound.high)
    axes.imshow(
        sound.levels, origin="lower", aspect="auto", extent=(0, seconds, low, high), cmap="magma", vmin=0, vmax=1
    )
    marks = [mark for mark in (55, 110, 220, 440, 880, 1760, 3520, 7040) if low <= np.log2(mark) <= high]
    axes.set_yticks(np.log2(marks), [str(mark) for mark in marks])
    axes.set_ylabel("hertz")
    axes.set_title("what sounds", loc="left", fontsize=10)


def _scores(axes: Axes, times: Floats, scores: Floats, timeline: Timeline, *, legend: bool = True) -> None:
    """Draw scores (n, n_classes): stacked where they are shares of 1, else as lines."""
    labels = [_plain(label) for label in timeline.labels]
    chosen, colours = _chosen(timeline)
    if timeline.output == "softmax":
        rest = 1 - scores[:, chosen].sum(axis=1)
        axes.stackplot(
            times, [*scores[:, chosen].T, rest], colors=[*colours, GREY], labels=[labels[c] for c in chosen], alpha=0.9
        )
        axes.set_ylim(0, 1)
    else:
        for column, colour in zip(chosen, colours, strict=True):
            axes.plot(times, scores[:, column], color=colour, label=labels[column])
    if legend:
        axes.set_ylabel("probability" if timeline.output != "regression" else "score")
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.01, 0.99),
            ncols=4,
            fontsize=8,
            frameon=False,
            handlelength=1.0,
            columnspacing=1.0,
            borderaxespad=0.2,
        )


def _chosen(timeline: Timeline) -> tuple[list[int], list[str]]:
    """Choose the labels to draw, from below, and their colours: the quadrants, or those with the largest means."""
    columns = quadrants(timeline.labels, timeline.output)
    if columns is not None:
        return [columns[q] for q in ORDER], [COLOURS[q] for q in ORDER]
    largest = np.argsort(-timeline.scores.mean(axis=0), kind="stable")[:MOST_LABELS]
    return largest.tolist(), [f"C{place}" for place in range(len(largest))]


def _means(axes: Axes, timeline: Timeline) -> None:
    """Draw the mean of each label over the recording, and the middle 80 % of its windows."""
    chosen, colours = _chosen(timeline)
    places = np.arange(len(chosen))
    axes.barh(places, timeline.scores[:, chosen].mean(axis=0), color=colours, alpha=0.9)
    low, high = np.quantile(timeline.scores[:, chosen], (0.1, 0.9), axis=0)
    axes.hlines(places, low, high, color="0.2", linewidth=1.5)
    axes.set_yticks(places, [_plain(timeline.labels[column]) for column in chosen], fontsize=9)
    axes.set_title("mean, and the middle 80 % of windows", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _lines(axes: Axes, timeline: Timeline, plane: Floats) -> None:
    values = _ends_held(plane)
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.plot(_held(timeline), values[:, 0], color="#7b3f9e", label="valence", linewidth=1.6)
    axes.plot(_held(timeline), values[:, 1], color="#d9772b", label="arousal", linewidth=1.6)
    if quadrants(timeline.labels, timeline.output) is not None:
        axes.set_ylim(-1.02, 1.02)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=2, fontsize=8, frameon=False, borderaxespad=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _path(axes: Axes, timeline: Timeline, plane: Floats) -> None:
    """Draw the way through the plane, dark at its beginning, light at its end."""
    groups = np.array_split(np.arange(len(plane)), min(len(plane), MOST_POINTS))
    points = np.array([plane[group].mean(axis=0) for group in groups])
    times = [float(timeline.centres[group].mean()) for group in groups]
    columns = quadrants(timeline.labels, timeline.output)
    if columns is not None:
        marks = (-1, -0.5, 0, 0.5, 1)
        axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xticks=marks, yticks=marks)
        for column, colour, (x, y) in zip(columns, COLOURS, ((1, 1), (-1, 1), (-1, -1), (1, -1)), strict=True):
            axes.fill([0, x, x, 0], [0, 0, y, y], color=colour, alpha=0.13, linewidth=0)
            axes.annotate(
                _plain(timeline.labels[column]),
                (0.93 * x, 0.93 * y),
                ha="right" if x > 0 else "left",
                va="top" if y > 0 else "bottom",
                color=colour,
                fontweight="bold",
            )
    axes.plot(points[:, 0], points[:, 1], color="0.55", linewidth=0.8, zorder=2)
    dots = axes.scatter(
        points[:, 0], points[:, 1], c=times, cmap="viridis", s=18, zorder=3, vmin=0, vmax=timeline.seconds
    )
    for word, point in (("start", points[0]), ("end", points[-1]))[: len(points)]:
        box = {"boxstyle": "round,pad=0.15", "fc": "w", "ec": "none", "alpha": 0.75}
        axes.annotate(
            word, (point[0], point[1]), xytext=(6, 6), textcoords="offset points", fontsize=9, zorder=4, bbox=box
        )
        axes.scatter([point[0]], [point[1]], s=70, facecolor="none", edgecolor="k", zorder=4)
    axes.figure.colorbar(dots, ax=axes, location="bottom", shrink=0.8, pad=0.01, format=_clock(timeline.seconds))
    axes.set(xlabel="valence", ylabel="arousal")
    together = len(plane) / len(points)
    told = "" if together <= 1 else f", means of {together:.0f} windows"
    axes.set_title(f"path through the plane{told}", loc="left", fontsize=10)
