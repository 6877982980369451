"""What a trained model's card says: sources, measured figures, licences.

Every figure is computed here from the confusion matrices of the folds; the card names the command that made them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from otoscope.adapters.card import Tables
from otoscope.mer_models.blinders import Settings
from otoscope.mer_models.data import Clip, medians
from otoscope.mer_models.fit import Recipe
from otoscope.mer_models.harmonics import LABELS, card_input
from otoscope.mer_models.measure import macro_f1, merged_accuracy, spread, summary

DIMENSIONS = {"valence": ((0, 3), (1, 2)), "arousal": ((0, 1), (2, 3))}  # classes of the upper and the lower half
FONT_LICENCES = {"FluidR3_GM": "MIT", "TimGM6mb": "GPL-2"}

Confusions = Mapping[str, Mapping[str, list[list[int]]]]  # data set and font → windows or clips → counts


def describe(
    clips: Sequence[Clip],
    results: Sequence[Confusions],
    *,
    recipe: Recipe,
    settings: Settings,
    seed: int,
    command: str,
) -> Tables:
    """Fill in a card, but for the names of model and weights.

    Parameters
    ----------
    clips : sequence of Clip
        All that the weights were fitted on, with their quadrants.
    results : sequence of dict
        Of each fold: data set and font → "windows" and "clips" → confusion matrix, truth by rows.
    recipe, settings, seed
        What the weights were fitted with.
    command : str
        The command line that did it.
    """
    measured: dict[str, Any] = {
        "command": command,
        "protocol": (
            f"{len(results)} folds by song; mean and standard deviation over folds; within the run nothing is chosen "
            "by held-out songs, but the recipe's defaults come from trials on other folds of the same songs; windows "
            "of six seconds, one after the other; the shipped weights are fitted on all folds"
        ),
    }
    for part in sorted({part for result in results for part in result}):
        tables = [result[part] for result in results if part in result]
        section = summary([np.array(table["windows"]) for table in tables], LABELS)
        for name, halves in DIMENSIONS.items():
            right = [merged_accuracy(np.array(table["windows"]), halves) for table in tables]
            section[f"{name}_accuracy"] = spread(right)
        section["clip_macro_f1"] = spread([macro_f1(np.array(table["clips"])) for table in tables])
        measured[part] = section
    return {
        "model": {
            "kind": "harmonics",
            "framework": "torch",
            "labels": list(LABELS),
            "output": "softmax",
            "summary": "music emotion in quadrants of valence and arousal, heard through twelve pitch classes",
            "source": "architecture of Fong, Kumar and Sudhir (Marketing Science 44(1), 2025)",
            "settings": _plain(settings),
        },
        "input": card_input(),
        "data": {**_sources(clips), "seed": seed, "recipe": _plain(recipe)},
        "measured": measured,
        "licence": _licences(clips),
    }


def _plain(settings: Recipe | Settings) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(settings).items()
    }


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
    if "emopia" in present:
        licences["emopia"] = "CC BY-NC-SA 4.0 (Hung et al., EMOPIA, ISMIR 2021)"
    if "emotify" in present:
        licences["emotify"] = "research data of Aljanaki, Wiering and Veltkamp (2015), not redistributable"
    for font in sorted({clip.font for clip in clips} - {""}):
        licences[font] = FONT_LICENCES.get(font, "see the sound font")
    return licences
