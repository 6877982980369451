"""Localisation: does an explanation lie where the cause is known to lie? Functions on maps of the common grid.

A map is (n_bands, n_columns), signed; a region is the same shape, true where the cause was annotated or planted. Only
attribution of one sign counts, m = max(0, sign · map), so that what speaks against never cancels what speaks for.

* `mass_inside`: Σ_region m / Σ m, the share of the attribution on the region (attribution localisation μ, Kohlbrenner
  et al., IJCNN 2020; relevance mass accuracy, Arras, Osman & Samek, "CLEVR-XAI", Information Fusion 2022);
* `pointing`: is the strongest cell inside (Zhang et al., "Top-Down Neural Attention by Excitation Backprop", IJCV 2018,
  whose tolerance of 15 pixels is here the margins of `region_of`);
* `rank_inside`: of the K strongest cells, K the size of the region, the share inside (relevance rank accuracy, Arras et
  al. 2022).

Along ``time`` m is summed over the bands, and a column belongs to the region where any of its cells does; along
``frequency`` likewise for bands. So a map that is right in time and wrong in frequency can be told from a wrong one.

*Boundary cases.* Among equal cells no order is meant, so ties count by their share inside, which is the mean over all
ways to break them: a constant map scores the region's share of the grid, as chance does. Without attribution of the
sign (silence, or an inverted map) nothing was found: 0. A region without a cell is refused, as are NaN and infinity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.explainers import grid
from otoscope.explainers.agreement import Along
from otoscope.explainers.faithfulness import checked
from otoscope.explainers.metrics import LOCALISATION as LOCALISATION  # by their names here
from otoscope.explainers.parts import Bools
from otoscope.explainers.targets import Floats

Box = tuple[float, float, float, float]  # start, end in seconds, low, high in hertz

AXES: dict[str, int | None] = {"both": None, "time": 0, "frequency": 1}  # which one is summed over


def mass_inside(cells: npt.ArrayLike, region: Bools, *, sign: int = 1, along: Along = "both") -> float:
    """Share of the attribution of one sign that lies on a region.

    Parameters
    ----------
    cells : array, shape (n_bands, n_columns)
        Map on the common grid, in whatever units.
    region : ndarray of bool, shape (n_bands, n_columns)
    sign : {1, -1}
        Whether what speaks for the target counts, or what speaks against it.
    along : {"both", "time", "frequency"}
        Whether places are cells, columns or bands.

    Returns
    -------
    float
        0 … 1; 0 where there is no attribution of the sign.

    Examples
    --------
    >>> mass_inside([[3, 1], [-5, 0]], np.array([[True, False], [True, True]]))
    0.75
    """
    mass, inside = _places(cells, region, sign, along)
    total = float(mass.sum())
    return min(1.0, float(mass[inside].sum()) / total) if total > 0 else 0.0


def pointing(cells: npt.ArrayLike, region: Bools, *, sign: int = 1, along: Along = "both") -> float:
    """Is the strongest place on the region: 1 or 0, or between them where several are equally strong.

    Parameters as of `mass_inside`.
    """
    mass, inside = _places(cells, region, sign, along)
    largest = mass.max()
    return float(inside[mass == largest].mean()) if largest > 0 else 0.0


def rank_inside(cells: npt.ArrayLike, region: Bools, *, sign: int = 1, along: Along = "both") -> float:
    """Of the K strongest places, K being the size of the region, the share on the region.

    A place without attribution of the sign is never one of the strongest. Parameters as of `mass_inside`.
    """
    mass, inside = _places(cells, region, sign, along)
    size = int(inside.sum())
    least = np.partition(mass, mass.size - size)[mass.size - size]  # the K-th largest
    above, tied = mass > least, (mass == least) & (mass > 0)
    free = size - int(above.sum())  # for the tied ones to fill
    hits = float(inside[above].sum()) + (free * float(inside[tied].mean()) if tied.any() else 0.0)
    return hits / size


def region_of(
    boxes: Sequence[Box], duration: float, *, seconds_margin: float = 0.0, hertz_margin: float = 0.0
) -> Bools:
    """Cells of the common grid that lie in any of some boxes.

    Bands that a box touches, and columns whose middle lies in it; a box shorter than a column takes the nearest one.

    Parameters
    ----------
    boxes : sequence of (start, end, low, high)
        In seconds from the start of the span, and in hertz.
    duration : float
        Of the span, in seconds.
    seconds_margin, hertz_margin : float
        By which each box is widened on each side: the resolution of the map's STFT, or of the annotation.

    Returns
    -------
    ndarray of bool, shape (108, n_columns)

    Raises
    ------
    OtoscopeError
        If a box is empty, or has nothing of the span.
    """
    edges, columns = grid.band_edges(), grid.column_edges(duration)
    middles = (columns[1:] + columns[:-1]) / 2
    region = np.zeros((grid.N_BANDS, len(middles)), dtype=bool)
    for box in boxes:
        start, end, low, high = box
        if not (start < end and low < high and end > 0 and start < duration and high > 0):
            raise OtoscopeError(
                f"box {start:g} to {end:g} s × {low:g} to {high:g} Hz is empty or outside the {duration:g} s; "
                "give start, end, low, high with start < end and low < high"
            )
        bands = (edges[1:] > low - hertz_margin) & (edges[:-1] < high + hertz_margin)
        within = (middles > start - seconds_margin) & (middles < end + seconds_margin)
        within[np.abs(middles - (start + end) / 2).argmin()] = True
        region |= np.outer(bands, within)
    return region


def _places(cells: npt.ArrayLike, region: Bools, sign: int, along: Along) -> tuple[Floats, Bools]:
    """Check a map and a region; give the mass of the sign and what is inside, per place, both (n_places,)."""
    found, inside = checked("cells of the map", cells, ndim=2), np.asarray(region, dtype=bool)
    if found.shape != inside.shape:
        raise OtoscopeError(f"got a map of shape {found.shape} and a region of {inside.shape}; give both on one grid")
    if not inside.any():
        raise OtoscopeError("the region has no cell of the map; give boxes that lie within the span")
    if sign not in (1, -1):
        raise OtoscopeError(f"got sign {sign}; give 1 for what speaks for the target, -1 for what speaks against")
    if along not in AXES:
        raise unknown("axis", along, AXES)
    mass = np.maximum(0, sign * found)
    mass = mass / (mass.max() or 1.0)  # sums of huge or tiny numbers must not overflow
    if along == "both":
        return mass.ravel(), inside.ravel()
    return mass.sum(axis=AXES[along]), np.asarray(inside.any(axis=AXES[along]))
