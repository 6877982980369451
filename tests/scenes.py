"""Generated scenes with known causes: a model that hears planted cues, among music and decoys that it does not hear.

A `Scene` is three seconds at 16 kHz: music (`tests.builders.music`, or an excerpt of a real recording where there are
any), one or two cues, and decoys, which sound like a cue at another time or another pitch. Its model hears the energy
in the boxes of the cues and nothing else. With E the energy in a cue's boxes, e what is there without the cue (at least
a hundredth of it), and c the compression log(1 + E/e), a cue has the level

    l = 4 c / c(the whole scene) − 2                      −2 where its boxes are silent, 2 in the scene

and the log-odds are l (single), −l (inhibiting), −log(Σ exp −l) (joint: the lower one counts) or log(Σ exp l)
(redundant: the higher one). On ``torch`` models c is the mean of the compressed bands and frames of a convolutional
network (`tests.planted.Listener`), on ``numpy`` models it is one number of each box.

Drawn again until the model depends on its cues, and on no decoy: see `Scene.faults`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from otoscope.adapters.audio import Audio
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.spectra import Stft
from tests.builders import Float32, Floats, Function, sigmoid
from tests.planted import N_FFT, Box, Listener, energy_in
from tests.scene_sounds import DRAW, LOUDNESS, N_SAMPLES, RATE, SECONDS, Planted, Where, apart, background

LEVELS = {"loud": -6.0, "medium": -18.0, "faint": -30.0}  # decibels below the music, while the cue sounds
SILENCE = 1e-2  # of a cue's energy: what counts as none
TRIES = 300

Kind = Literal["single", "joint", "redundant", "inhibiting"]
Level = Literal["loud", "medium", "faint"]
Ear = Literal["numpy", "torch"]


@dataclass(frozen=True, eq=False)
class Scene:
    """A recording, a model, and what the model hears.

    Attributes
    ----------
    seed : int
    where, kind, level, ear : str
    music : ndarray, shape (n_samples,)
        What is neither cue nor decoy.
    cues, decoys : tuple of Planted
    model : Model
    """

    seed: int
    where: Where
    kind: Kind
    level: Level
    ear: Ear
    music: Float32
    cues: tuple[Planted, ...]
    decoys: tuple[Planted, ...]
    model: Any

    @property
    def name(self) -> str:
        """What it is, in words."""
        return f"{self.where}, {self.kind}, {self.level}, {self.ear}, {self.seed}"

    @property
    def audio(self) -> Audio:
        """The recording."""
        return Audio(self.without(), RATE, self.name)

    @property
    def sign(self) -> int:
        """-1 where the cue lowers the score."""
        return -1 if self.kind == "inhibiting" else 1

    @property
    def region(self) -> npt.NDArray[np.bool_]:
        """Cells of the common grid on which the cues lie, shape (108, n_columns)."""
        return np.asarray(np.any([cue.region for cue in self.cues], axis=0))

    @property
    def digest(self) -> str:
        """Changes with the recording and with the answers of the model."""
        answers = self.logits([self.without(), *(self.without(cue) for cue in self.cues)])
        boxes = repr([cue.boxes for cue in self.cues]).encode()
        return hashlib.sha256(self.without().tobytes() + np.round(answers, 4).tobytes() + boxes).hexdigest()[:16]

    def without(self, *silenced: Planted) -> Float32:
        """Mix the scene without some of its sounds, shape (n_samples,)."""
        sounds = [one.samples for one in (*self.cues, *self.decoys) if not any(one is other for other in silenced)]
        return np.asarray(np.sum([self.music, *sounds], axis=0), dtype=np.float32)

    def logits(self, waveforms: Sequence[Float32]) -> Floats:
        """Log-odds of the model, shape (n,)."""
        scores = np.asarray(self.model.predict(np.stack(waveforms)), dtype=np.float64)[:, 0]
        return np.log(scores / (1 - scores))

    def faults(self) -> list[str]:
        """List what keeps this scene from being what it says: the ground under every figure that is measured on it."""
        full = self.sign * self.logits([self.without()])[0]
        gone = full - self.sign * self.logits([self.without(*self.cues)])[0]
        each = full - self.sign * self.logits([self.without(cue) for cue in self.cues])
        decoyed = full - self.sign * self.logits([self.without(decoy) for decoy in self.decoys])
        found = []
        if gone < 1:
            found.append(f"without its cues the score falls by {gone:.2f} only")
        if self.kind == "redundant" and each.max() > gone / 2:
            found.append(f"one of the redundant cues is needed: the score falls by {each.max():.2f} without it")
        if self.kind != "redundant" and each.min() < 1:
            found.append(f"one of the cues is not needed: the score falls by {each.min():.2f} without it")
        if np.abs(decoyed).max() > 0.25:
            found.append(f"a decoy is heard: the score changes by {np.abs(decoyed).max():.2f} without it")
        return found


def scene(seed: int, *, where: Where, kind: Kind, level: Level, model: Ear) -> Scene:
    """Generate a scene; the same arguments give the same bytes where the same recordings are there.

    Parameters
    ----------
    seed : int
    where : {"time", "frequency", "both"}
        What the model hears: everything in a stretch; a band or a harmonic series throughout; a burst, a chirp or a
        band of noise for a moment.
    kind : {"single", "joint", "redundant", "inhibiting"}
    level : {"loud", "medium", "faint"}
        6, 18 or 30 dB below the music.
    model : {"numpy", "torch"}
    """
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):
        ground = background(rng)
        n_cues = 2 if kind in ("joint", "redundant") else 1
        drawn = DRAW[where](rng, ground, n_cues, LOUDNESS * 10 ** (LEVELS[level] / 20))
        if drawn is None:
            continue
        rest, cues, decoys = drawn
        found = Scene(seed, where, kind, level, model, rest, cues, decoys, None)
        made = MODELS[model](found)
        heard = Scene(seed, where, kind, level, model, rest, made.cues, decoys, made.model)
        if apart((*heard.cues, *decoys)) and not heard.faults():
            return heard
    raise RuntimeError(f"no scene in {TRIES} tries: {where}, {kind}, {level}, {model}, seed {seed}")


@dataclass(frozen=True, eq=False)
class Made:
    """A model, and the cues as it hears them."""

    model: Any
    cues: tuple[Planted, ...]


def together(kind: Kind) -> int:
    """Say what the log-odds of two cues are: 1 the higher level, -1 the lower; with one cue they are the same."""
    return -1 if kind == "joint" else 1


def _function(drawn: Scene) -> Made:
    """Make a smooth function of the log-energy in each cue's boxes."""
    boxes = [cue.boxes for cue in drawn.cues]

    def energies(waveforms: Float32) -> Floats:
        return np.stack([energy_in(waveforms, one, rate=RATE) for one in boxes], axis=1)  # (n, n_cues)

    full, rest = energies(np.stack([drawn.without(), drawn.without(*drawn.cues)]))
    floor = np.maximum(rest, SILENCE * full)
    side, sign = together(drawn.kind), drawn.sign

    def score(waveforms: Float32) -> Floats:
        level = 4 * np.log1p(energies(waveforms) / floor) / np.log1p(full / floor) - 2
        return sigmoid(sign * side * np.logaddexp.reduce(side * level, axis=1, keepdims=True))

    return Made(Function(score, rate=RATE), drawn.cues)


