"""How much do a few mid-level features explain of a model? The linear level for every class of several models.

For each class of each model, on the explained scale (log-odds, or the value of a regression), over the same corpus:
R² on recordings held out, and the Shapley share of every feature with its bootstrap interval
(`otoscope.explainers.linear`, `otoscope.explainers.shares`). A yardstick stands beside them: the R² that the same fit
reaches on features shuffled over the spans, which is what chance gives (about 0, or just below it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.model import Floats, Model
from otoscope.corpus import find_corpus
from otoscope.explainers.effects import Effects
from otoscope.explainers.linear import held_out
from otoscope.explainers.shares import r2_shares
from otoscope.explainers.targets import Target, default_scale, on_scale
from otoscope.fit_effects import Bar, fit_effects, no_bar, span_seconds


def midlevel_study(
    models: Mapping[str, Model],
    midlevel: Model,
    corpus: str | Path,
    *,
    targets: Mapping[str, Sequence[str]] | None = None,
    cache: Path | None = None,
    seed: int = 0,
    bar: Bar = no_bar,
) -> dict[str, Any]:
    """Fit every class of several models by the features of a mid-level model.

    Parameters
    ----------
    models : mapping of str to Model
    midlevel : Model
    corpus : str or Path
        Folder with recordings for at least 100 spans.
    targets : mapping of str to sequence of str, optional
        For a model's name the classes to report, such as a tagger's moods; all where it is not named.
    cache : Path, optional
    seed : int
    bar : callable

    Returns
    -------
    dict
        Plain values for JSON: ``features``, and ``models`` → name → ``corpus``, ``seconds``, ``n_spans``,
        ``n_recordings``, ``notes``, ``mean_r2``, ``targets`` → label → ``r2``, ``chance`` and ``shares`` → feature →
        ``[share, low, high]``. ``r2`` is None where the score does not vary.
    """
    told = {}
    for name, model in models.items():
        effects = fit_effects(find_corpus(corpus, seconds=span_seconds(model)), model, midlevel, cache=cache, bar=bar)
        told[name] = study(effects, labels=(targets or {}).get(name, model.labels), seed=seed)
    return {"features": list(midlevel.labels), "models": told}


def study(effects: Effects, *, labels: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Fit classes of one model; see `midlevel_study`."""
    values = scaled(effects, labels)
    _, r2 = held_out(effects.features, values, effects.recordings, seed=seed)
    order = np.random.default_rng(seed).permutation(len(effects.features))
    _, chance = held_out(effects.features[order], values, effects.recordings, seed=seed)
    shares, intervals = r2_shares(effects.features, values, effects.recordings, seed=seed)
    table = np.concatenate([shares[..., None], intervals], axis=-1).round(4)  # (n_targets, d, 3)
    rows = {
        label: {
            "r2": _plain(r2[index]),
            "chance": _plain(chance[index]),
            "shares": dict(zip(effects.names, table[index].tolist(), strict=True)),
        }
        for index, label in enumerate(labels)
    }
    return {
        "corpus": effects.corpus,
        "seconds": effects.seconds,
        "n_spans": len(effects.features),
        "n_recordings": len(np.unique(effects.recordings)),
        "notes": list(effects.notes),
        "mean_r2": _plain(np.nanmean(r2)) if np.isfinite(r2).any() else None,
        "targets": rows,
    }


def scaled(effects: Effects, labels: Sequence[str]) -> Floats:
    """Scores of some classes on the explained scale, shape (n, n_targets)."""
    scale = default_scale(effects.output)
    chosen = [Target(effects.labels.index(label), None, label) for label in labels]
    return np.stack([on_scale(effects.scores, target, effects.output, scale) for target in chosen], axis=1)


def _plain(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def to_markdown(found: dict[str, Any]) -> str:
    """Write a study as Markdown: a table for each model, a row for each class."""
    features = [name.replace("_", " ") for name in found["features"]]
    lines: list[str] = []
    for name, one in found["models"].items():
        mean = "none varies" if one["mean_r2"] is None else f"{one['mean_r2']:.2f}"
        lines += [
            f"### {name}: mean held-out R² {mean}",
            "",
            f"{one['n_spans']} spans of {one['seconds']:g} s from {one['n_recordings']} recordings; shares of R² with "
            "95 % intervals over recordings.",
            "",
            f"| class | held-out R² | chance | {' | '.join(features)} |",
            f"|---|{'---|' * (2 + len(features))}",
        ]
        lines += [_row(label, row) for label, row in one["targets"].items()]
        lines.append("")
    return "\n".join(lines)


def _row(label: str, row: dict[str, Any]) -> str:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    shares = [f"{share:.2f} ({low:.2f}–{high:.2f})" for share, low, high in row["shares"].values()]
    cells = [label.replace("|", r"\|"), number(row["r2"]), number(row["chance"]), *shares]
    return f"| {' | '.join(cells)} |"
