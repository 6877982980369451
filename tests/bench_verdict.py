"""Is the verdict to be trusted? ``python -m tests.bench_verdict [measure|table|tune]``.

Four hundred planted scenes to choose the gates of `otoscope.explainers.verdict` and their thresholds on, and two
hundred others to check them on. Of each, half are explained as they should be, by LIME on default parts, and half by an
explanation that is broken on purpose, in turn:

wrong target
    the weights of another class, which hears a decoy;
shuffled
    the right weights on the wrong parts;
too few calls
    256 calls of the random plan for 64 parts;
hiding off value
    the scene's time-mean spectrum stands in for what is switched off, which hides a steady cue.

An explanation is right where at least half of the attribution of the cue's sign lies on the cue and the cue is on top
(the largest cell of the map lies on it), broken or not: a shuffled one may be right by luck, and a sound one wrong.
Rows are kept in ``out/verdicts`` (override: ``OTOSCOPE_VERDICTS``), so a killed run goes on. ``tune`` proposes
thresholds from the first four hundred.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation, Outcome
from otoscope.explainers.lime import lime
from otoscope.explainers.localisation import mass_inside, pointing
from otoscope.explainers.methods import METHODS, Method, Request, Settings, find_method
from otoscope.explainers.targets import resolve_target
from otoscope.explainers.verdict import GATES, ORDER, Gate, judge
from tests.builders import Float32, Floats, Function, sigmoid
from tests.planted import energy_in
from tests.scene_sounds import RATE, Where
from tests.scenes import Ear, Kind, Level, Scene, scene

ROWS = Path(os.environ.get("OTOSCOPE_VERDICTS", "out/verdicts")) / "rows.jsonl"
N_SEEN, N_FRESH = 400, 200
BREAKS = ("wrong target", "shuffled", "too few calls", "hiding off value")
FEW_CALLS = 256
PRECISION, RECALL = 0.95, 0.6

Row = dict[str, Any]


def planned(number: int) -> tuple[Scene, str]:
    """Generate the scene of a case, and say how its explanation is broken, if at all."""
    wheres, kinds, levels, ears = get_args(Where), get_args(Kind), get_args(Level), get_args(Ear)
    combination = (number // 2) % (len(wheres) * len(kinds) * len(levels) * len(ears))
    where, rest = wheres[combination % 3], combination // 3
    kind, rest = kinds[rest % 4], rest // 4
    level, ear = levels[rest % 3], ears[rest // 3]
    found = scene(40_000 + number, where=where, kind=kind, level=level, model=ear)
    return found, "" if number % 2 == 0 else BREAKS[number // 2 % len(BREAKS)]


def with_decoy(one: Scene) -> Function:
    """Give the scene's model a second class, which hears the decoys only."""
    boxes = [box for decoy in one.decoys for box in decoy.boxes]
    floor = 0.01 * energy_in(one.audio.samples[None], boxes, rate=RATE)[0]

    def score(waveforms: Float32) -> Floats:
        heard = sigmoid(2 * np.log10(energy_in(waveforms, boxes, rate=RATE) / floor + 1e-2))
        return np.stack([np.asarray(one.model.predict(waveforms))[:, 0], heard], axis=1)

    return Function(score, rate=RATE, labels=("yes", "decoy"))


def wrong_target(request: Request) -> Outcome:
    """Explain the other class and say it was this one."""
    model = request.model
    found: Outcome = lime(replace(request, target=resolve_target("decoy", model.labels, model.output)))
    return found


def shuffled(request: Request) -> Outcome:
    """Hand the weights to other parts, without a zoom, which would have put most of the parts on the cue."""
    found: Outcome = lime(replace(request, settings=replace(request.settings, zoom=0)))
    order = np.random.default_rng(request.seed).permutation(len(found.weights))
    return replace(found, weights=found.weights[order], se=None if found.se is None else found.se[order])


def explained(one: Scene, broken: str) -> Explanation:
    """Explain a case."""
    own = find_method("lime")
    runs = {"wrong target": wrong_target, "shuffled": shuffled}
    METHODS["broken"] = Method("lime, broken on purpose", runs.get(broken, lime), own.uses)
    own_settings: dict[str, dict[str, Any]] = {
        "too few calls": {"calls": FEW_CALLS, "neighbourhood": "random"},
        "hiding off value": {"off": "mean"},
    }
    chosen = own_settings.get(broken, {})
    model = with_decoy(one) if broken == "wrong target" else one.model
    try:
        return explain(model, one.audio, method="broken", target="yes", settings=Settings(**chosen))
    finally:
        del METHODS["broken"]


