"""How many calls an explanation needs: ``python -m tests.bench_calls [stability|zoom|estimators|auto] … [MODEL …]``.

All figures come from the pools of `tests.pools`: real music, three models, 64 default parts.

stability
    Agreement of two seeds (Spearman's rank correlation, overlap of the five strongest parts) for random, Hadamard and
    orthogonal designs of 256 to 4,096 calls, and how many random calls it takes to reach what a design reaches.
zoom
    The same of the *maps* of two seeds (rank correlation on the common grid, overlap of the hottest tenth), for one
    look at 64 parts by random calls and for `lime` as it comes, which zooms in.
estimators
    What else might save calls, at the same calls: shrinking each weight towards 0 by what its energy lets expect, and a
    control variate learnt from the same calls. The error is the mean squared distance from the weights that the other
    seeds' 4,096 calls give.
auto
    Calls that ``--calls auto`` takes, and how often two seeds that both say they are settled share four of the five
    strongest parts.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator

import numpy as np
from scipy.optimize import minimize

from otoscope.adapters.whole_file import whole_file
from otoscope.explainers.agreement import top_k_iou
from otoscope.explainers.budget import settled
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Outcome, spread
from otoscope.explainers.methods import Settings
from otoscope.explainers.neighbourhoods import block_size
from otoscope.explainers.surrogate import fit, same_top, strongest
from tests.bench import spearman
from tests.builders import Floats
from tests.pools import CALLS, POOLS, SEEDS, Case, Pool, cases, pool

SIZES = (256, 512, 1024, 2048, 4096)
LOOKS = (512, 1024, 2048)

wanted: list[str] = []  # models; all where empty


def weights(one: Pool) -> Floats:
    """Fit as `lime` does; a Hadamard plan is a design too."""
    mirrored = bool((one.masks[: len(one.masks) // 2] != one.masks[len(one.masks) // 2 :]).all())
    return fit(one.masks, one.values, "design" if mirrored else "random").weights


def pools(one: Case, name: str, recording: str, kind: str) -> list[Pool]:
    """Read the pools of all seeds."""
    return [pool(one, name, recording, kind, seed) for seed in range(SEEDS[kind])]


def agreement(found: list[Floats]) -> tuple[float, float]:
    """Mean rank correlation and mean overlap of the five strongest parts, over pairs of seeds."""
    pairs = list(itertools.combinations(found, 2))
    ranks = [spearman(a, b) for a, b in pairs]
    return float(np.mean(ranks)), float(np.mean([len(strongest(a) & strongest(b)) / 5 for a, b in pairs]))


def by_model() -> Iterator[tuple[str, list[tuple[str, Case]]]]:
    """Group the cases by model."""
    for name, group in itertools.groupby(cases(*wanted), key=lambda one: one[0]):
        yield name, [(recording, one) for _, recording, one in group]


def stability() -> None:
    """Print the agreement of seeds."""
    print("\n## Agreement of two seeds, by calls\n")
    print("| model | plan | " + " | ".join(f"{n:,}" for n in SIZES) + " |")
    print("|---|---|" + "---|" * len(SIZES))
    for name, group in by_model():
        curves = {}
        for kind in SEEDS:
            rows = [
                [agreement([weights(p.first(n)) for p in pools(one, name, r, kind)]) for n in SIZES] for r, one in group
            ]
            curves[kind] = np.mean(rows, axis=0)  # (n_sizes, 2)
            cells = " | ".join(f"{ranks:.2f} / {top:.2f}" for ranks, top in curves[kind])
            print(f"| {name} | {kind} | {cells} |", flush=True)
        for figure, what in enumerate(("Spearman", "top 5")):
            told = [_random_calls(curves["random"][:, figure], level) for level in curves["design"][:, figure]]
            print(f"| {name} | random calls for the design's {what} | " + " | ".join(told) + " |")


def _random_calls(curve: Floats, level: float) -> str:
    """Find the random calls that reach a level, by interpolation over log calls."""
    best = np.maximum.accumulate(curve)
    if level > best[-1]:
        return f"> {SIZES[-1]:,}"
    return f"{2 ** float(np.interp(level, best, np.log2(SIZES))):,.0f}"


def zoom() -> None:
    """Print the agreement of the maps of two seeds."""
    print("\n## Agreement of the maps of two seeds, by calls\n")
    print("| model | plan | " + " | ".join(f"{n:,}" for n in LOOKS) + " |")
    print("|---|---|" + "---|" * len(LOOKS))
    for name, group in by_model():
        rows, own_rows = [], []
        for recording, one in group:
            seeds = pools(one, name, recording, "random")[:2]
            rows.append([alike(*(laid(one, p.first(n)) for p in seeds)) for n in SIZES])
            pairs = [[zoomed(one, name, recording, n, seed) for seed in (0, 1)] for n in LOOKS]
            own_rows.append([alike(*pair) for pair in pairs])
        plain, own = np.mean(rows, axis=0), np.mean(own_rows, axis=0)  # (n_sizes, 2)
        for kind, curve in (("random", plain[[SIZES.index(n) for n in LOOKS]]), ("lime", own)):
            cells = " | ".join(f"{rank:.2f} / {top:.2f}" for rank, top in curve)
            print(f"| {name} | {kind} | {cells} |", flush=True)
        for figure, what in enumerate(("correlation", "overlap")):
            found = [_random_calls(plain[:, figure], level) for level in own[:, figure]]
            print(f"| {name} | random calls for that {what} | " + " | ".join(found) + " |")


def alike(a: Floats, b: Floats) -> tuple[float, float]:
    """Compare two maps: rank correlation, and overlap of the hottest tenth."""
    return spearman(a.ravel(), b.ravel()), top_k_iou(a, b)


def laid(one: Case, found: Pool) -> Floats:
    """Lay the weights of one look on the common grid."""
    return spread(Outcome(one.parts, weights(found), len(found.masks)))


def zoomed(one: Case, name: str, recording: str, calls: int, seed: int) -> Floats:
    """Read the map of `lime` as it comes, or make and keep it."""
    path = POOLS / f"{name}-{recording}-zoomed-{calls}-{seed}.npy"
    if not path.exists():
        settings = Settings(calls=calls, gates="none")
        made = explain(one.model.model, one.parts.audio, target=one.target.name, settings=settings, seed=seed)
        with whole_file(path) as partial, partial.open("wb") as file:
            np.save(file, made.map)
    return np.asarray(np.load(path))


def estimators() -> None:
    """Print what estimators other than least squares bring at the same calls."""
    print("\n## Other estimators of the same designed calls\n")
    print("| model | calls | estimator | error, least squares = 1 | Spearman of two seeds | top 5 |")
    print("|---|---|---|---|---|---|")
    ways: dict[str, Callable[[Case, Pool], Floats]] = {
        "least squares": lambda _, one: weights(one),
        "shrunk by energy": shrunk,
        "learnt control variate": lambda _, one: controlled(one),
    }
    for name, group in by_model():
        for calls in (256, 512, 1024):
            rows: dict[str, list[tuple[float, ...]]] = {way: [] for way in ways}
            for recording, one in group:
                all_pools = pools(one, name, recording, "design")
                references = [weights(p) for p in all_pools]
                for way, estimate in ways.items():
                    found = [estimate(one, p.first(calls)) for p in all_pools]
                    others = [
                        np.mean([r for j, r in enumerate(references) if j != i], axis=0) for i in range(len(found))
                    ]
                    error = np.mean([np.mean((w - o) ** 2) for w, o in zip(found, others, strict=True)])
                    rows[way].append((float(error), *agreement(found)))
            plain = np.array(rows["least squares"])[:, 0]
            for way, figures in rows.items():
                table = np.array(figures)
                ratio = np.exp(np.mean(np.log(table[:, 0] / plain)))
                ranks, top = table[:, 1:].mean(axis=0)
                print(f"| {name} | {calls:,} | {way} | {ratio:.2f} | {ranks:.3f} | {top:.2f} |", flush=True)


def shrunk(one: Case, found: Pool) -> Floats:
    """Shrink by empirical Bayes: w_j ~ N(0, exp(a + b log energy_j)), a and b by maximum likelihood."""
    surrogate = fit(found.masks, found.values, "design")
    w, se = surrogate.weights, surrogate.se
    if se is None:
        raise TypeError("a design has errors")
    level = np.log(one.parts.energy + 1e-9)
    level = (level - level.mean()) / level.std()

    def variance(at: Floats) -> Floats:
        return np.asarray(np.exp(np.clip(at[0] + at[1] * level, -20, 20)) * w.var())

    def against(at: Floats) -> float:
        total = variance(at) + se**2
        return float(0.5 * np.sum(np.log(total) + w**2 / total) + 0.005 * at[1] ** 2)

    prior = variance(minimize(against, np.zeros(2)).x)
    return np.asarray(w * prior / (prior + se**2))


def controlled(found: Pool) -> Floats:
    """Learn odd functions of the parts, linear and cubic, by kernel regression; their main effects are known exactly.

    K = L + r L³ with L(x, x′) = Σ a_j x_j x_j′, x = ±1 and a_j ∝ |w_j|: what is strong alone is strong together. r and
    the ridge by leaving out mirror pairs. From E[x_j L³] the main effects follow in closed form.
    """
    n = len(found.masks) // 2
    x = 2.0 * found.masks[:n] - 1
    difference = (found.values[:n] - found.values[n:]) / 2
    w = weights(found)
    a = np.abs(w) + 0.02 * np.abs(w).mean()
    a /= a.sum()
    linear = (x * a) @ x.T
    best: tuple[float, Floats] = (np.inf, w)
    for ratio, ridge in itertools.product((0.0, 0.3, 1.0, 3.0, 10.0), (0.003, 0.03, 0.3)):
        inverse = np.linalg.inv(linear + ratio * linear**3 + ridge * np.eye(n))
        alpha = inverse @ difference
        error = float(np.mean((alpha / np.diag(inverse)) ** 2))
        if error < best[0]:
            effects = (x.T @ alpha) * (a + ratio * a * (3 * (a**2).sum() - 2 * a**2))
            best = (error, 2 * effects)
    return best[1]


def auto() -> None:
    """Print what ``--calls auto`` takes, and whether it keeps its promise."""
    print("\n## --calls auto\n")
    print("| model | calls, median | least | most | settled | pairs of seeds that share four of the five strongest |")
    print("|---|---|---|---|---|---|")
    kept: list[bool] = []
    for name, group in by_model():
        calls: list[int] = []
        mine: list[bool] = []
        sure: list[bool] = []
        for recording, one in group:
            runs = [until_settled(p) for p in pools(one, name, recording, "design")]
            calls += [n for _, n, _ in runs]
            sure += [done for _, _, done in runs]
            mine += [same_top(a[0], b[0]) for a, b in itertools.combinations(runs, 2) if a[2] and b[2]]
        kept += mine
        cells = [f"{np.median(calls):,.0f}", f"{min(calls):,}", f"{max(calls):,}", f"{sum(sure)} of {len(sure)}"]
        print(f"| {name} | " + " | ".join(cells) + f" | {sum(mine)} of {len(mine)} |", flush=True)
    print(f"| all | | | | | {sum(kept)} of {len(kept)} ({np.mean(kept):.0%}) |")


def until_settled(one: Pool) -> tuple[Floats, int, bool]:
    """Go on two blocks at a time, as `otoscope.explainers.budget` does: weights, calls, and whether it settled."""
    step = 2 * block_size(one.masks.shape[1])
    for calls in range(step, CALLS + 1, step):
        found = one.first(calls)
        if settled(found.masks, found.values):
            return weights(found), calls, True
    return weights(found), calls, False


MEASUREMENTS = {"stability": stability, "zoom": zoom, "estimators": estimators, "auto": auto}


def main() -> None:
    """Run the measurements named on the command line, or all, of the models named there, or all."""
    wanted.extend(name for name in sys.argv[1:] if name not in MEASUREMENTS)
    for name in [name for name in sys.argv[1:] if name in MEASUREMENTS] or list(MEASUREMENTS):
        MEASUREMENTS[name]()


if __name__ == "__main__":
    main()
