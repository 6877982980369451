"""Features: librosa's own numbers for each recording alone, named in their order, finite whatever comes."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import librosa
import numpy as np
import pytest

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.features import EXTRACTORS, Features, Librosa, LogMel, Mfcc, extract, feature_names
from otoscope.adapters.tables import build
from tests.builders import SOUNDS, Float32, Floats, music, noise, tone

RATE = 16000
ALL = (Mfcc(n_mels=64), Librosa(n_fft=1024, hop_length=256), LogMel(n_mels=40, fmin=50.0, fmax=7000.0))
KINDS = pytest.mark.parametrize("settings", ALL, ids=lambda settings: settings.features)


def batch() -> Float32:
    """Make recordings of very different loudness and tuning: what leaked from one to another would show."""
    loud = 10 * noise(seconds=1.5, rate=RATE, level=0.09, seed=1)
    quiet = 1e-3 * music(seconds=1.5, rate=RATE)
    mistuned = tone(452.0, seconds=1.5, rate=RATE)
    return np.stack([loud, quiet, mistuned, np.zeros_like(loud)])


def plain(y: Float32, settings: Any) -> Floats:
    """Features of one recording (n_samples,) as everybody writes them with librosa: (n_rows, n_frames)."""
    short = {"y": y, "sr": RATE, "n_fft": settings.n_fft, "hop_length": settings.hop_length}
    mel = {"n_mels": settings.n_mels, "fmin": settings.fmin, "fmax": settings.fmax}
    frames = {"frame_length": settings.n_fft, "hop_length": settings.hop_length}
    f: Any = librosa.feature
    if isinstance(settings, LogMel):
        return np.asarray(librosa.power_to_db(f.melspectrogram(**short, **mel)), dtype=np.float64)
    mfcc = f.mfcc(**short, **mel, n_mfcc=settings.n_mfcc)
    if isinstance(settings, Mfcc):
        return np.asarray(mfcc, dtype=np.float64)
    chroma = f.chroma_stft(**short, n_chroma=settings.n_chroma, tuning=settings.tuning)
    contrast = f.spectral_contrast(**short, n_bands=settings.n_contrast)
    one_row = [g(**short) for g in (f.spectral_centroid, f.spectral_bandwidth, f.spectral_rolloff)]
    flatness = f.spectral_flatness(y=y, n_fft=settings.n_fft, hop_length=settings.hop_length)
    rest = [flatness, f.zero_crossing_rate(y, **frames), f.rms(y=y, **frames), contrast]
    return np.concatenate([mfcc, chroma, *one_row, *rest, f.tonnetz(chroma=chroma, sr=RATE)], dtype=np.float64)


@KINDS
def test_each_recording_gets_what_librosa_says_of_it_alone(settings: Features) -> None:
    given = extract(batch(), RATE, settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Trying to estimate tuning")
        rows = [plain(y, settings) for y in batch()]
    expected = np.stack([np.concatenate([row.mean(axis=1), row.std(axis=1)]) for row in rows])
    scale = np.maximum(1.0, np.abs(expected))
    assert np.max(np.abs(given - expected) / scale) < 1e-6


@KINDS
def test_a_recording_is_described_alone(settings: Features) -> None:
    together = extract(batch(), RATE, settings)
    alone = np.concatenate([extract(y[None], RATE, settings) for y in batch()])
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-6)


@KINDS
@pytest.mark.parametrize("deltas", [False, True])
@pytest.mark.parametrize("sound", [*SOUNDS, "one sample", "one frame"])
def test_features_are_named_and_finite_on_every_sound(settings: Features, deltas: bool, sound: str) -> None:
    settings = replace(settings, deltas=deltas, statistics=("mean", "std", "min", "max", "median"))
    lengths: dict[str, Callable[[], Float32]] = {
        "one sample": lambda: noise()[:1],
        "one frame": lambda: noise()[: settings.n_fft],
    }
    features = extract((SOUNDS | lengths)[sound]()[None], RATE, settings)  # a warning would be an error
    names = feature_names(settings)
    assert features.shape == (1, len(names))
    assert np.isfinite(features).all()
    assert len(set(names)) == len(names)


def test_a_short_clip_is_one_with_silence_behind_it() -> None:
    clip = noise(seconds=0.05, rate=RATE)[None]
    padded = np.pad(clip, ((0, 0), (0, 2048 - clip.shape[1])))
    np.testing.assert_array_equal(extract(clip, RATE, Mfcc()), extract(padded, RATE, Mfcc()))


def test_statistics_lie_in_the_order_of_their_names() -> None:
    names = feature_names(LogMel(n_mels=3, statistics=("max", "mean")))
    assert names == ("max mel 1", "max mel 2", "max mel 3", "mean mel 1", "mean mel 2", "mean mel 3")
    row = dict(zip(names, extract(batch()[:1], RATE, LogMel(n_mels=3, statistics=("max", "mean")))[0], strict=True))
    assert all(row[f"max mel {i}"] > row[f"mean mel {i}"] for i in (1, 2, 3))


def test_a_tone_is_heard_where_it_is() -> None:
    settings = Librosa(statistics=("mean",), tuning=0.0)
    low, high, hiss = np.stack([tone(440.0, rate=RATE), tone(3520.0, rate=RATE), noise(rate=RATE, level=0.2)])
    names = feature_names(settings)
    rows = [dict(zip(names, row, strict=True)) for row in extract(np.stack([low, high, hiss]), RATE, settings)]
    assert rows[0]["mean centroid"] == pytest.approx(440, rel=0.05)
    assert rows[1]["mean centroid"] == pytest.approx(3520, rel=0.05)
    assert max(range(12), key=lambda i: rows[0][f"mean chroma {i + 1}"]) == 9  # A, counted from C
    assert rows[1]["mean zero crossing rate"] == pytest.approx(2 * 3520 / RATE, rel=0.06)  # the edges are held still
    assert rows[0]["mean rms"] == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    assert rows[2]["mean flatness"] > 100 * rows[0]["mean flatness"]


def test_slopes_are_those_of_librosa_and_rise_with_the_sound() -> None:
    settings = LogMel(n_mels=8, deltas=True, statistics=("mean",))
    swell = (noise(seconds=2, rate=RATE) * np.linspace(0.01, 1, 2 * RATE)).astype(np.float32)
    slopes = extract(swell[None], RATE, settings)[0, 8:]
    rows = plain(swell, settings)
    np.testing.assert_allclose(slopes, librosa.feature.delta(rows).mean(axis=1), atol=1e-5)
    assert (slopes > 0).all()


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("mfcc", {"n_mfcc": 13}),
    ("mfcc", {"n_fft": 1024}),
    ("mfcc", {"hop_length": 256}),
    ("mfcc", {"n_mels": 40}),
    ("mfcc", {"fmin": 200.0}),
    ("mfcc", {"fmax": 4000.0}),
    ("mfcc", {"statistics": ("mean",)}),
    ("mfcc", {"deltas": True}),
    ("librosa", {"n_chroma": 24}),
    ("librosa", {"n_contrast": 4}),
    ("librosa", {"n_mfcc": 5}),
    ("librosa", {"tuning": 0.25}),
    ("log_mel", {"n_mels": 40}),
]


@pytest.mark.parametrize(("kind", "change"), CHANGES, ids=str)
def test_every_setting_reaches_the_features(kind: str, change: dict[str, Any]) -> None:
    default, changed = build(EXTRACTORS[kind], {}, "x"), build(EXTRACTORS[kind], change, "x")
    before, after = (extract(batch()[1:2], RATE, settings) for settings in (default, changed))
    assert before.shape != after.shape or not np.allclose(before, after)


@pytest.mark.parametrize(
    ("kind", "table", "reason"),
    [
        ("mfcc", {"n_fft": 8}, r"n_fft must lie between 16 and 65536, got 8"),
        ("mfcc", {"n_mfcc": 200}, "n_mfcc must be at most n_mels, 128, got 200"),
        ("mfcc", {"statistics": []}, "statistics must name each of some statistics once"),
        ("mfcc", {"statistics": ["mean", "mean"]}, "statistics must name each of some statistics once"),
        ("mfcc", {"statistics": ["mode"]}, "statistics must be a list, each one of mean, std, min, max, median"),
        ("log_mel", {"n_mfcc": 20}, "unknown key 'n_mfcc'"),
        ("log_mel", {"fmin": 900.0, "fmax": 800.0}, "fmin must lie between 0 and fmax, got 900"),
        ("librosa", {"n_contrast": 0}, "n_contrast must lie between 1 and 16"),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind: str, table: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        build(EXTRACTORS[kind], table, r"[model.settings]")


def test_what_librosa_refuses_is_said_with_the_rate() -> None:
    with pytest.raises(
        OtoscopeError, match=r"cannot be computed at 8000 Hz .*exceeds Nyquist.*; change their settings"
    ):
        extract(noise()[None], 8000, Librosa(n_contrast=8))


def test_more_bands_than_bins_are_no_reason_to_warn() -> None:
    assert np.isfinite(extract(noise()[None], 8000, LogMel(n_fft=128, n_mels=128))).all()
