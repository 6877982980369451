"""The doctor: each disease is found by its check and by no other, the healthy are left in peace."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import otoscope
from otoscope.adapters.audio import Audio
from otoscope.adapters.doctor import FAMILIES, Finding, examine, failed, rows, table
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import CamLayer
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.patient import CHECKS, Patient
from otoscope.adapters.reference_sounds import loudest, music
from tests.builders import RATE, Float32, Floats, Function, front_end, sigmoid, tone, torch_model

WIDE = 32_000  # hertz: hears above what a file of 16 kHz holds


def shares(waveforms: Float32, *, rate: int = RATE) -> tuple[Floats, Floats, Floats]:
    """Energies without the offset: below 500 Hz, above 500 Hz, above 8.1 kHz, each (n,)."""
    spectra = np.abs(np.fft.rfft(np.asarray(waveforms, dtype=np.float64))) ** 2 / waveforms.shape[1] ** 2
    frequencies = np.fft.rfftfreq(waveforms.shape[1], 1 / rate)
    spectra[:, 0] = 0
    bands = [(frequencies < 500), (frequencies >= 500), (frequencies > 8100)]
    low, high, top = (spectra[:, band].sum(axis=1) for band in bands)
    return low, high, top


def logit(waveforms: Float32, *, rate: int = RATE) -> Floats:
    """Hear like the healthy: mostly the balance of low and high, a little loudness, and a floor under both."""
    low, high, _ = shares(waveforms, rate=rate)
    floor = 1e-6
    return 3 * ((low + floor) / (low + high + 2 * floor) - 0.5) + 0.05 * np.log10(low + high + 1e-4)


def two(logits: Floats) -> Floats:
    """Softmax of a logit against 0, (n,) to (n, 2)."""
    return np.stack([sigmoid(logits), 1 - sigmoid(logits)], axis=1)


def ear(waveforms: Float32) -> Floats:
    return two(logit(waveforms))


def function(predict: Callable[[Float32], Any] = ear, **settings: Any) -> Function:
    given: dict[str, Any] = {"labels": ("low", "high"), "n_samples": RATE, "output": "softmax"}
    return Function(predict, **given | settings)


def found(model: Any, *, audio: Audio | None = None) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(model, audio=audio)}


def unwell(model: Any) -> dict[str, str]:
    """Name what is neither passed nor skipped."""
    return {name: one.status for name, one in found(model).items() if one.status in ("warn", "fail")}


@pytest.fixture(scope="module")
def healthy() -> dict[str, Finding]:
    return found(function())


@pytest.fixture(scope="module")
def network() -> dict[str, Finding]:
    return found(torch_model(n_samples=RATE))


def test_a_healthy_function_passes_every_check_that_applies(healthy: dict[str, Finding]) -> None:
    statuses = {name: one.status for name, one in healthy.items()}
    skipped = {"own state", "front end", "gradients", "fresh weights"}
    assert {name for name, status in statuses.items() if status == "skip"} == skipped
    assert {name: status for name, status in statuses.items() if name not in skipped and status != "pass"} == {}


def test_a_healthy_function_passes_at_a_high_rate_and_at_any_length() -> None:
    assert unwell(function(lambda x: two(logit(x, rate=WIDE)), rate=WIDE, n_samples=WIDE)) == {}
    assert unwell(function(n_samples=None)) == {}


def test_a_healthy_network_passes_what_a_function_skips(network: dict[str, Finding]) -> None:
    for name in ("own state", "front end", "fresh weights"):
        assert network[name].status == "pass", network[name]
    assert not failed(tuple(network.values()))


def test_checks_run_family_by_family_and_names_are_unique() -> None:
    names = [one.name for one in CHECKS]
    assert len(set(names)) == len(names)
    assert names.index("attributes") == 0
    assert names.index("variety") < names.index("silence") < names.index("steps") < names.index("front end")
    assert [one.name for one in CHECKS if one.vital] == ["scores", "finite"]
    assert [family.__name__.rpartition(".")[2] for family in FAMILIES] == ["checks", "hearing_checks", "offered_checks"]


class Counting(nn.Module):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))


class Owner(Function):
    """A function beside a network that it treats badly."""

    def __init__(self, network: nn.Module, treat: Callable[[nn.Module], object]) -> None:
        super().__init__(ear, labels=("low", "high"), n_samples=RATE, output="softmax")
        self.network, self.treat = network, treat

    def predict(self, waveforms: Float32, /) -> Any:
        """Treat the network, then ask the function."""
        self.treat(self.network)
        return ear(waveforms)


class Fickle(Function):
    """Another fingerprint each time."""

    def __init__(self) -> None:
        self.reads = 0
        super().__init__(ear, labels=("low", "high"), n_samples=RATE, output="softmax")

    @property
    def fingerprint(self) -> Any:
        """Count the reads."""
        self.reads += 1
        return f"number {self.reads}"

    @fingerprint.setter
    def fingerprint(self, value: str) -> None: ...


def with_attributes(**values: Any) -> Any:
    model: Any = function()
    for name, value in values.items():
        setattr(model, name, value)
    return model


def writes(x: Float32) -> Floats:
    x *= 2
    return ear(x * np.float32(0.5))


def keeps(x: Float32) -> Floats:
    x[0, 0] = x[0, 0]
    return ear(x)


def nan_when(sick: Callable[[Float32], Any], predict: Callable[[Float32], Floats] = ear) -> Callable[[Float32], Floats]:
    """NaN for the sounds that are sick, (n, n_samples) to (n,)."""
    return lambda x: np.where(np.asarray(sick(x))[:, None], np.nan, predict(x))


def noisy(size: float) -> Callable[[Float32], Floats]:
    rng = np.random.default_rng(1)
    return lambda x: two(logit(x) + size * rng.standard_normal(len(x)))


def power(x: Float32) -> Floats:
    return np.asarray(np.square(x, dtype=np.float64).mean(axis=1))


def only(most: float = np.inf, *, least: float = 0.0) -> Callable[[Float32], Floats]:
    """Refuse lengths in seconds."""

    def predict(x: Float32) -> Floats:
        if not least * RATE <= x.shape[1] <= most * RATE:
            raise RuntimeError("Kernel size\n can't be greater")
        return ear(x)

    return predict


SICK: dict[str, tuple[Callable[[], Any], dict[str, str], str]] = {
    # name: model, what is found, a word of what was measured
    "labels twice": (lambda: with_attributes(labels=("a", "a")), {"attributes": "fail"}, "each class once"),
    "labels a list": (lambda: with_attributes(labels=["a", "b"]), {"attributes": "fail"}, "tuple of names"),
    "an empty label": (lambda: with_attributes(labels=("a", " ")), {"attributes": "fail"}, "tuple of names"),
    "rate a float": (lambda: with_attributes(rate=8000.0), {"attributes": "fail"}, "rate must be a whole number"),
    "output unknown": (lambda: with_attributes(output="logits"), {"attributes": "fail"}, "output must be one of"),
    "flat scores": (lambda: function(lambda x: ear(x)[:, 0]), {"scores": "fail"}, "of shape (9,)"),
    "words": (lambda: function(lambda x: [["a", "b"]] * len(x)), {"scores": "fail"}, "no numbers"),
    "raises": (lambda: function(lambda _: 1 / 0), {"scores": "fail"}, "ZeroDivisionError: division by zero"),
    "float32": (lambda: function(lambda x: ear(x).astype(np.float32)), {"type": "fail"}, "float32"),
    "NaN when loud": (
        lambda: function(nan_when(lambda x: np.abs(x).max(axis=1) > 0.9)),
        {"finite": "fail"},
        "1 of 9",  # the clicks alone reach full scale
    ),
    "softmax that sums to 2": (lambda: function(lambda x: ear(x)[:, :1] * [1, 1]), {"range": "fail"}, "sums miss 1"),
    "beyond 1": (
        lambda: function(lambda x: ear(x) + 1, output="sigmoid"),
        {"range": "fail", "saturation": "warn", "own level": "skip"},
        "but says sigmoid",
    ),
    "softmax called sigmoid": (lambda: function(output="sigmoid"), {"range": "warn"}, "sums are 1 on every sound"),
    "a little noise": (lambda: function(noisy(3e-5)), {"determinism": "warn"}, "asked twice"),
    "noise": (lambda: function(noisy(0.03)), {"determinism": "fail", "batch": "fail"}, "asked twice"),
    "batch": (
        lambda: function(lambda x: two(logit(x) + 0.05 * logit(x).mean())),
        {"batch": "fail"},
        "one by one or reversed",
    ),
    "place in the batch": (
        lambda: function(lambda x: two(logit(x) + 0.01 * np.arange(len(x)))),
        {"batch": "fail"},
        "one by one or reversed",
    ),
    "in place": (lambda: function(writes), {"input": "fail"}, "changes its input by up to 0.5"),
    "needs to write": (lambda: function(keeps), {"input": "fail"}, "read-only"),
    "counts calls": (
        lambda: Owner(Counting(), lambda net: net.get_buffer("calls").add_(1)),
        {"own state": "fail"},
        "1 buffers, first calls",
    ),
    "switches modes": (lambda: Owner(Counting(), lambda net: net.eval()), {"own state": "fail"}, "another mode"),
    "numpy's generator": (
        lambda: Owner(nn.Identity(), lambda _: np.random.rand()),  # noqa: NPY002 - the disease itself
        {"surroundings": "warn"},
        "numpy's random generator",
    ),
    "Python's generator": (
        lambda: Owner(nn.Identity(), lambda _: random.random()),
        {"surroundings": "warn"},
        "Python's",
    ),
    "torch's generator": (
        lambda: Owner(nn.Identity(), lambda _: torch.rand(1)),
        {"surroundings": "warn"},
        "torch's ran",
    ),
    "fingerprint changes": (Fickle, {"fingerprint": "fail"}, "changes from number"),
    "fingerprint None": (lambda: with_attributes(fingerprint=None), {"fingerprint": "fail"}, "is None"),
    "constant": (lambda: function(lambda x: two(np.zeros(len(x)))), {"variety": "warn"}, "the same to all 9 sounds"),
    "NaN on silence": (
        lambda: function(nan_when(lambda x: ~x.any(axis=1))),
        {"silence": "warn"},
        "not finite on digital silence; noise at −90 dBFS: ",
    ),
    "NaN on a rest": (  # helped by noise in music too, as explainers help it
        lambda: function(nan_when(lambda x: np.any(np.all(x.reshape(len(x), 80, -1) == 0, axis=2), axis=1))),
        {"silence": "warn"},
        "not finite on digital silence",
    ),
    "NaN when nearly silent": (lambda: function(nan_when(lambda x: power(x) < 1e-8)), {"silence": "fail"}, "−90 dBFS"),
    "silence a sound": (
        lambda: function(lambda x: two(logit(x) + 3.0 * ~x.any(axis=1))),
        {"silence": "warn"},
        "3 log-odds apart",
    ),
    "loudness": (lambda: function(lambda x: two(logit(x) + np.log10(power(x) + 1e-9))), {"level": "warn"}, "−20 dB: 2"),
    "own maximum": (
        lambda: function(lambda x: ear(0.5 * x / np.maximum(np.abs(x).max(axis=1, keepdims=True), 1e-9))),
        {"own level": "warn", "silence": "warn"},  # hiss becomes as loud as music
        "only; one loud click",
    ),
    "offset": (lambda: function(lambda x: two(logit(x) + 20 * x.mean(axis=1))), {"offset": "warn"}, "1 log-odds"),
    "padding": (
        lambda: function(lambda x: two(logit(x) + 4 * ~x[:, -800:].any(axis=1)), n_samples=None),
        {"padding": "warn", "silence": "warn"},
        "1 s of silence behind: 4 log-odds",
    ),
    "padding in a window": (
        lambda: function(lambda x: two(logit(x) + 4 * ~x[:, -800:].any(axis=1))),
        {"padding": "warn", "silence": "warn"},
        "last quarter of the window",
    ),
    "bandwidth": (
        lambda: function(
            lambda x: two(logit(x, rate=WIDE) + 0.5 * np.log10(shares(x, rate=WIDE)[2] + 1e-12)),
            rate=WIDE,
            n_samples=WIDE,
        ),
        {"history": "warn", "level": "warn", "silence": "warn"},
        "through 16 kHz",
    ),
    "short inputs only": (lambda: function(only(5), n_samples=None), {"lengths": "fail"}, "10 s: RuntimeError: Kernel"),
    "not half a minute": (lambda: function(only(20), n_samples=None), {"lengths": "warn"}, "30 s: RuntimeError"),
    "long inputs only": (lambda: function(only(least=1.5), n_samples=None), {"lengths": "warn"}, "from 1."),
    "saturated": (
        lambda: function(lambda x: two(200 * (logit(x) + 0.01)), n_samples=RATE),
        {"saturation": "warn"},
        "of 9 highest scores",
    ),
    "8 bits": (lambda: function(lambda x: np.round(ear(x) * 256) / 256), {"steps": "warn"}, "in steps of 0.00391"),
}


@pytest.mark.parametrize("name", SICK)
def test_a_disease_is_found_by_its_check_alone(name: str, healthy: dict[str, Finding]) -> None:
    make, expected, measured = SICK[name]
    findings = found(make())
    check = next(iter(expected))
    others = {"level", "own level", "offset", "padding", "history"} if name == "saturated" else set()
    seen = {n: f.status for n, f in findings.items() if n not in others and f.status in ("warn", "fail")}
    assert seen == {n: status for n, status in expected.items() if status != "skip"}
    assert measured in findings[check].measured
    assert findings[check].meaning
    assert healthy[check].status in ("pass", "skip")


@pytest.mark.parametrize("name", ["raises", "NaN when loud"])
def test_where_no_scores_come_back_the_rest_is_skipped(name: str) -> None:
    findings = examine(SICK[name][0]())
    first = next(i for i, finding in enumerate(findings) if finding.status == "fail")
    assert {finding.status for finding in findings[first + 1 :]} == {"skip"}
    assert f"as {findings[first].check!r} failed" in findings[-1].measured
    assert "\n" not in findings[first].measured


def test_an_exception_in_one_check_is_its_failure_and_the_others_go_on() -> None:
    def predict(x: Float32) -> Floats:
        if not x.any(axis=1).all():
            raise OtoscopeError("no silence,\nplease")
        return ear(x)

    assert unwell(function(predict)) == {"silence": "fail"}
    assert found(function(predict))["silence"].measured == "the model raised no silence, please"


def test_gradients_left_switched_off_are_told() -> None:
    with torch.enable_grad():  # puts the mode back at its end
        assert unwell(Owner(nn.Identity(), lambda _: torch.set_grad_enabled(False))) == {"surroundings": "warn"}
        assert not torch.is_grad_enabled()
    with torch.no_grad():
        assert unwell(function()) == {}


class Dropping(nn.Module):
    """Waveforms to logits, through dropout and batch norm."""

    def __init__(self, *, drop: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv1d(1, 6, 64, stride=32)
            self.norm = nn.BatchNorm1d(6)
            self.drop = nn.Dropout(drop)
            self.head = nn.Linear(6, 2)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Score waveforms."""
        return self.head(self.drop(self.norm(self.conv(waveforms[:, None])).square().mean(-1)))  # type: ignore[no-any-return]


