"""Plug-ins: a package that offers a model, a kind of cards, a method and a part maker, found without an import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import otoscope
from otoscope.adapters import registry
from otoscope.adapters.errors import OtoscopeError
from otoscope.cli import main
from otoscope.explainers.makers import MAKERS, cut, maker_summaries, undivided
from otoscope.explainers.methods import METHODS, Settings, find_method, method_summaries
from tests.builders import RATE, music

PACKAGE = '''
"""A plug-in."""

import numpy as np
from otoscope import wrap
from otoscope.explainers.explanation import Outcome
from otoscope.explainers.makers import cut, maker
from otoscope.explainers.methods import Request, method
from otoscope.explainers.stems import separated


def loud(*, device, batch_size):
    return wrap(lambda x: np.abs(x).mean(1, keepdims=True), rate=8000, labels=["loud"], output="regression")


def from_card(card, loading):
    return loud(device=loading.device, batch_size=loading.batch_size)


@method("coin", "toss a coin for each part", uses=set())
def coin(request: Request) -> Outcome:
    parts = cut(request.whole, request.settings.parts or "grid", request.settings.n_parts)
    return Outcome(parts, np.random.default_rng(request.seed).choice([-1.0, 1.0], parts.k), 0, names=parts.names)


@maker("halves")
def halves(whole, n_parts):
    labels = np.zeros(whole.labels.shape, dtype=np.intp)
    labels[:, labels.shape[1] // 2 :] = 1
    return whole.with_(labels=labels, names=("before", "after"))


@maker("toy_separator")
def toy_separator(whole, n_parts):
    loud = np.clip(whole.audio.samples, -0.05, 0.05)
    return separated(whole, np.stack([loud, 0.5 * (whole.audio.samples - loud)]), ["quiet", "peaks"])
'''
POINTS = """
[otoscope.models]
loud = noisy.plugin:loud

[otoscope.kinds]
noisy = noisy.plugin:from_card

[otoscope.explainers]
coin = noisy.plugin:coin
silent = noisy.plugin:coin
broken = noisy.missing:x

[otoscope.parts]
halves = noisy.plugin:halves
toy_separator = noisy.plugin:toy_separator
"""
CARD = """
[model]
name = "loud"
kind = "noisy"
labels = ["loud"]
summary = "how loud it is"
source = "https://example.org/loud"

[input]
rate = 8000

[licence]
weights = "CC0"
"""


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a package for the time of a test."""
    (tmp_path / "noisy").mkdir()
    (tmp_path / "noisy" / "__init__.py").write_text("")
    (tmp_path / "noisy" / "plugin.py").write_text(PACKAGE)
    (tmp_path / "noisy" / "loud.toml").write_text(CARD)
    info = tmp_path / "noisy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noisy\nVersion: 1.0\nSummary: explains by coin\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "noisy"]:
        del sys.modules[name]
    METHODS.pop("coin", None)
    MAKERS.pop("halves", None)
    MAKERS.pop("toy_separator", None)


@pytest.mark.usefixtures("noisy")
def test_plug_ins_are_listed_without_being_imported() -> None:
    rows = {row["name"]: row for row in registry.describe_models()}
    facts = {"framework": "noisy", "labels": ["loud"], "rate": 8000, "licence": "CC0", "package": "noisy"}
    assert facts.items() <= rows["loud"].items()
    assert rows["loud"]["source"] == "https://example.org/loud"
    assert method_summaries()["coin"] == "explains by coin (noisy)"
    assert maker_summaries()["halves"] == "explains by coin (noisy)"
    assert "noisy" in registry.kinds()
    assert "noisy.plugin" not in sys.modules
    told = CliRunner().invoke(main, ["models"], catch_exceptions=False).output
    for word in ("how loud it is", "1 classes; 8000 Hz", "example.org/loud", "; CC0"):
        assert word in told
    assert "coin" in CliRunner().invoke(main, ["methods"], catch_exceptions=False).output
    assert "noisy.plugin" not in sys.modules


@pytest.mark.usefixtures("noisy")
def test_a_plug_in_is_used_by_its_names() -> None:
    audio = otoscope.Audio(music(seconds=1.0), RATE)
    explanation = otoscope.explain(otoscope.load_model("loud"), audio, method="coin", settings=Settings(parts="halves"))
    assert explanation.names == ("before", "after")
    assert set(np.abs(explanation.weights)) == {1.0}


@pytest.mark.usefixtures("noisy")
def test_a_separator_of_a_plug_in_makes_parts_of_its_sounds() -> None:
    audio = otoscope.Audio(music(seconds=1.0), RATE)
    chosen = Settings(parts="toy_separator", calls=16)
    explanation = otoscope.explain(otoscope.load_model("loud"), audio, method="lime", settings=chosen)
    assert explanation.names == ("quiet", "peaks", "remainder")
    np.testing.assert_array_equal(explanation.parts.sounds[0], np.clip(audio.samples, -0.05, 0.05))
    np.testing.assert_allclose(explanation.parts.sounds.sum(axis=0), audio.samples, atol=1e-5)
    assert maker_summaries()["toy_separator"] == "explains by coin (noisy)"


def test_a_card_of_a_plug_ins_kind_is_loaded(noisy: Path) -> None:
    assert otoscope.load_model(str(noisy / "noisy" / "loud.toml")).labels == ("loud",)


@pytest.mark.usefixtures("noisy")
def test_a_plug_in_that_keeps_no_promise_is_named() -> None:
    with pytest.raises(OtoscopeError, match=r"noisy\.plugin:coin registers no method 'silent'"):
        find_method("silent")
    with pytest.raises(OtoscopeError, match=r"method 'broken' \(noisy\.missing:x\) cannot be imported"):
        find_method("broken")
    with pytest.raises(OtoscopeError, match="unknown method 'coyn': did you mean 'coin'"):
        find_method("coyn")
    whole = undivided(otoscope.Audio(music(seconds=0.5), RATE), otoscope.Stft())
    with pytest.raises(OtoscopeError, match="unknown part maker 'halve': did you mean 'halves'"):
        cut(whole, "halve", 4)
