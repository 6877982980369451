"""Fitting the mid-level networks: mean squared error on one level or both, stopped when held-out songs get no better.

After Chowdhury et al. (2019): Adam at 5e-4, batches of 8, mean squared error against ratings times 0.1, early stopping
with a patience of 50 epochs; the joint network's loss is the sum over its two levels (``midlevel_weight`` and
``emotion_weight``; both .5 in the institute's later code). A rating that a recording lacks counts for nothing, so
recordings rated on one level only can be learnt from. After each epoch the validation songs are heard window by window;
the score is the Pearson correlation with their ratings, averaged over targets, then over the levels that are fitted.
The weights of the best epoch are kept.

The paper does not say how A2Mid2E finds its 7 → 8 map: here by least squares, on what the mid-level network says about
the recordings it was fitted to, or on people's ratings of them (`Recipe.bridge`).

The same seed gives the same weights on the CPU, also when a run was killed and goes on: after each epoch everything is
kept (`otoscope.mer_models.checkpoint`).

Shapes: ratings, scaled, (n_clips, 15) as in `otoscope.mer_models.midlevel_split`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats
from otoscope.adapters.network import evaluating
from otoscope.mer_models.checkpoint import State
from otoscope.mer_models.corpus import Ints
from otoscope.mer_models.fit import seeded
from otoscope.mer_models.midlevel_layers import Level, MidlevelNet
from otoscope.mer_models.midlevel_sections import Amplitude, Fill, Sections
from otoscope.mer_models.midlevel_split import COLUMNS, Dealt, rated
from otoscope.mer_models.render import Progress, quiet


@dataclass(frozen=True)
class Recipe:
    """How weights are found.

    Attributes
    ----------
    epochs, patience, batch_size : int
        Most passes; passes without a better score after which it stops; recordings per step.
    learning_rate : float
    midlevel_weight, emotion_weight : float
        Of the two levels in the joint network's loss.
    target_scale : float
        What ratings are multiplied by.
    bridge : {"predictions", "ratings"}
        What A2Mid2E's map from features to emotions is fitted on.
    amplitude : {"recording", "none"}
        Whether recordings are divided by their peak.
    fill : {"loop", "silence"}
        What makes a short recording long enough.
    standardise : bool
        Whether cells are brought to zero mean and unit deviation by two numbers of the training set.
    validation, test : float
        Shares of the songs.
    split_seed : int
    """

    epochs: int = 199
    patience: int = 50
    batch_size: int = 8
    learning_rate: float = 5e-4
    midlevel_weight: float = 1.0
    emotion_weight: float = 1.0
    target_scale: float = 0.1
    bridge: Literal["predictions", "ratings"] = "predictions"
    amplitude: Amplitude = "recording"
    fill: Fill = "loop"
    standardise: bool = True
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 42

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if min(self.epochs, self.patience) < 1 or self.batch_size < 2:
            raise OtoscopeError(f"epochs and patience must be at least 1, batch_size at least 2; got {self}")
        positive = ("learning_rate", "midlevel_weight", "emotion_weight", "target_scale", "validation", "test")
        for name in positive:
            if not 0 < getattr(self, name) < np.inf:
                raise OtoscopeError(f"{name} must be above 0, got {getattr(self, name):g}")
        if self.validation + self.test >= 1:
            raise OtoscopeError("validation and test leave nothing to learn from; their sum must be below 1")
        words = {"bridge": ("predictions", "ratings"), "amplitude": ("recording", "none"), "fill": ("loop", "silence")}
        for name, known in words.items():
            if getattr(self, name) not in known:
                raise OtoscopeError(f"{name} must be {' or '.join(known)}, got {getattr(self, name)!r}")


class Best(nn.Module):
    """The best weights so far, and when they were found; a module, so that a checkpoint holds it."""

    score: torch.Tensor
    epoch: torch.Tensor

    def __init__(self, network: MidlevelNet) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.register_buffer("score", torch.tensor(-torch.inf, dtype=torch.float64))
        self.register_buffer("epoch", torch.tensor(0))

    def offer(self, network: MidlevelNet, score: float, epoch: int) -> None:
        """Keep these weights if they score higher."""
        if score > float(self.score):
            self.network.load_state_dict(network.state_dict())
            self.score.fill_(score)
            self.epoch.fill_(epoch)


def learn(
    network: MidlevelNet,
    sections: Sections,
    goals: Floats,
    dealt: Dealt,
    *,
    recipe: Recipe,
    seed: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Progress = quiet,
) -> tuple[int, int]:
    """Find the weights of a network, in place.

    Parameters
    ----------
    network : MidlevelNet
        Left in evaluation mode on the CPU, with the weights of the best epoch.
    sections : Sections
    goals : ndarray, shape (n_clips, 15)
    dealt : Dealt
    recipe : Recipe
    seed : int
        Of crops, their order, and dropout.
    device : str
    checkpoint : Path, optional
        A file that holds everything after each epoch; a run that finds it goes on from there.
    progress : callable
        Told loss and score after each epoch.

    Returns
    -------
    best, last : int
        Epochs, counted from 1.
    """
    fitted, rng = fitted_levels(network), np.random.default_rng(seed)
    network.to(device)
    best = Best(network)
    adam = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    constant = torch.optim.lr_scheduler.LambdaLR(adam, lambda _: 1.0)
    state = State(nn.ModuleDict({"network": network, "best": best}), adam, constant, rng)
    with seeded(seed):
        done = 0 if checkpoint is None else state.load(checkpoint)
        while done < recipe.epochs and done - int(best.epoch) < recipe.patience:
            error = _epoch(network, adam, sections, goals, dealt.learnt, recipe=recipe, rng=rng)
            said = predictions(network, sections, dealt.validation)
            score = float(np.mean([pearson(goals[dealt.validation, COLUMNS[one]], said[one]).mean() for one in fitted]))
            done += 1
            best.offer(network, score, done)
            progress(f"epoch {done}: loss {error:.4f}, validation r {score:.3f}, best in epoch {int(best.epoch)}")
            if checkpoint is not None:
                state.save(checkpoint, done)
    network.load_state_dict(best.network.state_dict())
    network.to("cpu").eval()
    return int(best.epoch), done


def fitted_levels(network: MidlevelNet) -> tuple[Level, ...]:
    """Name the levels whose ratings steer the convolutions; A2Mid2E's emotions do not."""
    return ("midlevel",) if network.settings.design == "a2mid2e" else network.settings.levels


