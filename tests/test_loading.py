"""Loading: what the user allows, and what is said where a framework is missing."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from otoscope.adapters import registry
from otoscope.adapters.card import write_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.loading import Loading, require
from tests import hostile

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_code_needs_a_word() -> None:
    with pytest.raises(OtoscopeError, match=r"card\.toml: would run rm -rf; say --trust \(trust=True\) if you trust"):
        Loading().run_code("card.toml", "rm -rf")
    Loading(trust=True).run_code("card.toml", "rm -rf")


@pytest.mark.parametrize("kind", registry.EXTRAS)
def test_a_missing_framework_is_told_with_the_line_that_installs_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, extra = registry.EXTRAS[kind]
    files = hostile.harmless_files(tmp_path)
    lite = tmp_path / "net.tflite"
    lite.write_bytes(b"\x1c\0\0\0TFL3" + bytes(99))
    file = {"onnx": files["net.onnx"], "sklearn": files["sklearn.skops"], "tflite": lite}.get(kind)
    about = {"name": "x", "kind": kind, "labels": ["a", "b", "c"], "path": file.name if file else ""}
    settings = {"sklearn": {"features": "mfcc"}, "http": {"url": "http://127.0.0.1:9/"}}.get(kind, {})
    write_card(tmp_path / "card.toml", {"model": {**about, "settings": settings}, "input": {"rate": 8000}})
    spec = str(tmp_path / "card.toml")
    if kind == "transformers":
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "config.json").write_text('{"model_type": "wav2vec2"}')
        spec = str(tmp_path / "folder")
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OtoscopeError, match=rf"{module} .*run: pip install 'otoscope\[{extra}\]'$"):
        registry.load_model(spec, allow_network=True)


def test_every_extra_is_offered_and_none_is_needed_by_the_core() -> None:
    offered = PROJECT["optional-dependencies"]
    assert {extra for _, extra in registry.EXTRAS.values()} == set(offered) - {"all", "dev"}
    core = " ".join(PROJECT["dependencies"])
    for extra in set(offered) - {"all", "dev"}:
        for requirement in offered[extra]:
            assert requirement.split(">")[0] not in core
    for framework in ("transformers", "onnxruntime", "skops", "litert", "requests", "starlette", "jsonschema"):
        assert framework not in core


def test_what_is_no_framework_is_imported_as_it_is() -> None:
    assert require("json", "x").loads("1") == 1
