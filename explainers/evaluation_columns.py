"""The columns of an evaluation: what is measured, how it is called, which way is better.

Named by what a user asks for: a metric of `otoscope.explainers.metrics`, or one that only an evaluation has. Light, so
that the command line can list them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from otoscope.adapters.errors import unknown
from otoscope.explainers.metrics import METRICS

RANKINGS = ("own", "energy", "random")  # orders of the parts: by weight, by energy, by chance
KS = (3, 5, 7, 9, 11)  # parts kept, as audioLIME's authors measured


@dataclass(frozen=True)
class Column:
    """One figure of an explanation.

    Attributes
    ----------
    title : str
    lower : bool
        Whether lower is better.
    metric : str
        What a user asks for to see it.
    ranks : bool
        Whether the orders by energy and by chance have it too.
    alike : bool
        Whether it can be compared between methods.
    """

    title: str
    lower: bool
    metric: str
    ranks: bool = False
    alike: bool = True

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↓" if self.lower else "↑"


COLUMNS = {
    "deletion": Column("deletion", True, "deletion", ranks=True),
    "insertion": Column("insertion", False, "insertion", ranks=True),
    "gain": Column("insertion − deletion", False, "gain", ranks=True),
    "gain_over_energy": Column("… more than by energy", False, "gain", alike=False),
    "gain_over_random": Column("… more than by chance", False, "gain", alike=False),
    "comprehensiveness": Column("comprehensiveness", False, "comprehensiveness"),
    "sufficiency": Column("sufficiency", True, "sufficiency"),
    "average_increase": Column("AI, %", False, "average_increase"),
    "average_drop": Column("AD, %", True, "average_drop"),
    "average_gain": Column("AG, %", False, "average_gain"),
    "faithfulness_to_filtering": Column("FF", False, "faithfulness_to_filtering"),
    "input_fidelity": Column("Fid-In", False, "input_fidelity"),
    "sparseness": Column("SPS", False, "sparseness"),
    "complexity": Column("COMP, nats", True, "complexity"),
    "infidelity": Column("infidelity", True, "infidelity", alike=False),
    **{f"top_{k}": Column(f"top-{k} fidelity", False, "top_k_fidelity") for k in KS},
    "max_sensitivity": Column("max-sensitivity", True, "max_sensitivity"),
    "seed_agreement": Column("seed agreement", False, "seed_agreement"),
    "seconds": Column("seconds", True, "seconds"),
    "calls": Column("calls", True, "calls"),
}

OWN_METRICS = {
    "gain": "insertion − deletion, and by how much it exceeds those of the orders by energy and by chance",
    "seed_agreement": "correlation of the weights with those from another seed; needs --gates full",
    "seconds": "time an explanation takes, gates included",
    "calls": "answers asked of the model for an explanation, gates included",
}
EVALUATED = {**METRICS, **OWN_METRICS}


def find_metrics(names: Iterable[str] | None) -> tuple[str, ...]:
    """Find the metrics that are asked for: all but the costly ones where None.

    Raises
    ------
    OtoscopeError
        If there is no such metric.
    """
    if names is None:
        return tuple(name for name in EVALUATED if name not in ("max_sensitivity", "seed_agreement"))
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in EVALUATED:
            raise unknown("metric", name, EVALUATED)
    return chosen
