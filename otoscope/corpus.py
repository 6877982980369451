"""The corpus of a two-level explanation: spans of the recordings in a folder, and what two models say to them.

Every recording below the folder gives spans as long as those that are explained (10 s, or the model's window where that
is longer), side by side and evenly spaced, the same on every run: two, or as many as it takes to come to `WANTED` in
all, if they fit; one from its middle otherwise; a shorter recording is one span as a whole. What cannot be read, and
what is digital silence, is left out and named.

What a model says is kept, so that the next recording costs nothing: one file per model and corpus in
``$OTOSCOPE_CACHE``, else ``$XDG_CACHE_HOME/otoscope``, else ``~/.cache/otoscope``, under a name made of the model's
fingerprint and the corpus's hash, which covers the bytes of the recordings and the places of the spans. A file that is
damaged is made anew; a folder that cannot be written to only means that nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from otoscope.adapters.audio import Audio, load_audio, opened
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats, Model
from otoscope.adapters.whole_file import whole_file
from otoscope.adapters.windows import SPAN_SECONDS, Windowed
from otoscope.explainers.effects import MIN_SPANS
from otoscope.explainers.routes import Progress, quiet

SCHEMA = "otoscope/answers/1"
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"})
WANTED = 400  # spans
PER_RECORDING = 2
NAMED = 3  # recordings named in one line


@dataclass(frozen=True)
class Corpus:
    """Spans of recordings.

    Attributes
    ----------
    folder : Path
    files : tuple of Path
        In order of name.
    starts : tuple of tuples of float
        Where the spans of each recording begin, in seconds.
    seconds : float
        Length of a span.
    unread : tuple of str
        Recordings that could not be opened, with the reason.
    """

    folder: Path
    files: tuple[Path, ...]
    starts: tuple[tuple[float, ...], ...]
    seconds: float
    unread: tuple[str, ...] = ()

    @property
    def n_spans(self) -> int:
        """Count the spans."""
        return sum(map(len, self.starts))

    @cached_property
    def sha256(self) -> str:
        """Hash of the recordings' bytes and of where the spans lie."""
        digest = hashlib.sha256(f"{self.seconds:.4f}".encode())
        for file, starts in zip(self.files, self.starts, strict=True):
            with file.open("rb") as opened_file:
                digest.update(hashlib.file_digest(opened_file, "sha256").digest())
            digest.update(np.array(starts, dtype=np.float64).tobytes())
        return digest.hexdigest()

    def excerpts(self, index: int) -> tuple[Audio, ...]:
        """Read the spans of a recording."""
        audio = load_audio(self.files[index], whole=True)
        return tuple(audio.cut(start, self.seconds) for start in self.starts[index])


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model said to the spans of a corpus.

    Attributes
    ----------
    scores : ndarray, shape (n_spans, n_classes)
        NaN where nothing could be heard.
    left_out : tuple of str
        Recordings that fell out, with the reason.
    """

    scores: Floats
    left_out: tuple[str, ...]


def find_corpus(folder: str | Path, *, seconds: float = SPAN_SECONDS) -> Corpus:
    """Find the recordings below a folder and lay out their spans; only headers are read.

    Parameters
    ----------
    folder : str or Path
    seconds : float
        Length of a span.

    Raises
    ------
    OtoscopeError
        If there is no such folder, or it holds too little.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise OtoscopeError(f"{folder}: no such folder; name one that holds recordings")
    found = recordings_below(folder)
    durations: dict[Path, float] = {}
    unread = []
    for path in found:
        try:
            with opened(path) as file:
                durations[path] = file.frames / file.samplerate
        except OtoscopeError as error:
            unread.append(str(error))
    most = max(PER_RECORDING, -(-WANTED // max(1, len(durations))))
    starts = tuple(_places(duration, seconds, most) for duration in durations.values())
    corpus = Corpus(folder, tuple(durations), starts, seconds, tuple(unread))
    if corpus.n_spans < MIN_SPANS:
        raise too_few(corpus, corpus.n_spans, unread)
    return corpus


def recordings_below(folder: Path) -> list[Path]:
    """Find the recordings below a folder, in order of name; hidden files are left out."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(path for path in found if not path.name.startswith("."))


def _places(duration: float, seconds: float, most: int) -> tuple[float, ...]:
    """Where up to `most` spans begin that lie side by side in a recording, evenly spaced."""
    n = min(most, int(duration / seconds + 1e-9))
    if n < 2:
        return (max(0.0, np.floor(50 * (duration - seconds)) / 100),)
    return tuple((np.floor(100 * np.linspace(0, duration - seconds, n)) / 100).tolist())


def too_few(corpus: Corpus, n: int, left_out: list[str]) -> OtoscopeError:
    """Make the error for a corpus of which only n spans could be heard."""
    told = f"; left out: {some(left_out)}" if left_out else ""
    return OtoscopeError(
        f"{corpus.folder}: holds {n} spans of {corpus.seconds:g} s in {len(corpus.files)} recordings, and a fit needs "
        f"at least {MIN_SPANS}; add recordings{told}"
    )


def some(faults: list[str]) -> str:
    """Name the first few faults and count the others."""
    more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return "; ".join(faults[:NAMED]) + more


def cache_folder() -> Path:
    """Where answers are kept; see the module's text."""
    own, users = os.environ.get("OTOSCOPE_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(users or Path.home() / ".cache") / "otoscope"


def listen(corpus: Corpus, model: Model, *, cache: Path | None = None, progress: Progress = quiet) -> Answers:
    """Ask a model about every span of a corpus, or recall what it said.

    Parameters
    ----------
    corpus : Corpus
    model : Model
    cache : Path, optional
        Folder in which answers are kept; `cache_folder` where None.
    progress : callable
        Told (done, total) recordings.
    """
    name = hashlib.sha256(f"{SCHEMA} {model.fingerprint} {corpus.sha256}".encode()).hexdigest()
    path = (cache or cache_folder()) / f"answers-{name[:32]}.npz"
    kept = _recalled(path, (corpus.n_spans, len(model.labels)))
    if kept is not None:
        return kept
    windowed: dict[int, Windowed] = {}
    rows, left_out = [], []
    for index, file in enumerate(corpus.files):
        progress(index, len(corpus.files))
        try:
            excerpts = corpus.excerpts(index)
        except OtoscopeError as error:
            left_out.append(str(error))
            rows.append(np.full((len(corpus.starts[index]), len(model.labels)), np.nan))
            continue
        if not all(excerpt.samples.any() for excerpt in excerpts):
            left_out.append(f"{file}: is digital silence in places")
        rows += [_answer(model, excerpt, windowed) for excerpt in excerpts]
    progress(len(corpus.files), len(corpus.files))
    answers = Answers(np.concatenate(rows), tuple(left_out))
    _keep(path, answers)
    return answers


def _answer(model: Model, excerpt: Audio, windowed: dict[int, Windowed]) -> Floats:
    """Score one span, shape (1, n_classes); NaN for silence."""
    if not excerpt.samples.any():
        return np.full((1, len(model.labels)), np.nan)
    samples = excerpt.at(model.rate).samples
    if len(samples) not in windowed:
        windowed[len(samples)] = Windowed(model, len(samples))
    return windowed[len(samples)].predict(samples[None])


def _recalled(path: Path, shape: tuple[int, int]) -> Answers | None:
    """Read answers that were kept; None where there are none, or they are damaged."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            scores, left_out = file["scores"], tuple(map(str, file["left_out"]))
    except Exception:  # noqa: BLE001 - zip and array readers raise of every kind on damaged files
        return None
    return Answers(scores, left_out) if scores.shape == shape and scores.dtype == np.float64 else None


def _keep(path: Path, answers: Answers) -> None:
    arrays = {"scores": answers.scores, "left_out": np.array(answers.left_out, dtype=np.str_)}
    with suppress(OSError):  # a cache that cannot be written to is none
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            np.savez_compressed(partial, allow_pickle=False, **arrays)
