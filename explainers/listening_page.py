"""The page of a listening test: its questions, and the key beside it.

*Blind.* Which sound is which stands in a key beside the page and nowhere in the page, nor do the sounds tell it by
their length, level or bytes; see `otoscope.explainers.listening_sounds`.
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
from otoscope.explainers.listening_sounds import Sounds, sounds_of
from otoscope.explainers.store import load_explanation

KEY_SCHEMA = "otoscope/listening-key/1"

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
    choice: Choice, directory: str | Path, page: Path, *, seed: int = 0, repeats: float = 1 / 8, reference: bool = False
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

    Raises
    ------
    OtoscopeError
        If it cannot be written.
    """
    directory, rng = Path(directory), np.random.default_rng([seed, 2])
    questions = arrange(len(choice.pairs), repeats, seed=seed)
    made: dict[int, tuple[Sounds, Document]] = {}
    for number in dict.fromkeys(question.pair for question in questions):
        pair = choice.pairs[number]
        explanation = load_explanation(pair.candidate.folder)
        sounds = sounds_of(pair, explanation, reference=reference, rng=rng)
        made[number] = sounds, _facts(pair, explanation, sounds, directory)
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


def _content(questions: Sequence[Question], made: Mapping[int, tuple[Sounds, Document]]) -> Document:
    """Put together what the page knows: what is asked, and sounds in the order in which they are first heard."""
    heard: list[str] = []
    asked: list[Document] = []
    for place, question in enumerate(questions):
        name = f"p{place + 1:02d}"  # not a bare number: spreadsheets take away zeros
        if question.first is not None:
            before = asked[question.first]
            asked.append({**before, "id": name, "a": before["b"], "b": before["a"]})
            continue
        sounds, facts = made[question.pair]
        sides = [sounds.evidence, sounds.other] if question.evidence == "A" else [sounds.other, sounds.evidence]
        more = [] if sounds.recording is None else [sounds.recording]
        a = len(heard)
        asked.append({"id": name, "words": facts["asked"], "a": a, "b": a + 1, "recording": a + 2 if more else None})
        heard += [*sides, *more]
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
