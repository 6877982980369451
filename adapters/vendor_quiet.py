"""Let transformers work for a moment without a network, without questions and without a word.

All of it is put back afterwards. The switches are those of the whole process: another thread that fetches a model at
that moment is told that it is offline.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

SWITCHES = (
    ("huggingface_hub.constants", "HF_HUB_OFFLINE", True),  # asked before every request
    ("transformers.utils.hub", "_is_offline_mode", True),  # of some versions
    ("transformers.dynamic_module_utils", "TIME_OUT_REMOTE_CODE", 0),  # 0: never asks "run the code? [y/N]"
)


@contextmanager
def secluded() -> Iterator[None]:
    """Keep transformers from fetching anything and from asking the terminal."""
    found = [(import_module(module), name, value) for module, name, value in SWITCHES]
    before = [(module, name, getattr(module, name)) for module, name, _ in found if hasattr(module, name)]
    try:
        for module, name, value in found:
            if hasattr(module, name):
                setattr(module, name, value)
        yield
    finally:
        for module, name, old in before:
            setattr(module, name, old)


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers' log and progress bars off the terminal for a moment."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # The AST's own 128 bands are finer than its bins; that is how it was trained.
            warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
