"""The predict interface: what goes in, what may come back, and what is said when something else does."""

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import Model, ask, capability, probe_sounds
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.wrap import wrap
from tests.builders import RATE, Function, TinyImageNet, TinyNet, front_end, loudness, noise, torch_model


def sounds(n: int = 3, seconds: float = 1.0) -> np.ndarray[Any, Any]:
    return np.stack([noise(seconds=seconds, seed=seed) for seed in range(n)])


class Mean(nn.Module):
    """Steps to one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Average over the last axis."""
        return x.mean(-1)


class Raw(nn.Module):
    """Waveforms to logits."""

    def __init__(self, n_classes: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 64, stride=32)
        self.head = nn.Linear(4, n_classes)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Score waveforms."""
        return self.head(self.conv(waveforms[:, None]).square().mean(-1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("answer", "output", "reason"),
    [
        (np.zeros((3, 2)), "sigmoid", r"scores of shape \(3, 2\) for 3 waveforms and 1 labels; need \(3, 1\)"),
        (np.zeros(3), "sigmoid", r"scores of shape \(3,\)"),
        (np.zeros((2, 1)), "sigmoid", r"scores of shape \(2, 1\)"),
        (0.5, "sigmoid", r"scores of shape \(\)"),
        ([["a"], ["b"], ["c"]], "sigmoid", r"no numbers \(list\); predict must return scores of shape \(3, 1\)"),
        ([[1], [1, 2], [3]], "sigmoid", "no numbers"),
        (None, "sigmoid", r"no numbers \(NoneType\)"),
        (np.ones((3, 1)) * 1j, "regression", "no numbers"),
        (np.array([[0.1], [np.nan], [np.inf]]), "sigmoid", "2 scores that are NaN or infinite"),
        (np.array([[0.1], [np.nan], [0]]), "regression", "1 scores that are NaN or infinite"),
        (np.array([[0.1], [1.5], [-2]]), "sigmoid", 'from -2 to 1.5, but says sigmoid.*declare output="regression"'),
        (np.array([[0.1], [1.5], [0]]), "softmax", "but says softmax"),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_bad_answers_are_refused_with_what_came(answer: Any, output: Any, reason: str, wrapped: bool) -> None:
    model: Any = Function(lambda _: answer, output=output)
    if wrapped:
        model = wrap(lambda _: answer, rate=RATE, labels=["yes"], output=output)
    with pytest.raises(OtoscopeError, match=reason):
        ask(model, sounds())


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (np.array([[0], [1], [1]]), "sigmoid"),
        (np.array([[True], [False], [True]]), "sigmoid"),
        ([[0.5], [0.25], [0.0]], "softmax"),
        (np.array([[-3.0], [200], [0]], dtype=np.float16), "regression"),
    ],
)
def test_good_answers_come_back_as_float64(answer: Any, output: Any) -> None:
    scores = ask(Function(lambda _: answer, output=output), sounds())
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, np.asarray(answer, dtype=np.float64))


def two(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.concatenate([loudness(x), 1 - loudness(x)], axis=1)


@pytest.mark.parametrize(
    ("function", "output", "labels"),
    [
        (loudness, "sigmoid", ("class 0",)),
        (two, "softmax", ("class 0", "class 1")),
        (lambda x: two(x) * 0.9, "sigmoid", ("class 0", "class 1")),
        (lambda x: 10 * two(x), "regression", ("class 0", "class 1")),
        (lambda x: -loudness(x), "regression", ("class 0",)),
        (lambda x: two(x).tolist(), "softmax", ("class 0", "class 1")),
    ],
)
def test_output_and_labels_of_a_callable_are_judged_from_its_scores(function: Any, output: str, labels: Any) -> None:
    model = wrap(function, rate=RATE)
    assert (model.output, model.labels, model.rate, model.n_samples) == (output, labels, RATE, None)
    assert isinstance(model, Model)
    assert capability(model, "gradients") is None
    assert capability(model, "spectrogram") is None


def test_what_is_declared_is_not_judged() -> None:
    model = wrap(loudness, rate=RATE, labels=["loud"], output="regression", n_samples=4000)
    assert (model.output, model.labels, model.n_samples) == ("regression", ("loud",), 4000)
    asked: list[Any] = []
    wrap(lambda x: asked.append(x), rate=RATE, labels=["a"], output="sigmoid")
    assert asked == []


def test_a_model_is_given_back() -> None:
    model = torch_model()
    assert wrap(model) is model


@pytest.mark.parametrize(
    ("thing", "settings", "reason"),
    [
        (loudness, {}, "sampling rate is not known; give rate"),
        (42, {"rate": RATE}, "cannot wrap int; give a callable, a torch.nn.Module or a Model"),
        ("model.onnx", {"rate": RATE}, "cannot wrap str"),
        (two, {"rate": RATE, "labels": ["a", "a"]}, "two labels have the same name"),
        (two, {"rate": RATE, "labels": ["a"]}, r"shape \(8, 2\) for 8 waveforms and 1 labels"),
        (loudness, {"front_end": front_end()}, r"network returned shape \(2, 1, 32\): several steps"),
        (two, {"rate": RATE, "hearing": Hearing(RATE)}, "a hearing holds rate"),
        (two, {"rate": RATE, "returns": "logit"}, "unknown returns 'logit': did you mean 'logits'"),
        (lambda x: loudness(x)[:, 0], {"rate": RATE}, r"shape \(8,\) for 8 waveforms; predict must return"),
        (lambda _: np.full((8, 1), np.nan), {"rate": RATE}, "8 scores that are NaN"),
        (lambda _: [["x"]] * 8, {"rate": RATE}, "no numbers"),
        (loudness, {"rate": RATE, "output": "softmx"}, "unknown output 'softmx': did you mean 'softmax'"),
        (TinyNet(), {"front_end": front_end(), "rate": 44100}, "front end hears 8000 Hz, the model 44100 Hz"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(thing: Any, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        wrap(thing, **settings)


def test_a_wrapped_module_has_its_capabilities() -> None:
    model = wrap(TinyNet(), front_end=front_end(), output="sigmoid")
    assert (model.rate, model.labels, model.output) == (RATE, ("class 0", "class 1", "class 2"), "sigmoid")
    assert capability(model, "gradients") is not None
    assert capability(model, "spectrogram").front_end == front_end()
    plain = wrap(Raw(), rate=RATE)
    assert plain.output == "softmax"
    assert capability(plain, "spectrogram") is None
    np.testing.assert_allclose(plain.predict(sounds()).sum(axis=1), 1)


def test_a_module_that_returns_no_tensor_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return x.mean(-1), x

    with pytest.raises(OtoscopeError, match="network returned tuple; need one tensor of logits"):
        wrap(Two(), rate=RATE)


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "regression"])
def test_scores_are_the_activation_of_the_logits(output: Any) -> None:
    model = torch_model(output=output)
    logits = model.network.eval()(front_end()(torch.from_numpy(sounds()))).double()
    expected = {"softmax": logits.softmax(-1), "sigmoid": logits.sigmoid(), "regression": logits}[output]
    np.testing.assert_allclose(model.predict(sounds()), expected.detach().numpy(), atol=1e-6)


def test_the_batch_size_changes_nothing() -> None:
    model, waveforms = torch_model(), sounds(7)
    expected = model.predict(waveforms)
    for batch_size in (1, 3, 100):
        np.testing.assert_allclose(torch_model(batch_size=batch_size).predict(waveforms), expected, atol=1e-6)


def test_bands_are_scored_like_the_sounds_they_come_from() -> None:
    model, waveforms = torch_model(), sounds()
    assert model.spectrogram is not None
    spectra = model.spectrogram.stft(torch.from_numpy(waveforms))
    bands = model.spectrogram.bands(spectra.abs().square())
    np.testing.assert_allclose(model.spectrogram.predict_bands(bands), model.predict(waveforms), atol=1e-5)


@pytest.mark.parametrize("fails", [False, True])
def test_training_mode_is_put_back(fails: bool) -> None:
    network = TinyNet().train()
    network.drop.eval()
    modes = [module.training for module in network.modules()]
    model = torch_model(network)
    seen: list[bool] = []

    def look(*_: Any) -> None:
        seen.append(network.norm.training)
        if fails:
            raise RuntimeError("broken")

    handle = network.norm.register_forward_hook(look)
    mean = network.norm.running_mean
    before = copy.deepcopy(mean)
    if fails:
        with pytest.raises(OtoscopeError, match=r"network fails .*RuntimeError: broken"):
            model.predict(sounds())
    else:
        model.predict(sounds())
    handle.remove()
    assert seen == [False]
    assert [module.training for module in network.modules()] == modes
    assert before is not None
    assert mean is not None
    torch.testing.assert_close(mean, before)


def test_predict_leaves_no_gradients() -> None:
    network = TinyNet()
    torch_model(network).predict(sounds())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_a_fingerprint_is_stable_and_changes_with_weights_and_settings() -> None:
    first = torch_model()
    assert first.fingerprint == torch_model().fingerprint == first.fingerprint
    assert len(first.fingerprint) == 64
    changed = torch_model()
    with torch.no_grad():
        changed.network.head.bias[0] += 1e-3
    others = [
        changed,
        torch_model(seed=1),
        torch_model(labels=("calm", "tense", "glad")),
        torch_model(output="sigmoid"),
        torch_model(n_samples=4000),
        torch_model(front_end=front_end(hop=128)),
        torch_model(front_end=front_end(reference=11.0)),
    ]
    fingerprints = {first.fingerprint, *(other.fingerprint for other in others)}
    assert len(fingerprints) == 1 + len(others)


def test_a_fingerprint_does_not_depend_on_the_process_or_on_use() -> None:
    code = "from tests.builders import torch_model; print(torch_model().fingerprint)"
    model = torch_model()
    model.predict(sounds())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == model.fingerprint


def test_a_callable_is_recognised_by_what_it_says() -> None:
    same: list[Callable[..., Any]] = [loudness, lambda x: loudness(x) + 1e-9]
    first, second = (wrap(function, rate=RATE).fingerprint for function in same)
    assert first == second
    assert first.startswith("probe:")
    assert len(first) == len("probe:") + 64
    assert wrap(lambda x: loudness(x) * 0.99, rate=RATE).fingerprint != first


def test_the_probe_sounds_are_fixed_distinct_and_within_full_scale() -> None:
    probes = probe_sounds(RATE, 4000)
    assert probes.shape == (8, 4000)
    assert probes.dtype == np.float32
    np.testing.assert_array_equal(probes, probe_sounds(RATE, 4000))
    assert len({probe.tobytes() for probe in probes}) == 8
    assert np.abs(probes).max() <= 1.0001
    assert np.isfinite(probe_sounds(RATE, 1)).all()


def test_a_randomised_model_differs_but_keeps_its_shapes() -> None:
    model = torch_model(n_samples=8000, output="sigmoid")
    before = model.fingerprint
    other = model.randomised(1)
    assert model.fingerprint == before
    assert (other.labels, other.rate, other.n_samples, other.output) == (
        model.labels,
        model.rate,
        model.n_samples,
        model.output,
    )
    shapes = [(name, tensor.shape) for name, tensor in model.network.state_dict().items()]
    assert [(name, tensor.shape) for name, tensor in other.network.state_dict().items()] == shapes
    assert other.fingerprint not in (before, model.randomised(2).fingerprint)
    assert other.fingerprint == model.randomised(1).fingerprint
    assert np.abs(other.predict(sounds()) - model.predict(sounds())).max() > 1e-3


def test_randomising_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    torch_model().randomised(1)
    torch.testing.assert_close(torch.rand(3), expected)


def test_layers_for_maps_are_the_convolutions_the_last_first() -> None:
    flat = torch_model().layers()
    assert [layer.name for layer in flat] == ["conv"]
    assert flat[0].band_edges is None
    image = torch_model(TinyImageNet(), labels=("a", "b")).layers()
    assert image[0].band_edges is not None
    assert len(image[0].band_edges) == 25
    assert [layer.name for layer in wrap(Raw(), rate=RATE).layers()] == ["conv"]  # type: ignore[attr-defined]
    two = torch_model(nn.Sequential(nn.Conv1d(24, 8, 1), nn.ReLU(), nn.Conv1d(8, 3, 1), Mean()))
    assert [layer.name for layer in two.layers()] == ["2", "0"]
    assert NetworkModel(nn.Sequential(nn.Linear(8, 2)), Hearing(RATE, 8), labels=("a", "b")).layers() == ()
    with pytest.raises(OtoscopeError, match=r"cannot hear the 2 s .* declare n_samples"):
        NetworkModel(nn.Sequential(nn.Linear(8, 2)), Hearing(RATE), labels=("a", "b")).layers()


@pytest.mark.parametrize("filterbank", ["mel", "log", "none"])
def test_band_edges_lie_between_the_centres(filterbank: Any) -> None:
    hears = FrontEnd(RATE, filterbank=filterbank, n_bands=12)
    edges = hears.edges
    assert len(edges) == len(hears.centres) + 1
    assert (np.diff(edges) > 0).all()
    assert edges[-1] == RATE / 2
    assert ((edges[:-1] <= hears.centres) & (hears.centres <= edges[1:])).all()


def test_weights_that_cannot_be_drawn_afresh_are_named() -> None:
    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(1, keepdim=True) * self.weight

    with pytest.raises(OtoscopeError, match=r"Raw.*no reset_parameters"):
        NetworkModel(Raw(), Hearing(8000), labels=("a", "b")).randomised(0)


def test_a_model_in_half_precision_has_a_fingerprint() -> None:
    fingerprints = {
        NetworkModel(nn.Linear(4, 2).to(kind), Hearing(8000), labels=("a", "b")).fingerprint
        for kind in (torch.bfloat16, torch.float32)
    }
    assert len(fingerprints) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rate": 0}, "rate must be a whole number"),
        ({"rate": "16000"}, "rate must be a whole number"),
        ({"n_samples": -5}, "n_samples must be a whole number"),
        ({"labels": "ab"}, "list of names"),
        ({"labels": ["", "b"]}, "a label is empty"),
    ],
)
def test_a_wrapping_that_means_nothing_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OtoscopeError, match=words):
        wrap(lambda x: np.abs(x).mean(1, keepdims=True), **{"rate": 8000, **settings})


def test_a_callable_may_return_tensors_on_a_graph_and_write_to_its_input() -> None:
    def predict(x: Any) -> Any:
        x *= 0.5
        return torch.from_numpy(x).requires_grad_().mean(1, keepdim=True)

    waveforms = np.ones((2, 4), dtype=np.float32)
    waveforms.setflags(write=False)
    np.testing.assert_allclose(wrap(predict, rate=8000, labels=["a"], output="regression").predict(waveforms), 0.5)
    assert wrap(predict, rate=8000).labels == ("class 0",)


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(OtoscopeError, match="different lengths"):
        wrap(lambda x: [[1.0], *[[1.0, 2.0]] * (len(x) - 1)], rate=8000)
