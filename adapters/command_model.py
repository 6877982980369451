"""Programs as models: kind ``command``, any program that reads a WAV file and writes scores as JSON.

::

    [model.settings]
    command = ["python", "score.py", "{file}"]     # or "{files}": all of a batch at once, answered by a list
    timeout = 60                                   # seconds a call may take
    concurrency = 1                                # calls at a time
    subtype = "FLOAT"                              # or "PCM_16"

The program is started in the card's folder without a shell, with nothing on its standard input; what it writes on its
standard output is read by `otoscope.adapters.answers`. Sounds lie in a private temporary folder that is removed
whatever happens. A program that takes too long is killed with all that it started. Running it needs trust.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from otoscope.adapters.answers import MOST_BYTES, Subtype, ask_all, read_json, rows_of, scores_of, wav_bytes
from otoscope.adapters.card import Card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.loading import Loading
from otoscope.adapters.model import Float32, Floats
from otoscope.adapters.wrap import CallableModel, from_function

GLANCE = 0.1  # seconds between looks at a program that runs
TAIL = 4096  # bytes of its complaints that are looked at


@dataclass(frozen=True)
class CommandSettings:
    """The section ``[model.settings]`` of kind ``command``.

    Attributes
    ----------
    command : tuple of str
        Program and arguments; ``{file}`` stands for the sound, or one argument ``{files}`` for those of a batch.
    timeout : float
        In seconds, of one call.
    concurrency : int
        Calls at a time.
    subtype : {"FLOAT", "PCM_16"}
        Numbers in the WAV file: 32-bit float, or 16-bit, which clips what is louder than full scale.
    """

    command: tuple[str, ...]
    timeout: float = 60.0
    concurrency: int = 1
    subtype: Subtype = "FLOAT"

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not self.command or not self.command[0].strip():
            raise OtoscopeError("command names no program; give a list of program and arguments")
        one, several = any("{file}" in word for word in self.command), self.command.count("{files}")
        if one == bool(several) or several > 1:
            raise OtoscopeError('command must hold "{file}", or "{files}" as one argument of its own')
        if not 0 < self.timeout <= 86_400:
            raise OtoscopeError(f"timeout must lie between 0 and 86400 seconds, got {self.timeout:g}")
        if not 1 <= self.concurrency <= 64:
            raise OtoscopeError(f"concurrency must lie between 1 and 64, got {self.concurrency}")


SETTINGS = (CommandSettings,)


def from_card(card: Card, loading: Loading) -> CallableModel:
    """Make a model of the program that a card names; it is started at the first question.

    Raises
    ------
    OtoscopeError
        If nobody allowed it to run.
    """
    card.refuse("pool", "path")
    rate, _ = card.waveform()
    settings = card.settings(CommandSettings)
    loading.run_code(card.path, f"the command {shlex.join(settings.command)!r:.300}")
    return from_function(card, loading, Program(settings, card, rate))


class Program:
    """A program as a function from waveforms (n, n_samples) to scores (n, n_classes)."""

    def __init__(self, settings: CommandSettings, card: Card, rate: int) -> None:
        self.settings = settings
        self.rate = rate
        self.labels = card.labels
        self.answer = card.model.answer
        self.folder = card.path.resolve().parent

    def __call__(self, waveforms: Float32) -> Floats:
        """Score waveforms, one call for each or one for all."""
        try:
            if "{files}" in self.settings.command:
                answers = read_json(self._call(waveforms, threading.Event()))
                return np.array(rows_of(answers, len(waveforms), self.labels, answer=self.answer))
            return ask_all(self._ask, waveforms, concurrency=self.settings.concurrency)
        except OtoscopeError as error:
            raise OtoscopeError(f"command {' '.join(self.settings.command)!r:.120}: {error}") from None

    def _ask(self, waveform: Float32, stop: threading.Event) -> list[float]:
        return scores_of(read_json(self._call(waveform[None], stop)), self.labels, answer=self.answer)

    def _call(self, waveforms: Float32, stop: threading.Event) -> bytes:
        """Run the program on the sounds; what it wrote."""
        with TemporaryDirectory(prefix="otoscope-", ignore_cleanup_errors=True) as name:
            files = []
            for i, waveform in enumerate(waveforms):
                files.append(Path(name, f"{i}.wav"))
                files[-1].write_bytes(wav_bytes(waveform, self.rate, self.settings.subtype))
            return run(self._words(files), self.folder, Path(name), timeout=self.settings.timeout, stop=stop)

    def _words(self, files: list[Path]) -> list[str]:
        """Program and arguments, with the files in their place."""
        words: list[str] = []
        for word in self.settings.command:
            words += map(str, files) if word == "{files}" else [word.replace("{file}", str(files[0]))]
        return words


def run(command: list[str], folder: Path, scratch: Path, *, timeout: float, stop: threading.Event) -> bytes:
    """Run a program to its end and give back its standard output.

    Parameters
    ----------
    command : list of str
    folder : Path
        Where it runs.
    scratch : Path
        Where its output is kept: files, unlike pipes, never make a reader wait for what the program left running.
    timeout : float
        In seconds.
    stop : threading.Event
        Ends it when set.

    Raises
    ------
    OtoscopeError
        If it cannot be started, fails, takes too long or writes too much.
    """
    written, complaints = scratch / "stdout", scratch / "stderr"
    with written.open("wb") as stdout, complaints.open("wb") as stderr:
        try:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise OtoscopeError(f"{command[0]} cannot be started ({why}); install it or correct the card") from None
        try:
            _wait(process, (written, complaints), time.monotonic() + timeout, timeout, stop)
        finally:
            _end(process)
    if process.returncode != 0:
        code = process.returncode
        how = f"failed with exit code {code}" if code > 0 else f"was killed by signal {-code}"
        raise OtoscopeError(f"{how}: {_last_line(complaints)}")
    if written.stat().st_size > MOST_BYTES:
        raise OtoscopeError(f"wrote more than {MOST_BYTES // 2**20} MB; write scores only")
    return written.read_bytes()


def _wait(
    process: subprocess.Popen[bytes],
    outputs: tuple[Path, ...],
    deadline: float,
    timeout: float,
    stop: threading.Event,
) -> None:
    """Wait for the end of a program, with an eye on the time and on what it writes."""
    while True:
        try:
            process.wait(GLANCE)
            return
        except subprocess.TimeoutExpired:
            pass
        if stop.is_set():
            raise OtoscopeError("was stopped, since another call failed")
        if time.monotonic() > deadline:
            raise OtoscopeError(f"took longer than {timeout:g} s and was killed; give it more by timeout")
        if any(output.stat().st_size > MOST_BYTES for output in outputs):
            raise OtoscopeError(f"wrote more than {MOST_BYTES // 2**20} MB and was killed; write scores only")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that still runs, with all that it started."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)  # its session is its own, so its number is that of its group
    else:
        process.kill()
    process.wait()


def _last_line(file: Path) -> str:
    """Show the last line of what a program complained about."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - TAIL))
        lines = stream.read().decode("utf-8", errors="replace").split("\n")
    line = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return "".join(c if c.isprintable() else " " for c in line)[:200]
