"""`compare`: several explanations of one recording side by side, by method, by model, or both.

The maps of explanations lie on one grid, whatever their models' rates and windows and their methods' parts, so they can
be compared where they overlap: in the time that all spans share, and pair by pair on the bands that both models hear.

>>> import otoscope
>>> audio = otoscope.load_audio(otoscope.demo_recording())
>>> model = otoscope.load_model("harmonics")
>>> settings = otoscope.Settings(parts="grid", n_parts=16, calls=64)
>>> two = [otoscope.explain(model, audio, seed=seed, settings=settings) for seed in (0, 1)]
>>> bool(otoscope.compare(two).agreement["spearman"][0, 1] > 0.5)
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.spectra import Floats
from otoscope.explainers import grid
from otoscope.explainers.agreement import Clusters, clusters, matrices
from otoscope.explainers.chance import N_DRAWS, by_chance, dealt
from otoscope.explainers.difference import Difference, difference, shared_parts
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.parts import Bools, Parts

MIN_COMMON = 0.05  # seconds


@dataclass(frozen=True, eq=False)
class Comparison:
    """What several explanations of one recording have in common.

    Attributes
    ----------
    explanations : tuple of Explanation
    names : tuple of str
    start, duration : float
        The stretch they share, in seconds of the recording.
    maps : ndarray, shape (n_explanations, n_bands, n_columns)
        On the common grid over that stretch.
    heard : ndarray of bool, shape (n_explanations, n_bands)
    stands_for : tuple of str
        What each target is taken to mean; those that mean the same are about the same thing.
    agreement : dict of ndarray, each (n_explanations, n_explanations)
        By the measures of `otoscope.explainers.agreement`.
    clusters : Clusters
    notes : tuple of str
        What the reader must know: targets that differ, bands that one cannot hear …
    """

    explanations: tuple[Explanation, ...]
    names: tuple[str, ...]
    start: float
    duration: float
    maps: Floats
    heard: Bools
    stands_for: tuple[str, ...]
    agreement: dict[str, Floats]
    clusters: Clusters
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Tell in one line how far they agree."""
        among = self.agreement["spearman"][np.triu_indices(len(self.names), 1)]
        return (
            f"<Comparison of {len(self.names)} explanations of {self.explanations[0].audio.name!r}: "
            f"Spearman {among.min():.2f} to {among.max():.2f}, {len(self.clusters.groups)} clusters>"
        )

    @cached_property
    def parts(self) -> Parts:
        """What is compared, cut once, for differences that can be heard."""
        return shared_parts(self.explanations, self.start, self.duration)

    @cached_property
    def chance(self) -> dict[str, Floats]:
        """What the explanations would agree by chance, (n, n) by measure; see `otoscope.explainers.chance`."""
        random = [
            over(one, self.start, self.duration, dealt(one, N_DRAWS, seed))
            for seed, one in enumerate(self.explanations)
        ]
        return by_chance(list(self.maps), random, list(self.heard))

    def same_target(self, first: int, second: int) -> bool:
        """Whether two of the explanations are about the same thing."""
        return self.stands_for[first].casefold() == self.stands_for[second].casefold()

    def difference(self, first: int, second: int) -> Difference:
        """Where two of the explanations differ, on the shared parts."""
        rates = [self.explanations[place].audio.rate for place in (first, second)]
        return difference(self.parts, (self.maps[first], self.maps[second]), (rates[0], rates[1]))


def compare(
    explanations: Sequence[Explanation],
    names: Sequence[str] | None = None,
    *,
    stands_for: Sequence[str] | None = None,
) -> Comparison:
    """Compare explanations of one recording.

    Parameters
    ----------
    explanations : sequence of Explanation
        Two or more, by any methods, of any models.
    names : sequence of str, optional
        What to call them; by model and method, and what else tells them apart, where None.
    stands_for : sequence of str, optional
        What each target is taken to mean, where models use other words for it; the targets themselves where None.

    Returns
    -------
    Comparison

    Raises
    ------
    OtoscopeError
        If they are of different recordings, or their spans or what their models hear have nothing in common.
    """
    _check(explanations)
    names = tuple(names) if names is not None else default_names(explanations)
    means = tuple(one.target.name for one in explanations) if stands_for is None else tuple(stands_for)
    if len(names) != len(explanations) or len(means) != len(explanations):
        raise OtoscopeError(f"got {len(names)} names and {len(means)} meanings for {len(explanations)} explanations")
    start, duration = common_time(explanations)
    maps = np.stack([over(one, start, duration) for one in explanations])
    heard = np.stack([one.heard for one in explanations])
    agreement = matrices(list(maps), list(heard))
    return Comparison(
        explanations=tuple(explanations),
        names=names,
        start=start,
        duration=duration,
        maps=maps,
        heard=heard,
        stands_for=means,
        agreement=agreement,
        clusters=clusters(agreement["spearman"], names),
        notes=(*_target_notes(explanations, means), *_notes(explanations, names, duration)),
    )


