"""A budget of calls: how many an explanation takes, and when it has enough.

``calls="auto"`` asks block by block of a design and stops when two independent halves of the calls (its odd and its
even blocks) share four of the five strongest parts *and* the wild bootstrap gives another seed at least 80 % to share
them too, or at `LIMIT` calls. ``python -m tests.bench_calls auto`` measures on real models how often a fresh seed does.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers.methods import Request
from otoscope.explainers.neighbourhoods import Masks, Neighbourhood, block_size, make_masks, settle
from otoscope.explainers.parts import Parts
from otoscope.explainers.routes import Asked, Progress, open_route
from otoscope.explainers.surrogate import fit_halves, pair_statistics, same_top
from otoscope.explainers.targets import Floats

LIMIT = 8192
ENOUGH = 0.8  # chance that another seed shares four of the five strongest parts


def ask_as_budgeted(request: Request, parts: Parts, calls: int | None) -> tuple[Neighbourhood, Masks, Floats, Asked]:
    """Ask a neighbourhood of so many calls, or, with None, until it is settled.

    Returns
    -------
    neighbourhood : {"design", "random", "exhaustive"}
        ``exhaustive`` instead of a design where that costs no more.
    masks : ndarray, shape (n, k)
    scores : ndarray, shape (n, n_classes)
    way : Asked

    Raises
    ------
    OtoscopeError
        If the budget does not fit the parts, or ``auto`` is asked of a neighbourhood that is no design.
    """
    settings = request.settings
    if calls is None and settings.neighbourhood != "design":
        raise OtoscopeError("--calls auto goes on block by block of a design; leave --neighbourhood as it is")
    kind = settle(settings.neighbourhood, parts.k, calls or LIMIT)
    masks = make_masks(kind, parts.k, calls or LIMIT, request.seed)
    way = open_route(request.model, parts, masks, route=settings.route, batch_size=request.batch_size)
    if calls is None and kind == "design":
        return kind, *_until_settled(request, masks, way), way
    return kind, masks, way.scores(masks, request.progress), way


def _until_settled(request: Request, masks: Masks, way: Asked) -> tuple[Masks, Floats]:
    n, size = len(masks) // 2, block_size(masks.shape[1])  # two blocks have as many rows as one has runs
    halves: list[Floats] = []
    for first in range(0, n, size):
        rows = np.r_[first : min(first + size, n)]
        told = partial(_further, request.progress, 2 * first, 2 * n)
        fresh = way.scores(masks[np.r_[rows, rows + n]], told)
        halves.append(fresh.reshape(2, len(rows), -1))
        asked = np.r_[: rows[-1] + 1]
        used = masks[np.r_[asked, asked + n]]
        scores = np.concatenate(halves, axis=1).reshape(len(used), -1)  # all rows, then all mirror images
        if settled(used, request.value(scores), seed=request.seed):
            break
    request.progress(2 * n, 2 * n)
    return used, scores


def _further(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


def settled(masks: Masks, values: Floats, *, seed: int = 0) -> bool:
    """Whether values (n,) at the masks (n, k) of a design are enough."""
    halves = fit_halves(masks, values, "design")
    if halves is None or not same_top(*halves):
        return False
    chance = pair_statistics(masks, values, seed=seed).top_again
    return chance is not None and chance >= ENOUGH


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, in bytes; None where the system does not tell.

    Not by getrusage where it can be avoided: its peak is handed down from the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    size: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(size) * (1 if sys.platform == "darwin" else 1024)
