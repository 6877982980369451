"""Two-level explanations: planted features, planted scores, and that both levels find them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats
from otoscope.adapters.resampling import Resampled, at_rate, resampled
from otoscope.explainers import grid
from otoscope.explainers.document import to_document
from otoscope.explainers.effects import Effects, TwoLevel
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.level_one import to_table
from otoscope.explainers.methods import Settings
from otoscope.explainers.report import level_sentence, write_report
from otoscope.explainers.store import load_explanation, result_folder, save
from tests.builders import Function, noise, sigmoid, tone

RATE = 16000
SECONDS = 2.0
BANDS = {"low": (100.0, 400.0), "middle": (800.0, 1600.0), "high": (3000.0, 5000.0)}
NAMES = tuple(BANDS)
WEIGHTS = np.array([0.4, -0.7, 0.2])
QUICK: dict[str, Any] = {"parts": "grid", "n_parts": 16, "calls": 128}


def levels(waveforms: Float32, rate: int) -> Floats:
    """Amplitude in each band, (n, 3): zero on silence, 1 for about a tone at full scale."""
    power = np.abs(np.fft.rfft(waveforms, axis=1)) ** 2  # (n, n_bins)
    frequencies = np.fft.rfftfreq(waveforms.shape[1], 1 / rate)
    rows = [power[:, (frequencies >= low) & (frequencies < high)].sum(axis=1) for low, high in BANDS.values()]
    return np.asarray(np.sqrt(4 * np.stack(rows, axis=1)) / waveforms.shape[1])


def named(function: Function, fingerprint: str) -> Function:
    function.fingerprint = fingerprint
    return function


def midlevel(rate: int = RATE) -> Function:
    """Make a mid-level model of three features."""
    return named(Function(lambda x: levels(x, rate), rate=rate, labels=NAMES, output="regression"), f"midlevel {rate}")


def linear_model(rate: int = RATE) -> Function:
    """Make a model whose log-odds are linear in the features."""

    def score(x: Float32) -> Floats:
        p = sigmoid(levels(x, rate) @ WEIGHTS - 0.1)
        return np.stack([p, 1 - p], axis=1)

    return named(Function(score, rate=rate, labels=("yes", "no"), output="softmax"), f"linear {rate}")


def stranger(rate: int = RATE) -> Function:
    """Make a model that hears what no feature says: the sign of single samples."""

    def score(x: Float32) -> Floats:
        return np.asarray(sigmoid(3 * np.sin(1e4 * x[:, 1000:1010].sum(axis=1, keepdims=True, dtype=np.float64))))

    return named(Function(score, rate=rate, labels=("yes",), output="sigmoid"), f"stranger {rate}")


def sounds(n: int = 120, rate: int = RATE) -> Float32:
    """Tones in the three bands at levels of their own, with noise, (n, n_samples)."""
    rng = np.random.default_rng(3)
    tones = np.stack([tone(f, seconds=SECONDS, rate=rate, level=1.0) for f in (200, 1000, 4000)])
    mixes = rng.uniform(0, 0.3, (n, 3)) @ tones
    return (mixes + 1e-3 * rng.standard_normal(mixes.shape)).astype(np.float32)


def fitted(model: Function, mid: Function, **changes: Any) -> TwoLevel:
    """Fit effects to the sounds as the door would."""
    plain: dict[str, Any] = {
        "features": mid.predict(sounds(rate=mid.rate)),
        "scores": model.predict(sounds(rate=model.rate)),
        "recordings": np.arange(120) // 2,
        "names": mid.labels,
        "labels": model.labels,
        "output": model.output,
        "fingerprint": model.fingerprint,
        "midlevel": mid.fingerprint,
        "corpus": "c" * 64,
        "seconds": SECONDS,
    }
    return TwoLevel(mid, Effects(**(plain | changes)))


def scene(rate: int = RATE) -> Audio:
    """One tone of the middle band from 0.5 to 1 s, one of the low band from 1 s on, and noise."""
    samples = tone(1000, seconds=SECONDS, rate=rate, level=0.9, start=0.5, stop=1.0)
    samples = samples + tone(200, seconds=SECONDS, rate=rate, level=0.05, start=1.0, stop=2.0)
    return Audio(samples + noise(seconds=SECONDS, rate=rate, level=1e-3), rate, "scene.wav")


def explained(model: Function | None = None, mid: Function | None = None, **asked: Any) -> Explanation:
    model, mid = model or linear_model(), mid or midlevel()
    given = asked.pop("two_level", None) or fitted(model, mid)
    audio = asked.pop("audio", None) or scene()
    target = asked.pop("target", "yes")
    seed = asked.pop("seed", 0)
    settings = Settings(**(QUICK | asked))
    return explain(model, audio, method="two_level", target=target, settings=settings, two_level=given, seed=seed)


def test_level_one_of_a_linear_model_is_exact() -> None:
    got = explained()
    values = levels(scene().samples[None], RATE)[0]
    table = to_table(got.native)
    assert table["r2"] == pytest.approx(1, abs=1e-6)
    assert table["r2_fitted"] == pytest.approx(1, abs=1e-6)
    assert table["remainder"] == pytest.approx(0, abs=1e-6)
    assert table["bias"] == pytest.approx(-0.1, abs=1e-6)
    np.testing.assert_allclose(got.native["weights"], WEIGHTS, atol=1e-6)
    np.testing.assert_allclose(got.native["effects"], WEIGHTS * values, atol=1e-6)
    assert got.fidelity["features_r2"] == pytest.approx(1, abs=1e-6)
    assert not [note for note in got.notes if "explain little" in note]
    assert got.score.scaled == pytest.approx(table["score"])
    total = got.native["centred_effects"].sum() + table["remainder"]
    assert total == pytest.approx(table["score"] - table["mean_score"], abs=1e-6)


def test_level_two_drills_into_the_largest_effect_and_finds_its_sound() -> None:
    got = explained()
    assert to_table(got.native)["feature"] == "middle"
    # The weight of `middle` is negative: its tone speaks against the target.
    against = np.maximum(0, -got.map)
    bands, times = got.frequencies, got.times
    here = np.outer((bands > 780) & (bands < 1250), (times > 0.4) & (times < 1.1))
    assert against[here].sum() / against.sum() > 0.9
    assert got.weights.min() < -0.05
    assert not got.chosen[np.argmin(got.weights)]
    assert got.fidelity["r2"] is not None
    assert got.fidelity["r2"] > 0.9


def test_level_two_of_another_feature_finds_another_sound() -> None:
    got = explained(feature="Low")
    assert to_table(got.native)["feature"] == "low"
    mass = np.maximum(0, got.map)
    here = np.outer((got.frequencies > 150) & (got.frequencies < 300), got.times > 0.9)
    assert mass[here].sum() / mass.sum() > 0.9
    assert got.chosen.any()
    assert got.round_trip.evidence.score > got.round_trip.complement.score  # the explained model agrees


def test_the_weights_are_in_the_models_units_and_sum_to_the_features_own_effect() -> None:
    got = explained()
    change = float(WEIGHTS[1] * levels(scene().samples[None], RATE)[0, 1])  # silence has none
    assert got.units == "log-odds"
    assert got.weights.sum() == pytest.approx(change, rel=0.25)
    assert got.fidelity["effect_gap"] == pytest.approx(change - got.weights.sum(), abs=1e-5)
    assert got.se is not None
    assert (got.se > 0).all()


def test_a_model_the_features_say_nothing_about_gets_the_note_and_a_remainder() -> None:
    model = stranger()
    got = explained(model)
    assert got.fidelity["features_r2"] is not None
    assert got.fidelity["features_r2"] < 0.1
    assert any("explain little of this model's yes" in note for note in got.notes)
    table = to_table(got.native)
    unexplained = table["score"] - table["bias"] - sum(row["effect"] for row in table["features"])
    assert table["remainder"] == pytest.approx(unexplained, abs=1e-9)


def test_a_score_that_does_not_vary_is_told() -> None:
    model = named(Function(lambda x: np.full((len(x), 1), 0.3)), "constant")
    model.rate = RATE
    got = explained(model)
    assert got.fidelity["features_r2"] is None
    assert any("does not vary over the corpus" in note for note in got.notes)
    np.testing.assert_allclose(got.weights, 0, atol=1e-12)


def test_collinear_features_and_a_small_or_other_corpus_are_told() -> None:
    model, mid = linear_model(), midlevel()
    features = mid.predict(sounds())
    twin = features[:, 0] + 0.1 * features[:, 2]
    given = fitted(model, mid, features=np.column_stack([features[:, 0], twin, features[:, 2]]))
    got = explained(model, mid, two_level=given)
    assert any("another sign than the feature's own correlation" in note for note in got.notes)
    few = fitted(model, mid, recordings=np.arange(120) // 20, seconds=10.0, notes=("left out: x.ogg",))
    told = explained(model, mid, two_level=few).notes
    assert "the corpus holds 6 recordings only, so its figures are rough" in told
    assert "the effects were fitted to spans of 10 s, and this one lasts 2.00 s" in told
    assert "left out: x.ogg" in told


@pytest.mark.parametrize(("model_rate", "midlevel_rate"), [(16000, 22050), (22050, 16000), (16000, 16000)])
def test_models_of_different_rates_hear_the_same_recording(model_rate: int, midlevel_rate: int) -> None:
    model, mid = linear_model(model_rate), midlevel(midlevel_rate)
    audio = scene(44100)
    got = explained(model, mid, audio=audio)
    rate = max(model_rate, midlevel_rate)
    assert got.audio.rate == got.evidence.rate == got.complement.rate == rate
    values = levels(audio.at(midlevel_rate).samples[None], midlevel_rate)[0]
    np.testing.assert_allclose(got.native["values"], values, rtol=1e-3, atol=1e-5)
    assert got.fidelity["features_r2"] == pytest.approx(1, abs=1e-4)
    expected = model.predict(audio.at(model_rate).samples[None])[0, 0]
    assert got.score.score == pytest.approx(expected, abs=1e-6)
    alone = model.predict(resampled(got.complement.samples[None], rate, model))[0, 0]
    assert got.round_trip.complement.score == pytest.approx(alone, abs=1e-6)
    both = got.evidence.samples + got.complement.samples
    np.testing.assert_allclose(both, got.audio.samples, atol=1e-5)
    assert to_table(got.native)["feature"] == "middle"
    assert got.map.shape == (grid.N_BANDS, 20)


def test_a_resampled_model_answers_as_the_model_does() -> None:
    inner = midlevel(8000)
    inner.n_samples = 12000
    outer = at_rate(inner, 22050)
    assert isinstance(outer, Resampled)
    assert outer.n_samples == 33075
    x = tone(200, seconds=1.5, rate=22050)[None]
    np.testing.assert_allclose(outer.predict(x), inner.predict(tone(200, seconds=1.5, rate=8000)[None]), atol=2e-3)
    assert at_rate(inner, 8000) is inner
    assert outer.fingerprint == inner.fingerprint


def test_scales_and_contrasts_reach_level_one() -> None:
    assert explained(scale="score").units == "score"
    odds, score = explained(), explained(scale="score")
    assert score.native["weights"][1] == pytest.approx(odds.native["weights"][1] / 4, rel=0.1)  # dp = p(1 − p) d logit
    contrast = explained(target="yes-no")
    np.testing.assert_allclose(contrast.native["weights"], odds.native["weights"], atol=1e-9)
    quiet = explained(midlevel(), target="low")  # the loudest band has no effect on it
    assert to_table(quiet.native)["feature"] == "low"
    regression = explained(midlevel(), target="high")
    np.testing.assert_allclose(regression.native["weights"], [0, 0, 1], atol=1e-7)
    assert regression.units == "score"


def test_the_same_seed_gives_the_same_and_the_default_asks_less_than_lime() -> None:
    one, two, other = explained(seed=3), explained(seed=3), explained(seed=4)
    np.testing.assert_array_equal(one.weights, two.weights)
    np.testing.assert_array_equal(one.native["intervals"], two.native["intervals"])
    assert not np.array_equal(one.weights, other.weights)
    assert not np.array_equal(one.native["intervals"], other.native["intervals"])
    assert one.masks is not None
    assert len(one.masks) == 128
    default = explained(calls=None, n_parts=16, zoom=0)
    assert default.masks is not None
    assert len(default.masks) == 512
    assert default.scores is not None
    assert default.scores.shape == (512, 3)


def test_wrong_company_is_one_clear_line() -> None:
    model, mid = linear_model(), midlevel()
    given = fitted(model, mid)
    with pytest.raises(OtoscopeError, match=r"two_level needs two_level=TwoLevel"):
        explain(model, scene(), method="two_level", target="yes")
    with pytest.raises(OtoscopeError, match=r"lime takes no two_level=TwoLevel"):
        explain(model, scene(), method="lime", target="yes", two_level=given)
    with pytest.raises(OtoscopeError, match=r"another model \(stranger 16000…, not linear 16000…\).*--corpus"):
        explained(model, mid, two_level=fitted(stranger(), mid))
    with pytest.raises(OtoscopeError, match="another mid-level model"):
        explained(model, mid, two_level=TwoLevel(named(midlevel(), "other"), given.effects))
    with pytest.raises(OtoscopeError, match="other features or classes"):
        explained(model, mid, two_level=fitted(model, mid, names=("a", "b", "c")))
    with pytest.raises(OtoscopeError, match=r"unknown feature 'middel': did you mean 'middle'\?"):
        explained(model, mid, two_level=given, feature="middel")
    with pytest.raises(OtoscopeError, match="feature means nothing to lime; it is a setting of two_level"):
        explain(model, scene(), method="lime", target="yes", settings=Settings(feature="low"))
    with pytest.raises(OtoscopeError, match="render means nothing to two_level"):
        explained(model, mid, two_level=given, render="pinv")


def test_what_is_saved_comes_back_and_the_report_tells_both_levels(tmp_path: Path) -> None:
    model, mid = linear_model(), midlevel(22050)
    got = explained(model, mid, audio=scene(44100), feature="low")
    folder = tmp_path / result_folder(got, got.audio.name)
    save(got, folder)
    assert {"explanation.json", "map.png", "effects.png", "evidence.wav"} <= {path.name for path in folder.iterdir()}
    back = load_explanation(folder)
    document = to_document(got)
    assert to_document(back) == {**document, "settings": json.loads(json.dumps(document["settings"]))}
    for name, array in got.native.items():
        np.testing.assert_array_equal(back.native[name], array)
    document = json.loads((folder / "explanation.json").read_text())
    assert document["level_one"]["feature"] == "low"
    assert document["settings"]["corpus"] == "c" * 64
    assert document["settings"]["midlevel"] == "midlevel 22050"
    told = level_sentence(document)
    for row in document["level_one"]["features"]:
        assert f"{row['name']} {row['centred_effect']:+.2f}" in told
    assert f"{document['level_one']['remainder']:+.2f}" in told
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for words in ("Level one", "Level two: what in the sound makes the low", "remainder", "by way of low"):
        assert words in page
    assert page.count("<img ") == 1  # the effects; the rest is drawn and played by the page
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["results"][0]["level_one"] == document["level_one"]


def test_names_from_a_card_stay_text_in_the_report(tmp_path: Path) -> None:
    evil = ("<script>alert(1)</script>", "$x$", "{{7*7}}")
    model, mid = linear_model(), midlevel()
    mid.labels = evil
    got = explained(model, mid, feature=evil[0])
    got.save(tmp_path / "one")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert page.count("<script") == 2  # the data and the page's own
    assert "{{7*7}}" in page
