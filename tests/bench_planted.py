"""The planted-cue benchmark: ``make bench-planted``, or ``python -m tests.bench_planted``.

Every method explains generated scenes of which the cause is known (`tests.scenes`), beside other tools that ask the
same models for sound (`tests.peers`). Of each map on the common grid, with the mass of the cue's sign only:

mass
    Share that lies on the cues.
pointing
    Whether its maximum lies on a cue.
stability
    Spearman's rank correlation of the maps of two seeds; of methods that draw something.
seconds
    Of the processor, so that work beside it does not count.

Means over two seeds, then over scenes, with 95 % bootstrap intervals over scenes. Peers' maps are laid on the grid by
energy and by area, and the one of the higher mean mass is told. Every method gets at most ``--calls`` answers of the
model; ours come to fewer (a design takes whole blocks, and the report's own checks count).

Rows are kept in ``out/bench-planted/rows.jsonl`` (folder: ``OTOSCOPE_BENCH_PLANTED``), so a killed run goes on where it
stopped; ``--redo NAME`` measures one method again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.explain import explain
from otoscope.explainers.localisation import mass_inside, pointing
from otoscope.explainers.methods import Settings, all_methods
from otoscope.explainers.neighbourhoods import block_size
from tests.bench import spearman
from tests.builders import Floats
from tests.peers import DRAWS_NOTHING, PEERS, SPREADINGS, Picture, laid
from tests.scenes import Scene, planned

FOLDER = Path(os.environ.get("OTOSCOPE_BENCH_PLANTED", "out/bench-planted"))
DEFAULT = "lime"
N_SCENES = 48
CALLS = 1024
SEEDS = (0, 1)
RESAMPLES = 2000
Row = dict[str, Any]
Maps = dict[str, Floats]  # by spreading; ours has one, "own"

OWN: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "lime, one look": {"zoom": 0},
    "lime, grid": {"parts": "grid"},
    "occlusion": {"parts": "superpixels"},
    "shapley": {"n_parts": 9},  # 512 calls; ten parts and the checks would be more than a peer gets
}
SKIPPED = ("two_level",)  # it needs a second model


def ours() -> dict[str, tuple[str, dict[str, Any]]]:
    """List our methods with their settings, by name in the table."""
    found = {name: (name.split(",")[0], settings) for name, settings in OWN.items()}
    others: dict[str, tuple[str, dict[str, Any]]] = {
        name: (name, {}) for name in all_methods() if name not in (*OWN, *SKIPPED)
    }
    return {**found, **others}


def draws(name: str) -> bool:
    """Whether a method gives another map with another seed."""
    if name in PEERS:
        return name not in DRAWS_NOTHING
    return bool({"calls", "n_draws"} & all_methods()[ours()[name][0]].uses)


def fits(name: str, scene: Scene) -> bool:
    """Whether a method can explain a scene's model."""
    return name in PEERS or scene.ear == "torch" or not all_methods()[ours()[name][0]].white_box


def maps_of(name: str, scene: Scene, calls: int, seed: int) -> tuple[Maps, int]:
    """Explain a scene; give its maps on the common grid and the number of answers it took."""
    if name in PEERS:
        seen = Picture(scene.model, scene.audio)
        cells = PEERS[name](seen, calls, seed)
        return {spreading: laid(cells, seen, spreading) for spreading in SPREADINGS}, seen.asked
    method, settings = ours()[name]
    if "calls" in all_methods()[method].uses:
        settings = {"calls": max(calls - block_size(64), block_size(64)), **settings}
    found = explain(
        scene.model, scene.audio, method=method, target="yes", settings=Settings(gates="none", **settings), seed=seed
    )
    return {"own": found.map}, found.n_calls


def measure(name: str, index: int, calls: int) -> Row:
    """Measure one method on one scene."""
    scene = planned(index)
    began = time.process_time()
    seeds = SEEDS if draws(name) else SEEDS[:1]
    runs = [maps_of(name, scene, calls, seed) for seed in seeds]
    seconds = (time.process_time() - began) / len(runs)
    row: Row = {"scene": index, "digest": scene.digest, "method": name, "asked": calls}
    row |= {"where": scene.where, "kind": scene.kind, "level": scene.level, "model": scene.ear}
    for spreading in runs[0][0]:
        found = [maps[spreading] for maps, _ in runs]
        row[spreading] = {
            "mass": float(np.mean([mass_inside(one, scene.region, sign=scene.sign) for one in found])),
            "pointing": float(np.mean([pointing(one, scene.region, sign=scene.sign) for one in found])),
            "stability": spearman(found[0].ravel(), found[1].ravel()) if len(found) > 1 else None,
        }
    return {**row, "calls": max(n_calls for _, n_calls in runs), "seconds": seconds}


def key(row: Row) -> tuple[Any, ...]:
    """Say what a row is about: a changed scene has another digest."""
    return tuple(row[name] for name in ("scene", "digest", "method", "asked"))


