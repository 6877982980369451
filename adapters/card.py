"""Model cards: one TOML file per model with what a loader needs and what a reader must know.

``[model]`` (`About`) says what it is and which file holds it; ``[model.settings]`` is for its kind; ``[input]``
(`otoscope.adapters.hearing.Hearing`) says how it hears; ``[data]`` and ``[measured]`` are free, ``[licence]`` holds
texts. `kind` names the loader, found among the entry points ``otoscope.kinds``. Unknown keys are errors;
`otoscope.adapters.card_schema` publishes the rules. A card never grants trust: one that holds ``trust`` is an error.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.labels import MAX_LABELS, read_labels
from otoscope.adapters.model import Output, Pool, Returns, check_window
from otoscope.adapters.safety import clean_text, inside, sniff
from otoscope.adapters.tables import build
from otoscope.adapters.toml_text import read_toml

if TYPE_CHECKING:
    from otoscope.adapters.hearing import Hearing

SECTIONS = ("model", "input", "data", "measured", "licence")
STATED = ("n_fft", "hop_length")

Tables = Mapping[str, Mapping[str, Any]]
Settings = TypeVar("Settings")
T = TypeVar("T")


@dataclass(frozen=True)
class About:
    """The section ``[model]``.

    Attributes
    ----------
    name : str
    kind : str
        What it is loaded by; see ``otoscope models``.
    labels : tuple of str or str
        Names of the classes, or a file with one a line, or a CSV file whose column ``display_name`` or ``label`` (else
        the last one) holds them.
    output : {"softmax", "sigmoid", "regression"}
    returns : {"logits", "scores"}, optional
        Whether the activation is still to be applied; logits for torch and transformers, else scores.
    answer : str, optional
        Which of several outputs counts.
    pool : {"mean", "max", "first", "last"}, optional
        How scores of several steps become one.
    path : str
        File or folder of the model, beside the card, or inside the installed package `package`.
    package : str
    sha256 : str
        Of the file; a file with another one is refused.
    summary, source : str
        One line on what it does; where it comes from.
    framework : str
        What it was made with, where the kind does not tell.
    n_parameters : int, optional
    settings : dict
        What its kind needs besides.
    """

    name: str
    kind: str
    labels: tuple[str, ...] | str
    output: Output = "softmax"
    returns: Returns | None = None
    answer: str | None = None
    pool: Pool | None = None
    path: str = ""
    package: str = ""
    sha256: str = ""
    summary: str = ""
    source: str = ""
    framework: str = ""
    n_parameters: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Waveform:
    """The section ``[input]`` of a model that takes waveforms as they are: estimators, other processes, services."""

    rate: int
    n_samples: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        check_window(self.rate, self.n_samples)


@dataclass(frozen=True)
class Card:
    """A model card that has been read and checked.

    Attributes
    ----------
    path : Path
    tables : mapping
        The sections as they were read.
    """

    path: Path
    tables: Tables

    @cached_property
    def model(self) -> About:
        """The section ``[model]``."""
        return self._told(lambda: build(About, self.tables.get("model", {}), "[model]"))

    @cached_property
    def hearing(self) -> Hearing:
        """The section ``[input]``."""
        from otoscope.adapters.hearing import Hearing

        table = self.tables.get("input", {})
        return self._told(lambda: _hearing(Hearing, table))

    def waveform(self) -> tuple[int, int | None]:
        """Read rate and window (hertz, samples or None) of a model that takes waveforms as they are; without torch."""
        heard = self._told(lambda: build(Waveform, self.tables.get("input", {}), "[input]"))
        return heard.rate, heard.n_samples

    def refuse(self, *keys: str) -> None:
        """Raise an error for keys of ``[model]`` that would reach nothing in a model of this kind."""
        for key in keys:
            if getattr(self.model, key):
                raise OtoscopeError(f"{self.path}: [model] {key} means nothing to kind {self.model.kind}; remove it")

    def settings(self, cls: type[Settings]) -> Settings:
        """Read the section ``[model.settings]`` as the dataclass that its kind declares."""
        return self._told(lambda: build(cls, self.model.settings, "[model.settings]"))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, checked."""
        given = self.model.labels
        names = list(given) if isinstance(given, tuple) else read_labels(self.file(given))
        names = self._told(lambda: [clean_text(name, "a label") for name in names])
        if not 1 <= len(names) <= MAX_LABELS:
            raise OtoscopeError(f"{self.path}: has {len(names)} labels; name 1 to {MAX_LABELS}")
        (twice, times), *_ = Counter(names).most_common(1)
        if times > 1:
            raise OtoscopeError(f"{self.path}: two labels are called {twice!r}; name each class once")
        return tuple(names)

    @cached_property
    def weights(self) -> Path:
        """The file or folder of the model, with the checksum the card names."""
        if not self.model.path:
            raise OtoscopeError(f"{self.path}: [model] lacks 'path', the file of the model; add it")
        file = self.file(self.model.path) if not self.model.package else self._in_package()
        if self.model.sha256 and file.is_file() and sniff(file).kind in ("empty", "unknown"):
            return file  # for the loader to refuse, however long it is
        if self.model.sha256 and (found := sha256_of(file)) != self.model.sha256:
            raise OtoscopeError(
                f"{file}: its sha256 is {found[:16]}…, the card names {self.model.sha256[:16]}…; take the file that "
                "belongs to the card, or correct the card"
            )
        return file

    def file(self, name: str) -> Path:
        """Find a file or folder that the card names, inside the card's own folder."""
        return beside(self.path, name)

    def check_texts(self) -> None:
        """Raise an error for markup and control characters in what is shown to readers."""
        for key in ("name", "summary", "source"):
            if text := getattr(self.model, key):
                clean_text(text, f"[model] {key}")

    def _in_package(self) -> Path:
        package = self.model.package
        spec = self._told(lambda: _package(package))
        file = self._told(lambda: inside(Path(next(iter(spec.submodule_search_locations))), self.model.path))
        if not _exists(file):
            raise OtoscopeError(f"{self.path}: {package} holds no {self.model.path!r}; install the version named there")
        return file

    def _told(self, read: Callable[[], T]) -> T:
        """Add the card's name to what is wrong in it."""
        try:
            return read()
        except OtoscopeError as error:
            told = str(error)
            raise OtoscopeError(told if told.startswith(f"{self.path}: ") else f"{self.path}: {told}") from None


