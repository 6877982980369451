"""The listening test: whether people still hear the class in an explanation's evidence.

That a model keeps its answer on the evidence alone says that the evidence matters to the model, not that it is anything
a listener would know the class by. So people are asked, blind and in pairs: which of two sounds still sounds like the
class, the *evidence*, or a *random set* of other parts of the same recording with the same energy? If the evidence is
preferred to what chance would have kept, it is still in the signal.

*Equal energy.* Parts are taken in random order, those outside the evidence first, each where it brings the sum nearer
to the energy of the evidence. Such a draw misses that energy by half of the largest part's at most. Of `N_DRAWS` draws
those within `TOLERANCE` are kept, and of these the first that shares about as little with the evidence as any; if none
is so near, the nearest. Where an explanation weighs groups of parts (combs), groups are drawn, so that both sounds are
made of pieces of one kind. Parts below `QUIET` of the energy count as silent. An explanation is left out where nothing
but its evidence has that energy: where the set would have more than `FACTOR` times more or less, or share more than
`MOST_SHARED` of it.

*Equal loudness.* Both sounds are composed afresh from the parts, in one way, brought to one root-mean-square level,
`LEVEL`, or as near below as `PEAK` allows, measured once encoded, and encoded to the same number of bytes.

*Blind.* Which sound is which stands in a key beside the page and nowhere in the page. No two sounds of a page are the
same bytes: noise of one 16-bit step lies under each, or evidence that is used twice would be told by that.

*Scores.* An answer counts 1 for the evidence, 0 for the random set, 1/2 for "cannot tell"; of a pair asked twice the
first counts, the second shows consistency. Intervals are of 95 %: Wilson's (JASA 22, 1927) for one listener, else a
percentile bootstrap that draws listeners and pairs anew, crossed (Owen, "The pigeonhole bootstrap", Ann. Appl. Stat. 1,
2007). Where all answers are alike there is nothing to draw, so Wilson's over the pairs stands. The p-value is that of a
sign test over pairs, by the majority of their listeners, even pairs left out: answers to one pair are not independent.
Agreement is Krippendorff's alpha, nominal ("Computing Krippendorff's alpha-reliability", 2011), of three values.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.spectra import Floats
from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.evaluation_table import N_BOOTSTRAP
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.parts import Bools
from otoscope.explainers.report import MP3_RATES, as_data, find_results, mp3, template
from otoscope.explainers.store import load_explanation

KEY_SCHEMA = "otoscope/listening-key/1"
SCHEMA = "otoscope/listening/1"
ANSWERS = ("A", "B", "cannot tell")
N_DRAWS = 128
TOLERANCE = 0.05  # of the evidence's energy
QUIET = 1e-6  # of the recording's energy
FACTOR = 2.0
MOST_SHARED = 0.9  # of the evidence's energy
SLACK = 0.05  # of the evidence's energy: draws that share so little more than the best may be taken
LEVEL = 0.1  # root mean square, −20 dB of full scale
PEAK = 0.9  # of full scale: what encoding adds stays below 1
MOST_MADE_UP = 1.1  # gain for what encoding takes away
STEP = 2.0**-16  # standard deviation of the noise under each sound
DAMAGE = (AttributeError, EOFError, IndexError, KeyError, RuntimeError, TypeError, ValueError, BadZipFile)
FEW = 3  # pairs: a correlation over fewer says nothing

Document = dict[str, Any]
Rng = np.random.Generator
Side = Literal["A", "B"]


@dataclass(frozen=True, eq=False)
class RandomSet:
    """Parts drawn to be heard against the evidence.

    Attributes
    ----------
    parts : ndarray of bool, shape (k,)
    ratio : float
        Their energy, by that of the evidence.
    shared : float
        Share of the evidence's energy that they hold too.
    """

    parts: Bools
    ratio: float
    shared: float

    @property
    def fair(self) -> bool:
        """Whether the energies are comparable and the two sounds differ."""
        return 1 / FACTOR <= self.ratio <= FACTOR and self.shared <= MOST_SHARED


def random_set(
    energy: Floats, evidence: Bools, *, rng: Rng, units: Bools | None = None, known: Iterable[Bools] = ()
) -> RandomSet | None:
    """Draw parts at random that hold as much energy as the evidence, and as little of the evidence, as can be.

    Parameters
    ----------
    energy : ndarray, shape (k,)
        Share of the recording's energy in each part.
    evidence : ndarray of bool, shape (k,)
        Not silent.
    rng : Generator
    units : ndarray of bool, shape (n_units, k), optional
        What is drawn as a whole; single parts if None.
    known : iterable of ndarray of bool, shape (k,)
        Sets that were drawn before.

    Returns
    -------
    RandomSet or None
        Neither the evidence nor a known set; None where there is no other.

    Examples
    --------
    >>> energy, evidence = np.array([0.3, 0.2, 0.2, 0.3]), np.array([True, True, False, False])
    >>> random_set(energy, evidence, rng=np.random.default_rng(0)).parts.tolist()
    [False, False, True, True]
    """
    audible = energy > QUIET
    units = np.asarray((np.eye(len(energy), dtype=bool) if units is None else units) & audible)
    units = units[units.any(axis=1)]
    taken = {(evidence & audible).tobytes(), *(parts.tobytes() for parts in known)}
    goal = float(energy @ (evidence & audible))

    def judged(parts: Bools) -> RandomSet:
        return RandomSet(parts, float(energy @ parts) / goal, float(energy @ (parts & evidence)) / goal)

    found: list[RandomSet] = []
    for _ in range(N_DRAWS):
        drawn = judged(_draw(energy, evidence, units, goal, rng))
        if drawn.parts.tobytes() in taken:
            continue
        if abs(drawn.ratio - 1) <= TOLERANCE and drawn.shared == 0:
            return drawn
        found.append(drawn)
    if not found:  # every part outside is far louder than the evidence
        outside = [judged(units[place]) for place in np.flatnonzero(~(units & evidence).any(axis=1))]
        outside = [drawn for drawn in outside if drawn.parts.tobytes() not in taken]
        return min(outside, key=lambda drawn: drawn.ratio, default=None)
    near = [drawn for drawn in found if abs(drawn.ratio - 1) <= TOLERANCE]
    if not near:
        return min(found, key=lambda drawn: abs(drawn.ratio - 1))
    least = min(drawn.shared for drawn in near)
    return next(drawn for drawn in near if drawn.shared <= least + SLACK)


def _draw(energy: Floats, evidence: Bools, units: Bools, goal: float, rng: Rng) -> Bools:
    """Take units in random order, those outside the evidence first, where they bring the energy nearer to the goal."""
    inside = np.asarray(~(units & ~evidence).any(axis=1))
    order = rng.permutation(len(units))
    parts, held = np.zeros(len(energy), dtype=bool), 0.0
    for unit in order[np.argsort(inside[order], kind="stable")]:
        more = float(energy @ (units[unit] & ~parts))
        if abs(held + more - goal) < abs(held - goal):
            parts, held = parts | units[unit], held + more
    return parts


@dataclass(frozen=True, eq=False)
class Candidate:
    """What of an explanation decides whether and how it can be asked about."""

    folder: Path
    energy: Floats  # (k,)
    evidence: Bools  # (k,)
    units: Bools | None  # (n_units, k)

    @property
    def fault(self) -> str | None:
        """Say why it cannot be asked about."""
        audible = self.energy > QUIET
        if not (self.evidence & audible).any():
            return "its evidence is empty"
        pieces = audible if self.units is None else (self.units & audible).any(axis=1)
        return "it has a single part" if np.count_nonzero(pieces) < 2 else None


@dataclass(frozen=True, eq=False)
class Pair:
    """Evidence and a random set of one explanation."""

    candidate: Candidate
    other: RandomSet
    number: int  # of the random set among those of its explanation, from 1


@dataclass(frozen=True)
class Choice:
    """The pairs of a test, from how many explanations they come, and what was left out, with reasons."""

    pairs: tuple[Pair, ...]
    left_out: tuple[str, ...]

    @property
    def n_explanations(self) -> int:
        """How many different explanations are asked about."""
        return len({pair.candidate.folder for pair in self.pairs})


def choose_pairs(
    directory: str | Path, n_pairs: int, *, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Choice:
    """Choose explanations below a folder, and draw a random set for each; several where there are too few.

    Parameters
    ----------
    directory : str or Path
        The output folder of ``otoscope explain``.
    n_pairs : int
        Fewer are given only where there are no more different sets.
    seed : int
    progress : callable, optional
        Told how many explanations were read, of how many.

    Raises
    ------
    OtoscopeError
        If there are no explanations, or none that can be asked about.
    """
    directory, rng = Path(directory), np.random.default_rng(seed)
    candidates, left_out = _candidates(directory, progress)
    drawn: dict[Path, list[RandomSet]] = {one.folder: [] for one in candidates}
    pairs: list[Pair] = []
    queue = deque(candidates[place] for place in rng.permutation(len(candidates)))
    while queue and len(pairs) < n_pairs:
        one = queue.popleft()
        sets = drawn[one.folder]
        known = [other.parts for other in sets]
        other = random_set(one.energy, one.evidence, rng=rng, units=one.units, known=known)
        if other is not None and other.fair:
            sets.append(other)
            pairs.append(Pair(one, other, len(sets)))
            queue.append(one)  # its turn comes again where there are too few
        elif not sets:
            name = one.folder.relative_to(directory)
            left_out.append(f"{name}: no other set of its parts has about the energy of the evidence")
    if not pairs:
        raise OtoscopeError(f"{directory}: no explanation can be asked about ({'; '.join(left_out)}); make others")
    return Choice(tuple(pairs), tuple(left_out))


def _candidates(directory: Path, progress: Callable[[int, int], None] | None) -> tuple[list[Candidate], list[str]]:
    """Read every explanation below a folder, and keep of each what is little."""
    folders = find_results(directory)
    if not folders:
        raise OtoscopeError(f"{directory}: holds no explanations; name a folder that `otoscope explain --out` made")
    kept, left_out = [], []
    for place, folder in enumerate(folders, start=1):
        candidate, fault = _candidate(folder)
        if candidate is not None and fault is None:
            kept.append(candidate)
        else:
            left_out.append(f"{folder.relative_to(directory)}: {fault}")
        if progress is not None:
            progress(place, len(folders))
    return kept, left_out


def _candidate(folder: Path) -> tuple[Candidate | None, str | None]:
    """Read an explanation; say why it cannot be asked about, or None."""
    from scipy.io.wavfile import WavFileWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", WavFileWarning)  # a sound that is cut off
            explanation = load_explanation(folder)
        one = Candidate(folder, explanation.parts.energy, explanation.evidence_mask, explanation.groups)
        return one, one.fault
    except OtoscopeError as error:
        return None, str(error).removeprefix(str(folder)).lstrip("/: ")
    except (*DAMAGE, WavFileWarning) as error:
        return None, f"this explanation is damaged ({type(error).__name__}: {error}); make it again"


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


@dataclass(frozen=True, eq=False)
class Sounds:
    """Two sounds to compare and the recording, each as data, with the gains that brought them to one level."""

    evidence: str
    other: str
    recording: str | None
    gains: dict[str, float]
    level: float  # root mean square, of full scale


def sounds_of(pair: Pair, explanation: Explanation, *, reference: bool, rng: Rng) -> Sounds:
    """Compose, level and encode the sounds of a pair."""
    parts, rate = explanation.parts, explanation.parts.audio.rate
    played = parts.compose(np.stack([pair.candidate.evidence, pair.other.parts]))
    audios = {"evidence": Audio(played[0], rate), "random": Audio(played[1], rate)}
    if reference:
        audios["recording"] = parts.audio
    if rate not in MP3_RATES:  # before levelling, as resampling moves the peaks
        audios = {name: audio.at(44100) for name, audio in audios.items()}
    gains, level = equal_loudness({name: audio.samples.astype(np.float64) for name, audio in audios.items()})
    encoded: dict[str, bytes] = {}
    for name, audio in audios.items():
        lost = level / _level(_encode(audio, gains[name], rng), len(audio.samples))
        gains[name] *= min(lost, MOST_MADE_UP)  # MP3 takes away what is very high
        encoded[name] = _encode(audio, gains[name], rng)
    size = max(len(encoded["evidence"]), len(encoded["random"]))
    data = {name: as_data("audio/mpeg", padded(content, size)) for name, content in encoded.items()}
    return Sounds(data["evidence"], data["random"], data.get("recording"), gains, level)


def equal_loudness(sounds: Mapping[str, Floats]) -> tuple[dict[str, float], float]:
    """Gains that bring sounds, each (n_samples,), to one root-mean-square level at which none clips, and that level."""
    rms = {name: float(np.sqrt(np.mean(samples**2))) for name, samples in sounds.items()}
    level = min(LEVEL, *(PEAK * rms[name] / float(np.abs(samples).max()) for name, samples in sounds.items()))
    return {name: level / own for name, own in rms.items()}, level


def _encode(audio: Audio, gain: float, rng: Rng) -> bytes:
    samples = audio.samples * gain + STEP * rng.standard_normal(len(audio.samples))
    return base64.b64decode(mp3(Audio(samples.astype(np.float32), audio.rate)).partition(",")[2])


def _level(content: bytes, n_samples: int) -> float:
    """Measure the root mean square of an MP3 of so many samples, of full scale."""
    import soundfile

    samples, _ = soundfile.read(io.BytesIO(content))
    return math.sqrt(float(np.sum(samples**2)) / n_samples)


def padded(content: bytes, size: int) -> bytes:
    """Put an ID3v2.4 tag with a text of blanks before an MP3, so that every one of up to `size` bytes gets one length.

    >>> len(padded(bytes(100), 120)), len(padded(bytes(120), 120))
    (152, 152)
    """
    text = b"\3\0" + b" " * (size - len(content) + 10)  # UTF-8, no description, the text
    frame = b"TXXX" + _syncsafe(len(text)) + b"\0\0" + text
    return b"ID3\4\0\0" + _syncsafe(len(frame)) + frame + content


def _syncsafe(number: int) -> bytes:
    """Write a number in four bytes of seven bits, as ID3 does."""
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


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
    script = Path(__file__).with_name("listen.js").read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = template("listen.html").render(
        script=script,
        allowed=f"sha256-{allowed}",
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


@dataclass(frozen=True)
class Answer:
    """What a listener said to a question.

    Attributes
    ----------
    listener : str
    pair : str
        Id of the question in page and key.
    answer : {"A", "B", "cannot tell"}
    heard : bool
        Whether both sounds were played.
    """

    listener: str
    pair: str
    answer: str
    heard: bool = True


def score(answers: Iterable[Answer], key: Document, *, seed: int = 0) -> Document:
    """Score the answers to a test.

    Parameters
    ----------
    answers : iterable of Answer
        Of one listener to one question the last counts.
    key : dict
        As written beside the page: ``pairs`` by id, each with ``evidence``, ``repeats``, ``target``, ``method``,
        ``model``, ``scale``, ``folder`` and ``model_difference``.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``overall``, and ``by_class``, ``by_method``, ``by_listener``: as `preference` gives them; ``alpha`` (None with
        one listener, or where all answers are alike), ``consistency``, ``with_model``, ``notes``.

    Raises
    ------
    OtoscopeError
        If nothing that counts was answered.
    """
    given = list(answers)
    last = {(one.listener, one.pair): one for one in given}
    listeners = sorted({one.listener for one in given})
    asked: Document = key["pairs"]
    counted = [name for name, facts in asked.items() if facts["repeats"] is None]
    table = np.array([[_value(last.get((who, name)), asked) for name in counted] for who in listeners])
    if not np.isfinite(table).any():
        raise OtoscopeError("nobody answered a pair that was asked for the first time; answer more pairs")

    def by(what: str) -> Document:
        kinds = [asked[name][what] for name in counted]
        split = {kind: table[:, [one == kind for one in kinds]] for kind in dict.fromkeys(kinds)}
        return {kind: preference(part, seed=seed) for kind, part in split.items() if np.isfinite(part).any()}

    return {
        "schema": SCHEMA,
        "test": key["test"],
        "seed": seed,
        "overall": preference(table, seed=seed),
        "by_class": by("target"),
        "by_method": by("method"),
        "by_listener": {
            who: {**preference(row[None], seed=seed), "consistency": consistency([who], last, asked)}
            for who, row in zip(listeners, table, strict=True)
            if np.isfinite(row).any()
        },
        "alpha": alpha(table),
        "consistency": consistency(listeners, last, asked),
        "with_model": with_model(table, [asked[name] for name in counted]),
        "notes": _notes(given, last, listeners, table, [asked[name] for name in counted]),
    }


def _value(answer: Answer | None, asked: Document) -> float:
    """Count an answer: 1 for the evidence, 0 for the random set, 1/2 for "cannot tell", NaN where there is none."""
    if answer is None:
        return math.nan
    if answer.answer == "cannot tell":
        return 0.5
    return float(answer.answer == asked[answer.pair]["evidence"])


def preference(table: Floats, *, seed: int = 0) -> Document:
    """Share of the answers that prefer the evidence, its interval of 95 %, and a sign test against 1/2.

    Parameters
    ----------
    table : ndarray, shape (n_listeners, n_pairs)
        1, 0, 1/2, or NaN where there is no answer; at least one answer.
    seed : int

    Examples
    --------
    >>> found = preference(np.array([[1.0, 1.0, 0.5, 0.0]]))
    >>> found["preference"], found["evidence"], found["random"], found["cannot_tell"]
    (0.625, 2, 1, 1)
    """
    from scipy.stats import binomtest

    there = np.isfinite(table)
    table = table[there.any(axis=1)][:, there.any(axis=0)]
    values = table[np.isfinite(table)]
    n_listeners, n_pairs = table.shape
    mean = float(values.mean())
    wilsons = n_listeners == 1 or values.min() == values.max()
    low, high = wilson(mean * n_pairs, n_pairs) if wilsons else crossed_bootstrap(table, seed=seed)
    of_pairs = np.nanmean(table, axis=0)
    wins, losses = int(np.sum(of_pairs > 0.5)), int(np.sum(of_pairs < 0.5))
    return {
        "preference": mean,
        "low": low,
        "high": high,
        "interval": "Wilson" if wilsons else "bootstrap",
        "p": float(binomtest(wins, wins + losses).pvalue) if wins + losses else None,
        "pairs_for": wins,
        "pairs_against": losses,
        "evidence": int(np.sum(values == 1)),
        "random": int(np.sum(values == 0)),
        "cannot_tell": int(np.sum(values == 0.5)),
        "n_listeners": n_listeners,
        "n_pairs": n_pairs,
    }


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Interval of 95 % of a share (Wilson, 1927).

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    z = 1.959963984540054
    centre = (successes + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(successes * (n - successes) / n + z**2 / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def crossed_bootstrap(table: Floats, *, seed: int = 0) -> tuple[float, float]:
    """Interval of 95 % of the mean of a table (n_listeners, n_pairs), rows and columns both drawn anew.

    A cell counts as often as its row was drawn, times as often as its column was; NaN counts nothing.
    """
    rng = np.random.default_rng(seed)
    n_rows, n_columns = table.shape
    rows = rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=N_BOOTSTRAP)
    columns = rng.multinomial(n_columns, np.full(n_columns, 1 / n_columns), size=N_BOOTSTRAP)
    there = np.isfinite(table)
    sums = np.einsum("br,rc,bc->b", rows, np.where(there, table, 0), columns, optimize=True)
    counts = np.einsum("br,rc,bc->b", rows, there.astype(np.float64), columns, optimize=True)
    low, high = np.quantile(sums[counts > 0] / counts[counts > 0], [0.025, 0.975])
    return float(low), float(high)


def alpha(table: Floats) -> float | None:
    """Krippendorff's nominal alpha among listeners.

    Parameters
    ----------
    table : ndarray, shape (n_listeners, n_pairs)
        NaN where there is no answer.

    Returns
    -------
    float or None
        None where no pair has two answers, or all answers are alike, which leaves nothing to agree about.
    """
    import krippendorff

    counts = np.stack([np.sum(table == value, axis=0) for value in (0.0, 0.5, 1.0)], axis=1)  # (n_pairs, 3)
    counts = counts[counts.sum(axis=1) > 1]
    if np.count_nonzero(counts.any(axis=0)) < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def consistency(listeners: Iterable[str], last: Mapping[tuple[str, str], Answer], asked: Document) -> Document | None:
    """How often a pair asked again, the sides swapped, got the same answer; None where none was answered twice."""
    repeated = [(name, facts["repeats"]) for name, facts in asked.items() if facts["repeats"] is not None]
    twice = [
        _value(last[who, again], asked) == _value(last[who, first], asked)
        for who in listeners
        for again, first in repeated
        if (who, again) in last and (who, first) in last
    ]
    return {"same": sum(twice), "n": len(twice), "share": sum(twice) / len(twice)} if twice else None


def with_model(table: Floats, facts: Sequence[Document]) -> Document | None:
    """Spearman across pairs of preference and the model's own score of the evidence less that of all parts off.

    None where fewer than three pairs were answered, several models or scales are mixed, or one side does not vary.
    """
    from scipy.stats import spearmanr

    answered = np.asarray(np.isfinite(table).any(axis=0))
    told = [one for one, there in zip(facts, answered, strict=True) if there]
    preferred = np.nanmean(table[:, answered], axis=0)
    differences = np.array([one["model_difference"] for one in told])
    if len({(one["model"], one["scale"]) for one in told}) > 1 or len(told) < FEW:
        return None
    if np.ptp(preferred) == 0 or np.ptp(differences) == 0:
        return None
    return {"spearman": float(spearmanr(preferred, differences).statistic), "n_pairs": len(told)}


def _notes(
    given: Sequence[Answer],
    last: Mapping[tuple[str, str], Answer],
    listeners: Sequence[str],
    table: Floats,
    facts: Sequence[Document],
) -> list[str]:
    """Say what the reader must know."""
    notes = []
    if doubled := len(given) - len(last):
        times = Counter((one.listener, one.pair) for one in given)
        names = ", ".join(sorted({who for (who, _), n in times.items() if n > 1}))
        notes.append(f"{doubled} answers were given again by the same listener ({names}); the last ones count")
    if unheard := sum(not one.heard for one in last.values()):
        notes.append(f"{unheard} answers were given without playing both sounds")
    for who, row in zip(listeners, table, strict=True):
        if missing := int(np.sum(~np.isfinite(row))):
            notes.append(f"{who} left {missing} of {len(row)} pairs unanswered")
    n_explanations = len({one["folder"] for one in facts})
    if n_explanations < len(facts):
        notes.append(
            f"{len(facts)} pairs come from {n_explanations} explanations, so they are not independent and the "
            "intervals are too narrow"
        )
    return notes