def kept(folder: Path) -> list[Row]:
    """Read the rows so far; the half line of a killed run is left out."""
    path, found = folder / "rows.jsonl", []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def run(
    methods: Sequence[str],
    n_scenes: int,
    *,
    calls: int = CALLS,
    folder: Path,
    tell: Callable[[str], None] = print,
) -> list[Row]:
    """Measure methods on the first scenes of the plan, but for what is there already; give all rows asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    path, have = folder / "rows.jsonl", {key(row): row for row in kept(folder)}
    with whole_file(path) as partial:  # a half line at the end is gone before another is put behind it
        partial.write_text("".join(json.dumps(row) + "\n" for row in have.values()), encoding="utf-8")
    rows = []
    for index in range(n_scenes):
        digest = planned(index).digest
        for name in methods:
            if not fits(name, planned(index)):
                continue
            about = (index, digest, name, calls)
            if about not in have:
                have[about] = measure(name, index, calls)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(have[about]) + "\n")
            rows.append(have[about])
        tell(f"scene {index + 1} of {n_scenes}: {planned(index).name}")
    return rows


def forget(names: Iterable[str], folder: Path) -> None:
    """Drop the rows of some methods."""
    left = [row for row in kept(folder) if row["method"] not in set(names)]
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "rows.jsonl") as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in left), encoding="utf-8")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Bootstrap interval of a mean over scenes, 95 %."""
    array = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(0, len(array), (RESAMPLES, len(array)))
    low, high = np.quantile(array[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def best_spreading(rows: Sequence[Row]) -> str:
    """Choose the way of laying a peer's map on the grid that is better for it."""
    known = [name for name in ("own", *SPREADINGS) if name in rows[0]]
    return max(known, key=lambda name: float(np.mean([row[name]["mass"] for row in rows])))


def told(values: Sequence[float]) -> str:
    """Write a mean with its interval."""
    low, high = interval(values)
    return f"{np.mean(values):.2f} ({low:.2f}–{high:.2f})"


def overview(rows: Sequence[Row]) -> str:
    """Table of the methods, the best mass first."""
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    lines = []
    for name, own in by_method.items():
        spreading = best_spreading(own)
        masses, hits = ([row[spreading][what] for row in own] for what in ("mass", "pointing"))
        stable = [row[spreading]["stability"] for row in own if row[spreading]["stability"] is not None]
        cells = [
            name + ("" if spreading == "own" else f" (by {spreading})"),
            str(len(own)),
            told(masses),
            told(hits),
            f"{np.mean(stable):.2f}" if stable else "draws nothing",
            str(max(row["calls"] for row in own)),
            f"{np.mean([row['seconds'] for row in own]):.1f}",
        ]
        lines.append((float(np.mean(masses)), "| " + " | ".join(cells) + " |"))
    head = "| method | scenes | mass on the cue | pointing | two seeds | calls | CPU s |\n|---|---|---|---|---|---|---|"
    return "\n".join([head, *(line for _, line in sorted(lines, key=lambda pair: -pair[0]))])


def breakdown(rows: Sequence[Row], method: str = DEFAULT) -> str:
    """Table of one method by what, where and how loud the cue is."""
    lines = ["| scenes | n | mass on the cue | pointing |", "|---|---|---|---|"]
    own = [row for row in rows if row["method"] == method]
    spreading = best_spreading(own)
    for sort in ("where", "kind", "level", "model"):
        for value in dict.fromkeys(row[sort] for row in own):
            some = [row[spreading] for row in own if row[sort] == value]
            masses, hits = ([row[what] for row in some] for what in ("mass", "pointing"))
            lines.append(f"| {sort}: {value} | {len(some)} | {told(masses)} | {told(hits)} |")
    return "\n".join(lines)


def differences(rows: Sequence[Row], method: str = DEFAULT) -> str:
    """Table of what one method is ahead of each other one, scene by scene."""
    lines = [f"| {method} ahead of | mass on the cue | pointing |", "|---|---|---|"]
    own = {row["scene"]: row for row in rows if row["method"] == method}
    for name in dict.fromkeys(row["method"] for row in rows if row["method"] != method):
        other = [row for row in rows if row["method"] == name and row["scene"] in own]
        spreading = best_spreading(other)
        ahead = [
            [own[row["scene"]]["own"][what] - row[spreading][what] for row in other] for what in ("mass", "pointing")
        ]
        lines.append(f"| {name} | {told(ahead[0])} | {told(ahead[1])} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description="Planted cues: our methods beside other tools.")
    parser.add_argument("--scenes", type=int, default=N_SCENES)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--method", action="append", help="only this one, and others that are named")
    parser.add_argument("--redo", action="append", default=[], metavar="NAME", help="measure this method again")
    parser.add_argument("--quick", action="store_true", help="a dozen scenes at most, and two methods")
    chosen = parser.parse_args(arguments)
    methods = chosen.method or ([DEFAULT, "RISE"] if chosen.quick else [*ours(), *PEERS])
    forget(chosen.redo, FOLDER)
    rows = run(methods, min(12, chosen.scenes) if chosen.quick else chosen.scenes, calls=chosen.calls, folder=FOLDER)
    print(f"\n## Planted cues, {len({row['scene'] for row in rows})} scenes, at most {chosen.calls} calls\n")
    print(overview(rows))
    if DEFAULT in methods:
        print(f"\n{differences(rows)}\n\n{breakdown(rows)}")


if __name__ == "__main__":
    main()
