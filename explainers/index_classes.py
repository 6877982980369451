"""The classes of the index page: what explanations of many recordings have in common, by model and method.

Of every class there is a panel per model and method (counts, profiles over bands and pitch classes, the mean map) and
one playlist: the heaviest snippet of each recording's most trusted explanation. Results are read one at a time; one
whose files are damaged is noted and costs no other.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from otoscope.adapters.audio import Audio, opened
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.pitch import PITCH_CLASSES, note_name
from otoscope.adapters.spectra import Floats
from otoscope.explainers import grid
from otoscope.explainers.embedding import as_data, mp3
from otoscope.explainers.store import DAMAGE
from otoscope.explainers.summaries import Stretch, Summary, faded, heaviest, painted, summarise, usual_columns

N_CLASSES = 24  # with pictures and sounds
N_PANELS = 12  # models × methods shown of one class
N_SNIPPETS = 12  # of one class
UNCHECKED = "not checked"
ORDER = ("trust", "caution", UNCHECKED, "do not use")  # the most trusted first

Document = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Result:
    """One explanation of a recording.

    Attributes
    ----------
    place : int
        Of the recording in the index.
    name, page : str
        Of the recording.
    folder : Path
    document : dict
        What ``explanation.json`` holds.
    """

    place: int
    name: str
    page: str
    folder: Path
    document: Document

    @property
    def target(self) -> str:
        """Name of the class that is explained."""
        return str(self.document["target"]["name"])

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.document["model"]["name"])

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.document["method"])

    @property
    def verdict(self) -> str:
        """The verdict in a word."""
        return str((self.document.get("verdict") or {"word": UNCHECKED})["word"])

    @property
    def rank(self) -> int:
        """Place of the verdict, 0 for the most trusted."""
        return ORDER.index(self.verdict) if self.verdict in ORDER else len(ORDER)

    def score(self, of: str = "original") -> float:
        """Give the model's score of the target: for the recording, or for another part of the round trip."""
        return float(self.document["round_trip"][of]["score"])


def counted(results: Iterable[Result]) -> list[tuple[str, int]]:
    """Count verdicts, the most trusted first."""
    counts = Counter((one.rank, one.verdict) for one in results)
    return [(word, n) for (_, word), n in sorted(counts.items())]


def classes(results: Sequence[Result], unread: dict[Path, str]) -> Document:
    """Prepare the classes, those of most recordings first; beyond the limit they are only named."""
    by_class: dict[str, list[Result]] = {}
    for one in results:
        by_class.setdefault(one.target, []).append(one)
    order = sorted(by_class, key=lambda name: (-_n_recordings(by_class[name]), name.casefold()))
    return {
        "shown": [_class(name, by_class[name], unread) for name in order[:N_CLASSES]],
        "others": [(name, _n_recordings(by_class[name])) for name in order[N_CLASSES:]],
    }


def _n_recordings(results: Iterable[Result]) -> int:
    return len({one.place for one in results})


def _class(name: str, results: Sequence[Result], unread: dict[Path, str]) -> Document:
    """Prepare a class: a panel per model and method, and a playlist over all of them."""
    panels: dict[tuple[str, ...], list[Result]] = {}
    for one in results:
        key = (one.model, one.method, one.document["units"])
        panels.setdefault(key, []).append(one)
    stretches: dict[Path, Stretch | None] = {}
    shown = [_panel(same, stretches, unread) for same in list(panels.values())[:N_PANELS]]
    snippets = _playlist(results, stretches, unread)
    return {
        "name": name,
        "n": _n_recordings(results),
        "n_results": len(results),
        "verdicts": counted(results),
        "panels": shown,
        "n_more": max(0, len(panels) - N_PANELS),
        "playlist": snippets,
    }


def _panel(results: Sequence[Result], stretches: dict[Path, Stretch | None], unread: dict[Path, str]) -> Document:
    """Prepare what one model and method found about a class; keep the heaviest stretch of each map."""

    def maps() -> Iterator[Floats]:
        for one in results:
            found = tried(unread, one.folder, read_map)
            if found is not None:
                stretches[one.folder] = heaviest(found)
                yield found

    durations = [one.document["span"]["duration"] for one in results]
    columns = usual_columns(durations)
    summary = summarise(maps(), columns)
    return {
        "model": results[0].model,
        "method": results[0].method,
        "n": _n_recordings(results),
        "score": float(np.mean([one.score() for one in results])),
        "evidence": float(np.mean([one.score("evidence") for one in results])),
        "verdicts": counted(results),
        "summary": summary,
        "told": _told(summary),
        "bands": _sides(summary.profile),
        "pitches": _sides(summary.pitch_classes),
        "picture": None if summary.mean is None else as_picture(painted(summary.mean), lossless=True),
        "seconds": (
            seconds := next(duration for duration in durations if len(grid.column_edges(duration)) == columns + 1)
        ),
        "ticks": ticks(seconds),
    }


