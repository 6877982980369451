"""How far two explanations agree: measures on maps of the common grid, matrices of them, and clusters.

Explanations of one recording often disagree, and which measure is asked decides how much (Krishna et al., "The
Disagreement Problem in Explainable Machine Learning", 2022), so there are several. All take two maps (n_bands,
n_columns) on one grid, signed, in whatever units: a positive factor changes none of them.

* `spearman`: do they order the cells alike (Spearman, 1904), −1 … 1; ties get their mean rank;
* `top_k_iou`: do their strongest cells coincide, as intersection over union (Jaccard, 1912), 0 … 1; by size, whatever
  the sign; of the whole map, or of its marginal in time or in frequency (Σ|.| over the other axis);
* `sign_agreement`: where both lay mass, how much of it says the same, for or against, 0 … 1;
* `common_mass`: Σ min(|a|, |b|) over the cells of equal sign, both scaled to Σ|.| = 1, 0 … 1: the histogram
  intersection of Swain & Ballard (1991), with sign.

With m = Σ min(|a|, |b|) over all cells, ``common_mass = m · sign_agreement``: a map that lies elsewhere lowers m, one
that says the opposite lowers the sign agreement.

*Boundary cases.* Two maps that both say nothing (all zeros; for `spearman` also all equal, which orders nothing) agree:
1. One that says nothing and one that says something do not: 0. Two maps without a cell in common have 0 of both masses.

*Bands that one model cannot hear* are left out of a pair (`matrix` and `matrices` take which bands each map's model
hears); what is compared is what both could have heard.

`clusters` joins maps by average linkage (Sokal & Michener, 1958) on the distance 1 − Spearman, and calls those one
cluster whose mean correlation is at least one half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.spectra import Floats
from otoscope.explainers.parts import Bools

Along = Literal["both", "time", "frequency"]
Measure = Callable[[Floats, Floats], float]

TOP_SHARE = 0.1  # of the cells, columns or bands: the strongest ones
ROUNDING = 1e-9  # sizes this close are tied
CUT = 0.5  # distance 1 − Spearman up to which maps are one cluster


def spearman(a: Floats, b: Floats) -> float:
    """Correlate the ranks of two maps.

    Parameters
    ----------
    a, b : ndarray, shape (n_bands, n_columns)

    Returns
    -------
    float
        −1 … 1; two constant maps 1, a constant one and another 0.

    Examples
    --------
    >>> spearman(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 20.0, 30.0]]))
    1.0
    """
    from scipy.stats import rankdata

    ranks = [rankdata(one) - (one.size + 1) / 2 for one in _pair(a, b)]
    first, second = (float(rank @ rank) for rank in ranks)
    if first == 0 or second == 0:
        return float(first == second)
    return float(np.clip(ranks[0] @ ranks[1] / np.sqrt(first * second), -1, 1))


def top_k_iou(a: Floats, b: Floats, *, k: int | None = None, share: float = TOP_SHARE, along: Along = "both") -> float:
    """Intersection over union of the strongest places of two maps.

    Parameters
    ----------
    a, b : ndarray, shape (n_bands, n_columns)
    k : int, optional
        Number of strongest places; by `share` where None.
    share : float
        Share of all places, of which there is at least one.
    along : {"both", "time", "frequency"}
        Whether places are cells, columns or bands.

    Returns
    -------
    float
        0 … 1. Ties with the k-th come in; a place without attribution never does.

    Examples
    --------
    >>> a, b = np.array([[3.0, -2.0, 0.0, 1.0]]), np.array([[3.0, 0.0, 2.0, 1.0]])
    >>> top_k_iou(a, b, k=2)
    0.3333333333333333
    """
    _pair(a, b)
    tops = [strongest(one, k=k, share=share, along=along) for one in (a, b)]
    either = np.count_nonzero(tops[0] | tops[1])
    return float(np.count_nonzero(tops[0] & tops[1]) / either) if either else 1.0


def strongest(a: Floats, *, k: int | None = None, share: float = TOP_SHARE, along: Along = "both") -> Bools:
    """Mark the strongest places of a map; see `top_k_iou`. Shape (n_cells,), (n_columns,) or (n_bands,)."""
    axes: dict[str, int | None] = {"both": None, "time": 0, "frequency": 1}
    if along not in axes:
        raise unknown("axis", along, axes)
    size = np.abs(a)
    places = size.ravel() if along == "both" else size.sum(axis=axes[along])
    n = max(1, round(share * places.size)) if k is None else k
    if not 1 <= n <= places.size:
        raise OtoscopeError(f"cannot take the {n} strongest of {places.size} places; give k from 1 to {places.size}")
    least = np.partition(places, places.size - n)[places.size - n]
    return np.asarray((places >= least * (1 - ROUNDING)) & (places > 0))


def sign_agreement(a: Floats, b: Floats) -> float:
    """Share of the mass that two maps have in common places in which they say the same, for or against.

    Each cell counts by the smaller of the two masses, both maps being scaled to Σ|.| = 1. 0 … 1.
    """
    a, b = (scaled(one) for one in _pair(a, b))
    shared = np.minimum(np.abs(a), np.abs(b))
    total = float(shared.sum())
    if total == 0:
        return float(not a.any() and not b.any())
    return min(1.0, float(shared[np.sign(a) == np.sign(b)].sum()) / total)


def common_mass(a: Floats, b: Floats) -> float:
    """Mass that two maps, scaled to Σ|.| = 1, have in common: Σ min(|a|, |b|) where the signs are equal; 0 … 1."""
    a, b = (scaled(one) for one in _pair(a, b))
    if not a.any() and not b.any():
        return 1.0
    return min(1.0, float(np.minimum(np.abs(a), np.abs(b))[np.sign(a) == np.sign(b)].sum()))


def scaled(a: Floats) -> Floats:
    """Scale a map to Σ|.| = 1; zeros stay."""
    largest = float(np.abs(a).max(initial=0.0)) or 1.0  # first: the sum of huge or tiny numbers must not overflow
    total = float(np.abs(a / largest).sum()) or 1.0
    return np.asarray(a / largest / total)


def _pair(a: Floats, b: Floats) -> list[Floats]:
    """Check two maps and flatten them."""
    if a.shape != b.shape or a.size == 0:
        raise OtoscopeError(f"got maps of shapes {a.shape} and {b.shape}; give two on one grid, with a cell at least")
    return [np.asarray(one, dtype=np.float64).ravel() for one in (a, b)]


MEASURES: dict[str, Measure] = {
    "spearman": spearman,
    "iou": top_k_iou,
    "iou_time": partial(top_k_iou, along="time"),
    "iou_frequency": partial(top_k_iou, along="frequency"),
    "sign": sign_agreement,
    "mass": common_mass,
}


def matrix(measure: Measure, maps: Sequence[Floats], heard: Sequence[Bools]) -> Floats:
    """Compare each map with each other one, on the bands that both models hear.

    Parameters
    ----------
    measure : callable
        Of two maps.
    maps : sequence of ndarray, shape (n_bands, n_columns)
    heard : sequence of ndarray of bool, shape (n_bands,)

    Returns
    -------
    ndarray, shape (n_maps, n_maps)
        Symmetric.

    Raises
    ------
    OtoscopeError
        If two models hear no band in common.
    """
    n = len(maps)
    found = np.ones((n, n))
    for i in range(n):
        for j in range(i, n):
            both = heard[i] & heard[j]
            if not both.any():
                raise OtoscopeError("two of the models hear no band in common; there is nothing to compare")
            found[i, j] = found[j, i] = measure(maps[i][both], maps[j][both])
    return found


def matrices(maps: Sequence[Floats], heard: Sequence[Bools]) -> dict[str, Floats]:
    """All of `MEASURES`, each as a matrix (n_maps, n_maps); see `matrix`."""
    return {name: matrix(measure, maps, heard) for name, measure in MEASURES.items()}


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which maps belong together.

    Attributes
    ----------
    names : tuple of str
    order : tuple of int
        In which to draw them, so that the like stand side by side.
    labels : tuple of int
        Cluster of each map, counted from 1 in the order of the names.
    merges : tuple of (int, int, float, int)
        As scipy's linkage: what is joined (n + i is what merge i made), at which distance, to how many maps.
    """

    names: tuple[str, ...]
    order: tuple[int, ...]
    labels: tuple[int, ...]
    merges: tuple[tuple[int, int, float, int], ...]

    @property
    def groups(self) -> list[list[str]]:
        """Names by cluster."""
        pairs = list(zip(self.names, self.labels, strict=True))
        return [[name for name, label in pairs if label == one] for one in sorted(set(self.labels))]


