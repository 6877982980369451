"""Gates: good explanations pass, broken ones are caught, and nothing costs more than a tenth."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.cli import explain_command
from otoscope.explainers import explain as door
from otoscope.explainers import gates
from otoscope.explainers.document import to_document
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation, Outcome, lay_cells
from otoscope.explainers.lime import lime
from otoscope.explainers.makers import MAKERS
from otoscope.explainers.methods import METHODS, Method, Request, Settings, all_methods, find_method
from otoscope.explainers.remedies import find_remedy, in_use
from otoscope.explainers.story import story
from otoscope.explainers.verdict import GATES, Gate, judge, statements
from tests.builders import RATE, Function, noise, sigmoid, tone

SECONDS = 1.0
HEARD = (900.0, 1100.0)


def sounds() -> Audio:
    """Make a tone that the model hears, one that it does not, and noise."""
    samples = 0.02 * noise(seconds=SECONDS, level=1.0) + tone(1000.0, seconds=SECONDS, level=0.1)
    return Audio((samples + tone(3000.0, seconds=SECONDS, level=0.3)).astype(np.float32), RATE, "tones")


def band_energy(waveforms: Any) -> Any:
    power = np.abs(np.fft.rfft(waveforms, axis=1)) ** 2
    inside = np.fft.rfftfreq(waveforms.shape[1], 1 / RATE)
    return power[:, (inside > HEARD[0]) & (inside < HEARD[1])].sum(axis=1) / waveforms.shape[1] ** 2


def listener() -> Function:
    """Hears the faint tone."""
    full = band_energy(sounds().samples[None])[0]
    return Function(lambda x: sigmoid(4 * np.log1p(100 * band_energy(x) / full) / np.log(101) - 2)[:, None])


def told(run: Any = lime, **settings: Any) -> Explanation:
    """Explain by LIME, or by what is made of it."""
    METHODS["tried"] = Method("tried", run, find_method("lime").uses)
    try:
        own: dict[str, Any] = {"parts": "grid", "n_parts": 36, "calls": 1024, **settings}
        chosen = Settings(**own)
        return explain(listener(), sounds(), method="tried", settings=chosen)
    finally:
        del METHODS["tried"]


def shuffled(request: Request) -> Outcome:
    found: Outcome = lime(request)
    return replace(found, weights=np.roll(found.weights, 17))


def inverted(request: Request) -> Outcome:
    found: Outcome = lime(request)
    return replace(found, weights=-found.weights)


def test_a_good_explanation_beats_loudness_and_chance_and_is_trusted() -> None:
    got = told()
    assert got.gates["over_random"] > 0.1  # type: ignore[operator]
    assert got.gates["over_energy"] > 0.1  # type: ignore[operator]
    assert got.gates["fit"] > 0.8  # type: ignore[operator]
    assert got.verdict is not None
    assert got.verdict.word == "trust"
    praise = story(to_document(got))[2]
    assert got.verdict.reasons[2] in praise
    assert praise.endswith(f"; and {len(got.verdict.reasons) - 3} more.")


@pytest.mark.parametrize("broken", [shuffled, inverted])
def test_broken_weights_are_not_to_be_used(broken: Any) -> None:
    got = told(broken)
    assert got.verdict is not None
    assert got.verdict.word == "do not use"
    assert got.gates["fit"] < 0.3  # type: ignore[operator]
    assert got.gates["over_random"] < 0.1  # type: ignore[operator]


def test_a_hottest_place_that_is_a_guess_is_called_one() -> None:
    found = told().parts
    labels = np.zeros_like(found.labels)
    middle, high = labels.shape[1] // 2, labels.shape[0] // 2
    labels[:, middle:] = 1  # with the tones
    labels[high : high + 4, middle : middle + 8] = 2  # hardly a sound, and small
    parts = found.with_(labels=labels, names=("before", "wide", "small"))
    outcome = Outcome(parts, np.array([0.0, 1.0, 0.4]), 0)
    by_area = np.zeros(labels.shape)
    for part, weight in enumerate(outcome.weights):
        by_area[labels == part] = weight / (labels == part).sum()
    hottest = lay_cells(parts, np.where(labels == 1, parts.power, 0)).argmax()
    spread_by_area = lay_cells(parts, by_area)
    told_place = gates.steady_place(outcome)
    assert told_place == pytest.approx(spread_by_area.flat[hottest] / spread_by_area.max())
    assert told_place is not None
    assert told_place < GATES["place"].trust
    sure = replace(outcome, weights=np.array([0.0, 0.0, 1.0]))
    assert gates.steady_place(sure) == pytest.approx(1, abs=0.3)
    assert gates.steady_place(replace(outcome, map=np.ones((108, 10)))) is None
    assert gates.steady_place(replace(outcome, weights=np.zeros(3))) is None


def test_curves_are_those_of_playing_the_parts_again() -> None:
    got, model = told(), listener()
    assert got.curves is not None
    order = np.argsort(-got.weights, kind="stable")
    by_energy = np.argsort(-got.parts.energy, kind="stable")
    for row, ranked in ((0, order), (1, by_energy)):
        for step, count in enumerate(got.curves.counts):
            kept = np.zeros((1, got.parts.k))
            kept[0, ranked[:count]] = 1
            for curve, mask in ((got.curves.insertion, kept), (got.curves.deletion, 1 - kept)):
                score = model.predict(got.parts.compose(mask))[0, 0]
                assert curve[row, step] == pytest.approx(np.log(score / (1 - score)), abs=1e-3)


def test_quick_gates_cost_no_more_than_a_tenth() -> None:
    for calls in (256, 1024):
        checked, plain = told(calls=calls), told(calls=calls, gates="none")
        assert 0 < checked.n_calls - plain.n_calls <= calls / 10
        assert plain.gates == {}
        assert plain.verdict is None
        np.testing.assert_array_equal(checked.weights, plain.weights)


def test_known_combinations_are_not_asked_again() -> None:
    few: dict[str, Any] = {"parts": "hpss", "n_parts": 2}
    assert told(**few).n_calls == told(**few, gates="none").n_calls


def test_full_gates_repeat_the_method() -> None:
    class Twin(Function):
        def randomised(self, seed: int) -> Function:
            return Function(lambda x: sigmoid(np.random.default_rng(seed).normal(size=8) @ pieces(x).T)[:, None])

    def pieces(x: Any) -> Any:
        return np.stack([np.abs(part).mean(axis=1) for part in np.array_split(x, 8, axis=1)], axis=1)

    model = Twin(lambda x: listener().predict(x))
    settings = Settings(parts="grid", n_parts=16, calls=256, gates="full")
    got = explain(model, sounds(), settings=settings)
    assert got.gates["seed"] > 0.4  # type: ignore[operator]
    assert got.gates["off_values"] is not None
    assert got.gates["routes"] is None
    assert got.gates["twin"] < 0.7  # type: ignore[operator]


def test_an_unknown_kind_of_gates_is_refused() -> None:
    with pytest.raises(OtoscopeError, match="unknown kind of gates 'ful': did you mean 'full'"):
        Settings(gates="ful")  # type: ignore[arg-type]


def test_fit_of_calls_is_a_correlation() -> None:
    got = told(gates="none")
    assert got.masks is not None
    assert got.scores is not None
    values = np.log(got.scores[:, 0] / (1 - got.scores[:, 0]))
    expected = np.corrcoef(values, got.masks @ got.weights)[0, 1]
    assert told().gates["fit"] == pytest.approx(expected)


def test_thresholds_split_three_ways() -> None:
    high, low = Gate("{:.1f}", 0.5, 0.2), Gate("{:.1f}", 0.3, 0.6, low_is_good=True)
    assert [high.judge(v) for v in (0.5, 0.4, 0.19)] == ["trust", "caution", "do not use"]
    assert [low.judge(v) for v in (0.3, 0.5, 0.61)] == ["trust", "caution", "do not use"]


def test_the_gravest_reason_decides_and_missing_figures_call_for_caution() -> None:
    good = {name: (-1.0 if gate.low_is_good else 10.0) for name, gate in GATES.items()}
    assert judge(good).word == "trust"
    assert judge({**good, "fit": GATES["fit"].use - 0.01}).word == "do not use"
    assert judge({**good, "over_energy": None}).word == "caution"
    assert "could not be measured" in str(judge({**good, "over_energy": None}))
    assert judge({**good, "twin": None}).word == "trust"
    assert len(statements(good)) == len(GATES)


def test_too_small_a_budget_has_no_curves() -> None:
    got = told(n_parts=4, calls=16, neighbourhood="random")
    assert got.curves is None
    assert got.verdict is not None
    assert got.verdict.word != "trust"


def test_silence_is_judged_without_an_error() -> None:
    silent = Audio(np.zeros(RATE, dtype=np.float32), RATE, "silence")
    got = explain(listener(), silent, settings=Settings(calls=256))
    assert got.gates["effect"] == 0
    assert got.verdict is not None
    assert got.verdict.word == "do not use"


def test_budget_is_a_tenth() -> None:
    assert gates.BUDGET == 0.1


OPTION = re.compile(r"--([a-z-]+) ([\w{}.]+)")
OFFERED = {
    "calls": 2048,
    "n_parts": 64,
    "duration": 10.0,
    "off": "noise",
    "parts": "events",
    "n_draws": 16,
    "method": "occlusion",
}


def test_every_figure_is_told_with_its_number_whichever_way_it_points() -> None:
    for name, gate in GATES.items():
        for value in (0.31, -0.31):
            told_so = gate.tell(value)
            assert "0.3" in told_so, name
            assert "{" not in told_so, name
    assert "more than a random order does, by 0.15" in GATES["over_random"].tell(0.15)
    assert "more than a random order does, only by 0.05" in GATES["over_random"].tell(0.05)
    assert "less than a random order does, by 0.60" in GATES["over_random"].tell(-0.6)
    assert "below all parts off, by 0.20" in GATES["kept"].tell(-0.2)


def test_words_are_those_of_a_listener() -> None:
    words = " ".join(gate.tell(0.5) + gate.missing for gate in GATES.values())
    for jargon in ("variance", "linear", "correlat", "insertion", "deletion", "surrogate", "log-odds", "R²"):
        assert jargon not in words


def test_every_remedy_names_options_of_the_command_line() -> None:
    options = {option: parameter for parameter in explain_command.params for option in parameter.opts}
    remedies = [(name, remedy) for name, gate in GATES.items() for remedy in gate.remedies]
    assert len(remedies) > 10
    for name, remedy in remedies:
        text = find_remedy((remedy,), OFFERED)
        asked = OPTION.findall(text)
        assert asked, (name, remedy)
        for option, value in asked:
            assert options[f"--{option}"].type.convert(value, None, None) is not None
            if option in ("method", "parts"):
                assert value in (set(all_methods()) if option == "method" else set(MAKERS))


@pytest.mark.parametrize("name", ["twin", "off_values", "routes"])
def test_what_no_option_changes_has_no_remedy(name: str) -> None:
    assert GATES[name].remedies == ()


def test_remedies_fit_the_method_and_what_was_asked() -> None:
    made = in_use("lime", {"calls": 512, "off": "mean"}, duration=10.0, window=3.0)
    assert made == {"calls": 512, "off": "mean", "parts": "superpixels", "n_parts": 64, "duration": 10.0}
    assert find_remedy(GATES["halves"].remedies, made) == "more calls (--calls 1024)"
    assert find_remedy(GATES["kept"].remedies, made) == ""  # off is the mean already
    gradcam = in_use("gradcam", {}, duration=10.0)
    assert find_remedy(GATES["halves"].remedies, gradcam) == ""
    assert find_remedy(GATES["over_energy"].remedies, gradcam) == "parts tried in many mixes (--method lime)"
    assert find_remedy(GATES["over_energy"].remedies, made) == "parts of equal size (--parts grid)"
    grid = find_remedy(GATES["over_energy"].remedies, {**made, "parts": "grid"})
    assert grid == "a shorter stretch (--duration 5)"
    assert in_use("lime", {"calls": "auto"}, duration=10.0)["calls"] == 8192
    assert in_use("two_level", {}, duration=10.0)["calls"] == 512
    assert in_use("lime", {"calls": 2**20}, duration=10.0).keys() == {"off", "parts", "n_parts"}
    assert in_use("rise", {}, duration=10.0)["parts"] == "grid"
    assert "n_parts" not in in_use("shapley", {}, duration=10.0)
    assert "n_parts" not in in_use("occlusion", {}, duration=10.0)  # notes stay twelve
    assert "duration" not in in_use("lime", {}, duration=10.0, window=6.0)  # half of it would be padded
    assert in_use("not installed", {}, duration=10.0) == {}


def test_remedies_are_of_the_gravest_reasons_two_at_most_and_none_after_trust() -> None:
    good = {name: (-1.0 if gate.low_is_good else 10.0) for name, gate in GATES.items()}
    assert judge(good, OFFERED).remedies == ()
    poor = {**good, "halves": 0.5, "top_again": 0.1, "twin": 0.6, "effect": 0.01, "place": 0.1}
    found = judge(poor, OFFERED)
    assert len(found.reasons) == 5
    assert found.remedies == ("more calls (--calls 4096)", "the average sound for parts that are off (--off mean)")
    grave = judge({**poor, "in_silence": -1.0}, OFFERED)
    assert grave.word == "do not use"
    assert grave.remedies == ("silence for parts that are off (--off silence)",)
    assert judge({**good, "over_random": None}, OFFERED).remedies == ("more calls (--calls 4096)",)


def test_more_calls_put_right_what_they_are_told_for() -> None:
    poor = told(calls=256)
    assert poor.gates["over_random"] is not None
    (check,) = [one for one in statements(poor.fidelity, made(poor)) if "asked" in one.says]
    assert (check.word, check.remedy) == ("caution", "more calls (--calls 512)")
    better = told(calls=512)
    assert {one.word for one in statements(better.fidelity, made(better)) if "asked" in one.says} == {"trust"}


def made(got: Explanation) -> dict[str, Any]:
    return in_use("lime", got.settings, duration=got.span.duration)


def play(monkeypatch: pytest.MonkeyPatch, *, evidence: float, off: float, original: float) -> None:
    """Let the model say this in the round trip, on the explained scale."""
    answers = {"evidence": evidence, "off": off, "original": original}
    real = door.play_again

    def again(*asked: Any) -> Any:
        trip, windows = real(*asked)
        said = {name: replace(getattr(trip, name), scaled=value) for name, value in answers.items()}
        return replace(trip, **said), windows

    monkeypatch.setattr(door, "play_again", again)


def test_evidence_that_scores_below_all_parts_off_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, evidence=-2.5, off=-2.0, original=2.0)
    got = told()
    assert got.gates["kept"] == pytest.approx(-0.125)
    assert got.verdict is not None
    assert got.verdict.word == "caution"
    assert got.verdict.reasons == (GATES["kept"].tell(-0.125),)
    carried, trusted = story(to_document(got))[1:]
    assert "by themselves they do not carry it" in carried
    assert "below all parts off, by 0.12" in trusted


def test_of_what_the_model_denies_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, evidence=3.0, off=2.0, original=-2.0)
    got = told()
    assert not {"kept", "lost"} & got.gates.keys()
    assert got.verdict is not None
    assert got.verdict.word == "trust"


def test_a_figure_too_small_for_two_digits_is_told_as_such() -> None:
    assert "less than switching off the loudest first does, by less than 0.01" in GATES["over_energy"].tell(-0.002)
    assert "only by 0.01 of the range" in GATES["over_energy"].tell(0.012)
