"""Models by name: short names from entry points, model cards from files.

A package offers a model by an entry point in the group ``otoscope.models`` that points to a function
``(*, device, batch_size) -> Model``, and a way to load cards of some kind by one in ``otoscope.kinds`` that points to
``(path, *, device, batch_size) -> Model``. Listing reads metadata only; nothing is imported.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from otoscope.adapters.card import read_card
from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import BATCH_SIZE, Model


def model_names() -> dict[str, EntryPoint]:
    """List the registered short names, without importing what they name."""
    return {point.name: point for point in sorted(entry_points(group="otoscope.models"), key=lambda p: p.name)}


def describe_models() -> list[dict[str, object]]:
    """List what is known of each registered model from its card or its package's metadata; nothing is imported."""
    points = model_names()
    first: dict[str, str] = {}
    for name, point in sorted(points.items(), key=lambda item: -len(item[0])):
        first.setdefault(point.value, name)  # the longest name carries the version, the others are aliases
    rows: list[dict[str, object]] = []
    for name, point in points.items():
        row: dict[str, object] = {"name": name, "package": point.dist.name if point.dist else "", "summary": ""}
        card = _card_beside(point)
        if first[point.value] != name:
            row["summary"] = f"= {first[point.value]}"
        elif card.is_file():
            facts = read_card(card)
            labels, rate = facts["model"]["labels"], facts["input"]["rate"]
            row |= {"labels": labels, "rate": rate, "licence": facts.get("licence", {}).get("weights", "")}
            row["summary"] = (
                f"{facts['model'].get('summary', facts['model']['kind'])} ({len(labels)} classes, {rate} Hz)"
            )
        elif point.dist:
            row["summary"] = str(point.dist.metadata["Summary"] or point.value)
        rows.append(row)
    return rows


def _card_beside(point: EntryPoint) -> Path:
    """Where the card of a registered model lies if its package keeps it beside the loader; found without an import."""
    root, *rest = point.module.split(".")
    spec = find_spec(root)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places or ["."])), *rest[:-1], f"{point.name}.toml")


def load_model(spec: str, *, device: str = "cpu", batch_size: int = BATCH_SIZE) -> Model:
    """Load a model by short name or from a model card.

    Parameters
    ----------
    spec : str
        A short name such as ``harmonics`` (see ``otoscope models``), or the path of a card ``….toml``.
    device : str
        Where a torch model runs, e.g. ``cpu`` or ``cuda``.
    batch_size : int
        Most windows in memory at once.

    Raises
    ------
    OtoscopeError
        If the name or the file is unknown, or the card is wrong.
    """
    check_device(device)
    names = model_names()
    if spec in names:
        model: Model = names[spec].load()(device=device, batch_size=batch_size)
        return model
    path = Path(spec)
    if path.suffix == ".toml" or path.is_file():
        if path.suffix != ".toml":
            raise OtoscopeError(f"{spec}: models are loaded from a card (.toml) or by name; write a card for this file")
        return _from_card(path, device, batch_size)
    raise unknown("model", spec, names)


def _from_card(path: Path, device: str, batch_size: int) -> Model:
    kind = read_card(path)["model"]["kind"]
    kinds = {point.name: point for point in entry_points(group="otoscope.kinds")}
    if kind not in kinds:
        raise OtoscopeError(f"{path}: {unknown('kind', kind, kinds)}")
    model: Model = kinds[kind].load()(path, device=device, batch_size=batch_size)
    return model


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
