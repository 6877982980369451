"""The benchmark: contenders × what they learn from × folds, each fit once, kept, and judged on everything held out.

A *fit* is one contender (`otoscope.mer_models.contenders`) learning from some parts of the laboratory, with windows of
some length, on all songs but those of one fold. It is judged on the held-out songs of *every* part, so that the same
fit answers how well a network knows its own data set, the other one, and the other sound font. What it says about each
window is written to ``fits/<row>/fold-00.json``, whole or not at all, together with a hash of everything it depends on;
``resume`` takes up from there, and from the last epoch of a network that was interrupted. Tables are computed from
these files alone (`otoscope.mer_models.benchmark_table`);
`otoscope.mer_models.studies` says which rows answer which question.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats
from otoscope.adapters.whole_file import whole_file
from otoscope.mer_models.checkpoint import write_weights
from otoscope.mer_models.contenders import CONTENDERS, VERSION, Task, find_contender
from otoscope.mer_models.corpus import content_key
from otoscope.mer_models.harmonics import FRONT_END, HarmonicsNet
from otoscope.mer_models.lab import SECONDS, Lab, part_of

SCHEMA = "otoscope/fit/1"
QUICK_FOLDS = 3


@dataclass(frozen=True)
class Row:
    """One contender and what it learns from.

    Attributes
    ----------
    contender : str
    trained_on : tuple of str
        Parts.
    seconds : float
        Length of a window.
    held_out : {"songs", "genres"}
    """

    contender: str
    trained_on: tuple[str, ...]
    seconds: float = SECONDS
    held_out: str = "songs"

    @property
    def name(self) -> str:
        """Name of its folder."""
        where = "+".join(part.replace("/", "-") for part in self.trained_on)
        length = "" if self.seconds == SECONDS else f"@{self.seconds:g}s"
        return f"{self.contender}@{where}{length}{'' if self.held_out == 'songs' else '@' + self.held_out}"


@dataclass(frozen=True)
class Fit:
    """One fold of a row."""

    row: Row
    fold: int

    def path(self, out: Path) -> Path:
        """Where its result lies."""
        return out / "fits" / self.row.name / f"fold-{self.fold:02d}.json"


def key_of(lab: Lab, row: Row, epochs: int | None) -> str:
    """Hash everything that the fits of a row depend on."""
    truth = [[clip.song, clip.valence, clip.arousal, clip.quadrant] for clip in lab.clips]
    content = content_key(lab.clips, [truth, lab.folds(row.held_out).tolist(), lab.seed, epochs, FRONT_END.settings()])
    form = repr(find_contender(row.contender).form)  # settings and recipe of a harmonics CNN; VERSION for the others
    return hashlib.sha256(json.dumps([VERSION, form, content, asdict(row)]).encode()).hexdigest()


def carry_out(lab: Lab, fit: Fit, out: Path, *, epochs: int | None = None, resume: bool = False) -> dict[str, Any]:
    """Take a fit's result from its file, or learn, judge, and write the file.

    Parameters
    ----------
    lab : Lab
    fit : Fit
    out : Path
        Holds ``fits/``.
    epochs : int, optional
        Passes over the data of networks; their own where None.
    resume : bool
        Keep what is there; without it, an earlier result in the same place is an error.

    Returns
    -------
    dict
        The file's content.

    Raises
    ------
    OtoscopeError
        If what is there was made with other data or settings, or is damaged.
    """
    path, key = fit.path(out), key_of(lab, fit.row, epochs)
    if path.is_file():
        if not resume:
            raise OtoscopeError(f"{path}: exists; use --resume to keep it, or another --out")
        return read_fit(path, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    fold_of = lab.folds(fit.row.held_out)
    clips = lab.labelled(fold_of, fit.fold)
    learns = np.array([part_of(clip) in fit.row.trained_on for clip in clips])
    task = Task(
        lab,
        clips,
        np.flatnonzero(learns & (fold_of != fit.fold)),
        seed=lab.seed,
        seconds=fit.row.seconds,
        epochs=epochs,
        checkpoint=path.with_suffix(".checkpoint"),
        progress=lambda line: lab.progress(f"{fit.row.name}, fold {fit.fold}: {line}"),
    )
    began = time.perf_counter()
    learnt = find_contender(fit.row.contender).learn(task)
    seconds = time.perf_counter() - began
    held_out = np.flatnonzero(fold_of == fit.fold)
    result = {
        "schema": SCHEMA,
        "key": key,
        "row": asdict(fit.row),
        "fold": fit.fold,
        "n_parameters": learnt.n_parameters,
        "seconds": round(seconds, 1),
        "clips": [_said(learnt.scores(index), clips, index) for index in held_out.tolist()],
    }
    if isinstance(learnt.network, HarmonicsNet):
        write_weights(path.with_suffix(".safetensors"), learnt.network)
    with whole_file(path) as partial:
        partial.write_text(json.dumps(result), encoding="utf-8")
    lab.progress(f"{fit.row.name}, fold {fit.fold}: learnt in {seconds:.0f} s")
    return read_fit(path)


def _said(scores: Floats, clips: Sequence[Any], index: int) -> dict[str, Any]:
    """Write down what was said about a clip, and what is true."""
    clip = clips[index]
    return {
        "part": part_of(clip),
        "name": clip.name,
        "song": clip.song,
        "genre": clip.genre,
        "quadrant": clip.quadrant,
        "scores": np.round(scores, 5).tolist(),
    }


def read_fit(path: Path, key: str | None = None) -> dict[str, Any]:
    """Read the result of a fit.

    Raises
    ------
    OtoscopeError
        If it was made with other data or settings than `key` says, or is damaged.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        found, schema = kept["key"], kept["schema"]
        wrong = not isinstance(kept["clips"], list) or schema != SCHEMA
    except (OSError, KeyError, TypeError, ValueError):
        wrong, found = True, ""
    if wrong:
        raise OtoscopeError(f"{path}: is no result of a fit; delete it")
    if key is not None and found != key:
        raise OtoscopeError(f"{path}: was made with other data or settings; take another --out")
    return dict(kept)


