"""The corpus of a two-level explanation: its spans, what is left out, what is kept, and the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

import otoscope
import otoscope.mer_models
from otoscope.adapters.audio import load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats
from otoscope.adapters.windows import Windowed
from otoscope.cli import main
from otoscope.corpus import cache_folder, find_corpus, listen
from otoscope.explainers.effects import load_effects
from otoscope.fit_effects import fit_effects, fit_two_level, shipped_effects, write_effects
from otoscope.midlevel_study import midlevel_study, to_markdown
from tests.builders import RATE, Function
from tests.songs import needs_data
from tests.third_party import place

MODEL = """
import numpy as np

def predict(x):
    level = np.log10(np.mean(np.square(x, dtype=np.float64), axis=1) + 1e-6)
    crossings = np.mean(np.diff(np.signbit(x), axis=1), axis=1)
    return np.stack([level, crossings], axis=1)

def score(x):
    level, crossings = predict(x).T
    p = 1 / (1 + np.exp(-(0.5 * level + 20 * crossings)))
    return np.stack([p, 1 - p], axis=1)
"""
QUICK = ["--parts", "grid", "--n-parts", "4", "--calls", "16"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTOSCOPE_CACHE", str(tmp_path / "cache"))


def sound(seed: int, *, seconds: float = 0.5, rate: int = RATE) -> Float32:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tone = rng.uniform(0.01, 0.5) * np.sin(2 * np.pi * rng.uniform(100, 3000) * time)
    return (tone + 1e-3 * rng.standard_normal(len(time))).astype(np.float32)


def songs(folder: Path, n: int = 110, **settings: Any) -> Path:
    """Short recordings, some of them in folders below."""
    for index in range(n):
        path = folder / f"genre{index % 3}" / f"{index:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound(index, **settings), settings.get("rate", RATE), subtype="FLOAT")
    return folder


class Counted(Function):
    """A model that counts the waveforms it hears."""

    def __init__(self, fingerprint: str, labels: tuple[str, ...] = ("level", "peak")) -> None:
        super().__init__(self.heard, labels=labels, output="regression")
        self.fingerprint = fingerprint
        self.n = 0

    def heard(self, x: Float32) -> Floats:
        """Score by level and peak."""
        self.n += len(x)
        return np.stack([np.abs(x).mean(axis=1), np.abs(x).max(axis=1)], axis=1).astype(np.float64)


def cards(folder: Path) -> tuple[Path, Path]:
    """Cards of a model and a mid-level model that are two functions."""
    folder.mkdir(exist_ok=True)
    (folder / "fake.py").write_text(MODEL)
    about = (
        '[model]\nname = "{}"\nkind = "python"\nlabels = {}\noutput = "{}"\n'
        '[model.settings]\nfunction = "fake.py:{}"\n[input]\nrate = {}\n'
    )
    model, mid = folder / "fake.toml", folder / "features.toml"
    model.write_text(about.format("fake", '["yes", "no"]', "softmax", "score", 8000))
    mid.write_text(about.format("features", '["level", "crossings"]', "regression", "predict", 11025))
    return model, mid


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_spans_lie_side_by_side_evenly_and_the_same_every_time(tmp_path: Path) -> None:
    songs(tmp_path / "songs", 98)
    for name, seconds in (("long", 21.0), ("twice", 2.0), ("odd", 3.7)):
        soundfile.write(tmp_path / "songs" / f"{name}.flac", sound(1, seconds=seconds), RATE)
    (tmp_path / "songs" / ".hidden.wav").write_text("no audio")
    (tmp_path / "songs" / "list.csv").write_text("no audio")
    one = find_corpus(tmp_path / "songs", seconds=1.0)
    starts = {path.stem: starts for path, starts in zip(one.files, one.starts, strict=True)}
    assert one.n_spans == 98 + 4 + 2 + 3
    assert starts["000"] == (0.0,)
    assert starts["long"] == pytest.approx((0, 6.66, 13.33, 20))  # 400 wanted of 101 recordings: up to four each
    assert starts["twice"] == (0.0, 1.0)
    assert starts["odd"] == pytest.approx((0, 1.35, 2.7))
    assert list(one.files) == sorted(one.files)
    assert one.unread == ()
    two = find_corpus(tmp_path / "songs", seconds=1.0)
    assert (one.starts, one.sha256) == (two.starts, two.sha256)
    assert find_corpus(tmp_path / "songs", seconds=1.5).sha256 != one.sha256


def test_the_hash_is_that_of_the_recordings(tmp_path: Path) -> None:
    one = find_corpus(songs(tmp_path / "a")).sha256
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "a", moved)
    assert find_corpus(moved).sha256 == one
    soundfile.write(moved / "genre0" / "000.wav", sound(999), RATE, subtype="FLOAT")
    assert find_corpus(moved).sha256 != one


def test_the_answers_are_the_models_own_on_each_span(tmp_path: Path) -> None:
    found = find_corpus(songs(tmp_path / "songs", rate=11025, seconds=1.2), seconds=0.5)
    model = Counted("one")
    answers = listen(found, model).scores
    assert answers.shape == (220, 2)
    row = 0
    for path, starts in zip(found.files, found.starts, strict=True):
        for start in starts:
            samples = load_audio(path).cut(start, 0.5).at(RATE).samples
            expected = Windowed(model, len(samples)).predict(samples[None])[0]
            np.testing.assert_allclose(answers[row], expected)
            row += 1


def test_answers_are_kept_by_model_and_corpus_and_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    found, model = find_corpus(songs(tmp_path / "songs")), Counted("one")
    first = listen(found, model).scores
    asked = model.n
    np.testing.assert_array_equal(listen(found, model).scores, first)
    assert model.n == asked
    other = Counted("two")
    listen(found, other)
    assert other.n == asked
    kept = sorted(cache_folder().iterdir())
    assert len(kept) == 2
    soundfile.write(tmp_path / "songs" / "genre0" / "000.wav", sound(999), RATE, subtype="FLOAT")
    changed = listen(find_corpus(tmp_path / "songs"), model).scores
    assert model.n > asked
    assert (changed != first).any(axis=1).sum() == 1
    soundfile.write(tmp_path / "songs" / "genre0" / "000.wav", sound(0), RATE, subtype="FLOAT")
    for content in (b"", b"PK nonsense", kept[0].read_bytes()[:100]):
        for path in kept:
            path.write_bytes(content)
        before = model.n
        np.testing.assert_array_equal(listen(found, model).scores, first)
        assert model.n > before
        shutil.rmtree(cache_folder())
        listen(found, other)
        listen(found, model)
        kept = sorted(cache_folder().iterdir())


def test_a_place_that_cannot_be_written_to_only_means_that_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found, model = find_corpus(songs(tmp_path / "songs")), Counted("one")
    first = listen(found, model, cache=tmp_path / "file").scores
    np.testing.assert_array_equal(listen(found, model, cache=tmp_path / "file").scores, first)


def test_the_cache_lies_where_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("OTOSCOPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "otoscope"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "otoscope"


def spoil(folder: Path) -> None:
    """Make of three recordings a text, a truncated file and silence."""
    (folder / "genre0" / "000.wav").write_text("this is no audio")
    rng = np.random.default_rng(0)
    path = folder / "genre1" / "001.mp3"
    soundfile.write(path, rng.uniform(-0.3, 0.3, 4 * RATE), RATE, format="MP3")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    soundfile.write(folder / "genre2" / "002.wav", np.zeros(RATE), RATE)


def test_bad_recordings_are_named_and_left_out_also_when_recalled(tmp_path: Path) -> None:
    folder = songs(tmp_path / "songs")
    spoil(folder)
    for _ in range(2):  # the second time from what was kept
        effects = fit_effects(find_corpus(folder), Counted("one"), Counted("two"))
        assert len(effects.features) == 108
        assert len(np.unique(effects.recordings)) == 108
        (note,) = effects.notes
        assert note.startswith("left out of the corpus: 3 recordings (")
        for name in ("000.wav: cannot be read as audio", "001.mp3: is cut off", "002.wav: is digital silence in"):
            assert name in note
        assert "\n" not in note


def test_too_small_a_corpus_says_how_many_spans_there_are(tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match="no such folder"):
        find_corpus(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OtoscopeError, match=r"empty: holds 0 spans of 10 s in 0 recordings.*at least 100"):
        find_corpus(tmp_path / "empty")
    folder = songs(tmp_path / "songs", 101)
    spoil(folder)
    with pytest.raises(OtoscopeError, match=r"holds 99 spans .* left out: .*000.wav.*001.mp3.*002.wav"):
        fit_effects(find_corpus(folder), Counted("one"), Counted("two"))
    (folder / "genre1" / "004.wav").write_bytes(b"RIFF")
    (folder / "genre2" / "005.wav").unlink()
    with pytest.raises(OtoscopeError, match=r"holds 99 spans of 10 s in 99 recordings.*left out: .*000.wav.*004.wav"):
        find_corpus(folder)


def test_one_long_recording_cannot_be_held_out(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    soundfile.write(tmp_path / "songs" / "long.wav", sound(0, seconds=60), RATE)
    with pytest.raises(OtoscopeError, match="one recording only"):
        fit_effects(find_corpus(tmp_path / "songs", seconds=0.5), Counted("one"), Counted("two"))


def test_too_many_features_are_refused_before_anything_is_heard(tmp_path: Path) -> None:
    model, mid = Counted("one"), Counted("two", tuple("abcdefghijklm"))
    with pytest.raises(OtoscopeError, match="up to 12 features, this one has 13"):
        fit_effects(find_corpus(songs(tmp_path / "songs")), model, mid)
    assert model.n == mid.n == 0


def test_shipped_effects_are_found_by_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, model, mid = songs(tmp_path / "songs"), Counted("mine"), Counted("features")
    path = write_effects(tmp_path / "package" / "mine-1-effects.npz", folder, model, mid, about="some songs")
    assert load_effects(path).about == "some songs"
    monkeypatch.setattr(otoscope.mer_models, "__file__", str(path.parent / "__init__.py"))
    assert shipped_effects("another") is None
    found = fit_two_level(model, mid)
    np.testing.assert_array_equal(found.effects.scores, load_effects(path).scores)
    assert found.midlevel is mid
    with pytest.raises(OtoscopeError, match="of another mid-level model; give --corpus"):
        fit_two_level(model, Counted("newer"))
    with pytest.raises(OtoscopeError, match=r"no effects are shipped for this model; give --corpus.*100 spans of 10 s"):
        fit_two_level(Counted("yours"), mid)


def test_from_python_in_two_lines(tmp_path: Path) -> None:
    model, mid = Counted("one"), Counted("two")
    two_level = otoscope.fit_two_level(model, mid, songs(tmp_path / "songs"))
    audio = otoscope.Audio(sound(5), RATE)
    settings = otoscope.Settings(parts="grid", n_parts=4, calls=16)
    got = otoscope.explain(model, audio, method="two_level", target="peak", settings=settings, two_level=two_level)
    assert isinstance(two_level, otoscope.TwoLevel)
    np.testing.assert_allclose(got.native["weights"], [0, 1], atol=1e-6)  # the features are the model's own scores


def test_the_command_line_explains_on_two_levels(tmp_path: Path) -> None:
    folder, (model, mid) = songs(tmp_path / "songs"), cards(tmp_path / "cards")
    spoil(folder)
    song = folder / "genre0" / "003.wav"
    asked = ["explain", song, "--model", model, "--trust", "--method", "two_level", "--midlevel", mid]
    asked += ["--corpus", folder, "--target", "yes", *QUICK]
    result = run(*asked, "--feature", "crossings", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for words in ("fake, two_level", "level one", "remainder", "level two: crossings", "left out of the corpus: 3"):
        assert words in result.stdout
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Level two: what in the sound makes the crossings" in page
    again = run(*asked, "--method", "lime", "--out", tmp_path / "two", "--json")
    assert again.exit_code == 0, again.output
    level, lime = json.loads(again.stdout)["results"]
    assert level["level_one"]["r2"] > 0.99
    assert {row["name"] for row in level["level_one"]["features"]} == {"level", "crossings"}
    assert "level_one" not in lime
    resumed = run(*asked, "--method", "lime", "--out", tmp_path / "two", "--json", "--resume")
    assert json.loads(resumed.stdout)["results"] == [level, lime]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "lime", "--corpus", "songs"], ["--corpus means nothing to lime; it is for two_level"]),
        (["--method", "lime", "--midlevel", "x"], ["--midlevel means nothing to lime"]),
        (["--method", "lime", "--feature", "x"], ["--feature means nothing to lime; it is for two_level"]),
        (["--method", "two_level", "--corpus", "nothing"], ["nothing: no such folder"]),
        (["--method", "two_level", "--corpus", "few"], ["few: holds 3 spans", "at least 100"]),
        (["--method", "two_level", "--midlevel", "features.toml"], ["no effects are shipped", "give --corpus"]),
        (["--method", "two_level", "--corpus", "songs", "--midlevel", "nothing"], ["unknown model 'nothing'"]),
        (
            ["--method", "two_level", "--corpus", "songs", "--midlevel", "features.toml", "--feature", "levle"],
            ["unknown feature 'levle': did you mean 'level'?"],
        ),
    ],
)
def test_a_wish_that_cannot_be_granted_is_one_line_and_nothing_is_written(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards(tmp_path)
    songs(tmp_path / "songs", 100)
    songs(tmp_path / "few", 3)
    monkeypatch.chdir(tmp_path)
    result = run("explain", "few/genre0/000.wav", "--model", "fake.toml", "--trust", "--out", "out", *QUICK, *arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    for word in words:
        assert word in line
    assert not Path("out").exists()
    assert not cache_folder().exists()  # refused before anything was heard


def test_a_study_tells_r2_and_shares_of_every_class(tmp_path: Path) -> None:
    folder, mid = songs(tmp_path / "songs"), Counted("features")
    rng = np.random.default_rng(0)
    dice = Function(lambda x: rng.uniform(size=(len(x), 1)), labels=("dice|die",), output="sigmoid")
    same = Function(lambda x: np.full((len(x), 1), 0.4), labels=("same",), output="sigmoid")
    dice.fingerprint, same.fingerprint = "dice", "same"
    models = {"twin": Counted("twin", ("one", "two")), "dice": dice, "same": same}
    found = midlevel_study(models, mid, folder, targets={"twin": ["two"]})
    twin, random = found["models"]["twin"], found["models"]["dice"]
    assert list(twin["targets"]) == ["two"]
    assert twin["targets"]["two"]["r2"] == pytest.approx(1, abs=1e-3)
    shares = twin["targets"]["two"]["shares"]
    assert sum(share for share, _, _ in shares.values()) == pytest.approx(1, abs=1e-3)
    assert twin["targets"]["two"]["chance"] < 0.1
    assert random["targets"]["dice|die"]["r2"] < 0.1
    assert found["models"]["same"]["mean_r2"] is None
    json.dumps(found, allow_nan=False)
    text = to_markdown(found)
    assert "| two | 1.00 |" in text
    assert r"| dice\|die |" in text
    assert "### same: mean held-out R² none varies" in text
    widths = {line.replace(r"\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {6}


@needs_data
def test_a_third_party_tagger_is_explained_on_two_levels(tmp_path: Path) -> None:
    card = place("msd_musicnn", tmp_path)
    _, mid = cards(tmp_path / "cards")
    folder = songs(tmp_path / "songs", 100, rate=22050, seconds=1.0)
    song = folder / "genre0" / "000.wav"
    asked = ["explain", song, "--model", card, "--midlevel", mid, "--trust", "--method", "two_level"]
    result = run(*asked, "--corpus", folder, "--target", "rock", *QUICK, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    (one,) = json.loads(result.stdout)["results"]
    level = one["level_one"]
    assert one["model"] == "msd-musicnn"
    assert level["n_spans"] == 100
    total = sum(row["centred_effect"] for row in level["features"]) + level["remainder"]
    assert total == pytest.approx(level["score"] - level["mean_score"], abs=1e-6)
    # The parts lie at the higher of 16,000 and 11,025 Hz.
    assert otoscope.load_explanation(one["folder"]).audio.rate == 16000
