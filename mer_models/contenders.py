"""The contenders of the benchmark, by name: what learns emotions from recordings, and how.

=====================  ================================================================================================
harmonics              the harmonics CNN of the paper (`otoscope.mer_models.harmonics`), 100,996 parameters
random_masks           the same with as many bands per bank, drawn at random
regular_masks          the same with as many bands per bank at equal steps: blind to frequency
all_bands              the same with every bank seeing every band
harmonics_2            its second form, which is shipped: statistics over time, a hidden layer, more varied crops
square, time, …        atheoretical networks of 6.3 million parameters (`otoscope.mer_models.rivals`)
svm, forest, boosting  estimators of scikit-learn on hand-crafted features (`otoscope.mer_models.handcrafted`)
hybrid                 the harmonics CNN with hand-crafted features beside its pooled activations
=====================  ================================================================================================

A contender is a function from a `Task` to what it has `Learnt`: a function from a clip to the scores of its windows.
Networks hear each window alone, as a model does that is asked about it (from the cache of `otoscope.mer_models.lab`,
0.03 dB coarse); nothing is chosen by looking at what is held out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import Floats
from otoscope.mer_models.blinders import Settings
from otoscope.mer_models.corpus import Ints
from otoscope.mer_models.data import Clip, known_quadrant
from otoscope.mer_models.fit import SECOND_RECIPE, Recipe, descend, fit, one_thread, seeded
from otoscope.mer_models.harmonics import FRONT_END, LABELS, N_SAMPLES, RATE, SECOND, HarmonicsNet
from otoscope.mer_models.lab import SECONDS, Lab
from otoscope.mer_models.render import Progress, quiet
from otoscope.mer_models.rivals import RIVAL_FRONT_END, STRIDE, Filters, HybridNet, RivalNet

# Fixed beforehand, on the loss of training songs: with the dropout that is usual (a quarter, a half) they hardly learn.
RIVAL_RECIPE = Recipe(epochs=20, batch_size=32, draws=2, learning_rate=1e-3, stride=STRIDE)

VERSION = 1  # of the learners and their recipes, for results that are kept
BATCH = 8  # windows at once, which stay in reach of a CPU's caches


@dataclass(frozen=True)
class Task:
    """What is to be learnt.

    Attributes
    ----------
    lab : Lab
    clips : tuple of Clip
        All, with the quadrants that count in this fold.
    chosen : ndarray of int
        Those to learn from.
    seed : int
    seconds : float
        Length of a window.
    epochs : int, optional
        Passes over the data; the contender's own where None.
    checkpoint : Path, optional
        Where a network keeps its state after each epoch.
    progress : callable
    """

    lab: Lab
    clips: tuple[Clip, ...]
    chosen: Ints
    seed: int
    seconds: float = SECONDS
    epochs: int | None = None
    checkpoint: Path | None = None
    progress: Progress = quiet

    @property
    def n_samples(self) -> int:
        """Length of a window in samples."""
        return round(self.seconds * RATE)

    def recipe(self, own: Recipe) -> Recipe:
        """Give a contender's recipe the number of epochs that was asked for."""
        return own if self.epochs is None else replace(own, epochs=self.epochs)


@dataclass(frozen=True)
class Learnt:
    """What a contender has learnt.

    Attributes
    ----------
    scores : callable
        From the index of a clip to the scores (n_windows, 4) of its windows.
    network : torch.nn.Module, optional
    """

    scores: Callable[[int], Floats]
    network: nn.Module | None = None

    @property
    def n_parameters(self) -> int | None:
        """Trainable parameters of a network."""
        return None if self.network is None else sum(one.numel() for one in self.network.parameters())


