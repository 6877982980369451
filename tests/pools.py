"""Pools of calls: answers of three models to whole neighbourhoods of real music, kept, so that plans can be compared.

For each model and recording of `cases`, masks of several plans and seeds with the scores that the model gave, in
``out/pools`` (override: ``OTOSCOPE_POOLS``), one file each; a killed run goes on where it stopped. A designed
neighbourhood of 256 calls begins one of 4,096, so one pool serves all sizes. The plans are ``random`` (as published),
``hadamard`` (what `otoscope` used before: each block k columns of a Hadamard matrix, drawn afresh) and ``design``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import hadamard

import otoscope
from otoscope.adapters.audio import load_audio
from otoscope.adapters.model import Model
from otoscope.adapters.whole_file import whole_file
from otoscope.adapters.windows import Windowed
from otoscope.explainers.explain import parts_stft
from otoscope.explainers.makers import make_parts
from otoscope.explainers.neighbourhoods import Masks, make_masks
from otoscope.explainers.parts import Parts
from otoscope.explainers.routes import score_masks
from otoscope.explainers.targets import Target, on_scale, resolve_target
from tests.builders import DATA, Floats
from tests.third_party import place

POOLS = Path(os.environ.get("OTOSCOPE_POOLS", "out/pools"))
CALLS = 4096
SECONDS = {"harmonics": 6.0, "msd_musicnn": 3.0, "yamnet": 3.0}
RECORDINGS = ("brahms", "drum_and_bass", "ragtime", "vibe_ace")
SEEDS = {"design": 3, "hadamard": 2, "random": 2}


@dataclass(frozen=True, eq=False)
class Case:
    """One model and one recording: its parts, and what it is asked for."""

    model: Windowed
    parts: Parts
    target: Target

    def value(self, scores: Floats) -> Floats:
        """Bring scores to log-odds."""
        return on_scale(scores, self.target, self.model.output, "log_odds")


@dataclass(frozen=True, eq=False)
class Pool:
    """A neighbourhood and its values on the explained scale; of a design, rows of whole blocks with their mirrors."""

    masks: Masks
    values: Floats

    def first(self, calls: int) -> Pool:
        """Give the neighbourhood of fewer calls: the first rows, and of a plan with mirror images theirs."""
        n = len(self.masks) // 2
        mirrored = bool((self.masks[:n] != self.masks[n:]).all())
        rows = np.r_[: calls // 2, n : n + calls // 2] if mirrored else np.r_[:calls]
        return Pool(self.masks[rows], self.values[rows])


def load(name: str) -> Model:
    """Load one of our models, or one of other people's, whose card is laid beside its file."""
    if name == "harmonics":
        return otoscope.load_model(name)
    return otoscope.load_model(str(place(name, Path(tempfile.mkdtemp()))))


def case(model: Model, name: str, recording: str) -> Case:
    """Take the middle of a recording apart, by default parts."""
    audio = load_audio(DATA / "music" / f"{recording}.ogg").at(model.rate)
    seconds = SECONDS[name]
    audio = audio.cut(max(0.0, audio.seconds / 2 - seconds / 2), seconds)
    windowed = Windowed(model, len(audio.samples))
    target = resolve_target("top", model.labels, model.output, windowed.predict(audio.samples[None])[0])
    return Case(windowed, make_parts(audio, parts_stft(windowed)), target)


def hadamard_masks(k: int, calls: int, seed: int) -> Masks:
    """Plan blocks of 2m runs, m the smallest power of two ≥ 2k: each of k columns of a Hadamard matrix."""
    rng = np.random.default_rng(seed)
    m = 2 ** int(np.ceil(np.log2(2 * k)))
    signs = hadamard(m)[:, 1:]
    blocks = []
    for _ in range(calls // (2 * m)):
        columns = rng.choice(m - 1, size=k, replace=False)
        blocks.append(signs[:, columns] * rng.choice(np.array([-1, 1], dtype=np.int8), size=k))
    half = np.concatenate(blocks)
    return ((1 + np.concatenate([half, -half])) // 2).astype(np.uint8)


def plan(name: str, k: int, calls: int, seed: int) -> Masks:
    """Make the masks of a plan, (calls, k)."""
    return hadamard_masks(k, calls, seed) if name == "hadamard" else make_masks(name, k, calls, seed)  # type: ignore[arg-type]


def pool(one: Case, name: str, recording: str, kind: str, seed: int) -> Pool:
    """Read a pool, or ask for it and keep it."""
    path = POOLS / f"{name}-{recording}-{kind}-{seed}.npz"
    masks = plan(kind, one.parts.k, CALLS, seed)
    if not path.exists():
        scored = score_masks(one.model, one.parts, masks)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, scores=scored.scores)
    with np.load(path) as kept:
        return Pool(masks, one.value(kept["scores"]))


def cases(*names: str) -> Iterator[tuple[str, str, Case]]:
    """Make the cases of some models, or of all."""
    for name in names or tuple(SECONDS):
        model = load(name)
        for recording in RECORDINGS:
            yield name, recording, case(model, name, recording)


def fill(*names: str) -> None:
    """Fill the pools."""
    for name, recording, one in cases(*names):
        for kind, seeds in SEEDS.items():
            for seed in range(seeds):
                pool(one, name, recording, kind, seed)
                print(name, recording, one.target.name, one.parts.k, kind, seed, flush=True)


if __name__ == "__main__":
    import sys

    fill(*sys.argv[1:])
