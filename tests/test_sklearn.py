"""Estimators: the same answers as the estimator itself, what does not fit said at once, and nothing run unasked."""

import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, LabelEncoder, StandardScaler
from sklearn.svm import SVC

import otoscope
from otoscope.adapters.audio import load_audio
from otoscope.adapters.card import write_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.features import EXTRACTORS, Features, extract
from otoscope.adapters.model import Model, ask
from otoscope.adapters.tables import build
from tests.builders import DATA, Float32, noise, tone

joblib: Any = import_module("joblib")  # it ships no types
RATE = 8000
MFCC: dict[str, Any] = {"features": "mfcc", "n_mfcc": 8, "n_mels": 32, "n_fft": 512, "hop_length": 256}
CARD: dict[str, Any] = {
    "model": {"name": "ear", "kind": "sklearn", "labels": ["hiss", "tone"], "path": "ear.skops", "settings": MFCC},
    "input": {"rate": RATE, "n_samples": RATE},
}


def settings(table: dict[str, Any] = MFCC) -> Features:
    return build(EXTRACTORS[table["features"]], table, "x")


def sounds(n: int = 24) -> tuple[Float32, list[str]]:
    """Hiss, and hiss with a tone in it, at many levels; (n, n_samples) and names."""
    rng = np.random.default_rng(5)
    made = []
    for i in range(n):
        hiss = noise(seconds=1.0, rate=RATE, level=10 ** rng.uniform(-2.5, -1), seed=i)
        made.append(hiss + (i % 2) * tone(rng.uniform(500, 1500), rate=RATE, level=10 ** rng.uniform(-1.2, -0.5)))
    return np.stack(made), ["tone" if i % 2 else "hiss" for i in range(n)]


WAVES, NAMES = sounds()
FEATURES = extract(WAVES, RATE, settings())


def fitted(estimator: Any = None, targets: Any = NAMES) -> Any:
    """Fit an estimator on the sounds."""
    if estimator is None:  # not `or`: a forest has a length, and none before it is fitted
        estimator = make_pipeline(StandardScaler(), LogisticRegression())
    return estimator.fit(FEATURES, targets)


def card(folder: Path, estimator: Any, save: Callable[[Any, Path], object] = skops.io.dump, **model: Any) -> str:
    """Save an estimator and write its card."""
    save(estimator, folder / "ear.skops")
    write_card(folder / "ear.toml", CARD | {"model": CARD["model"] | model})
    return str(folder / "ear.toml")


def save_pickle(estimator: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(estimator))


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=1000),
        make_pipeline(StandardScaler(), LogisticRegression()),
        KNeighborsClassifier(3),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_probabilities_are_those_of_the_estimator(tmp_path: Path, estimator: Any) -> None:
    model = otoscope.load_model(card(tmp_path, fitted(estimator)))
    assert (model.output, model.labels, model.rate, model.n_samples) == ("softmax", ("hiss", "tone"), RATE, RATE)
    np.testing.assert_allclose(ask(model, WAVES), estimator.predict_proba(FEATURES), rtol=0, atol=1e-6)


def test_a_forest_needs_trust_since_its_trees_are_taken_as_they_come(tmp_path: Path) -> None:
    """Skops does not vouch for trees: compiled code walks their arrays unchecked."""
    estimator = fitted(RandomForestClassifier(20, random_state=0))
    path = card(tmp_path, estimator)
    with pytest.raises(OtoscopeError, match=r"types that skops does not know: sklearn\.tree\._tree\.Tree; say --trust"):
        otoscope.load_model(path)
    model = otoscope.load_model(path, trust=True)
    np.testing.assert_allclose(ask(model, WAVES), estimator.predict_proba(FEATURES), rtol=0, atol=1e-6)


