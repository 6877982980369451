"""The layout: packages, one-way imports, links, and a door that opens quickly."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("adapters", "explainers", "mer_models")
HEAVY = ("torch", "librosa", "scipy", "sklearn", "skimage", "matplotlib", "captum", "lime", "numpy")

MAY_IMPORT = {
    "adapters": {"adapters"},
    "explainers": {"adapters", "explainers"},
    "mer_models": {"adapters", "mer_models"},
    "otoscope": {"adapters", "explainers", "mer_models", ""},
}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("*.py"))


def imported(path: Path) -> set[str]:
    """Modules that a file imports, `from a import b` as a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_listed_packages_are_the_folders() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "otoscope"}
    assert folders == set(PACKAGES)
    assert set(listed["packages"]) == {"otoscope", *(f"otoscope.{name}" for name in folders)}
    assert listed["package-dir"] == {f"otoscope.{name}": name for name in folders}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_flat(package: str) -> None:
    nested = [path for path in (ROOT / package).glob("*/*.py") if "__pycache__" not in path.parts]
    assert nested == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_door_links_to_the_packages(package: str) -> None:
    link = ROOT / "otoscope" / package
    assert link.is_symlink()
    assert link.readlink() == Path("..") / package
    assert link.resolve() == ROOT / package


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        for module in imported(path):
            first, *rest = module.split(".")
            assert first not in PACKAGES, f"{path}: {module} must be imported as otoscope.{module}"
            if first == "otoscope":
                inner = rest[0] if rest and rest[0] in PACKAGES else ""
                assert inner in MAY_IMPORT[package], f"{path}: {package} must not import {module}"


def test_the_test_of_imports_sees_a_wrong_one(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f():\n    from otoscope.mer_models import x\n    import adapters.audio\n")
    assert imported(tmp_path / "a.py") == {"otoscope.mer_models.x", "adapters.audio"}


def loaded(code: str) -> set[str]:
    """Heavy modules that a fresh interpreter holds after some code."""
    ask = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd="/")
    return set(done.stdout.split())


def test_importing_the_door_imports_nothing_heavy() -> None:
    assert loaded("import otoscope") == set()


def test_the_command_line_starts_without_anything_heavy() -> None:
    assert loaded("import otoscope.cli") == set()


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["explain", "--help"]])
def test_help_needs_nothing_heavy(command: list[str]) -> None:
    code = (
        "import contextlib, io\nfrom otoscope.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    main({command!r})"
    )
    assert loaded(code) == set()


def test_recordings_are_read_without_torch() -> None:
    assert "torch" not in loaded("from otoscope.adapters import audio, errors, pitch, card, model, wrap, windows")


def test_a_callable_is_wrapped_without_torch() -> None:
    code = (
        "import numpy as np\nfrom otoscope.adapters.wrap import wrap\n"
        "wrap(lambda x: np.abs(x).mean(1, keepdims=True), rate=8000).predict(np.ones((2, 99), np.float32))"
    )
    assert "torch" not in loaded(code)


@pytest.mark.parametrize("package", [*PACKAGES, "otoscope"])
def test_every_file_tells_what_it_is_in_about_250_lines(package: str) -> None:
    for path in sources(package):
        text = path.read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), f"{path}: no module docstring"
        assert len(text.splitlines()) <= 330, f"{path}: {len(text.splitlines())} lines"


def test_the_wheel_holds_weights_card_and_recording_and_nothing_beside_otoscope(tmp_path: Path) -> None:
    left_out = shutil.ignore_patterns(".*", "out", "build", "dist", "*.egg-info", "__pycache__")
    source = shutil.copytree(ROOT, tmp_path / "source", symlinks=True, ignore=left_out)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    for name in (
        "harmonics-1.safetensors",
        "harmonics-2.safetensors",
        "harmonics-2.toml",
        "midlevel.toml",
        "demo.ogg",
        "demo.md",
    ):
        assert f"otoscope/mer_models/{name}" in names
    assert "otoscope/explainers/report.html" in names
    assert "otoscope/py.typed" in names
    assert all(name.startswith("otoscope") for name in names)  # `adapters` belongs to another package
