"""Models outside: functions, programs and services answer as they would here, fail in one line, and never hang."""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import otoscope
from otoscope.adapters.answers import ask_all, read_json, rows_of, scores_of, wav_bytes
from otoscope.adapters.card import write_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.http_model import HttpSettings
from otoscope.adapters.model import Model, ask
from tests.builders import Float32, noise, tone
from tests.server import LABELS, PATIENCE, Seen, drip, drop_midway, rude, score, serve

RATE = 8000
SCORE = """
import json, sys
import numpy as np
from scipy.io import wavfile

def score(path):
    rate, x = wavfile.read(path)
    x = x / 32768.0 if x.dtype == np.int16 else x.astype(float)
    values = np.log10(np.array([np.mean(x**2), np.mean(np.diff(x)**2)]) + 1e-6) / 6 + 1
    return dict(zip(["loud", "bright"], np.clip(values, 0, 1).tolist()))

"""


def waves(n: int = 3, seconds: float = 0.25) -> Float32:
    return np.stack([noise(seconds=seconds, level=0.05 * (i + 1), seed=i) for i in range(n)])


def card(folder: Path, kind: str, settings: dict[str, Any], **model: Any) -> str:
    """Write a card of a model outside."""
    about = {"name": "ear", "kind": kind, "labels": list(LABELS), "output": "sigmoid", "settings": settings}
    write_card(folder / "ear.toml", {"model": about | model, "input": {"rate": RATE}})
    return str(folder / "ear.toml")


def fails(model: Model, reason: str, waveforms: Float32 | None = None) -> str:
    """Ask and see that the fault is told in one line."""
    with pytest.raises(OtoscopeError, match=reason) as error:
        model.predict(waves(1) if waveforms is None else waveforms)
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()
    return str(error.value)


# Answers

L = ("a", "b")
GOOD: list[tuple[str, str | None]] = [
    ('{"a": 0.25, "b": 0.75}', None),
    ('{"b": 0.75, "x": "other", "a": 0.25}', None),
    ("[0.25, 0.75]", None),
    ('[{"label": "b", "score": 0.75}, {"label": "a", "score": 0.25}, {"label": "c", "score": 0}]', None),
    ('{"scores": [0.25, 0.75]}', None),
    ('{"predictions": {"a": 0.25, "b": 0.75}, "model": "x"}', None),
    ('{"predictions": [[0.25, 0.75]]}', None),
    ('[[{"label": "a", "score": 0.25}, {"label": "b", "score": 0.75}]]', None),
    ('{"predictions": [{"scores": [0.25, 0.75]}]}', None),
    ('{"probs": [0.25, 0.75], "scores": [1, 1]}', "probs"),
    ("\ufeff[0.25, 0.75]", None),
]


@pytest.mark.parametrize(("text", "answer"), GOOD)
def test_scores_are_found_in_the_order_of_the_labels(text: str, answer: str | None) -> None:
    assert scores_of(read_json(text.encode()), L, answer=answer) == [0.25, 0.75]


@pytest.mark.parametrize("text", ['{"a": 1}', "[1]", "[[1]]", '[{"label": "a", "score": 1}]', '{"scores": [{"a": 1}]}'])
def test_one_label_is_no_special_case(text: str) -> None:
    assert scores_of(read_json(text.encode()), ("a",)) == [1.0]


def test_labels_named_as_wrappers_are_labels() -> None:
    assert scores_of({"scores": 0.1, "predictions": 0.9}, ("scores", "predictions")) == [0.1, 0.9]


BAD = [
    ("", "the answer is empty"),
    ("<html>\x1b[31m" + "x" * 200, r"is no JSON: '<html>\\x1b\[31mx{69}'…"),
    ('{"a": 1}', "lacks label 'b'; it has 'a'"),
    ("[1]", r"holds 1 scores for 2 labels; name one label for each score in \[model\], or answer with"),
    ("[1, 2, 3]", "holds 3 scores for 2 labels"),
    ("[]", "holds 0 scores for 2 labels"),
    ("3", "holds no scores: '3'"),
    ("null", "holds no scores: 'None'"),
    ('"a"', "holds no scores: 'a'"),
    ('["0.1", 0.9]', "score of 'a' is '0.1', no number"),
    ("[true, 0]", "score of 'a' is 'True', no number"),
    ("[0, null]", "score of 'b' is 'None', no number"),
    ("[NaN, 0]", "holds NaN; scores must be finite"),
    ("[0, -Infinity]", "holds -Infinity"),
    ("[0, 1e999]", "score of 'b' is not finite"),
    ("[0, 1" + "0" * 400 + "]", "score of 'b' is not finite"),
    ("[0, 1" + "0" * 5000 + "]", "is no JSON"),
    ('{"a": 1, "a": 2, "b": 3}', "names 'a' twice"),
    ('[{"label": "a", "score": 1}, {"label": "a", "score": 1}, {"label": "b", "score": 1}]', "names 'a' twice"),
    ('[{"label": "a", "score": 1}, {"label": "b"}]', 'each item needs "label" and "score"'),
    ('[{"label": 1, "score": 1}, {"label": "b", "score": 1}]', 'each item needs "label" and "score"'),
    ("[" * 100_000 + "]" * 100_000, "nested too deep"),
    ('{"scores":' * 100_000 + "1" + "}" * 100_000, "nested too deep"),
    ("[" * 40 + "1, 2" + "]" * 40, "for 2 labels|no number"),
    ('{"scores": {"scores": {"scores": {"scores": {"scores": [1, 2]}}}}}', "lacks label 'a'"),
    ("\udcff", "is no JSON"),
]