def test_a_classifier_without_probabilities_gives_its_decision_values(tmp_path: Path) -> None:
    estimator = fitted(make_pipeline(StandardScaler(), SVC()))
    model = otoscope.load_model(card(tmp_path, estimator, labels=["tone"]))
    assert model.output == "regression"
    np.testing.assert_allclose(ask(model, WAVES)[:, 0], estimator.decision_function(FEATURES), atol=1e-6)


def test_decision_values_of_several_classes_are_its_columns(tmp_path: Path) -> None:
    estimator = fitted(SVC(), np.arange(24) % 3)
    model = otoscope.load_model(card(tmp_path, estimator, labels=["a", "b", "c"]))
    np.testing.assert_allclose(ask(model, WAVES), estimator.decision_function(FEATURES), atol=1e-6)


@pytest.mark.parametrize("n", [1, 2])
def test_a_regressor_gives_its_predictions(tmp_path: Path, n: int) -> None:
    targets = np.random.default_rng(0).standard_normal((24, n))
    estimator = fitted(Ridge(), targets if n > 1 else targets[:, 0])
    model = otoscope.load_model(card(tmp_path, estimator, labels=["arousal", "valence"][:n]))
    assert model.output == "regression"
    np.testing.assert_allclose(ask(model, WAVES), estimator.predict(FEATURES).reshape(24, n), atol=1e-6)


SEVERAL = np.stack([np.arange(24) % 2, np.arange(24) // 12], axis=1)


def one_by_one() -> Any:
    return make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression()))


OPPOSITE = np.stack([np.arange(24) % 2, 1 - np.arange(24) % 2], axis=1)  # sums to 1, though nothing makes it


@pytest.mark.parametrize("targets", [SEVERAL, OPPOSITE], ids=["several", "opposite"])
def test_classes_decided_for_themselves_are_sigmoid(tmp_path: Path, targets: Any) -> None:
    rest = fitted(one_by_one(), targets)
    model = otoscope.load_model(card(tmp_path, rest, labels=["tonal", "late"]))
    assert model.output == "sigmoid"
    np.testing.assert_allclose(ask(model, WAVES), rest.predict_proba(FEATURES), atol=1e-6)


def test_a_list_of_yes_and_no_becomes_columns(tmp_path: Path) -> None:
    forest = fitted(RandomForestClassifier(10, random_state=0), SEVERAL)
    model = otoscope.load_model(card(tmp_path, forest, save_pickle, labels=["tonal", "late"]), trust=True)
    assert model.output == "sigmoid"
    expected = np.stack([output[:, 1] for output in forest.predict_proba(FEATURES)], axis=1)
    np.testing.assert_allclose(ask(model, WAVES), expected, atol=1e-6)


def test_a_card_that_says_regression_gets_decision_values(tmp_path: Path) -> None:
    estimator = fitted(LogisticRegression(max_iter=1000))
    model = otoscope.load_model(card(tmp_path, estimator, labels=["tone"], output="regression"))
    np.testing.assert_allclose(ask(model, WAVES)[:, 0], estimator.decision_function(FEATURES), atol=1e-6)


