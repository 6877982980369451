"""Neighbourhoods: which parts are switched on in each perturbed recording.

``design`` (default)
    Two-level fold-over designs: each run has its mirror image, so main effects are free of interactions of two parts.
    Runs come from the dual of the extended double-error-correcting BCH code (Bose & Ray-Chaudhuri, 1960; as
    orthogonal arrays: Hedayat, Sloane & Stufken, 1999, ch. 5): with n the smallest power of two ≥ k, part j is an
    element x_j of the field GF(n), and run (a, b) switches it by the parity Tr(a x_j + b x_j³). For one b the n runs
    and their mirror images are a *block*, in which main effects are uncorrelated with one another. All n blocks
    together are an orthogonal array of strength 5, in which interactions of three and four parts cancel too; some of
    them, drawn without replacement, come the closer to that the more there are. Elements, signs and the order of
    blocks are drawn afresh by the seed. Where all 2^k combinations cost no more, these are taken.
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
Ints = npt.NDArray[np.intp]
Neighbourhood = Literal["design", "random", "exhaustive"]

MOST_EXHAUSTIVE = 10
# Primitive polynomials over GF(2), by degree (Lidl & Niederreiter, 1997, table D).
PRIMITIVE = {
    3: 0b1011,
    4: 0b10011,
    5: 0b100101,
    6: 0b1000011,
    7: 0b10001001,
    8: 0b100011101,
    9: 0b1000010001,
    10: 0b10000001001,
    11: 0b100000000101,
    12: 0b1000001010011,
}


def settle(neighbourhood: Neighbourhood, k: int, calls: int) -> Neighbourhood:
    """Take all combinations instead of a design where they cost no more.

    >>> settle("design", 2, 2048), settle("design", 64, 2048)
    ('exhaustive', 'design')
    """
    return "exhaustive" if neighbourhood == "design" and k <= MOST_EXHAUSTIVE and 2**k <= calls else neighbourhood


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
    refuse_too_few(k, calls)
    if neighbourhood == "random":
        masks = rng.integers(0, 2, size=(calls, k), dtype=np.uint8)
        masks[0] = 1
        return masks
    return _design(k, calls, rng)


def refuse_too_few(k: int, calls: int) -> None:
    """Raise an error where there are fewer than four calls for each part."""
    if k > calls / 4:
        raise too_few(k, calls, 4 * k)


def too_few(k: int, calls: int, enough: int) -> OtoscopeError:
    """Say that there are too few calls for so many parts."""
    return OtoscopeError(f"{calls} calls are too few for {k} parts; give at least {enough} calls, or fewer parts")


def _exhaustive(k: int) -> Masks:
    if k > MOST_EXHAUSTIVE:
        raise OtoscopeError(
            f"all combinations of {k} parts are too many; use at most {MOST_EXHAUSTIVE} parts (n_parts)"
        )
    return all_combinations(k)


def all_combinations(k: int) -> Masks:
    """List all masks (2^k, k), the first all off, the last all on; row i and row 2^k − 1 − i are mirror images."""
    return ((np.arange(2**k)[:, None] >> np.arange(k)) & 1).astype(np.uint8)


def block_size(k: int) -> int:
    """Count the runs in one block of a design for k parts, mirror images included.

    >>> block_size(64), block_size(50), block_size(1)
    (128, 128, 16)
    """
    return 2 * (1 << _degree(k))


def _degree(k: int) -> int:
    """Degree m of the field GF(2^m) that has an element for each part; below 3 the code is none."""
    return max(3, (k - 1).bit_length())


def _design(k: int, calls: int, rng: np.random.Generator) -> Masks:
    n = 1 << _degree(k)
    powers, logs = _field(_degree(k))
    trace = _trace(powers, logs)

    def product(a: Ints, b: Ints) -> Ints:
        both = powers[(logs[a] + logs[b]) % (n - 1)]
        return np.where((a == 0) | (b == 0), 0, both)

    halves: list[Masks] = []
    wanted = -(-calls // (2 * n))
    while len(halves) < wanted:  # more than the whole array: another one
        x = rng.permutation(n)[:k]
        signs = rng.integers(0, 2, size=k, dtype=np.uint8)
        cubes = product(product(x, x), x)
        linear = product(np.arange(n)[:, None], x)  # (n, k)
        for b in rng.permutation(n)[: wanted - len(halves)]:
            halves.append(trace[linear ^ product(b, cubes)] ^ signs)
    half = np.concatenate(halves)  # (calls / 2, k)
    return np.concatenate([half, 1 - half])


def _field(degree: int) -> tuple[Ints, Ints]:
    """Powers of a primitive element of GF(2^degree), and logarithms to its base (that of 0 means nothing)."""
    n = 1 << degree
    powers = np.ones(n - 1, dtype=np.intp)
    for i in range(1, n - 1):
        doubled = int(powers[i - 1]) << 1
        powers[i] = doubled ^ PRIMITIVE[degree] if doubled & n else doubled
    logs = np.zeros(n, dtype=np.intp)
    logs[powers] = np.arange(n - 1)
    return powers, logs


def _trace(powers: Ints, logs: Ints) -> Masks:
    """Trace of every element, x + x² + x⁴ + …, which is 0 or 1; shape (n,)."""
    elements = np.arange(len(logs))
    total = square = elements
    for _ in range(len(logs).bit_length() - 2):
        square = np.where(square == 0, 0, powers[(2 * logs[square]) % (len(logs) - 1)])
        total = total ^ square
    return total.astype(np.uint8)