@pytest.mark.parametrize(("text", "reason"), BAD, ids=[reason[:30] for _, reason in BAD])
def test_wrong_answers_are_told_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason) as error:
        scores_of(read_json(text.encode("utf-8", "surrogateescape")), L)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


def test_a_list_of_answers_has_one_for_each_sound() -> None:
    rows = [[1.0, 2.0], {"b": 4, "a": 3}]
    assert rows_of(rows, 2, L) == rows_of({"predictions": rows}, 2, L) == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(OtoscopeError, match="holds 2 answers for 3 sounds"):
        rows_of(rows, 3, L)
    with pytest.raises(OtoscopeError, match=r"holds no list .* for 1 sounds"):
        rows_of({"a": 1, "b": 2}, 1, L)


def test_sounds_are_written_as_they_are() -> None:
    from io import BytesIO

    import soundfile

    sound = np.append(waves(1)[0], [1.5, -1.5]).astype(np.float32)
    exact, rate = soundfile.read(BytesIO(wav_bytes(sound, RATE, "FLOAT")), dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(exact, sound)
    short, _ = soundfile.read(BytesIO(wav_bytes(sound, RATE, "PCM_16")), dtype="float32")
    np.testing.assert_allclose(short[:-2], sound[:-2], atol=0.5001 / 32768)
    assert short[-2:].tolist() == [1 - 2**-15, -1.0]
    assert wav_bytes(sound, RATE, "FLOAT") == wav_bytes(sound, RATE, "FLOAT")


def test_order_is_kept_whoever_answers_first() -> None:
    gates = [threading.Event() for _ in range(3)]

    def asked(waveform: Float32, stop: threading.Event) -> list[float]:
        i = int(waveform[0])
        assert i == 2 or gates[i + 1].wait(PATIENCE)  # the last answers first
        assert not stop.is_set()
        gates[i].set()
        return [float(i)]

    assert ask_all(asked, np.arange(3, dtype=np.float32)[:, None], concurrency=3).tolist() == [[0], [1], [2]]


def test_the_first_failure_stops_all_others() -> None:
    begun: list[int] = []
    told: list[bool] = []

    def asked(waveform: Float32, stop: threading.Event) -> list[float]:
        begun.append(int(waveform[0]))
        if waveform[0] == 1:
            raise OtoscopeError("no")
        told.append(stop.wait(PATIENCE))
        return [0.0]

    with pytest.raises(OtoscopeError, match="no"):
        ask_all(asked, np.arange(50, dtype=np.float32)[:, None], concurrency=2)
    assert len(begun) < 50
    assert all(told)


# Functions


def python_card(folder: Path, code: str, settings: dict[str, Any] | None = None, **model: Any) -> str:
    (folder / "ear.py").write_text(code, encoding="utf-8")
    return card(folder, "python", {"function": "ear.py:predict"} | (settings or {}), **model)


PREDICT = "from tests.server import score as predict\n"


def test_a_function_beside_the_card_answers_as_it_does_here(tmp_path: Path) -> None:
    path = python_card(tmp_path, PREDICT)
    with pytest.raises(OtoscopeError, match=r"would run code: ear\.py:predict; say --trust"):
        otoscope.load_model(path)
    before = list(sys.path)
    model = otoscope.load_model(path, trust=True)
    np.testing.assert_array_equal(ask(model, waves()), score(waves()))
    assert sys.path == before
    assert model.fingerprint.startswith("probe:")
    assert (model.labels, model.rate, model.n_samples, model.output) == (LABELS, RATE, None, "sigmoid")


def test_a_function_of_an_installed_package_is_found(tmp_path: Path) -> None:
    path = card(tmp_path, "python", {"function": "tests.server:score"})
    np.testing.assert_array_equal(ask(otoscope.load_model(path, trust=True), waves()), score(waves()))


FACTORY = "def predict(gain=1.0):\n    return lambda x: abs(x).mean(1, keepdims=True).repeat(2, 1) * gain\n"


@pytest.mark.parametrize(("settings", "gain"), [({"factory": True}, 1.0), ({"arguments": {"gain": 2.0}}, 2.0)])
def test_a_factory_makes_the_function(tmp_path: Path, settings: dict[str, Any], gain: float) -> None:
    model = otoscope.load_model(python_card(tmp_path, FACTORY, settings), trust=True)
    expected = gain * np.abs(waves()).mean(1, keepdims=True).repeat(2, 1)
    np.testing.assert_allclose(ask(model, waves()), expected, rtol=1e-6)


def test_logits_get_their_activation_and_answers_are_picked(tmp_path: Path) -> None:
    code = "import numpy as np\ndef predict(x):\n    return {'z': np.tile([[800.0, 801.0]], (len(x), 1)), 'y': 0}\n"
    path = python_card(tmp_path, code, answer="z", returns="logits", output="softmax")
    p = 1 / (1 + np.e)
    np.testing.assert_allclose(ask(otoscope.load_model(path, trust=True), waves(2)), [[p, 1 - p]] * 2)
    path = python_card(tmp_path, code.replace("80", "-"), answer="z", returns="logits")
    assert ask(otoscope.load_model(path, trust=True), waves(1)) == pytest.approx(np.array([[0.5, 1 / (1 + np.e)]]))
    fails(otoscope.load_model(python_card(tmp_path, code, answer="w"), trust=True), "returned no 'w', .* but z, y")


def test_two_models_with_neighbours_of_one_name_each_get_their_own(tmp_path: Path) -> None:
    models = []
    for gain in (0.25, 0.5):
        folder = tmp_path / str(gain)
        folder.mkdir()
        (folder / "neighbour.py").write_text(f"GAIN = {gain}\n")
        (folder / "later.py").write_text("from neighbour import GAIN\n")
        code = (
            "import numpy as np, neighbour\ndef predict(x):\n    import later\n"
            "    return np.array([[neighbour.GAIN, later.GAIN]] * len(x))\n"
        )
        models.append(otoscope.load_model(python_card(folder, code), trust=True))
    before = list(sys.path)
    for _ in range(2):
        assert [ask(model, waves(1)).tolist() for model in models] == [[[0.25, 0.25]], [[0.5, 0.5]]]
    assert sys.path == before
    assert "neighbour" not in sys.modules


def test_places_that_the_code_adds_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "deep.py").write_text("VALUE = 0.125\n")
    code = (
        "import os, sys\nsys.path.append(os.path.join(os.path.dirname(__file__), 'lib'))\n"
        "def predict(x):\n    import deep\n    return [[deep.VALUE, 0]] * len(x)\n"
    )
    before = list(sys.path)
    model = otoscope.load_model(python_card(tmp_path, code), trust=True)
    assert sys.path == before
    assert ask(model, waves(1)).tolist() == [[0.125, 0]]
    assert sys.path == before


