"""Real recordings, the shipped model: the whole way, both routes, bounded memory."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import otoscope
from otoscope.adapters.audio import load_audio
from otoscope.cli import main
from otoscope.explainers.report import find_results
from otoscope.explainers.store import load_explanation
from tests import bench
from tests.builders import SELF_MADE
from tests.test_schema import faults

MUSIC = (
    "brahms",
    "drum_and_bass",
    "humpback",
    "ragtime",
    "robin",
    "speech",
    "sugar_plum_fairy",
    "sweet_waltz",
    "vibe_ace",
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Make the demo's report: its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("real") / "demo"
    result = CliRunner().invoke(main, ["demo", "--out", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder, result.stdout


def test_the_demo_explains_the_shipped_recording_by_four_methods(demo: tuple[Path, str]) -> None:
    folder, told = demo
    assert 6 <= load_audio(otoscope.demo_recording()).seconds <= 15
    assert told.strip().splitlines()[-1] == f"report: {folder / 'report.html'}"
    for method in ("lime", "occlusion", "gradcam"):
        assert f"harmonics, {method}" in told
    assert told.count("round trip") == 4
    assert told.count("target") == 4


def test_the_demo_keeps_the_schema(demo: tuple[Path, str]) -> None:
    told = [json.loads((folder / "explanation.json").read_text("utf-8")) for folder in find_results(demo[0])]
    assert [faults("explanation", one, shut=True) for one in told] == [[]] * 4
    assert {one["method"] for one in told} == {"lime", "occlusion", "gradcam", "two_level"}


def test_the_demos_evidence_keeps_its_class(demo: tuple[Path, str]) -> None:
    (trip,) = [one.round_trip for one in map(load_explanation, find_results(demo[0])) if one.method == "lime"]
    assert trip.evidence.scaled > trip.original.scaled - 0.5  # what speaks for it does not speak against it
    assert trip.complement.scaled < trip.evidence.scaled


def test_speech_music_and_a_whale_get_complete_reports(music: Path, tmp_path: Path) -> None:
    names = ("speech", "brahms", "humpback")
    files = [str(music / f"{name}.ogg") for name in names]
    asked = ["--method", "lime", "--method", "gradcam", "--n-parts", "16", "--calls", "64", "--json"]
    arguments = ["explain", *files, *asked, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(found["results"]) == 6
    for one in found["results"]:
        files_there = {path.name for path in Path(one["folder"]).iterdir()}
        assert {"explanation.json", "original.wav", "evidence.wav", "complement.wav", "map.png"} <= files_there
        assert one["span"]["duration"] <= 10
        assert all(np.isfinite(list(one["round_trip"].values())))
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert all(f"{name}.ogg" in page for name in names)


@pytest.mark.parametrize("name", MUSIC)
def test_the_bands_route_equals_the_waveform_route(name: str, music: Path) -> None:
    """Each maker and off value meets one recording here, and all in ``python -m tests.bench routes``."""
    model = bench.shipped("harmonics")
    audio = bench.excerpt(music / f"{name}.ogg", model)
    makers = [maker for maker in SELF_MADE if maker != "superpixels"]  # superpixels is felzenszwalb
    for maker, off in list(itertools.product(makers, bench.OFFS))[MUSIC.index(name) :: len(MUSIC)]:
        difference, rank = bench.compare_routes(model, audio, maker=maker, off=off, n_parts=16)
        assert difference <= 0.01, (maker, off)
        assert rank >= 0.99, (maker, off)


@pytest.mark.parametrize("route", ["waveform", "bands"])
def test_a_thousand_calls_stay_under_one_and_a_half_gigabytes(route: str) -> None:
    assert bench.peak_memory(route) < 1.5