def _hearing(cls: type[Hearing], table: Mapping[str, Any]) -> Hearing:
    """Build ``[input]``; the front end hears at the model's own rate."""
    from otoscope.adapters.frontend import FrontEnd

    if not isinstance(table.get("front_end"), Mapping) or not isinstance(table.get("rate"), int):
        return build(cls, table, "[input]")
    front_end = build(FrontEnd, table["front_end"], "[input.front_end]", rate=table["rate"])
    _explicit(table["front_end"])
    return build(
        cls, {key: value for key, value in table.items() if key != "front_end"}, "[input]", front_end=front_end
    )


def _explicit(front_end: Mapping[str, Any]) -> None:
    """Refuse a front end that leaves its transform to our defaults: a card describes somebody else's."""
    stft = front_end.get("stft")
    if missing := [key for key in STATED if not isinstance(stft, Mapping) or key not in stft]:
        raise OtoscopeError(f"[input.front_end.stft] lacks {missing[0]!r}; add it")


def _package(name: str) -> Any:
    """Find an installed package without importing it."""
    try:
        found = find_spec(name) if name.isidentifier() else None
    except ValueError:  # a module that runs and has none
        found = None
    if found is None or not found.submodule_search_locations:
        raise OtoscopeError(f"package {name!r:.80} is not installed; install it if you trust where it comes from")
    return found


def _exists(file: Path) -> bool:
    """Whether there is such a file; a name that the system cannot have is none."""
    try:
        return file.exists()
    except OSError:
        return False


def sha256_of(path: Path) -> str:
    """Hash a file, or the names and contents of a folder."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            if path.is_dir():
                digest.update(file.relative_to(path).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def read_card(path: str | Path) -> Card:
    """Read and check a model card.

    Raises
    ------
    OtoscopeError
        Naming the file, the fault and the remedy.
    """
    path = Path(path)
    tables = read_toml(path)
    strange = [key for key in tables if key not in SECTIONS]
    if strange:
        raise OtoscopeError(f"{path}: unknown section [{strange[0]}]; a model card has {', '.join(SECTIONS)}")
    for section, values in tables.items():
        if not isinstance(values, dict):
            raise OtoscopeError(f"{path}: {section} must be a section [{section}]")
        if (place := _trusting(values, section)) is not None:
            raise OtoscopeError(f"{path}: a card cannot grant trust; remove [{place}] trust")
    card = Card(path, tables)
    card._told(card.check_texts)
    return card


def _trusting(table: Mapping[str, Any], place: str) -> str | None:
    """Find the table that would grant trust, however deep."""
    if "trust" in table:
        return place
    inner = [_trusting(value, f"{place}.{key}") for key, value in table.items() if isinstance(value, Mapping)]
    return next((found for found in inner if found), None)


def write_card(path: str | Path, tables: Tables) -> None:
    """Write a model card."""
    import tomli_w

    Path(path).write_text(tomli_w.dumps(tables), encoding="utf-8")


def beside(card_path: str | Path, name: str) -> Path:
    """Find a file that a card names, inside the card's own folder.

    Raises
    ------
    OtoscopeError
        If the name climbs out of the folder or the file is missing.
    """
    try:
        file = inside(Path(card_path).parent, name)
    except OtoscopeError:
        raise OtoscopeError(
            f"{card_path}: {name!r} climbs out of the card's folder; put the file beside the card"
        ) from None
    if not _exists(file):
        raise OtoscopeError(f"{card_path}: names {name!r}, which is missing; put it beside the card")
    return file
