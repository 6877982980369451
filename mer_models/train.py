"""Training the harmonics CNN: measured by folds of songs, then fitted once more on everything.

The corpus is whatever data sets the data folder holds, MIDI rendered by every font. Songs are dealt out to folds; each
fold's songs are judged by a network that was fitted on the others, so that a song's other clips and other timbre are
held out with it. Where a data set rates valence and arousal, its thresholds are the medians of the songs learnt from.
What is measured, per data set and font, mean and standard deviation over folds:

- windows: six seconds each, as the model hears them, called by their greatest probability;
- clips: called by the greatest mean probability of their windows.

Each fold leaves a small JSON file (``<name>-folds/fold-00.json``), written whole or not at all, and ``resume`` takes up
from there; it holds a hash of everything the fold depends on. Then the same recipe, with nothing held out, gives
``<name>.safetensors``, and ``<name>.toml`` says what was done, what was measured, and under which licences.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from otoscope.adapters.card import Tables, write_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import data as datasets
from otoscope.mer_models.blinders import Settings
from otoscope.mer_models.corpus import Corpus, Ints, cut, listen
from otoscope.mer_models.data import Clip, known_quadrant
from otoscope.mer_models.datasets import gather
from otoscope.mer_models.describe import Confusions, describe
from otoscope.mer_models.fit import Recipe, fit
from otoscope.mer_models.harmonics import FRONT_END, LABELS, N_SAMPLES, HarmonicsNet, model
from otoscope.mer_models.measure import confusion, macro_f1
from otoscope.mer_models.render import Progress, quiet


def train(
    *,
    data: str | Path,
    out: str | Path,
    name: str = "harmonics",
    fonts: Sequence[str | Path] = (),
    cache: str | Path,
    n_folds: int = 10,
    seed: int = 0,
    recipe: Recipe | None = None,
    settings: Settings | None = None,
    resume: bool = False,
    command: str = "",
    workers: int = 2,
    progress: Progress = quiet,
) -> Path:
    """Measure a recipe by folds, fit it on everything, and write weights and card.

    Parameters
    ----------
    data : str or Path
        Holds data sets; see `otoscope.mer_models.datasets`.
    out : str or Path
        Where ``<name>.toml``, ``<name>.safetensors`` and ``<name>-folds/`` go.
    name : str
    fonts : sequence of str or Path
        Sound fonts; needed for data sets of MIDI files.
    cache : str or Path
        Folder for rendered clips.
    n_folds, seed : int
    recipe : Recipe, optional
    settings : Settings, optional
    resume : bool
        Keep the folds that are there; without it, an earlier run in the same place is an error.
    command : str
        The command line that calls this, for the card.
    workers : int
        Synthesisers running at once.
    progress : callable
        Told one line at a time how far it is.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    OtoscopeError
        Naming what is missing, before any work, or what is wrong with a file.
    """
    plan = _Plan(recipe or Recipe(), settings or Settings(), seed, progress)
    out = Path(out)
    _check_place(out, name, resume)
    if n_folds < 2:
        raise OtoscopeError(f"{n_folds} folds hold nothing out; take 2 or more")
    clips = [
        clip
        for clip in gather(data, fonts=fonts, cache=cache, workers=workers, progress=progress)
        if clip.quadrant is not None or clip.valence is not None  # there are data sets that tell nothing of emotion
    ]
    # Provisional quadrants only balance the folds; what is learnt and judged uses each fold's own thresholds.
    fold_of = datasets.folds(datasets.with_quadrants(clips, datasets.medians(clips)), n_folds=n_folds, seed=seed)
    folder = out / f"{name}-folds"
    folder.mkdir(parents=True, exist_ok=True)
    corpus = listen(clips, FRONT_END, progress=progress)
    results = [_measured(plan, corpus, clips, fold_of, fold, folder) for fold in range(n_folds)]
    labelled = datasets.with_quadrants(clips, datasets.medians(clips))
    network = _fitted(plan, corpus, labelled, np.arange(len(clips)))
    about = describe(labelled, results, recipe=plan.recipe, settings=plan.settings, seed=seed, command=command)
    return _publish(network, out, name, about)


@dataclasses.dataclass(frozen=True)
class _Plan:
    recipe: Recipe
    settings: Settings
    seed: int
    progress: Progress

    def key(self, clips: Sequence[Clip], fold_of: Ints) -> str:
        """Hash everything that a fold depends on."""
        # A rendering's file name holds the hash of its content; a recording is known by its size.
        rows = [(clip.path.name, clip.path.stat().st_size, clip.valence, clip.arousal) for clip in clips]
        settings = [dataclasses.asdict(self.recipe), dataclasses.asdict(self.settings), FRONT_END.settings(), self.seed]
        return hashlib.sha256(json.dumps([rows, fold_of.tolist(), settings]).encode()).hexdigest()


def judge(network: HarmonicsNet, clips: Sequence[Clip]) -> Confusions:
    """Count right and wrong calls of windows and clips, by data set and font."""
    heard = model(network, n_samples=N_SAMPLES)
    calls: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for clip in clips:
        scores = heard.predict(cut(clip, rate=heard.rate, n_samples=N_SAMPLES))  # (n_windows, n_classes)
        part = calls.setdefault("/".join(filter(None, (clip.dataset, clip.font))), {"windows": [], "clips": []})
        truth = known_quadrant(clip)
        part["windows"] += [(truth, int(called)) for called in scores.argmax(axis=1)]
        part["clips"].append((truth, int(scores.mean(axis=0).argmax())))
    return {
        part: {unit: confusion(pairs, len(LABELS)).tolist() for unit, pairs in units.items()}
        for part, units in calls.items()
    }


def _fitted(plan: _Plan, corpus: Corpus, clips: Sequence[Clip], chosen: Ints) -> HarmonicsNet:
    return fit(
        corpus,
        clips,
        chosen,
        recipe=plan.recipe,
        settings=plan.settings,
        seed=plan.seed,
        progress=plan.progress,
    )


def _measured(plan: _Plan, corpus: Corpus, clips: Sequence[Clip], fold_of: Ints, fold: int, folder: Path) -> Confusions:
    """Take a fold's result from its file, or fit on the other songs, judge these, and write the file."""
    path, key = folder / f"fold-{fold:02d}.json", plan.key(clips, fold_of)
    result = _kept(path, key)
    if result is None:
        learnt, held_out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        labelled = datasets.with_quadrants(clips, datasets.medians([clips[index] for index in learnt.tolist()]))
        result = judge(_fitted(plan, corpus, labelled, learnt), [labelled[index] for index in held_out.tolist()])
        _write(path, json.dumps({"key": key, "confusions": result}).encode())
    figures = ", ".join(f"{part} {macro_f1(np.array(counts['windows'])):.3f}" for part, counts in result.items())
    plan.progress(f"fold {fold + 1} of {fold_of.max() + 1}: macro-F1 per window: {figures}")
    return result


