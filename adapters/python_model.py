"""Functions as models: kind ``python``, any Python function from waveforms to scores.

::

    [model.settings]
    function = "score.py:predict"                  # beside the card, or "package.module:function"
    factory = false                                # true: function() makes the function; implied by arguments
    arguments = {checkpoint = "weights.pt"}        # function(checkpoint="weights.pt") makes the function

The function takes float32 waveforms (n, n_samples) and returns scores (n, n_classes). Running it needs trust. A file
beside the card may import its neighbours: the card's folder leads ``sys.path`` while its code runs and at no other
time, and modules from there are put away afterwards, so that two models with a neighbour of the same name each get
their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from otoscope.adapters.card import Card
from otoscope.adapters.code import find_function
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.loading import Loading
from otoscope.adapters.wrap import CallableModel, from_function


@dataclass(frozen=True)
class PythonSettings:
    """The section ``[model.settings]`` of kind ``python``.

    Attributes
    ----------
    function : str
        ``package.module:function``, or ``file.py:function`` beside the card.
    factory : bool
        Whether the function is called once to make the one that scores.
    arguments : dict
        What a factory is called with; where there are any, the function is a factory.
    """

    function: str
    factory: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


SETTINGS = (PythonSettings,)


def from_card(card: Card, loading: Loading) -> CallableModel:
    """Make a model of the function that a card names.

    Raises
    ------
    OtoscopeError
        If nobody allowed it to run, it cannot be found, or its module or factory fails.
    """
    card.refuse("pool")
    if "function" not in card.model.settings:
        fault = (
            "[model] path means nothing to kind python; remove it, and" if card.model.path else "lacks the function;"
        )
        raise OtoscopeError(f'{fault} write function = "file.py:name" under [model.settings]')
    card.refuse("path")
    settings = card.settings(PythonSettings)
    name, neighbours = settings.function, Neighbours(card.path.resolve().parent)
    # Only a file beside the card sees its neighbours; an installed package is what it is.
    around = neighbours if name.partition(":")[0].endswith(".py") else None
    function = _guarded(find_function, name, around)(card, name, loading)
    if settings.factory or settings.arguments:
        function = _guarded(function, name, around)(**settings.arguments)
        if not callable(function):
            raise OtoscopeError(f"{name} made {type(function).__name__}, no function; return the function that scores")
    score = _guarded(function, name, around)
    answer = card.model.answer
    picked = score if answer is None else lambda waveforms: _picked(score(waveforms), answer, name)
    return from_function(card, loading, picked)


def _guarded(function: Callable[..., Any], name: str, around: Neighbours | None) -> Callable[..., Any]:
    """Run a function among its neighbours; whatever it raises becomes one line that names it."""

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            if around is None:
                return function(*args, **kwargs)
            with around.visible():
                return function(*args, **kwargs)
        except OtoscopeError as error:
            text = " ".join(str(error).split())
            raise OtoscopeError(text if name.partition(":")[0] in text else f"{name}: {text}") from None
        except (Exception, SystemExit) as error:  # it is the user's code, which may raise anything
            text = " ".join(str(error).split())
            raise OtoscopeError(f"{name} fails ({type(error).__name__}: {text:.200}); correct it") from error

    return run


def _picked(raw: Any, answer: str, name: str) -> Any:
    """Take the answer that counts from a function that returns several by name."""
    if not isinstance(raw, dict) or answer not in raw:
        came = ", ".join(map(str, raw)) if isinstance(raw, dict) else type(raw).__name__
        raise OtoscopeError(f"{name} returned no {answer!r}, which [model] answer names, but {came:.100}")
    return raw[answer]


class Neighbours:
    """Modules in the folder of a card, visible while its code runs.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    modules : dict
        What the code has imported from the folder so far.
    places : list of str
        What stands before ``sys.path``: the folder, and what the code itself put there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: dict[str, ModuleType] = {}
        self.places = [str(folder)]

    @contextmanager
    def visible(self) -> Iterator[None]:
        """Let the code see its folder and its modules for a moment; everything else is put back as it was."""
        path, modules = list(sys.path), dict(sys.modules)
        sys.path[:0] = self.places
        sys.modules.update(self.modules)
        try:
            yield
        finally:
            self.places = [place for place in sys.path if place not in path or place == str(self.folder)]
            sys.path[:] = path
            roots = {name.partition(".")[0] for name in modules}
            for name in list(sys.modules):
                if name in self.modules or (name.partition(".")[0] not in roots and self._holds(sys.modules[name])):
                    self.modules[name] = sys.modules.pop(name)
            sys.modules.update({name: modules[name] for name in self.modules if name in modules})

    def _holds(self, module: object) -> bool:
        """Whether a module stands in the folder; the file that the card names has a name of its own and stays."""
        name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
        return file is not None and not name.startswith("otoscope_card_") and Path(file).is_relative_to(self.folder)
