"""Functions that a card names: ``package.module:function``, or ``file.py:function`` beside the card.

Finding one runs the module it stands in, so nothing here happens without trust.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from otoscope.adapters.card import Card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.loading import Loading


def find_function(card: Card, name: str, loading: Loading) -> Callable[..., Any]:
    """Import the function that a card names.

    Parameters
    ----------
    card : Card
    name : str
        ``package.module:function`` or ``file.py:function``.
    loading : Loading

    Raises
    ------
    OtoscopeError
        If nobody allowed code to run, or there is no such function.
    """
    place, _, attribute = name.partition(":")
    if not place or not attribute.isidentifier():
        raise OtoscopeError(f'{name!r} names no function; write "package.module:function" or "file.py:function"')
    loading.run_code(card.path, f"code: {name}")
    try:
        module = _from_file(card.file(place)) if place.endswith(".py") else importlib.import_module(place)
    except OtoscopeError:
        raise
    except Exception as error:  # noqa: BLE001 - importing runs the author's code, which may raise anything
        raise OtoscopeError(f"{place} cannot be imported ({type(error).__name__}: {error})") from None
    function = getattr(module, attribute, None)
    if not callable(function):
        raise OtoscopeError(f"{place} has no function {attribute!r}; correct the card")
    return function  # type: ignore[no-any-return]


def _from_file(path: Path) -> ModuleType:
    """Import a file under a name of its own; pickles and tracebacks find it there."""
    name = f"otoscope_card_{path.stem}_{abs(hash(path)):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise OtoscopeError(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
