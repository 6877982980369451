"""Features: what estimators of scikit-learn are trained on, from waveforms, by librosa.

An extractor describes each short frame of a sound by some rows, (n, n_rows, n_frames), and each row by some statistics
over the frames. Features lie statistic by statistic: the means of all rows, then their deviations, as in
``np.hstack([x.mean(axis=1), x.std(axis=1)])``. `feature_names` names them in this order.

The numbers are those of librosa's own functions with the same settings, called on one recording at a time. Two of its
conventions would let the other recordings of a batch shine through: decibels are floored 80 dB below the loudest cell
of the whole array, and the tuning is estimated from all of it. Both are done for each recording alone here. A clip
shorter than one frame is padded with zeros to the length of a frame; everything is finite on digital silence.

``mfcc``
    Cepstral coefficients.
``log_mel``
    Mel bands in decibels.
``librosa``
    The usual hand-made set: cepstrum, chroma, shape of the spectrum, zero crossings, loudness, tonal centroids. These
    are taken from the same chroma, since librosa's default for them needs seconds of sound.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from otoscope.adapters.compiled import load_librosa
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats

Statistic = Literal["mean", "std", "min", "max", "median"]

STATISTICS: dict[str, Callable[..., Any]] = {
    "mean": np.mean,
    "std": np.std,
    "min": np.min,
    "max": np.max,
    "median": np.median,
}
FLOOR = 80.0  # decibels below the loudest cell, librosa's default
DELTA_WIDTH = 9  # frames of a slope, librosa's default
MOST_CELLS = 1 << 27  # of the spectrogram of a window, and of all windows that are transformed at once


@dataclass(frozen=True)
class Framed:
    """Settings of all extractors.

    Attributes
    ----------
    n_fft, hop_length : int
        Length of a frame and distance of two, in samples.
    n_mels : int
    fmin, fmax : float
        Lowest and highest frequency of the mel bands in hertz; up to half the rate where `fmax` is None.
    statistics : tuple of {"mean", "std", "min", "max", "median"}
        Over the frames, in the order of the features.
    deltas : bool
        Whether the slopes of all rows over nine frames follow as rows of their own.
    """

    n_fft: int = 2048
    hop_length: int = 512
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    statistics: tuple[Statistic, ...] = ("mean", "std")
    deltas: bool = False

    limits: ClassVar[dict[str, tuple[int, int]]] = {
        "n_fft": (16, 65536),
        "hop_length": (1, 65536),
        "n_mels": (1, 1024),
        "n_mfcc": (1, 1024),
        "n_chroma": (1, 120),
        "n_contrast": (1, 16),
    }

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        for name, (low, high) in self.limits.items():
            value = getattr(self, name, low)
            if not low <= value <= high:
                raise OtoscopeError(f"{name} must lie between {low} and {high}, got {value}")
        if getattr(self, "n_mfcc", 0) > self.n_mels:
            raise OtoscopeError(f"n_mfcc must be at most n_mels, {self.n_mels}, got {getattr(self, 'n_mfcc', 0)}")
        if not self.statistics or len(set(self.statistics)) < len(self.statistics):
            raise OtoscopeError(f"statistics must name each of some statistics once, got {list(self.statistics)}")
        if not 0 <= self.fmin < (self.fmax or np.inf):
            raise OtoscopeError(f"fmin must lie between 0 and fmax, got {self.fmin:g}")

    def decibels(self, power: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
        """Sum power (…, n_bins, n_frames) into mel bands in decibels (…, n_mels, n_frames)."""
        librosa = load_librosa()
        with warnings.catch_warnings():
            # An estimator trained with more bands than bins has empty bands; it needs them again.
            warnings.filterwarnings("ignore", "Empty filters detected", UserWarning)
            mel = librosa.feature.melspectrogram(
                S=power, sr=rate, n_fft=self.n_fft, n_mels=self.n_mels, fmin=self.fmin, fmax=self.fmax
            )
        decibels = librosa.power_to_db(mel, top_db=None)
        floored: npt.NDArray[np.float32] = np.maximum(decibels, decibels.max(axis=(-2, -1), keepdims=True) - FLOOR)
        return floored

    def magnitude(self, waveforms: Float32) -> npt.NDArray[np.float32]:
        """Transform waveforms (…, n_samples) to magnitudes (…, n_bins, n_frames)."""
        librosa = load_librosa()
        magnitude: npt.NDArray[np.float32] = np.abs(
            librosa.stft(waveforms, n_fft=self.n_fft, hop_length=self.hop_length)
        )
        return magnitude


@dataclass(frozen=True)
class LogMel(Framed):
    """Settings of ``log_mel``: mel bands in decibels re 1, floored 80 dB below the loudest cell; see `Framed`."""

    features: Literal["log_mel"] = "log_mel"

    def rows(self) -> tuple[str, ...]:
        """Name the rows."""
        return numbered("mel", self.n_mels)

    def describe(self, waveforms: Float32, rate: int) -> Floats:
        """Describe waveforms (n, n_samples) by (n, n_mels, n_frames)."""
        return self.decibels(self.magnitude(waveforms) ** 2, rate).astype(np.float64)


@dataclass(frozen=True)
class Mfcc(Framed):
    """Settings of ``mfcc``: the first `n_mfcc` cepstral coefficients of `n_mels` bands; see `Framed`."""

    features: Literal["mfcc"] = "mfcc"
    n_mfcc: int = 20

    def rows(self) -> tuple[str, ...]:
        """Name the rows."""
        return numbered("mfcc", self.n_mfcc)

    def describe(self, waveforms: Float32, rate: int) -> Floats:
        """Describe waveforms (n, n_samples) by (n, n_mfcc, n_frames)."""
        librosa = load_librosa()
        decibels = self.decibels(self.magnitude(waveforms) ** 2, rate)
        return np.asarray(librosa.feature.mfcc(S=decibels, sr=rate, n_mfcc=self.n_mfcc), dtype=np.float64)


@dataclass(frozen=True)
class Librosa(Framed):
    """Settings of ``librosa``, the usual hand-made set; see `Framed`.

    Attributes
    ----------
    n_mfcc, n_chroma, n_contrast : int
        Cepstral coefficients, pitch classes, octaves of the spectral contrast (from 200 Hz, and one row for below).
    tuning : float, optional
        Deviation from 440 Hz in fractions of a pitch class; estimated for each recording where None, as librosa does.
    """

    features: Literal["librosa"] = "librosa"
    n_mfcc: int = 20
    n_chroma: int = 12
    n_contrast: int = 6
    tuning: float | None = None

    def rows(self) -> tuple[str, ...]:
        """Name the rows."""
        single = ("centroid", "bandwidth", "rolloff", "flatness", "zero crossing rate", "rms")
        several = numbered("mfcc", self.n_mfcc) + numbered("chroma", self.n_chroma)
        return several + single + numbered("contrast", self.n_contrast + 1) + numbered("tonnetz", 6)

    def describe(self, waveforms: Float32, rate: int) -> Floats:
        """Describe waveforms (n, n_samples) by (n, n_rows, n_frames)."""
        # One by one: librosa's contrast and tuning look at the whole array, and its flatness adds up in single
        # precision, so that its fourth digit depends on how the array lies in memory.
        return np.stack([self._one(waveform, rate) for waveform in waveforms])

    def _one(self, waveform: Float32, rate: int) -> Floats:
        """Describe one recording (n_samples,) by (n_rows, n_frames)."""
        lf = load_librosa().feature
        magnitude = self.magnitude(waveform)
        power = magnitude**2
        chroma = self._chroma(power, rate)
        n_fft, hop = self.n_fft, self.hop_length
        found = (
            lf.mfcc(S=self.decibels(power, rate), sr=rate, n_mfcc=self.n_mfcc),
            chroma,
            lf.spectral_centroid(S=magnitude, sr=rate),
            lf.spectral_bandwidth(S=magnitude, sr=rate),
            lf.spectral_rolloff(S=magnitude, sr=rate),
            lf.spectral_flatness(S=magnitude),
            lf.zero_crossing_rate(waveform, frame_length=n_fft, hop_length=hop),
            lf.rms(y=waveform, frame_length=n_fft, hop_length=hop),
            lf.spectral_contrast(S=magnitude, sr=rate, n_bands=self.n_contrast),
            lf.tonnetz(chroma=chroma, sr=rate),
        )
        return np.concatenate(found, dtype=np.float64)

    def _chroma(self, power: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
        """Fold power (n_bins, n_frames) into pitch classes (n_chroma, n_frames)."""
        librosa = load_librosa()
        with warnings.catch_warnings():
            # Silence has no pitch to estimate a tuning from; librosa takes 0 and says so.
            warnings.filterwarnings("ignore", "Trying to estimate tuning from empty", UserWarning)
            return np.asarray(librosa.feature.chroma_stft(S=power, sr=rate, n_chroma=self.n_chroma, tuning=self.tuning))


Features = Mfcc | Librosa | LogMel

EXTRACTORS: dict[str, type[Features]] = {"mfcc": Mfcc, "librosa": Librosa, "log_mel": LogMel}


def numbered(name: str, n: int) -> tuple[str, ...]:
    """Count rows of one kind.

    >>> numbered("mfcc", 2)
    ('mfcc 1', 'mfcc 2')
    """
    return tuple(f"{name} {i + 1}" for i in range(n))


def feature_names(settings: Features) -> tuple[str, ...]:
    """Name the features in their order.

    >>> feature_names(Mfcc(n_mfcc=1, deltas=True))
    ('mean mfcc 1', 'mean slope of mfcc 1', 'std mfcc 1', 'std slope of mfcc 1')
    """
    rows = settings.rows()
    if settings.deltas:
        rows += tuple(f"slope of {row}" for row in rows)
    return tuple(f"{statistic} {row}" for statistic in settings.statistics for row in rows)


def count_cells(n_samples: int, rate: int, settings: Features) -> int:
    """Refuse windows that would fill the memory; the number of cells of the spectrogram of one.

    Parameters
    ----------
    n_samples : int
        Length of a window.
    rate : int
        In hertz.
    settings : Mfcc, Librosa or LogMel

    Raises
    ------
    OtoscopeError
        If its spectrogram is too large.
    """
    cells = (1 + max(n_samples, settings.n_fft) // settings.hop_length) * max(settings.n_fft // 2 + 1, settings.n_mels)
    if cells > MOST_CELLS:
        raise OtoscopeError(
            f"{n_samples / rate:.3g} s at hop_length {settings.hop_length} and n_fft {settings.n_fft} make "
            f"{cells / 1e6:.0f} million cells, more than {MOST_CELLS / 1e6:.0f}; raise hop_length or lower n_samples"
        )
    return cells


def extract(waveforms: Float32, rate: int, settings: Features) -> Floats:
    """Describe waveforms by features.

    Parameters
    ----------
    waveforms : ndarray, shape (n, n_samples)
    rate : int
        In hertz.
    settings : Mfcc, Librosa or LogMel

    Returns
    -------
    ndarray of float64, shape (n, n_features)

    Raises
    ------
    OtoscopeError
        If librosa cannot compute these features at this rate, or a window would fill the memory.
    """
    step = max(1, MOST_CELLS // count_cells(waveforms.shape[-1], rate, settings))
    blocks = [_extract(waveforms[start : start + step], rate, settings) for start in range(0, len(waveforms), step)]
    return np.concatenate(blocks) if blocks else np.zeros((0, len(feature_names(settings))))


def _extract(waveforms: Float32, rate: int, settings: Features) -> Floats:
    """Describe as many waveforms as fit into the memory at once."""
    short = max(0, settings.n_fft - waveforms.shape[-1])
    padded = np.pad(waveforms, ((0, 0), (0, short))).astype(np.float32)
    with _told(rate):
        rows = settings.describe(padded, rate)  # (n, n_rows, n_frames)
    if settings.deltas:
        rows = np.concatenate([rows, _slopes(rows)], axis=1)
    return np.concatenate([STATISTICS[name](rows, axis=-1) for name in settings.statistics], axis=1)


def _slopes(rows: Floats) -> Floats:
    """Slopes over nine frames; where there are fewer, the first and the last are repeated."""
    librosa = load_librosa()
    mode = "interp" if rows.shape[-1] >= DELTA_WIDTH else "nearest"
    return np.asarray(librosa.feature.delta(rows, width=DELTA_WIDTH, mode=mode))


@contextmanager
def _told(rate: int) -> Iterator[None]:
    """Say what librosa refuses as what the user can put right."""
    librosa = load_librosa()
    try:
        yield
    except librosa.ParameterError as error:
        reason = " ".join(str(error).split())
        raise OtoscopeError(f"the features cannot be computed at {rate} Hz ({reason}); change their settings") from None
