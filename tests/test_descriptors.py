"""The mid-level descriptors as a model: they move without jumps, keep the contract, and have a score for everything."""

import hashlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.audio import load_audio
from otoscope.adapters.conformance import check_model
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats, Model, ask
from otoscope.mer_models import rhythm
from otoscope.mer_models.descriptors import FEATURES, LIMITS, RATE, Descriptors, midlevel
from otoscope.mer_models.trial_sounds import HARMONIC, MAJOR, chords, play, strokes, tune
from tests.builders import DATA
from tests.songs import needs_data

TONAL = ("melodiousness", "dissonance", "tonal_stability", "minorness")
model = midlevel()


@cache
def music(*, seconds: float = 4.0) -> Float32:
    """Two pieces, (2, n_samples): a tune over chords, and the same chords with drums."""
    soft, beat = chords(MAJOR, velocity=40), strokes(np.arange(0, 10, 0.25))
    sung = play([*tune(up=12), *soft], timbre="strings", seconds=seconds)
    return np.stack([sung, play(soft, seconds=seconds) + play(beat, timbre="drum", seconds=seconds)])


def column(scores: Floats, feature: str) -> Floats:
    return np.asarray(scores[:, FEATURES.index(feature)])


def test_it_keeps_the_contract_of_a_model() -> None:
    assert isinstance(model, Model)
    assert model.labels == FEATURES
    assert (model.rate, model.n_samples, model.output) == (22050, None, "regression")
    check_model(model)


def test_transposition_hardly_changes_mode_and_key() -> None:
    scores = model.predict(np.stack([play(chords(HARMONIC, up=up)) for up in (-7, -2, 0, 3, 5)]))
    assert np.ptp(column(scores, "minorness")) < 0.15
    assert np.ptp(column(scores, "tonal_stability")) < 0.15


@settings(max_examples=8, deadline=None)
@given(decibels=st.floats(-12, 12))
def test_level_does_little(decibels: float) -> None:
    moved = np.abs(model.predict(music() * np.array(10 ** (decibels / 20), dtype=np.float32)) - model.predict(music()))
    assert moved.max() < 0.15
    for feature in TONAL:
        assert column(moved, feature).max() < 0.01


@pytest.mark.parametrize("change", ["gain of 0.1 dB", "noise at -60 dB", "shift by 1 ms", "offset"])
def test_small_changes_change_little(change: str) -> None:
    whole = music(seconds=5.0)
    rng = np.random.default_rng(0)
    heard, moved = whole[:, : 4 * RATE], whole[:, 22 : 22 + 4 * RATE]
    changed = {
        "gain of 0.1 dB": heard * np.float32(10 ** (0.1 / 20)),
        "noise at -60 dB": heard + 1e-3 * np.abs(heard).max() * rng.standard_normal(heard.shape).astype(np.float32),
        "shift by 1 ms": moved,
        "offset": heard + np.float32(0.01),
    }[change]
    assert np.abs(model.predict(changed) - model.predict(heard)).max() < 0.05


def test_fading_a_part_out_makes_no_jumps() -> None:
    voice = play(tune(up=12), timbre="strings", seconds=4)
    soft = play(chords(HARMONIC, velocity=40), seconds=4)
    drums = play(strokes(np.arange(0, 4, 0.3)), timbre="drum", seconds=4)
    shares = (10 ** (-np.linspace(0, 60, 51) / 20)).astype(np.float32)[:, None]
    for fixed, fading in ((voice, soft), (soft, voice), (soft, drums), (drums + soft, voice)):
        scores = model.predict(fixed + shares * fading)
        steps = np.abs(np.diff(scores, axis=0)).max(axis=0)
        assert steps.max() < 0.3
        # A feature that decides something stands still, then jumps: its largest step is its whole way.
        assert (steps < 0.3 * np.ptp(scores, axis=0) + 0.01).all()


@needs_data
def test_fading_an_instrument_out_of_a_real_song_makes_no_jumps() -> None:
    backing, guitar = (
        load_audio(DATA / "stems" / f"war_of_freedom-{stem}.ogg").at(RATE).samples[: 6 * RATE]
        for stem in ("song", "guitar")
    )
    shares = np.linspace(1, 0, 51, dtype=np.float32)[:, None]
    for fixed, fading in ((backing, guitar), (guitar, backing)):
        assert np.abs(np.diff(model.predict(fixed + shares * fading), axis=0)).max() < 0.1


