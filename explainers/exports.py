"""Explanations for other tools: tables, labels for sound editors, figures for a paper.

=============  =========================================================================================================
``csv``        a row for each part: weight, error, energy, where it lies; opens in any spreadsheet
``json``       everything but arrays, by the schema in ``docs/explanation.schema.json``
``audacity``   the evidence as labels with frequencies (Audacity: File, Import, Labels)
``raven``      the same as a Raven selection table
``png``        the picture; ``svg`` and ``pdf`` as vectors
=============  =========================================================================================================

Audacity's and Raven's times count from the start of the recording, as all times of otoscope do; with `span` they count
from the start of the span, as ``original.wav`` beside the explanation does.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.errors import OtoscopeError, one_line, unknown
from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.document import to_document
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.figure import Width, draw
from otoscope.explainers.store import slug
from otoscope.explainers.targets import Floats

RISKY = tuple("=+-@\t\r\n＝＋－＠")  # what a spreadsheet would take for a formula
RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
INTERVAL = ("interval_low", "interval_high")
PARTS = ("name", "weight", "se", *INTERVAL, "energy", "evidence", "start", "end", "low", "high")


def extents(explanation: Explanation) -> Floats:
    """Box of each weight: start, end in seconds of the recording, low, high in hertz; of a group, around its parts.

    Returns
    -------
    ndarray, shape (n_weights, 4)
    """
    boxes = explanation.parts.extents
    if explanation.groups is None:
        return boxes
    found = np.zeros((len(explanation.groups), 4))
    for row, members in zip(found, explanation.groups, strict=True):
        own = boxes[members & (boxes[:, 1] > boxes[:, 0])]
        if len(own):
            row[:] = [own[:, 0].min(), own[:, 1].max(), own[:, 2].min(), own[:, 3].max()]
    return found


def as_csv(explanation: Explanation) -> str:
    """Write a row for each part, the strongest first, in the dialect of RFC 4180.

    `start` and `end` in seconds of the recording, `low` and `high` in hertz, `energy` as a share of the span's,
    `evidence` 1 or 0; weight, error and bootstrap interval (95 %) in the explanation's units, empty where none is.
    """
    e, boxes = explanation, extents(explanation)
    rows = []
    for i in e.strongest(len(e.weights)):
        low, high = ("", "") if e.interval is None else (f"{value:.6g}" for value in e.interval[i])
        se = "" if e.se is None else f"{e.se[i]:.6g}"
        place = [f"{value:.3f}" for value in boxes[i]]
        weight = f"{e.weights[i]:.6g}"
        rows.append([_safe(e.names[i]), weight, se, low, high, f"{e.energy[i]:.6g}", int(e.chosen[i]), *place])
    buffer = io.StringIO()
    csv.writer(buffer).writerows([PARTS, *rows])
    return buffer.getvalue()


def as_json(explanation: Explanation) -> str:
    """Write everything but arrays."""
    return json.dumps(to_document(explanation), indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"


def as_audacity(explanation: Explanation, *, span: bool = False) -> str:
    """Write the evidence as an Audacity label file: seconds, then hertz in a line of their own."""
    lines = []
    for i, (start, end, low, high) in _evidence(explanation, span):
        lines.append(f"{start:.6f}\t{end:.6f}\t{one_line(explanation.names[i])} {explanation.weights[i]:+.3g}")
        lines.append(f"\\\t{low:.6f}\t{high:.6f}")
    return "".join(f"{line}\n" for line in lines)


def as_raven(explanation: Explanation, *, span: bool = False) -> str:
    """Write the evidence as a Raven selection table."""
    lines = ["\t".join([*RAVEN, "Part", "Weight", "Target"])]
    for number, (i, (start, end, low, high)) in enumerate(_evidence(explanation, span), start=1):
        place = [f"{start:.6f}", f"{end:.6f}", f"{low:.3f}", f"{high:.3f}"]
        told = [one_line(explanation.names[i]), f"{explanation.weights[i]:.6g}", one_line(explanation.target.name)]
        lines.append("\t".join([str(number), "Spectrogram 1", "1", *place, *told]))
    return "".join(f"{line}\n" for line in lines)


def _evidence(explanation: Explanation, span: bool) -> list[tuple[int, Floats]]:
    """List the weights that are evidence, the strongest first, each with its box."""
    boxes = extents(explanation)
    if span:
        boxes = np.maximum(boxes - np.array([explanation.span.start] * 2 + [0, 0]), 0)  # no −0.000000
    return [(i, boxes[i]) for i in explanation.strongest(len(explanation.weights)) if explanation.chosen[i]]


def _safe(text: str) -> str:
    """Keep a spreadsheet from reading a name as a formula."""
    return f"'{text}" if text.startswith(RISKY) else text


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes
    ----------
    suffix : str
    text : callable or None
        Writes the explanation as text; None for pictures.
    timed : bool
        Whether its times can count from the start of the span.
    """

    suffix: str
    text: Callable[..., str] | None = None
    timed: bool = False


FORMATS = {
    "csv": Format(".csv", as_csv),
    "json": Format(".json", as_json),
    "audacity": Format(".labels.txt", as_audacity, timed=True),
    "raven": Format(".selections.txt", as_raven, timed=True),
    "png": Format(".png"),
    "svg": Format(".svg"),
    "pdf": Format(".pdf"),
}


def export(
    explanation: Explanation, folder: str | Path, kind: str, *, width: Width = "screen", span: bool = False
) -> Path:
    """Write an explanation in another format.

    Parameters
    ----------
    explanation : Explanation
    folder : str or Path
        Where to write; made if missing. The file is called by recording, model, method and target.
    kind : str
        One of `FORMATS`.
    width : {"screen", "double", "single"}
        Of pictures; see `otoscope.explainers.figure.draw`.
    span : bool
        Whether times of labels count from the start of the span, and not of the recording.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OtoscopeError
        If there is no such format, or the file cannot be written.
    """
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS)
    own = FORMATS[kind]
    path = Path(folder) / f"{file_stem(explanation)}{own.suffix}"
    more: dict[str, Any] = {"span": span} if own.timed else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            if own.text is None:
                draw(explanation, partial, width=width)
            else:
                partial.write_text(own.text(explanation, **more), encoding="utf-8", newline="")
    except OSError as error:
        raise OtoscopeError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from None
    return path


def file_stem(explanation: Explanation) -> str:
    """Name the files of an explanation."""
    e = explanation
    return "-".join(slug(name) for name in (Path(e.audio.name).stem, e.model, e.method, e.target.name))
