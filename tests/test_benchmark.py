"""The benchmark: fits that leak nothing, resume, and are told truly; on a small Emotify whose pitch tells all."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from otoscope.adapters.errors import OtoscopeError
from otoscope.cli import main
from otoscope.mer_models import contenders
from otoscope.mer_models.benchmark import Fit, Row, carry_out, fits_of, quick, read_fit, run
from otoscope.mer_models.benchmark_table import Line, collect, difference, document, judge, markdown, tables
from otoscope.mer_models.contenders import CONTENDERS, Learnt, Task
from otoscope.mer_models.datasets import gather
from otoscope.mer_models.emotify import judgements
from otoscope.mer_models.lab import Lab, part_of
from otoscope.mer_models.measure import confusion, macro_f1
from otoscope.mer_models.studies import STUDIES, heard_by, rows_of
from tests.songs import HEADER, needs_data, tone
from tests.test_train import HEARD, PITCHES

GENRES = ("classical", "rock", "electronic", "pop")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen songs of thirteen seconds, four of each quadrant and genre, each heard by four men and four women."""
    folder = tmp_path_factory.mktemp("data")
    audio = folder / "emotify" / "audio"
    audio.mkdir(parents=True)
    rows = []
    for track in range(16):
        kind = (track + track // 4) % 4
        soundfile.write(audio / f"{track + 1:03d}.ogg", tone(PITCHES[kind], seconds=13, seed=track), 22050)
        for listener in range(8):
            who = f"3,1,0,{20 + 20 * (listener % 2)},{listener // 4},English"
            rows.append(f"{track + 1},{GENRES[track // 4]},{HEARD[kind]},{who}\n")
    (folder / "emotify" / "listeners.csv").write_text(HEADER + "".join(rows))
    return folder


@pytest.fixture(scope="module")
def lab(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    cache = tmp_path_factory.mktemp("cache")
    return Lab(gather(data, fonts=(), cache=cache), n_folds=4, seed=0, cache=cache)


def constant(_: Task) -> Learnt:
    """Say of every window that it is of the first quadrant."""
    return Learnt(lambda _: np.tile([0.7, 0.1, 0.1, 0.1], (2, 1)))


def perfect(task: Task) -> Learnt:
    """Peep at the truth."""
    known = {index: clip.quadrant for index, clip in enumerate(task.clips)}
    return Learnt(lambda index: np.tile(0.88 * np.eye(4)[known[index] or 0] + 0.03, (2, 1)))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, learn in (("svm", constant), ("harmonics", perfect)):
        monkeypatch.setitem(CONTENDERS, name, replace(CONTENDERS[name], learn=learn))


ROW = Row("harmonics", ("emotify",))


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_learns_and_says_probabilities(lab: Lab, name: str, tmp_path: Path) -> None:
    result = carry_out(lab, Fit(Row(name, ("emotify",)), 0), tmp_path, epochs=1)
    assert len(result["clips"]) == 4
    for said in result["clips"]:
        scores = np.array(said["scores"])
        assert scores.shape == (2, 4)
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-4)
    kind = "small" if CONTENDERS[name].small else "large"
    expected = {"small": (85_000, 110_000), "large": (5_000_000, 10_000_000)}[kind]
    n_parameters = result["n_parameters"]
    assert n_parameters is None or expected[0] <= n_parameters <= expected[1]
    assert (n_parameters is None) == (name in ("svm", "forest", "boosting"))


@pytest.mark.parametrize("name", ["harmonics", "square", "hybrid", "svm"])
def test_what_can_be_learnt_is_learnt(lab: Lab, name: str, tmp_path: Path) -> None:
    result = carry_out(lab, Fit(Row(name, ("emotify",)), 0), tmp_path, epochs=25)
    calls = [(said["quadrant"], int(np.argmax(scores))) for said in result["clips"] for scores in said["scores"]]
    assert macro_f1(confusion(calls, 4)) > 0.7


def test_held_out_songs_are_not_learnt_and_all_are_judged_once(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[set[str]] = []

    def spy(task: Task) -> Learnt:
        learnt.append({task.clips[index].song for index in task.chosen})
        return constant(task)

    monkeypatch.setitem(CONTENDERS, "svm", replace(CONTENDERS["svm"], learn=spy))
    judged: list[str] = []
    for fold in range(4):
        result = carry_out(lab, Fit(Row("svm", ("emotify",)), fold), tmp_path)
        songs = {said["song"] for said in result["clips"]}
        assert songs.isdisjoint(learnt[-1])
        judged += sorted(songs)
    assert sorted(judged) == sorted(clip.song for clip in lab.clips)


@pytest.mark.usefixtures("planted")
def test_genres_are_held_out_whole(lab: Lab, tmp_path: Path) -> None:
    row = Row("svm", ("emotify",), held_out="genres")
    genres = [{said["genre"] for said in carry_out(lab, Fit(row, fold), tmp_path)["clips"]} for fold in range(4)]
    assert sorted(genre for own in genres for genre in own) == sorted(GENRES)
    assert all(len(own) == 1 for own in genres)


@pytest.mark.usefixtures("planted")
def test_a_kept_fit_is_not_made_again_and_another_one_is_refused(lab: Lab, tmp_path: Path) -> None:
    fit = Fit(ROW, 1)
    first = carry_out(lab, fit, tmp_path)
    with pytest.raises(OtoscopeError, match=r"fold-01\.json: exists; use --resume"):
        carry_out(lab, fit, tmp_path)
    assert carry_out(lab, fit, tmp_path, resume=True) == first
    with pytest.raises(OtoscopeError, match="was made with other data or settings"):
        carry_out(lab, fit, tmp_path, epochs=3, resume=True)
    with pytest.raises(OtoscopeError, match="was made with other data or settings"):
        carry_out(replace(lab, seed=1), fit, tmp_path, resume=True)
    fit.path(tmp_path).write_text('{"key": 1')
    with pytest.raises(OtoscopeError, match="is no result of a fit; delete it"):
        carry_out(lab, fit, tmp_path, resume=True)
    assert not list(tmp_path.rglob(".*"))


def test_a_killed_fit_resumes_from_its_last_epoch_with_the_same_scores(lab: Lab, tmp_path: Path) -> None:
    whole = carry_out(lab, Fit(ROW, 0), tmp_path / "whole", epochs=4)
    told: list[str] = []

    def stop(line: str) -> None:
        told.append(line)
        if "epoch 3 of 4" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(replace(lab, progress=stop), Fit(ROW, 0), tmp_path / "killed", epochs=4)
    folder = tmp_path / "killed" / "fits" / ROW.name
    assert [path.name for path in folder.iterdir()] == ["fold-00.checkpoint"]
    told.clear()
    again = carry_out(replace(lab, progress=told.append), Fit(ROW, 0), tmp_path / "killed", epochs=4, resume=True)
    assert sum("epoch" in line for line in told) == 2  # the third was not finished
    assert again["clips"] == whole["clips"]
    assert sorted(path.name for path in folder.iterdir()) == ["fold-00.json", "fold-00.safetensors"]
    (folder / "fold-01.checkpoint").write_bytes(b"half")
    with pytest.raises(OtoscopeError, match=r"fold-01\.checkpoint: does not fit this training .* delete it"):
        carry_out(lab, Fit(ROW, 1), tmp_path / "killed", epochs=4, resume=True)


def test_several_processes_say_the_same_as_one(lab: Lab, tmp_path: Path) -> None:
    fits = [Fit(Row("svm", ("emotify",)), fold) for fold in range(2)]
    for jobs in (1, 2):
        run(replace(lab, progress=print), fits, tmp_path / str(jobs), jobs=jobs)
    for fit in fits:
        one, two = (read_fit(fit.path(tmp_path / jobs)) for jobs in "12")
        assert one["clips"] == two["clips"]


def test_windows_kept_in_the_cache_are_heard_as_the_model_hears_them(lab: Lab) -> None:
    from otoscope.mer_models.harmonics import HarmonicsNet, model

    network = HarmonicsNet().eval()
    kept = contenders.answers(network, lab.heard(3))
    np.testing.assert_allclose(kept, model(network).predict(lab.windows(3)), atol=2e-3)
    assert lab.heard(3, 1.5).shape == (8, 256, 65)


@pytest.mark.usefixtures("planted")
def test_figures_are_those_of_the_calls(lab: Lab, tmp_path: Path) -> None:
    rows = rows_of("models", lab.parts, ["harmonics", "svm"])
    run(lab, fits_of(lab, rows, None, 1), tmp_path)
    found = collect(tmp_path, rows)
    table = document("models", "x", STUDIES["models"].lines(rows, lab.parts, {}), found, command="otoscope benchmark")
    best, constant_line = table["same_folds"]
    assert best["measures"]["macro_f1"] == {"mean": 1.0, "std": 0.0}
    assert best["measures"]["cross_entropy"]["mean"] == pytest.approx(-np.log(0.91), abs=1e-3)
    assert best["measures"]["calibration_error"]["mean"] == pytest.approx(0.09, abs=1e-3)
    assert best["measures"]["arousal_auc"]["mean"] == 1.0
    assert constant_line["measures"]["recall"]["mean"] == 0.25
    assert constant_line["measures"]["f1_q2"]["mean"] == 0.0
    assert constant_line["measures"]["arousal_auc"]["mean"] == 0.5
    assert constant_line["difference"]["high"] < -0.5
    assert (best["songs"], best["folds"]) == (16, [0, 1, 2, 3])
    assert best["paper_macro_f1"] == "0.51"
    text = markdown(table)
    assert "| harmonics | emotify | emotify | – | 0 |" in text
    assert "`otoscope benchmark`" in text


@pytest.mark.usefixtures("planted")
def test_lines_are_compared_on_the_folds_they_share(lab: Lab, tmp_path: Path) -> None:
    rows = rows_of("models", lab.parts, ["harmonics", "svm"])
    run(lab, [Fit(rows[0], fold) for fold in range(4)] + [Fit(rows[1], 2)], tmp_path)
    found = collect(tmp_path, rows)
    both = tables([Line(row, "emotify") for row in rows], found)
    assert [line["folds"] for line in both["same_folds"]] == [[2], [2]]
    assert [(line["row"]["contender"], line["folds"]) for line in both["all_folds"]] == [("harmonics", [0, 1, 2, 3])]
    assert difference(Line(rows[1], "emotify"), Line(rows[0], "emotify"), found)["songs"] == 4  # type: ignore[index]


def test_groups_of_listeners_have_their_own_truth(data: Path) -> None:
    listeners = judgements(data / "emotify")
    everybody = heard_by(listeners, lambda _: True)
    truth = [everybody({"name": f"{track + 1:03d}"}) for track in range(16)]
    assert [truth.count(quadrant) for quadrant in range(4)] == [4, 4, 4, 4]
    nobody = heard_by(listeners, lambda one: one.gender == 0, fewest=5)
    assert nobody({"name": "001"}) is None
    half = heard_by(listeners, lambda one: one.gender == 0)
    assert half({"name": "001"}) == truth[0]


def test_a_judgement_needs_only_one_class() -> None:
    said = {"scores": [[0.7, 0.1, 0.1, 0.1]]}
    measured = judge([(0, said)])
    assert measured["arousal_auc"] is None
    assert measured["macro_f1"] == 0.25


def test_studies_ask_for_what_they_need() -> None:
    with pytest.raises(OtoscopeError, match="needs Emotify"):
        rows_of("genres", ("emopia/a",))
    with pytest.raises(OtoscopeError, match="unknown study 'lenghts': did you mean 'lengths'"):
        rows_of("lenghts", ("emotify",))
    with pytest.raises(OtoscopeError, match="unknown contender"):
        rows_of("models", ("emotify",), ["harmonica"])
    both = ("emotify", "emopia/a", "emopia/b")
    assert {row.trained_on for row in rows_of("models", both)} == {("emotify",), ("emopia/a",)}
    alone = [("emotify",), ("emopia/a",), ("emopia/b",)]
    assert [row.trained_on for row in rows_of("transfer", both)] == [*alone, both, both]
    assert {row.trained_on for row in rows_of("lengths", both)} == {("emopia/a",)}
    with pytest.raises(OtoscopeError, match="hears windows of 6 s only"):
        contenders.rival("time")(Task(None, (), np.arange(0), 0, seconds=3.0))  # type: ignore[arg-type]


def test_a_slice_keeps_songs_of_every_quadrant_and_every_part(lab: Lab) -> None:
    small = quick(lab)
    assert len(small.clips) == 12
    assert {part_of(clip) for clip in small.clips} == set(lab.parts)
    labelled = small.labelled(small.folds("songs"), -1)
    assert {clip.quadrant for clip in labelled} == {0, 1, 2, 3}


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["benchmark", *map(str, arguments)])


@pytest.mark.usefixtures("planted")
def test_the_command_writes_tables_figures_and_the_recordings(data: Path, tmp_path: Path) -> None:
    options = [
        "--data",
        data,
        "--out",
        tmp_path / "out",
        "--folds",
        2,
        "--contender",
        "harmonics",
        "--contender",
        "svm",
    ]
    studies = ["models", "lengths", "genres", "listeners"]
    done = invoke(*studies, *options, "--json")
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)) == set(studies)
    for study in studies:
        for ending in ("md", "json", "png"):
            assert (tmp_path / "out" / f"{study}.{ending}").stat().st_size > 200
    assert len((tmp_path / "out" / "recordings.csv").read_text().splitlines()) == 17
    genres = json.loads((tmp_path / "out" / "genres.json").read_text())["same_folds"]
    assert {line["view"] for line in genres} == set(GENRES)
    again = invoke("models", *options)
    assert again.exit_code == 1
    assert "exists; use --resume" in again.stderr
    assert invoke("models", *options, "--resume").exit_code == 0


