"""What the maps tell: brightness of quadrants, correlations with consonance, their intervals, a table and a picture.

The figures of `otoscope.brightness`, of each network:

``brightness``
    mean over windows of each quadrant, called and true, and that of Q4 less that of Q2;
``within``
    correlation of the map's course with consonance, mean over windows;
``clips``
    rank correlation of mean brightness with mean consonance over clips;
``within_given_loudness``, ``clips_given_loudness``
    the same with loudness held constant.

Clips of a song resemble one another, hence the 95 % intervals draw whole songs (percentile bootstrap). The same figures
for a randomised network, and for one that looks through random masks, say what of them is due to learning and to
harmonics; with the same songs the draws are the same, so the differences from the first network have intervals too.
A figure that is not defined (a quadrant that is never called, a map that is constant) is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.lettering import lettering
from otoscope.adapters.model import Floats
from otoscope.brightness import QUADRANTS, SIGNS, Looks, rank_correlations
from otoscope.mer_models.corpus import Ints

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Key = tuple[str, ...]
Figure = dict[str, float | None]

CONTRAST = "Q4-Q2"
LEAST_DEFINED = 0.9  # share of the draws in which a figure must be defined to have an interval
WORDS = {
    "within": "map in time ~ {}",
    "within_given_loudness": "map in time ~ {}, loudness constant",
    "clips": "brightness over clips ~ {}",
    "clips_given_loudness": "brightness over clips ~ {}, loudness constant",
}


def summarise(looks: Mapping[str, Looks], *, n_boot: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Compute every figure with its 95 % interval over songs, and how networks differ from the first.

    Parameters
    ----------
    looks : mapping
        Name of network to what was seen of it (`otoscope.brightness.look`).
    n_boot, seed : int
        Draws of the bootstrap.

    Returns
    -------
    dict
        Plain values for JSON: ``networks`` → name → ``n_windows``, ``n_clips``, ``n_songs`` and the figures of the
        module's docstring; ``differences`` → name → the figures of the first network less those of this one. Each is
        ``{"value", "low", "high"}``.
    """
    if n_boot < 100:
        raise OtoscopeError(f"{n_boot} draws make no interval; take 100 or more")
    drawn = {name: _bootstrap(windows, n_boot=n_boot, seed=seed) for name, windows in looks.items()}
    first, *others = drawn
    networks = {name: _counts(looks[name]) | _nested(*both) for name, both in drawn.items()}
    differences = {}
    for name in others:
        less = [
            {key: ours[key] - theirs[key] for key in ours}
            for ours, theirs in zip(drawn[first], drawn[name], strict=True)
        ]
        differences[name] = _nested(*less)
    return {"turned": dict(SIGNS), "n_boot": n_boot, "seed": seed, "networks": networks, "differences": differences}


def _counts(windows: Looks) -> dict[str, Any]:
    return {
        "n_windows": len(windows.song),
        "n_clips": len(np.unique(windows.clip)),
        "n_songs": len(np.unique(windows.song)),
    }


def by_clip(windows: Looks) -> tuple[npt.NDArray[np.str_], Floats]:
    """Average over the windows of each clip.

    Returns
    -------
    song : ndarray of str, shape (n_clips,)
    means : ndarray, shape (n_clips, 2 + n_measures)
        Brightness, loudness, consonance.
    """
    _, first, which = np.unique(windows.clip, return_index=True, return_inverse=True)
    values = np.column_stack([windows.brightness, windows.loudness, windows.consonance])
    totals = np.zeros((len(first), values.shape[1]))
    np.add.at(totals, which, values)
    return windows.song[first], totals / np.bincount(which)[:, None]


def statistics(windows: Looks, chosen: Ints, clips: Floats) -> dict[Key, Any]:
    """Compute the figures of one network from some windows (indices) and some clips (rows of `by_clip`)."""
    figures: dict[Key, Any] = {}
    shine = windows.brightness[chosen]
    for kind, quadrants in (("called", windows.called), ("true", windows.true)):
        means = [_mean(shine[quadrants[chosen] == index]) for index in range(len(QUADRANTS))]
        figures |= {("brightness", kind, name): value for name, value in zip(QUADRANTS, means, strict=True)}
        figures["brightness", kind, CONTRAST] = means[QUADRANTS.index("Q4")] - means[QUADRANTS.index("Q2")]
    over_clips = rank_correlations(clips.T)
    within = windows.within[chosen], windows.within_given_loudness[chosen]  # (n, n_measures) each
    for suffix, over, inside in zip(("", "_given_loudness"), over_clips, within, strict=True):
        for index, measure in enumerate(SIGNS):
            figures[f"within{suffix}", measure] = _mean(inside[:, index])
            figures[f"clips{suffix}", measure] = float(over[index])
    return figures


