"""Hand-crafted features: what music emotion was predicted from before networks.

A window is described by librosa's usual set (`otoscope.adapters.features.Librosa`: MFCC, chroma, spectral contrast,
tonnetz, centroid, bandwidth, roll-off, flatness, zero crossings, loudness; mean and deviation of each row and of its
slope), by its rhythm (onset strength, tempo, strength of its pulse) and by the roughness and harmonicity of its
spectral peaks (`otoscope.mer_models.peaks`). Estimators of scikit-learn learn from these; see
`otoscope.mer_models.contenders`. Shapes: waveforms (n, n_samples), features (n, n_features), float64, finite.
"""

from __future__ import annotations

import warnings

import numpy as np

from otoscope.adapters.compiled import load_librosa
from otoscope.adapters.features import Librosa, extract, feature_names
from otoscope.adapters.model import Float32, Floats
from otoscope.mer_models.peaks import measure

VERSION = 1  # of the numbers, for caches
SET = Librosa(n_fft=2048, hop_length=1024, deltas=True)
RHYTHM = ("mean onset strength", "std onset strength", "tempo", "pulse", "onsets per second")
CONSONANCE = ("mean roughness", "std roughness", "mean harmonicity", "std harmonicity")
ONSET_HOP = 512
LOUDNESS_FLOOR = 1e-4  # onset strength is in decibels; quieter onsets are none


def names() -> tuple[str, ...]:
    """Name the features in their order."""
    return (*feature_names(SET), *RHYTHM, *CONSONANCE)


def describe_windows(waveforms: Float32, rate: int) -> Floats:
    """Describe waveforms by hand-crafted features.

    Parameters
    ----------
    waveforms : ndarray, shape (n, n_samples)
    rate : int
        In hertz.

    Returns
    -------
    ndarray of float64, shape (n, n_features)
        In the order of `names`.
    """
    usual = extract(waveforms, rate, SET)
    rest = [np.concatenate([rhythm(waveform, rate), consonance(waveform, rate)]) for waveform in waveforms]
    return np.concatenate([usual, np.reshape(rest, (len(waveforms), -1))], axis=1)


def rhythm(waveform: Float32, rate: int) -> Floats:
    """Describe the rhythm of a waveform (n_samples,): the features in `RHYTHM`.

    Onset strength is librosa's spectral flux in decibels a frame; onsets are its peaks; the tempo (beats per minute) is
    its autocorrelation's maximum under librosa's prior around 120, and the pulse that maximum, in parts of the
    autocorrelation at lag 0 (Lartillot et al., 2008).
    """
    librosa = load_librosa()
    padded = np.pad(waveform, (0, max(0, SET.n_fft - len(waveform))))
    strength = librosa.onset.onset_strength(y=padded, sr=rate, hop_length=ONSET_HOP)
    if strength.max() < LOUDNESS_FLOOR:
        return np.zeros(len(RHYTHM))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # windows shorter than the tempo's own are padded, and it says so
        tempo = float(librosa.feature.tempo(onset_envelope=strength, sr=rate, hop_length=ONSET_HOP)[0])
    lags = librosa.autocorrelate(strength - strength.mean())
    lag = round(60 * rate / (ONSET_HOP * max(tempo, 1.0)))
    pulse = float(lags[lag] / lags[0]) if 0 < lag < len(lags) and lags[0] > 0 else 0.0
    onsets = librosa.onset.onset_detect(onset_envelope=strength, sr=rate, hop_length=ONSET_HOP)
    return np.array([strength.mean(), strength.std(), tempo, pulse, len(onsets) * rate / len(waveform)])


def consonance(waveform: Float32, rate: int) -> Floats:
    """Describe the consonance of a waveform (n_samples,) over time: the features in `CONSONANCE`."""
    found = measure(waveform, rate=rate)
    rough, harmonic = found.hutchinson_knopoff, found.harmonicity  # (n_frames,) each
    return np.array([rough.mean(), rough.std(), harmonic.mean(), harmonic.std()])
