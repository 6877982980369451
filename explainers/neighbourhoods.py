"""Neighbourhoods: which parts are switched on in each perturbed recording.

``design`` (default)
    Two-level fold-over screening designs (Plackett & Burman, 1946; Box & Hunter, 1961) in blocks of 2m runs, m the
    smallest power of two ≥ 2k: k columns of a Hadamard matrix, drawn and signed afresh in each block, and each run's
    mirror image. Main effects are uncorrelated with one another and free of pairwise interactions.
``random``
    The published neighbourhood (Ribeiro et al., 2016; Haunschmid et al., 2020): each part on with probability ½, the
    first row all on.
``exhaustive``
    All 2^k combinations, for k ≤ 10.

Masks are (n, k) arrays of 0 and 1. In a design, row i and row i + n/2 are mirror images.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError, unknown

Masks = npt.NDArray[np.uint8]
Neighbourhood = Literal["design", "random", "exhaustive"]

MOST_EXHAUSTIVE = 10


def make_masks(neighbourhood: Neighbourhood, k: int, calls: int, seed: int) -> Masks:
    """Make the masks of a neighbourhood, shape (n, k).

    Parameters
    ----------
    neighbourhood : {"design", "random", "exhaustive"}
    k : int
        Number of parts.
    calls : int
        Rows wanted; a design rounds up to whole blocks, ``exhaustive`` takes all.
    seed : int

    Raises
    ------
    OtoscopeError
        If there are too few calls for so many parts, or too many parts for all combinations.
    """
    if neighbourhood not in get_args(Neighbourhood):
        raise unknown("neighbourhood", neighbourhood, get_args(Neighbourhood))
    rng = np.random.default_rng(seed)
    if neighbourhood == "exhaustive":
        return _exhaustive(k)
    if k > calls / 4:
        raise OtoscopeError(f"{calls} calls are too few for {k} parts; give at least {4 * k} calls, or fewer parts")
    if neighbourhood == "random":
        masks = rng.integers(0, 2, size=(calls, k), dtype=np.uint8)
        masks[0] = 1
        return masks
    return _design(k, calls, rng)


def _exhaustive(k: int) -> Masks:
    if k > MOST_EXHAUSTIVE:
        raise OtoscopeError(
            f"all combinations of {k} parts are too many; use at most {MOST_EXHAUSTIVE} parts (n_parts)"
        )
    return ((np.arange(2**k)[:, None] >> np.arange(k)) & 1).astype(np.uint8)


def block_size(k: int) -> int:
    """Count the runs in one block of a design for k parts, mirror images included.

    >>> block_size(64), block_size(50), block_size(1)
    (256, 256, 4)
    """
    m = 2
    while m < 2 * k:
        m *= 2
    return 2 * m


def _design(k: int, calls: int, rng: np.random.Generator) -> Masks:
    from scipy.linalg import hadamard

    m = block_size(k) // 2
    signs = hadamard(m, dtype=np.int8)[:, 1:]  # the first column is constant
    blocks = []
    for _ in range(-(-calls // (2 * m))):
        columns = rng.choice(m - 1, size=k, replace=False)
        blocks.append(signs[:, columns] * rng.choice(np.array([-1, 1], dtype=np.int8), size=k))
    half = np.concatenate(blocks)  # (n / 2, k)
    return ((1 + np.concatenate([half, -half])) // 2).astype(np.uint8)
