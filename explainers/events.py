"""Events: parts from onset to onset, over all frequencies.

Onsets are peaks of the spectral flux, the mean rise in decibels from frame to frame over rows of equal width in log
frequency (Böck & Widmer, 2013, without their filter; librosa's peak picking), each followed back to where the rise
begins. A peak stands at least 1 dB above the flux around it, else a steady sound, in which every ripple is a peak,
would have onsets. A frame hears half a window ahead of its centre, so the rise begins half a window before the onset,
and there the part begins too: an event holds its whole attack, as every frame that hears it is its own. Names give the
onset itself.

The first part begins at 0, and an onset within a window and a hop of the beginning, or within half a window of the end,
is none: frames there hear the recording's own edge. Of more onsets than parts the weakest are dropped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.adapters.compiled import load_librosa
from otoscope.adapters.spectra import Floats
from otoscope.explainers.makers import DYNAMIC_RANGE, picture
from otoscope.explainers.parts import Parts

Ints = npt.NDArray[np.intp]

DELTA = 0.07  # of the largest flux, above the flux around it: librosa's own
LEAST_RISE = 1.0  # decibels
APART = 0.03  # seconds, at least


def event_parts(whole: Parts, n_parts: int) -> Parts:
    """Cut the recording where something begins to sound."""
    flux, peaks = onsets(whole)
    strongest = np.sort(np.argsort(-flux[peaks], kind="stable")[: n_parts - 1])
    peaks = peaks[strongest]
    first = begins(flux, peaks)  # of all but the first part
    labels = np.searchsorted(first, np.arange(len(flux)), side="right")  # (n_frames,)
    ahead = whole.stft.n_fft / 2 / whole.audio.rate
    times = np.minimum(whole.stft.times(len(flux), whole.audio.rate)[peaks] + ahead, whole.audio.seconds)
    edges = whole.start + np.concatenate([[0.0], times, [whole.audio.seconds]])
    names = tuple(f"event {i}: {edges[i - 1]:.2f}-{edges[i]:.2f} s" for i in range(1, len(edges)))
    return whole.with_(labels=np.repeat(labels[None], whole.labels.shape[0], axis=0), names=names)


def onsets(whole: Parts) -> tuple[Floats, Ints]:
    """Find the spectral flux in decibels, (n_frames,), and the frames of its peaks, ascending."""
    librosa = load_librosa()
    image = DYNAMIC_RANGE * picture(whole)
    flux = np.concatenate([[0.0], np.maximum(0, np.diff(image, axis=1)).mean(axis=0)])  # (n_frames,)
    n_fft, hop = whole.stft.n_fft, whole.stft.hop_length
    centres = np.arange(len(flux)) * hop
    flux[(centres < n_fft // 2 + hop) | (centres > len(whole.audio.samples) - n_fft)] = 0
    apart = max(1.0, APART * whole.audio.rate // hop)  # by librosa's defaults 0 at a wide hop: each frame a peak
    peaks = librosa.onset.onset_detect(
        onset_envelope=flux,
        sr=whole.audio.rate,
        hop_length=hop,
        normalize=False,
        pre_max=apart,
        wait=apart,
        delta=max(DELTA * float(flux.max()), LEAST_RISE),
    )
    return flux, np.asarray(peaks, dtype=np.intp)


def begins(flux: Floats, peaks: Ints) -> Ints:
    """Follow each peak back to the frame in which the rise to it begins, the one after the last least flux."""
    librosa = load_librosa()
    if len(peaks) == 0:
        return peaks
    return np.asarray(np.minimum(librosa.onset.onset_backtrack(peaks, flux) + 1, peaks), dtype=np.intp)