def _check_place(out: Path, name: str, resume: bool) -> None:
    """Refuse where an earlier run lies."""
    if not name or Path(name).name != name:
        raise OtoscopeError(f"{name!r} is no name for a model; take one without slashes")
    if not resume and ((out / f"{name}-folds").exists() or (out / f"{name}.toml").exists()):
        raise OtoscopeError(f"{out}: holds a run named {name} already; resume it, or take another name or folder")


def _kept(path: Path, key: str) -> Confusions | None:
    """Read the result of an earlier run."""
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] != key:
            raise OtoscopeError(f"{path}: was made with other data or settings; take another name or folder")
        return dict(kept["confusions"])
    except (KeyError, TypeError, json.JSONDecodeError):
        raise OtoscopeError(f"{path}: is no result of a fold; delete it") from None


def _publish(network: HarmonicsNet, out: Path, name: str, about: Tables) -> Path:
    """Write weights, then the card that names them."""
    from safetensors.torch import save

    _write(out / f"{name}.safetensors", save({key: value.contiguous() for key, value in network.state_dict().items()}))
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    named = {"name": name, "path": f"{name}.safetensors", "n_parameters": n_parameters}
    card, half_done = out / f"{name}.toml", out / f".{name}.toml.{os.getpid()}"
    try:
        write_card(half_done, {**about, "model": {**named, **about["model"]}})
        half_done.replace(card)
    finally:
        half_done.unlink(missing_ok=True)
    return card


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    half_done = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half_done.write_bytes(content)
        half_done.replace(path)
    finally:
        half_done.unlink(missing_ok=True)