class Bare(Function):
    """A network asked in whatever mode it is in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(self.run, labels=("a", "b"), n_samples=RATE, output="softmax")
        self.network = network

    def run(self, waveforms: Float32) -> Floats:
        """Score waveforms."""
        with torch.no_grad():
            return self.network(torch.from_numpy(waveforms.copy())).softmax(-1).double().numpy()  # type: ignore[no-any-return]


def test_dropout_and_batch_norm_in_training_mode_are_found() -> None:
    assert not {"determinism", "batch", "own state"} & set(unwell(Bare(Dropping(drop=0.5).eval())))
    sick = unwell(Bare(Dropping().train()))
    assert (sick["batch"], sick["own state"]) == ("fail", "fail")
    assert "determinism" not in sick
    assert unwell(Bare(Dropping(drop=0.5).train()))["determinism"] == "fail"


def test_declared_normalisation_by_the_clip_is_told() -> None:
    def own(**settings: Any) -> Finding:
        heard = Hearing(RATE, RATE, **settings)
        return found(NetworkModel(Dropping(), heard, labels=("a", "b")))["own level"]

    assert own().status == "pass"
    assert "declares normalise = 'standard' of the waveform" in own(normalise="standard").measured
    low = FrontEnd(RATE, stft=front_end().stft, n_bands=24, top=40.0)
    model = torch_model(n_samples=RATE, front_end=low)
    assert found(model)["own level"].measured.startswith("declares top = 40; one loud click")


def test_a_front_end_that_is_another_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = torch_model(n_samples=RATE)
    assert found(model)["front end"].status == "pass"
    right = model.spectrogram.bands
    monkeypatch.setattr(model.spectrogram, "bands", lambda energies: right(energies) * 1.5)
    finding = found(model)["front end"]
    assert finding.status == "fail"
    assert "scores from bands and from waveforms differ by" in finding.measured


@pytest.mark.parametrize(("away", "limit", "status"), [(1e-5, None, "pass"), (0.1, None, "fail"), (0.1, 0.2, "pass")])
def test_a_measured_difference_of_front_ends_is_compared_with_its_limit(away: float, limit: Any, status: str) -> None:
    model = with_attributes(front_end_difference=away)
    if limit is not None:
        model.front_end_limit = limit
    finding = found(model)["front end"]
    assert finding.status == status
    assert f"differ by {away:.2g}" in finding.measured


def test_a_front_end_difference_that_is_no_number_fails() -> None:
    assert found(with_attributes(front_end_difference=lambda: float("nan")))["front end"].status == "fail"


class White(Function):
    """A function whose logits torch can cross too; `spoil` makes it sick."""

    def __init__(self, *, spoil: Callable[[torch.Tensor], torch.Tensor] = lambda x: x, layers: Any = None) -> None:
        conv = nn.Conv1d(1, 2, 8, stride=8, bias=False)
        nn.init.constant_(conv.weight, 0.2)
        self.network = nn.Sequential(conv)
        self.spoil, self.make = spoil, layers
        super().__init__(self.run, labels=("a", "b"), n_samples=RATE, output="sigmoid")
        self.gradients = self  # type: ignore[assignment]

    def raw(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Logits (n, 2)."""
        heard: torch.Tensor = self.network(waveforms[:, None]).square().mean(-1)
        return heard * torch.tensor([1.0, -1.0])

    def run(self, waveforms: Float32) -> Floats:
        """Score waveforms."""
        with torch.no_grad():
            return self.raw(torch.from_numpy(waveforms.copy())).sigmoid().double().numpy()

    def logits(self, waveforms: torch.Tensor, /) -> torch.Tensor:
        """Logits, spoilt."""
        return self.spoil(self.raw(waveforms))

    def layers(self) -> tuple[CamLayer, ...]:
        """Name the convolution, or what is told."""
        if self.make is not None:
            return self.make(self)  # type: ignore[no-any-return]
        return (CamLayer("0", self.network[0]),)