@pytest.mark.parametrize(
    ("code", "settings", "reason"),
    [
        ("x = 1\n", {}, r"ear\.py has no function 'predict'"),
        ("import nowhere_at_all\n", {}, r"ear\.py cannot be imported .ModuleNotFoundError: No module named 'nowhere_a"),
        ("def predict(:\n", {}, r"ear\.py cannot be imported .SyntaxError"),
        ("raise SystemExit(3)\n", {}, r"ear\.py:predict fails .SystemExit: 3"),
        ("raise KeyError('a\\nb')\n", {}, r"ear\.py cannot be imported .KeyError"),
        (FACTORY, {"arguments": {"gian": 1}}, r"ear\.py:predict fails .TypeError: .*'gian'"),
        ("def predict():\n    return 3\n", {"factory": True}, r"ear\.py:predict made int, no function"),
        (PREDICT, {"function": "predict"}, "'predict' names no function"),
        (PREDICT, {"function": "other.py:predict"}, r"names 'other\.py', which is missing"),
        (PREDICT, {"function": "../ear.py:predict"}, "climbs out"),
        (PREDICT, {"function": "no.such.module:f"}, "no.such.module cannot be imported"),
        (PREDICT, {"fucntion": "x"}, "unknown key 'fucntion': did you mean 'function'"),
    ],
)
def test_what_cannot_be_imported_is_told_in_one_line(
    tmp_path: Path, code: str, settings: dict[str, Any], reason: str
) -> None:
    before = list(sys.path)
    with pytest.raises(OtoscopeError, match=reason) as error:
        otoscope.load_model(python_card(tmp_path, code, settings), trust=True)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert sys.path == before


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def predict(x):\n    raise ValueError('odd\\nlength')\n", r"ear\.py:predict fails .ValueError: odd length"),
        ("def predict(x):\n    return [[1]]\n", r"returned scores of shape \(1, 1\)"),
        ("def predict(x):\n    return None\n", "returned no numbers"),
        ("def predict(x):\n    return [[2, 0]]\n", "scores from 0 to 2, but says sigmoid"),
        ("import sys\ndef predict(x):\n    sys.exit('bye')\n", "fails .SystemExit: bye"),
    ],
)
def test_what_the_function_does_wrong_is_told_in_one_line(tmp_path: Path, code: str, reason: str) -> None:
    before = list(sys.path)
    fails(otoscope.load_model(python_card(tmp_path, code), trust=True), reason)
    assert sys.path == before


def test_a_function_is_given_no_more_than_a_batch(tmp_path: Path) -> None:
    code = "def predict(x):\n    return [[len(x) / 10, 0]] * len(x)\n"
    model = otoscope.load_model(python_card(tmp_path, code), trust=True, batch_size=2)
    assert ask(model, waves(5))[:, 0].tolist() == [0.2, 0.2, 0.2, 0.2, 0.1]


