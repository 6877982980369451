"""The story of an explanation in three sentences, and the command that makes it again; all from its numbers.

What did the model say; what in the sound carried it, and does that alone still say so; how far is this to be trusted.
"""

from __future__ import annotations

import shlex
from typing import Any

from otoscope.explainers.methods import Settings, find_method

Document = dict[str, Any]

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
        f"all parts off {scores['off']}. The strongest is {weights[0]['name']}.{last}"
    )


def trusted(document: Document) -> str:
    """Tell the verdict and its reasons."""
    verdict = document.get("verdict")
    if verdict is None:
        return "Nobody checked how far this is to be trusted; make it again with --gates quick."
    return f"{MEANS[verdict['word']]}: {'; '.join(verdict['reasons'])}."


def command(document: Document) -> str:
    """Give the command line that makes an explanation again, of a recording with that name in the current folder."""
    model, settings, span, default = document["model"], document["settings"], document["span"], Settings()
    words = ["otoscope", "explain", document["audio"]["name"], "--model", model.get("spec", model["name"])]
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
    return shlex.join([*words, "--seed", str(document["seed"]), "--out", "report"])


def find_uses(method: str) -> frozenset[str]:
    """Name the settings that mean something to a method; none where this installation does not have it."""
    from otoscope.adapters.errors import OtoscopeError

    try:
        return frozenset(find_method(method).uses)
    except OtoscopeError:
        return frozenset()


def _same(value: Any, default: Any) -> bool:
    return bool(value == default or (isinstance(value, list) and tuple(value) == default))