def measure(cases: range) -> None:
    """Explain the cases that are not there yet."""
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    done = {row["case"] for row in rows()}
    for number in cases:
        if number in done:
            continue
        one, broken = planned(number)
        found = explained(one, broken)
        mass = mass_inside(found.map, one.region, sign=one.sign)
        on_top = pointing(found.map, one.region, sign=one.sign)
        row = {
            "case": number,
            "scene": one.name,
            "broken": broken,
            "mass": mass,
            "pointing": float(on_top),
            "figures": {**found.fidelity, **found.gates},
        }
        with ROWS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(number, one.name, broken, f"{mass:.2f} {on_top:g}", found.verdict, flush=True)


def rows() -> list[Row]:
    """Read what is kept; the half line of a killed run is left out."""
    found = []
    for line in ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def right(row: Row) -> bool:
    """Whether half of the attribution lies on the cue, and the cue is on top."""
    return bool(row["mass"] >= 0.5 and row["pointing"] >= 0.5)


def halves() -> tuple[list[Row], list[Row]]:
    """Split the rows into those to choose thresholds on and those to check them on."""
    found = rows()
    return [row for row in found if row["case"] < N_SEEN], [row for row in found if row["case"] >= N_SEEN]


def table() -> None:
    """Print the confusion tables."""
    for name, half in zip(("chosen on", "checked on"), halves(), strict=True):
        words = Counter((judge(row["figures"]).word, right(row)) for row in half)
        print(f"\n## Verdicts, scenes they were {name} ({len(half)})\n")
        print("| verdict | right | wrong |\n|---|---|---|")
        for word in reversed(ORDER):
            print(f"| {word} | {words[word, True]} | {words[word, False]} |")
        trusted = words["trust", True] + words["trust", False]
        n_right = sum(words[word, True] for word in ORDER)
        print(
            f"\n*trust* is right in {words['trust', True]} of {trusted} (goal {PRECISION:.0%}), and "
            f"{words['trust', True]} of {n_right} right ones get it (goal {RECALL:.0%}).\n"
        )
        print("| explanation | cases | right | trust | caution | do not use |\n|---|---|---|---|---|---|")
        for broken in ("", *BREAKS):
            mine = [row for row in half if row["broken"] == broken]
            told = Counter(judge(row["figures"]).word for row in mine)
            cells = [len(mine), sum(map(right, mine)), told["trust"], told["caution"], told["do not use"]]
            print(f"| {broken or 'sound'} | " + " | ".join(map(str, cells)) + " |")


def trusted(half: list[Row], thresholds: dict[str, float]) -> np.ndarray:
    """Which rows would be trusted, (n,)."""

    def passes(row: Row) -> bool:
        for name, gate in GATES.items():
            value = row["figures"].get(name)
            if name in thresholds and value is not None:
                if replace(gate, trust=thresholds[name], use=thresholds[name]).judge(value) != "trust":
                    return False
            elif gate.missing and value is None:
                return False
        return True

    return np.array([passes(row) for row in half])


def tune(goal: float = 0.98) -> None:
    """Raise thresholds one by one, each time the one that costs fewest right ones, until `goal` of *trust* is right."""
    half, _ = halves()
    is_right = np.array([right(row) for row in half])
    thresholds = {name: _loosest(gate) for name, gate in GATES.items() if any(_has(row, name) for row in half)}
    while True:
        now = trusted(half, thresholds)
        precision = is_right[now].mean() if now.any() else 1.0
        print(f"{precision:.3f} of {now.sum()} trusted right, {now[is_right].mean():.3f} of right trusted", thresholds)
        if precision >= goal:
            return
        tries = [_tightened(half, thresholds, name, now & ~is_right) for name in thresholds]
        scored = [(_worth(trusted(half, one), now, is_right), i) for i, one in enumerate(tries)]
        thresholds = tries[max(scored)[1]]


def _worth(after: np.ndarray, before: np.ndarray, is_right: np.ndarray) -> float:
    """Wrong ones got rid of for each right one lost."""
    return float((before & ~after & ~is_right).sum() / (0.5 + (before & ~after & is_right).sum()))


def _tightened(half: list[Row], thresholds: dict[str, float], name: str, wrong: np.ndarray) -> dict[str, float]:
    """Move one threshold just past the wrong ones that it would catch first."""
    gate = GATES[name]
    sign = -1 if gate.low_is_good else 1
    values = sorted(
        sign * row["figures"][name] for row, bad in zip(half, wrong, strict=True) if bad and _has(row, name)
    )
    return {**thresholds, name: sign * (values[len(values) // 4] + 1e-3)} if values else thresholds


def _has(row: Row, name: str) -> bool:
    return row["figures"].get(name) is not None


def _loosest(gate: Gate) -> float:
    return 2.0 if gate.low_is_good else -2.0


def main() -> None:
    """Run what is named on the command line; `measure` and `table` if nothing is."""
    for name in sys.argv[1:] or ["measure", "table"]:
        if name == "measure":
            measure(range(N_SEEN + N_FRESH))
        else:
            {"table": table, "tune": tune}[name]()


if __name__ == "__main__":
    main()
