"""Differences on shared parts: sums are kept, what is planted is found and heard, deafness is marked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from otoscope.adapters.audio import Audio
from otoscope.adapters.spectra import Stft
from otoscope.explainers import grid
from otoscope.explainers.comparison import compare
from otoscope.explainers.difference import Difference, difference, shared_parts, to_cells, unheard
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation, lay_cells
from otoscope.explainers.makers import make_parts
from otoscope.explainers.methods import Settings
from otoscope.explainers.parts import Parts
from tests.builders import RATE, Function, music, noise, sigmoid, tone

Floats = npt.NDArray[np.float64]


def slow_to_cells(laid: Floats, parts: Parts) -> Floats:
    """Deal each grid cell out over the STFT cells it overlaps, one by one."""
    n_bins, n_frames = parts.labels.shape
    seconds, rate = parts.audio.seconds, parts.audio.rate
    frames = grid.frame_edges(n_frames, parts.stft.hop_length / rate, seconds)
    up = grid.overlap(grid.bin_edges(n_bins, rate / parts.stft.n_fft), grid.band_edges())
    along = grid.overlap(frames, grid.column_edges(seconds))
    cells = np.zeros((n_bins, n_frames))
    for band in range(laid.shape[0]):
        for column in range(laid.shape[1]):
            overlap = np.outer(up[band], along[column])
            share = parts.power * overlap if (parts.power * overlap).sum() > 0 else overlap
            if share.sum() > 0:
                cells += laid[band, column] * share / share.sum()
    return cells


def cut(samples: npt.NDArray[np.float32], rate: int = RATE, maker: str = "superpixels") -> Parts:
    return make_parts(Audio(samples, rate), Stft(256, 128), maker=maker, n_parts=16)


@pytest.mark.parametrize("silent", [False, True])
def test_the_way_back_equals_a_slow_plain_one_and_keeps_sums(silent: bool) -> None:
    samples = noise(seconds=0.55)
    if silent:
        samples[1500:3200] = 0  # two columns without energy
    parts = cut(samples)
    laid = np.random.default_rng(1).normal(size=(108, 6)) * grid.heard(RATE)[:, None]
    cells = to_cells(laid, parts)
    np.testing.assert_allclose(cells, slow_to_cells(laid, parts), atol=1e-9)
    reached = grid.overlap(grid.bin_edges(129, RATE / 256), grid.band_edges()).sum(axis=1) > 0
    assert cells.sum() == pytest.approx(laid[reached].sum())


def test_there_and_back_again_is_the_same_map() -> None:
    """What lies on the grid as energy does comes back to its cells."""
    parts = cut(music(seconds=1.0))
    laid = lay_cells(parts, parts.power.astype(np.float64))
    np.testing.assert_allclose(to_cells(laid, parts), parts.power, rtol=1e-4, atol=1e-6 * parts.power.max())


def test_attribution_comes_back_to_where_energy_is() -> None:
    low, high = tone(300, seconds=1.0, stop=0.5), tone(1500, seconds=1.0, start=0.5)
    parts = cut(low + high)
    bands = grid.band_edges()
    laid = np.zeros((108, 10))
    laid[np.searchsorted(bands, 300) - 1, :4] = 1
    laid[np.searchsorted(bands, 1500) - 1, 6:] = -1
    cells = to_cells(laid, parts)
    frequencies = parts.stft.frequencies(RATE)
    assert cells[frequencies < 800].sum() == pytest.approx(4)
    assert cells[frequencies > 800].sum() == pytest.approx(-4)


def band(low: float, high: float, rate: int, *, start: float = 0.0, stop: float = 9.0) -> Function:
    """Model that hears the energy between two frequencies and two moments."""

    def score(waveforms: npt.NDArray[np.float32]) -> Floats:
        piece = waveforms[:, int(start * rate) : int(stop * rate)].astype(np.float64)
        spectra = np.abs(np.fft.rfft(piece, axis=1)) ** 2
        frequencies = np.fft.rfftfreq(piece.shape[1], 1 / rate)
        power = spectra[:, (frequencies >= low) & (frequencies < high)].sum(axis=1, keepdims=True) / piece.shape[1] ** 2
        return sigmoid(np.log10(power + 1e-6) + 3)

    return Function(score, rate=rate)


def explained(model: Function, samples: npt.NDArray[np.float32], rate: int) -> Explanation:
    settings = Settings(parts="grid", n_parts=16, calls=64, gates="none")
    return explain(model, Audio(samples, rate, "scene"), settings=settings, name=f"{model.rate} Hz")


SCENE = (
    tone(300, seconds=2.0, rate=16000)
    + tone(2500, seconds=2.0, rate=16000)
    + noise(seconds=2.0, rate=16000, level=1e-3)
)


def test_what_one_hears_and_the_other_does_not_is_seen_and_heard() -> None:
    low, high = band(200, 400, 16000), band(2000, 3000, 16000)
    found = compare([explained(low, SCENE, 16000), explained(high, SCENE, 16000)], ["low", "high"]).difference(0, 1)
    assert found.distance > 0.8
    assert found.difference.sum() == pytest.approx(float((found.first - found.second).sum()))
    sounds = [found.sound(chosen).samples for chosen in (found.more_for_first, found.more_for_second)]
    frequencies = np.fft.rfftfreq(len(sounds[0]), 1 / 16000)
    below = [float((np.abs(np.fft.rfft(sound)) ** 2)[frequencies < 1000].sum()) for sound in sounds]
    above = [float((np.abs(np.fft.rfft(sound)) ** 2)[frequencies > 1000].sum()) for sound in sounds]
    assert below[0] > 50 * above[0]
    assert above[1] > 50 * below[1]


def test_swapping_two_explanations_swaps_their_difference() -> None:
    pair = [explained(band(200, 400, 16000), SCENE, 16000), explained(band(100, 3000, 8000), SCENE, 16000)]
    found = compare(pair)
    one, other = found.difference(0, 1), found.difference(1, 0)
    np.testing.assert_allclose(one.difference, -other.difference)
    np.testing.assert_array_equal(one.more_for_first, other.more_for_second)
    assert one.distance == pytest.approx(other.distance)


def test_an_explanation_does_not_differ_from_itself() -> None:
    one = explained(band(200, 400, 16000), SCENE, 16000)
    found = compare([one, one], ["a", "b"]).difference(0, 1)
    assert found.distance == 0
    assert not found.more_for_first.any()
    assert not found.more_for_second.any()
    assert not found.sound(found.more_for_first).samples.any()


def test_what_is_too_high_for_a_model_is_marked() -> None:
    sound = tone(500, seconds=2.0, rate=16000) + tone(6500, seconds=2.0, rate=16000)
    wide, narrow = band(6000, 7000, 16000), band(400, 600, 8000)
    found = compare([explained(wide, sound, 16000), explained(narrow, sound, 16000)]).difference(0, 1)
    assert found.parts.audio.rate == 16000  # the higher of the two
    assert not found.unheard_by_first.any()
    lows = found.parts.extents[found.unheard_by_second, 2]
    assert len(lows) > 0
    assert (found.parts.extents[~found.unheard_by_second, 2] < 4000).all()
    chosen = found.more_for_first
    assert found.share(chosen & found.unheard_by_second, chosen) > 0.9
    assert found.share(found.more_for_second & found.unheard_by_first, found.more_for_second) == 0


def test_deafness_is_judged_by_energy_and_by_area_in_silence() -> None:
    parts = cut(np.zeros(16000, dtype=np.float32), 16000, "grid")
    deaf = unheard(parts, 8000)
    middles = parts.extents[:, 2:].mean(axis=1)
    assert deaf[middles > 5000].all()
    assert not deaf[middles < 3000].any()
    assert not unheard(parts, 16000).any()


def test_distance_is_one_for_opposites_and_for_maps_elsewhere() -> None:
    parts = cut(noise(seconds=1.0))
    a = np.zeros((108, 10))
    a[40, 2] = 1
    elsewhere = np.roll(a, (20, 5), axis=(0, 1))

    def distance(x: Floats, y: Floats) -> float:
        return difference(parts, (x, y), (RATE, RATE)).distance

    assert distance(a, 5 * a) == 0  # scale does not count
    assert distance(a, -a) == pytest.approx(1)
    assert distance(a, elsewhere) == pytest.approx(1)
    assert distance(a, a + elsewhere) == pytest.approx(0.5)


def test_shared_parts_are_cut_once_over_the_time_that_both_explain() -> None:
    model = band(200, 400, 16000)
    audio = Audio(SCENE, 16000, "scene")
    settings = Settings(parts="grid", n_parts=4, calls=32, gates="none")
    two = [explain(model, audio, start=start, duration=1.2, settings=settings) for start in (0.0, 0.5)]
    found = compare(two, ["a", "b"])
    assert found.start == 0.5
    assert found.duration == pytest.approx(0.7)
    parts = shared_parts(two, found.start, found.duration)
    np.testing.assert_array_equal(parts.audio.samples, SCENE[8000:19200])
    assert parts.start == 0.5
    assert isinstance(found.difference(0, 1), Difference)
    assert found.parts is found.parts
