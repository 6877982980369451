"""Training: learns what can be learnt, leaks nothing, repeats itself, resumes, and writes a card that loads."""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.registry import load_model
from otoscope.cli import main
from otoscope.mer_models import contenders
from otoscope.mer_models import data as datasets
from otoscope.mer_models.benchmark import read_fit
from otoscope.mer_models.blinders import Settings
from otoscope.mer_models.contenders import CONTENDERS, harmonic
from otoscope.mer_models.corpus import Corpus, Ints, listen
from otoscope.mer_models.data import Clip
from otoscope.mer_models.datasets import gather
from otoscope.mer_models.fit import Recipe, fit, one_thread
from otoscope.mer_models.harmonics import FRONT_END, LABELS, N_SAMPLES, RATE, HarmonicsNet
from otoscope.mer_models.train import calibrated, train
from tests import layouts
from tests.songs import tone

SMALL = Settings(n_channels=4)
QUICK = Recipe(epochs=1, batch_size=8, draws=1, stride=8)
# Songs whose listeners agree: pitch tells the quadrant, (valence, arousal) by columns of the table.
HEARD = {0: "0,0,0,0,0,1,1,0,0", 1: "0,0,0,0,0,1,0,1,0", 2: "0,0,0,1,0,0,0,0,1", 3: "0,0,1,0,1,0,0,0,0"}
PITCHES = (220.0, 311.13, 466.16, 1318.5)
COLUMNS = "amazement, solemnity, tenderness, nostalgia, calmness, power, joyful_activation, tension, sadness"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve songs of six and a half seconds, in the layout of Emotify."""
    folder = tmp_path_factory.mktemp("data")
    audio = folder / "emotify" / "audio"
    audio.mkdir(parents=True)
    rows = []
    for track in range(1, 13):
        soundfile.write(audio / f"{track:03d}.ogg", tone(PITCHES[track % 4], seed=track), RATE, format="OGG")
        rows.append(f"{track},pop,{HEARD[track % 4]}\n")
    (folder / "emotify" / "listeners.csv").write_text(f"track id, genre, {COLUMNS}\n" + "".join(rows))
    return folder


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    CONTENDERS.pop("tiny", None)


def run(data: Path, out: Path, *, recipe: Recipe = QUICK, settings: Settings = SMALL, **changes: Any) -> Path:
    """Train a small network by a short recipe."""
    told: list[str] = changes.pop("told", [])
    CONTENDERS["tiny"] = harmonic("a small one", settings, recipe)
    options: dict[str, Any] = {"n_folds": 2, "design": "tiny", "command": "otoscope train", "name": "tiny"}
    return train(data=data, out=out, cache=out / "cache", progress=told.append, **{**options, **changes})


def test_a_tiny_training_writes_a_card_that_loads(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    path = run(data, tmp_path, told=told)
    assert path == tmp_path / "tiny.toml"
    model = load_model(str(path))
    assert model.labels == LABELS
    assert model.predict(np.zeros((1, N_SAMPLES), np.float32)).sum() == pytest.approx(1)
    card = tomllib.loads(path.read_text())
    assert set(card) == {"model", "input", "data", "measured", "licence"}
    assert card["data"]["emotify"]["songs"] == 12
    assert card["data"]["recipe"]["epochs"] == 1
    assert card["measured"]["command"] == "otoscope train"
    assert card["measured"]["emotify"]["n"] == 12  # one window a song
    assert "Aljanaki" in card["licence"]["emotify"]
    assert "emopia" not in card["licence"]
    assert any("fold 1: learnt in" in line for line in told)
    assert not [file for file in tmp_path.rglob(".*")]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(data: Path, tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(data, tmp_path, name=name, seed=seed)
        hashes.append(hashlib.sha256((tmp_path / f"{name}.safetensors").read_bytes()).hexdigest())
    assert hashes[0] == hashes[1] != hashes[2]


def test_training_leaves_the_random_state_alone(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(data, tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_training_gives_the_threads_back(data: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        run(data, tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_resuming_keeps_folds_and_refuses_those_of_other_settings(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []

    def counted(corpus: Corpus, clips: Sequence[Clip], chosen: Ints, **options: Any) -> HarmonicsNet:
        fitted.append(len(chosen))
        return fit(corpus, clips, chosen, **options)

    monkeypatch.setattr(contenders, "fit", counted)
    run(data, tmp_path)
    weights = (tmp_path / "tiny.safetensors").read_bytes()
    assert len(fitted) == 3  # two folds and everything
    folds = tmp_path / "tiny-folds" / "fits" / "tiny@emotify"
    (folds / "fold-01.json").unlink()
    run(data, tmp_path, resume=True)
    assert len(fitted) == 5
    assert (tmp_path / "tiny.safetensors").read_bytes() == weights
    with pytest.raises(OtoscopeError, match=r"fold-00\.json: was made with other data or settings"):
        run(data, tmp_path, resume=True, epochs=2)
    with pytest.raises(OtoscopeError, match=r"fold-00\.json: was made with other data or settings"):
        run(data, tmp_path, resume=True, recipe=replace(QUICK, learning_rate=1e-4))
    (folds / "fold-00.json").write_text("half")
    with pytest.raises(OtoscopeError, match=r"fold-00\.json: is no result"):
        run(data, tmp_path, resume=True)


def test_an_earlier_run_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path)
    with pytest.raises(OtoscopeError, match="holds a run named tiny already"):
        run(data, tmp_path)


def test_wrong_inputs_are_told_before_any_work(data: Path, tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match="nowhere: no such folder"):
        run(data / "nowhere", tmp_path)
    with pytest.raises(OtoscopeError, match="holds neither"):
        run(data / "emotify", tmp_path)
    with pytest.raises(OtoscopeError, match="12 songs cannot be dealt out to 13 folds"):
        run(data, tmp_path, n_folds=13)
    with pytest.raises(OtoscopeError, match="1 folds hold nothing out"):
        run(data, tmp_path, n_folds=1)
    with pytest.raises(OtoscopeError, match="svm: is no form of the harmonics CNN; take one of harmonics"):
        run(data, tmp_path, design="svm")
    with pytest.raises(OtoscopeError, match="no name for a model"):
        run(data, tmp_path, name="a/b")
    (tmp_path / "other" / "emopia").mkdir(parents=True)
    with pytest.raises(OtoscopeError, match="need a sound font"):
        run(tmp_path / "other", tmp_path)
    assert not (tmp_path / "tiny-folds").exists()


def test_what_can_be_learnt_is_learnt(data: Path, tmp_path: Path) -> None:
    recipe = Recipe(epochs=40, batch_size=6, draws=2, stride=8, learning_rate=1e-2)
    path = run(data, tmp_path, recipe=recipe, n_folds=3)
    assert tomllib.loads(path.read_text())["measured"]["emotify"]["macro_f1"]["mean"] > 0.9


def test_held_out_songs_are_neither_learnt_nor_give_thresholds(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    thresholds: list[set[str]] = []
    medians = datasets.medians

    def spy(corpus: Corpus, clips: Sequence[Clip], chosen: Ints, **options: Any) -> HarmonicsNet:
        seen.append({clips[index].song for index in chosen})
        return fit(corpus, clips, chosen, **options)

    def medians_of(clips: Sequence[Clip]) -> Any:
        thresholds.append({clip.song for clip in clips})
        return medians(clips)

    monkeypatch.setattr(contenders, "fit", spy)
    monkeypatch.setattr(datasets, "medians", medians_of)
    run(data, tmp_path, n_folds=3)
    everything = {clip.song for clip in gather(data, fonts=(), cache=tmp_path)}
    paths = sorted((tmp_path / "tiny-folds").glob("fits/*/*.json"))
    asked = [{said["song"] for said in read_fit(path)["clips"]} for path in paths]
    assert len(asked) == 3
    for held_out, learnt in zip(asked, seen, strict=False):
        assert held_out
        assert held_out.isdisjoint(learnt)
        assert held_out | learnt == everything
        assert learnt in thresholds
    assert seen[3] == everything
    assert set.union(*asked) == everything


def test_a_fold_is_cooled_by_the_others_only() -> None:
    def fold(sure: float, right: bool) -> dict[str, Any]:
        scores = (sure * np.eye(4)[0] + (1 - sure) / 4).tolist()
        return {"clips": [{"quadrant": (n % 4) if not right else 0, "scores": [scores]} for n in range(8)]}

    fits = [fold(0.9, False), fold(0.9, True), fold(0.9, True)]
    first, second, _ = (one["clips"][0]["scores"][0][0] for one in calibrated(fits))
    assert first > 0.95  # the others were right and not sure enough
    assert second < first  # one of the others was wrong and too sure


def test_the_temperature_goes_into_the_weights(data: Path, tmp_path: Path) -> None:
    card = tomllib.loads(run(data, tmp_path).read_text())
    network = HarmonicsNet(SMALL)
    network.eval()
    before = network(torch.zeros(1, 256, 64))
    network.cool(2.0)
    torch.testing.assert_close(network(torch.zeros(1, 256, 64)), before / 2)
    assert 0.13 < card["data"]["temperature"] < 7.4


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1e-4},
        {"weight_decay": 5.0},
        {"label_smoothing": 0.5},
        {"gain": 20.0},
        {"stride": 4},
        {"draws": 2},
        {"draws": {"emotify": 2}},
        {"stretch": 0.2},
        {"transpose": 3},
        {"softness": 0.5},
        {"decay_all": False, "weight_decay": 5.0},
    ],
)
def test_each_setting_of_the_recipe_changes_the_weights(data: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    clips = datasets.with_quadrants(gather(data, fonts=(), cache=tmp_path), (0.0, 0.0))
    corpus = listen(clips, FRONT_END)
    settings = {"epochs": 2, "batch_size": 8, "draws": 1, "stride": 8}
    weights = [
        fit(corpus, clips, np.arange(12), recipe=Recipe(**{**settings, **other}), settings=SMALL, seed=0).linear.weight
        for other in ({}, change)
    ]
    assert not torch.equal(*weights)


def test_a_stride_that_does_not_divide_the_pool_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match="stride must divide pool"):
        run(data, tmp_path, recipe=Recipe(stride=7))


def test_the_command_line_trains_a_model_that_predicts_and_a_card_without_paths(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["train", "--data", str(data), "--out", str(out), "--name", "tiny", "--folds", "2", "--epochs", "1"]
    told = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    command = json.loads(told.stdout)["measured"]["command"]
    asked = "--out out --name tiny --design harmonics_2"
    assert command == f"otoscope train {asked} --data {data.name} --folds 2 --epochs 1 --device cpu --seed 0"
    assert str(tmp_path) not in (out / "tiny.toml").read_text()
    recording = next(data.glob("**/*.ogg"))
    scored = CliRunner().invoke(main, ["predict", str(recording), "--model", str(out / "tiny.toml"), "--json"])
    assert len(json.loads(scored.stdout)[0]["windows"][0]["scores"]) == 4
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "resume" in again.stderr
    assert CliRunner().invoke(main, [*arguments, "--resume"]).exit_code == 0
    lost = CliRunner().invoke(main, ["train", "--data", str(tmp_path / "nothing"), "--out", str(tmp_path / "other")])
    assert "no such folder" in lost.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--design", "joint", "--folds", "3"], "--folds means nothing to joint"),
        (["--design", "harmonics", "--against", "a2e.toml"], "--against means nothing to harmonics"),
        (["--design", "joint"], "holds neither soundtracks/ nor midlevel/, which joint learns from"),
        (["--design", "harmonica"], "unknown design 'harmonica': did you mean 'harmonics'"),
    ],
)
def test_options_that_mean_nothing_to_a_design_are_refused(
    data: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = CliRunner().invoke(main, ["train", "--data", str(data), "--out", str(tmp_path / "out"), *arguments])
    assert done.exit_code == 1
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_command_line_trains_a_network_of_the_two_level_papers(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    folder = data / "soundtracks"
    rows = [f"{n:03d},{','.join(map(str, layouts.ratings(n)))},X" for n in range(1, 13)]
    scales = "valence,energy,tension,anger,fear,happy,sad,tender"
    layouts.write(folder / "mean_ratings_set1.csv", [f"number,{scales},TARGET", *rows])
    for number in range(1, 13):
        layouts.record(folder / "Set1" / f"{number:03d}.mp3", number)
    arguments = ["train", "--data", str(data), "--design", "a2e", "--epochs", "1", "--out", str(out), "--json"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    card = json.loads(done.stdout)
    assert card["measured"]["command"].startswith("otoscope train --out out --design a2e --data data --epochs 1")
    assert load_model(str(out / "a2e.toml")).labels[:2] == ("valence", "energy")
