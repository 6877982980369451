"""Fitting: cross-entropy on random crops, the same recipe for every fold and for the shipped weights.

One epoch draws `draws` crops of every piece, each from one of its renderings at random, so that a piece with two
timbres does not count twice. The loss is cross-entropy with label smoothing (listeners disagree, hence no class
deserves certainty); AdamW with decoupled weight decay (Loshchilov and Hutter, 2019); the learning rate rises for a
fifth of the steps and falls again (Smith's one cycle, 2018). The number of epochs is fixed beforehand, so that no run
chooses anything by looking at its held-out songs. The same seed gives the same weights on the same kind of machine:
fitting uses one thread, because the order in which several add up is not fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.blinders import Settings
from otoscope.mer_models.checkpoint import State
from otoscope.mer_models.corpus import HEADROOM, Corpus, Ints
from otoscope.mer_models.data import Clip, known_quadrant
from otoscope.mer_models.harmonics import N_SAMPLES, HarmonicsNet
from otoscope.mer_models.render import Progress, quiet

Draw = Callable[[Ints, np.random.Generator], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Recipe:
    """How weights are found.

    Attributes
    ----------
    epochs, batch_size, draws : int
        Passes, crops per step, and crops per piece and epoch.
    learning_rate, weight_decay, label_smoothing : float
    gain : float
        Crops are made louder or softer by up to this many decibels.
    stride : int
        Every how many frames one is learnt from; divides the network's `pool`.
    """

    epochs: int = 20
    batch_size: int = 64
    draws: int = 3
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    gain: float = 3.0
    stride: int = 8

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if min(self.epochs, self.draws, self.stride) < 1 or self.batch_size < 2:
            raise OtoscopeError(f"epochs, draws and stride must be at least 1, batch_size at least 2; got {self}")
        if not 0 <= self.gain <= HEADROOM:
            raise OtoscopeError(f"gain must lie between 0 and {HEADROOM:g} dB, got {self.gain:g}")


def pieces(clips: Sequence[Clip], chosen: Ints) -> list[list[int]]:
    """Group the chosen clips by piece: the renderings of one score stand together."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index in chosen.tolist():
        groups.setdefault((clips[index].dataset, clips[index].name), []).append(index)
    return list(groups.values())


def fit(
    corpus: Corpus,
    clips: Sequence[Clip],
    chosen: Ints,
    *,
    recipe: Recipe,
    settings: Settings,
    seed: int,
    n_samples: int = N_SAMPLES,
    checkpoint: Path | None = None,
    progress: Progress = quiet,
) -> HarmonicsNet:
    """Find weights of a harmonics CNN on some of the clips.

    Parameters
    ----------
    corpus : Corpus
        Of all clips.
    clips : sequence of Clip
        With their quadrants.
    chosen : ndarray of int
        Which clips to learn from.
    recipe : Recipe
    settings : Settings
    seed : int
    n_samples : int
        Length of a crop.
    checkpoint : Path, optional
        Kept up to date after each epoch; see `descend`.
    progress : callable
        Told the loss after each epoch.

    Returns
    -------
    HarmonicsNet
        In evaluation mode, on the CPU.
    """
    if settings.pool % recipe.stride:
        raise OtoscopeError(f"stride must divide pool, got {recipe.stride} and {settings.pool}")

    def draw(items: Ints, rng: np.random.Generator) -> tuple[torch.Tensor]:
        # The frames that pooling does not leave out.
        length = corpus.front_end.stft.n_frames(n_samples) // settings.pool * settings.pool
        return (corpus.crops(items, rng, length=length, stride=recipe.stride, gain=recipe.gain),)

    # Learning sees every stride-th frame, so that it averages over fewer of them.
    learning = replace(settings, pool=settings.pool // recipe.stride)
    with seeded(seed):
        network = HarmonicsNet(learning, front_end=corpus.front_end)
    network.mean, network.spread = corpus.statistics(chosen)
    descend(network, draw, clips, chosen, recipe=recipe, seed=seed, checkpoint=checkpoint, progress=progress)
    with seeded(seed):
        whole = HarmonicsNet(settings, front_end=corpus.front_end)
    whole.load_state_dict(network.state_dict())
    return whole.eval()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch draw from a seed, on one thread, for a moment."""
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread for a moment."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def descend(
    network: nn.Module,
    draw: Draw,
    clips: Sequence[Clip],
    chosen: Ints,
    *,
    recipe: Recipe,
    seed: int,
    checkpoint: Path | None = None,
    progress: Progress = quiet,
) -> None:
    """Find the weights of any network, in place.

    Parameters
    ----------
    network : torch.nn.Module
        Takes what `draw` gives and returns logits (n, n_classes); left in evaluation mode.
    draw : callable
        Turns clips (n,) and a generator into the network's input, a tuple of tensors with n items each.
    clips : sequence of Clip
        With their quadrants.
    chosen : ndarray of int
    recipe : Recipe
    seed : int
    checkpoint : Path, optional
        A file that holds everything after each epoch and from which a killed training goes on as if nothing had
        happened; removed at the end.
    progress : callable
    """
    groups = pieces(clips, chosen)
    rng = np.random.default_rng(seed)
    n_steps = recipe.epochs * len(list(_batches(len(groups) * recipe.draws, recipe.batch_size)))
    adam = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: one_cycle((step + 1) / (n_steps + 1)))
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    quadrants = torch.tensor([-1 if clip.quadrant is None else clip.quadrant for clip in clips])
    for index in chosen.tolist():
        known_quadrant(clips[index])
    with seeded(seed):
        state = State(network, adam, schedule, rng)
        begun = 0 if checkpoint is None else state.load(checkpoint)
        network.train()
        for epoch in range(begun, recipe.epochs):
            drawn = np.concatenate([rng.permutation(len(groups)) for _ in range(recipe.draws)])
            total = 0.0
            for batch in _batches(len(drawn), recipe.batch_size):
                items = np.array([rng.choice(groups[group]) for group in drawn[batch]])
                value = loss(network(*draw(items, rng)), quadrants[items])
                adam.zero_grad()
                value.backward()
                adam.step()
                schedule.step()
                total += value.item() * len(items)
            progress(f"epoch {epoch + 1} of {recipe.epochs}: loss {total / len(drawn):.3f}")
            if checkpoint is not None and epoch + 1 < recipe.epochs:
                state.save(checkpoint, epoch + 1)
    network.eval()
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


def one_cycle(position: float) -> float:
    """Learning rate in parts of its peak, at a position from 0 to 1: up over the first fifth, a half cosine down.

    >>> one_cycle(0.2)
    1.0
    """
    if position < 0.2:
        return position / 0.2
    return float(0.5 * (1 + np.cos(np.pi * (position - 0.2) / 0.8)))


def _batches(n: int, size: int) -> Iterator[slice]:
    """Slices of `size`; a rest of one item is left out, since batch normalisation needs two."""
    for start in range(0, n, size):
        if min(start + size, n) - start > 1:
            yield slice(start, min(start + size, n))
