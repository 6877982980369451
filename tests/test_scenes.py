"""Generated scenes are what they say, other tools are asked fairly, and the benchmark counts right.

The figures themselves come from `make bench-planted`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from otoscope.adapters.model import capability
from otoscope.explainers import grid
from otoscope.explainers.localisation import mass_inside, pointing
from tests import bench_planted
from tests.peers import PEERS, SPREADINGS, Cells, Picture, laid, rise_masks, sliding
from tests.scene_sounds import LOUDNESS, RATE, SECONDS, rms
from tests.scenes import LEVELS, TRIES, Scene, planned, scene, sort

# Every where with every kind, on functions and networks, at all levels.
SCENES = [0, 1, 2, 3, 5, 7, 10, 12, 13, 19, 20, 23]


def heard_through(one: Scene, region: Any) -> float:
    """Log-odds of what is left where only STFT cells of a region of the common grid sound."""
    seen = Picture(one.model, one.audio)
    n_bins, n_frames = seen.whole.power.shape
    frequencies = np.arange(n_bins) * RATE / seen.stft.n_fft
    times = np.arange(n_frames) * seen.stft.hop_length / RATE
    band = np.clip(np.searchsorted(grid.band_edges(), frequencies, side="right") - 1, 0, len(region) - 1)
    column = np.clip(np.searchsorted(grid.column_edges(SECONDS), times, side="right") - 1, 0, region.shape[1] - 1)
    mask = torch.from_numpy(region[np.ix_(band, column)].astype(np.float32))
    sound = seen.stft.inverse(seen.whole.spectrum * mask, len(one.audio.samples)).numpy()
    return float(one.logits([sound])[0])


@pytest.mark.parametrize("index", SCENES)
def test_a_scene_is_heard_where_it_says_and_nowhere_else(index: int) -> None:
    one = planned(index)
    assert one.faults() == []
    assert 0 < one.region.mean() < 0.45
    full, without = one.sign * one.logits([one.without(), one.without(*one.cues)])
    alone, rest = (one.sign * heard_through(one, region) for region in (one.region, ~one.region))
    assert full - alone < 0.35 * (full - without)  # what lies there is nearly all that is needed
    assert full - rest > 0.65 * (full - without)  # and without it the rest is as good as nothing
    assert any(not np.array_equal(one.without(decoy), one.audio.samples) for decoy in one.decoys)
    assert not any((decoy.region & one.region).any() for decoy in one.decoys)


@pytest.mark.parametrize(("level", "where"), [("loud", "both"), ("medium", "frequency"), ("faint", "time")])
def test_a_cue_is_as_loud_as_its_level_says(level: Any, where: Any) -> None:
    one = scene(5, where=where, kind="single", level=level, model="numpy")
    start, end = one.cues[0].boxes[0][0], one.cues[0].boxes[-1][1]
    loudness = rms(one.cues[0].samples) * np.sqrt(SECONDS / (end - start))
    assert 20 * np.log10(loudness / LOUDNESS) == pytest.approx(LEVELS[level], abs=0.5)


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_scene() -> None:
    made = [scene(seed, where="both", kind="joint", level="medium", model="torch") for seed in (3, 3, 4)]
    assert made[0].audio.samples.tobytes() == made[1].audio.samples.tobytes()
    assert made[0].digest == made[1].digest != made[2].digest


def test_networks_offer_gradients_and_bands_and_functions_do_not() -> None:
    function, network = planned(2).model, planned(14).model
    assert capability(network, "gradients") is not None
    assert capability(network, "spectrogram") is not None
    assert capability(function, "gradients") is None


def test_the_plan_is_all_combinations() -> None:
    sorts = [tuple(sort(index).values()) for index in range(72)]
    assert len(set(sorts)) == 72
    for n, each in ((24, 8), (48, 16)):
        assert [sum(one[2] == level for one in sorts[:n]) for level in LEVELS] == [each] * 3
        assert len({(where, kind, model) for where, kind, _, model in sorts[:n]}) == 24


def test_a_scene_that_cannot_be_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scene, "faults", lambda _: ["deaf"])
    monkeypatch.setattr("tests.scenes.TRIES", 2)
    with pytest.raises(RuntimeError, match="no scene in 2 tries: time, single, loud"):
        scene(0, where="time", kind="single", level="loud", model="numpy")
    assert TRIES > 2


class Linear(Picture):
    """A picture whose score is the share of one square that is on: the answer is known."""

    square = (slice(60, 90), slice(30, 60))

    def answers(self, masks: Any) -> Any:
        """Mean of the mask in the square, (n,)."""
        self.asked += len(masks)
        return masks[:, *self.square].mean(axis=(1, 2), dtype=np.float64)

    def switched(self, pictures: Any) -> Any:
        """Do the same for pictures."""
        return self.answers(pictures == self.level)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_finds_a_square_with_the_calls_it_has(name: str) -> None:
    seen = Linear(planned(2).model, planned(2).audio)
    rows, frames = seen.level.shape
    seen.segments = (np.arange(rows)[:, None] // 30) * 4 + np.arange(frames) // 30
    values = PEERS[name](seen, 300, 0).values
    assert seen.asked <= 300
    inside = np.zeros(values.shape, dtype=bool)
    inside[Linear.square] = True
    assert mass_inside(values, inside) > (0.35 if name == "RISE" else 0.6)
    assert pointing(values, inside) == 1
    again = Linear(planned(2).model, planned(2).audio)
    again.segments = seen.segments
    assert np.array_equal(PEERS[name](again, 300, 0).values, values)


def test_a_picture_is_asked_about_sound() -> None:
    one = planned(2)
    seen = Picture(one.model, one.audio)
    masks = np.ones((2, *seen.level.shape))
    masks[1] = 0
    expected = one.logits([one.audio.samples, np.zeros_like(one.audio.samples)])
    assert seen.answers(masks) == pytest.approx(expected, abs=1e-3)
    half = np.zeros_like(masks[:1])
    half[0, 40:80] = 1
    parts = seen.whole.with_(
        labels=np.where((seen.rows >= 40) & (seen.rows < 80), 0, 1)[:, None] + 0 * seen.whole.labels
    )
    sound = parts.with_(names=("inside", "outside")).compose(np.array([[1, 0]]))
    assert seen.answers(half) == pytest.approx(one.logits(list(sound)), abs=1e-3)


def test_segments_are_switched_as_their_cells_are() -> None:
    seen = Picture(planned(2).model, planned(2).audio)
    on = np.random.default_rng(0).integers(0, 2, (4, seen.segments.max() + 1))
    masks = on[:, seen.segments].astype(np.float64)
    assert seen.switched(np.where(masks, seen.level, 0)) == pytest.approx(seen.answers(masks), abs=1e-4)
    assert seen.asked == 8


@pytest.mark.parametrize("spreading", SPREADINGS)
def test_laying_keeps_the_weights_of_segments(spreading: Any) -> None:
    seen = Picture(planned(2).model, planned(2).audio)
    segments = np.repeat(np.arange(seen.level.shape[0])[:, None] // 50, seen.level.shape[1], axis=1)
    weights = np.array([1.0, -2.0, 4.0])
    found = laid(Cells(weights[segments], segments), seen, spreading)
    assert found.sum() == pytest.approx(3)
    assert found.clip(min=0).sum() == pytest.approx(5, abs=0.1)


def test_the_masks_of_rise_are_smooth_and_half_on() -> None:
    masks = rise_masks(np.random.default_rng(0), 200, (149, 94))
    assert masks.shape == (200, 149, 94)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert masks.mean() == pytest.approx(0.5, abs=0.02)
    assert np.abs(np.diff(masks, axis=1)).max() < 0.2
    assert len({mask.tobytes() for mask in masks}) == 200


def test_a_window_slides_as_often_as_it_may() -> None:
    window, strides = sliding((149, 94), 1023)
    moves = [-(-(n - w) // s) + 1 for n, w, s in zip((149, 94), window, strides, strict=True)]
    assert 900 < np.prod(moves) <= 1023


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bench_planted, "FOLDER", tmp_path)
    return tmp_path


def test_the_benchmark_runs_and_goes_on_where_it_stopped(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["--quick", "--scenes", "3", "--calls", "512"]
    bench_planted.main(asked)
    first = capsys.readouterr().out
    assert "## Planted cues, 3 scenes, at most 512 calls" in first
    assert "| lime ahead of |" in first
    path = folder / "rows.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 6
    path.write_text("".join(lines[:4]) + lines[4][:40], encoding="utf-8")  # killed while it wrote
    measured: list[tuple[str, int]] = []
    measure = bench_planted.measure

    def counted(name: str, index: int, calls: int) -> Any:
        measured.append((name, index))
        return measure(name, index, calls)

    monkeypatch.setattr(bench_planted, "measure", counted)
    bench_planted.main(asked)
    assert measured == [("lime", 2), ("RISE", 2)]
    again = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    same = [{k: v for k, v in row.items() if k != "seconds"} for row in again]
    assert same == [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
    bench_planted.main([*asked, "--redo", "RISE"])
    assert measured[2:] == [("RISE", 0), ("RISE", 1), ("RISE", 2)]


def row(scene: int, method: str, **spreadings: tuple[float, float]) -> dict[str, Any]:
    found = {name: {"mass": m, "pointing": p, "stability": None} for name, (m, p) in spreadings.items()}
    about = {"where": "time", "kind": "single", "level": "loud", "model": "numpy"}
    return {"scene": scene, "digest": "", "method": method, "asked": 9, "calls": 9, "seconds": 1.0, **about, **found}


def test_the_tables_count_by_hand() -> None:
    rows = [row(0, "lime", own=(0.5, 1)), row(1, "lime", own=(1.0, 0))]
    rows += [row(0, "RISE", energy=(0.1, 1), area=(0.4, 1)), row(1, "RISE", energy=(0.1, 1), area=(0.2, 0))]
    table = bench_planted.overview(rows).splitlines()
    assert table[2].startswith("| lime | 2 | 0.75 (0.50–1.00) | 0.50 (0.00–1.00) | draws nothing | 9 | 1.0 |")
    assert table[3].startswith("| RISE (by area) | 2 | 0.30 (0.20–0.40) |")  # the better way for it
    assert "| RISE | 0.45 (0.10–0.80) | 0.00 (0.00–0.00) |" in bench_planted.differences(rows)
    assert "| level: loud | 2 | 0.75 (0.50–1.00) | 0.50 (0.00–1.00) |" in bench_planted.breakdown(rows)


def test_only_methods_that_fit_are_asked() -> None:
    assert not bench_planted.fits("gradcam", planned(2))
    assert bench_planted.fits("gradcam", planned(14))
    assert bench_planted.fits("lime", planned(2))
    assert bench_planted.draws("lime")
    assert not bench_planted.draws("occlusion")
    assert not bench_planted.draws("Captum Occlusion")
