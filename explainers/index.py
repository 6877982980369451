"""The index page: many recordings at a glance, and what the explanations of each class have in common.

``report.html`` of an output folder with several recordings lists them with a small picture each, what the models said,
and how far each explanation is to be trusted, and links to a page per recording. Below that stands every class: which
pitches and moments spoke for it, and the heaviest snippets of the evidence to listen to, one after the other.

The page holds everything itself and fetches nothing. Its one script, allowed by its hash, filters and sorts; without
it the whole table still stands. What is embedded is bounded by the constants below and the page says what it leaves
out, so that a folder of any size gives a page that opens. Arrays and sounds are read one result at a time; a result
whose files are damaged is named on the page and costs no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otoscope.adapters.audio import load_audio
from otoscope.adapters.pitch import PITCH_CLASSES
from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.embedding import safe_json, script_hash, source, template
from otoscope.explainers.index_classes import Document, Result, as_picture, classes, counted, read_map, tried
from otoscope.explainers.summaries import SNIPPET, thumbnail

N_THUMBNAILS = 400
N_QUESTIONS = 8  # models × targets shown of one recording
N_NAMES = 200  # of further classes
N_NOTES = 20  # of results left out
SIBLINGS = {
    "compare.html": "how far models and methods agree",
    "evaluation.md": "how far the methods can be trusted, measured",
}


@dataclass(frozen=True)
class Listed:
    """A recording of the index.

    Attributes
    ----------
    name : str
    page : str
        Relative URL of its page, quoted.
    results : tuple of (Path, dict)
        Folders of its explanations, and what their ``explanation.json`` holds, in the order to be listed.
    """

    name: str
    page: str
    results: tuple[tuple[Path, Document], ...]


def write_index(directory: str | Path, recordings: Sequence[Listed], left_out: Sequence[tuple[str, str]] = ()) -> Path:
    """Write ``report.html``, the page over many recordings.

    Parameters
    ----------
    directory : str or Path
        The output folder, which exists.
    recordings : sequence of Listed
        In the order of the table.
    left_out : sequence of (str, str)
        Folders that could not be read, and why; told on the page.

    Returns
    -------
    Path
        The page.
    """
    directory = Path(directory)
    results = [one for place, listed in enumerate(recordings) for one in _results(listed, place)]
    unread: dict[Path, str] = {}
    rows = [_row(one, unread if place < N_THUMBNAILS else None) for place, one in enumerate(recordings)]
    by_class = classes(results, unread)
    damaged = [(folder.relative_to(directory).as_posix(), reason) for folder, reason in unread.items()]
    script = source("index.js")
    text = template("index.html").render(
        script=script,
        script_hash=script_hash(script),
        data=safe_json([_searched(one) for one in recordings]),
        rows=rows,
        n_results=len(results),
        choices=_choices(results),
        verdicts=counted(results),
        classes=by_class,
        siblings=[(name, what) for name, what in SIBLINGS.items() if (directory / name).is_file()],
        left_out=[*left_out, *damaged],
        limits={"thumbnails": N_THUMBNAILS, "names": N_NAMES, "notes": N_NOTES},
        pitch_classes=PITCH_CLASSES,
        snippet_seconds=SNIPPET,
    )
    with whole_file(directory / "report.html") as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")
    return directory / "report.html"


def _results(one: Listed, place: int = 0) -> list[Result]:
    return [Result(place, one.name, one.page, *result) for result in one.results]


def _choices(results: Sequence[Result]) -> list[tuple[str, str, list[str]]]:
    """List what each filter can be set to: its key, its name, the choices."""
    methods = dict.fromkeys(one.method for one in results)
    verdicts = sorted({(one.rank, one.verdict) for one in results})
    return [
        ("class", "Asked about", sorted({one.target for one in results}, key=str.casefold)),
        ("model", "Model", sorted({one.model for one in results}, key=str.casefold)),
        ("method", "Method", list(methods)),
        ("verdict", "Verdict", [word for _, word in verdicts]),
    ]


def _searched(one: Listed) -> Document:
    """Tell the script what a recording is found by."""
    results = _results(one)
    return {
        "name": one.name,
        "top": sorted({result.document["round_trip"]["original"]["top"] for result in results}),
        "results": [
            {
                "class": result.target,
                "model": result.model,
                "method": result.method,
                "verdict": result.verdict,
                "rank": result.rank,
                "score": result.score(),
            }
            for result in results
        ],
    }


def _row(one: Listed, unread: dict[Path, str] | None) -> Document:
    """Prepare a recording for the table; without `unread`, where faults are noted, it gets no picture."""
    results = _results(one)
    questions: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        model, span = result.document["model"], result.document["span"]
        key = (model["name"], result.target, span["start"], span["duration"])
        questions.setdefault(key, []).append(result)
    best = min(results, key=lambda result: result.rank, default=None)
    picture = None if best is None or unread is None else tried(unread, best.folder, _thumbnail)
    return {
        "name": one.name,
        "page": one.page,
        "picture": picture,
        "drawn": best and f"{best.method} on {best.target}",
        "questions": [_question(same) for same in list(questions.values())[:N_QUESTIONS]],
        "n_more": max(0, len(questions) - N_QUESTIONS),
    }


def _question(results: Sequence[Result]) -> Document:
    """Prepare what one model was asked about one target: its answer, and the explanations of it."""
    document = results[0].document
    start, duration = document["span"]["start"], document["span"]["duration"]
    return {
        "model": document["model"]["name"],
        "span": f"{start:.1f}–{start + duration:.1f} s",
        "said": _said(document),
        "target": results[0].target,
        "score": results[0].score(),
        "explanations": [
            {"method": one.method, "verdict": one.verdict, "evidence": one.score("evidence")} for one in results
        ],
    }


def _said(document: Document) -> str:
    """Say what the model said: its top class and score, or its first values."""
    scores = document["round_trip"]["original"]["all"]
    named = list(zip(document["model"]["labels"], scores, strict=True))
    if document["model"]["output"] == "regression":
        return ", ".join(f"{label} {value:.2f}" for label, value in named[:3]) + (" …" if len(named) > 3 else "")
    label, score = max(named, key=lambda pair: pair[1])
    return f"{label} {score:.2f}"


def _thumbnail(folder: Path) -> str:
    audio = load_audio(folder / "original.wav")
    return as_picture(thumbnail(audio.samples, audio.rate, read_map(folder)), quality=60)
