"""Every kind of model keeps the contract, and the helper for authors of plug-ins tells who does not."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import otoscope
from otoscope.adapters.card import write_card
from otoscope.adapters.conformance import check_model
from otoscope.adapters.model import Model
from otoscope.adapters.registry import load_model
from tests import hf_models
from tests.builders import RATE, Float32, Floats, Function, TinyImageNet, TinyNet, front_end, loudness, noise

Build = Callable[[Path], Model]
SECOND = {"rate": RATE, "n_samples": RATE}
SERVERS: list[ThreadingHTTPServer] = []


@pytest.fixture(autouse=True)
def _servers() -> Iterator[None]:
    """Shut down what a builder started."""
    yield
    while SERVERS:
        server = SERVERS.pop()
        server.shutdown()
        server.server_close()


class Raw(nn.Module):
    """Waveforms to logits."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv1d(1, 4, 64, stride=32)
            self.drop = nn.Dropout(0.5)
            self.head = nn.Linear(4, 2)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Score waveforms."""
        heard = self.conv(waveforms[:, None]).square().mean(-1).clamp(min=1e-6).log()
        return self.head(self.drop(heard))  # type: ignore[no-any-return]


def card(folder: Path, kind: str, *, heard: dict[str, Any] | None = None, **about: Any) -> str:
    """Write a card for a model that hears one second."""
    given = {"name": "tiny", "kind": kind, "labels": ["calm", "tense"], "output": "softmax"} | about
    write_card(folder / "card.toml", {"model": given, "input": heard or SECOND})
    return str(folder / "card.toml")


def behind_bands(bands: Float32) -> Floats:
    """Score bands (n, n_bands, n_frames)."""
    return loudness(np.asarray(bands, dtype=np.float32).reshape(len(bands), -1))


def torch_card(folder: Path) -> Model:
    from safetensors.torch import save_file

    save_file(Raw().state_dict(), folder / "raw.safetensors")
    name = f"{Raw.__module__}:{Raw.__name__}"
    path = card(folder, "torch", path="raw.safetensors", settings={"factory": name})
    return load_model(path, trust=True)


def onnx_card(folder: Path) -> Model:
    from tests import test_onnx

    return load_model(test_onnx.card(test_onnx.linear(folder / "m.onnx"), output="softmax", returns="logits"))


def onnx_behind_bands(folder: Path) -> Model:
    from tests import test_onnx

    heard = {"layout": ["items", "channels", "frames", "bands"], "front_end": test_onnx.FRONT}
    return load_model(test_onnx.card(test_onnx.behind_bands(folder / "m.onnx"), input=heard))


def tflite_card(folder: Path) -> Model:
    from tests import test_tflite

    return load_model(test_tflite.card(test_tflite.linear(folder / "m.tflite"), output="softmax", returns="logits"))


def transformers_folder(family: str) -> Build:
    def make(folder: Path) -> Model:
        pytest.importorskip("transformers")
        return load_model(str(hf_models.build(folder, family)))

    return make


def sklearn_card(folder: Path) -> Model:
    skops = pytest.importorskip("skops.io")
    from sklearn.linear_model import LogisticRegression

    from otoscope.adapters.features import Mfcc, extract

    sounds = np.stack([noise(seed=seed, level=0.02 * (1 + seed % 2)) for seed in range(12)])
    estimator = LogisticRegression().fit(extract(sounds, RATE, Mfcc()), np.array(["calm", "tense"] * 6))
    skops.dump(estimator, folder / "m.skops")
    return load_model(card(folder, "sklearn", path="m.skops", settings={"features": "mfcc"}))


def python_card(folder: Path) -> Model:
    lines = ["import numpy as np", "def score(x):", "    p = np.tanh(np.abs(x).mean(1, keepdims=True))"]
    (folder / "score.py").write_text("\n".join([*lines, "    return np.concatenate([p, 1 - p], axis=1)"]))
    return load_model(card(folder, "python", settings={"function": "score.py:score"}), trust=True)


# Without numpy, so that it starts at once.
PROGRAM = """
import array, json, math, sys
answers = []
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        content = file.read()
    start = content.index(b"data") + 8
    samples = array.array("f", content[start : start + (len(content) - start) // 4 * 4])
    p = math.tanh(sum(map(abs, samples)) / len(samples))
    answers.append({"calm": p, "tense": 1 - p})
print(json.dumps(answers))
"""


def command_card(folder: Path) -> Model:
    import sys

    (folder / "score.py").write_text(PROGRAM)
    command = [sys.executable, "-S", "-E", "score.py", "{files}"]
    return load_model(card(folder, "command", settings={"command": command}), trust=True)


class Answer(BaseHTTPRequestHandler):
    """Scores a WAV file by its mean level."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer with scores."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        samples = np.frombuffer(content[content.index(b"data") + 8 :], dtype="<f4").astype(np.float64)
        p = float(np.tanh(np.abs(samples).mean()))
        body = f'{{"calm": {p}, "tense": {1 - p}}}'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def http_card(folder: Path) -> Model:
    pytest.importorskip("requests")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    SERVERS.append(server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {"url": f"http://127.0.0.1:{server.server_address[1]}/score", "subtype": "FLOAT"}
    return load_model(card(folder, "http", settings=settings), allow_network=True)


def midlevel_card(folder: Path) -> Model:
    from tests.test_midlevel_nets import write

    return load_model(str(write(folder)))


# One small model of each kind: a new adapter adds a line.
MODELS: dict[str, Build] = {
    "wrapped function": lambda _: otoscope.wrap(loudness, rate=RATE, n_samples=RATE),
    "wrapped function of any length": lambda _: otoscope.wrap(loudness, rate=RATE),
    "wrapped function behind a front end": lambda _: otoscope.wrap(behind_bands, n_samples=RATE, front_end=front_end()),
    "wrapped module": lambda _: otoscope.wrap(Raw(), rate=RATE, n_samples=RATE),
    "wrapped module behind a front end": lambda _: otoscope.wrap(TinyNet(), n_samples=RATE, front_end=front_end()),
    "wrapped module of any length": lambda _: otoscope.wrap(TinyImageNet(), front_end=front_end()),
    "harmonics": lambda _: otoscope.load_model("harmonics"),
    "torch": torch_card,
    "onnx": onnx_card,
    "onnx behind a front end": onnx_behind_bands,
    "tflite": tflite_card,
    "transformers": transformers_folder("audio-spectrogram-transformer"),
    "transformers of any length": transformers_folder("wav2vec2"),
    "sklearn": sklearn_card,
    "python": python_card,
    "command": command_card,
    "http": http_card,
    "midlevel": midlevel_card,
    "descriptors": lambda _: otoscope.load_model("midlevel"),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_keeps_the_contract(name: str, tmp_path: Path) -> None:
    check_model(MODELS[name](tmp_path))


def test_there_is_a_model_of_every_kind_of_card() -> None:
    from otoscope.adapters.registry import kinds

    assert set(kinds()) <= set(MODELS)


def quiet(**settings: Any) -> Any:
    """Make a healthy model of the least that is asked for."""
    return Function(loudness, **{"n_samples": RATE} | settings)


class Local(threading.local):
    """Belongs to the thread that made it."""


def in_its_own_thread_only() -> Function:
    local = Local()
    local.ready = True
    return quiet_of(lambda x: loudness(x) * (1 if getattr(local, "ready", False) else 0.5))


def quiet_of(function: Callable[[Float32], Any], **settings: Any) -> Function:
    return Function(function, **{"n_samples": RATE} | settings)


def reads_memory(x: Float32) -> Floats:
    """Take the numbers as they lie in memory."""
    lying = np.frombuffer(x.tobytes("A"), dtype=np.float32).reshape(x.shape)
    return loudness(np.cumsum(lying, axis=1))


def raises(x: Float32) -> Floats:
    raise RuntimeError(f"got {x.ndim} axes,\nneed 3")


def writes(x: Float32) -> Floats:
    x += 0.1
    return loudness(x)


SICK: dict[str, tuple[Callable[[], Any], str]] = {
    "no model": (lambda: loudness, "protocol: lacks predict, labels, rate, n_samples, output, fingerprint"),
    "rate unknown": (lambda: quiet(rate="8000"), "attributes: rate must be a whole number"),
    "raises": (lambda: quiet_of(raises), "scores: the model raised RuntimeError: got 2 axes, need 3"),
    "one axis": (lambda: quiet_of(lambda x: loudness(x)[:, 0]), r"scores: .* of shape \(9,\) .* need \(9, 1\)"),
    "float32": (lambda: quiet_of(lambda x: loudness(x).astype("f4")), "type: predict returns float32"),
    "NaN": (lambda: quiet_of(lambda x: loudness(x) * np.nan), "finite: NaN or infinite on 9 of 9"),
    "no probabilities": (lambda: quiet_of(lambda x: 9 * loudness(x)), "range: .* but says sigmoid"),
    "sum": (lambda: quiet_of(loudness, output="softmax"), "range: sums miss 1 by up to"),
    "random": (
        lambda: quiet_of(lambda x: np.random.default_rng().uniform(size=(len(x), 1))),
        "determinism: asked twice, scores differ by 0",
    ),
    "batch": (lambda: quiet_of(lambda x: loudness(x) - loudness(x).mean() / 2 + 0.3), "batch: one by one or reversed"),
    "in place": (lambda: quiet_of(writes), "input: predict changes its input by up to 0.1"),
    "memory": (lambda: quiet_of(reads_memory), "memory layout: with strided arrays scores differ by 0"),
    "thread": (in_its_own_thread_only, "threads: from another thread scores differ by 0"),
    "thread raises": (
        lambda: quiet_of(lambda x: loudness(x) if threading.current_thread() is threading.main_thread() else raises(x)),
        "threads: the model raised RuntimeError",
    ),
}


@pytest.mark.parametrize("name", SICK)
def test_who_breaks_the_contract_is_told_what_and_why(name: str) -> None:
    make, reason = SICK[name]
    model = make()
    with pytest.raises(AssertionError, match=reason) as caught:
        check_model(model)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{type(model).__name__} breaks the contract:"
    assert all(line.startswith("  ") and line.endswith(")") for line in lines)
    if name not in ("rate unknown", "random", "batch"):  # these cannot but fail elsewhere too
        assert len(lines) == 1


def test_all_failures_are_told_at_once() -> None:
    def predict(x: Float32) -> Any:
        writes(x)
        return (loudness(x) * 3).astype(np.float32)

    with pytest.raises(AssertionError) as caught:
        check_model(quiet_of(predict))
    found = [line.strip().partition(":")[0] for line in str(caught.value).splitlines()[1:]]
    assert found == ["type", "range", "input"]


def test_warnings_are_no_failures() -> None:
    def nan_on_silence(x: Float32) -> Floats:
        return np.where(x.any(axis=1, keepdims=True), loudness(x), np.nan)

    check_model(quiet_of(nan_on_silence))
    check_model(quiet_of(lambda x: loudness(x / np.maximum(np.abs(x).max(axis=1, keepdims=True), 1e-9))))


def test_speed_and_memory_are_not_asked_for() -> None:
    asked: list[int] = []

    def predict(x: Float32) -> Floats:
        asked.append(len(x))
        return loudness(x)

    check_model(quiet_of(predict))
    assert 16 not in asked
    assert sum(asked) <= 60
