"""Training the harmonics CNN: measured by folds of songs, then fitted once more on everything.

The corpus is whatever data sets the data folder holds, MIDI rendered by every font. Each fold is a fit of the benchmark
(`otoscope.mer_models.benchmark`): its songs are judged by a network that was fitted on the others, in every rendering,
and what it said is kept (``<name>-folds/fits/…/fold-00.json``); ``resume`` takes up from there, and from the last epoch
of an interrupted fit.

Probabilities are calibrated by a temperature (Guo et al., 2017), found from what the folds' networks said about songs
they had not heard. What is measured of a fold uses the temperature of the *other* folds; that of all goes into the last
layer of the network that is shipped. Then the same recipe, with nothing held out, gives ``<name>.safetensors``, and
``<name>.toml`` says what was done, what was measured, and under which licences.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.card import Tables, write_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.whole_file import whole_file
from otoscope.mer_models.benchmark import Fit, Row, carry_out
from otoscope.mer_models.checkpoint import write_weights
from otoscope.mer_models.contenders import CONTENDERS, Contender, Task, find_contender
from otoscope.mer_models.data import Clip
from otoscope.mer_models.datasets import gather
from otoscope.mer_models.describe import describe
from otoscope.mer_models.harmonics import HarmonicsNet
from otoscope.mer_models.lab import Lab
from otoscope.mer_models.measure import cooled, temperature
from otoscope.mer_models.render import Progress, quiet

DESIGN = "harmonics_2"


def train(
    *,
    data: str | Path,
    out: str | Path,
    name: str = "harmonics",
    design: str = DESIGN,
    fonts: Sequence[str | Path] = (),
    cache: str | Path,
    n_folds: int = 10,
    seed: int = 0,
    epochs: int | None = None,
    resume: bool = False,
    command: str = "",
    workers: int = 2,
    progress: Progress = quiet,
) -> Path:
    """Measure a harmonics CNN by folds, fit it on everything, and write weights and card.

    Parameters
    ----------
    data : str or Path
        Holds one folder per data set, as `otoscope.mer_models.datasets` tells.
    out : str or Path
        Where ``<name>.toml``, ``<name>.safetensors`` and ``<name>-folds/`` go.
    name : str
    design : str
        A form of the harmonics CNN among `otoscope.mer_models.contenders`.
    fonts : sequence of str or Path
        Sound fonts; needed for MIDI.
    cache : str or Path
        Folder for what is rendered and transformed once.
    n_folds, seed : int
    epochs : int, optional
        Passes over the data; the design's own where None.
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
    contender = find_contender(design)
    if contender.form is None:
        forms = ", ".join(one for one, entry in CONTENDERS.items() if entry.form is not None)
        raise OtoscopeError(f"{design}: is no form of the harmonics CNN; take one of {forms}")
    out = Path(out)
    _check_place(out, name, resume)
    if n_folds < 2:
        raise OtoscopeError(f"{n_folds} folds hold nothing out; take 2 or more")
    clips = gather(Path(data), fonts=fonts, cache=Path(cache), workers=workers, progress=progress)
    lab = Lab(labelled(clips), n_folds, seed, Path(cache), progress)
    folder = out / f"{name}-folds"
    row = Row(design, lab.parts)
    fold_of = lab.folds("songs")  # raises an error where there are too few songs
    folder.mkdir(parents=True, exist_ok=True)
    fits = [carry_out(lab, Fit(row, fold), folder, epochs=epochs, resume=resume) for fold in range(n_folds)]
    whole = lab.labelled(fold_of, -1)
    network = _fitted(contender, lab, whole, epochs, folder / "everything.checkpoint")
    cool = temperature(*_judgements(fits))
    network.cool(cool)
    about = describe(whole, calibrated(fits), contender.form, epochs=epochs, seed=seed, cool=cool, command=command)
    return _publish(network, out, name, about)


def labelled(clips: Sequence[Clip]) -> tuple[Clip, ...]:
    """Keep the clips whose emotion is known."""
    kept = tuple(clip for clip in clips if clip.quadrant is not None or clip.valence is not None)
    if not kept:
        raise OtoscopeError("no clip here has a quadrant, or valence and arousal; give a data set of emotions")
    return kept


def _fitted(contender: Contender, lab: Lab, clips: tuple[Clip, ...], epochs: int | None, path: Path) -> HarmonicsNet:
    """Learn from everything."""
    task = Task(
        lab,
        clips,
        np.arange(len(clips)),
        seed=lab.seed,
        epochs=epochs,
        checkpoint=path,
        progress=lambda line: lab.progress(f"everything: {line}"),
    )
    network = contender.learn(task).network
    if not isinstance(network, HarmonicsNet):
        raise OtoscopeError(f"learning gave {type(network).__name__}, need a HarmonicsNet")
    return network


def _judgements(fits: Sequence[dict[str, Any]]) -> tuple[Any, Any]:
    """Scores (n, 4) of all windows, and the truth (n,)."""
    clips = [said for fit in fits for said in fit["clips"]]
    scores = np.concatenate([np.array(said["scores"]) for said in clips])
    return scores, np.repeat([said["quadrant"] for said in clips], [len(said["scores"]) for said in clips])


def calibrated(fits: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cool each fold's scores by the temperature that fits the other folds."""
    found = []
    for fold, fit in enumerate(fits):
        cool = temperature(*_judgements([one for place, one in enumerate(fits) if place != fold]))
        clips = [{**said, "scores": cooled(np.array(said["scores"]), cool).tolist()} for said in fit["clips"]]
        found.append({**fit, "clips": clips})
    return found


def _check_place(out: Path, name: str, resume: bool) -> None:
    if not name or Path(name).name != name:
        raise OtoscopeError(f"{name!r} is no name for a model; take one without slashes")
    there = [path for path in (out / f"{name}.toml", out / f"{name}-folds") if path.exists()]
    if there and not resume:
        raise OtoscopeError(f"{out}: holds a run named {name} already; resume it, or take another name or folder")


def _publish(network: HarmonicsNet, out: Path, name: str, about: Tables) -> Path:
    """Write weights, then the card that names them."""
    write_weights(out / f"{name}.safetensors", network)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    named = {"name": name, "path": f"{name}.safetensors", "n_parameters": n_parameters}
    card = out / f"{name}.toml"
    with whole_file(card) as partial:
        write_card(partial, {**about, "model": {**named, **about["model"]}})
    return card
