"""The seven mid-level perceptual features as computed descriptors: a mid-level model without training data.

Aljanaki and Soleymani (2018) asked musicians about seven features between sound and emotion; Chowdhury et al. (2019)
explain emotions by them. Their audio cannot be shipped, so each feature is computed here after a published definition:

==================== ============================================================= =========================
melodiousness        salience of one voice and its small steps                     `.melodiousness`
articulation         average silence ratio; high for staccato                      `.articulation`
rhythmic_complexity  onset activity times entropy of the fluctuation spectrum      `.rhythm`
rhythmic_stability   pulse clarity                                                 `.rhythm`
dissonance           Hutchinson and Knopoff's roughness of the spectral peaks      `.consonance`, `.peaks`
tonal_stability      expected strength of the recording's key over time            `.tonality`
minorness            best minor less best major key, softened                      `.tonality`
==================== ============================================================= =========================

They vary continuously with the sound: no key, tempo, pitch or onset is ever decided, a peak enters with amplitude zero
(the threshold is subtracted), and nothing is divided by a maximum of the clip, at most of a frame. What is a ratio by
nature (a pulse, a key) does not depend on the level, but each ratio has a floor, so that silence and clicks have finite
scores.

*Scale.* Raw values lie on scales of their own. `LIMITS` brings the 1st and 99th percentile of real music to 0 and 1.
It was measured by `.descriptor_trials` on Emotify's songs and EMOPIA's pieces in two renderings, each the mean of its
ten-second spans. It is a straight line without an end: unusual sounds lie outside 0–1.

*What they are worth.* Every pair of `.trial_sounds` comes out right. On Emotify nine of the fourteen signs of
correlation with valence and arousal that Chowdhury et al. found in annotations hold, five are undecided (articulation,
both rhythms and dissonance with valence, minorness with arousal), none is contradicted; but the correlations are
smaller, at most .29 with valence and .52 with arousal. On EMOPIA's rendered piano minorness goes with valence most of
all (−.44), while four weak ones (at most .18) turn round.

Two STFTs serve all seven: frames of 4,096 samples for what has pitch, of 1,024 samples for what happens in time, both
without padding, because a sound that begins inside a frame has broad skirts. Recordings shorter than two seconds are
filled up with silence, else not even the slowest pulse would fit. What describes the annotated features only in part:
dissonance is roughness and knows nothing of the chord's context; articulation cannot tell a short note from a damped
one; and the definitions were made for Western music.
"""

from __future__ import annotations

import hashlib
import json
from types import ModuleType

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.filterbanks import mel_filterbank
from otoscope.adapters.model import BATCH_SIZE, Float32, Floats, Output
from otoscope.mer_models import articulation, consonance, melodiousness, peaks, rhythm, tonality

FEATURES = (
    "melodiousness",
    "articulation",
    "rhythmic_complexity",
    "rhythmic_stability",
    "dissonance",
    "tonal_stability",
    "minorness",
)
VERSION = 1  # to be raised with every change of what is computed
RATE = 22050
SHORTEST = 2 * RATE  # samples
LOUDEST = 1e9  # beyond this, squares of single precision overflow
PITCH_FFT, PITCH_HOP = 4096, 2048
TIME_FFT, TIME_HOP = 1024, 256
N_BANDS, LOWEST_BAND = 24, 40.0  # hertz
FAINT = 1e-3  # loudness of a frame whose roughness hardly counts, as noise at −90 dBFS has it
BLOCK = 40 * RATE  # samples that are transformed at once: their spectra stay in the processor's caches

# Raw values that become 0 and 1, in the order of FEATURES.
LIMITS = (
    (0.0548, 0.458),
    (0.0864, 0.415),
    (0.705, 1.38),
    (0.0257, 0.699),
    (0.0337, 0.561),
    (0.295, 0.836),
    (-0.187, 0.163),
)


