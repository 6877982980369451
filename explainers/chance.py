"""What agreement is worth: how far two explanations would agree if one of them had dealt out its weights at random.

Within a part attribution lies where the energy is, so two maps of one recording look alike before anything is said: if
all weights of both speak for the target, loud places are strong and quiet ones weak in both, and even weights in the
wrong places correlate. How much of an agreement that is depends on the parts and on the signs, so it is measured: the
weights of one explanation are dealt out anew over its own parts, which keeps their sizes, their signs and the energy,
and its map is compared with the other's; then the other way round; the mean over the draws is agreement *by chance*.
(The randomisation test of Fisher, 1935, of which this is the expectation.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otoscope.adapters.spectra import Floats
from otoscope.explainers.agreement import MEASURES
from otoscope.explainers.explanation import Explanation, Outcome, spread
from otoscope.explainers.parts import Bools

N_DRAWS = 16
MEASURED = ("spearman", "iou", "mass")


def dealt(explanation: Explanation, n: int, seed: int) -> Floats:
    """Lay the weights of an explanation out over its parts in random order, shape (n, n_bands, n_columns)."""
    rng = np.random.default_rng(seed)
    parts, groups = explanation.parts, explanation.groups
    return np.stack([spread(Outcome(parts, rng.permutation(explanation.weights), 0, groups=groups)) for _ in range(n)])


def by_chance(maps: Sequence[Floats], random: Sequence[Floats], heard: Sequence[Bools]) -> dict[str, Floats]:
    """Agreement of each map with random ones of the others.

    Parameters
    ----------
    maps : sequence of ndarray, shape (n_bands, n_columns)
    random : sequence of ndarray, shape (n_draws, n_bands, n_columns)
        For each map what its explanation would be by chance.
    heard : sequence of ndarray of bool, shape (n_bands,)

    Returns
    -------
    dict of ndarray, each (n_maps, n_maps)
        By measure; symmetric, NaN on the diagonal.
    """
    n = len(maps)
    found = {name: np.full((n, n), np.nan) for name in MEASURED}
    for i in range(n):
        for j in range(i + 1, n):
            both = heard[i] & heard[j]
            pairs = [(draw[both], maps[j][both]) for draw in random[i]] + [(maps[i][both], d[both]) for d in random[j]]
            for name in MEASURED:
                mean = float(np.mean([MEASURES[name](a, b) for a, b in pairs]))
                found[name][i, j] = found[name][j, i] = mean
    return found
