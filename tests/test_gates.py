"""Gates: good explanations pass, broken ones are caught, and nothing costs more than a tenth."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers import gates
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation, Outcome, lay_cells
from otoscope.explainers.lime import lime
from otoscope.explainers.methods import METHODS, Method, Request, Settings, find_method
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
