"""Pitch: one part for each note of a melody, bands that follow its fundamental and partials.

The fundamental f0(t) is that of pYIN (Mauch & Dixon, 2014; librosa), from C2 to C7, one value for each frame of the
parts' own STFT. A *note* is a run of voiced frames without a jump of more than 80 cents, so a glide or a vibrato stays
one note. Runs shorter than 50 ms are no notes, nor are those in which pYIN finds no period. A note's part is a comb
that moves: in every frame the bins within 50 cents of a partial h·f0(t), h = 1 … 16 (from the 17th on such teeth would
meet), or within one and a half bins where that is more, which is what a steady partial fills of a Hann window's
spectrum. Frames up to half a window before and after a note hear it too, so its comb goes on there at the pitch it
began or ended on, where no nearer note claims the bins.

Everything else, between the partials and where nothing is voiced, is the ``remainder``: unlike other makers', it may
hold much of the energy. pYIN follows one voice. In polyphonic music that is the most salient one at best, and the parts
are no transcription. With more notes than parts allowed the loudest are kept, the others go to the remainder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.adapters.compiled import load_librosa
from otoscope.adapters.pitch import note_frequency, note_name
from otoscope.adapters.spectra import Floats
from otoscope.explainers.parts import Bools, Labels, Parts

FMIN, FMAX = note_frequency("C2"), note_frequency("C7")
JUMP = 80.0  # cents
GLIDE = 100.0  # cents between begin and end, from which on a name tells both
SHORTEST = 0.05  # seconds
HALF_WIDTH = 50.0  # cents
HALF_WIDTH_BINS = 1.5
N_HARMONICS = 16
PERIODS = 4  # of the lowest fundamental, that a frame of pYIN holds
RESOLUTION = 0.2  # of a semitone; librosa's 0.1 takes seven times as long and moves f0 by 10 cents at most
LEAST_VOICED = 0.02  # mean probability; where no period is found pYIN says 0.01 and takes the lowest pitch


@dataclass(frozen=True, eq=False)
class Note:
    """A run of voiced frames: where it begins, and its fundamental in hertz in each, shape (n_frames_of_it,)."""

    first: int
    f0: Floats

    @property
    def stop(self) -> int:
        """The frame after the last."""
        return self.first + len(self.f0)


def pitch_parts(whole: Parts, n_parts: int) -> Parts:
    """Cut out the notes of the melody; the rest is the last part."""
    shortest = SHORTEST * whole.audio.rate / whole.stft.hop_length
    found = notes(*fundamental(whole), shortest=shortest)
    labels = claimed(whole, found)
    if len(found) > n_parts - 1:
        energy = np.bincount(labels.ravel(), weights=whole.power.ravel(), minlength=len(found) + 1)[:-1]
        loudest = np.sort(np.argsort(-energy, kind="stable")[: n_parts - 1])
        found = [found[place] for place in loudest]
        labels = claimed(whole, found)
    if not found:
        return whole.with_(names=("remainder: no note found",))
    names = (*(_name(whole, *one) for one in enumerate(found, start=1)), "remainder")
    present, compact = np.unique(labels, return_inverse=True)
    return whole.with_(labels=compact.reshape(labels.shape), names=tuple(names[part] for part in present))


def fundamental(whole: Parts) -> tuple[Floats, Floats]:
    """Follow the fundamental in hertz, (n_frames,), NaN where nothing is voiced, and the probability of voicing."""
    librosa = load_librosa()
    rate = whole.audio.rate
    fmax = min(FMAX, rate / 4)
    if not whole.power.any() or fmax <= 2 * FMIN:
        return np.full(whole.labels.shape[1], np.nan), np.zeros(whole.labels.shape[1])
    f0, _, probability = librosa.pyin(
        whole.audio.samples,
        sr=rate,
        fmin=FMIN,
        fmax=fmax,
        frame_length=2 ** int(np.ceil(np.log2(PERIODS * rate / FMIN))),
        hop_length=whole.stft.hop_length,
        resolution=RESOLUTION,
    )
    return np.asarray(f0, dtype=np.float64), np.asarray(probability, dtype=np.float64)


def notes(f0: Floats, probability: Floats, *, shortest: float) -> list[Note]:
    """Split a fundamental (n_frames,) at its jumps and gaps into notes of at least `shortest` frames."""
    return [
        Note(run.start, f0[run])
        for run in _runs(f0)
        if run.stop - run.start >= shortest and np.isfinite(f0[run.start]) and probability[run].mean() >= LEAST_VOICED
    ]


def _runs(f0: Floats) -> Iterator[slice]:
    with np.errstate(invalid="ignore"):
        steps = np.abs(1200 * np.diff(np.log2(f0)))
    breaks = np.flatnonzero(~(steps <= JUMP)) + 1  # NaN beside a gap is a break
    bounds = [0, *breaks.tolist(), len(f0)]
    yield from map(slice, bounds[:-1], bounds[1:])


def claimed(whole: Parts, found: list[Note]) -> Labels:
    """Give each cell to the note that claims it, the nearest in time of several; to the remainder (n_notes) if none."""
    n_bins, n_frames = whole.labels.shape
    frequencies = whole.stft.frequencies(whole.audio.rate)
    reach = int(np.ceil(whole.stft.n_fft / 2 / whole.stft.hop_length))
    labels = np.full((n_bins, n_frames), len(found), dtype=np.intp)
    nearest = np.full((n_bins, n_frames), n_frames)
    for number, note in enumerate(found):
        frames = np.arange(max(0, note.first - reach), min(n_frames, note.stop + reach))
        inside = np.clip(frames, note.first, note.stop - 1)
        away = np.abs(frames - inside)
        here = slice(frames[0], frames[-1] + 1)
        wins = moving_comb(frequencies, note.f0[inside - note.first]) & (away < nearest[:, here])
        labels[:, here][wins] = number
        nearest[:, here] = np.where(wins, away, nearest[:, here])
    return labels


def moving_comb(frequencies: npt.NDArray[np.floating], f0: Floats) -> Bools:
    """Mark the bins near a partial, shape (n_bins, n_frames), of a fundamental (n_frames,) in hertz."""
    partial = np.clip(np.round(frequencies[:, None] / f0), 1, N_HARMONICS) * f0  # (n_bins, n_frames), the nearest
    tooth = np.maximum((2 ** (HALF_WIDTH / 1200) - 1) * partial, HALF_WIDTH_BINS * (frequencies[1] - frequencies[0]))
    return np.asarray(np.abs(frequencies[:, None] - partial) <= tooth)


def _name(whole: Parts, number: int, note: Note) -> str:
    """Name a note: ``note 3: A4, 0.50-1.00 s``, or ``note 4: A3 to E4, …`` where it glides."""
    step, edge = whole.stft.hop_length / whole.audio.rate, max(1, len(note.f0) // 8)
    start, end = np.clip([(note.first - 0.5) * step, (note.stop - 0.5) * step], 0, whole.audio.seconds) + whole.start
    begin, finish = float(np.median(note.f0[:edge])), float(np.median(note.f0[-edge:]))
    glides = abs(1200 * np.log2(finish / begin)) > GLIDE
    name = f"{note_name(begin)} to {note_name(finish)}" if glides else note_name(float(np.median(note.f0)))
    return f"note {number}: {name}, {start:.2f}-{end:.2f} s"
