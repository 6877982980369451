"""Tables as dataclasses: what is taken, what is refused and how, and that the published schema says the same."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.tables import build, schema


@dataclass(frozen=True)
class Inner:
    """A table in a table."""

    size: int
    step: float = 0.5


@dataclass(frozen=True)
class Outer:
    """All kinds of keys."""

    name: str
    kind: Literal["a", "b"] = "a"
    size: int | None = None
    ratio: float = 1.0
    switch: bool = False
    words: tuple[str, ...] = ()
    pair: tuple[int, int] = (1, 2)
    mean: float | tuple[float, ...] = 0.0
    labels: tuple[str, ...] | str = ()
    inner: Inner | None = None
    free: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse one thing that types cannot tell."""
        if self.ratio < 0:
            raise OtoscopeError("ratio must not be negative")


def test_a_table_becomes_a_dataclass() -> None:
    table = {
        "name": "x",
        "kind": "b",
        "size": 3,
        "ratio": 2,
        "words": ["p", "q"],
        "pair": [4, 5],
        "mean": [1, 2.5],
        "labels": "labels.txt",
        "inner": {"size": 7},
        "free": {"anything": [1]},
    }
    built = build(Outer, table, "[outer]")
    assert built == Outer(
        "x", "b", 3, 2.0, False, ("p", "q"), (4, 5), (1.0, 2.5), "labels.txt", Inner(7, 0.5), {"anything": [1]}
    )
    assert isinstance(built.ratio, float)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, r"^\[outer\] lacks 'name'; add it$"),
        ({"name": "x", "sise": 3}, r"^\[outer\]: unknown key 'sise': did you mean 'size'"),
        ({"name": 3}, r"^\[outer\] name must be text, got 3$"),
        ({"name": "x", "kind": "c"}, r"kind must be one of a, b, got 'c'"),
        ({"name": "x", "size": 2.5}, "size must be a whole number, got 2.5"),
        ({"name": "x", "size": True}, "size must be a whole number, got True"),
        ({"name": "x", "ratio": "1"}, "ratio must be a number, got '1'"),
        ({"name": "x", "ratio": float("inf")}, "ratio must be a number, got inf"),
        ({"name": "x", "ratio": float("nan")}, "ratio must be a number, got nan"),
        ({"name": "x", "ratio": -1}, r"^\[outer\]: ratio must not be negative$"),
        ({"name": "x", "switch": 1}, "switch must be true or false, got 1"),
        ({"name": "x", "words": "p"}, "words must be a list, each text, got 'p'"),
        ({"name": "x", "words": ["p", 1]}, "words must be a list, each text"),
        ({"name": "x", "pair": [1, 2, 3]}, "pair must be a list, each a whole number"),
        ({"name": "x", "mean": "0"}, "mean must be a number or a list, each a number, got '0'"),
        ({"name": "x", "inner": 3}, "inner must be a table, got 3"),
        ({"name": "x", "inner": {}}, r"^\[outer.inner\] lacks 'size'"),
        ({"name": "x", "inner": {"size": "7"}}, r"^\[outer.inner\] size must be a whole number, got '7'"),
        ({"name": "x", "inner": {"size": 7, "stop": 1}}, r"^\[outer.inner\]: unknown key 'stop': did you mean 'step'"),
        ({"name": "x", "free": []}, r"free must be a table, got \[\]"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        build(Outer, table, "[outer]")


def test_known_fields_are_no_keys() -> None:
    assert build(Inner, {"step": 1}, "[inner]", size=9) == Inner(9, 1.0)
    with pytest.raises(OtoscopeError, match="unknown key 'size'"):
        build(Inner, {"size": 1}, "[inner]", size=9)


VALUES = st.one_of(
    st.integers(-3, 3), st.floats(-2, 2), st.booleans(), st.sampled_from(["a", "b", "c"]), st.none(),
    st.lists(st.one_of(st.integers(0, 3), st.sampled_from(["p", "q"])), max_size=3),
    st.dictionaries(st.sampled_from(["size", "step", "other"]), st.integers(0, 3), max_size=2),
)  # fmt: skip
KEYS = st.sampled_from([f.name for f in dataclasses.fields(Outer)] + ["strange"])


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_the_published_schema_takes_and_refuses_the_same_tables(table: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema(Outer))
    fits = validator.is_valid(table)
    refusal = ""
    try:
        build(Outer, table, "[outer]")
    except OtoscopeError as error:
        refusal = str(error)
    # the schema cannot tell: what the class itself refuses, and 2.0 for a whole number
    whole = any(isinstance(value, float) for value in table.values())
    assert fits == (not refusal) or (fits and ("negative" in refusal or whole))