def leave_a_hook(model: White) -> tuple[CamLayer, ...]:
    model.network[0].register_forward_hook(lambda *_: None)
    return (CamLayer("0", model.network[0]),)


def no_layers(_: White) -> tuple[CamLayer, ...]:
    raise OtoscopeError("nothing has a time axis")


@pytest.mark.parametrize(
    ("model", "status", "measured"),
    [
        (lambda: White(), "pass", "e-09; layers 0"),
        (lambda: White(spoil=lambda x: x + 1), "fail", "scores from logits and from predict differ by 0."),
        (lambda: White(spoil=lambda x: x.detach()), "fail", "the gradient by the waveform is zero everywhere"),
        (lambda: White(spoil=lambda x: x + 0), "pass", "layers 0"),
        (lambda: White(layers=leave_a_hook), "fail", "1 hooks are left behind"),
        (lambda: White(layers=lambda _: ()), "warn", "no layer with a time axis"),
        (lambda: White(layers=no_layers), "warn", "no layers: nothing has a time axis"),
        (function, "skip", "offers none"),
        (lambda: with_attributes(no_gradients="runs outside torch"), "skip", "runs outside torch"),
    ],
)
def test_gradients(model: Callable[[], Any], status: str, measured: str) -> None:
    finding = found(model())["gradients"]
    assert finding.status == status, finding
    assert measured in finding.measured


