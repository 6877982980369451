"""Set-up of all tests: no deadlines (machines are busy), the same examples every time, and where real data lies."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.builders import DATA

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture
def music() -> Path:
    """Folder of real recordings."""
    if not (DATA / "music").is_dir():
        pytest.skip(f"needs real recordings in {DATA / 'music'}; set OTOSCOPE_DATA")
    return DATA / "music"
