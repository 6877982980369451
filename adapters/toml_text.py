"""TOML from files one does not trust: bounded before it is parsed, and every fault in one line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.labels import MAX_BYTES

MAX_DOTS = 50
TOKEN = re.compile(r"""[\w-]++|"[^"\n]*+"|'[^'\n]*+'|[ \t]++|.|\n""")


def read_toml(path: Path, *, what: str = "model card") -> dict[str, Any]:
    """Read the tables of a model card, or of what else it is.

    Raises
    ------
    OtoscopeError
        If there is no such file, it is too large, or it is no TOML.
    """
    if not path.is_file():
        raise OtoscopeError(f"{path}: no such {what}")
    if path.stat().st_size > MAX_BYTES:
        raise OtoscopeError(f"{path}: is too large for a {what} ({path.stat().st_size} bytes)")
    try:
        text = path.read_text(encoding="utf-8")
        if _longest_key(text) > MAX_DOTS:  # the parser takes quadratic time over these
            raise OtoscopeError(f"{path}: holds a key of more than {MAX_DOTS} parts; no key of a {what} has as many")
        return tomllib.loads(text)
    except OtoscopeError:
        raise
    except (ValueError, RecursionError) as error:  # of the parser, of the encoding, of numbers without end
        raise OtoscopeError(f"{path}: is no valid TOML ({str(error)[:200]}); correct it") from None


def _longest_key(text: str) -> int:
    """Count the dots of the longest dotted key."""
    longest = dots = 0
    for token in TOKEN.findall(text):
        if token == ".":
            dots += 1
            longest = max(longest, dots)
        elif not (token[0].isalnum() or token[0] in "\"'_- \t"):
            dots = 0
    return longest
