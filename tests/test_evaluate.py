"""Evaluation: every figure is that of the explanation, intervals are bootstraps, and a broken run goes on."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

import otoscope
from otoscope.adapters.audio import Audio, load_audio
from otoscope.cli import main
from otoscope.explainers import faithfulness
from otoscope.explainers.evaluation import Question, Row, evaluate, evaluate_one, from_document
from otoscope.explainers.evaluation_columns import COLUMNS, EVALUATED, find_metrics
from otoscope.explainers.evaluation_table import apart, beaten, interval, summary
from otoscope.explainers.explain import explain
from otoscope.explainers.measures import measure
from otoscope.explainers.methods import Settings
from tests.builders import RATE, Function, noise, sigmoid, tone

QUICK = ("--parts", "grid", "--n-parts", "16", "--calls", "256")
SETTINGS = Settings(parts="grid", n_parts=16, calls=256)


def loud_band(waveforms: Any) -> Any:
    power = np.abs(np.fft.rfft(waveforms, axis=1)) ** 2
    inside = np.fft.rfftfreq(waveforms.shape[1], 1 / RATE)
    heard = power[:, (inside > 900) & (inside < 1100)].sum(axis=1) / waveforms.shape[1] ** 2
    yes = sigmoid(np.log(heard / 1e-4 + 1e-3))
    return np.stack([yes, 1 - yes], axis=1)


def model() -> Function:
    return Function(loud_band, labels=("yes", "no"), output="softmax")


def song(seed: int, seconds: float = 0.5) -> Audio:
    samples = 0.05 * noise(seconds=seconds, level=1.0, seed=seed)
    samples += tone(1000.0, seconds=seconds, level=0.1 + 0.02 * seed) + tone(2500.0, seconds=seconds, level=0.3)
    return Audio(samples.astype(np.float32), RATE, f"{seed}.wav")


def row(recording: str = "a", method: str = "lime", verdict: str | None = "trust", **metrics: float) -> Row:
    return Row(recording, recording, "m", method, "yes", "log-odds", dict(metrics), {}, verdict, (), None)


def test_figures_are_those_of_the_explanation() -> None:
    one = model()
    e = explain(one, song(1), target="yes", settings=SETTINGS)
    got = measure(e, one)
    trip = e.round_trip
    full, kept, rest = trip.original.score, trip.evidence.score, trip.complement.score
    assert got["average_drop"] == pytest.approx(100 * max(0, full - kept) / full)
    assert got["average_increase"] == 100.0 * (kept > full)
    assert got["average_gain"] == pytest.approx(100 * max(0, kept - full) / (1 - full))
    assert got["faithfulness_to_filtering"] == pytest.approx(full - rest)
    assert got["input_fidelity"] == float(np.argmax(trip.original.all) == np.argmax(trip.evidence.all))
    assert got["comprehensiveness"] == pytest.approx(full - rest)
    assert got["sufficiency"] == pytest.approx(full - kept)
    assert e.curves is not None
    for name, rows in (("deletion", e.curves.deletion), ("insertion", e.curves.insertion)):
        for ranking, end in enumerate(("", ".energy", ".random")):
            assert got[name + end] == pytest.approx(np.trapezoid(rows[ranking], e.curves.counts / e.curves.counts[-1]))
    assert got["gain_over_energy"] == pytest.approx(
        got["insertion"] - got["deletion"] - got["insertion.energy"] + got["deletion.energy"]  # type: ignore[operator]
    )
    assert got["sparseness"] == faithfulness.sparseness(e.map[e.heard].clip(min=0))
    assert got["calls"] == e.n_calls


def test_top_k_plays_the_best_parts_again() -> None:
    one = model()
    e = explain(one, song(1), target="yes", settings=SETTINGS)
    got = measure(e, one)
    order = np.argsort(-e.weights, kind="stable")
    for k in (3, 11):
        mask = np.zeros((1, e.parts.k))
        mask[0, [part for part in order[:k] if e.weights[part] > 0]] = 1
        top = np.argmax(one.predict(e.parts.compose(mask))[0])
        assert got[f"top_{k}"] == float(top == np.argmax(e.score.all))


def test_a_regression_has_no_metrics_of_classes() -> None:
    one = Function(lambda x: np.sqrt((x**2).mean(axis=1))[:, None], labels=("loud",), output="regression")
    e = explain(one, song(1), target="loud", settings=SETTINGS)
    got = measure(e, one)
    assert got["average_drop"] is None
    assert got["input_fidelity"] is None
    assert got["top_3"] is None
    assert got["insertion"] is not None


def test_intervals_are_percentile_bootstraps() -> None:
    values = np.random.default_rng(1).normal(size=30)
    got = interval(list(values))
    again = np.random.default_rng(7).integers(30, size=(20_000, 30))
    low, high = np.quantile(values[again].mean(axis=1), [0.025, 0.975])
    assert got["mean"] == pytest.approx(values.mean())
    assert (got["low"], got["high"]) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))
    assert interval([1.5])["low"] is None


def test_apart_means_that_intervals_do_not_touch() -> None:
    low, high = interval([0.0, 0.1, 0.2] * 5), interval([1.0, 1.1, 1.2] * 5)
    assert apart(high, low)
    assert not apart(low, high)
    assert apart(low, high, lower=True)
    assert not apart(low, low)


def test_an_order_is_beaten_where_the_paired_difference_lies_above_zero() -> None:
    rng = np.random.default_rng(0)

    def rows(over: float) -> list[Row]:
        gains = rng.normal(size=20)
        return [
            row(
                str(i),
                gain=g + over,
                **{"gain.energy": g, "gain.random": g, "gain_over_energy": over, "gain_over_random": over},
            )
            for i, g in enumerate(gains)
        ]

    won, lost = beaten(rows(10.0)), beaten(rows(-10.0))
    assert won["energy"]["beats"]
    assert not lost["energy"]["beats"]


def test_a_row_comes_back_from_its_document() -> None:
    one = evaluate_one(model(), song(2), "lime", Question("yes"), settings=SETTINGS, name="m")
    again = from_document(json.loads(json.dumps(one.to_document())))
    assert again.metrics == one.metrics
    assert again.verdict == one.verdict
    assert again.curves is not None
    np.testing.assert_allclose(again.curves.insertion, one.curves.insertion)  # type: ignore[union-attr]


def test_from_python_it_is_one_call() -> None:
    got = evaluate(model(), [song(1), song(2)], methods=["lime", "ablation"], target="yes", settings=SETTINGS)
    assert len(got.rows) == 4
    assert callable(otoscope.evaluate)


def test_a_summary_counts_verdicts_and_marks_the_best() -> None:
    rows = [row(str(i), "lime", gain=5 + i / 10) for i in range(8)]
    rows += [row(str(i), "rise", "caution", gain=i / 10) for i in range(8)]
    told = summary(rows, ["gain"])
    lines = {line["method"]: line["cells"]["gain"] for line in told["lines"] if line["ranking"] == "own"}
    assert told["verdicts"] == {
        "lime": {"trust": 8, "caution": 0, "do not use": 0},
        "rise": {"trust": 0, "caution": 8, "do not use": 0},
    }
    assert lines["lime"]["best"]
    assert not lines["rise"]["best"]
    few = summary([one for one in rows if one.recording in "012"], ["gain"])
    assert not any(line["cells"]["gain"]["best"] for line in few["lines"])


def test_every_metric_has_a_column() -> None:
    assert {column.metric for column in COLUMNS.values()} == set(EVALUATED)
    assert "max_sensitivity" not in find_metrics(None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    songs = tmp_path / "songs"
    songs.mkdir()
    for seed in range(3):
        soundfile.write(songs / f"{seed}.wav", song(seed).samples, RATE)
    code = "import numpy as np\nfrom tests.test_evaluate import loud_band as predict\n"
    (tmp_path / "code.py").write_text(code)
    (tmp_path / "card.toml").write_text(
        '[model]\nname = "band"\nkind = "python"\nlabels = ["yes", "no"]\noutput = "softmax"\n'
        f'[model.settings]\nfunction = "code.py:predict"\n[input]\nrate = {RATE}\n'
    )
    return tmp_path


def run(folder: Path, *more: Any, out: str = "out") -> Result:
    given = ["evaluate", folder / "songs", "--model", folder / "card.toml", "--trust", *QUICK, "--out", folder / out]
    return CliRunner().invoke(main, [str(word) for word in (*given, *more)])


def test_the_command_writes_tables_and_a_figure(folder: Path) -> None:
    got = run(folder, "--method", "lime", "--method", "ablation")
    assert got.exit_code == 0, got.output
    assert "insertion − deletion" in got.stdout
    document = json.loads((folder / "out" / "evaluation.json").read_text())
    assert document["schema"] == "otoscope/evaluation/1"
    assert document["complete"]
    assert (folder / "out" / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "out" / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert len(list((folder / "out" / "rows").glob("*.json"))) == 6


def test_a_broken_row_is_named_and_made_again_and_the_others_are_kept(folder: Path) -> None:
    assert run(folder).exit_code == 0
    first, second, third = sorted((folder / "out" / "rows").glob("*.json"))
    kept = [first.stat().st_mtime_ns, third.stat().st_mtime_ns]
    whole = json.loads(second.read_text())
    second.write_text(second.read_text()[:100])
    again = run(folder, "--resume")
    assert again.exit_code == 0, again.output
    assert "this result is damaged" in again.stderr
    assert second.name in again.stderr
    assert [first.stat().st_mtime_ns, third.stat().st_mtime_ns] == kept
    made = json.loads(second.read_text())
    for each in (whole, made):
        del each["row"]["metrics"]["seconds"]
    assert made == whole


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--metric", "avarage_drop"), "unknown metric 'avarage_drop': did you mean 'average_drop'"),
        (("--method", "limes"), "unknown method 'limes'"),
        (("--target", "maybe"), "unknown"),
    ],
)
def test_what_is_not_there_is_one_line(folder: Path, more: tuple[str, ...], told: str) -> None:
    got = run(folder, *more)
    assert got.exit_code == 1
    assert told in got.stderr
    assert not (folder / "out").exists()


def test_rows_of_other_settings_are_refused_and_kept(folder: Path) -> None:
    assert run(folder).exit_code == 0
    before = {path: path.read_bytes() for path in (folder / "out" / "rows").glob("*.json")}
    got = run(folder, "--resume", "--seed", "5")
    assert got.exit_code == 1
    assert "other settings (seed 0, not 5" in got.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_a_recording_that_fails_is_named_and_the_others_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import otoscope.evaluating as evaluating
    from otoscope.adapters.errors import OtoscopeError

    real = evaluate_one

    def failing(model: Any, audio: Audio, *rest: Any, **more: Any) -> Row:
        if audio.name == "1.wav":
            raise OtoscopeError("the model fell over")
        return real(model, audio, *rest, **more)

    monkeypatch.setattr(evaluating, "evaluate_one", failing)
    got = run(folder)
    assert got.exit_code == 1
    assert "1 explanations failed, the others are kept" in got.stderr
    assert "the model fell over" in got.stderr
    assert not json.loads((folder / "out" / "evaluation.json").read_text())["complete"]
    monkeypatch.undo()
    assert run(folder, "--resume").exit_code == 0


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    got = CliRunner().invoke(main, ["evaluate", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")])
    assert got.exit_code == 1
    assert "holds no recordings" in got.stderr


def test_the_files_are_read_as_they_are(folder: Path) -> None:
    assert load_audio(folder / "songs" / "0.wav").rate == RATE