def test_examining_gradients_leaves_no_gradient_in_the_weights(network: dict[str, Finding]) -> None:
    model = torch_model(n_samples=RATE)
    assert found(model)["gradients"].status == network["gradients"].status
    assert isinstance(model.network, nn.Module)
    assert all(parameter.grad is None for parameter in model.network.parameters())


class Copying(Function):
    """Offers fresh weights, in one of several ways."""

    def __init__(self, way: str) -> None:
        self.way, self.turn = way, 0.0
        super().__init__(lambda x: two(logit(x) + self.turn), labels=("low", "high"), n_samples=RATE, output="softmax")

    def randomised(self, seed: int) -> Function:
        """Copy with fresh weights."""
        if self.way == "refuses":
            raise OtoscopeError("only torch modules can be given fresh weights")
        if self.way == "same":
            return self
        if self.way == "destroys":
            self.turn = 1.0
        return function(lambda x: two(-logit(x) + seed % 7))


@pytest.mark.parametrize(
    ("way", "status", "measured"),
    [
        ("well", "pass", "the model stays"),
        ("same", "fail", "e-16 only"),
        ("destroys", "fail", "moves the model itself by 0."),
        ("refuses", "skip", "only torch modules"),
    ],
)
def test_fresh_weights(way: str, status: str, measured: str) -> None:
    finding = found(Copying(way))["fresh weights"]
    assert finding.status == status, finding
    assert measured in finding.measured


