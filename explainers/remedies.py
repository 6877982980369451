"""Remedies: what can be done where a figure of an explanation did not pass, as options of ``otoscope explain``.

A remedy is told only where it can change something: the method takes its options, and the explanation was not made with
them already. `in_use` says what an explanation was made with; `find_remedy` chooses. In a remedy, ``{calls}`` and
``{n_parts}`` stand for twice of what was asked for, ``{duration}`` for half of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from otoscope.adapters.errors import OtoscopeError

InUse = Mapping[str, Any]

OPTIONS = frozenset({"off", "parts", "n_parts", "calls", "n_draws"})
CELLS = frozenset({"superpixels", "felzenszwalb", "slic", "quickshift", "watershed", "grid"})  # any number of them
SHORTEST = 1.0  # seconds; less music than that says little


def find_remedy(remedies: Sequence[str], in_use: InUse) -> str:
    """Find the first remedy that can change something; empty if there is none.

    >>> find_remedy(("silence (--off silence)", "more calls (--calls {calls})"), {"off": "silence", "calls": 512})
    'more calls (--calls 1024)'
    """
    new = {name: 2 * in_use[name] for name in ("calls", "n_parts") if name in in_use}
    new |= {"duration": f"{in_use['duration'] / 2:g}"} if "duration" in in_use else {}
    for remedy in remedies:
        asked: list[tuple[str, str]] = re.findall(r"--([a-z-]+) ([\w{}]+)", remedy)
        options = [(option.replace("-", "_"), value) for option, value in asked]
        if all(name in in_use and in_use[name] != value for name, value in options):
            return remedy.format_map(new)
    return ""


def in_use(method: str, settings: Mapping[str, Any], *, duration: float, window: float | None = None) -> dict[str, Any]:
    """Tell what an explanation was made with, as far as another value would be another question.

    Parameters
    ----------
    method : str
    settings : mapping
        As they are kept with the explanation; what is missing counts as left to the method.
    duration : float
        Of the span, in seconds.
    window : float, optional
        Seconds that the model hears at once, below which a shorter span would be padded; unknown where None.
    """
    from otoscope.explainers.budget import LIMIT
    from otoscope.explainers.methods import CALLS, MOST_CALLS, Settings
    from otoscope.explainers.two_level import CALLS as FEWER_CALLS

    default, uses = Settings(), find_uses(method)
    found = {name: settings.get(name, getattr(default, name)) for name in uses & OPTIONS}
    if found.get("parts", "") is None:
        found["parts"] = {"rise": "grid", "occlusion": "harmonic"}.get(method, "superpixels")
    if "calls" in found:
        usual = FEWER_CALLS if method == "two_level" else CALLS
        found["calls"] = LIMIT if found["calls"] == "auto" else found["calls"] or usual
    if found.get("calls", 0) > MOST_CALLS // 2:
        del found["calls"]
    if uses and "calls" not in uses and method != "shapley":  # it never tries mixes
        found["method"] = method
    if found.get("parts") not in CELLS or method == "shapley":
        found.pop("n_parts", None)
    if window is not None and duration / 2 >= max(window, SHORTEST):
        found["duration"] = duration
    return found


def find_uses(method: str) -> frozenset[str]:
    """Name the settings that mean something to a method; none where this installation does not have it."""
    from otoscope.explainers.methods import find_method

    try:
        return frozenset(find_method(method).uses)
    except OtoscopeError:
        return frozenset()