def fits_of(lab: Lab, rows: Sequence[Row], folds: Sequence[int] | None, big_folds: int) -> list[Fit]:
    """List the fits of some rows, fold by fold: all folds, or some, and of large networks the first few of these."""
    found = []
    for row in dict.fromkeys(rows):
        n_folds = int(lab.folds(row.held_out).max()) + 1
        own = list(range(n_folds)) if folds is None else [fold for fold in folds if fold < n_folds]
        own = own if CONTENDERS[row.contender].small else own[:big_folds]
        found += [Fit(row, fold) for fold in own]
    return sorted(found, key=lambda one: one.fold)  # stable: row by row within a fold


def quick(lab: Lab) -> Lab:
    """Take a slice of the laboratory: three songs of each quadrant and data set, three folds."""
    return replace(lab.slice(3), n_folds=QUICK_FOLDS)


def run(
    lab: Lab, fits: Sequence[Fit], out: Path, *, epochs: int | None = None, resume: bool = False, jobs: int = 1
) -> None:
    """Carry out fits, some at once.

    Parameters
    ----------
    lab : Lab
        With a `progress` that other processes can find by its name, where `jobs` is above 1.
    fits : sequence of Fit
    out : Path
    epochs, resume
        See `carry_out`.
    jobs : int
        Processes; each learns on one thread.
    """
    if not resume and (there := [fit.path(out) for fit in fits if fit.path(out).is_file()]):
        raise OtoscopeError(f"{there[0]}: exists; use --resume to keep what is there, or another --out")
    if jobs == 1:
        for fit in fits:
            carry_out(lab, fit, out, epochs=epochs, resume=resume)
        return
    _ = lab.corpus  # made once, before several processes want it
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(carry_out, lab, fit, out, epochs=epochs, resume=resume) for fit in fits]
        try:
            for one in waiting:
                one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
