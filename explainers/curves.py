"""Insertion and deletion curves: how the score rises and falls as parts are added and removed in some order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.explainers.faithfulness import area
from otoscope.explainers.targets import Floats


@dataclass(frozen=True, eq=False)
class Curves:
    """Values on the explained scale as parts are removed or added, the first of an order first.

    Attributes
    ----------
    counts : ndarray of int, shape (n_steps + 1,)
    deletion, insertion : ndarray, shape (n_orders, n_steps + 1)
        In the order of the weights, of energy, and of chance (the mean).
    """

    counts: npt.NDArray[np.intp]
    deletion: Floats
    insertion: Floats

    def gain(self) -> Floats:
        """Take the area under deletion from that under insertion, for each order, (n_orders,)."""
        pairs = zip(self.insertion, self.deletion, strict=True)
        return np.array([area(self.counts, added) - area(self.counts, removed) for added, removed in pairs])
