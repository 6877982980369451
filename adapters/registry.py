"""Models by name: short names from entry points, cards and folders from disk.

Names come from the entry points ``otoscope.models``, loaders of cards from ``otoscope.kinds`` (see
`otoscope.adapters.plugins`); ours are registered in the same way. Listing reads metadata only; nothing is imported.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from otoscope.adapters.card import Card, read_card
from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.loading import Loading
from otoscope.adapters.model import BATCH_SIZE, Model
from otoscope.adapters.plugins import points

MAX_NAME = 200
# What each of our own kinds needs besides the core: module, and the extra that installs it.
EXTRAS = {
    "transformers": ("transformers", "transformers"),
    "onnx": ("onnxruntime", "onnx"),
    "tflite": ("ai_edge_litert", "tflite"),
    "sklearn": ("skops", "sklearn"),
    "http": ("requests", "http"),
}


def model_names() -> dict[str, EntryPoint]:
    """List the registered short names, without importing what they name."""
    return points("otoscope.models")


def kinds() -> dict[str, EntryPoint]:
    """List the kinds of cards that can be loaded, without importing their loaders."""
    return points("otoscope.kinds")


def missing_extra(kind: str) -> str | None:
    """Give the line that installs what a kind needs, or None where it is there."""
    module, extra = EXTRAS.get(kind, (None, None))
    return None if module is None or find_spec(module) else f"pip install 'otoscope[{extra}]'"


def describe_models() -> list[dict[str, Any]]:
    """List what is known of each registered model from its card or its package's metadata; nothing is imported."""
    points = model_names()
    first: dict[str, str] = {}
    for name, point in sorted(points.items(), key=lambda item: -len(item[0])):
        first.setdefault(point.value, name)  # the longest name carries the version, the others are aliases
    return [_describe(name, point, first[point.value]) for name, point in points.items()]


def _describe(name: str, point: EntryPoint, versioned: str) -> dict[str, Any]:
    metadata = point.dist.metadata.json if point.dist else {}
    row: dict[str, Any] = {
        "name": name,
        "alias_of": None if versioned == name else versioned,
        "package": point.dist.name if point.dist else "",
        "framework": "",
        "labels": [],
        "rate": None,
        "source": metadata.get("home_page") or "",
        "licence": metadata.get("license_expression") or metadata.get("license") or "",
        "summary": metadata.get("summary") or point.value,
    }
    path = _card_beside(point, versioned)
    if path.is_file():
        card = read_card(path)
        row |= {
            "framework": card.model.framework or card.model.kind,
            "labels": list(card.labels),
            "rate": card.tables["input"]["rate"],
            "source": card.model.source,
            "licence": card.tables.get("licence", {}).get("weights", ""),
            "summary": card.model.summary or card.model.name,
        }
    return row


def _card_beside(point: EntryPoint, name: str) -> Path:
    """Where the card of a registered model lies if its package keeps it beside the loader; found without an import."""
    root, *rest = point.module.split(".")
    spec = find_spec(root)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places or ["."])), *rest[:-1], f"{name}.toml")


def load_model(
    spec: str,
    *,
    device: str = "cpu",
    batch_size: int = BATCH_SIZE,
    trust: bool = False,
    allow_network: bool = False,
) -> Model:
    """Load a model by short name, from a model card, or from a folder.

    Parameters
    ----------
    spec : str
        A short name such as ``harmonics`` (see ``otoscope models``), the path of a card ``….toml``, or a folder that
        holds a card or a transformers model.
    device : str
        Where a torch model runs, e.g. ``cpu`` or ``cuda``.
    batch_size : int
        Most windows in memory at once.
    trust : bool
        Whether code that comes with the model may run: pickles, factories, commands.
    allow_network : bool
        Whether the sound may be sent to an address that a card names.

    Raises
    ------
    OtoscopeError
        If the name or the file is unknown, the card is wrong, or loading would run code that nobody allowed.
    """
    check_device(device)
    names = model_names()
    if spec in names:
        model: Model = names[spec].load()(device=device, batch_size=batch_size)
        return model
    loading = Loading(device, batch_size, trust, allow_network)
    path = Path(spec)
    if len(path.name) > MAX_NAME:
        raise OtoscopeError(f"a model cannot be called by {len(path.name)} letters; give a name, a card or a folder")
    if spec and path.is_dir():
        return _from_folder(path, loading)
    if path.suffix == ".toml":
        return from_card(read_card(path), loading)
    if spec and path.exists():
        raise _no_card(path)
    raise unknown("model", spec, names)


def name_of(spec: str) -> str:
    """Say what a model is called in reports: by its card where it has one, else by its folder or short name."""
    path = Path(spec)
    if path.suffix == ".toml":
        return read_card(path).model.name
    cards = list(path.glob("*.toml")) if path.is_dir() and spec not in model_names() else []
    return name_of(str(cards[0])) if len(cards) == 1 else path.name


def from_card(card: Card, loading: Loading) -> Model:
    """Load the model that a card describes."""
    known = kinds()
    if card.model.kind not in known:
        raise OtoscopeError(f"{card.path}: {unknown('kind', card.model.kind, known)}")
    try:
        model: Model = known[card.model.kind].load()(card, loading)
    except OtoscopeError as error:
        text = str(error)
        raise (error if str(card.path.parent) in text else OtoscopeError(f"{card.path}: {text}")) from None
    return model


def _from_folder(folder: Path, loading: Loading) -> Model:
    """Load a folder that holds one card, or what transformers wrote."""
    cards = sorted(folder.glob("*.toml"))
    if len(cards) == 1:
        return from_card(read_card(cards[0]), loading)
    if len(cards) > 1:
        raise OtoscopeError(f"{folder}: holds {len(cards)} cards; name one of {', '.join(c.name for c in cards)}")
    if (folder / "config.json").is_file():
        from otoscope.adapters.transformers_model import from_folder

        return from_folder(folder, loading)
    raise OtoscopeError(f"{folder}: holds neither a model card (.toml) nor a transformers model (config.json)")


def _no_card(path: Path) -> OtoscopeError:
    """Say what a bare file is, what loading it would run, and that it needs a card."""
    from otoscope.adapters.draft import is_recording
    from otoscope.adapters.safety import open_checked, sniff

    found = sniff(path)
    if found.kind == "unknown" and is_recording(path):
        return OtoscopeError(f"{path}: is a recording, no model; give a short name, a model card or a folder")
    remedy = f"write a card beside it: otoscope card {path} > {path.stem}.toml"
    try:
        open_checked(path, {found.kind}, trust=False, remedy=remedy)
    except OtoscopeError as error:
        return error
    return OtoscopeError(f"{path}: {found.kind} files do not say what they hear and what their classes are; {remedy}")


def check_device(device: str) -> None:
    """Raise an error for a device that this machine does not have."""
    if device == "cpu":
        return
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise OtoscopeError(f"device {device!r} cannot be used here ({reason}); use --device cpu") from None
