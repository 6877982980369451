"""What level one of a two-level explanation says about one recording: arrays to keep, a table to read.

The arrays lie in `Explanation.native` under the names below. All are in the units of the explained scale but `values`
and `means`, which are in those of the mid-level model. There are d features; the rows of `boxes` are the features, then
the remainder. A box is (lower whisker, quartile, median, quartile, upper whisker) of the centred effects over the
corpus, the whiskers reaching to the last span within one and a half box lengths, without outliers. The remainder's box
is that of recordings held out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from otoscope.adapters.model import Floats
from otoscope.explainers.linear import Level

PER_FEATURE = ("value", "mean", "rank", "weight", "standard_weight", "effect", "centred_effect", "with_score", "share")
SINGLE = ("bias", "remainder", "score", "mean_score", "r2", "r2_fitted")


def to_arrays(level: Level, values: Floats, score: float, feature: int) -> dict[str, Any]:
    """Say what a fit makes of a recording with these features (d,) and this score; one feature is drilled into.

    Returns
    -------
    dict
        ``names``, ``feature`` (its index), per feature the arrays (d,) of `PER_FEATURE` in the plural, ``intervals``
        (d, 2), ``correlation`` (d, d), ``boxes`` (d + 1, 5), and the numbers of `SINGLE` (``r2`` NaN where unknown).
    """
    over_corpus = np.column_stack([level.centred(level.features), level.remainders])  # (n, d + 1)
    return {
        "names": np.array(level.names),
        "feature": feature,
        "values": values,
        "means": level.means,
        "ranks": level.ranks(values),
        "weights": level.weights,
        "standard_weights": level.standard_weights,
        "effects": level.effects(values),
        "centred_effects": level.centred(values),
        "with_scores": level.with_score,
        "shares": level.shares,
        "intervals": level.intervals,
        "correlation": level.correlation,
        "boxes": np.stack([box(column) for column in over_corpus.T]),
        "bias": level.bias,
        "remainder": level.remainder(values, score),
        "score": score,
        "mean_score": level.mean_score,
        "r2": np.nan if level.r2 is None else level.r2,
        "r2_fitted": level.r2_fitted,
        "n_spans": len(level.features),
        "n_recordings": level.n_recordings,
    }


def box(values: Floats) -> Floats:
    """Lower whisker, quartile, median, quartile and upper whisker of some values (n,), shape (5,)."""
    low, median, high = np.percentile(values, [25, 50, 75])
    reach = 1.5 * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    return np.array([min(low, inside.min()), low, median, high, max(high, inside.max())])


def is_level_one(native: dict[str, Any]) -> bool:
    """Whether a method's own arrays are those of `to_arrays`."""
    return "centred_effects" in native


def to_table(native: dict[str, Any]) -> dict[str, Any]:
    """Turn the arrays into plain values, one dict for each feature."""
    features = []
    for index, name in enumerate(native["names"]):
        row = {key: float(native[f"{key}s"][index]) for key in PER_FEATURE}
        low, high = (float(end) for end in native["intervals"][index])
        features.append({"name": str(name), **row, "share_low": low, "share_high": high})
    single = {key: float(native[key]) for key in SINGLE}
    return {
        "feature": str(native["names"][int(native["feature"])]),
        "features": features,
        **{key: None if np.isnan(value) else value for key, value in single.items()},
        "n_spans": int(native["n_spans"]),
        "n_recordings": int(native["n_recordings"]),
    }
