"""The page of a listening test: its questions, and the key beside it.

*Blind.* Which sound is which stands in a key beside the page and nowhere in the page, nor do the sounds tell it by
their length, level or bytes; see `otoscope.explainers.listening_sounds`. So evidence that stands against several sets
lies in the page once for each, while a recording that is offered beside several pairs at one level lies there once.

*Size.* A page holds all its sounds. One that would be larger than `MOST_MB` is refused when its first `PROBED` pairs
are encoded, by what those come to a second; browsers and mail take no such page.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.embedding import script_hash, source, template
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.listening import Choice, Pair
from otoscope.explainers.listening_sounds import Recordings, Sounds, sounds_of
from otoscope.explainers.store import load_explanation

KEY_SCHEMA = "otoscope/listening-key/1"
MOST_MB = 50.0
PROBED = 8  # pairs

Document = dict[str, Any]
Side = Literal["A", "B"]


@dataclass(frozen=True)
class Question:
    """What is asked at one place of the page.

    Attributes
    ----------
    pair : int
        Place among the pairs.
    evidence : {"A", "B"}
        Where the evidence is played.
    first : int or None
        Place of the question that asked the same before, the sides swapped.
    """

    pair: int
    evidence: Side
    first: int | None = None


def arrange(n_pairs: int, repeats: float, *, seed: int = 0) -> list[Question]:
    """Bring pairs into a random order, the evidence on either side equally often, some asked again later.

    Parameters
    ----------
    n_pairs : int
    repeats : float
        Share of the pairs that is asked twice, rounded up.
    seed : int

    Examples
    --------
    >>> questions = arrange(8, 1 / 8)
    >>> len(questions), sum(question.first is not None for question in questions)
    (9, 1)
    """
    rng = np.random.default_rng([seed, 1])  # another stream than the sets are drawn from
    order = rng.permutation(n_pairs).tolist()
    on_a = (rng.permutation(n_pairs) + rng.integers(2)) % 2 == 1  # of an odd number either side may have one more
    n_again = math.ceil(repeats * n_pairs - 1e-9)
    n_head = max(n_again, (n_pairs + 1) // 2)  # those asked again come early, so that they come again much later
    head = order[:n_head]
    tail = [*order[n_head:], *rng.choice(head, n_again, replace=False).tolist()]
    rng.shuffle(tail)
    if tail and tail[0] == head[-1]:
        tail = [*tail[1:], tail[0]]
    asked: dict[int, int] = {}
    questions = []
    for place, pair in enumerate([*head, *tail]):
        first = asked.setdefault(pair, place)
        again = first != place
        questions.append(Question(pair, "A" if on_a[pair] != again else "B", first if again else None))
    return questions


@dataclass(frozen=True)
class Page:
    """A listening test that was written.

    Attributes
    ----------
    page, key : Path
    test : str
        Its id.
    n_pairs, n_again, n_explanations : int
        How many pairs there are, how many of them are asked twice, and from how many explanations they come.
    size : int
        Of the page, in bytes.
    seconds : float
        It takes to hear every sound once.
    """

    page: Path
    key: Path
    test: str
    n_pairs: int
    n_again: int
    n_explanations: int
    size: int
    seconds: float


def key_path(page: Path) -> Path:
    """Where the key of a page lies: ``listen.key.json`` for ``listen.html``."""
    return page.with_suffix(".key.json")


def write_page(
    choice: Choice,
    directory: str | Path,
    page: Path,
    *,
    seed: int = 0,
    repeats: float = 1 / 8,
    reference: bool = False,
    most_mb: float = MOST_MB,
) -> Page:
    """Write a listening test: the page, and its key beside it.

    Parameters
    ----------
    choice : Choice
    directory : str or Path
        Where the explanations lie; folders in the key are told from there.
    page : Path
    seed : int
        Of sides and order. The same seed gives the same bytes.
    repeats : float
        Share of the pairs that is asked twice.
    reference : bool
        Offer the whole recording to listen to as well.
    most_mb : float
        Largest page to write, in megabytes.

    Raises
    ------
    OtoscopeError
        If it cannot be written, or would be too large.
    """
    directory, rng = Path(directory), np.random.default_rng([seed, 2])
    questions = arrange(len(choice.pairs), repeats, seed=seed)
    made: dict[int, tuple[Sounds, Document]] = {}
    recordings: Recordings = {}
    for number in dict.fromkeys(question.pair for question in questions):
        pair = choice.pairs[number]
        explanation = load_explanation(pair.candidate.folder)
        sounds = sounds_of(pair, explanation, rng=rng, recordings=recordings if reference else None)
        made[number] = sounds, _facts(pair, explanation, sounds, directory)
        if len(made) in (PROBED, len(choice.pairs)):
            _check_size(choice, made, page, most_mb)
    content = _content(questions, made)
    text, test = _render(content)
    key = {
        "schema": KEY_SCHEMA,
        "test": test,
        "page": page.name,
        "seed": seed,
        "pairs": {
            one["id"]: {
                **made[question.pair][1],
                "evidence": question.evidence,
                "repeats": None if question.first is None else content["pairs"][question.first]["id"],
            }
            for one, question in zip(content["pairs"], questions, strict=True)
        },
        "left_out": list(choice.left_out),
    }
    _write(page, text, key)
    played = sum(2 * made[question.pair][1]["span"]["duration"] for question in questions)
    n_again = sum(question.first is not None for question in questions)
    size = page.stat().st_size
    return Page(page, key_path(page), test, len(choice.pairs), n_again, choice.n_explanations, size, played)


def _check_size(choice: Choice, made: Mapping[int, tuple[Sounds, Document]], page: Path, most_mb: float) -> None:
    """Refuse a page that would be too large, as far as the pairs made so far tell."""
    first, every = [choice.pairs[number] for number in made], choice.pairs
    sides = sum(len(sounds.evidence) + len(sounds.other) for sounds, _ in made.values())
    recordings = sum(map(len, {sounds.recording or "" for sounds, _ in made.values()}))
    shares = (_seconds(every) / _seconds(first), _seconds(every, once=True) / _seconds(first, once=True))
    mb = (sides * shares[0] + recordings * shares[1]) / 1e6
    if mb > most_mb:
        fewer = int(0.95 * len(every) * most_mb / mb)
        remedy = f"ask about fewer pairs (--pairs {fewer}), or" if fewer else "explain a shorter span (--duration), or"
        told = f"{mb:.0f}" if mb >= 10 else f"{mb:.2g}"
        raise OtoscopeError(
            f"{page}: would be a page of about {told} MB, and the limit is {most_mb:g} MB; "
            f"{remedy} allow more by --max-mb {math.ceil(1.1 * mb)}"
        )


def _seconds(pairs: Sequence[Pair], *, once: bool = False) -> float:
    """Add up how long the spans of pairs last, or of the different explanations they come from."""
    found = [(pair.candidate.folder, pair.candidate.seconds) for pair in pairs]
    return sum(seconds for _, seconds in (set(found) if once else found))


def _content(questions: Sequence[Question], made: Mapping[int, tuple[Sounds, Document]]) -> Document:
    """Put together what the page knows: what is asked, and sounds in the order in which they are first heard."""
    heard: list[str] = []
    recordings: dict[str, int] = {}
    asked: list[Document] = []
    for place, question in enumerate(questions):
        name = f"p{place + 1:02d}"  # not a bare number: spreadsheets take away zeros
        if question.first is not None:
            before = asked[question.first]
            asked.append({**before, "id": name, "a": before["b"], "b": before["a"]})
            continue
        sounds, facts = made[question.pair]
        sides = [sounds.evidence, sounds.other] if question.evidence == "A" else [sounds.other, sounds.evidence]
        a = len(heard)
        heard += sides
        if sounds.recording is not None and sounds.recording not in recordings:
            recordings[sounds.recording] = len(heard)
            heard.append(sounds.recording)
        recording = None if sounds.recording is None else recordings[sounds.recording]
        asked.append({"id": name, "words": facts["asked"], "a": a, "b": a + 1, "recording": recording})
    return {"pairs": asked, "sounds": heard}


def _facts(pair: Pair, explanation: Explanation, sounds: Sounds, directory: Path) -> Document:
    """Tell of a pair what stands in the key."""
    e, one, other = explanation, pair.candidate, pair.other
    return {
        "folder": one.folder.relative_to(directory).as_posix(),
        "set": pair.number,
        "recording": e.audio.name,
        "model": e.model,
        "method": e.method,
        "target": e.target.name,
        "asked": in_words(e),
        "span": {"start": e.span.start, "duration": e.span.duration},
        "energy": {"evidence": float(one.energy @ one.evidence), "random": float(one.energy @ other.parts)},
        "energy_ratio": other.ratio,
        "shared_energy": other.shared,
        "parts": {
            "evidence": np.flatnonzero(one.evidence).tolist(),
            "random": np.flatnonzero(other.parts).tolist(),
        },
        "gains": sounds.gains,
        "level": sounds.level,
        "scale": e.scale,
        "model_difference": e.round_trip.evidence.scaled - e.round_trip.off.scaled,
    }


def in_words(explanation: Explanation) -> str:
    """Say a target so that "Which one still sounds like: …?" can be answered by somebody who knows no model."""
    target = explanation.target
    label = explanation.labels[target.index].replace("_", " ")
    if target.against is not None:
        return f"{label} rather than {explanation.labels[target.against].replace('_', ' ')}"
    return f"high {label}" if explanation.output == "regression" else label


def _render(content: Document) -> tuple[str, str]:
    """Make the page, and its id, which is a hash of what the page shows and so reveals nothing."""
    test = "listen-" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    script = source("listen.js")
    text = template("listen.html").render(
        script=script,
        script_hash=script_hash(script),
        content={"test": test, **content},
        n=len(content["pairs"]),
        reference=any(one["recording"] is not None for one in content["pairs"]),
    )
    return text, test


def _write(page: Path, text: str, key: Document) -> None:
    """Write page and key, both or neither."""
    told = json.dumps(key, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(page) as partial, whole_file(key_path(page)) as partial_key:
            partial.write_text(text, encoding="utf-8", newline="\n")
            partial_key.write_text(told, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OtoscopeError(f"{page}: cannot be written ({error.strerror}); choose another place by --out") from None
