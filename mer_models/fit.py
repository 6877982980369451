"""Fitting: cross-entropy on random crops, the same recipe for every fold and for the shipped weights.

One epoch draws `draws` crops of every piece, each from one of its renderings at random, so that a piece with two
timbres does not count twice. The loss is cross-entropy with label smoothing (listeners disagree, hence no class
deserves certainty); AdamW with decoupled weight decay (Loshchilov and Hutter, 2019); the learning rate rises for a
fifth of the steps and falls again (Smith's one cycle, 2018). The number of epochs is fixed beforehand, so that no run
chooses anything by looking at its held-out songs. The same seed gives the same weights on the same kind of machine:
fitting uses one thread, because the order in which several add up is not fixed.

`Recipe()` is that of the classic network, `SECOND_RECIPE` that of its second form. The latter also varies tempo and key
of its crops (`otoscope.mer_models.corpus`), draws every quadrant of a data set equally often (Emotify's are unequal,
since valence and arousal go together there), and where the listeners' mean ratings are known it lets a clip belong to
the quadrants in parts: one that lies on a threshold is half a clip of each side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.blinders import Settings
from otoscope.mer_models.checkpoint import State
from otoscope.mer_models.corpus import HEADROOM, Corpus, Ints, Vary
from otoscope.mer_models.data import Clip
from otoscope.mer_models.draws import drawn, pieces, targets
from otoscope.mer_models.harmonics import N_SAMPLES, HarmonicsNet
from otoscope.mer_models.render import Progress, quiet

Draw = Callable[[Ints, np.random.Generator], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Recipe:
    """How weights are found.

    Attributes
    ----------
    epochs, batch_size : int
        Passes, and crops per step.
    draws : int, or mapping of str to int
        Crops per piece and epoch, of all data sets or of each by its name.
    learning_rate, weight_decay, label_smoothing : float
    gain : float
        Crops are made louder or softer by up to this many decibels.
    stride : int
        Every how many frames one is learnt from; divides the network's `pool`.
    stretch : float
        Log of the greatest change of tempo.
    transpose : int
        Greatest change of key, in semitones.
    softness : float
        How gradually a rated clip passes from one quadrant to the next, in units of the ratings; 0 for at once.
    balanced : bool
        Whether each quadrant of a data set is drawn equally often.
    decay_all : bool
        Whether biases and the scales of batch normalisation decay too.
    """

    epochs: int = 20
    batch_size: int = 64
    draws: int | Mapping[str, int] = 3
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    gain: float = 3.0
    stride: int = 8
    stretch: float = 0.0
    transpose: int = 0
    softness: float = 0.0
    balanced: bool = False
    decay_all: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        draws = [self.draws] if isinstance(self.draws, int) else list(self.draws.values())
        if min(self.epochs, self.stride, *draws) < 1 or self.batch_size < 2:
            raise OtoscopeError(f"epochs, draws and stride must be at least 1, batch_size at least 2; got {self}")
        if not 0 <= self.gain <= HEADROOM:
            raise OtoscopeError(f"gain must lie between 0 and {HEADROOM:g} dB, got {self.gain:g}")
        if min(self.stretch, self.transpose, self.softness) < 0:
            raise OtoscopeError(f"stretch, transpose and softness must be at least 0; got {self}")

    @property
    def vary(self) -> Vary:
        """How crops differ from what was recorded."""
        return Vary(self.stride, self.gain, self.stretch, self.transpose)


SECOND_RECIPE = Recipe(
    epochs=40,
    draws={"emopia": 3, "emotify": 6},
    label_smoothing=0.02,
    stretch=0.15,
    transpose=3,
    softness=0.45,
    balanced=True,
    decay_all=False,
)


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
        return (corpus.crops(items, rng, length=length, vary=recipe.vary),)

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
    n_drawn = len(drawn(clips, groups, recipe.draws, np.random.default_rng(seed), even=recipe.balanced))
    n_steps = recipe.epochs * len(list(_batches(n_drawn, recipe.batch_size)))
    adam = torch.optim.AdamW(_decaying(network, recipe), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: one_cycle((step + 1) / (n_steps + 1)))
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    target_of = dict(zip(chosen.tolist(), targets(clips, chosen, recipe.softness), strict=True))
    with seeded(seed):
        state = State(network, adam, schedule, rng)
        begun = 0 if checkpoint is None else state.load(checkpoint)
        network.train()
        for epoch in range(begun, recipe.epochs):
            heard = drawn(clips, groups, recipe.draws, rng, even=recipe.balanced)
            total = 0.0
            for batch in _batches(len(heard), recipe.batch_size):
                items = np.array([rng.choice(groups[group]) for group in heard[batch]])
                target = torch.stack([target_of[item] for item in items.tolist()])
                value = loss(network(*draw(items, rng)), target)
                adam.zero_grad()
                value.backward()
                adam.step()
                schedule.step()
                total += value.item() * len(items)
            progress(f"epoch {epoch + 1} of {recipe.epochs}: loss {total / len(heard):.3f}")
            if checkpoint is not None and epoch + 1 < recipe.epochs:
                state.save(checkpoint, epoch + 1)
    network.eval()
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


def _decaying(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Say which parameters decay: all, or all but biases and the scales of batch normalisation."""
    weights: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, value in network.named_parameters():
        decays = recipe.decay_all or (name.endswith("weight") and value.ndim > 1)
        (weights if decays else rest).append(value)
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


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
