"""Real recordings, the shipped model: the whole way, both routes, bounded memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import otoscope
from otoscope.adapters.audio import load_audio
from otoscope.cli import main
from tests import bench
from tests.builders import SELF_MADE

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


def test_the_demo_explains_the_shipped_recording_by_four_methods(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "demo")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip().splitlines()[-1] == f"report: {tmp_path / 'demo' / 'report.html'}"
    for method in ("lime", "occlusion", "gradcam"):
        assert f"harmonics, {method}" in result.stdout
    assert result.stdout.count("round trip") == 4
    assert result.stdout.count("target") == 4


def test_the_shipped_recording_is_short_and_the_models_evidence_keeps_its_class() -> None:
    audio = load_audio(otoscope.demo_recording())
    assert 6 <= audio.seconds <= 15
    explanation = otoscope.explain(otoscope.load_model("harmonics"), audio, method="lime")
    trip = explanation.round_trip
    assert trip.evidence.scaled > trip.original.scaled - 0.5  # what speaks for it does not speak against it
    assert trip.complement.scaled < trip.evidence.scaled


def test_all_recordings_get_complete_reports(music: Path, tmp_path: Path) -> None:
    files = [str(music / f"{name}.ogg") for name in MUSIC]
    methods = ["--method", "lime", "--method", "occlusion", "--method", "gradcam"]
    arguments = ["explain", *files, *methods, "--calls", "256", "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(found["results"]) == 27
    for one in found["results"]:
        names = {path.name for path in Path(one["folder"]).iterdir()}
        assert {"explanation.json", "original.wav", "evidence.wav", "complement.wav", "map.png"} <= names
        assert one["span"]["duration"] <= 10
        assert all(np.isfinite(list(one["round_trip"].values())))
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert all(f"{name}.ogg" in page for name in MUSIC)


@pytest.mark.parametrize("name", MUSIC)
def test_the_bands_route_equals_the_waveform_route(name: str, music: Path) -> None:
    model = bench.shipped("harmonics")
    audio = bench.excerpt(music / f"{name}.ogg", model)
    for maker in set(SELF_MADE) - {"superpixels"}:  # superpixels is felzenszwalb
        for off in bench.OFFS:
            difference, rank = bench.compare_routes(model, audio, maker=maker, off=off, n_parts=16)
            assert difference <= 0.01, (maker, off)
            assert rank >= 0.99, (maker, off)


@pytest.mark.parametrize("route", ["waveform", "bands"])
def test_a_thousand_calls_stay_under_one_and_a_half_gigabytes(route: str) -> None:
    assert bench.peak_memory(route) < 1.5