MISFITS: list[tuple[Callable[[], Any], dict[str, Any], str]] = [
    (fitted, {"settings": MFCC | {"n_mfcc": 9}}, "Pipeline was fitted on 16 features, .* makes 18; set them as"),
    (fitted, {"labels": ["a", "b", "c"]}, "gives 2 columns, the card has 3 labels"),
    (fitted, {"labels": ["tone", "hiss"]}, "the estimator's columns are hiss, tone; give the labels in this order"),
    (fitted, {"settings": {"n_mfcc": 8}}, "lacks 'features', one of mfcc, librosa, log_mel"),
    (fitted, {"settings": {"features": "mffc"}}, "unknown features 'mffc': did you mean 'mfcc'"),
    (fitted, {"settings": {"features": "yamnet"}}, "unknown features 'yamnet': .*; own features: kind = \"python\""),
    (
        fitted,
        {"settings": {"features": {"n_mfcc": 13}}},
        'features must be one of .* features = "mfcc", n_mfcc = 13; own',
    ),
    (fitted, {"settings": MFCC | {"n_mfc": 8}}, "unknown key 'n_mfc': did you mean 'n_mfcc'"),
    (fitted, {"pool": "mean"}, r"\[model\] pool means nothing to kind sklearn"),
    (fitted, {"returns": "logits"}, r"\[model\] returns means nothing to kind sklearn"),
    (lambda: fitted(SVC()), {"output": "softmax"}, "SVC gives no probabilities; say output"),
    (lambda: fitted(SVC()), {"labels": ["hiss"]}, "values are high for tone, not hiss; call the label tone"),
    (lambda: fitted(SVC()), {}, "SVC.decision_function gives 1 columns, the card has 2 labels"),
    (lambda: fitted(Ridge(), np.arange(24.0)), {"labels": ["x"], "output": "sigmoid"}, "gives no probabilities"),
    (lambda: fitted(LinearRegression(), np.arange(24.0)), {}, "gives 1 columns, the card has 2 labels"),
    (lambda: fitted(one_by_one(), SEVERAL), {"output": "softmax"}, 'say output = "sigm'),
    (lambda: StandardScaler().fit(FEATURES), {}, "holds StandardScaler, which cannot predict"),
    (LogisticRegression, {}, "LogisticRegression.predict_proba fails .NotFittedError"),
    (lambda: {"weights": [1.0]}, {}, "holds dict, which cannot predict"),
]


