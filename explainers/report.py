"""The report: one self-contained page over all explanations below a folder, and an index for programs.

``report.html`` holds pictures and sounds as data, runs no script and fetches nothing (its content-security policy
forbids both); labels and file names are escaped. Sounds are MP3, which every browser plays.
``index.json`` lists the results.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.methods import HOMES
from otoscope.explainers.store import read_document
from otoscope.explainers.verdict import statements

if TYPE_CHECKING:
    from jinja2 import Template

N_WEIGHTS = 12
N_CLASSES = 5
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

Document = dict[str, Any]


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


def write_report(directory: str | Path) -> Path:
    """Write ``report.html`` and ``index.json`` over all explanations below a folder.

    Parameters
    ----------
    directory : str or Path
        The output folder of ``otoscope explain``.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    OtoscopeError
        If there are no explanations below the folder.
    """
    directory = Path(directory)
    results = sorted(((folder, read_document(folder)) for folder in find_results(directory)), key=_order)
    if not results:
        raise OtoscopeError(f"{directory}: holds no explanations; name the folder they were saved in")
    index = {"schema": "otoscope/index/1", "results": [_entry(directory, *result) for result in results]}
    text = json.dumps(index, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    with whole_file(directory / "index.json") as partial:
        partial.write_text(text, encoding="utf-8")
    text = template("report.html").render(recordings=_recordings(results))
    with whole_file(directory / "report.html") as partial:
        partial.write_text(text, encoding="utf-8")
    return directory / "report.html"


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


def template(name: str) -> Template:
    """Open the template of a page, which escapes what it is given and refuses what it does not know."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("otoscope.explainers", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(name)


def _recordings(results: Iterable[tuple[Path, Document]]) -> list[Document]:
    """Group results by recording, then by model and span, so that each original is held once."""
    recordings = []
    for _, same in groupby(results, key=lambda result: _heard(result[1])):
        group = list(same)
        spans = [_span(list(span)) for _, span in groupby(group, key=lambda result: _asked(result[1]))]
        recordings.append({"name": group[0][1]["audio"]["name"], "spans": spans})
    return recordings


def _span(results: list[tuple[Path, Document]]) -> Document:
    folder, first = results[0]
    labels, original = first["model"]["labels"], first["round_trip"]["original"]
    classes = sorted(zip(labels, original["all"], strict=True), key=lambda pair: -pair[1])[:N_CLASSES]
    start, duration = first["span"]["start"], first["span"]["duration"]
    said = ", ".join(f"{label} = {value:.2f}" for label, value in classes)
    if first["model"]["output"] != "regression":
        said = f"heard {classes[0][0]} ({classes[0][1]:.0%})"
    return {
        "model": first["model"]["name"],
        "said": said,
        "classes": classes,
        "start": start,
        "end": start + duration,
        "sound": _sound(folder / "original.wav"),
        "explanations": [_explanation(*result) for result in results],
    }


def _explanation(folder: Path, document: Document) -> Document:
    weights = sorted(document["weights"], key=lambda weight: -abs(weight["weight"]))
    trip = document["round_trip"]
    target = document["target"]["name"]
    return {
        "method": document["method"],
        "target": target,
        "sentence": sentence(document),
        "verdict": document.get("verdict"),
        "gates": statements({**document["fidelity"], **document.get("gates", {})}) if document.get("gates") else [],
        "notes": document["notes"],
        "evidence": _sound(folder / "evidence.wav"),
        "complement": _sound(folder / "complement.wav"),
        "evidence_says": _says(target, trip["evidence"], document),
        "complement_says": _says(target, trip["complement"], document),
        "level_one": _level_one(folder, document),
        "picture": as_data("image/png", (folder / "map.png").read_bytes()),
        "alt": f"Spectrogram of {document['audio']['name']} with what speaks for and against {target}; "
        f"strongest: {weights[0]['name']}",
        "units": document["units"],
        "has_se": weights[0]["se"] is not None,
        "weights": weights[:N_WEIGHTS],
        "facts": _facts(document),
    }


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


def _says(target: str, answer: Document, document: Document) -> str:
    told = f"{target} {answer['score']:.3f}"
    return told if document["model"]["output"] == "regression" else f"{told}, top {answer['top']}"


def sentence(document: Document) -> str:
    """Tell an explanation in words, from its numbers."""
    trip, target = document["round_trip"], document["target"]["name"]
    weights = sorted(document["weights"], key=lambda weight: -weight["weight"])
    chosen = [weight for weight in weights if weight["evidence"]]
    scores = {name: f"{answer['score']:.3f}" for name, answer in trip.items()}
    by_way = f" by way of {document['level_one']['feature'].replace('_', ' ')}" if "level_one" in document else ""
    if not chosen:
        return f"The score of {target} is {scores['original']}; no part clearly speaks for it{by_way}."
    energy = document["evidence_energy"]
    parts = "1 part" if len(chosen) == 1 else f"{len(chosen)} parts"
    return (
        f"The score of {target} is {scores['original']}. {parts} of {len(weights)}, with {energy:.0%} of the energy, "
        f"are the evidence{by_way}: alone they score {scores['evidence']}, everything else {scores['complement']}, "
        f"all parts off {scores['off']}. The strongest is {weights[0]['name']}."
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


def _sound(path: Path) -> str:
    """Encode a WAV as MP3 data."""
    from otoscope.adapters.audio import load_audio

    return mp3(load_audio(path))


def mp3(audio: Audio) -> str:
    """Encode a sound as MP3 data; a rate that MP3 lacks is resampled, a level beyond full scale is lowered."""
    import soundfile

    if audio.rate not in MP3_RATES:
        audio = audio.at(44100)
    peak = float(abs(audio.samples).max())
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.samples / max(1.0, peak), audio.rate, format="MP3", subtype="MPEG_LAYER_III")
    return as_data("audio/mpeg", buffer.getvalue())


def as_data(kind: str, content: bytes) -> str:
    """Put a picture or a sound into an address, so that a page holds it itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