def _mean(values: Floats) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _bootstrap(windows: Looks, *, n_boot: int, seed: int) -> tuple[dict[Key, Any], dict[Key, Any]]:
    """All figures, and their values over draws of songs, each (n_boot,)."""
    clip_song, clips = by_clip(windows)
    songs = np.unique(windows.song)
    rows, clip_rows = ([np.flatnonzero(whose == song) for song in songs] for whose in (windows.song, clip_song))
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n_boot):
        drawn = rng.integers(len(songs), size=len(songs))
        chosen, chosen_clips = (np.concatenate([where[song] for song in drawn]) for where in (rows, clip_rows))
        draws.append(statistics(windows, chosen, clips[chosen_clips]))
    whole = statistics(windows, np.arange(len(windows.song)), clips)
    return whole, {key: np.array([draw[key] for draw in draws]) for key in whole}


def _nested(figures: Mapping[Key, float], draws: Mapping[Key, Floats]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in figures.items():
        place = nested
        for step in key[:-1]:
            place = place.setdefault(step, {})
        place[key[-1]] = _with_interval(value, draws[key])
    return nested


def _with_interval(value: float, draws: Floats) -> Figure:
    known = draws[np.isfinite(draws)]
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    if len(known) < LEAST_DEFINED * len(draws):
        return {"value": round(value, 5), "low": None, "high": None}
    low, high = np.percentile(known, [2.5, 97.5]).tolist()
    return {"value": round(value, 5), "low": round(low, 5), "high": round(high, 5)}


def _figures(network: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """All figures of a network with what to call them."""
    for kind in ("called", "true"):
        for name, figure in network["brightness"][kind].items():
            yield f"brightness, {kind} {name.replace('-', ' − ')}", figure
    for group in ("within", "within_given_loudness", "clips", "clips_given_loudness"):
        for measure, figure in network[group].items():
            yield WORDS[group].format(measure.replace("_", " ")), figure


def table(summary: Mapping[str, Any]) -> str:
    """Write a summary as a Markdown table: figures by rows, networks and differences by columns."""
    networks, differences = summary["networks"], summary["differences"]
    first = next(iter(networks))
    columns = {name: dict(_figures(network)) for name, network in networks.items()}
    columns |= {f"{first} − {name}": dict(_figures(one)) for name, one in differences.items()}
    sizes = [f"{x['n_windows']} windows of {x['n_clips']} clips, {x['n_songs']} songs" for x in networks.values()]
    lines = [["", *columns], ["---"] + ["---:"] * len(columns), ["shown", *sizes, *[""] * len(differences)]]
    lines += [[row, *(_told(figures[row]) for figures in columns.values())] for row in columns[first]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _told(figure: Figure) -> str:
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


@lettering()
def draw(summary: Mapping[str, Any], path: str | Path) -> None:
    """Draw brightness and correlations of all networks, with their intervals, into a PNG file."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(12, 8), layout="constrained")
    axes = canvas.subplots(2, 2)
    networks = summary["networks"]
    for axis, kind in zip(axes[0], ("called", "true"), strict=True):
        _points(axis, {name: {q: x["brightness"][kind][q] for q in QUADRANTS} for name, x in networks.items()})
        axis.set(title=f"brightness by {kind} quadrant", ylabel="mean brightness", ylim=(0, None))
    for axis, group, title in zip(axes[1], ("within", "clips"), ("map in time", "brightness over clips"), strict=True):
        _points(axis, {name: x[group] for name, x in networks.items()})
        axis.axhline(0, color="0.6", linewidth=0.8)
        axis.set(title=f"{title} and consonance", ylabel="rank correlation")
    axes[0, 0].legend(frameon=False)
    canvas.savefig(path, dpi=100, metadata={"Software": None})


def _points(axis: Axes, networks: Mapping[str, Mapping[str, Figure]]) -> None:
    """Points with intervals, side by side for each network; a label from a file is no mathematics."""
    for place, (name, figures) in enumerate(networks.items()):
        shift = 0.12 * (place - (len(networks) - 1) / 2)
        told = [(x, y["value"], y["low"], y["high"]) for x, y in enumerate(figures.values()) if y["low"] is not None]
        x, value, low, high = np.array(told, dtype=np.float64).reshape(-1, 4).T
        axis.errorbar(x + shift, value, [value - low, high - value], fmt="o", capsize=3, label=name.replace("$", r"\$"))
        axis.set_xticks(range(len(figures)), [label.replace("_", "\n") for label in figures])