@pytest.mark.parametrize("kind", ["python", "command", "http"])
@pytest.mark.parametrize("key", ["pool", "path"])
def test_keys_that_would_reach_nothing_are_refused(tmp_path: Path, kind: str, key: str) -> None:
    path = card(tmp_path, kind, {}, **{key: "first"})
    with pytest.raises(OtoscopeError, match=rf"\[model\] {key} means nothing to kind {kind}; remove it"):
        otoscope.load_model(path, trust=True, allow_network=True)


# Programs


def command_card(folder: Path, end: str, arguments: tuple[str, ...] = ("{file}",), **settings: Any) -> str:
    (folder / "score.py").write_text(SCORE + end, encoding="utf-8")
    return card(folder, "command", {"command": [sys.executable, "score.py", *arguments]} | settings)


ONE = "print(json.dumps(score(sys.argv[1])))\n"
ALL = "print(json.dumps([score(path) for path in sys.argv[1:]]))\n"


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder for temporary files that is empty again after the test."""
    import tempfile

    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(
    ("end", "arguments", "settings", "tolerance"),
    [
        (ONE, ("{file}",), {}, 1e-6),
        (ONE, ("{file}",), {"subtype": "PCM_16", "concurrency": 2}, 1e-3),
        (ALL, ("{files}",), {}, 1e-6),
        (ONE.replace("sys.argv[1]", "sys.argv[1].split('=')[1]"), ("--in={file}",), {}, 1e-6),
    ],
)
def test_a_program_answers_as_it_does_here(
    tmp_path: Path, end: str, arguments: tuple[str, ...], settings: dict[str, Any], tolerance: float
) -> None:
    path = command_card(tmp_path, end, arguments, **settings)
    with pytest.raises(OtoscopeError, match=r"would run the command .*score\.py.*say --trust"):
        otoscope.load_model(path)
    model = otoscope.load_model(path, trust=True)
    np.testing.assert_allclose(ask(model, waves()), score(waves()), rtol=0, atol=tolerance)


QUICK = "import json, os, signal, sys, time\n"


def quick(folder: Path, code: str, *, batch_size: int = 32, **settings: Any) -> Model:
    """Make a model of a program that needs no numpy."""
    (folder / "quick.py").write_text(QUICK + code, encoding="utf-8")
    words = {"command": [sys.executable, "-I", "-S", "quick.py", "{file}"]} | settings
    return otoscope.load_model(card(folder, "command", words), trust=True, batch_size=batch_size)


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(
    ("code", "settings", "reason"),
    [
        ("sys.exit(3)\n", {}, "failed with exit code 3: it said nothing"),
        ("print('a\\nlast \\x1b[31m', file=sys.stderr)\nsys.exit(1)\n", {}, r"exit code 1: last  \[31m$"),
        ("os.kill(os.getpid(), signal.SIGTERM)\n", {}, "was killed by signal 15"),
        ("print('ho' * 100)\n", {}, f"is no JSON: '{'ho' * 40}'…"),
        ("", {}, "the answer is empty"),
        ("print('[1]')\n", {}, "holds 1 scores for 2 labels"),
        ("while True: print('[' * 100000)\n", {}, "wrote more than 10 MB and was killed"),
        (
            "",
            {"command": ["no-such-program-at-all", "{file}"]},
            "no-such-program-at-all cannot be started .No such file",
        ),
        ("", {"command": ["./quick.py", "{file}"]}, "cannot be started .Permission denied"),
    ],
)
def test_what_a_program_does_wrong_is_told_in_one_line(
    tmp_path: Path, code: str, settings: dict[str, Any], reason: str
) -> None:
    fails(quick(tmp_path, code, **settings), "command ['\"].*" + reason)


@pytest.mark.usefixtures("scratch")
def test_a_program_that_takes_too_long_is_killed_with_all_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(600)'])\n"
        "with open('children', 'w') as file: file.write(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(600)\n"
    )
    fails(quick(tmp_path, code, timeout=3), "took longer than 3 s and was killed")
    for pid in map(int, (tmp_path / "children").read_text().split()):
        assert gone(pid)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has asked after yet counts as ended."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{pid}/stat")
        if stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.usefixtures("scratch")
def test_what_a_program_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    code = (
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(600)'])\n"
        "with open('child', 'w') as file: file.write(str(child.pid))\n"
        "print('[0.25, 0.5]')\nsys.stdout.flush()\nos._exit(0)\n"
    )
    try:
        assert ask(quick(tmp_path, code, timeout=600), waves(1)).tolist() == [[0.25, 0.5]]
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


@pytest.mark.usefixtures("scratch")
def test_a_program_finds_nothing_on_its_standard_input(tmp_path: Path) -> None:
    ours, (reader, writer) = os.dup(0), os.pipe()
    os.write(writer, b"x")
    os.close(writer)
    os.dup2(reader, 0)
    try:
        assert ask(quick(tmp_path, "print([len(sys.stdin.read()), 0])\n"), waves(1)).tolist() == [[0, 0]]
    finally:
        os.dup2(ours, 0)
        os.close(reader)
        os.close(ours)


@pytest.mark.usefixtures("scratch")
def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    code = "print([float(sys.argv[2] == '$HOME; touch mark'), 0])\n"
    words = [sys.executable, "-I", "-S", "quick.py", "{file}", "$HOME; touch mark"]
    assert ask(quick(tmp_path, code, command=words), waves(1)).tolist() == [[1, 0]]
    assert not (tmp_path / "mark").exists()


@pytest.mark.usefixtures("scratch")
def test_a_program_that_fails_stops_the_others(tmp_path: Path) -> None:
    code = (
        "try:\n    os.close(os.open('first', os.O_CREAT | os.O_EXCL))\nexcept FileExistsError:\n    time.sleep(600)\n"
        "sys.exit(7)\n"
    )
    fails(quick(tmp_path, code, concurrency=3, timeout=3600), "exit code 7", waves(6))


@pytest.mark.usefixtures("scratch")
def test_programs_run_at_the_same_time_and_sounds_are_private(tmp_path: Path) -> None:
    code = (
        "open(f'here-{os.getpid()}', 'w').close()\n"
        f"until = time.time() + {PATIENCE}\n"
        "here = lambda: len([n for n in os.listdir('.') if n.startswith('here')])\n"
        "while here() < 3 and time.time() < until: time.sleep(0.01)\n"
        "private = (os.stat(os.path.dirname(sys.argv[1])).st_mode & 0o077) == 0\n"
        "print([float(here() >= 3), float(private)])\n"
    )
    assert ask(quick(tmp_path, code, concurrency=3), waves(3)).tolist() == [[1, 1]] * 3


@pytest.mark.usefixtures("scratch")
def test_files_come_in_batches(tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-S", "quick.py", "{files}"]
    model = quick(tmp_path, "n = len(sys.argv) - 1\nprint([[n / 10, 0]] * n)\n", command=words, batch_size=2)
    assert ask(model, waves(5))[:, 0].tolist() == [0.2, 0.2, 0.2, 0.2, 0.1]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"command": []}, "command names no program"),
        ({"command": ["x"]}, 'command must hold "{file}"'),
        ({"command": ["x", "{file}", "{files}"]}, 'command must hold "{file}"'),
        ({"command": ["x", "{files}", "{files}"]}, 'command must hold "{file}"'),
        ({"command": "x {file}"}, "command must be a list, each text"),
        ({"command": ["x", "{file}"], "timeout": 0}, "timeout must lie between"),
        ({"command": ["x", "{file}"], "concurrency": 0}, "concurrency must lie between 1 and 64"),
        ({"command": ["x", "{file}"], "subtype": "PCM_24"}, "subtype must be one of PCM_16, FLOAT"),
    ],
)
def test_settings_of_programs_are_checked(tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        otoscope.load_model(card(tmp_path, "command", settings), trust=True)


# Services


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as seen:
        yield seen


def http(folder: Path, url: str, **settings: Any) -> Any:
    """Load the model of a service; time-outs are long and pauses short, so that no clock decides."""
    about = {key: settings.pop(key) for key in ("labels", "answer", "returns") if key in settings}
    batch_size = settings.pop("batch_size", 32)
    path = card(folder, "http", {"url": url, "timeout": PATIENCE, "backoff": 0.001} | settings, **about)
    return otoscope.load_model(path, allow_network=True, batch_size=batch_size)


@pytest.mark.parametrize(("subtype", "tolerance"), [("FLOAT", 1e-6), ("PCM_16", 1e-3)])
@pytest.mark.parametrize("field", ["", "audio"])
def test_a_service_answers_as_it_does_here(
    tmp_path: Path, service: Seen, subtype: str, tolerance: float, field: str
) -> None:
    model = http(tmp_path, f"{service.url}/plain", subtype=subtype, field=field)
    np.testing.assert_allclose(ask(model, waves()), score(waves()), rtol=0, atol=tolerance)
    assert len(service.requests) == 3
    for request in service.requests:
        assert (request["field"], request["subtype"], request["rate"]) == (field or None, subtype, RATE)
        assert field or request["headers"]["content-type"] == "audio/wav"


def test_nothing_is_sent_before_the_network_is_allowed(tmp_path: Path, service: Seen) -> None:
    settings = {"url": f"{service.url}/plain?key=secret", "headers": {"X-Key": "Bearer $OTO_TOKEN"}}
    host = service.url.removeprefix("http://")
    reason = (
        rf"would send hundreds of altered versions of your recording \(16-bit WAV, 8000 Hz\) and the environment "
        rf"variable \$OTO_TOKEN to host {host}; say --allow-network"
    )
    for trust in (False, True):
        with pytest.raises(OtoscopeError, match=reason) as error:
            otoscope.load_model(card(tmp_path, "http", settings), trust=trust)
        assert "secret" not in str(error.value)
    assert service.requests == []


def test_loading_sends_nothing_and_notes_say_where_sound_goes(tmp_path: Path, service: Seen) -> None:
    model = http(tmp_path, f"{service.url}/plain?key=secret")
    host = service.url.removeprefix("http://")
    assert service.requests == []
    sent = f"altered versions of the recording (16-bit WAV, 8000 Hz) were sent to host {host}, not encrypted"
    assert model.notes == (sent,)


def test_tokens_come_from_the_environment(tmp_path: Path, service: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Authorization": "Bearer $OTO_TOKEN", "X-Plain": "as it is"}
    monkeypatch.delenv("OTO_TOKEN", raising=False)
    with pytest.raises(OtoscopeError, match=r"headers name \$OTO_TOKEN, which is not set.*export OTO_TOKEN="):
        http(tmp_path, f"{service.url}/plain", headers=headers)
    monkeypatch.setenv("OTO_TOKEN", "a\nb")
    with pytest.raises(OtoscopeError, match="headers: Authorization holds what no header may hold"):
        http(tmp_path, f"{service.url}/plain", headers=headers)
    netrc = tmp_path / "netrc"  # requests would replace the token by what stands here
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("OTO_TOKEN", "s3cret")
    model = http(tmp_path, f"{service.url}/plain", headers=headers)
    ask(model, waves(1))
    sent = service.requests[0]["headers"]
    assert (sent["authorization"], sent["x-plain"]) == ("Bearer s3cret", "as it is")
    assert "s3cret" not in "".join(model.notes)
    assert "and the environment variable $OTO_TOKEN were sent to host" in "".join(model.notes)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_failures_that_pass_are_tried_again(tmp_path: Path, service: Seen, status: int) -> None:
    service.fails, service.status = 2, status
    model = http(tmp_path, f"{service.url}/plain", subtype="FLOAT", retries=2)
    np.testing.assert_allclose(ask(model, waves(1)), score(waves(1)), atol=1e-6)
    assert len(service.requests) == 3


def test_failures_that_do_not_pass_end(tmp_path: Path, service: Seen) -> None:
    service.fails = 1000
    told = fails(http(tmp_path, f"{service.url}/plain", retries=3), r"host 127.*: answers 500 \(4 tries\): 'not now")
    assert r"\x1b[31m" in told
    assert len(service.requests) == 4


@pytest.mark.parametrize("status", [400, 401, 404, 418])
def test_other_answers_are_refused_at_once(tmp_path: Path, service: Seen, status: int) -> None:
    service.fails, service.status = 1000, status
    fails(http(tmp_path, f"{service.url}/plain"), f"answers {status}: 'not now")
    assert len(service.requests) == 1


def test_a_service_that_asks_for_time_gets_it(tmp_path: Path, service: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float | None] = []
    monkeypatch.setattr(threading.Event, "wait", _noting(threading.Event.wait, pauses))
    service.fails, service.status, service.headers = 2, 429, {"Retry-After": "7"}
    ask(http(tmp_path, f"{service.url}/plain"), waves(1))
    assert [pause for pause in pauses if pause == 7] == [7, 7]


def _noting(wait: Any, pauses: list[float | None]) -> Any:
    """Note how long is waited for events, without waiting for as long as that where it is a pause."""

    def noting(self: threading.Event, timeout: float | None = None) -> bool:
        pauses.append(timeout)
        return bool(wait(self, 0 if timeout == 7 else timeout))

    return noting


def test_a_service_that_asks_for_too_much_time_is_left(tmp_path: Path, service: Seen) -> None:
    service.fails, service.status, service.headers = 1000, 503, {"Retry-After": "3600"}
    fails(http(tmp_path, f"{service.url}/plain"), "answers 503 and asks to wait 3600 s: 'not now")
    assert len(service.requests) == 1


def test_pauses_double(tmp_path: Path, service: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float | None] = []
    monkeypatch.setattr(threading.Event, "wait", _noting(threading.Event.wait, pauses))
    service.fails = 1000
    fails(http(tmp_path, f"{service.url}/plain", backoff=0.001, retries=4), "answers 500")
    assert [pause for pause in pauses if pause in (0.001, 0.002, 0.004, 0.008, 0.016)] == [0.001, 0.002, 0.004, 0.008]


ANSWERS = [
    (b"<html>", "host 127.*: the answer is no JSON: '<html>'"),
    (b'{"loud": 1, "dark": 1}', "lacks label 'bright'; it has 'loud, dark'"),
    (b"[0.1]", "holds 1 scores for 2 labels"),
    (b"", "the answer is empty"),
    (b"[0.5, 1.5]", "scores from 0.5 to 1.5, but says sigmoid"),
]


@pytest.mark.parametrize(("body", "reason"), ANSWERS)
def test_wrong_answers_of_services_are_told(tmp_path: Path, service: Seen, body: bytes, reason: str) -> None:
    service.body = body
    fails(http(tmp_path, f"{service.url}/fixed"), reason)
    assert len(service.requests) == 1


def test_packed_answers_are_refused(tmp_path: Path, service: Seen) -> None:
    import gzip

    service.body, service.headers = gzip.compress(b"[0.5, 0.5]"), {"Content-Encoding": "gzip"}
    fails(http(tmp_path, f"{service.url}/fixed"), "the answer is packed")
    assert service.requests[0]["headers"]["accept-encoding"] == "identity"


def test_answers_are_picked_and_activated(tmp_path: Path, service: Seen) -> None:
    service.body = json.dumps({"logits": [0.0, 1.0], "scores": [9, 9]}).encode()
    model = http(tmp_path, f"{service.url}/fixed", answer="logits", returns="logits")
    assert ask(model, waves(1)) == pytest.approx(np.array([[0.5, 1 / (1 + np.exp(-1))]]))


def test_huge_answers_are_not_read_to_their_end(tmp_path: Path, service: Seen) -> None:
    fails(http(tmp_path, f"{service.url}/huge"), "the answer is larger than 10 MB")
    assert len(service.requests) == 1


def test_redirects_within_the_host_are_followed(tmp_path: Path, service: Seen) -> None:
    service.status, service.headers = 307, {"Location": "/plain"}
    np.testing.assert_allclose(ask(http(tmp_path, f"{service.url}/moved"), waves(1)), score(waves(1)), atol=1e-3)
    assert [request["path"] for request in service.requests] == ["/moved", "/plain"]


def test_redirects_in_a_circle_end(tmp_path: Path, service: Seen) -> None:
    service.status, service.headers = 307, {"Location": "/moved"}
    fails(http(tmp_path, f"{service.url}/moved"), "answers 307")
    assert len(service.requests) == 4


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("{other}/plain", "redirects to host {otherhost}, which is not followed; name that address in the card"),
        ("http://[", "redirects to what is no address"),
        ("file:///etc/passwd", "redirects to what is no address"),
    ],
)
def test_redirects_elsewhere_are_not_followed(tmp_path: Path, service: Seen, location: str, reason: str) -> None:
    with serve() as other:
        service.status = 307
        service.headers = {"Location": location.format(other=other.url)}
        fails(http(tmp_path, f"{service.url}/moved"), reason.format(otherhost=other.url.removeprefix("http://")))
        assert other.requests == []


def test_the_body_of_a_redirect_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    head = b"HTTP/1.1 307 Moved\r\nLocation: http://example.org/\r\nContent-Length: 1000000000\r\n\r\n"
    with rude(drip(head, b" " * 1000)) as seen:
        fails(http(tmp_path, seen.url, timeout=600), r"redirects to host example\.org, which is not followed")
        assert not seen.over.is_set()


def test_requests_overlap_and_keep_their_order(tmp_path: Path, service: Seen) -> None:
    service.together = 4
    model = http(tmp_path, f"{service.url}/together", concurrency=4, subtype="FLOAT")
    np.testing.assert_allclose(ask(model, waves(12)), score(waves(12)), atol=1e-6)
    assert service.peak == 4
    service.peak = 0
    service.together = 1
    ask(http(tmp_path, f"{service.url}/together", concurrency=1), waves(3))
    assert service.peak == 1


def test_a_failing_request_stops_the_others(tmp_path: Path, service: Seen) -> None:
    # Three hang until the service ends; the fourth fails, and all are hung up long before their time-out.
    model = http(tmp_path, f"{service.url}/one_fails", concurrency=4, timeout=3600, retries=5)
    fails(model, "answers 400: 'no'", waves(20))
    assert 4 <= len(service.requests) <= 8  # its thread may have begun another before the others heard of it


def test_a_slow_service_meets_its_time_out(tmp_path: Path, service: Seen) -> None:
    fails(http(tmp_path, f"{service.url}/stalls", timeout=0.3, retries=1), r"did not answer within 0\.3 s \(2 tries\)")
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n[", b" "),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["head", "body", "until closed", "chunk", "continue"],
)
def test_a_service_that_drips_meets_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, drop: bytes
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with rude(drip(head, drop)) as seen:
        model = http(tmp_path, seen.url, timeout=0.5, retries=0)
        fails(model, r"did not answer within 0\.5 s; see that the service is there")
        assert len(seen.requests) == 1
        assert not seen.over.is_set()


def test_a_dropped_connection_is_tried_again_and_then_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with rude(drop_midway) as seen:
        fails(http(tmp_path, seen.url, retries=2), r"the connection failed or was dropped .* \(3 tries\)")
        assert len(seen.requests) == 3


def test_nobody_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as seen:
        url = seen.url
    told = fails(http(tmp_path, f"{url}/plain?key=secret", retries=1), "the connection failed or was dropped")
    assert "secret" not in told


def test_tls_that_is_none_is_told(tmp_path: Path, service: Seen) -> None:
    fails(http(tmp_path, service.url.replace("http:", "https:") + "/plain", retries=0), "no safe connection|failed or")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"url": "example.org/score"}, "url must be an address https://host/path"),
        ({"url": "ftp://example.org"}, "url must be an address"),
        ({"url": "file:///etc/passwd"}, "url must be an address"),
        ({"url": "https://"}, "url must be an address"),
        ({"url": "https://ex\u0430mple.org/x"}, "name of the host must be ASCII; write it in punycode"),  # Cyrillic
        (
            {"url": "https://fa\u00df.de/"},
            "must be ASCII; write it in punycode",
        ),  # fass.de to one, xn--fa-hia.de to another
        ({"url": "https://a\u3002org/"}, "must be ASCII"),  # a full stop that is none
        ({"url": "https://ex\tample.org/"}, "without spaces and backslashes"),
        ({"url": "https://a.org\\.b.org/"}, "without spaces and backslashes"),
        ({"headers": {"Host": "b.org"}}, "headers: Host belongs to the connection, which sets it itself; remove it"),
        ({"headers": {"content-length": "3"}}, "headers: content-length belongs to the connection"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers: Transfer-Encoding belongs"),
        ({"headers": {"CONNECTION": "close"}}, "headers: CONNECTION belongs"),
        ({"headers": {"Proxy-Authorization": "$HOME"}}, "headers: Proxy-Authorization belongs"),
        ({"url": "https://me:pass@example.org"}, "url holds a user or password; put it into headers"),
        ({"method": "GET"}, "method must be one of POST, PUT"),
        ({"timeout": 0}, "timeout must lie between"),
        ({"retries": 100}, "retries must lie between 0 and 20"),
        ({"backoff": 31}, "backoff must lie between 0 and 30"),
        ({"concurrency": 65}, "concurrency must lie between 1 and 64"),
        ({"field": 'a"; x'}, "field must be a plain name"),
        ({"headers": {"X": "a\nb"}}, "headers: 'X' must be a plain name with a text in one line"),
        ({"headers": {"X:Y": "a"}}, "headers: 'X:Y' must be a plain name"),
        ({"headers": {"X": 3}}, "headers: 'X' must be a plain name with a text"),
        ({"subtype": "MP3"}, "subtype must be one of PCM_16, FLOAT"),
        ({"token": "x"}, "unknown key 'token'"),
    ],
)
def test_settings_of_services_are_checked(tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    path = card(tmp_path, "http", {"url": "https://example.org"} | settings)
    with pytest.raises(OtoscopeError, match=reason) as error:
        otoscope.load_model(path, allow_network=True)
    assert "pass@" not in str(error.value)


def test_names_of_hosts_are_shown_as_they_are_sent() -> None:
    from otoscope.adapters.http_model import host_of

    assert host_of("https://xn--exmple-4nf.org/x") == "xn--exmple-4nf.org"
    assert host_of("http://[::1]:8000/") == "::1:8000"
    assert HttpSettings("https://example.org").subtype == "PCM_16"


def test_an_address_in_capitals_is_encrypted_all_the_same(tmp_path: Path) -> None:
    from otoscope.adapters.http_line import Reply
    from otoscope.adapters.http_model import _followed

    assert "not encrypted" not in "".join(http(tmp_path, "HTTPS://example.org/score").notes)
    with pytest.raises(OtoscopeError, match=r"redirects to host example\.org, which is not followed"):
        _followed("HTTPS://example.org/score", Reply(307, moved="http://example.org/score"))
    assert _followed("https://example.org/a", Reply(307, moved="HTTPS://example.org/b")) == "https://example.org/b"


@pytest.mark.parametrize(
    ("kind", "key"), [("http", 'url = "https://host/path"'), ("python", 'function = "file.py:name"')]
)
@pytest.mark.parametrize("path", ["", "elsewhere"])
def test_a_missing_key_is_named_with_its_place(tmp_path: Path, kind: str, key: str, path: str) -> None:
    with pytest.raises(OtoscopeError, match=re.escape(f"write {key} under [model.settings]")):
        otoscope.load_model(card(tmp_path, kind, {}, path=path), trust=True, allow_network=True)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_the_method_is_the_one_that_was_named(tmp_path: Path, service: Seen, method: str) -> None:
    ask(http(tmp_path, f"{service.url}/{method.lower()}", method=method), waves(1))
    assert service.requests[0]["path"] == f"/{method.lower()}"


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(OtoscopeError, match=r"requests is not installed; run: pip install 'otoscope\[http\]'"):
        http(tmp_path, "https://example.org/score")


def test_a_service_is_explained(tmp_path: Path, service: Seen) -> None:
    model = http(tmp_path, f"{service.url}/plain", concurrency=4, subtype="FLOAT")
    seconds = 1.0
    sound = noise(seconds=seconds, level=0.001) + tone(3000.0, seconds=seconds, level=0.3, start=0.6, stop=0.9)
    explanation = otoscope.explain(
        model,
        otoscope.Audio(sound, RATE, "planted"),
        method="lime",
        target="bright",
        seed=0,
        settings=otoscope.Settings(calls=64, parts="grid", n_parts=12),
    )
    mass = np.maximum(0.0, np.asarray(explanation.map)).sum(axis=0)
    inside = (np.asarray(explanation.times) > 0.5) & (np.asarray(explanation.times) < 1.0)
    assert mass[inside].sum() > 0.6 * mass.sum()
    assert any("were sent to host" in note for note in explanation.notes)
    assert len(service.requests) >= 64
