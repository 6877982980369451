"""The listening test: whether people still hear the class in an explanation's evidence.

That a model keeps its answer on the evidence alone says that the evidence matters to the model, not that it is anything
a listener would know the class by. So people are asked, blind and in pairs: which of two sounds still sounds like the
class, the *evidence*, or a *random set* of other parts of the same recording with the same energy? If the evidence is
preferred to what chance would have kept, it is still in the signal.

*Equal energy.* Parts are taken in random order, those outside the evidence first, each where it brings the sum nearer
to the energy of the evidence. Such a draw misses that energy by half of the largest part's at most. Of `N_DRAWS` draws
those within `TOLERANCE` are kept, and of these the first that shares about as little with the evidence as any; if none
is so near, the nearest. Where an explanation weighs groups of parts (combs), groups are drawn, so that both sounds are
made of pieces of one kind. Parts below `QUIET` of the energy count as silent. An explanation is left out where nothing
but its evidence has that energy: where the set would have more than `FACTOR` times more or less, or share more than
`MOST_SHARED` of it.

`otoscope.explainers.listening_page` makes sounds and page of the pairs, `otoscope.explainers.listening_score` reads
what people answered.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.spectra import Floats
from otoscope.explainers.parts import Bools
from otoscope.explainers.report import find_results
from otoscope.explainers.store import DAMAGE, load_explanation

N_DRAWS = 128
TOLERANCE = 0.05  # of the evidence's energy
QUIET = 1e-6  # of the recording's energy
FACTOR = 2.0
MOST_SHARED = 0.9  # of the evidence's energy
SLACK = 0.05  # of the evidence's energy: draws that share so little more than the best may be taken

Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class RandomSet:
    """Parts drawn to be heard against the evidence.

    Attributes
    ----------
    parts : ndarray of bool, shape (k,)
    ratio : float
        Their energy, by that of the evidence.
    shared : float
        Share of the evidence's energy that they hold too.
    """

    parts: Bools
    ratio: float
    shared: float

    @property
    def fair(self) -> bool:
        """Whether the energies are comparable and the two sounds differ."""
        return 1 / FACTOR <= self.ratio <= FACTOR and self.shared <= MOST_SHARED


def random_set(
    energy: Floats, evidence: Bools, *, rng: Rng, units: Bools | None = None, known: Iterable[Bools] = ()
) -> RandomSet | None:
    """Draw parts at random that hold as much energy as the evidence, and as little of the evidence, as can be.

    Parameters
    ----------
    energy : ndarray, shape (k,)
        Share of the recording's energy in each part.
    evidence : ndarray of bool, shape (k,)
        Not silent.
    rng : Generator
    units : ndarray of bool, shape (n_units, k), optional
        What is drawn as a whole; single parts if None.
    known : iterable of ndarray of bool, shape (k,)
        Sets that were drawn before.

    Returns
    -------
    RandomSet or None
        Neither the evidence nor a known set; None where there is no other.

    Examples
    --------
    >>> energy, evidence = np.array([0.3, 0.2, 0.2, 0.3]), np.array([True, True, False, False])
    >>> random_set(energy, evidence, rng=np.random.default_rng(0)).parts.tolist()
    [False, False, True, True]
    """
    audible = energy > QUIET
    units = np.asarray((np.eye(len(energy), dtype=bool) if units is None else units) & audible)
    units = units[units.any(axis=1)]
    taken = {(evidence & audible).tobytes(), *(parts.tobytes() for parts in known)}
    goal = float(energy @ (evidence & audible))

    def judged(parts: Bools) -> RandomSet:
        return RandomSet(parts, float(energy @ parts) / goal, float(energy @ (parts & evidence)) / goal)

    found: list[RandomSet] = []
    for _ in range(N_DRAWS):
        drawn = judged(_draw(energy, evidence, units, goal, rng))
        if drawn.parts.tobytes() in taken:
            continue
        if abs(drawn.ratio - 1) <= TOLERANCE and drawn.shared == 0:
            return drawn
        found.append(drawn)
    if not found:  # every part outside is far louder than the evidence
        outside = [judged(units[place]) for place in np.flatnonzero(~(units & evidence).any(axis=1))]
        outside = [drawn for drawn in outside if drawn.parts.tobytes() not in taken]
        return min(outside, key=lambda drawn: drawn.ratio, default=None)
    near = [drawn for drawn in found if abs(drawn.ratio - 1) <= TOLERANCE]
    if not near:
        return min(found, key=lambda drawn: abs(drawn.ratio - 1))
    least = min(drawn.shared for drawn in near)
    return next(drawn for drawn in near if drawn.shared <= least + SLACK)


def _draw(energy: Floats, evidence: Bools, units: Bools, goal: float, rng: Rng) -> Bools:
    """Take units in random order, those outside the evidence first, where they bring the energy nearer to the goal."""
    inside = np.asarray(~(units & ~evidence).any(axis=1))
    order = rng.permutation(len(units))
    parts, held = np.zeros(len(energy), dtype=bool), 0.0
    for unit in order[np.argsort(inside[order], kind="stable")]:
        more = float(energy @ (units[unit] & ~parts))
        if abs(held + more - goal) < abs(held - goal):
            parts, held = parts | units[unit], held + more
    return parts


@dataclass(frozen=True, eq=False)
class Candidate:
    """What of an explanation decides whether and how it can be asked about."""

    folder: Path
    energy: Floats  # (k,)
    evidence: Bools  # (k,)
    units: Bools | None  # (n_units, k)
    seconds: float

    @property
    def fault(self) -> str | None:
        """Say why it cannot be asked about."""
        audible = self.energy > QUIET
        if not (self.evidence & audible).any():
            return "its evidence is empty"
        pieces = audible if self.units is None else (self.units & audible).any(axis=1)
        return "it has a single part" if np.count_nonzero(pieces) < 2 else None


@dataclass(frozen=True, eq=False)
class Pair:
    """Evidence and a random set of one explanation."""

    candidate: Candidate
    other: RandomSet
    number: int  # of the random set among those of its explanation, from 1


@dataclass(frozen=True)
class Choice:
    """The pairs of a test, from how many explanations they come, and what was left out, with reasons."""

    pairs: tuple[Pair, ...]
    left_out: tuple[str, ...]

    @property
    def n_explanations(self) -> int:
        """How many different explanations are asked about."""
        return len({pair.candidate.folder for pair in self.pairs})


def choose_pairs(
    directory: str | Path, n_pairs: int, *, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Choice:
    """Choose explanations below a folder, and draw a random set for each; several where there are too few.

    Parameters
    ----------
    directory : str or Path
        The output folder of ``otoscope explain``.
    n_pairs : int
        Fewer are given only where there are no more different sets.
    seed : int
    progress : callable, optional
        Told how many explanations were read, of how many.

    Raises
    ------
    OtoscopeError
        If there are no explanations, or none that can be asked about.
    """
    directory, rng = Path(directory), np.random.default_rng(seed)
    candidates, left_out = _candidates(directory, progress)
    drawn: dict[Path, list[RandomSet]] = {one.folder: [] for one in candidates}
    pairs: list[Pair] = []
    queue = deque(candidates[place] for place in rng.permutation(len(candidates)))
    while queue and len(pairs) < n_pairs:
        one = queue.popleft()
        sets = drawn[one.folder]
        known = [other.parts for other in sets]
        other = random_set(one.energy, one.evidence, rng=rng, units=one.units, known=known)
        if other is not None and other.fair:
            sets.append(other)
            pairs.append(Pair(one, other, len(sets)))
            queue.append(one)  # its turn comes again where there are too few
        elif not sets:
            name = one.folder.relative_to(directory)
            left_out.append(f"{name}: no other set of its parts has about the energy of the evidence")
    if not pairs:
        raise OtoscopeError(f"{directory}: no explanation can be asked about ({'; '.join(left_out)}); make others")
    return Choice(tuple(pairs), tuple(left_out))


def _candidates(directory: Path, progress: Callable[[int, int], None] | None) -> tuple[list[Candidate], list[str]]:
    """Read every explanation below a folder, and keep of each what is little."""
    folders = find_results(directory)
    if not folders:
        raise OtoscopeError(f"{directory}: holds no explanations; name a folder that `otoscope explain --out` made")
    kept, left_out = [], []
    for place, folder in enumerate(folders, start=1):
        candidate, fault = _candidate(folder)
        if candidate is not None and fault is None:
            kept.append(candidate)
        else:
            left_out.append(f"{folder.relative_to(directory)}: {fault}")
        if progress is not None:
            progress(place, len(folders))
    return kept, left_out


def _candidate(folder: Path) -> tuple[Candidate | None, str | None]:
    """Read an explanation; say why it cannot be asked about, or None."""
    from scipy.io.wavfile import WavFileWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", WavFileWarning)  # a sound that is cut off
            explanation = load_explanation(folder)
        parts, evidence = explanation.parts, explanation.evidence_mask
        one = Candidate(folder, parts.energy, evidence, explanation.groups, parts.audio.seconds)
        return one, one.fault
    except OtoscopeError as error:
        return None, str(error).removeprefix(str(folder)).lstrip("/: ")
    except (*DAMAGE, RuntimeError, WavFileWarning) as error:
        return None, f"this explanation is damaged ({type(error).__name__}: {error}); make it again"