@pytest.mark.parametrize(("make", "model", "reason"), MISFITS, ids=[m[2][:40] for m in MISFITS])
def test_what_does_not_fit_is_said_when_loaded(
    tmp_path: Path, make: Callable[[], Any], model: dict[str, Any], reason: str
) -> None:
    path = card(tmp_path, make(), **model)
    with pytest.raises(OtoscopeError, match=reason) as error:
        otoscope.load_model(path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_input_is_rate_and_length_only(tmp_path: Path) -> None:
    card(tmp_path, fitted())
    write_card(tmp_path / "ear.toml", CARD | {"input": {"rate": RATE, "normalise": "peak"}})
    with pytest.raises(OtoscopeError, match=r"\[input\]: unknown key 'normalise'.*Known: rate, n_samples"):
        otoscope.load_model(str(tmp_path / "ear.toml"))


@pytest.mark.parametrize("save", [save_pickle, joblib.dump])
def test_pickles_are_read_with_trust_only(tmp_path: Path, save: Callable[[Any, Path], object]) -> None:
    estimator = fitted()
    path = card(tmp_path, estimator, save)
    with pytest.raises(OtoscopeError, match=r"is a pickle; loading it would run code from it .*say --trust"):
        otoscope.load_model(path)
    model = otoscope.load_model(path, trust=True)
    np.testing.assert_allclose(ask(model, WAVES), estimator.predict_proba(FEATURES), atol=1e-6)


def shouted(features: Any) -> Any:
    """Stand for code of someone else in a pipeline."""
    return features


def test_types_that_skops_does_not_know_need_trust_and_are_named(tmp_path: Path) -> None:
    estimator = fitted(make_pipeline(FunctionTransformer(shouted), LogisticRegression(max_iter=1000)))
    path = card(tmp_path, estimator)
    with pytest.raises(OtoscopeError, match=r"would run code of types .*test_sklearn\.shouted.*say --trust"):
        otoscope.load_model(path)
    model = otoscope.load_model(path, trust=True)
    np.testing.assert_allclose(ask(model, WAVES), estimator.predict_proba(FEATURES), atol=1e-6)


def reader(secret: Path) -> Any:
    """Build an estimator of types that skops trusts, which opens a file and scores what stands in it."""
    counter = CountVectorizer(analyzer="char")
    column = ColumnTransformer([("text", counter, 0)]).fit(np.array([["root"], ["user"]], dtype=object))
    counts = column.named_transformers_["text"]
    counts.input = "filename"
    names = DummyClassifier(strategy="constant", constant=str(secret)).fit(FEATURES, [str(secret), *["x"] * 23])
    inner = LogisticRegression().fit(np.eye(len(counts.vocabulary_)), np.arange(len(counts.vocabulary_)) % 2)
    last = make_pipeline(column, inner)
    stack = StackingClassifier([("names", names)], final_estimator=last, stack_method="predict", cv="prefit")
    stack.estimators_, stack.final_estimator_, stack.stack_method_ = [names], last, ["predict"]
    stack._label_encoder = LabelEncoder().fit([0, 1])
    return stack


def test_an_estimator_that_skops_trusts_opens_files(tmp_path: Path) -> None:
    """What the next test refuses is no paper tiger."""
    skops.io.dump(reader(tmp_path / "secret"), tmp_path / "ear.skops")
    estimator = skops.io.load(tmp_path / "ear.skops")
    with pytest.raises(FileNotFoundError, match="secret"):
        estimator.predict_proba(FEATURES[:1])
    (tmp_path / "secret").write_text("root")
    first = estimator.predict_proba(FEATURES[:1])
    (tmp_path / "secret").write_text("uuu")
    assert np.abs(estimator.predict_proba(FEATURES[:1]) - first).max() > 0.01


@pytest.mark.parametrize("nested", [False, True])
def test_estimators_that_skops_trusts_open_no_files(tmp_path: Path, nested: bool) -> None:
    """Only what calculates passes without trust, at whatever depth of the file it lies."""
    estimator = reader(tmp_path / "secret") if nested else make_pipeline(HashingVectorizer(), LogisticRegression())
    path = card(tmp_path, estimator)
    assert skops.io.get_untrusted_types(file=tmp_path / "ear.skops") == []
    kind = "_vectorizer.CountVectorizer|text.CountVectorizer" if nested else "text.HashingVectorizer"
    reason = (
        rf"estimators that may open files or do more than calculate: sklearn\.feature_extraction\.({kind}); say --t"
    )
    with pytest.raises(OtoscopeError, match=reason):
        otoscope.load_model(path)


def test_all_estimators_but_those_of_texts_and_pictures_are_numeric() -> None:
    from skops.io._trusted_types import SKLEARN_ESTIMATOR_TYPE_NAMES

    from otoscope.adapters.sklearn_model import NUMERIC

    left = {name for name in SKLEARN_ESTIMATOR_TYPE_NAMES if not name.startswith(tuple(f"{one}." for one in NUMERIC))}
    assert {name.split(".")[1] for name in left} == {"feature_extraction"}


def test_windows_that_fill_the_memory_are_refused(tmp_path: Path) -> None:
    path = card(tmp_path, fitted())
    for n_samples, changes, reason in (
        (268435456, {}, r"a window must have 1 to 2400000 samples \(300 s at 8000 Hz\), got 268435456"),
        (300 * RATE, {"hop_length": 1}, "300 s at hop_length 1 and n_fft 512 make 617 million cells, more than 134"),
    ):
        about = CARD["model"] | {"settings": MFCC | changes}
        write_card(Path(path), {"model": about, "input": {"rate": RATE, "n_samples": n_samples}})
        with pytest.raises(OtoscopeError, match=reason):
            otoscope.load_model(path)


def test_many_windows_are_described_in_blocks_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otoscope.adapters.features.MOST_CELLS", 257 * 32 * 5)  # five windows of 32 frames
    sizes, inner = [], Features.__args__[0].describe

    def noting(self: Any, waveforms: Float32, rate: int) -> Any:
        sizes.append(len(waveforms))
        return inner(self, waveforms, rate)

    monkeypatch.setattr(Features.__args__[0], "describe", noting)
    np.testing.assert_allclose(extract(WAVES, RATE, settings()), FEATURES, rtol=1e-6, atol=1e-6)
    assert sizes == [5, 5, 5, 5, 4]
    assert extract(WAVES[:0], RATE, settings()).shape == (0, 16)


def hostile(folder: Path) -> Path:
    """Write a skops file whose one object is a call of os.system, with the mark it would leave."""
    mark = folder / "mark"
    schema = {
        "__class__": "str",
        "__module__": "builtins",
        "__loader__": "ReduceNode",
        "__id__": 1,
        "__reduce__": {"__class__": "system", "__module__": "os", "__loader__": "TypeNode", "__id__": 2},
        "content": [f"touch {mark}"],
        "protocol": 2,
    }
    with zipfile.ZipFile(folder / "ear.skops", "w") as file:
        file.writestr("schema.json", json.dumps(schema))
    return mark


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    path = card(tmp_path, fitted())
    mark = hostile(tmp_path)
    with pytest.raises(OtoscopeError, match=r"ear\.skops"):
        otoscope.load_model(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "schema", ["{}", "[]", "{", "[" * 100_000, '{"__loader__": "ObjectNode", "protocol": 2}', '{"protocol": 99}']
)
def test_broken_files_are_said_to_be_broken(tmp_path: Path, schema: str) -> None:
    path = card(tmp_path, fitted())
    with zipfile.ZipFile(tmp_path / "ear.skops", "w") as file:
        file.writestr("schema.json", schema)
    with pytest.raises(OtoscopeError, match=r"ear\.skops") as error:
        otoscope.load_model(path)
    assert "\n" not in str(error.value)


def test_another_version_of_scikit_learn_is_noted(tmp_path: Path) -> None:
    estimator = fitted()
    path = card(tmp_path, estimator)
    with zipfile.ZipFile(tmp_path / "ear.skops") as file:
        members = {name: file.read(name) for name in file.namelist()}
    import sklearn

    text = members["schema.json"].replace(json.dumps(json.dumps(sklearn.__version__))[1:-1].encode(), b'\\"1.5.0\\"')
    assert text != members["schema.json"]
    with zipfile.ZipFile(tmp_path / "ear.skops", "w") as file:
        for name, content in (members | {"schema.json": text}).items():
            file.writestr(name, content)
    with warnings.catch_warnings():
        warnings.simplefilter("error", InconsistentVersionWarning)
        model: Any = otoscope.load_model(path)
    read = f"fitted by scikit-learn 1.5.0, read by {sklearn.__version__}"
    assert model.notes == (f"{read}; its answers may differ from those of the original",)
    np.testing.assert_allclose(ask(model, WAVES), estimator.predict_proba(FEATURES), atol=1e-6)


def test_the_fingerprint_is_that_of_file_and_settings(tmp_path: Path) -> None:
    def fingerprint(estimator: Any, **model: Any) -> str:
        return otoscope.load_model(card(tmp_path, estimator, **model)).fingerprint

    first = fingerprint(fitted())
    assert len(first) == 64
    assert first == otoscope.load_model(str(tmp_path / "ear.toml")).fingerprint
    assert first != fingerprint(fitted(LogisticRegression(max_iter=1000)))
    assert first != fingerprint(fitted(), settings=MFCC | {"hop_length": 128})


def test_no_more_sounds_than_the_batch_are_described_at_once(tmp_path: Path) -> None:
    model: Any = otoscope.load_model(card(tmp_path, fitted()), batch_size=5)
    sizes, inner = [], model.function

    def noting(waveforms: Float32) -> Any:
        sizes.append(len(waveforms))
        return inner(waveforms)

    model.function = noting
    all_at_once = otoscope.load_model(str(tmp_path / "ear.toml"), batch_size=100).predict(WAVES)
    np.testing.assert_allclose(model.predict(WAVES), all_at_once, atol=1e-6)
    assert sizes == [5, 5, 5, 5, 4]


class Without:
    """Finder to which a package is not installed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *_: object) -> None:
        """Find no such package."""
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = card(tmp_path, fitted())
    for name in [name for name in sys.modules if name.partition(".")[0] == "skops"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without("skops"), *sys.meta_path])
    with pytest.raises(OtoscopeError, match=r"skops is not installed; run: pip install 'otoscope\[sklearn\]'"):
        otoscope.load_model(path)


def test_estimators_are_asked_without_torch(tmp_path: Path) -> None:
    path = card(tmp_path, fitted())
    code = (
        "import sys, numpy as np, otoscope\n"
        f"model = otoscope.load_model({path!r})\n"
        f"model.predict(np.zeros((2, {RATE}), np.float32))\n"
        "print(model.fingerprint, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.split()[-1] == "False"


def explained(model: Model, audio: otoscope.Audio, **settings: Any) -> otoscope.Explanation:
    return otoscope.explain(
        model, audio, method="lime", target="tone", seed=0, settings=otoscope.Settings(calls=64, **settings)
    )


def test_the_part_with_the_tone_carries_it(tmp_path: Path) -> None:
    model = otoscope.load_model(card(tmp_path, fitted()))
    hiss = noise(seconds=1.0, rate=RATE, level=0.02, seed=99)
    audio = otoscope.Audio(hiss + tone(1000.0, rate=RATE, level=0.2), RATE, "planted")
    explanation = explained(model, audio, parts="grid", n_parts=12)
    times, frequencies = explanation.times, explanation.frequencies
    band = np.abs(np.log2(np.asarray(frequencies) / 1000.0)) < 0.5
    mass = np.maximum(0.0, np.asarray(explanation.map))
    assert len(times) == mass.shape[1]
    # The cells of the grid around 1 kHz hold more of the positive evidence than all others together.
    assert mass[band].sum() > 0.5 * mass.sum()
    assert explanation.score.score > 0.9


def test_real_recordings_are_told_apart_as_the_estimator_does(tmp_path: Path) -> None:
    if not (DATA / "esc10").is_dir():
        pytest.skip(f"needs real recordings in {DATA / 'esc10'}; set OTOSCOPE_DATA")
    files = [sorted((DATA / "esc10" / name).glob("*.ogg"))[:4] for name in ("dog_bark", "rain")]
    clips = [load_audio(file).at(RATE).samples[:RATE] for group in files for file in group]
    waves = np.stack([np.pad(clip, (0, RATE - len(clip))) for clip in clips])
    names = ["dog"] * 4 + ["rain"] * 4
    table = {"features": "librosa", "n_fft": 512, "hop_length": 256, "n_contrast": 4, "n_mels": 64}
    features = extract(waves, RATE, settings(table))
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, names)
    model = otoscope.load_model(card(tmp_path, estimator, labels=["dog", "rain"], settings=table))
    scores = ask(model, waves)
    np.testing.assert_allclose(scores, estimator.predict_proba(features), atol=1e-6)
    assert [model.labels[i] for i in scores.argmax(axis=1)] == names


def test_estimators_fitted_on_tables_with_names_do_not_warn(tmp_path: Path) -> None:
    estimator = fitted(LinearRegression(), np.arange(24.0))
    estimator.feature_names_in_ = np.array([f"x{i}" for i in range(16)], dtype=object)
    model = otoscope.load_model(card(tmp_path, estimator, labels=["x"]))
    assert np.isfinite(ask(model, WAVES)).all()


def test_names_of_classes_alone_are_no_scores(tmp_path: Path) -> None:
    estimator = fitted(Perceptron())
    assert otoscope.load_model(card(tmp_path, estimator, labels=["tone"])).output == "regression"

    class Namer:
        classes_ = np.array(["hiss", "tone"])

        def predict(self, features: Any) -> Any:
            return np.array(["tone"] * len(features))

    from otoscope.adapters.card import read_card
    from otoscope.adapters.sklearn_model import _way

    with pytest.raises(OtoscopeError, match="Namer gives names of classes only"):
        _way(Namer(), FEATURES[:1], read_card(tmp_path / "ear.toml"))