def _network(drawn: Scene) -> Made:
    """Make a network that does the same on the frames and bands of a spectrogram; whole bands are its cues."""
    plain = FrontEnd(RATE, Stft(N_FFT, 512), n_bands=256, compression="none")
    cues = tuple(Planted(cue.samples, tuple(_banded(plain, box) for box in cue.boxes)) for cue in drawn.cues)
    probe = ListenerOfScenes(plain, cues, drawn)
    with torch.no_grad():
        full, rest = probe.levels(plain(torch.from_numpy(np.stack([drawn.without(), drawn.without(*drawn.cues)]))))
        floor = torch.maximum(rest, SILENCE * full).log().mean().exp()
        front_end = FrontEnd(RATE, plain.stft, n_bands=256, compression="log1p", reference=float(1 / floor))
        network = ListenerOfScenes(front_end, cues, drawn)
        network.full.copy_(network.levels(front_end(torch.from_numpy(drawn.without()[None])))[0])
    hearing = Hearing(RATE, N_SAMPLES, front_end=front_end)
    return Made(NetworkModel(network, hearing, labels=("yes",), output="sigmoid"), cues)


def _banded(front_end: FrontEnd, box: Box) -> Box:
    """Widen a box to the bands that it touches."""
    start, end, low, high = box
    edges = front_end.edges
    first = max(0, int(np.searchsorted(edges, low, side="right")) - 1)
    last = min(len(edges) - 1, int(np.searchsorted(edges, high, side="left")))
    return (start, end, float(edges[first]), float(edges[last]))


class ListenerOfScenes(Listener):
    """A listener with levels from −2 (silence) to 2 (the whole scene), of which the higher or the lower counts."""

    def __init__(self, front_end: FrontEnd, cues: Sequence[Planted], drawn: Scene) -> None:
        super().__init__(front_end, [cue.boxes for cue in cues], drawn.sign, seconds=SECONDS)
        self.side = together(drawn.kind)
        self.full = torch.nn.Buffer(torch.ones(len(cues)))

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        """Score compressed bands (n, n_bands, n_frames)."""
        level = 4 * self.levels(bands) / self.full - 2
        return self.sign * self.side * torch.logsumexp(self.side * level, dim=1, keepdim=True)


MODELS: dict[Ear, Callable[[Scene], Made]] = {"numpy": _function, "torch": _network}


@lru_cache(maxsize=4)
def planned(index: int) -> Scene:
    """Generate one scene of the plan."""
    return scene(1000 + index, **sort(index))


def sort(index: int) -> dict[str, Any]:
    """Say what a scene of the plan is: 72 are all combinations, 48 two of three levels of each, 24 one of them."""
    wheres, kinds, levels, ears = get_args(Where), get_args(Kind), get_args(Level), get_args(Ear)
    within = index % 24
    return {
        "where": wheres[within % 3],
        "kind": kinds[within // 3 % 4],
        "level": levels[(index // 24 + within + within // 3 + within // 12) % 3],
        "model": ears[within // 12],
    }
