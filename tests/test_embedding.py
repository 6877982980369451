"""What pages hold within themselves: a signal that arrives while a sound is encoded or decoded is not lost."""

from __future__ import annotations

import base64
import io
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from otoscope.adapters.audio import Audio
from otoscope.explainers import embedding, listening_sounds
from otoscope.explainers.page import encoded
from tests.builders import noise

SOUND = Audio(noise(seconds=0.5, rate=16000), 16000)


class Stopped(BaseException):
    """Raised by the handler, as `SystemExit` is."""


class Signalled(io.BytesIO):
    """A file at whose first use the program is told to stop."""

    told = False

    def _tell(self) -> None:
        if not self.told:
            self.told = True
            os.kill(os.getpid(), signal.SIGTERM)

    def write(self, data: Any) -> int:
        """Write, and be told."""
        self._tell()
        return super().write(data)

    def readinto(self, buffer: Any) -> int:
        """Read, and be told."""
        self._tell()
        return super().readinto(buffer)


@pytest.fixture
def stoppable() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("stoppable")
def test_a_signal_is_not_lost_while_a_sound_is_encoded_or_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = base64.b64decode(embedding.mp3(SOUND).partition(",")[2])
    monkeypatch.setattr(io, "BytesIO", Signalled)
    with pytest.raises(Stopped):
        embedding.mp3(SOUND)
    with pytest.raises(Stopped):
        encoded(SOUND)
    with pytest.raises(Stopped):
        listening_sounds._level(content, len(SOUND.samples))


def test_what_goes_wrong_in_another_thread_is_raised_in_this_one() -> None:
    assert embedding.unbroken(lambda: 3) == 3
    with pytest.raises(ValueError, match="Unknown format"):
        embedding.sound_file(SOUND.samples, SOUND.rate, kind="", subtype="PCM_16")
