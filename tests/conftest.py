"""Set-up of all tests: no deadlines (machines are busy), the same examples every time, and where real data lies."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

DATA = Path(os.environ.get("OTOSCOPE_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


@pytest.fixture
def music() -> Path:
    """Folder of real recordings."""
    if not (DATA / "music").is_dir():
        pytest.skip(f"needs real recordings in {DATA / 'music'}; set OTOSCOPE_DATA")
    return DATA / "music"
