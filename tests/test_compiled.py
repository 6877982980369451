"""librosa is imported by one process at a time, and nowhere but under that lock."""

import os
import re
import subprocess
import sys
from pathlib import Path

import librosa
import pytest

from otoscope.adapters import compiled
from otoscope.adapters.compiled import load_librosa, lock_file
from tests.test_layout import PACKAGES, ROOT

# Prints, for each universal function that numba compiles or loads, whether others are locked out meanwhile.
ALL_USES = """
import filelock
from numba.np.ufunc import wrappers
from otoscope.adapters.compiled import lock_file

build = wrappers._GufuncWrapper.build
def told(self):
    try:
        with filelock.FileLock(lock_file(), timeout=0):
            print(self.py_func.__name__, "open")
    except filelock.Timeout:
        print(self.py_func.__name__, "locked")
    return build(self)
wrappers._GufuncWrapper.build = told

from otoscope.adapters.features import Librosa, extract
from otoscope.explainers.makers import cut
from otoscope.mer_models.handcrafted import rhythm
from tests.builders import RATE, SELF_MADE, music, request, torch_model

sound = music(seconds=1.2)
extract(sound[None], RATE, Librosa(n_contrast=4))
rhythm(sound, RATE)
for maker in SELF_MADE:
    cut(request(torch_model(), sound).whole, maker, 16)
"""


def test_every_universal_function_is_compiled_under_the_lock() -> None:
    done = subprocess.run([sys.executable, "-c", ALL_USES], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    assert set(found) >= {"_localmax", "_localmin", "__peak_pick", "_zc_wrapper", "_pi_wrapper"}
    assert set(found.values()) == {"locked"}


def test_librosa_is_imported_in_one_place() -> None:
    importing = re.compile(r"^\s*(import|from) librosa", re.MULTILINE)
    files = [path for name in PACKAGES for path in (ROOT / name).glob("*.py")]
    assert [path.name for path in files if importing.search(path.read_text("utf-8"))] == []
    assert load_librosa() is librosa


def test_a_place_that_cannot_be_locked_costs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "lock_file", lambda: tmp_path)  # a folder
    assert load_librosa.__wrapped__() is librosa


def test_the_lock_lies_beside_numbas_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lock_file().parent.parent == Path(librosa.__file__).parent
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert lock_file().name.startswith("otoscope-")
    assert lock_file().parent.is_dir()
