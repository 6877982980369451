"""The report: a page to look at, listen to and take apart for each recording, an index over several, one for programs.

The page of a recording (``report.html``, ``stage.js``, ``sound.js``) is one file that needs nothing else: its
content-security policy lets it run the one script it holds, known by its hash, and fetch nothing; labels and file names
are escaped. With one recording below a folder its page is ``report.html``; with several that is an index of them
(`otoscope.explainers.index`), and the pages lie in the recordings' own folders. ``index.json`` lists the results.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.embedding import as_data, safe_json, script_hash, source, template
from otoscope.explainers.methods import HOMES
from otoscope.explainers.remedies import in_use
from otoscope.explainers.store import load_explanation, read_document
from otoscope.explainers.story import command, story
from otoscope.explainers.verdict import Statement, statements

if TYPE_CHECKING:
    from otoscope.explainers.explanation import Explanation

N_WEIGHTS = 12
N_CLASSES = 5

ANSWERS = {
    "original": "the recording",
    "evidence": "the evidence alone",
    "complement": "everything else",
    "off": "all parts off",
}

Document = dict[str, Any]
Result = tuple[Path, Document]


def find_results(directory: str | Path) -> list[Path]:
    """List the folders of all explanations below an output folder, in order of name."""
    found = [path.parent for path in Path(directory).glob("**/explanation.json")]
    return sorted(folder for folder in found if not folder.name.startswith(".partial-"))


def _heard(document: Document) -> tuple[str, str]:
    """Which recording a result is about."""
    return document["audio"]["name"], document["audio"]["sha256"]


def _asked(document: Document) -> tuple[str, str, float, float]:
    """Which model was asked about which span."""
    model, span = document["model"], document["span"]
    return model["name"], model["fingerprint"], span["start"], span["duration"]


def _order(result: tuple[Path, Document]) -> tuple[Any, ...]:
    """Order by recording, model and span, then as the methods are listed everywhere."""
    folder, document = result
    method = document["method"]
    rank = HOMES.index(method) if method in HOMES else len(HOMES)
    return (*_heard(document), *_asked(document), rank, folder.name)


class Written(NamedTuple):
    """The report, and the folders that had to be left out, each with the reason."""

    path: Path
    left_out: list[tuple[str, str]]


def write_report(directory: str | Path) -> Path:
    """Write ``report.html`` and ``index.json`` over all explanations below a folder.

    Parameters
    ----------
    directory : str or Path
        The output folder of ``otoscope explain``.

    Returns
    -------
    Path
        The report: the page of the one recording, or the index of several.

    Raises
    ------
    OtoscopeError
        If there are no explanations below the folder that can be read.
    """
    return write_pages(directory).path


def write_pages(directory: str | Path) -> Written:
    """Write the report, as `write_report`, and tell which results are damaged and therefore not in it."""
    directory = Path(directory)
    results, left_out = _readable(directory)
    if not results:
        why = f"; {left_out[0][1]}" if left_out else "; name the folder they were saved in"
        raise OtoscopeError(f"{directory}: holds no explanations{' that can be read' if left_out else ''}{why}")
    recordings = [list(same) for _, same in groupby(results, key=lambda result: _heard(result[1]))]
    report = directory / "report.html"
    if len(recordings) == 1:
        kept, explanations, lost = _load(directory, recordings[0])
        left_out += lost
        if kept:
            _write_page(report, kept, explanations, left_out)
    else:
        kept = _write_many(directory, recordings, left_out)
    if not kept:
        raise OtoscopeError(f"{directory}: holds no explanations that can be read; {left_out[0][1]}")
    index = {"schema": "otoscope/index/1", "results": [_entry(directory, *result) for result in kept]}
    text = json.dumps(index, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    with whole_file(directory / "index.json") as partial:
        partial.write_text(text, encoding="utf-8")
    return Written(report, left_out)


def _readable(directory: Path) -> tuple[list[Result], list[tuple[str, str]]]:
    """Read the documents below a folder in the order of the report; set aside those that cannot be."""
    results, left_out = [], []
    for folder in find_results(directory):
        try:
            results.append((folder, read_document(folder)))
        except OtoscopeError as error:
            left_out.append((_below(directory, folder), str(error).removeprefix(f"{folder}: ")))
    return sorted(results, key=_order), left_out


def _write_many(directory: Path, recordings: list[list[Result]], left_out: list[tuple[str, str]]) -> list[Result]:
    """Write a page for each recording, and the index of them."""
    from otoscope.explainers.index import Listed, write_index

    kept, listed, taken = [], [], set()
    for results in recordings:
        place = directory / (results[0][0].relative_to(directory).parts or ("",))[0]
        page = place / "report.html"
        if page in taken:
            page = place / f"report-{results[0][1]['audio']['sha256'][:8]}.html"
        taken.add(page)
        home = "../report.html" if place != directory else "report.html"
        held, explanations, lost = _load(directory, results)
        left_out += lost
        if not held:
            continue
        _write_page(page, held, explanations, lost, home=home)
        kept += held
        listed.append(
            Listed(results[0][1]["audio"]["name"], quote(page.relative_to(directory).as_posix()), tuple(held))
        )
    if listed:
        write_index(directory, listed, left_out)
    return kept


def _load(directory: Path, results: list[Result]) -> tuple[list[Result], list[Explanation], list[tuple[str, str]]]:
    """Load the results of a recording: those that can be, their explanations, and the others with the reason."""
    kept, explanations, lost = [], [], []
    for folder, document in results:
        try:
            explanations.append(load_explanation(folder))
            kept.append((folder, document))
        except OtoscopeError as error:
            lost.append((_below(directory, folder), str(error).removeprefix(f"{folder}: ")))
    return kept, explanations, lost


def _write_page(
    page: Path,
    results: list[Result],
    explanations: list[Explanation],
    left_out: list[tuple[str, str]],
    *,
    home: str | None = None,
) -> None:
    """Write the page of a recording."""
    from otoscope.explainers.page import page_data

    script = source("sound.js") + source("stage.js").replace('"use strict";\n', "", 1)
    several = len({document["model"]["name"] for _, document in results}) > 1
    text = template("report.html").render(
        recording=results[0][1]["audio"]["name"],
        explanations=[{**_explanation(*result), "model_differs": several} for result in results],
        left_out=left_out,
        home=home,
        data=safe_json(page_data(explanations)),
        script=script,
        script_hash=script_hash(script),
    )
    with whole_file(page) as partial:
        partial.write_text(text, encoding="utf-8")


def _below(directory: Path, folder: Path) -> str:
    return str(folder.relative_to(directory))


def _entry(directory: Path, folder: Path, document: Document) -> Document:
    return {"folder": str(folder.relative_to(directory)), **summary(document)}


def summary(document: Document) -> Document:
    """Boil an explanation down to what a program or a terminal wants to know."""
    trip = document["round_trip"]
    strongest = sorted(document["weights"], key=lambda weight: -abs(weight["weight"]))[:3]
    return {
        "recording": document["audio"]["name"],
        "model": document["model"]["name"],
        "method": document["method"],
        "target": document["target"]["name"],
        "contrast": document["target"]["against"] is not None,
        "span": document["span"],
        "units": document["units"],
        "score": trip["original"]["score"],
        "round_trip": {name: answer["score"] for name, answer in trip.items()},
        "strongest": [{key: weight[key] for key in ("name", "weight", "se")} for weight in strongest],
        "fidelity": document["fidelity"],
        "gates": document.get("gates", {}),
        "verdict": document.get("verdict"),
        "n_calls": document["n_calls"],
        "seconds": document["seconds"],
        "memory": document.get("memory"),
        "notes": document["notes"],
        **({"level_one": document["level_one"]} if "level_one" in document else {}),
    }


def _explanation(folder: Path, document: Document) -> Document:
    weights = sorted(document["weights"], key=lambda weight: -abs(weight["weight"]))
    trip, labels = document["round_trip"], document["model"]["labels"]
    classes = sorted(zip(labels, trip["original"]["all"], strict=True), key=lambda pair: -pair[1])
    return {
        "method": document["method"],
        "model": document["model"]["name"],
        "target": document["target"]["name"],
        "regression": document["model"]["output"] == "regression",
        "story": story(document),
        "verdict": document.get("verdict"),
        "gates": _checks(document),
        "notes": document["notes"],
        "answers": [(ANSWERS[name], trip[name]) for name in ANSWERS],
        "classes": classes[:N_CLASSES],
        "n_classes": len(classes),
        "level_one": _level_one(folder, document),
        "units": document["units"],
        "has_se": weights[0]["se"] is not None,
        "weights": weights[:N_WEIGHTS],
        "command": command(document),
        "facts": _facts(document),
    }


def _checks(document: Document) -> list[Statement]:
    """Tell what was checked; nothing where no gates were asked for."""
    if not document.get("gates"):
        return []
    first = next(iter(document.get("windows", ())), None)
    window = None if first is None else first["end"] - first["start"]
    made = in_use(document["method"], document["settings"], duration=document["span"]["duration"], window=window)
    return statements({**document["fidelity"], **document["gates"]}, made)


def _level_one(folder: Path, document: Document) -> Document | None:
    """Prepare level one of a two-level explanation; None for other methods."""
    level = document.get("level_one")
    if level is None:
        return None
    return {
        **level,
        "sentence": level_sentence(document),
        "picture": as_data("image/png", (folder / "effects.png").read_bytes()),
        "alt": f"Effects of {len(level['features'])} features on {document['target']['name']}: boxes for the corpus, "
        "dots for this recording, the remainder, shares of R² and correlations",
        "rows": sorted(level["features"], key=lambda row: -abs(row["centred_effect"])),
    }


def level_sentence(document: Document) -> str:
    """Tell level one in words, from its numbers."""
    level, units = document["level_one"], document["units"]
    rows = sorted(level["features"], key=lambda row: -abs(row["centred_effect"]))
    told = ", ".join(f"{row['name'].replace('_', ' ')} {row['centred_effect']:+.2f}" for row in rows)
    r2 = "the score does not vary there" if level["r2"] is None else f"held-out R² {level['r2']:.2f}"
    apart = level["score"] - level["mean_score"]
    return (
        f"On the explained scale the score is {level['score']:.2f} ({units}), {apart:+.2f} against the corpus's mean. "
        f"The features' effects against that mean are {told}; the remainder, which no feature explains, is "
        f"{level['remainder']:+.2f} (the linear fit over the corpus: {r2})."
    )


def _facts(document: Document) -> list[tuple[str, str]]:
    figures = {**document["fidelity"], **document.get("gates", {})}
    fidelity = {key: f"{value:.4g}" for key, value in figures.items() if value is not None}
    gap = document["gap"]
    facts = {
        **{key.replace("_", " "): value for key, value in fidelity.items()},
        "gap (score − off − Σ weights)": None if gap is None else f"{gap:+.3f}",
        "calls": f"{document['n_calls']} in {document['seconds']:.1f} s, route {document['route']}",
        "peak memory": None if document.get("memory") is None else f"{document['memory'] / 1e9:.2f} GB",
        "scale": document["scale"],
        "off value": document["parts"]["off"],
        "seed": str(document["seed"]),
        "model fingerprint": document["model"]["fingerprint"],
        "recording sha256": document["audio"]["sha256"],
        "settings": json.dumps(document["settings"], sort_keys=True),
        "versions": ", ".join(f"{name} {version}" for name, version in document["versions"].items()),
    }
    return [(key, value) for key, value in facts.items() if value is not None]