def test_a_stated_longest_input_is_tried_and_kept() -> None:
    asked: list[int] = []

    def predict(x: Float32) -> Floats:
        asked.append(x.shape[1])
        return only(3)(x)

    model: Any = function(predict, n_samples=None)
    model.max_samples = 3 * RATE
    assert unwell(model) == {}
    assert max(asked) == 3 * RATE
    model = function(only(5.5), n_samples=None)
    model.max_samples = 6 * RATE
    assert unwell(model) == {"lengths": "fail"}


def test_the_shortest_input_is_found_to_a_fifth() -> None:
    for least in (0.06, 0.3, 0.9):
        told = found(function(only(least=least), n_samples=None))["lengths"].measured
        shortest = float(told.split()[1])
        assert least <= shortest <= 1.21 * least


@pytest.mark.parametrize("bits", [4, 8, 10])
def test_steps_are_measured_on_values_too(bits: int) -> None:
    step = 50 / 2**bits
    finding = found(function(lambda x: np.round(50 * ear(x)[:, :1] / step) * step, labels=("v",), output="regression"))
    assert finding["steps"].status == "warn"
    assert f"in steps of {step:.3g}" in finding["steps"].measured


def test_changes_of_values_are_measured_by_their_range() -> None:
    model = function(lambda x: 1000 * logit(x)[:, None], labels=("valence",), output="regression")
    findings = found(model)
    assert findings["level"].status == "pass"
    assert "(values range over" in findings["level"].measured
    assert findings["saturation"].status == "skip"
    assert (
        unwell(function(lambda x: 1e-3 * power(x)[:, None], labels=("power",), output="regression"))["level"] == "warn"
    )