def test_the_brightness_study_looks_at_every_network(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = invoke("brightness", "--data", data, "--out", out, "--folds", 2, "--epochs", 1, "--json")
    assert done.exit_code == 0, done.output
    networks = json.loads(done.stdout)["brightness"]["networks"]
    assert set(networks) == {"harmonics", "random_masks", "harmonics_2", "randomised"}
    assert all(one["n_clips"] == 16 for one in networks.values())
    text = (out / "brightness.md").read_text()
    assert "| shown |" in text
    assert "otoscope benchmark" not in (out / "recordings.csv").read_text()
    assert (out / "brightness.png").stat().st_size > 1000
    next((out / "fits" / "harmonics@emotify").glob("*.safetensors")).unlink()
    again = invoke("brightness", "--data", data, "--out", out, "--folds", 2, "--epochs", 1, "--resume")
    assert again.exit_code == 1
    assert "no such network" in again.stderr


@needs_data
def test_the_midlevel_study_tells_what_seven_features_explain(tmp_path: Path) -> None:
    from tests.builders import DATA

    songs = tmp_path / "songs"
    songs.mkdir()
    for path in sorted((DATA / "emotify" / "audio").glob("*.ogg"))[::8]:
        (songs / path.name).symlink_to(path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "emotify").symlink_to(DATA / "emotify")
    options = ["--data", tmp_path / "data", "--corpus", songs, "--model", "harmonics-1", "--out", tmp_path / "out"]
    done = invoke("midlevel", *options, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["midlevel"]["models"]["harmonics-1"]
    assert told["n_recordings"] == 50
    assert set(told["targets"]) == {"exuberance", "anxiety", "sadness", "contentment"}
    assert told["targets"]["anxiety"]["r2"] > told["targets"]["anxiety"]["chance"]
    assert "held-out R²" in (tmp_path / "out" / "midlevel.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "unknown study 'nonsense'"),
        (["transfer"], "transfer needs two data sets or sound fonts"),
        (["--quick", "--fold", "5"], "fold 5 is none of 0 to 2"),
        (["--font", "nowhere.sf2"], "nowhere.sf2: no such sound font"),
        (["--fold", "7", "--folds", "3"], "fold 7 is none of 0 to 2"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--contender", "nobody"], "unknown contender 'nobody'"),
    ],
)
def test_wrong_orders_are_told_before_any_work(data: Path, tmp_path: Path, arguments: list[str], told: str) -> None:
    options = [] if "--data" in arguments else ["--data", str(data)]
    done = invoke(*arguments, *options, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "fits").exists()


@needs_data
def test_a_quick_benchmark_of_real_songs(tmp_path: Path) -> None:
    from tests.builders import DATA

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "emotify").symlink_to(DATA / "emotify")
    done = invoke("models", "genres", "--quick", "--data", tmp_path / "data", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    table = json.loads(done.stdout)["models"]
    assert [line["row"]["contender"] for line in table["same_folds"]] == ["harmonics", "random_masks", "square", "svm"]
    assert [line["songs"] for line in table["all_folds"]] == [12, 12, 12]  # the large network learns one fold only
