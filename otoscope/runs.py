"""One run of ``otoscope explain``: files × methods × targets, checked first, written one by one, then reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from otoscope.adapters.audio import load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import BATCH_SIZE, Model
from otoscope.adapters.registry import load_model, name_of
from otoscope.console import bar, tell_faults
from otoscope.corpus import find_corpus
from otoscope.explainers.document import to_document
from otoscope.explainers.effects import TwoLevel, find_feature
from otoscope.explainers.explain import asked, explain
from otoscope.explainers.makers import find_maker
from otoscope.explainers.methods import Settings, all_methods, changed, find_method, refuse_black_box, settings_for
from otoscope.explainers.report import find_results, summary, write_report
from otoscope.explainers.stems import load_stems
from otoscope.explainers.store import read_document, result_folder, save
from otoscope.explainers.targets import resolve_target
from otoscope.fit_effects import fit_two_level

MIDLEVEL = "midlevel"

Finished = dict[tuple[Any, ...], tuple[Path, dict[str, Any]]]  # what is asked: folder and document of the answer


@dataclass(frozen=True)
class Run:
    """What is to be explained, and how.

    Attributes
    ----------
    files : sequence of Path
    model : str
        Short name, or path of a card.
    methods, targets : sequence of str
    settings : Settings
    out : Path
    start, duration : float, optional
        In seconds.
    seed, batch_size : int
    force, resume, equal_loudness : bool
    corpus : Path, optional
        Folder of recordings to which the effects of the two-level method are fitted.
    midlevel : str, optional
        Short name, or path of a card, of the mid-level model; `MIDLEVEL` where None.
    loading : mapping
        How models are loaded, besides the batch size: ``device``, ``trust``, ``allow_network``.
    """

    files: Sequence[Path]
    model: str
    methods: Sequence[str]
    targets: Sequence[str]
    settings: Settings
    out: Path
    start: float | None = None
    duration: float | None = None
    seed: int = 0
    batch_size: int = BATCH_SIZE
    force: bool = False
    resume: bool = False
    equal_loudness: bool = False
    corpus: Path | None = None
    midlevel: str | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)

    def options(self, *, two_level: bool) -> dict[str, Any]:
        """Tell what the command line was given that it would not take by itself, besides settings, for one method."""
        given: dict[str, Any] = {**self.loading, "batch_size": self.batch_size}
        if two_level:
            given |= {"corpus": self.corpus and str(self.corpus), "midlevel": self.midlevel}
        usual = {"device": "cpu", "batch_size": BATCH_SIZE}
        return {name: value for name, value in sorted(given.items()) if value and value != usual.get(name)}


def check(run: Run) -> None:
    """Check all that can be checked before the model is loaded.

    Raises
    ------
    OtoscopeError
        Naming the first thing that is wrong.
    """
    if run.settings.parts is not None:
        find_maker(run.settings.parts)
    entries = [find_method(method) for method in run.methods]
    for option in changed(run.settings):
        if not any(option in entry.uses for entry in entries):
            users = ", ".join(name for name, entry in all_methods().items() if option in entry.uses)
            raise OtoscopeError(
                f"--{option.replace('_', '-')} means nothing to {', '.join(run.methods)}; it is for {users}"
            )
    _check_corpus(run, two_level=any(entry.needs_two_level for entry in entries))
    check_out(run.out, keep=not (run.force or run.resume))
    for file in run.files:
        tell_faults(load_audio(file))
    if run.settings.stems:
        _check_stems(run)


def _check_stems(run: Run) -> None:
    if len(run.files) != 1:
        raise OtoscopeError(f"--stems are those of one recording, got {len(run.files)}; explain one at a time")
    load_stems(run.settings.stems, load_audio(run.files[0]))


def _check_corpus(run: Run, *, two_level: bool) -> None:
    for option, value in (("corpus", run.corpus), ("midlevel", run.midlevel)):
        if value is not None and not two_level:
            raise OtoscopeError(f"--{option} means nothing to {', '.join(run.methods)}; it is for two_level")
    if run.corpus is not None:
        find_corpus(run.corpus)


def check_out(out: Path, *, keep: bool) -> None:
    """Refuse an output folder that cannot be written, or holds what is to be kept.

    Raises
    ------
    OtoscopeError
    """
    if out.exists() and not out.is_dir():
        raise OtoscopeError(f"{out}: is a file; choose a folder for --out")
    if out.is_dir() and any(out.iterdir()) and keep:
        raise OtoscopeError(f"{out}: exists and is not empty; use --force to replace results in it, or another --out")
    try:
        fresh = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".otoscope-probe"
        probe.touch()
        probe.unlink()
        if fresh:
            out.rmdir()
    except OSError as error:
        raise OtoscopeError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None


def check_model(run: Run, model: Model) -> None:
    """Refuse targets that a model does not have, and methods that do not fit it.

    Raises
    ------
    OtoscopeError
    """
    for target in run.targets:
        if target != "top" or model.output == "regression":
            resolve_target(target, model.labels, model.output)
    for name in run.methods:
        refuse_black_box(name, model)


def _two_level(run: Run, model: Model, load: Callable[[str], Model]) -> TwoLevel | None:
    """Fit what the two-level method needs, where it is asked for."""
    if not any(find_method(name).needs_two_level for name in run.methods):
        return None
    midlevel = load(run.midlevel or MIDLEVEL)
    if run.settings.feature is not None:
        find_feature(run.settings.feature, midlevel.labels)
    return fit_two_level(model, midlevel, run.corpus, bar=bar)


def carry_out(
    run: Run, model: Model, *, load: Callable[[str], Model] = load_model
) -> tuple[list[dict[str, Any]], list[dict[str, str]], Path | None]:
    """Explain every file by every method.

    Parameters
    ----------
    run : Run
    model : Model
    load : callable
        Loads the mid-level model by its name, where a method needs one.

    Returns
    -------
    results : list of dict
        Summaries.
    failed : list of dict
        Files that failed on the way, with the error.
    report : Path or None
    """
    check_model(run, model)
    two_level = _two_level(run, model, load)
    clear(run.out)
    results, failed = [], []
    done = finished(run.out) if run.resume else {}
    report = None
    try:
        for file in run.files:
            try:
                for method in run.methods:
                    given = two_level if find_method(method).needs_two_level else None
                    results += [explain_one(run, model, given, file, method, target, done) for target in run.targets]
            except OtoscopeError as error:
                failed.append({"file": str(file), "error": str(error).removeprefix(f"{file.name}: ")})
    finally:  # also where the run is interrupted: what is finished is worth looking at
        report = write_report(run.out) if find_results(run.out) else None
    return results, failed, report


def _identity(document: dict[str, Any]) -> tuple[Any, ...]:
    """Tell what makes two results answers to the same question."""
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in document["settings"].items()}
    sha, fingerprint = document["audio"]["sha256"], document["model"]["fingerprint"]
    settings["equal_loudness"] = any(gain != 1 for gain in document["gains"].values())
    return sha, fingerprint, document["method"], document["seed"], str(sorted(settings.items()))


def finished(out: Path) -> Finished:
    """List the results below an output folder by what they answer."""
    results = [(folder, read_document(folder)) for folder in find_results(out)]
    return {_identity(document): (folder, document) for folder, document in results}


def explain_one(
    run: Run,
    model: Model,
    two_level: TwoLevel | None,
    file: Path,
    method: str,
    target: str,
    done: Finished,
) -> dict[str, Any]:
    """Explain one file by one method, unless that is done already; give its summary, with the folder."""
    audio = load_audio(file)
    settings = settings_for(run.settings, method)
    question = {
        "audio": {"sha256": audio.sha256},
        "model": {"fingerprint": model.fingerprint},
        "method": method,
        "seed": run.seed,
        "settings": {**asdict(settings), **asked(target, run.start, run.duration, two_level, settings.stems)},
        "gains": {"evidence": 0.0 if run.equal_loudness else 1.0},
    }
    if done and (kept := done.get(_identity(question))) is not None:
        return {**summary(kept[1]), "folder": str(kept[0])}
    with bar(f"{audio.name} {method}") as progress:
        explanation = explain(
            model,
            audio,
            method=method,
            target=target,
            start=run.start,
            duration=run.duration,
            settings=settings,
            seed=run.seed,
            batch_size=run.batch_size,
            name=name_of(run.model),
            two_level=two_level,
            progress=progress,
        )
    folder = run.out / result_folder(explanation, audio.name)
    if run.resume and not run.force and folder.exists():
        raise OtoscopeError(f"{folder} holds a result of other settings; use --force to replace it, or another --out")
    options = run.options(two_level=two_level is not None)
    save(explanation, folder, equal_loudness=run.equal_loudness, spec=run.model, options=options)
    return {**summary(to_document(explanation)), "folder": str(folder)}


def clear(folder: Path) -> None:
    """Remove what a killed run left behind below an output folder."""
    for partial in folder.glob("**/.partial-*"):
        shutil.rmtree(partial, ignore_errors=True)
