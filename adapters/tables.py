"""Tables of settings as frozen dataclasses: one declaration checks a TOML table, fills in defaults, and is published.

The fields of a dataclass are the keys of its table. `build` makes an instance from a table and refuses unknown keys,
missing keys and wrong types, naming the key by its place; `schema` writes the same rules as JSON Schema (2020-12).
Understood are bool, int, float, str, `Literal`, ``X | None``, ``tuple[X, ...]``, unions of these, ``dict`` for free
tables, and dataclasses.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from otoscope.adapters.errors import OtoscopeError, unknown

T = TypeVar("T")
# What keys are called elsewhere.
SYNONYMS = {
    "n_mels": ("n_bands",),
    "num_mel_bins": ("n_bands",),
    "sr": ("rate",),
    "sample_rate": ("rate",),
    "sampling_rate": ("rate",),
    "hop": ("hop_length",),
    "hop_size": ("hop_length",),
    "win": ("win_length",),
    "window_size": ("win_length",),
    "top_db": ("top",),
    "classes": ("labels",),
    "weights": ("path",),
    "file": ("path",),
}
FIELD = re.compile(r"^(\w[\w, ]*) : [^\n]*\n((?: +[^\n]+\n?)*)", flags=re.MULTILINE)  # of a numpydoc section
PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string"}


def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def build(cls: type[T], table: Mapping[str, Any], where: str, **given: Any) -> T:
    """Make a dataclass from a table.

    Parameters
    ----------
    cls : type
        A dataclass.
    table : mapping
    where : str
        What the table is called in errors, e.g. ``[input]``.
    **given
        Fields that are known already and are no keys of the table.

    Raises
    ------
    OtoscopeError
        Naming the key, what it is and what it must be.
    """
    fields = {field.name: field for field in dataclasses.fields(cls) if field.name not in given}  # type: ignore[arg-type]
    if strange := [key for key in table if key not in fields]:
        other = next((name for name in SYNONYMS.get(strange[0], ()) if name in fields), None)
        hint = f"unknown key {strange[0]!r}: did you mean {other!r}?" if other else unknown("key", strange[0], fields)
        raise OtoscopeError(f"{where}: {hint}")
    values: dict[str, Any] = dict(given)
    for name, field in fields.items():
        if name in table:
            values[name] = _value(_hints(cls)[name], table[name], f"{where} {name}", given)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise OtoscopeError(f"{where} lacks {name!r}; add it")
    try:
        return cls(**values)
    except OtoscopeError as error:
        raise OtoscopeError(f"{where}: {error}") from None


def _value(kind: Any, value: Any, where: str, given: Mapping[str, Any]) -> Any:
    """Check one value and bring it to its type."""
    for one in _alternatives(kind):
        if dataclasses.is_dataclass(one) and isinstance(value, Mapping):
            known = {name: given[name] for name in given if name in {field.name for field in dataclasses.fields(one)}}
            return build(one, value, f"{where.replace('] ', '.', 1)}]", **known)  # type: ignore[arg-type]
        if _fits(one, value):
            if get_origin(one) is tuple:
                return tuple(float(item) if get_args(one)[0] is float else item for item in value)
            return float(value) if one is float else value
    raise OtoscopeError(f"{where} must be {_told(kind)}, got {_shown(value)}")


def _shown(value: Any) -> str:
    """Show a value in brief; Python refuses to write numbers of thousands of digits."""
    try:
        return f"{value!r:.60}"
    except ValueError:
        return "a number of thousands of digits"


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _fits(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind) and type(value) in {type(choice) for choice in get_args(kind)}
    if get_origin(kind) is tuple:
        length = None if get_args(kind)[-1] is ... else len(get_args(kind))
        right = isinstance(value, list | tuple) and length in (None, len(value))
        return right and all(_fits(get_args(kind)[0], item) for item in value)
    if get_origin(kind) is dict or kind is dict:
        return isinstance(value, Mapping)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and abs(value) < 1e300
    if isinstance(value, int) and abs(value) >= 2**62:
        return False
    return isinstance(kind, type) and isinstance(value, kind)


def _told(kind: Any) -> str:
    """Say a type in words."""
    words = []
    for one in _alternatives(kind):
        if get_origin(one) is Literal:
            words.append("one of " + ", ".join(map(str, get_args(one))))
        elif get_origin(one) is tuple:
            words.append(f"a list, each {_told(get_args(one)[0])}")
        elif get_origin(one) is dict or dataclasses.is_dataclass(one):
            words.append("a table")
        elif one is not type(None):
            words.append({bool: "true or false", int: "a whole number", float: "a number", str: "text"}[one])
    return " or ".join(words)


def schema(cls: type) -> dict[str, Any]:
    """Write the rules of a dataclass as JSON Schema, with what its docstring tells of the keys, and their defaults."""
    fields, meanings = dataclasses.fields(cls), described(cls)
    required = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": {
            field.name: _schema(_hints(cls)[field.name]) | _told_of(field, meanings.get(field.name, ""))
            for field in fields
        },
    }


def _told_of(field: dataclasses.Field[Any], meaning: str) -> dict[str, Any]:
    """Say what a key means and what it is where it is left out."""
    plain = isinstance(field.default, bool | int | float | str) and field.default != ""
    return ({"description": meaning} if meaning else {}) | ({"default": field.default} if plain else {})


def described(cls: type) -> dict[str, str]:
    """Read what the fields of a dataclass mean from the section Attributes of its docstring and of its bases'."""
    meanings: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__doc__ or "").partition("Attributes\n----------\n")[2]
        for names, meaning in FIELD.findall(text + "\n"):
            meanings |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return meanings


def _schema(kind: Any) -> dict[str, Any]:
    several = [one for one in _alternatives(kind) if one is not type(None)]
    if len(several) > 1:
        return {"anyOf": [_schema(one) for one in several]}
    one = several[0]
    if get_origin(one) is Literal:
        return {"enum": list(get_args(one))}
    if get_origin(one) is tuple:
        length = {} if get_args(one)[-1] is ... else {"minItems": len(get_args(one)), "maxItems": len(get_args(one))}
        return {"type": "array", "items": _schema(get_args(one)[0]), **length}
    if dataclasses.is_dataclass(one):
        return schema(one)  # type: ignore[arg-type]
    return {"type": PLAIN.get(one, "object")}