@dataclass(frozen=True)
class Contender:
    """One line of the benchmark.

    Attributes
    ----------
    summary : str
    learn : callable
    paper : str
        The macro-F1 that Fong, Kumar and Sudhir report for its like on Soundtracks and DEAM.
    small : bool
        Whether two cores learn it in a minute or so.
    form : (Settings, Recipe), optional
        Of a harmonics CNN.
    """

    summary: str
    learn: Callable[[Task], Learnt]
    paper: str = "–"
    small: bool = True
    form: tuple[Settings, Recipe] | None = None


def harmonic(summary: str, settings: Settings, own: Recipe, paper: str = "–") -> Contender:
    """Make the harmonics CNN in some form."""

    def learn(task: Task) -> Learnt:
        network = fit(
            task.lab.corpus,
            task.clips,
            task.chosen,
            recipe=task.recipe(own),
            settings=settings,
            seed=task.seed,
            n_samples=task.n_samples,
            checkpoint=task.checkpoint,
            progress=task.progress,
        )
        return Learnt(lambda index: answers(network, task.lab.heard(index, task.seconds)), network)

    return Contender(summary, learn, paper, form=(settings, own))


def rival(filters: Filters) -> Callable[[Task], Learnt]:
    """Make an atheoretical network with filters of some shape."""

    def learn(task: Task) -> Learnt:
        _six_seconds(task)
        corpus, recipe = task.lab.corpus, task.recipe(RIVAL_RECIPE)
        length = STRIDE * RIVAL_FRONT_END.stft.n_frames(N_SAMPLES)

        def draw(items: Ints, rng: np.random.Generator) -> tuple[torch.Tensor]:
            return (corpus.crops(items, rng, length=length, vary=recipe.vary),)

        with seeded(task.seed):
            network = RivalNet(filters)
        network.mean, network.spread = corpus.statistics(task.chosen)
        _descend(network, draw, task, recipe)
        # Frame t of the rivals' front end is frame t · STRIDE of the shared one.
        return Learnt(lambda index: answers(network, task.lab.heard(index)[..., ::STRIDE]), network)

    return learn


