"""Loading: how a model is to be loaded, and what its loader may do.

A loader of a kind of cards is a function ``(card, loading) -> Model``. `Loading` carries what the user said: where to
run, whether code from the model may run (``--trust``), whether the network may be used (``--allow-network``).
`require` imports an optional framework, or says how to install it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import BATCH_SIZE


@dataclass(frozen=True)
class Loading:
    """How a model is to be loaded.

    Attributes
    ----------
    device : str
        Where a torch model runs, e.g. ``cpu`` or ``cuda``.
    batch_size : int
        Most windows in memory at once.
    trust : bool
        Whether code that comes with the model may run.
    allow_network : bool
        Whether sound may be sent to an address.
    """

    device: str = "cpu"
    batch_size: int = BATCH_SIZE
    trust: bool = False
    allow_network: bool = False

    def run_code(self, name: object, what: str) -> None:
        """Ask whether code may run.

        Raises
        ------
        OtoscopeError
            If the user did not say so; `what` tells what would run.
        """
        if not self.trust:
            raise OtoscopeError(f"{name}: would run {what}; say --trust (trust=True) if you trust where it comes from")


def require(module: str, extra: str) -> Any:
    """Import an optional framework.

    Raises
    ------
    OtoscopeError
        If it is not installed, with the line that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        why = (
            "is not installed" if isinstance(error, ModuleNotFoundError) and error.name == root else f"fails ({error})"
        )
        raise OtoscopeError(f"{root} {why}; run: pip install 'otoscope[{extra}]'") from None
