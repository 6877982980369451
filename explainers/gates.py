"""Gates: what every explanation is asked before anyone believes it.

An explanation that orders the parts no better than their loudness does, or than chance, explains nothing (Haunschmid et
al., 2020; Prinz et al., 2021); one that does not change when the model's weights are thrown away explains the sound and
not the model (Adebayo et al., 2018). `quick` asks at most a tenth more calls than the explanation had:

over_random, over_energy
    Insertion and deletion curves of the parts (Petsiuk et al., 2018), in the order of the weights, of loudness, and of
    chance: by how much insertion − deletion is larger, in ratio to twice the range of all values; −1 to 1.
fit
    Correlation of Σ z_j w_j with the values of the calls behind the weights.
kept, lost
    Share of score − score_off that the evidence alone keeps, and that is lost without it (the round trip). Below 0 the
    evidence by itself does not carry the score. Only where the recording scores above all parts off.
in_silence
    `over_random` with silence as off value, where the explanation has another: one that hides a cue leaves it on.
place
    How hot the map's hottest cell stays, in ratio to the hottest, where attribution is spread within its part by area
    and not by energy: which cell of a part the model listens to is a guess, and near 0 the maximum is that guess.
effect
    |score − score_off| in ratio to the range of all values asked for: near 0, switching everything off does nothing.

`full` repeats the method, each a correlation of the weights with those found

twin
    in the same network with fresh weights (should be low);
seed, off_values, routes
    from another seed, with the other off values (the lowest), by the other route (should be high).

Which of them is passed, and what follows, is `otoscope.explainers.verdict`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, get_args

import numpy as np

from otoscope.adapters.model import capability
from otoscope.adapters.resampling import resampled
from otoscope.adapters.windows import Windowed
from otoscope.explainers.curves import Curves
from otoscope.explainers.evidence import evidence_parts, members
from otoscope.explainers.explanation import Explanation, Outcome, RoundTrip, spread
from otoscope.explainers.faithfulness import curve_masks, ranking
from otoscope.explainers.methods import CALLS, Method, Request
from otoscope.explainers.neighbourhoods import Masks
from otoscope.explainers.parts import Bools, Off
from otoscope.explainers.routes import Route
from otoscope.explainers.surrogate import correlation
from otoscope.explainers.targets import Floats

BUDGET = 0.1
MOST_STEPS = 16
N_RANDOM = 4
FEW = 100  # calls below which one order by chance must do

Figures = dict[str, float | None]


class Opened(NamedTuple):
    """What the gates say, the curves behind that, and what they cost."""

    figures: Figures
    curves: Curves | None
    n_calls: int


def open_gates(request: Request, entry: Method, outcome: Outcome, round_trip: RoundTrip) -> Opened:
    """Ask what the settings want: none, `quick`, or `full` too."""
    wanted = request.settings.gates
    if wanted == "none":
        return Opened({}, None, 0)
    opened = quick(request, entry, outcome, round_trip)
    if wanted == "quick":
        return opened
    figures, n_calls = full(request, entry, outcome)
    return Opened({**opened.figures, **figures}, opened.curves, opened.n_calls + n_calls)


def budget(request: Request, entry: Method, outcome: Outcome) -> int:
    """Count the calls that the curves may take: a tenth of those of the method, or of LIME's by default."""
    calls = request.settings.calls if "calls" in entry.uses else CALLS
    return int(BUDGET * (calls if isinstance(calls, int) else outcome.n_calls))