def test_the_recording_of_the_user_is_heard_where_it_is_loud() -> None:
    sound = np.concatenate([tone(300, seconds=2, level=0.01), tone(3000, seconds=1.2, level=0.4)])
    assert Patient(function(), audio=Audio(sound, RATE)).sounds.shape == (10, RATE)
    assert np.abs(loudest(sound, RATE)).min() < 0.4 < np.abs(loudest(sound, RATE)).max() + 0.01
    assert np.square(loudest(sound, RATE)).mean() > 0.07
    np.testing.assert_array_equal(loudest(sound[:100], RATE)[:100], sound[:100])
    padded = found(function(), audio=Audio(sound, 2 * RATE))
    assert padded["finite"].measured == "on all 10 sounds"
    # A disease that shows on this recording only.
    sick = function(lambda x: two(logit(x) + 40 * (shares(x)[1] > 3 * shares(x)[0]) * power(x)))
    assert found(sick)["level"].status == "pass"
    assert found(sick, audio=Audio(sound, RATE))["level"].status == "warn"


@pytest.mark.parametrize(("n_samples", "rate"), [(1, RATE), (30, RATE), (300, RATE), (2, 96_000)])
def test_the_shortest_windows_can_be_examined(n_samples: int, rate: int) -> None:
    def predict(x: Float32) -> Floats:
        return two(np.asarray(x[:, 0], dtype=np.float64) + np.abs(x).mean(axis=1))

    findings = found(function(predict, n_samples=n_samples, rate=rate))
    assert not failed(tuple(findings.values()))
    assert (findings["history"].status == "skip") == (n_samples < 16)