def ticks(seconds: float) -> list[float]:
    """Choose round moments of a time axis, six at most.

    >>> ticks(10), ticks(0.25)
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.0, 0.05, 0.1, 0.15, 0.2, 0.25])
    """
    steps = [base * 10.0**power for power in range(-2, 4) for base in (1, 2, 5)]
    step = next((step for step in steps if seconds / step <= 5.001), seconds)
    return [round(place * step, 6) for place in range(int(seconds / step + 0.001) + 1)]


def _sides(profile: Floats) -> Document:
    """Split a profile (2, n) into what goes up and what goes down, as sizes."""
    return {"up": profile[0].tolist(), "down": (-profile[1]).tolist()}


def _told(summary: Summary) -> str:
    """Say how much speaks for a class, and at which pitches most of it."""
    pitches, bands = summary.pitch_classes[0], summary.profile[0]
    total = float(bands.sum())
    against = abs(float(summary.profile[1].sum()))
    told = f"{100 * total:.0f} % of the attribution speaks for it, {100 * against:.0f} % against."
    if not pitches.any():
        return told
    first = [place for place in np.argsort(-pitches, kind="stable")[:3] if pitches[place] > 0]
    named = ", ".join(f"{PITCH_CLASSES[place]} ({100 * pitches[place] / total:.0f} %)" for place in first)
    hottest = float(grid.band_centres()[int(bands.argmax())])
    return (
        f"{told} What speaks for it lies above all at {named.replace('#', '♯')}; "
        f"the strongest band is {note_name(hottest).replace('#', '♯')}, {hottest:.0f} Hz."
    )


def _playlist(
    results: Sequence[Result], stretches: dict[Path, Stretch | None], unread: dict[Path, str]
) -> list[Document]:
    """Cut the heaviest stretch of each recording's most trusted explanation; those with the largest share first."""
    best: dict[int, tuple[Result, Stretch]] = {}
    for one in sorted(results, key=lambda result: result.rank):
        stretch = stretches.get(one.folder)
        if stretch is not None:
            best.setdefault(one.place, (one, stretch))
    snippets: list[Document] = []
    for one, stretch in sorted(best.values(), key=lambda pair: -pair[1].share):
        if len(snippets) == N_SNIPPETS:
            break
        sound = tried(unread, one.folder, partial(_snippet, stretch=stretch))
        if sound is not None:
            start = one.document["span"]["start"] + stretch.start
            snippets.append(
                {
                    "name": one.name,
                    "page": one.page,
                    "place": f"{start:.1f}–{start + stretch.duration:.1f} s",
                    "share": stretch.share,
                    "by": f"{one.model} · {one.method}",
                    "verdict": one.verdict,
                    "sound": sound,
                }
            )
    return snippets


def tried(unread: dict[Path, str], folder: Path, read: Callable[[Path], T]) -> T | None:
    """Read something of a result; where its files are damaged, note why and give None."""
    try:
        return read(folder)
    except (OtoscopeError, *DAMAGE) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        unread.setdefault(folder, " ".join(reason.split()) or type(error).__name__)
        return None


def read_map(folder: Path) -> Floats:
    """Read the map of a result, shape (108, n_columns), and nothing else of its arrays."""
    # Opened here, as numpy leaves a file open that turns out to be none of its own.
    with (folder / "arrays.npz").open("rb") as opened_file, np.load(opened_file, allow_pickle=False) as file:
        found = np.asarray(file["map"], dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != grid.N_BANDS or not found.shape[1] or not np.isfinite(found).all():
        raise OtoscopeError(f"its map has shape {found.shape} or is not finite; make the explanation again")
    return found


def _snippet(folder: Path, stretch: Stretch) -> str | None:
    """Cut a stretch out of the evidence, as MP3 data; None where it is silent there."""
    with opened(folder / "evidence.wav") as file:
        rate = int(file.samplerate)
        file.seek(min(round(stretch.start * rate), file.frames - 1))
        samples = file.read(round(stretch.duration * rate), dtype="float32")
    return mp3(Audio(faded(samples, rate), rate)) if samples.any() else None


def as_picture(colours: Floats, **settings: Any) -> str:
    """Encode colours (n_rows, n_columns, 3 or 4) as WebP data."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, np.clip(colours, 0, 1), format="webp", pil_kwargs=settings)
    return as_data("image/webp", buffer.getvalue())
