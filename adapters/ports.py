"""Ports: what a graph of ONNX or TFLite takes in and gives out, and the notation errors show it in.

A `Port` has a name, a shape and a type, written ``log_mel (n, 187, 96) float``; a size that may be anything is a name
or ``?``. It brings values to its own type (whole numbers, half precision, 8-bit numbers with a scale) and back. Names
come from files that nobody vouches for, so they are shown through `plain`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError, one_line

Array = npt.NDArray[Any]

TYPES = {"float32": "float", "float64": "double"}  # in ONNX's words; others are called as in numpy
MAX_NAME = 80
MAX_FILL = 64 << 20  # bytes that a number of the card may be spread over


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes
    ----------
    name : str
    shape : tuple of int or str
        A name or ``?`` for what may have any size.
    dtype : numpy.dtype, optional
        None where it holds no numbers.
    scale, zero : float, int
        Of quantised numbers: value = scale · (number − zero); a scale of 0 where they are not quantised.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: np.dtype[Any] | None
    scale: float = 0.0
    zero: int = 0

    def __str__(self) -> str:
        """Say name, shape and type."""
        sizes = ", ".join(map(str, self.shape)) + ("," if len(self.shape) == 1 else "")
        kind = "no numbers" if self.dtype is None else TYPES.get(self.dtype.name, self.dtype.name)
        return one_line(f"{self.name[:MAX_NAME]} ({sizes}) {kind}")

    def encode(self, values: Array) -> Array:
        """Bring values to the port's own type; whole numbers are rounded and kept within their range."""
        if self.dtype is None:
            raise OtoscopeError(f"{self} takes no numbers")
        if self.scale:
            values = values / self.scale + self.zero
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            # In double precision, since single cannot hold the largest 32-bit number.
            values = np.clip(np.rint(np.asarray(values, dtype=np.float64)), limits.min, limits.max)
        return np.ascontiguousarray(values, dtype=self.dtype)

    def decode(self, numbers: Array) -> Array:
        """Bring what comes out of the port to floating numbers."""
        values = numbers if numbers.dtype == np.float64 else numbers.astype(np.float32, copy=False)
        return values if not self.scale else (values - self.zero) * np.float32(self.scale)

    def full(self, value: Any, n: int) -> Array:
        """Fill the port's shape with a number, `n` where the shape is open; a list must fit as it is."""
        try:
            given = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise OtoscopeError(
                f"{self} takes a number or a list of numbers, the card gives {_shown(value)}; correct it"
            ) from None
        shape = tuple(size if isinstance(size, int) and size >= 0 else n for size in self.shape)
        if given.ndim == 0:
            if math.prod(shape) * given.itemsize > MAX_FILL:
                raise OtoscopeError(
                    f"{self} would take {min(math.prod(shape), 10**18):.2g} numbers, more than {MAX_FILL >> 20} MB; "
                    "export the network with a smaller input"
                )
            given = np.full(shape, given)
        if given.shape != shape:
            raise OtoscopeError(f"the card gives {self} a list of shape {given.shape}; give one number, or that shape")
        return self.encode(given)


def _shown(value: object) -> str:
    """Show what a card gives; whole numbers of thousands of digits have no text."""
    try:
        return one_line(f"{value!r:.60}")
    except (ValueError, RecursionError):
        return "what cannot be written"


class Graph(Protocol):
    """A graph that has been opened."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What it takes in."""

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What it gives out."""

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str], /) -> list[Array]:
        """Answer with the outputs that are wanted for inputs of the right type."""


def told(ports: Sequence[Port]) -> str:
    """Say several ports."""
    shown = [str(port) for port in ports[:12]]
    return "; ".join(shown) + (f" … ({len(ports)} in all)" if len(ports) > 12 else "")