class Descriptors:
    """The seven features as a regression model that hears any length.

    Parameters
    ----------
    batch_size : int
        Most items in memory at once.
    """

    labels: tuple[str, ...] = FEATURES
    rate: int = RATE
    n_samples: int | None = None
    output: Output = "regression"
    gradients = None
    spectrogram = None

    def __init__(self, *, batch_size: int = BATCH_SIZE) -> None:
        self.batch_size = batch_size
        self.filters, _ = mel_filterbank(RATE, TIME_FFT, n_mels=N_BANDS, fmin=LOWEST_BAND)
        self.filters /= self.filters.max(axis=1, keepdims=True)  # sums of power, not densities

    @property
    def fingerprint(self) -> str:
        """The sha256 of version and settings."""
        modules = (articulation, consonance, melodiousness, peaks, rhythm, tonality)
        own = [
            VERSION,
            FEATURES,
            LIMITS,
            SHORTEST,
            PITCH_FFT,
            PITCH_HOP,
            TIME_FFT,
            TIME_HOP,
            N_BANDS,
            LOWEST_BAND,
            FAINT,
        ]
        return hashlib.sha256(json.dumps([own, *map(_constants, modules)]).encode()).hexdigest()

    def predict(self, waveforms: Float32, /) -> Floats:
        """Score waveforms (n, n_samples) as (n, 7).

        An item that is not finite has scores that are not, as with other models; those beside it are not touched.
        """
        low, high = np.array(LIMITS).T
        return np.asarray((self.raw(waveforms) - low) / (high - low))

    def raw(self, waveforms: Float32) -> Floats:
        """Measure waveforms (n, n_samples) on the features' own scales, (n, 7)."""
        x = np.asarray(waveforms, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] == 0:
            raise OtoscopeError(f"got waveforms of shape {x.shape}, need (n, n_samples) with at least one sample")
        sound = np.abs(x).max(axis=1) < LOUDEST  # False for NaN and infinity
        scores = np.full((len(x), len(FEATURES)), np.nan)
        step = max(1, min(self.batch_size, BLOCK // x.shape[1]))
        rows = np.flatnonzero(sound)
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            scores[block] = self._measure(x[block])
        return scores

    def _measure(self, x: Float32) -> Floats:
        """Measure finite waveforms (n, n_samples), as many as fit into memory."""
        x = np.pad(x, ((0, 0), (0, max(0, SHORTEST - x.shape[1]))))
        frequencies, amplitudes = partials(x)
        pitch_rate, time_rate = RATE / PITCH_HOP, RATE / TIME_HOP
        folded = tonality.chroma(frequencies, amplitudes)
        minorness, stability = tonality.minorness_and_stability(folded, frame_rate=pitch_rate)
        bands = self._bands(x)
        decibels = rhythm.levels(bands)
        onsets = rhythm.onset_strength(decibels)
        columns = (
            melodiousness.melodiousness(frequencies, amplitudes),
            articulation.articulation(bands, frame_rate=time_rate),
            rhythm.rhythmic_complexity(decibels, onsets, frame_rate=time_rate),
            rhythm.rhythmic_stability(onsets, frame_rate=time_rate),
            dissonance(frequencies, amplitudes),
            stability,
            minorness,
        )
        return np.stack(columns, axis=1)

    def _bands(self, x: Float32) -> Floats:
        """Energy of waveforms (n, n_samples) in mel bands, re a sine at full scale: (n, n_frames, n_bands)."""
        power = [peaks.power_spectrogram(one, n_fft=TIME_FFT, hop_length=TIME_HOP) for one in x]
        return np.stack([(self.filters @ one).T for one in power]).astype(np.float64)


def partials(x: Float32) -> tuple[Floats, Floats]:
    """Find the spectral peaks of waveforms (n, n_samples).

    Returns
    -------
    frequencies, amplitudes : ndarray, shape (n, n_frames, n_peaks)
        In hertz; linear, less the threshold below which there is no peak, so that none appears all at once.
    """
    found = [
        peaks.spectral_peaks(peaks.power_spectrogram(one, n_fft=PITCH_FFT, hop_length=PITCH_HOP), rate=RATE)
        for one in x
    ]
    frequencies, amplitudes = (np.stack(part) for part in zip(*found, strict=True))
    threshold = peaks.THRESHOLD * amplitudes.max(axis=-1, keepdims=True)
    return frequencies, np.maximum(amplitudes - threshold, 0)


def dissonance(frequencies: Floats, amplitudes: Floats) -> Floats:
    """Mean roughness of peaks (n, n_frames, n_peaks) over frames, weighted by loudness: (n,), 0 for silence."""
    roughness = consonance.hutchinson_knopoff(frequencies, amplitudes)
    loudness = tonality.peak_loudness(amplitudes)
    return np.asarray((roughness * loudness).mean(axis=-1) / (loudness.mean(axis=-1) + FAINT))


def _constants(module: ModuleType) -> dict[str, str]:
    """Numbers that a module's results depend on, by name."""
    return {
        name: repr(value)
        for name, value in sorted(vars(module).items())
        if name.isupper() and isinstance(value, int | float | tuple)
    }


def midlevel(*, device: str = "cpu", batch_size: int = BATCH_SIZE) -> Descriptors:
    """Load the seven features.

    Raises
    ------
    OtoscopeError
        On a device other than the CPU.
    """
    if device != "cpu":
        raise OtoscopeError(f"the mid-level features are computed on the CPU only, not on {device!r}; use --device cpu")
    return Descriptors(batch_size=batch_size)


def score(waveforms: Float32) -> Floats:
    """Score waveforms (n, n_samples) at 22,050 Hz as (n, 7): the model as a plain function, for its card."""
    return Descriptors().predict(waveforms)