def _check(explanations: Sequence[Explanation]) -> None:
    """Refuse what are not several explanations of one recording."""
    strangers = [type(one).__name__ for one in explanations if not isinstance(one, Explanation)]
    if strangers:
        raise OtoscopeError(f"got {strangers[0]} for an explanation; give what explain or load_explanation returns")
    if len(explanations) < 2:
        raise OtoscopeError(f"got {len(explanations)} explanations; give two at least to compare")
    first = explanations[0]
    for other in explanations[1:]:
        if other.audio_sha256 != first.audio_sha256:
            told = [f"{one.audio.name} ({one.audio_sha256[:8]})" for one in (first, other)]
            raise OtoscopeError(f"{told[0]} and {told[1]} are different recordings; compare explanations of one")


def default_names(explanations: Sequence[Explanation]) -> tuple[str, ...]:
    """Name explanations by model and method, and by target, seed and number where that does not tell them apart."""
    names = [f"{one.model} · {one.method}" for one in explanations]
    targets, seeds = [one.target.name for one in explanations], [f"seed {one.seed}" for one in explanations]
    for more in (targets, seeds, [f"#{place}" for place in range(1, len(names) + 1)]):
        if len(set(names)) == len(names):
            break
        if len(set(more)) > 1:
            names = [f"{name} · {word}" for name, word in zip(names, more, strict=True)]
    return tuple(names)


def common_time(explanations: Sequence[Explanation]) -> tuple[float, float]:
    """Start and duration in seconds of what all the spans share.

    Raises
    ------
    OtoscopeError
        If they share nothing.
    """
    start = max(one.span.start for one in explanations)
    end = min(one.span.start + one.audio.seconds for one in explanations)
    if end - start < MIN_COMMON:
        told = ", ".join(
            f"{one.model} {one.span.start:.2f}-{one.span.start + one.span.duration:.2f} s" for one in explanations
        )
        raise OtoscopeError(
            f"{explanations[0].audio.name}: the spans have no time in common ({told}); explain with one --start"
        )
    return start, end - start


def over(explanation: Explanation, start: float, duration: float, maps: Floats | None = None) -> Floats:
    """Map of an explanation, or other maps over its span, over a stretch of it, shape (…, n_bands, n_columns)."""
    own = explanation.span.start + grid.column_edges(explanation.audio.seconds)
    wanted = start + grid.column_edges(duration)
    # An outer column at either side takes what lies outside and is left away again.
    fenced = np.concatenate([[min(own[0], wanted[0]) - 1], wanted, [max(own[-1], wanted[-1]) + 1]])
    if 0 < own[-1] - wanted[-1] < 1e-3:  # a sample more or less, as rates differ
        fenced[-2] = own[-1]
    laid = explanation.map if maps is None else maps
    return np.asarray(laid @ grid.overlap(own, fenced)[1:-1].T)


def _target_notes(explanations: Sequence[Explanation], means: Sequence[str]) -> tuple[str, ...]:
    """Say where targets differ, in name or in meaning."""
    targets = dict.fromkeys((one.model, one.target.name) for one in explanations)
    if len({target.casefold() for _, target in targets}) == 1:
        return ()
    told = ", ".join(f"{model}: {target}" for model, target in targets)
    if len({meaning.casefold() for meaning in means}) == 1:
        return (f"asked about what each calls {means[0]} ({told})",)
    return (f"the targets differ ({told}), so a disagreement may be one about what was asked",)


def _notes(explanations: Sequence[Explanation], names: Sequence[str], duration: float) -> tuple[str, ...]:
    notes = []
    if any(one.audio.seconds > duration + grid.SECONDS / 2 for one in explanations):
        notes.append(f"the spans differ; compared are the {duration:.1f} s that all share")
    highest = max(one.audio.rate for one in explanations)
    limits = sorted({one.audio.rate for one in explanations if one.audio.rate < highest})
    for rate in limits:
        who = list(dict.fromkeys(one.model for one in explanations if one.audio.rate == rate))
        hear = "hears" if len(who) == 1 else "hear"
        notes.append(f"{', '.join(who)} {hear} nothing above {rate / 2000:g} kHz; pairs are compared below that")
    flat = [name for name, one in zip(names, explanations, strict=True) if not one.map.any()]
    if flat:
        notes.append(f"{', '.join(flat)}: the map is empty, so its agreement with others means nothing")
    return tuple(notes)
