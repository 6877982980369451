"""Compiled functions: one process at a time the first time, nobody waits after it."""

import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from otoscope.adapters import compiled
from otoscope.adapters.compiled import alone, lock_file
from otoscope.adapters.features import Librosa, extract
from otoscope.explainers.events import event_parts
from otoscope.explainers.pitch_parts import pitch_parts
from otoscope.mer_models.handcrafted import rhythm
from tests.builders import RATE, music, request, torch_model


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start as a process that has compiled nothing, with a lock of its own."""
    monkeypatch.setattr(compiled, "_loaded", set())
    monkeypatch.setattr(compiled, "lock_file", lambda: tmp_path / "lock")


def is_locked(tmp_path: Path) -> bool:
    try:
        with FileLock(tmp_path / "lock", timeout=0):
            return False
    except Timeout:
        return True


def test_the_first_call_locks_others_out_and_later_ones_do_not(tmp_path: Path) -> None:
    with alone("x"):
        assert is_locked(tmp_path)
    for _ in range(2):
        with alone("x"):
            assert not is_locked(tmp_path)
    with alone("y"):
        assert is_locked(tmp_path)


def test_a_first_call_that_fails_is_made_alone_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), alone("x"):
        raise ValueError("broken")
    assert not is_locked(tmp_path)
    with alone("x"):
        assert is_locked(tmp_path)


def test_every_compiled_function_is_first_called_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All that librosa calls of numba's generalised functions happens under the lock the first time."""
    from numba.np.ufunc.gufunc import GUFunc

    found: list[bool] = []
    call = GUFunc.__call__

    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(is_locked(tmp_path))
        return call(self, *args, **kwargs)

    monkeypatch.setattr(GUFunc, "__call__", told)
    whole = request(torch_model(), music(seconds=1.2)).whole
    for made in (
        lambda: extract(music(seconds=1.2)[None], RATE, Librosa(n_contrast=4)),
        lambda: rhythm(music(seconds=1.2), RATE),
        lambda: event_parts(whole, 8),
        lambda: pitch_parts(whole, 8),
    ):
        found.clear()
        made()
        assert found
        assert all(found)


def test_the_lock_lies_beside_numbas_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    import librosa

    assert lock_file().parent.parent == Path(librosa.__file__).parent
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert lock_file().name.startswith("otoscope-")
    assert lock_file().parent.is_dir()