def _epoch(
    network: MidlevelNet,
    adam: torch.optim.Optimizer,
    sections: Sections,
    goals: Floats,
    learnt: Ints,
    *,
    recipe: Recipe,
    rng: np.random.Generator,
) -> float:
    """Learn from each recording once; the mean loss over steps."""
    device = next(network.parameters()).device
    batches = np.array_split(rng.permutation(learnt), -(-len(learnt) // recipe.batch_size))
    losses = []
    network.train()
    for batch in batches:
        said = network(sections.drawn(batch, rng).to(device))
        loss = joint_loss(
            said, torch.from_numpy(goals[batch]).float().to(device), fitted_levels(network), recipe=recipe
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def joint_loss(
    said: Mapping[str, torch.Tensor], goals: torch.Tensor, levels: Sequence[Level], *, recipe: Recipe
) -> torch.Tensor:
    """Mean squared error of each level over what was rated, (n, 15); weighted and added up where there are two."""
    weights = {"midlevel": recipe.midlevel_weight, "emotion": recipe.emotion_weight} if len(levels) > 1 else {}
    total = goals.new_zeros(())
    for level in levels:
        wanted = goals[:, COLUMNS[level]]
        known = wanted.isfinite()
        if known.any():
            total = total + weights.get(level, 1.0) * (said[level][known] - wanted[known]).square().mean()
    return total


def predictions(network: MidlevelNet, sections: Sections, clips: Ints) -> dict[Level, Floats]:
    """Score recordings on each level, (n_clips, 7) and (n_clips, 8): means over their windows."""
    device = next(network.parameters()).device
    with evaluating(network), torch.no_grad():
        said = [network(sections.windows(clip).to(device)) for clip in clips.tolist()]
    return {
        level: np.array([one[level].double().mean(dim=0).cpu().numpy() for one in said])
        for level in network.settings.levels
    }


def pearson(truth: Floats, said: Floats) -> Floats:
    """Correlate columns (n, k) with columns (n, k), shape (k,); 0 where one of them does not vary."""
    truth, said = truth - truth.mean(axis=0), said - said.mean(axis=0)
    size = np.sqrt((truth**2).sum(axis=0) * (said**2).sum(axis=0))
    return np.asarray((truth * said).sum(axis=0) / np.where(size > 0, size, 1))


def build_bridge(network: MidlevelNet, sections: Sections, goals: Floats, learnt: Ints, *, recipe: Recipe) -> None:
    """Find A2Mid2E's map from seven features to eight emotions by least squares, in place."""
    if network.emotion is None:
        raise OtoscopeError(f"design {network.settings.design} has no emotions; take a2mid2e")
    chosen = learnt[rated(goals[learnt], ("emotion", "midlevel")).all(axis=0)]
    heard = goals[chosen, COLUMNS["midlevel"]]
    if recipe.bridge == "predictions":
        heard = predictions(network, sections, chosen)["midlevel"]
    with_one = np.column_stack([heard, np.ones(len(heard))])  # (n, 8)
    solution = np.linalg.lstsq(with_one, goals[chosen, COLUMNS["emotion"]], rcond=None)[0]  # (8, 8)
    with torch.no_grad():
        network.emotion.weight.copy_(torch.from_numpy(solution[:-1].T))
        network.emotion.bias.copy_(torch.from_numpy(solution[-1]))
