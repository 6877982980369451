"""Torch networks from disk: weights and a factory, whole modules, TorchScript, exported programs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import otoscope
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.registry import load_model
from otoscope.explainers.methods import Settings
from tests.builders import RATE, music

NET = '''
import torch
from torch import nn

class Net(nn.Module):
    """Log-mel bands to two logits."""

    def __init__(self, width=6):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.head = nn.Linear(width, 2)

    def forward(self, bands):
        return self.head(torch.relu(self.conv(bands)).mean((-2, -1)))

def make(width=6):
    torch.manual_seed(0)
    return Net(width).eval()

def nothing():
    return 3
'''
CARD = """
[model]
name = "net"
kind = "torch"
labels = ["calm", "tense"]
{model}

[model.settings]
{settings}

[input]
rate = 8000
layout = ["items", "channels", "bands", "frames"]

[input.front_end]
n_bands = 24
compression = "log1p"
reference = 10.0
stft = {{ n_fft = 512, hop_length = 256 }}
"""
SAMPLES = np.stack([music(seconds=1.0, seed=seed) for seed in range(3)])


@pytest.fixture
def network(tmp_path: Path) -> Any:
    """Make the network of ``net.py``, which lies in the folder."""
    (tmp_path / "net.py").write_text(NET)
    spec = importlib.util.spec_from_file_location("net", tmp_path / "net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make()


def card(folder: Path, *, path: str | None = None, factory: str | None = None, **settings: str) -> str:
    model = "" if path is None else f'path = "{path}"'
    told = {"factory": factory, **settings} if factory else settings
    lines = "\n".join(f"{key} = {value if value[:1] == '{' else repr(value)}" for key, value in told.items() if value)
    (folder / "card.toml").write_text(CARD.format(model=model, settings=lines.replace("'", '"')))
    return str(folder / "card.toml")


def expected(network: Any) -> Any:
    front_end = otoscope.FrontEnd(RATE, otoscope.Stft(512, 256), n_bands=24, compression="log1p", reference=10.0)
    with torch.no_grad():
        return network(front_end(torch.from_numpy(SAMPLES))[:, None]).softmax(-1).double().numpy()


def test_weights_fill_the_network_that_a_factory_builds(network: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        network.head.bias += 1.0
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    torch.save(network.state_dict(), tmp_path / "w.pt")
    torch.save({"epoch": 3, "state_dict": network.state_dict()}, tmp_path / "checkpoint.pt")
    torch.save({"best": {"module." + k: v for k, v in network.state_dict().items()}, "x": {}}, tmp_path / "odd.pt")
    ways = [{"path": "w.safetensors"}, {"path": "w.pt"}, {"path": "checkpoint.pt"}]
    ways.append({"path": "odd.pt", "key": "best", "prefix": "module."})
    for way in ways:
        model = load_model(card(tmp_path, factory="net.py:make", **way), trust=True)
        np.testing.assert_allclose(model.predict(SAMPLES), expected(network), atol=1e-6)


def test_a_factory_takes_arguments(network: Any, tmp_path: Path) -> None:
    del network
    model: Any = load_model(card(tmp_path, factory="net.py:make", arguments="{ width = 9 }"), trust=True)
    assert model.network.conv.out_channels == 9


def test_a_factory_needs_trust_and_does_not_run_without(network: Any, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "net.py").write_text("import pathlib\npathlib.Path(__file__ + '.ran').touch()\n" + NET)
    path = card(tmp_path, path="w.safetensors", factory="net.py:make")
    with pytest.raises(OtoscopeError, match=r"card\.toml: would run code: net\.py:make; say --trust"):
        load_model(path)
    assert not (tmp_path / "net.py.ran").exists()
    load_model(path, trust=True)
    assert (tmp_path / "net.py.ran").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch announces the end of TorchScript
def test_a_script_holds_its_network(network: Any, tmp_path: Path) -> None:
    torch.jit.script(network).save(str(tmp_path / "net.pt"))
    path = card(tmp_path, path="net.pt")
    with pytest.raises(OtoscopeError, match=r"net\.pt: is a TorchScript archive.*--trust"):
        load_model(path)
    model: Any = load_model(path, trust=True)
    np.testing.assert_allclose(model.predict(SAMPLES), expected(network), atol=1e-6)
    waveform = torch.from_numpy(SAMPLES[:1]).requires_grad_()
    model.gradients.logits(waveform)[0, 0].backward()
    assert waveform.grad is not None
    assert waveform.grad.abs().sum() > 0
    audio = otoscope.Audio(SAMPLES[0], RATE)
    with pytest.raises(
        OtoscopeError, match="TorchScript lets nobody look at its layers; load the network by a factory"
    ):
        otoscope.explain(model, audio, method="gradcam", target="calm")


@pytest.mark.parametrize("dynamic", [True, False])
def test_an_exported_program_holds_its_network_and_its_layers(network: Any, tmp_path: Path, dynamic: bool) -> None:
    frames = 1 + SAMPLES.shape[1] // 256
    shapes = ({0: torch.export.Dim("n", min=1, max=1024)},) if dynamic else None
    example = torch.rand(2 if dynamic else 1, 1, 24, frames)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=shapes), tmp_path / "net.pt2")
    path = card(tmp_path, path="net.pt2")
    with pytest.raises(OtoscopeError, match=r"net\.pt2: is a torch\.export program.*--trust"):
        load_model(path)
    text = Path(path).read_text().replace("rate = 8000", "rate = 8000\nn_samples = 8000")
    Path(path).write_text(text)
    model: Any = load_model(path, trust=True)
    np.testing.assert_allclose(model.predict(SAMPLES), expected(network), atol=1e-6)
    explanation = otoscope.explain(model, otoscope.Audio(SAMPLES[0], RATE), method="gradcam", target="calm")
    assert np.abs(explanation.weights).sum() == pytest.approx(1)


def test_a_pickled_module_is_loaded_with_trust_only(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24 * 32, 2))
    torch.save(module, tmp_path / "net.pt")
    path = card(tmp_path, path="net.pt")
    with pytest.raises(OtoscopeError, match=r"net\.pt: .*would run code from it \(.*Sequential.*--trust"):
        load_model(path)
    model: Any = load_model(path, trust=True)
    assert isinstance(model.network, torch.nn.Sequential)
    assert model.predict(SAMPLES).shape == (3, 2)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"factory": "net.py:mak"}, r"net\.py has no function 'mak'"),
        ({"factory": "net.py"}, r"'net\.py' names no function; write"),
        ({"factory": "other.py:make"}, r"names 'other\.py', which is missing"),
        ({"factory": "../net.py:make"}, "climbs out of the card's folder"),
        ({"factory": "no_such_package.x:make"}, r"no_such_package\.x cannot be imported \(ModuleNotFoundError"),
        ({"factory": "net.py:nothing"}, r"net\.py:nothing returned int; it must return a torch\.nn\.Module"),
        ({"factory": "net.py:make", "arguments": "{ depth = 2 }"}, "does not take these arguments"),
        ({"factory": "net.py:make", "path": "w.safetensors", "prefix": "module."}, "no name begins with 'module.'"),
        ({"factory": "net.py:make", "path": "w.safetensors", "arguments": "{ width = 4 }"}, "does not fit the network"),
        ({"factory": "net.py:make", "path": "damaged.safetensors"}, "damaged.safetensors: "),
        ({"factory": "net.py:make", "path": "nan.safetensors"}, "weights that are not finite"),
        (
            {"factory": "net.py:make", "path": "w.pt", "key": "ema"},
            r"holds no state dict; say where it lies .*conv\.weight",
        ),
        ({"path": "w.safetensors"}, r"w\.safetensors: holds weights but no network; say what builds it"),
        ({}, "lacks 'path' and .* lacks 'factory'"),
        ({"path": "net.py"}, r"net\.py: is .*not"),
        ({"factory": "net.py:make", "fctory": "x"}, "unknown key 'fctory': did you mean 'factory'"),
    ],
)
def test_what_does_not_fit_is_named(network: Any, tmp_path: Path, settings: dict[str, str], reason: str) -> None:
    state = network.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:200])
    save_file({**state, "head.bias": torch.full((2,), torch.nan)}, tmp_path / "nan.safetensors")
    path = card(tmp_path, **settings)
    with pytest.raises(OtoscopeError, match=reason) as caught:
        load_model(path, trust=True)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_card_names_the_layer_and_what_its_axes_mean(network: Any, tmp_path: Path) -> None:
    del network
    found: Any = load_model(card(tmp_path, factory="net.py:make"), trust=True)
    audio = otoscope.Audio(SAMPLES[0], RATE)
    expected_map = otoscope.explain(found, audio, method="gradcam", target="calm").map
    declared = card(tmp_path, factory="net.py:make", layer="conv")
    text = Path(declared).read_text()
    for axes in ("", 'axes = ["items", "channels", "bands", "frames"]\n'):
        Path(declared).write_text(text.replace('layer = "conv"\n', f'layer = "conv"\n{axes}'))
        model: Any = load_model(declared, trust=True)
        assert [layer.name for layer in model.layers()] == ["conv"]
        got = otoscope.explain(model, audio, method="gradcam", target="calm").map
        np.testing.assert_allclose(got, expected_map, atol=1e-9)
    # declared the other way round, the map is another: nobody checks what the card's author knows
    Path(declared).write_text(
        text.replace('layer = "conv"\n', 'layer = "conv"\naxes = ["items", "channels", "frames", "bands"]\n')
    )
    turned = otoscope.explain(load_model(declared, trust=True), audio, method="gradcam", target="calm").map
    assert np.abs(turned - expected_map).max() > 0.01 * np.abs(expected_map).max()
    for wrong, reason in (
        ('layer = "convolution"\n', "unknown layer with a time axis 'convolution': did you mean 'conv'"),
        ('layer = "convx"\naxes = ["items", "frames"]\n', "unknown layer 'convx': did you mean 'conv'"),
        ('layer = "conv"\naxes = ["frames", "items"]\n', "axes of a layer begin with items"),
    ):
        Path(declared).write_text(text.replace('layer = "conv"\n', wrong))
        with pytest.raises(OtoscopeError, match=reason):
            load_model(declared, trust=True).layers()  # type: ignore[attr-defined]


def test_probabilities_and_steps_and_named_answers_are_understood(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        textwrap.dedent(
            """
            import torch

            class Tagger(torch.nn.Module):
                def forward(self, bands):
                    steps = bands[:, 0, :2].transpose(1, 2).sigmoid()  # (n, n_frames, 2)
                    return {"embedding": bands, "tags": steps}

            def make():
                return Tagger()
            """
        )
    )
    path = Path(card(tmp_path, factory="net.py:make"))
    plain = path.read_text()
    told = 'output = "sigmoid"\nreturns = "scores"\nanswer = "tags"\npool = "max"\n'
    path.write_text(plain.replace('kind = "torch"\n', 'kind = "torch"\n' + told))
    model: Any = load_model(str(path), trust=True)
    front_end = otoscope.FrontEnd(RATE, otoscope.Stft(512, 256), n_bands=24, compression="log1p", reference=10.0)
    bands = front_end(torch.from_numpy(SAMPLES))[:, :2].sigmoid()
    np.testing.assert_allclose(model.predict(SAMPLES), bands.amax(-1).numpy(), atol=1e-6)
    logits = model.gradients.logits(torch.from_numpy(SAMPLES))
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), model.predict(SAMPLES), atol=1e-5)
    path.write_text(path.read_text().replace('answer = "tags"\n', ""))
    with pytest.raises(OtoscopeError, match="say which output counts by answer: embedding, tags"):
        load_model(str(path), trust=True).predict(SAMPLES)
    path.write_text(plain.replace('kind = "torch"\n', 'kind = "torch"\nanswer = "tags"\n'))
    with pytest.raises(OtoscopeError, match="several steps for each item; say how they become one by pool"):
        load_model(str(path), trust=True).predict(SAMPLES)


def test_the_command_line_takes_trust(network: Any, tmp_path: Path) -> None:
    import soundfile

    save_file(network.state_dict(), tmp_path / "w.safetensors")
    soundfile.write(tmp_path / "a.wav", SAMPLES[0], RATE)
    path = card(tmp_path, path="w.safetensors", factory="net.py:make")
    command = [sys.executable, "-m", "otoscope", "predict", str(tmp_path / "a.wav"), "--model", path]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "--trust" in refused.stderr
    assert subprocess.run([*command, "--trust"], capture_output=True, check=False).returncode == 0


def test_lime_on_a_loaded_network_takes_the_bands_route(network: Any, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = load_model(card(tmp_path, path="w.safetensors", factory="net.py:make"), trust=True)
    audio = otoscope.Audio(SAMPLES[0], RATE)
    found = otoscope.explain(model, audio, target="calm", settings=Settings(n_parts=8, calls=64))
    assert found.route == "bands"
    difference = found.fidelity["route_difference"]
    assert difference is not None
    assert difference < 1e-3