def hybrid(task: Task) -> Learnt:
    """Learn the harmonics CNN together with hand-crafted features; crops are the windows the features describe."""
    _six_seconds(task)
    lab, settings, recipe = task.lab, Settings(), task.recipe(Recipe())
    features = dict(zip(task.chosen.tolist(), lab.describe(task.chosen), strict=True))
    with seeded(task.seed):
        learning = HarmonicsNet(replace(settings, pool=settings.pool // recipe.stride), front_end=FRONT_END)
        network = HybridNet(learning, np.concatenate(list(features.values())))
    learning.mean, learning.spread = lab.corpus.statistics(task.chosen)
    length = FRONT_END.stft.n_frames(N_SAMPLES) // settings.pool * settings.pool

    def draw(items: Ints, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        windows = np.array([rng.integers(len(features[item])) for item in items.tolist()])
        starts = windows * N_SAMPLES // FRONT_END.stft.hop_length
        x = lab.corpus.crops(items, rng, length=length, vary=recipe.vary, starts=starts)
        rows = [features[item][window] for item, window in zip(items.tolist(), windows.tolist(), strict=True)]
        return x, torch.from_numpy(np.stack(rows)).float()

    _descend(network, draw, task, recipe)
    learning.pool = HarmonicsNet(settings).pool  # judging hears every frame, so that it averages over more

    return Learnt(
        lambda index: answers(network, lab.heard(index), torch.from_numpy(lab.features(index)).float()), network
    )


def answers(network: nn.Module, *inputs: torch.Tensor) -> Floats:
    """Score windows, (n, …) each, as probabilities (n, n_classes)."""
    with torch.no_grad(), one_thread():
        batches = zip(*(one.split(BATCH) for one in inputs), strict=True)
        logits = [network(*batch) for batch in batches]
    return np.asarray(torch.cat(logits).double().softmax(-1).numpy())


def _descend(network: nn.Module, draw: Any, task: Task, recipe: Recipe) -> None:
    descend(
        network,
        draw,
        task.clips,
        task.chosen,
        recipe=recipe,
        seed=task.seed,
        checkpoint=task.checkpoint,
        progress=task.progress,
    )


def _six_seconds(task: Task) -> None:
    if task.n_samples != N_SAMPLES:
        raise OtoscopeError(f"this contender hears windows of {SECONDS:g} s only, not {task.seconds:g} s")


def estimator(make: Callable[[int, list[Any]], Any]) -> Callable[[Task], Learnt]:
    """Make an estimator on the hand-crafted features of windows; `make` is given a seed and splits by song."""

    def learn(task: Task) -> Learnt:
        described = task.lab.describe(task.chosen, task.seconds)
        learnt = [task.clips[index] for index in task.chosen.tolist()]
        counts = [len(rows) for rows in described]
        x = np.concatenate(described)
        y = np.repeat([known_quadrant(clip) for clip in learnt], counts)
        songs = np.repeat([clip.song for clip in learnt], counts)
        with warnings.catch_warnings():
            # Of few songs, a split may lack a class; its probability is then calibrated on less.
            warnings.filterwarnings("ignore", "Number of classes in training fold", RuntimeWarning)
            fitted = make(task.seed, _splits(x, y, songs)).fit(x, y)
        # A class that no song teaches has no column of its own.
        columns = fitted.classes_.astype(int)

        def scores(index: int) -> Floats:
            features = task.lab.features(index, task.seconds)
            found = np.zeros((len(features), len(LABELS)))
            found[:, columns] = fitted.predict_proba(features)
            return found

        return Learnt(scores)

    return learn


def _splits(x: Floats, y: Ints, songs: Any) -> list[Any]:
    """Three splits by song, for calibrating on songs that were not learnt from."""
    from sklearn.model_selection import GroupKFold

    return list(GroupKFold(min(3, len(set(songs.tolist())))).split(x, y, songs))


def _svm(_: int, splits: list[Any]) -> Any:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return CalibratedClassifierCV(make_pipeline(StandardScaler(), SVC()), cv=splits, ensemble=False)


def _forest(seed: int, _: list[Any]) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=300, min_samples_leaf=2, random_state=seed)


def _boosting(seed: int, _: list[Any]) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(learning_rate=0.06, l2_regularization=1.0, random_state=seed)


ATHEORETICAL = "0.48"
BELOW = "below both"

CONTENDERS: dict[str, Contender] = {
    "harmonics": harmonic("harmonics CNN", Settings(), Recipe(), "0.51"),
    "harmonics_2": harmonic("harmonics CNN, second form", SECOND, SECOND_RECIPE),
    "random_masks": harmonic("the same behind random masks", Settings(mask="random"), Recipe()),
    "regular_masks": harmonic("the same behind masks blind to frequency", Settings(mask="regular"), Recipe()),
    "all_bands": harmonic("the same without masks", Settings(mask="all"), Recipe()),
    "square": Contender("CNN, 5 × 5 filters", rival("square"), ATHEORETICAL, small=False),
    "time": Contender("CNN, filters along time", rival("time"), ATHEORETICAL, small=False),
    "frequency": Contender("CNN, filters along frequency", rival("frequency"), ATHEORETICAL, small=False),
    "time_frequency": Contender("CNN, both kinds of filters", rival("time_frequency"), ATHEORETICAL, small=False),
    "svm": Contender("support vectors on hand-crafted features", estimator(_svm), BELOW),
    "forest": Contender("random forest on hand-crafted features", estimator(_forest), BELOW),
    "boosting": Contender("gradient boosting on hand-crafted features", estimator(_boosting), BELOW),
    "hybrid": Contender("harmonics CNN with hand-crafted features", hybrid, "about 0.51"),
}


def find_contender(name: str) -> Contender:
    """Find a contender by name."""
    if name not in CONTENDERS:
        raise unknown("contender", name, tuple(CONTENDERS))
    return CONTENDERS[name]
