"""Training the mid-level networks: split songs, fit, judge on the songs kept apart, write weights and cards.

One run is one network of one design (`otoscope.mer_models.midlevel_nets`) on one split of the songs
(`otoscope.mer_models.midlevel_fit`). It writes ``<name>.safetensors`` and, for each level that the design has, a card:
``<name>.toml`` for the emotions, ``<name>-midlevel.toml`` for the seven features of the same weights (design a2mid has
features only: ``<name>.toml``). Cards hold Pearson's r of every target over the test songs, each recording heard window
by window like the validation songs. While it runs, ``<name>-run/`` keeps the last epoch; a killed run goes on from
there and ends with the same bytes.

The *cost of explanation* (Chowdhury et al., 2019) is what the way through seven features costs, r(A2E) − r(this): it is
in the card of a network trained with ``against``, the card of an A2E network judged on the same songs. The paper finds
.05 for A2Mid2E and .01 for Joint (mean r .76, .71, .75 on Soundtracks), a replication over ten seeds .05 for the joint
network (.73, .68), so do not expect the .01.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.card import read_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import Floats
from otoscope.mer_models.corpus import content_key
from otoscope.mer_models.data import Clip
from otoscope.mer_models.fit import seeded
from otoscope.mer_models.midlevel_fit import Recipe, build_bridge, learn, pearson, predictions
from otoscope.mer_models.midlevel_layers import LABELS, Design, MidlevelNet, Settings
from otoscope.mer_models.midlevel_nets import HEARING
from otoscope.mer_models.midlevel_place import Place
from otoscope.mer_models.midlevel_sections import Sections, declared, listen
from otoscope.mer_models.midlevel_split import COLUMNS, Dealt, deal, rated, targets
from otoscope.mer_models.render import Progress, quiet

LICENCE = {"weights": "for research, not for commercial use: the recordings they were fitted to are commercial"}


def train_midlevel(
    clips: Sequence[Clip],
    *,
    design: Design = "joint",
    out: str | Path,
    name: str | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    settings: Settings | None = None,
    hearing: Hearing = HEARING,
    against: str | Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    command: str = "",
    progress: Progress = quiet,
) -> Path:
    """Train a network, judge it, and write weights and cards.

    Parameters
    ----------
    clips : sequence of Clip
        As `otoscope.mer_models.datasets.gather` gives them: `ratings` name the seven features, the eight emotions, or
        both; clips with neither are left out.
    design : {"a2e", "a2mid", "a2mid2e", "joint"}
    out : str or Path
        Folder for weights, cards and, while it runs, the last epoch.
    name : str, optional
        Of weights and cards; the design where None.
    seed : int
        Of first weights, crops, their order and dropout.
    recipe : Recipe, optional
    settings : Settings, optional
        Of the network; its design is overruled by `design`.
    hearing : Hearing
        Front end and length of a section.
    against : str or Path, optional
        Card of an A2E network of the same split, for the cost of explanation.
    resume : bool
        Go on from the last epoch of a killed run; without it, an earlier run in the same place is an error.
    device : str
        Where to fit; only on ``cpu`` the same seed gives the same bytes.
    command : str
        The command line that calls this, for the card.
    progress : callable
        Told one line at a time how far it is.

    Returns
    -------
    Path
        The card of the emotions (of the features for a2mid).

    Raises
    ------
    OtoscopeError
        Naming what is missing or does not fit, before any work where that can be known.
    """
    plan = _Plan(recipe or Recipe(), replace(settings or Settings(), design=design), hearing, seed)
    place = Place(Path(out), name or design)
    used, goals = _with_ratings(clips, plan)
    dealt = plan.deal(used, goals)
    rival = None if against is None else _rival(Path(against), design, judged_on(used, dealt))
    key = plan.key(used)
    if finished := place.prepare(key, resume=resume):
        return finished
    recordings = listen(used, hearing, amplitude=plan.recipe.amplitude, fill=plan.recipe.fill, progress=progress)
    sections = _standardised(recordings, dealt, plan.recipe)
    with seeded(seed):
        network = MidlevelNet(plan.settings)
    best, last = learn(
        network,
        sections,
        goals,
        dealt,
        recipe=plan.recipe,
        seed=seed,
        device=device,
        checkpoint=place.checkpoint(key),
        progress=progress,
    )
    if design == "a2mid2e":
        build_bridge(network, sections, goals, dealt.learnt, recipe=plan.recipe)
    figures = judge(network, sections, goals, dealt)
    measured: dict[str, Any] = {"command": command, "protocol": _protocol(dealt), "best_epoch": best, "epochs": last}
    measured |= figures
    if rival is not None:
        measured["cost_of_explanation"] = _cost(rival, figures["test"]["emotion"])
    progress("test: " + "; ".join(f"{level}, mean r {found['mean']:.3f}" for level, found in figures["test"].items()))
    about = {"data": _data(used, dealt, plan, key), "measured": measured, "licence": LICENCE}
    return place.publish(network, sections.hearing, about)


@dataclass(frozen=True)
class _Plan:
    """All that a run depends on but its recordings."""

    recipe: Recipe
    settings: Settings
    hearing: Hearing
    seed: int

    def deal(self, clips: Sequence[Clip], goals: Floats) -> Dealt:
        """Deal out songs."""
        how = self.recipe
        shares = {"validation": how.validation, "test": how.test}
        return deal(clips, goals, self.settings.levels, **shares, seed=how.split_seed)

    def key(self, clips: Sequence[Clip]) -> str:
        """Hash everything that the weights depend on."""
        rows = [[clip.song, sorted(clip.ratings.items())] for clip in clips]
        own = [dataclasses.asdict(self.recipe), dataclasses.asdict(self.settings), self.hearing.settings(), self.seed]
        return content_key(clips, [rows, own])


def _with_ratings(clips: Sequence[Clip], plan: _Plan) -> tuple[list[Clip], Floats]:
    """Leave out the clips that nobody rated in full on any level of the design."""
    goals = targets(clips, scale=plan.recipe.target_scale)
    chosen = np.flatnonzero(rated(goals, plan.settings.levels).any(axis=0))
    used = [clips[index] for index in chosen.tolist()]
    if gone := next((clip.path for clip in used if not clip.path.is_file()), None):
        raise OtoscopeError(f"{gone}: no such file, yet people rated it; fetch it again")
    return used, goals[chosen]


def _standardised(recordings: Sections, dealt: Dealt, recipe: Recipe) -> Sections:
    """Bring all cells to zero mean and unit deviation over what is learnt from."""
    if not recipe.standardise:
        return recordings
    mean, deviation = recordings.statistics(dealt.learnt)
    front_end, _ = declared(recordings.hearing)
    heard = replace(recordings.hearing, front_end=replace(front_end, mean=mean, std=deviation))
    return replace(recordings, hearing=heard)


def judge(network: MidlevelNet, sections: Sections, goals: Floats, dealt: Dealt) -> dict[str, Any]:
    """Correlate what the network says with ratings, for the songs that stopped the training and for those kept apart.

    Returns
    -------
    dict
        ``validation`` and ``test`` → level → target → r, and ``mean``, all to four digits.
    """
    tables: dict[str, Any] = {}
    for part, chosen in (("validation", dealt.validation), ("test", dealt.test)):
        said = predictions(network, sections, chosen)
        tables[part] = {
            level: _by_name(LABELS[level], pearson(goals[chosen, COLUMNS[level]], values))
            for level, values in said.items()
        }
    return tables


def _by_name(names: Sequence[str], values: Floats) -> dict[str, float]:
    figures = {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}
    return figures | {"mean": round(float(np.mean(values)), 4)}


def judged_on(clips: Sequence[Clip], dealt: Dealt) -> str:
    """Hash which recordings a network is judged on."""
    names = sorted([clips[index].dataset, clips[index].name] for index in dealt.test.tolist())
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]


def _rival(path: Path, design: Design, recordings: str) -> Mapping[str, float]:
    """Read how an A2E network did on the same recordings."""
    card = read_card(path)
    if design not in ("a2mid2e", "joint"):
        raise OtoscopeError(f"design {design} has no cost of explanation; leave out against, or train a2mid2e or joint")
    if card.model.kind != "midlevel" or card.model.settings.get("design") != "a2e":
        raise OtoscopeError(f"{path}: is no card of an A2E network; train one with design a2e and name its card")
    try:
        heard, figures = card.tables["data"]["judged_on"], card.tables["measured"]["test"]["emotion"]
        found = {emotion: float(figures[emotion]) for emotion in (*LABELS["emotion"], "mean")}
    except (KeyError, TypeError, ValueError):
        raise OtoscopeError(f"{path}: does not say how well it does on which recordings; train it again") from None
    if heard != recordings:
        raise OtoscopeError(
            f"{path}: was judged on other recordings; train it on the same clips with the same split_seed"
        )
    return found


def _cost(rival: Mapping[str, float], own: Mapping[str, float]) -> dict[str, float]:
    """Subtract r of a network from r of A2E, by emotion and on average."""
    return {emotion: round(value - own[emotion], 4) for emotion, value in rival.items()}


def _protocol(dealt: Dealt) -> str:
    return (
        f"Pearson's r over {len(dealt.test)} recordings of songs kept apart; fitted to {len(dealt.learnt)}, stopped by "
        f"{len(dealt.validation)}; each recording's score is the mean over its windows"
    )


def _data(clips: Sequence[Clip], dealt: Dealt, plan: _Plan, key: str) -> dict[str, Any]:
    """Write the section ``[data]``."""
    sources = {
        dataset: {
            "clips": sum(clip.dataset == dataset for clip in clips),
            "songs": len({clip.song for clip in clips if clip.dataset == dataset}),
        }
        for dataset in sorted({clip.dataset for clip in clips})
    }
    return {
        **sources,
        "run": key,
        "judged_on": judged_on(clips, dealt),
        "seed": plan.seed,
        "recipe": dataclasses.asdict(plan.recipe),
    }