def clusters(similarity: Floats, names: Sequence[str]) -> Clusters:
    """Join maps by average linkage on the distance 1 − similarity.

    Parameters
    ----------
    similarity : ndarray, shape (n, n)
        Mean Spearman correlations; symmetric, 1 on the diagonal.
    names : sequence of str, length n

    Examples
    --------
    >>> clusters(np.array([[1, 0.1, 0.9], [0.1, 1, 0.2], [0.9, 0.2, 1]]), ["a", "b", "c"]).groups
    [['a', 'c'], ['b']]
    """
    n = len(names)
    if similarity.shape != (n, n):
        raise OtoscopeError(f"got similarities of shape {similarity.shape} for {n} names; need ({n}, {n})")
    if n == 1:
        return Clusters(tuple(names), (0,), (1,), ())
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage

    distances = np.maximum(0, 1 - similarity)[np.triu_indices(n, 1)]
    merges = linkage(distances, method="average")
    found = fcluster(merges, CUT, criterion="distance")
    first = {label: place for place, label in reversed(list(enumerate(found)))}
    renamed = {label: rank for rank, label in enumerate(sorted(first, key=lambda label: first[label]), start=1)}
    return Clusters(
        tuple(names),
        tuple(int(place) for place in leaves_list(merges)),
        tuple(renamed[label] for label in found),
        tuple((int(a), int(b), float(distance), int(size)) for a, b, distance, size in merges),
    )
