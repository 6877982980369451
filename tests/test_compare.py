"""Comparisons from Python: who agrees with whom, what is refused, and how cases add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import otoscope
from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers import grid
from otoscope.explainers.agreement import MEASURES, clusters, spearman
from otoscope.explainers.cases import Row, Tally, agreement_of, below, mean_over_cases, rivalries, rivals, row_names
from otoscope.explainers.chance import MEASURED, by_chance, dealt
from otoscope.explainers.comparison import Comparison, compare, over
from otoscope.explainers.counterparts import (
    by_label,
    by_mapping,
    check_mapping,
    correlations,
    likenesses,
    read_mapping,
)
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.methods import Settings
from otoscope.explainers.targets import Target
from tests.builders import Function, loudness, music, torch_model

Floats = npt.NDArray[np.float64]
QUICK = Settings(parts="grid", n_parts=16, calls=64, gates="none")


@pytest.fixture(scope="module")
def harmonics() -> list[Explanation]:
    """Explain by the harmonics CNN with two seeds, by an identical copy with the second, and by a randomised twin."""
    audio = otoscope.load_audio(otoscope.demo_recording())
    model = otoscope.load_model("harmonics")
    settings = Settings(n_parts=16, calls=384, gates="none")
    asked = {"target": "exuberance", "start": 0.0, "duration": 3.0, "settings": settings}

    def ask(model: object, seed: int, name: str) -> Explanation:
        return explain(model, audio, seed=seed, name=name, **asked)  # type: ignore[arg-type]

    copy, twin = otoscope.load_model("harmonics"), model.randomised(7)  # type: ignore[attr-defined]
    return [ask(model, 0, "model"), ask(model, 1, "model"), ask(copy, 1, "copy"), ask(twin, 0, "twin")]


def test_identical_models_agree_as_two_seeds_of_one_do_and_a_randomised_twin_does_not(
    harmonics: list[Explanation],
) -> None:
    found = otoscope.compare(harmonics)
    order = found.agreement["spearman"]
    assert order[0, 2] == pytest.approx(order[0, 1])  # a copy with another seed: as the model with another seed
    assert order[1, 2] == pytest.approx(1)
    assert order[0, 1] > 0.7
    assert (order[3, :3] < order[0, 1] - 0.3).all()
    for measure in ("iou", "sign", "mass"):
        assert (found.agreement[measure][3, :3] < found.agreement[measure][0, 1]).all()
    assert found.clusters.labels[:3] == (1, 1, 1)
    assert found.clusters.labels[3] == 2
    assert found.difference(0, 1).distance < found.difference(0, 3).distance


def test_names_tell_explanations_apart(harmonics: list[Explanation]) -> None:
    assert compare(harmonics[2:]).names == ("copy · lime", "twin · lime")
    assert compare(harmonics[:2]).names == ("model · lime · seed 0", "model · lime · seed 1")
    assert len(set(compare([harmonics[0]] * 3).names)) == 3
    assert repr(compare(harmonics[:2])).startswith("<Comparison of 2 explanations of ")


def quick(model: object = None, samples: object = None, *, rate: int = 8000, **asked: object) -> Explanation:
    audio = Audio(music(seconds=2.0, rate=rate) if samples is None else samples, rate, "tune.wav")  # type: ignore[arg-type]
    return explain(model or torch_model(), audio, settings=QUICK, **asked)  # type: ignore[arg-type]


def test_what_cannot_be_compared_is_one_line() -> None:
    one = quick(target="sad")
    other = quick(samples=music(seconds=2.0, seed=5), target="sad")
    with pytest.raises(OtoscopeError, match="are different recordings; compare explanations of one"):
        compare([one, other])
    with pytest.raises(OtoscopeError, match="got 1 explanations; give two at least"):
        compare([one])
    with pytest.raises(OtoscopeError, match="got str for an explanation"):
        compare([one, "other"])  # type: ignore[list-item]
    with pytest.raises(OtoscopeError, match="got 3 names and 2 meanings for 2"):
        compare([one, one], ["a", "b", "c"])
    spans = [quick(target="sad", start=start, duration=0.8) for start in (0.0, 1.0)]
    with pytest.raises(OtoscopeError, match=r"no time in common .*0\.00-0\.80 s.*1\.00-1\.80 s"):
        compare(spans)


def test_chance_is_what_shuffled_weights_agree_by() -> None:
    one, other = quick(target="sad"), quick(target="sad", seed=1)
    found = compare([one, other])
    draws = [dealt(each, 16, seed) for seed, each in enumerate((one, other))]
    for each, drawn in zip((one, other), draws, strict=True):
        np.testing.assert_allclose(drawn.sum(axis=(1, 2)), each.weights.sum())
    pairs = [(d, other.map) for d in draws[0]] + [(one.map, d) for d in draws[1]]
    heard = one.heard
    expected = float(np.mean([spearman(a[heard], b[heard]) for a, b in pairs]))
    np.testing.assert_allclose(found.chance["spearman"], np.array([[np.nan, expected], [expected, np.nan]]))
    assert set(found.chance) == set(MEASURED)
    assert found.chance["spearman"][0, 1] < found.agreement["spearman"][0, 1]
    alike = by_chance([one.map, one.map], [one.map[None], one.map[None]], [heard, heard])
    assert alike["spearman"][0, 1] == pytest.approx(1.0)


def test_a_map_is_laid_anew_over_a_part_of_its_span() -> None:
    one = quick(target="sad", start=0.2, duration=1.6)
    np.testing.assert_allclose(over(one, one.span.start, one.audio.seconds), one.map)
    np.testing.assert_allclose(over(one, 0.7, 0.5), one.map[:, 5:10], atol=1e-12)
    np.testing.assert_allclose(over(one, 0.75, 0.2), (one.map[:, 5:7] + one.map[:, 6:8]) / 2, atol=1e-12)


def test_spans_that_overlap_are_compared_where_they_do_and_it_is_said() -> None:
    two = [quick(target="sad", start=start, duration=1.2) for start in (0.0, 0.4)]
    found = compare(two)
    assert found.start == 0.4
    assert found.duration == pytest.approx(0.8)
    assert found.maps.shape == (2, 108, 8)
    assert any("compared are the 0.8 s that all share" in note for note in found.notes)


def test_rates_and_targets_that_differ_are_said() -> None:
    low, high = Function(loudness, labels=["loud"]), Function(loudness, labels=["noisy"], rate=16000)
    pair = [quick(low, name="low", target="loud"), quick(high, name="high", target="noisy")]
    found = compare(pair)
    assert not found.same_target(0, 1)
    assert any("the targets differ (low: loud, high: noisy)" in note for note in found.notes)
    assert any("low hears nothing above 4 kHz" in note for note in found.notes)
    assert found.agreement["spearman"][0, 1] > 0.5  # both hear loudness, below what one cannot hear
    meant = compare(pair, stands_for=["loud", "loud"])
    assert meant.same_target(0, 1)
    assert any("asked about what each calls loud (low: loud, high: noisy)" in note for note in meant.notes)


def test_an_empty_map_is_said() -> None:
    one = quick(target="sad")
    nothing = replace(one, map=np.zeros_like(one.map))
    found = compare([one, nothing], ["one", "nothing"])
    assert found.agreement["mass"][0, 1] == 0
    assert any(note.startswith("nothing: the map is empty") for note in found.notes)


def test_bands_that_nobody_hears_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = quick(target="sad")
    monkeypatch.setattr(grid, "heard", lambda _rate: np.zeros(108, dtype=bool))
    with pytest.raises(OtoscopeError, match="no band in common"):
        compare([one, one])


A, B = Row("a", "lime", 0), Row("b", "lime", 0)


def tallied(rows: tuple[Row, ...], spearman: float, *, same: bool = True) -> Tally:
    values = np.where(np.eye(len(rows)) > 0, 1.0, spearman)
    chance = dict.fromkeys(MEASURED, np.full_like(values, 0.1))
    return Tally(rows, dict.fromkeys(MEASURES, values), chance, np.full((len(rows), len(rows)), same))


def test_rivals_differ_in_one_thing() -> None:
    by_method = [replace(row, method=method) for row in (A, B) for method in ("lime", "rise")]
    assert rivals(by_method) == ("models", [(0, 2), (1, 3)])
    assert rivals([A, replace(A, method="rise"), replace(A, method="rise", seed=1)]) == ("methods", [(0, 1)])
    assert rivals([A, replace(A, seed=1)]) == ("seeds", [(0, 1)])
    releases = [replace(row, results=name) for name in ("old", "new") for row in (A, B)]
    assert rivals(releases) == ("results", [(0, 2), (1, 3)])
    renamed = [replace(A, results="old"), replace(B, results="new")]
    assert rivals(renamed) == ("results", [(0, 1)])
    assert row_names(releases) == ("old · a", "old · b", "new · a", "new · b")


def test_cases_add_up_over_those_that_have_a_pair() -> None:
    c = Row("c", "lime", 0)
    tallies = [tallied((A, B), 0.2), tallied((A, B, c), 0.6)]
    rows = (A, B, c)
    means = mean_over_cases(agreement_of(tallies, rows)["spearman"])
    np.testing.assert_allclose(means, [[1, 0.4, 0.6], [0.4, 1, 0.6], [0.6, 0.6, 1]])
    kind, found = rivalries(tallies)
    assert kind == "models"
    first = found[0]
    assert (first.first, first.second, first.under, first.n) == ("a", "b", "lime", 2)
    assert first.spearman == pytest.approx(0.4)
    assert (first.least, first.most) == (0.2, 0.6)
    assert np.isnan(mean_over_cases(agreement_of([tallied((A, B), 0.2)], rows)["spearman"])[0, 2])
    assert clusters(np.nan_to_num(means), row_names(rows)).names == ("a", "b", "c")


def test_the_check_looks_at_pairs_about_the_same_target_only() -> None:
    tallies = [tallied((A, B), 0.7), tallied((A, B), 0.1, same=False)]
    assert below(tallies, 0.6) == []
    assert [one.spearman for one in below(tallies, 0.8)] == [pytest.approx(0.7)]
    with pytest.raises(OtoscopeError, match="found nothing to check"):
        below(tallies[1:], 0.5)
    with pytest.raises(OtoscopeError, match="found nothing to check"):
        below([tallied((A, replace(A, method="rise")), 0.9)], 0.5)  # methods are no models


def test_seeds_are_put_together() -> None:
    rows = tuple(replace(row, seed=seed) for row in (A, B) for seed in (0, 1))
    kind, found = rivalries([tallied(rows, 0.3)])
    assert kind == "models"
    assert len(found) == 1
    assert found[0].n == 2


MOODS = ("glad", "blue", "calm")


@pytest.fixture
def two_models() -> dict[str, Function]:
    return {"first": Function(loudness, labels=("happy", "sad")), "second": Function(loudness, labels=MOODS)}


def write(folder: Path, text: str) -> Path:
    path = folder / "moods.toml"
    path.write_text(text, encoding="utf-8")
    return path


MAPPING = '[joy]\nfirst = "happy"\nsecond = "glad"\nthird = "x"\n[grief]\nfirst = "sad"\nsecond = "blue"\n'


def test_a_mapping_says_what_each_is_asked(tmp_path: Path, two_models: dict[str, Function]) -> None:
    path = write(tmp_path, MAPPING)
    concepts = check_mapping(path, read_mapping(path), two_models, ["joy", "top"])
    found = by_mapping(concepts, "joy", two_models, np.array([0.1, 0.9]))
    assert {name: one.target for name, one in found.items()} == {"first": "happy", "second": "glad"}
    top = by_mapping(concepts, "top", two_models, np.array([0.1, 0.9]))
    assert {name: (one.target, one.stands_for) for name, one in top.items()} == {
        "first": ("sad", "grief"),
        "second": ("blue", "grief"),
    }


@pytest.mark.parametrize(
    ("text", "target", "fault"),
    [
        (
            '[joy]\nfirst = "hapy"\nsecond = "glad"\n',
            "joy",
            r"\[joy\] first: unknown target 'hapy': did you mean 'happy'",
        ),
        (MAPPING, "joi", "unknown concept 'joi': did you mean 'joy'"),
        ('[joy]\nfirst = "happy"\n', "joy", r"\[joy\] names no label of second; add one"),
        ('[joy]\nfirst = "happy"\n', "top", "no concept names a label of every model .second lacks one"),
        ('joy = ["happy", "glad"]\n', "joy", r"\[joy\] must be a table of labels by model"),
        ("[joy]\nfirst = 3\n", "joy", r"\[joy\] must be a table of labels by model"),
        ("[joy\n", "joy", "is no valid TOML"),
        ("", "joy", "maps nothing; give tables"),
    ],
)
def test_a_wrong_mapping_is_one_line_that_names_the_file(
    text: str, target: str, fault: str, tmp_path: Path, two_models: dict[str, Function]
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(OtoscopeError, match=fault) as raised:
        check_mapping(path, read_mapping(path), two_models, [target])
    assert str(path) in str(raised.value)
    with pytest.raises(OtoscopeError, match="no such mapping file"):
        read_mapping(tmp_path / "none.toml")


def test_the_same_label_comes_first_then_likeness_then_the_models_own(two_models: dict[str, Function]) -> None:
    happy = Target(0, None, "happy")
    same = {"a": Function(loudness, labels=("happy", "sad")), "b": Function(loudness, labels=("Sad", "Happy"))}
    assert [one.target for one in by_label(happy, "happy", same, None).values()] == ["happy", "happy"]
    likeness = {"second": np.array([[0.1, 0.2, 0.8], [0.0, 0.9, 0.1]])}
    paired = by_label(happy, "happy", two_models, likeness)["second"]
    assert (paired.target, paired.stands_for, paired.correlation) == ("calm", "happy", 0.8)
    own = by_label(happy, "top", two_models, None)["second"]
    assert (own.target, own.stands_for) == ("top", "")
    with pytest.raises(OtoscopeError, match=r"second: unknown target 'happy'.*--mapping.*--match correlation"):
        by_label(happy, "happy", two_models, None)


def test_correlations_equal_scipys_and_are_zero_where_nothing_varies() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(30, 3)).round(1), rng.normal(size=(30, 4)).round(1)
    second[:, 2] = 1
    found = correlations(first, second)
    for i in range(3):
        for j in (0, 1, 3):
            assert found[i, j] == pytest.approx(spearmanr(first[:, i], second[:, j]).statistic)
    assert (found[:, 2] == 0).all()


def test_labels_are_paired_by_how_scores_rise_and_fall() -> None:
    def loud(waveforms: npt.NDArray[np.float32]) -> Floats:
        return np.hstack([loudness(waveforms), 1 - loudness(waveforms)])

    def quiet(waveforms: npt.NDArray[np.float32]) -> Floats:
        return np.hstack([1 - loudness(waveforms), loudness(waveforms) ** 2])

    models = {
        "one": Function(loud, labels=("loud", "quiet")),
        "two": Function(quiet, labels=("soft", "strong"), rate=16000),
    }
    swell = np.linspace(0.05, 1, 32000, dtype=np.float32) * music(seconds=4.0)
    found = likenesses(models, [Audio(swell, 8000, "swell")], 1.0)
    assert found["two"][0].argmax() == 1
    assert found["two"][0, 1] > 0.9
    assert found["two"][1].argmax() == 0
    with pytest.raises(OtoscopeError, match="needs 5 stretches of 3 s at least, these recordings hold 1"):
        likenesses(models, [Audio(swell, 8000, "swell")], 3.0)


def test_a_comparison_is_what_the_door_gives() -> None:
    assert otoscope.Comparison is Comparison
    assert otoscope.compare is compare
