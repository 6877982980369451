"""The common grid: cells shared out by overlap, sums kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.pitch import note_frequency
from otoscope.explainers import grid
from tests import reference


def test_bands_are_semitones_from_c1_through_nine_octaves() -> None:
    centres, edges = grid.band_centres(), grid.band_edges()
    assert centres[0] == pytest.approx(note_frequency("C1"))
    assert centres[9 + 36] == pytest.approx(440)
    assert centres[-1] == pytest.approx(note_frequency("B9"))
    assert ((edges[:-1] < centres) & (centres < edges[1:])).all()
    np.testing.assert_allclose(edges, reference.grid_edges(1.0)[0])


@given(st.floats(0.01, 40))
def test_columns_are_100_ms_and_end_with_the_span(duration: float) -> None:
    edges = grid.column_edges(duration)
    assert edges[0] == 0
    assert edges[-1] == duration
    np.testing.assert_allclose(np.diff(edges)[:-1], 0.1)
    assert 0 < np.diff(edges)[-1] <= 0.101 + 1e-6
    np.testing.assert_allclose(edges, reference.grid_edges(duration)[1])


@pytest.mark.parametrize("seconds", [1.5, 2.0, 0.1, 7.3])
def test_models_of_all_rates_share_one_grid(seconds: float) -> None:
    """Resampling rounds the number of samples; that must not give one model a column more."""
    n_columns = {len(grid.column_edges(int(np.ceil(seconds * rate)) / rate)) for rate in (8000, 11_025, 16_000, 44_100)}
    assert len(n_columns) == 1


def test_bands_above_nyquist_are_not_heard() -> None:
    assert grid.heard(8000).sum() == (grid.band_centres() < 4000).sum()
    assert grid.heard(44100).all()


edge_lists = st.lists(st.floats(0, 100), min_size=3, max_size=12, unique=True).map(sorted)


@given(source=edge_lists, destination=edge_lists)
def test_overlaps_add_up_to_one(source: list[float], destination: list[float]) -> None:
    shares = grid.overlap(np.array(source), np.array(destination))
    assert shares.shape == (len(destination) - 1, len(source) - 1)
    assert (shares >= 0).all()
    wide = np.diff(source) > 1e-9
    np.testing.assert_allclose(shares.sum(axis=0)[wide], 1, atol=1e-6)


def test_overlap_by_hand() -> None:
    got = grid.overlap(np.array([0.0, 2.0, 4.0]), np.array([1.0, 3.0, 3.5]))
    np.testing.assert_allclose(got, [[1, 0.5], [0, 0.5]])


@pytest.mark.parametrize(
    ("rate", "n_fft", "hop", "n_samples"), [(8000, 256, 128, 4100), (22050, 128, 700, 11_000), (1000, 64, 16, 333)]
)
def test_cells_are_laid_by_their_overlaps(rate: int, n_fft: int, hop: int, n_samples: int) -> None:
    n_bins, n_frames = n_fft // 2 + 1, 1 + n_samples // hop
    cells = np.random.default_rng(0).normal(size=(n_bins, n_frames))
    duration = n_samples / rate
    frequency_edges = grid.bin_edges(n_bins, rate / n_fft)
    time_edges = grid.frame_edges(n_frames, hop / rate, duration)
    assert (np.diff(frequency_edges) > 0).all()
    assert (np.diff(time_edges) > 0).all()
    assert frequency_edges[-1] == rate / 2
    assert time_edges[-1] == duration
    got = grid.lay(cells, frequency_edges, time_edges, duration)
    expected = reference.lay(cells, frequency_edges.tolist(), time_edges.tolist(), duration)
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert got.sum() == pytest.approx(cells.sum())


def test_frames_and_bins_are_centred_and_end_with_the_sound() -> None:
    np.testing.assert_allclose(grid.frame_edges(4, 0.5, 1.8), [0, 0.25, 0.75, 1.25, 1.8])
    np.testing.assert_allclose(grid.bin_edges(4, 100.0), [0, 50, 150, 250, 300])


def test_a_tone_and_a_click_lie_where_they_are() -> None:
    rate, n_fft, hop = 22050, 2048, 512
    cells = np.zeros((1025, 44))
    cells[round(440 * n_fft / rate), round(0.55 * rate / hop)] = 1
    laid = grid.lay(cells, grid.bin_edges(1025, rate / n_fft), grid.frame_edges(44, hop / rate, 1.0), 1.0)
    band, column = np.unravel_index(laid.argmax(), laid.shape)
    assert grid.band_centres()[band] == pytest.approx(440, rel=0.03)
    assert column == 5