def test_what_one_moment_says_does_not_spread_over_the_whole_recording() -> None:
    before = play(chords(MAJOR), seconds=20)
    after = before.copy()
    after[18 * RATE :] = 0
    assert np.abs(model.predict(after[None]) - model.predict(before[None])).max() < 0.25


@pytest.mark.parametrize("n_samples", [1, 2, 220, 4095, 4096, 44100, 44101])
def test_short_sounds_have_finite_scores(n_samples: int) -> None:
    sounds = np.zeros((5, n_samples), dtype=np.float32)
    sounds[1] = 0.5
    sounds[2, n_samples // 2] = 1.0
    sounds[3] = np.random.default_rng(0).uniform(-1, 1, n_samples)
    sounds[4] = music()[0, :n_samples]
    scores = ask(model, sounds)
    assert scores.dtype == np.float64
    assert scores.shape == (5, 7)
    assert np.abs(scores).max() < 5


def test_silence_is_defined_and_an_offset_is_silence() -> None:
    silence, offset = model.predict(np.stack([np.zeros(10 * RATE), np.full(10 * RATE, 0.3)]).astype(np.float32))
    np.testing.assert_allclose(offset, silence, atol=1e-6)
    raw = model.raw(np.zeros((1, RATE), dtype=np.float32))[0]
    none = [FEATURES.index(feature) for feature in (*TONAL, "rhythmic_complexity", "rhythmic_stability")]
    np.testing.assert_allclose(raw[none], 0, atol=1e-9)


def test_noise_that_nobody_hears_is_hardly_dissonant() -> None:
    noise = np.random.default_rng(0).standard_normal((1, 2 * RATE)).astype(np.float32)
    heard, faint = (column(model.raw(noise * np.float32(10 ** (db / 20))), "dissonance")[0] for db in (-20, -90))
    assert heard > 0.3
    assert faint < 0.6 * heard


def test_what_is_not_finite_is_refused_by_the_door_and_hurts_nobody_else() -> None:
    sounds = np.stack([music()[0]] * 4)
    sounds[1, 5], sounds[2, 7], sounds[3, 9] = np.nan, np.inf, 1e30
    scores = model.predict(sounds)
    np.testing.assert_array_equal(scores[0], model.predict(music()[:1])[0])
    assert np.isnan(scores[1:]).all()
    with pytest.raises(OtoscopeError, match="NaN or infinite"):
        ask(model, sounds)


@pytest.mark.parametrize("shape", [(3, 0), (100,), (1, 2, 100)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(OtoscopeError, match="need \\(n, n_samples\\)"):
        model.predict(np.zeros(shape, dtype=np.float32))


def test_no_item_at_all_has_no_score() -> None:
    assert model.predict(np.zeros((0, 100), dtype=np.float32)).shape == (0, 7)


def test_the_size_of_a_batch_does_not_matter_and_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sounds = np.repeat(music(), 3, axis=0)
    small = midlevel(batch_size=2)
    sizes: list[int] = []
    measure = small._measure

    def counting(x: Float32) -> Floats:
        sizes.append(len(x))
        return measure(x)

    monkeypatch.setattr(small, "_measure", counting)
    np.testing.assert_allclose(small.predict(sounds), model.predict(sounds), atol=1e-9)
    assert sizes == [2, 2, 2]


def test_the_fingerprint_tells_settings_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    first = model.fingerprint
    assert len(first) == len(hashlib.sha256().hexdigest())
    assert midlevel().fingerprint == first
    monkeypatch.setattr(rhythm, "SHARPNESS", 19.0)
    assert model.fingerprint != first


def test_another_device_is_refused() -> None:
    with pytest.raises(OtoscopeError, match="CPU only"):
        midlevel(device="cuda")


def test_the_scale_is_a_straight_line_through_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = np.array(LIMITS).T
    assert (high > low).all()
    for raw, expected in ((low, 0.0), (high, 1.0), (2 * high - low, 2.0)):
        monkeypatch.setattr(Descriptors, "raw", lambda _self, x, raw=raw: np.tile(raw, (len(x), 1)))
        np.testing.assert_allclose(model.predict(np.zeros((1, 9), dtype=np.float32)), expected)
