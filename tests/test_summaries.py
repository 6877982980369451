"""Summaries: slow and plain oracles, and truths of the matter."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.pitch import note_frequency
from otoscope.explainers import grid
from otoscope.explainers.figure import AGAINST, FOR
from otoscope.explainers.summaries import (
    by_band,
    faded,
    fold,
    heaviest,
    levels,
    painted,
    strength,
    summarise,
    thumbnail,
    usual_columns,
)
from tests.builders import Floats, noise, tone

RATE = 16000


def random_map(seed: int, n_columns: int = 20, factor: float = 1.0) -> Floats:
    rng = np.random.default_rng(seed)
    return np.asarray(factor * rng.standard_normal((grid.N_BANDS, n_columns)) * (rng.random(n_columns) > 0.3))


def slow_profile(maps: list[Floats]) -> Floats:
    """Mean share of each band, for and against, cell by cell."""
    told = [one for one in maps if any(value != 0 for value in one.ravel())]
    profile = np.zeros((2, 108))
    for one in told:
        total = sum(abs(value) for value in one.ravel())
        for band in range(108):
            for value in one[band]:
                profile[0 if value > 0 else 1, band] += value / total / len(told)
    return profile


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=4), st.floats(1e-3, 1e3))
@settings(max_examples=15, deadline=None)
def test_the_summary_is_the_slow_one_whatever_the_units(seeds: list[int], factor: float) -> None:
    maps = [random_map(seed, factor=factor if place else 1.0) for place, seed in enumerate(seeds)]
    summary = summarise(iter([*maps, np.zeros((108, 20))]), 20)
    assert (summary.n, summary.n_empty, summary.n_aligned) == (len(maps), 1, len(maps))
    np.testing.assert_allclose(summary.profile, slow_profile(maps), atol=1e-12)
    assert summary.mean is not None
    slow_mean = sum(one / np.abs(one).sum() for one in maps) / len(maps)
    np.testing.assert_allclose(summary.mean, slow_mean, atol=1e-12)


@given(st.integers(0, 1000), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_profiles_share_out_all_of_the_attribution(seed: int, n_columns: int) -> None:
    summary = summarise([random_map(seed, n_columns)], n_columns)
    assert np.abs(summary.profile).sum() == pytest.approx(1.0 if summary.n else 0.0)
    assert (summary.profile[0] >= 0).all()
    assert (summary.profile[1] <= 0).all()


def test_what_speaks_for_and_against_does_not_cancel() -> None:
    one = np.zeros((108, 4))
    one[40] = [1, -1, 1, -1]
    assert by_band(one)[:, 40].tolist() == [2, -2]


def test_maps_of_other_lengths_count_in_the_profile_and_not_in_the_mean_map() -> None:
    long, short = [random_map(seed, 20) for seed in (1, 2)], random_map(3, 7)
    summary = summarise([*long, short], 20)
    assert (summary.n, summary.n_aligned) == (3, 2)
    np.testing.assert_allclose(summary.profile, slow_profile([*long, short]), atol=1e-12)
    assert summary.mean is not None
    np.testing.assert_allclose(summary.mean, sum(one / np.abs(one).sum() for one in long) / 2, atol=1e-12)
    assert summarise([random_map(1, 20), random_map(2, 7)], 20).mean is None  # half of them is no majority


def test_of_silence_alone_there_is_nothing_to_say() -> None:
    summary = summarise([np.zeros((108, 5))] * 3, 5)
    assert (summary.n, summary.n_empty, summary.mean) == (0, 3, None)
    assert not summary.profile.any()
    assert not summary.pitch_classes.any()


def test_the_usual_length_is_the_commonest_and_in_doubt_the_longer() -> None:
    assert usual_columns([10.0, 10.0, 10.0001, 3.0]) == 100
    assert usual_columns([3.0, 10.0]) == 100
    assert usual_columns([]) == 1


def test_maps_are_taken_one_at_a_time() -> None:
    alive: list[weakref.ref[Floats]] = []
    most = 0

    def maps() -> Iterator[Floats]:
        nonlocal most
        for seed in range(6):
            one = random_map(seed)
            alive.append(weakref.ref(one))
            yield one
            del one
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))

    summarise(maps(), 20)
    assert len(alive) == 6
    assert most <= 1


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_folding_is_the_slow_one(seed: int) -> None:
    profile = np.random.default_rng(seed).standard_normal((2, 108))
    slow = np.zeros((2, 12))
    for side in range(2):
        for band in range(1, 107):  # the outer two hold no notes
            slow[side, band % 12] += profile[side, band]
    np.testing.assert_allclose(fold(profile), slow, atol=1e-12)


@pytest.mark.parametrize(("note", "place"), [("A4", 9), ("C5", 0), ("F#3", 6), ("B7", 11)])
def test_a_planted_note_folds_to_its_pitch_class(note: str, place: int) -> None:
    one = np.zeros((108, 10))
    one[np.abs(grid.band_centres() - note_frequency(note)).argmin()] = 1.0
    assert summarise([one], 10).pitch_classes[0].argmax() == place


@given(st.integers(0, 1000), st.integers(1, 60), st.floats(0.1, 3.0))
@settings(max_examples=60, deadline=None)
def test_the_heaviest_stretch_is_the_slow_one(seed: int, n_columns: int, seconds: float) -> None:
    one = random_map(seed, n_columns)
    width = min(max(1, round(seconds / 0.1)), n_columns)
    sums = [
        sum(value for column in range(first, first + width) for value in one[:, column] if value > 0)
        for first in range(n_columns - width + 1)
    ]
    found = heaviest(one, seconds)
    if max(sums) == 0:
        assert found is None
        return
    assert found is not None
    total = sum(value for value in one.ravel() if value > 0)
    assert sums[round(found.start / 0.1)] == pytest.approx(max(sums))
    assert found.share == pytest.approx(max(sums) / total)
    assert found.duration == pytest.approx(width * 0.1)


def test_the_heaviest_stretch_lies_on_the_planted_second_and_ignores_what_speaks_against() -> None:
    one = np.zeros((108, 100))
    one[50, 62:70] = 1.0
    one[50, 20:30] = -9.0
    found = heaviest(one)
    assert found is not None
    assert found.start <= 6.2
    assert found.start + found.duration >= 7.0
    assert found.share == pytest.approx(1.0)
    assert heaviest(-np.abs(one)) is None


def test_a_cut_out_starts_and_ends_softly_and_is_untouched_within() -> None:
    sound = faded(np.ones(1600, dtype=np.float32), RATE)
    assert max(sound[0], sound[-1]) < 0.01
    assert (np.diff(sound[:160]) > 0).all()
    np.testing.assert_allclose(sound, sound[::-1], atol=1e-6)
    assert (sound[160:-160] == 1).all()
    for n in (0, 1, 2, 5):
        assert np.isfinite(faded(np.ones(n, dtype=np.float32), RATE)).all()


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("seconds", [0.06, 3.0])
def test_the_coarse_spectrogram_has_a_tone_in_its_row(rate: int, seconds: float) -> None:
    loud, frequencies = levels(tone(1000, seconds=seconds, rate=rate), rate)
    assert loud.shape == (90, 240)
    assert abs(np.log2(frequencies[loud.mean(axis=1).argmax()] / 1000)) < 0.15
    assert loud.max() == pytest.approx(1.0)
    assert not levels(np.zeros(round(seconds * rate), dtype=np.float32), rate)[0].any()


def test_a_thumbnail_is_red_where_it_speaks_for_and_grey_where_nothing_speaks() -> None:
    samples = noise(seconds=4, rate=RATE)
    one = np.zeros((108, 40))
    one[60:70, 10:20], one[60:70, 30:40] = 1.0, -1.0
    picture = thumbnail(samples, RATE, one)[::-1]  # low frequencies first
    _, frequencies = levels(samples, RATE)
    row = int(np.abs(frequencies - grid.band_centres()[65]).argmin())
    red, blue, plain = picture[row, 90], picture[row, 210], picture[row, 30]
    assert red[0] > red[2] + 0.2
    assert blue[2] > blue[0] + 0.2
    assert np.ptp(plain) < 1e-9
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert np.ptp(thumbnail(samples, RATE, np.zeros((108, 40))), axis=2).max() == 0


def test_a_painted_map_is_upright_and_clear_where_empty() -> None:
    one = np.zeros((108, 30))
    one[10, 3], one[100, 20] = 2.0, -2.0
    picture = painted(one)
    assert picture.shape == (108, 30, 4)
    assert picture[107 - 10, 3].tolist() == [*FOR, 1.0]
    assert picture[107 - 100, 20].tolist() == [*AGAINST, 1.0]
    assert np.count_nonzero(picture[..., 3]) == 2


def test_a_long_map_is_painted_in_few_columns_and_keeps_its_place() -> None:
    one = np.zeros((108, 36000))
    one[50, 18000:18150] = 1.0
    opacity = painted(one)[..., 3]
    assert opacity.shape == (108, 240)
    assert np.argwhere(opacity).tolist() == [[107 - 50, 120]]


def test_one_hot_cell_does_not_fade_all_others() -> None:
    one = np.ones((108, 50))
    one[0, 0] = 1e6
    assert np.median(strength(one)) == 1.0
    assert not strength(np.zeros((108, 5))).any()
