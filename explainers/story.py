"""The story of an explanation in three sentences, and the command that makes it again; all from its numbers.

What did the model say; what in the sound carried it, and does that alone still say so; how far is this to be trusted.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from otoscope.adapters.pitch import C0, note_name
from otoscope.explainers.methods import Settings
from otoscope.explainers.remedies import find_uses

Document = dict[str, Any]

MOST_PRAISE = 3  # what speaks for an explanation, as far as the story tells it
OPTIONS = ("allow_network", "batch_size", "corpus", "device", "midlevel", "trust")
MEANS = {
    "trust": "These checks were passed, so it can be trusted as far as they reach",
    "caution": "Take it with caution",
    "do not use": "Do not use it",
}


def story(document: Document) -> tuple[str, str, str]:
    """Tell an explanation in three sentences: what was said, what carried it, how far to trust that."""
    return said(document), sentence(document), trusted(document)


def said(document: Document) -> str:
    """Tell what the model said to the span, and what it was asked about."""
    model, target, span = document["model"], document["target"], document["span"]
    original = document["round_trip"]["original"]
    start, end = span["start"], span["start"] + span["duration"]
    place = f"seconds {start:.2f} to {end:.2f} of {document['audio']['name']}"
    score = f"{original['score']:.3f}"
    if target["against"] is not None:
        return f"{model['name']} was asked what sets {target['name']} apart in {place}; the difference is {score}."
    if model["output"] == "regression":
        return f"{model['name']} gives {target['name']} the value {score} in {place}."
    if original["top"] == target["name"]:
        return f"{model['name']} hears {target['name']} first of all in {place}, with a score of {score}."
    best = max(original["all"])
    return (
        f"{model['name']} was asked about {target['name']} in {place} and gives it a score of {score}; "
        f"it hears {original['top']} most ({best:.3f})."
    )


def sentence(document: Document) -> str:
    """Tell which parts carried the answer, and what the model said to them alone and to everything else."""
    trip, target = document["round_trip"], document["target"]["name"]
    weights = sorted(document["weights"], key=lambda weight: -weight["weight"])
    chosen = [weight for weight in weights if weight["evidence"]]
    scores = {name: f"{answer['score']:.3f}" for name, answer in trip.items()}
    by_way = f" by way of {document['level_one']['feature'].replace('_', ' ')}" if "level_one" in document else ""
    if not chosen:
        return f"The score of {target} is {scores['original']}; no part clearly speaks for it{by_way}."
    energy, last = document["evidence_energy"], ""
    if trip["evidence"]["scaled"] < trip["off"]["scaled"] < trip["original"]["scaled"]:
        last = " Alone they score less than with all parts off, so by themselves they do not carry it."
    elif document["model"]["output"] != "regression" and trip["evidence"]["top"] != trip["original"]["top"]:
        last = f" In the evidence alone the model hears {trip['evidence']['top']} most."
    parts = "1 part" if len(chosen) == 1 else f"{len(chosen)} parts"
    return (
        f"The score of {target} is {scores['original']}. {parts} of {len(weights)}, with {energy:.0%} of the energy, "
        f"are the evidence{by_way}: alone they score {scores['evidence']}, everything else {scores['complement']}, "
        f"all parts off {scores['off']}. The strongest is {with_notes(weights[0]['name'])}.{last}"
    )


def with_notes(name: str) -> str:
    """Add note names to the hertz in the name of a part; a name without a range of them stays as it is.

    >>> with_notes("part 12: 1.2-1.6 s, 400-800 Hz")
    'part 12: 1.2-1.6 s, 400-800 Hz (G4 to G5)'
    """
    found = re.search(r"([\d.]+)-([\d.]+) (k?)Hz$", name)
    if found is None:
        return name
    low, high = (float(edge) * (1000 if found[3] else 1) for edge in found.groups()[:2])
    if high < C0:
        return name
    return f"{name} ({note_name(low)} to {note_name(high)})" if low >= C0 else f"{name} (up to {note_name(high)})"


def trusted(document: Document) -> str:
    """Tell the verdict, its reasons, and what can be done where it is not *trust*."""
    verdict = document.get("verdict")
    if verdict is None:
        return "Nobody checked how far this is to be trusted; make it again with --gates quick."
    reasons = verdict["reasons"]
    if verdict["word"] == "trust" and len(reasons) > MOST_PRAISE:
        reasons = [*reasons[:MOST_PRAISE], f"and {len(reasons) - MOST_PRAISE} more"]
    told = f"{MEANS[verdict['word']]}: {'; '.join(reasons)}."
    remedies = verdict.get("remedies")  # not in results of earlier versions
    return f"{told} What may help: {', or '.join(remedies)}." if remedies else told


def command(document: Document) -> str:
    """Give the command line that makes an explanation again, of a recording with that name in the current folder."""
    model, settings, span, default = document["model"], document["settings"], document["span"], Settings()
    name = document["audio"]["name"]
    words = ["otoscope", "explain", f"./{name}" if name.startswith("-") else name]
    words += ["--model", model.get("spec", model["name"])]
    words += ["--method", document["method"], "--target", document["target"]["name"]]
    words += ["--start", repr(span["start"]), "--duration", repr(span["duration"])]
    for name in sorted(find_uses(document["method"])):
        value = settings.get(name)
        if value is None or _same(value, getattr(default, name)):
            continue
        option = f"--{name.replace('_', '-')}"
        if name == "stems":
            words += [word for stem in value for word in (option, str(stem))]
        elif name == "notes":
            words += [option, ",".join(value)]
        elif isinstance(value, list | tuple):
            words += [option, *map(str, value)]
        else:
            words += [option, str(value)]
    words += _options(document)
    return shlex.join([*words, "--seed", str(document["seed"]), "--out", "report"])


def _options(document: Document) -> list[str]:
    """Give what the command line was given besides settings; results of earlier versions do not tell it."""
    words = []
    for name, value in document.get("options", {}).items():
        if name in OPTIONS:
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    equally_loud = any(gain != 1 for gain in document.get("gains", {}).values())
    return [*words, "--equal-loudness"] if equally_loud else words


def _same(value: Any, default: Any) -> bool:
    return bool(value == default or (isinstance(value, list) and tuple(value) == default))
