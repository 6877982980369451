"""Questions to programs and services outside, and their answers: sounds go out as WAV, scores come back as JSON.

`wav_bytes` writes a sound; `ask_all` asks about several at a time, keeps their order and stops all of them when one
fails; `read_json` and `scores_of` read an answer. These are understood, each for one sound::

    {"dog": 0.9, "cat": 0.1}                            scores by label; more labels than the card's are ignored
    [0.9, 0.1]                                          scores in the order of the card's labels
    [{"label": "dog", "score": 0.9}, …]                 a list of labels and scores, in any order
    {"scores": …}, {"predictions": …}                   any of these in a table; [model] answer names another key
    [[0.9, 0.1]]                                        any of these in a list of one

An answer is not believed: every label of the card once, every score a finite number.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats

Subtype = Literal["PCM_16", "FLOAT"]

SPOKEN: dict[Subtype, str] = {"PCM_16": "16-bit WAV", "FLOAT": "32-bit float WAV"}
WRAPPERS = ("scores", "predictions")
MOST_WRAPPERS = 4
MOST_BYTES = 10 * 2**20  # of one answer
SHOWN = 80  # characters of a wrong answer


def wav_bytes(samples: Float32, rate: int, subtype: Subtype) -> bytes:
    """Write a sound (n_samples,) as WAV; the same samples give the same bytes.

    16-bit numbers reach from −1 to 1 − 2^−15; what is louder is clipped.
    """
    from scipy.io import wavfile  # soundfile stamps float files with the time of day

    sound: npt.NDArray[np.float32] | npt.NDArray[np.int16] = np.asarray(samples, dtype=np.float32)
    if subtype == "PCM_16":
        sound = np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16)
    stream = BytesIO()
    wavfile.write(stream, rate, sound)
    return stream.getvalue()


def ask_all(
    ask: Callable[[Float32, threading.Event], Sequence[float]],
    waveforms: Float32,
    *,
    concurrency: int,
    hang_up: Callable[[], None] = lambda: None,
) -> Floats:
    """Ask about each of several sounds, some at a time.

    Parameters
    ----------
    ask : callable
        From a sound (n_samples,) and an event to its scores; returns soon after the event is set.
    waveforms : ndarray, shape (n, n_samples)
    concurrency : int
        Most questions at a time.
    hang_up : callable
        Ends the questions under way, after the event is set.

    Returns
    -------
    ndarray of float64, shape (n, n_classes)
        In the order of the waveforms, whichever was answered first.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            # Within the try: an interrupt while questions are handed out must end those already handed out.
            futures = [pool.submit(ask, waveform, stop) for waveform in waveforms]
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            hang_up()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return np.array([future.result() for future in futures], dtype=np.float64)


def shown(text: str | bytes) -> str:
    """Show the beginning of what came, without characters that a terminal would obey."""
    if isinstance(text, bytes):
        text = text[: 4 * SHOWN].decode("utf-8", errors="replace")
    return repr(text[:SHOWN]) if len(text) <= SHOWN else f"{text[:SHOWN]!r}…"


def read_json(text: bytes) -> Any:
    """Read an answer.

    Raises
    ------
    OtoscopeError
        If it is no JSON, names a key twice, is nested too deep, or holds NaN or Infinity.
    """
    if not text.strip():
        raise OtoscopeError("the answer is empty; write scores as JSON")
    try:
        return json.loads(text, object_pairs_hook=_table, parse_constant=_not_finite)
    except OtoscopeError:
        raise
    except RecursionError:
        raise OtoscopeError("the answer is nested too deep; write scores by label") from None
    except ValueError:  # no JSON, no text, a number of thousands of digits
        raise OtoscopeError(f"the answer is no JSON: {shown(text)}") from None


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise OtoscopeError(f"the answer names {_twice([key for key, _ in pairs])} twice; name each label once")
    return table


def _not_finite(word: str) -> float:
    raise OtoscopeError(f"the answer holds {word}; scores must be finite")


def _twice(names: list[str]) -> str:
    return shown(next(name for name in names if names.count(name) > 1))


def scores_of(document: Any, labels: Sequence[str], *, answer: str | None = None) -> list[float]:
    """Find the scores of one sound in an answer, in the order of the labels.

    Parameters
    ----------
    document : object
        As `read_json` gives it.
    labels : sequence of str
    answer : str, optional
        Key that holds the scores; ``scores`` or ``predictions`` where None.

    Raises
    ------
    OtoscopeError
        If a label is missing or named twice, the length differs, or a score is no finite number.
    """
    found = _unwrapped(document, labels, answer)
    if isinstance(found, list) and found and all(isinstance(item, Mapping) for item in found):
        found = _listed(found)
    if isinstance(found, Mapping):
        missing = [label for label in labels if label not in found]
        if missing:
            given = ", ".join(map(str, found))
            raise OtoscopeError(f"the answer lacks label {missing[0]!r}; it has {shown(given)}")
        found = [found[label] for label in labels]
    if not isinstance(found, list):
        raise OtoscopeError(f"the answer holds no scores: {shown(str(found))}; write them by label or as a list")
    if len(found) != len(labels):
        raise OtoscopeError(
            f"the answer holds {len(found)} scores for {len(labels)} labels; name one label for each score in [model], "
            "or answer with {label: score}"
        )
    return [_number(value, label) for value, label in zip(found, labels, strict=True)]


def rows_of(document: Any, n: int, labels: Sequence[str], *, answer: str | None = None) -> list[list[float]]:
    """Find the scores of `n` sounds in an answer that is a list with one answer for each; see `scores_of`."""
    keys = WRAPPERS if answer is None else (answer,)
    if isinstance(document, Mapping):
        document = next((document[key] for key in keys if key in document), document)
    if not isinstance(document, list) or len(document) != n:
        came = f"{len(document)} answers" if isinstance(document, list) else f"no list ({shown(str(document))})"
        raise OtoscopeError(f"the answer holds {came} for {n} sounds; write a list with one answer for each file")
    return [scores_of(item, labels, answer=answer) for item in document]


def _unwrapped(document: Any, labels: Sequence[str], answer: str | None) -> Any:
    """Take off the tables and lists of one around the scores."""
    keys = WRAPPERS if answer is None else (answer,)
    for _ in range(MOST_WRAPPERS):
        if isinstance(document, Mapping) and not set(labels) <= set(document):
            key = next((key for key in keys if key in document), None)
            if key is None:
                break
            document = document[key]
        elif isinstance(document, list) and len(document) == 1 and isinstance(document[0], list | Mapping):
            if isinstance(document[0], Mapping) and "label" in document[0]:
                break
            document = document[0]
        else:
            break
    return document


def _listed(items: list[Any]) -> dict[str, Any]:
    """Read ``[{"label": …, "score": …}, …]`` as scores by label."""
    for item in items:
        if not isinstance(item.get("label"), str) or "score" not in item:
            raise OtoscopeError(f'the answer lists {shown(str(item))}; each item needs "label" and "score"')
    names = [item["label"] for item in items]
    if len(set(names)) < len(names):
        raise OtoscopeError(f"the answer names {_twice(names)} twice; name each label once")
    return {item["label"]: item["score"] for item in items}


def _number(value: Any, label: str) -> float:
    """Check one score."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OtoscopeError(f"the score of {label!r} is {shown(str(value))}, no number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not np.isfinite(number):
        raise OtoscopeError(f"the score of {label!r} is not finite")
    return number