@pytest.mark.parametrize("n_samples", [3, 100, 4000, RATE])
def test_music_has_notes_bursts_and_a_rest_at_any_length(n_samples: int) -> None:
    sound = music(RATE, n_samples, np.random.default_rng(0))
    assert sound.shape == (n_samples,)
    assert np.isfinite(sound).all()
    if n_samples >= 100:
        beat = n_samples // 12
        assert np.abs(sound).max() == pytest.approx(0.5)
        assert not sound[9 * beat : 10 * beat].any()


def test_an_examination_asks_for_few_items_and_goes_the_same_way_twice() -> None:
    asked: list[int] = []

    def predict(x: Float32) -> Floats:
        asked.append(len(x))
        return ear(x)

    first = [f for f in examine(function(predict)) if f.check not in ("speed", "memory")]
    assert sum(asked) <= 110
    assert first == [f for f in examine(function(predict)) if f.check not in ("speed", "memory")]


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    examine(function(), progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, len(CHECKS))
    assert told[-1] == (len(CHECKS), len(CHECKS))
    assert len(examine(function(), contract_only=True)) == sum(one.contract for one in CHECKS)


def test_cost_is_told_with_its_units(healthy: dict[str, Finding]) -> None:
    assert "ms alone" in healthy["speed"].measured
    assert "2048 calls about 10 s by waveforms: " in healthy["speed"].measured
    assert "MiB each" in healthy["memory"].measured


GREEDY = """
import numpy as np
from tests.test_doctor import ear, found, function

def greedy(x):
    held = np.ones((len(x), 2**20))  # 8 MiB each
    return ear(x) + 0 * held[:, :1]

print(found(function(greedy))["memory"].measured)
"""


def test_memory_is_seen_to_grow() -> None:
    """In a process of its own: what earlier tests gave back would be taken again unseen."""
    told = subprocess.run([sys.executable, "-c", GREEDY], capture_output=True, text=True, check=True).stdout
    assert 6 < float(told.split(", ")[1].split()[0]) < 12


FINDINGS = (
    Finding("batch", "pass", "differ by 0"),
    Finding("own level", "warn", "−6 dB", "weights interact " * 12),
    Finding("range", "fail", "0 to 2", "normalise"),
    Finding("gradients", "skip", "none", "lime fits"),
)


def test_the_table_is_aligned_and_tells_what_warnings_and_failures_mean() -> None:
    lines = table(FINDINGS).splitlines()
    assert lines[0] == "PASS  batch      differ by 0"
    assert lines[1] == "WARN  own level  −6 dB"
    assert lines[2].startswith(" " * 17 + "weights interact")
    assert max(map(len, lines)) <= 120
    assert "                 normalise" in lines
    assert lines[-1] == "SKIP  gradients  none"
    assert table(FINDINGS, verbose=True).splitlines()[-1] == "                 lime fits"
    styled = table(FINDINGS, style=lambda word, status: f"<{status}>{word}</>")
    assert styled.splitlines()[0] == "<pass>PASS</>  batch      differ by 0"
    assert table(()) == ""


def test_rows_are_fit_for_json() -> None:
    assert json.loads(json.dumps(rows(FINDINGS)))[2] == {
        "check": "range",
        "status": "fail",
        "measured": "0 to 2",
        "meaning": "normalise",
    }
    assert failed(FINDINGS)
    assert not failed(FINDINGS[:2])


@pytest.fixture(scope="module")
def shipped() -> dict[str, Finding]:
    return found(otoscope.load_model("harmonics"))


def test_the_shipped_model_keeps_the_contract(shipped: dict[str, Finding]) -> None:
    assert {name: one.status for name, one in shipped.items() if one.status != "pass"} == {}
