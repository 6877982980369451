"""What a trained model's card says: sources, measured figures, licences.

Every figure is computed here from what the networks of the folds said; the card names the command that made them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from otoscope.adapters.card import Tables
from otoscope.mer_models.benchmark_table import judge, own_truth
from otoscope.mer_models.blinders import Settings
from otoscope.mer_models.data import Clip, medians
from otoscope.mer_models.fit import Recipe
from otoscope.mer_models.harmonics import LABELS, card_input
from otoscope.mer_models.measure import spread

FONT_LICENCES = {"FluidR3_GM": "MIT", "TimGM6mb": "GPL-2"}
DATA_LICENCES = {
    "deam": "CC BY-NC 4.0 (Aljanaki, Yang and Soleymani, DEAM, 2017)",
    "emopia": "CC BY-NC-SA 4.0 (Hung et al., EMOPIA, ISMIR 2021)",
    "emotify": "research data of Aljanaki, Wiering and Veltkamp (2015), not redistributable",
}


def describe(
    clips: Sequence[Clip],
    fits: Sequence[Mapping[str, Any]],
    form: tuple[Settings, Recipe],
    *,
    epochs: int | None,
    seed: int,
    cool: float,
    command: str,
) -> Tables:
    """Fill in a card, but for the names of model and weights.

    Parameters
    ----------
    clips : sequence of Clip
        All that the weights were fitted on, with their quadrants.
    fits : sequence of dict
        What each fold's network said (`otoscope.mer_models.benchmark`), calibrated.
    form : (Settings, Recipe)
    epochs : int, optional
        If others than the recipe's own.
    seed : int
    cool : float
        Temperature by which the logits were divided.
    command : str
        The command line that did it.
    """
    settings, recipe = form
    measured: dict[str, Any] = {
        "command": command,
        "protocol": (
            f"{len(fits)} folds by song; mean and standard deviation over folds; within the run nothing is chosen by "
            "held-out songs, but the recipe's defaults come from trials on other folds of the same songs; windows of "
            "six seconds, one after the other; calibrated by the temperature of the other folds; the shipped weights "
            "are fitted on all folds"
        ),
    }
    for part in sorted({said["part"] for fit in fits for said in fit["clips"]}):
        measured[part] = _measured([[(own_truth(said), said) for said in fit["clips"]] for fit in fits], part)
    return {
        "model": {
            "kind": "harmonics",
            "framework": "torch",
            "labels": list(LABELS),
            "output": "softmax",
            "summary": "music emotion in quadrants of valence and arousal, heard through twelve pitch classes",
            "source": "architecture of Fong, Kumar and Sudhir (Marketing Science 44(1), 2025)",
            "settings": dataclasses.asdict(settings),
        },
        "input": card_input(),
        "data": {
            **_sources(clips),
            "seed": seed,
            "temperature": round(cool, 4),
            "recipe": dataclasses.asdict(recipe if epochs is None else dataclasses.replace(recipe, epochs=epochs)),
        },
        "measured": measured,
        "licence": _licences(clips),
    }


def _measured(folds: Sequence[Sequence[tuple[Any, Any]]], part: str) -> dict[str, Any]:
    """Sum up what was said about one part, in the fields of `benchmark_table.judge`; F1 by the names of the classes."""
    judged = [judge(own) for fold in folds if (own := [pair for pair in fold if pair[1]["part"] == part])]
    names = {f"f1_q{place + 1}": f"f1_{label}" for place, label in enumerate(LABELS)}
    table: dict[str, Any] = {"n": round(sum(one.pop("windows") or 0 for one in judged))}
    # Of a few hundred windows the calibration error is mostly chance, so it stands once more for all folds together.
    together = judge([pair for fold in folds for pair in fold if pair[1]["part"] == part])
    table["calibration_error_of_all"] = round(together["calibration_error"] or 0.0, 4)
    for name in judged[0]:
        known = [value for one in judged if (value := one[name]) is not None]
        if known:
            table[names.get(name, name)] = spread(known)
    return table


def _sources(clips: Sequence[Clip]) -> dict[str, Any]:
    sources: dict[str, Any] = {}
    for dataset in sorted({clip.dataset for clip in clips}):
        own = [clip for clip in clips if clip.dataset == dataset]
        sources[dataset] = {
            "clips": len({clip.name for clip in own}),
            "songs": len({clip.song for clip in own}),
            "fonts": sorted({clip.font for clip in own} - {""}),
        }
    for dataset, (valence, arousal) in medians(clips).items():
        sources[dataset]["thresholds"] = {"valence": valence, "arousal": arousal}
    return sources


def _licences(clips: Sequence[Clip]) -> dict[str, Any]:
    present = {clip.dataset for clip in clips}
    licences = {"weights": "for research, not for commercial use, as their sources ask"}
    licences |= {name: DATA_LICENCES.get(name, "see the data set") for name in sorted(present)}
    for font in sorted({clip.font for clip in clips} - {""}):
        licences[font] = FONT_LICENCES.get(font, "see the sound font")
    return licences