def quick(request: Request, entry: Method, outcome: Outcome, round_trip: RoundTrip) -> Opened:
    """Ask what needs few calls or none; no curves where the budget is too small for two steps."""
    full, off = round_trip.original.scaled, round_trip.off.scaled
    asked, calls = Memo(request, outcome), budget(request, entry, outcome)
    elsewise = request.settings.off != "silence"
    curves = draw_curves(outcome, asked, calls // 2 if elsewise else calls, seed=request.seed)
    seen = [full, off, *asked.values()]
    figures: Figures = {"over_random": None, "over_energy": None, "fit": fit_of_calls(request, outcome)}
    span = float(np.ptp(seen))
    if curves is not None and span > 0:
        own, energy, chance = curves.gain()
        figures |= {"over_random": float(own - chance) / (2 * span), "over_energy": float(own - energy) / (2 * span)}
    share = float(full - off)
    if share > 1e-12:
        figures["kept"] = float(round_trip.evidence.scaled - off) / share
        figures["lost"] = float(full - round_trip.complement.scaled) / share
    figures["effect"] = abs(share) / span if span > 0 else 0.0
    figures["place"] = steady_place(outcome)
    if not elsewise:
        return Opened(figures, curves, asked.n_calls)
    figures["in_silence"], n_calls = in_silence(request, outcome, calls // 2)
    return Opened(figures, curves, asked.n_calls + n_calls)


def steady_place(outcome: Outcome) -> float | None:
    """Tell how hot the hottest cell stays under the other way to spread; None for a map of the method's own."""
    if outcome.map is not None or not outcome.weights.any():
        return None
    by_energy = np.abs(spread(outcome))
    by_area = np.abs(spread(outcome, np.ones_like(outcome.parts.power)))
    return float(by_area.flat[by_energy.argmax()] / by_area.max())


def in_silence(request: Request, outcome: Outcome, calls: int) -> tuple[float | None, int]:
    """Tell `over_random` as it is where the parts are really gone, and the calls that took."""
    gone = replace(outcome, parts=outcome.parts.with_(off="silence"), masks=None, scores=None, ask=None)
    asked = Memo(request, gone)
    curves = draw_curves(gone, asked, calls, seed=request.seed)
    span = float(np.ptp(asked.values())) if curves is not None else 0.0
    if curves is None or span <= 0:
        return None, asked.n_calls
    own, _, chance = curves.gain()
    return float(own - chance) / (2 * span), asked.n_calls


class Memo:
    """Values of mixes of the parts; what the method asked for already is not asked again.

    The calls of a two-level explanation are another model's, so they are left aside.
    """

    def __init__(self, request: Request, outcome: Outcome) -> None:
        self.request, self.outcome, self.n_calls = request, outcome, 0
        self.known: dict[bytes, float] = {}
        if own_calls(outcome):
            values = request.value(outcome.scores)  # type: ignore[arg-type]
            self.known = {mask.tobytes(): float(v) for mask, v in zip(outcome.masks, values, strict=True)}  # type: ignore[arg-type]

    def values(self) -> list[float]:
        """All values that are known."""
        return list(self.known.values())

    def __call__(self, masks: Masks) -> Floats:
        """Give the values (n,) of masks (n, k)."""
        unique = np.unique(masks, axis=0)
        fresh = unique[[mask.tobytes() not in self.known for mask in unique]]
        if len(fresh):
            self.n_calls += len(fresh)
            answers = self.request.value(self._ask(fresh))
            self.known |= {mask.tobytes(): float(value) for mask, value in zip(fresh, answers, strict=True)}
        return np.array([self.known[mask.tobytes()] for mask in masks])

    def _ask(self, masks: Masks) -> Floats:
        if self.outcome.ask is not None and own_calls(self.outcome):
            return self.outcome.ask(masks)
        parts, model, size = self.outcome.parts, self.request.model, self.request.batch_size
        batches = (masks[i : i + size] for i in range(0, len(masks), size))
        return np.concatenate([model.predict(resampled(parts.compose(b), parts.audio.rate, model)) for b in batches])


def own_calls(outcome: Outcome | Explanation) -> bool:
    """Whether the calls that are kept are of the explained model and switch single parts."""
    return outcome.masks is not None and outcome.scores is not None and "effects" not in outcome.native


def draw_curves(outcome: Outcome, values: Callable[[Masks], Floats], calls: int, *, seed: int) -> Curves | None:
    """Ask for the curves in the orders of the weights, of energy, and of chance."""
    k, n_weights = outcome.parts.k, len(outcome.weights)
    n_random = 1 if calls < FEW else N_RANDOM
    steps = min(MOST_STEPS, n_weights, 1 + (calls - 2) // (2 * (2 + n_random)))
    if steps < min(2, n_weights):
        return None
    energy = members(outcome.groups, k) @ outcome.parts.energy
    rng = np.random.default_rng(seed)
    orders = [ranking(outcome.weights), ranking(energy), *(rng.permutation(n_weights) for _ in range(n_random))]
    found = [curve_masks(order, steps) for order in orders]
    counts = found[0][0]
    keep = [_parts_of(outcome, insertion) for _, _, insertion in found]
    drop = [1 - _parts_of(outcome, 1 - deletion) for _, deletion, _ in found]
    answers = values(np.concatenate(keep + drop)).reshape(2, len(orders), len(counts))
    insertion, deletion = (np.stack([*one[:2], one[2:].mean(axis=0)]) for one in answers)
    return Curves(counts, deletion, insertion)


def _parts_of(outcome: Outcome, selections: Masks) -> Masks:
    """Which parts selections of weights (n, n_weights) stand for, (n, k)."""
    if outcome.groups is None:
        return selections.astype(np.uint8)
    return np.stack([evidence_parts(outcome.groups, one.astype(bool), outcome.parts.k) for one in selections]).astype(
        np.uint8
    )


def fit_of_calls(request: Request, outcome: Outcome) -> float | None:
    """Correlate what the weights say of every call with what the model said; None without calls of its own."""
    if not own_calls(outcome) or outcome.masks is None or outcome.scores is None:
        return None
    values = request.value(outcome.scores)
    told = weights_on(outcome.masks, outcome.groups) @ outcome.weights
    return None if np.ptp(values) == 0 or np.ptp(told) == 0 else float(np.corrcoef(values, told)[0, 1])


def weights_on(masks: Masks, groups: Bools | None) -> Floats:
    """Which weights are on, all their parts being so: masks (n, k) to (n, n_weights)."""
    on = masks if groups is None else 1 - ((1 - masks) @ groups.T > 0)
    return on.astype(np.float64)


def full(request: Request, entry: Method, outcome: Outcome) -> tuple[Figures, int]:
    """Repeat the method on a randomised twin, with another seed, the other off values, and the other route."""
    figures: Figures = {"twin": None, "seed": None, "off_values": None, "routes": None}
    n_calls, off_values = 0, []
    for name, other in _repeats(request, entry, outcome):
        again = entry.run(other)
        n_calls += again.n_calls
        alike = correlation(outcome.weights, again.weights) if len(again.weights) == len(outcome.weights) else None
        if name == "off_values":
            off_values.append(alike)
        else:
            figures[name] = alike
    known = [alike for alike in off_values if alike is not None]
    figures["off_values"] = min(known) if known else None
    return figures, n_calls


def _repeats(request: Request, entry: Method, outcome: Outcome) -> Iterator[tuple[str, Request]]:
    if not entry.needs_two_level:  # whose parts are at another model's rate
        request = replace(request, given=outcome.parts)
    settings, inner = request.settings, request.model.model
    randomised = getattr(inner, "randomised", None)
    if randomised is not None and not entry.needs_two_level:
        yield "twin", replace(request, model=Windowed(randomised(request.seed), request.model.n_samples))
    if {"calls", "n_draws"} & entry.uses:
        yield "seed", replace(request, seed=(request.seed + 1) % 2**32)
    for off in get_args(Off):
        if off != settings.off:
            given = None if request.given is None else request.given.with_(off=off)
            whole, changed = request.whole.with_(off=off), replace(settings, off=off)
            yield "off_values", replace(request, whole=whole, given=given, settings=changed)
    if "route" in entry.uses and capability(inner, "spectrogram") is not None and not entry.needs_two_level:
        other: Route = "waveform" if outcome.route == "bands" else "bands"
        if capability(inner, "spectrogram").front_end.exponent == 2:
            yield "routes", replace(request, settings=replace(settings, route=other))
