"""``otoscope timeline`` and ``otoscope match``: what they print, write and refuse; their pictures."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

from otoscope.adapters.audio import load_audio
from otoscope.adapters.stream import survey
from otoscope.adapters.windows import window_scores
from otoscope.cli_emotion import bars
from otoscope.mer_models.emotion_figures import draw_timeline
from otoscope.mer_models.likeness import MEASURES
from otoscope.mer_models.sketch import N_ROWS, sketch
from otoscope.mer_models.timeline import Timeline
from tests.builders import RATE, tone
from tests.emotions import LABELS, known_card, known_model, sound, wandering, write
from tests.test_cli import assert_refused, run


@pytest.fixture
def known(tmp_path: Path) -> list[object]:
    """Options that choose the model known by heart."""
    return ["--model", known_card(tmp_path), "--trust"]


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write(tmp_path / "song.wav", sound(9.4, lambda t: 0.6 * np.sin(t), lambda t: t / 10 - 0.4))


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Write an ad, and two contents of which the second holds it from second 12 on."""
    ad = wandering(4, seed=20)
    long = wandering(25, seed=22)
    long[12 * RATE : 16 * RATE] = ad
    parts = {"ad": ad, "short": wandering(15, seed=21), "long": long}
    ad_file, short, long_file = (write(tmp_path / f"{name}.wav", samples) for name, samples in parts.items())
    return ad_file, short, long_file


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures empty, where a test is about something else: they take longest."""
    monkeypatch.setattr("otoscope.emotion.draw_timeline", lambda _timeline, _sketch, path, **_: path.touch())
    monkeypatch.setattr("otoscope.matching.draw_match", lambda _ad, _contents, _found, path, **_: path.touch())


def is_drawn(path: Path) -> bool:
    """Whether a picture holds more than one colour over a good part of it."""
    pixels = imread(path)[..., :3]
    return bool(pixels.shape[0] > 300 and np.mean(pixels.min(axis=2) < 0.9) > 0.05 and pixels.std() > 0.05)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_timeline_is_written_as_table_json_and_picture_that_agree(
    song: Path, known: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run("timeline", song, *known, "--step", 0.5, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)["timelines"]
    folder = Path(told["folder"])
    assert folder == out / f"song-{load_audio(song).sha256[:8]}" / "known" / "timeline"
    assert sorted(path.name for path in folder.iterdir()) == ["timeline.csv", "timeline.json", "timeline.png"]
    document = json.loads((folder / "timeline.json").read_text())
    assert document == {key: value for key, value in told.items() if key != "folder"}
    rows = table(folder / "timeline.csv")
    assert list(rows[0]) == ["start_s", "end_s", *LABELS, "valence", "arousal"]
    assert len(rows) == len(document["windows"]) == 18
    samples = load_audio(song).samples.astype(np.float64)
    for row, window in zip(rows, document["windows"], strict=True):
        assert [float(row["start_s"]), float(row["end_s"])] == [window["start"], window["end"]]
        assert {label: float(row[label]) for label in LABELS} == window["scores"]
        assert [float(row["valence"]), float(row["arousal"])] == [window["valence"], window["arousal"]]
        heard = samples[round(window["start"] * RATE) : round(window["start"] * RATE) + RATE]
        assert window["valence"] == pytest.approx(heard[0::2].mean(), abs=2e-6)
        assert window["arousal"] == pytest.approx(heard[1::2].mean(), abs=2e-6)
    assert is_drawn(folder / "timeline.png")


@pytest.mark.usefixtures("undrawn")
def test_a_timeline_is_told_in_lines(song: Path, known: list[object], tmp_path: Path) -> None:
    told = run("timeline", song, *known, "--out", tmp_path / "out", "--smooth", 3).stdout
    for word in ("song.wav, 9.40 s, known, 10 windows of 1 s", "exuberance", "valence", "smoothed over 3 s", "written"):
        assert word in told
    arousal = next(line for line in told.splitlines() if "arousal" in line)
    assert "▃▄▄▄▅▅▆▆▆▆" in arousal  # it rises


@pytest.mark.usefixtures("undrawn")
def test_options_change_what_they_say(song: Path, known: list[object], tmp_path: Path) -> None:
    def windows(*options: object) -> Any:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        return json.loads(run("timeline", song, *known, "--out", out, "--json", *options).stdout)["timelines"][0]

    plain, wide, smooth = windows(), windows("--window", 2.5), windows("--smooth", 4)
    assert len(plain["windows"]) == 10
    assert wide["windows"][0]["end"] == 2.5
    assert smooth["windows"][3]["scores"] != plain["windows"][3]["scores"]
    assert smooth["smooth"] == 4
    assert any("smoothed" in note for note in smooth["notes"])
    assert windows("--batch-size", 1)["windows"] == plain["windows"]


@pytest.mark.usefixtures("undrawn")
def test_windows_are_explained_on_request(song: Path, known: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    how = ["--explain", 2.2, "--explain", 9.3, "--method", "occlusion", "--parts", "grid", "--target", "sadness"]
    result = run("timeline", song, *known, *how, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)["timelines"]
    assert [(link["start"], link["end"]) for link in told["explained"]] == [(2.0, 3.0), (8.4, 9.4)]
    folder = Path(told["folder"])
    for written, link in zip(
        json.loads((folder / "timeline.json").read_text())["explained"], told["explained"], strict=True
    ):
        assert (folder / written["report"]).resolve() == Path(link["report"]).resolve()
        explained = json.loads((Path(link["results"][0]["folder"]) / "explanation.json").read_text())
        assert explained["span"] == {"start": link["start"], "duration": pytest.approx(1.0)}
        assert (explained["method"], explained["target"]["name"]) == ("occlusion", "sadness")
        # what is explained is the very score that stands in the timeline
        window = next(w for w in told["windows"] if w["start"] == link["start"])
        assert link["results"][0]["score"] == pytest.approx(window["scores"]["sadness"], abs=1e-5)
    assert len(list(out.glob("at-*/report.html"))) == 2


def test_an_explanation_that_fails_keeps_the_timeline(
    song: Path, known: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otoscope.adapters.errors import OtoscopeError

    def fail(*_: object, **__: object) -> None:
        raise OtoscopeError("it would not")

    monkeypatch.setattr("otoscope.emotion.carry_out", fail)
    result = run("timeline", song, *known, "--explain", 2, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "song.wav: it would not" in result.stderr
    assert list((tmp_path / "out").glob("*/known/timeline/timeline.png"))


@pytest.mark.usefixtures("undrawn")
def test_a_short_recording_says_that_it_was_padded(known: list[object], tmp_path: Path) -> None:
    short = write(tmp_path / "short.wav", wandering(0.4, seed=1))
    result = run("timeline", short, *known, "--explain", 0.1, "--method", "occlusion", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "padded with 0.60 s of silence" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step", 0], ["a step of 0 s does not move"]),
        (["--step", -1], ["does not move"]),
        (["--step", "nan"], ["does not move"]),
        (["--step", 1.5], ["larger than the window of 1 s"]),
        (["--step", 1e-6], ["more windows than anyone can look at"]),
        (["--window", 0.5], ["the model hears 1 s"]),
        (["--window", 0], ["--window must be more than 0 s"]),
        (["--smooth", -2], ["--smooth must be more than 0 s"]),
        (["--explain", 10], ["song.wav", "no moment at 10 s", "lasts 9.40 s"]),
        (["--explain", -1], ["no moment at -1 s"]),
        (["--method", "lime"], ["--method is about explanations", "--explain"]),
        (["--calls", 64], ["--calls is about explanations"]),
        (["--explain", 2, "--method", "lmie"], ["unknown method 'lmie'"]),
        (["--explain", 2, "--target", "happy"], ["unknown target 'happy'"]),
        (["--explain", 2, "--method", "gradcam"], ["gradcam"]),
        (["--model", "nothing.toml"], ["no such model card"]),
    ],
)
def test_a_timeline_that_cannot_be_is_one_line_and_nothing_is_written(
    arguments: list[object], words: list[str], song: Path, known: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert_refused(run("timeline", song, *known, "--out", out, *arguments), *words, out=out)


def test_a_bad_file_is_refused_before_the_good_one_is_touched(song: Path, known: list[object], tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    out = tmp_path / "out"
    assert_refused(run("timeline", song, text, *known, "--out", out), str(text), "cannot be read", out=out)
    assert_refused(run("match", song, text, *known, "--out", out), str(text), "cannot be read", out=out)


@pytest.mark.usefixtures("undrawn")
def test_results_are_kept_without_force_and_replaced_with_it(
    song: Path, scene: tuple[Path, ...], known: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for command in (["timeline", song], ["match", *scene]):
        assert run(*command, *known, "--out", out, "--force").exit_code == 0
        (out / "mine.txt").write_text("precious")
        assert_refused(run(*command, *known, "--out", out), str(out), "--force")
        assert run(*command, *known, "--out", out, "--force").exit_code == 0
        assert (out / "mine.txt").read_text() == "precious"
    assert_refused(run("match", *scene, *known, "--out", out / "mine.txt"), "is a file")


def test_the_same_run_gives_the_same_bytes_and_no_half_files(
    song: Path, scene: tuple[Path, ...], known: list[object], tmp_path: Path
) -> None:
    for out in (tmp_path / "a", tmp_path / "b"):
        run("timeline", song, *known, "--out", out, "--force")
        run("match", *scene, *known, "--out", out, "--force", "--clips", "--seed", 3)
    first, second = (
        {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
        for out in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second
    assert not [path for path in first if "partial" in str(path)]


def test_an_ad_is_found_where_it_was_hidden_and_its_sound_is_written(
    scene: tuple[Path, Path, Path], known: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run("match", *scene, *known, "--out", out, "--top", 3, "--clips", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told == json.loads((out / "match.json").read_text())
    best = told["places"][0]
    assert (best["recording"], best["start_s"], best["end_s"]) == ("long.wav", 12, 16)
    assert best["distance"] == pytest.approx(0, abs=1e-6)
    assert told["null"]["percentile"] == 0
    assert told["null"]["places"] == sum(len(content["distances"]) for content in told["contents"]) == 12 + 22
    assert told["contents"][1]["distances"][12] == best["distance"]
    rows = table(out / "match.csv")
    assert len(rows) == len(told["places"]) == 3
    for row, place in zip(rows, told["places"], strict=True):
        assert {key: str(place[key]) for key in row} == row
    clip, rate = soundfile.read(out / best["clip"], dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(clip, load_audio(scene[0]).samples)
    assert len(list((out / "clips").iterdir())) == 3
    assert is_drawn(out / "match.png")


@pytest.mark.parametrize("measure", sorted(MEASURES))
@pytest.mark.usefixtures("undrawn")
def test_every_measure_can_be_asked_for(
    measure: str, scene: tuple[Path, Path, Path], known: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run("match", *scene, *known, "--out", out, "--measure", measure, "--random", 5)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert measure in lines[0]
    assert "long.wav" in lines[1]
    assert "12.00-16.00 s" in lines[1]
    assert "5 random stretches 0 %" in result.stdout
    assert measure in run("match", "--help").stdout


@pytest.mark.usefixtures("undrawn")
def test_without_random_stretches_no_verdict_is_told(
    scene: tuple[Path, Path, Path], known: list[object], tmp_path: Path
) -> None:
    told = run("match", *scene, *known, "--out", tmp_path / "out", "--random", 0).stdout
    assert "not judged" in told
    assert not (tmp_path / "out" / "clips").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--measure", "hellingr"], ["unknown measure 'hellingr'", "'hellinger'"]),
        (["--step", 2], ["larger than the window"]),
        (["--step", 0], ["does not move"]),
        (["--window", 0.1], ["the model hears 1 s"]),
    ],
)
def test_a_match_that_cannot_be_is_one_line_and_nothing_is_written(
    arguments: list[object], words: list[str], scene: tuple[Path, Path, Path], known: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert_refused(run("match", *scene, *known, "--out", out, *arguments), *words, out=out)


def test_an_ad_longer_than_a_content_names_both(
    scene: tuple[Path, Path, Path], known: list[object], tmp_path: Path
) -> None:
    ad, short, long = scene
    refused = run("match", long, short, ad, *known, "--out", tmp_path / "out")
    assert_refused(refused, str(long), "lasts 25.00 s", str(short), "15.00 s", out=tmp_path / "out")


def test_a_measure_that_means_nothing_to_a_model_is_refused(scene: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def predict(x):\n    return abs(x).mean(1, keepdims=True)\n")
    card = tmp_path / "loud.toml"
    about = '[model]\nname = "loud"\nkind = "python"\nlabels = ["loud"]\noutput = "regression"\n'
    card.write_text(about + '[model.settings]\nfunction = "net.py:predict"\n[input]\nrate = 8000\n')
    options = ["--model", card, "--trust", "--out", tmp_path / "out"]
    for measure, lacking in (("hellinger", "probabilities"), ("valence_arousal", "valence and arousal")):
        assert_refused(run("match", *scene, *options, "--measure", measure), lacking, "use", out=tmp_path / "out")
    told = json.loads(run("match", *scene, *options, "--json").stdout)  # any length is heard: the ad's own
    assert told["window"] == 4
    assert told["places"][0]["start_s"] == 12
    timeline = json.loads(run("timeline", scene[1], *options, "--force", "--json").stdout)["timelines"][0]
    assert "valence" not in timeline["windows"][0]
    assert is_drawn(Path(timeline["folder"]) / "timeline.png")


def test_wrong_usage_is_exit_code_2(song: Path) -> None:
    assert run("timeline", song).exit_code == 2
    assert run("match", song, "--out", "x").exit_code == 2
    assert run("match", song, song, "--out", "x", "--top", 0).exit_code == 2


def test_help_needs_nothing_heavy() -> None:
    script = (
        "import sys\nfrom otoscope.cli import main\n"
        "for name in ('timeline', 'match'):\n    main([name, '--help'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_bars_are_means_on_a_scale() -> None:
    assert bars([0.0, 1.0], (0, 1)) == "▁█"
    assert bars([0.0] * 480 + [1.0] * 480, (0, 1)) == "▁" * 24 + "█" * 24
    assert bars([3.0, 3.0]) == "▁▁"
    assert bars([-5.0, 9.0], (0, 1)) == "▁█"


def test_a_sketch_shows_a_tone_in_its_row_and_while_it_sounds(tmp_path: Path) -> None:
    path = write(tmp_path / "tone.wav", tone(880.0, seconds=8, start=4))
    levels = sketch(survey(path)).levels
    frequencies = np.geomspace(55, RATE / 2, N_ROWS)
    second_half = levels[:, 3 * levels.shape[1] // 4]
    assert frequencies[int(second_half.argmax())] == pytest.approx(880, rel=0.03)
    assert levels[:, levels.shape[1] // 4].max() == 0
    assert sketch(survey(write(tmp_path / "silent.wav", np.zeros(3000, dtype=np.float32)))).levels.max() == 0


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "regression"])
def test_all_kinds_of_models_are_drawn(output: Any, song: Path, tmp_path: Path) -> None:
    rng, n_windows = np.random.default_rng(0), 1 if output == "softmax" else 300
    labels = ("$x_{$", "valence", "arousal", *(f"label {number}" for number in range(20)))
    scores = rng.dirichlet(np.ones(len(labels)), n_windows)
    timeline = Timeline("a$b", n_windows + 5.0, labels, output, np.arange(float(n_windows)), 6.0, 1.0, scores)
    draw_timeline(timeline, sketch(survey(song)), tmp_path / "x.png", explained=[(0.0, 1.0)])
    assert is_drawn(tmp_path / "x.png")


@pytest.mark.usefixtures("undrawn")
def test_the_shipped_model_hears_the_same_as_predict(music: Path, tmp_path: Path) -> None:
    from otoscope.adapters.registry import load_model

    path = music / "sweet_waltz.ogg"
    out = tmp_path / "out"
    (told,) = json.loads(run("timeline", path, "--step", 6, "--out", out, "--json").stdout)["timelines"]
    spans, scores = window_scores(load_model("harmonics"), load_audio(path).cut(0, 12))
    assert [span.start for span in spans] == [0, 6]
    for window, row in zip(told["windows"], scores, strict=False):
        assert list(window["scores"].values()) == pytest.approx(row.tolist(), abs=1e-5)


def test_known_model_and_its_card_agree(known: list[object], song: Path) -> None:
    from otoscope.adapters.registry import load_model

    samples = load_audio(song).samples[None, :RATE]
    card = load_model(str(known[1]), trust=True)
    np.testing.assert_allclose(card.predict(samples), known_model().predict(samples))
