"""The one error class: what the user can put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OtoscopeError(ValueError):
    """Something the user can put right, said in one line that names the thing, the fault and the remedy."""


def plain(text: str) -> str:
    r"""Escape what a terminal would obey: names in files one does not trust may hold control characters.

    >>> plain("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def one_line(text: str) -> str:
    """Put text on one line, escaped."""
    return plain(" ".join(text.split()))


def unknown(what: str, name: object, known: Iterable[str]) -> OtoscopeError:
    """Make the error for a name that does not exist, with the nearest one that does.

    >>> str(unknown("method", "lmie", ["lime", "gradcam"]))
    "unknown method 'lmie': did you mean 'lime'? Known: lime, gradcam"
    """
    choices = list(known)
    folded = {choice.lower(): choice for choice in reversed(choices)}
    near = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    shown = ", ".join(choices[:12]) + (f" … ({len(choices)} in all)" if len(choices) > 12 else "")
    return OtoscopeError(f"unknown {what} {str(name)!r}: {hint}Known: {shown}")
