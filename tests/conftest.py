"""Set-up of all tests: no deadlines (machines are busy), the same examples every time, and where real data lies.

Each process keeps numba's compiled functions in a folder of its own. Tests call librosa themselves, and two processes
that compile at once can leave files that crash whoever loads them (`otoscope.adapters.compiled`).
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.builders import DATA

CACHE = Path(__file__).parents[1] / ".numba_cache"
os.environ.setdefault("NUMBA_CACHE_DIR", str(CACHE / os.environ.get("PYTEST_XDIST_WORKER", "alone")))

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture
def music() -> Path:
    """Folder of real recordings."""
    if not (DATA / "music").is_dir():
        pytest.skip(f"needs real recordings in {DATA / 'music'}; set OTOSCOPE_DATA")
    return DATA / "music"
