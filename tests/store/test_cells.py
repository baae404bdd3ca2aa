from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from sqlalchemy import JSON, BigInteger, Boolean, Column, Date, Float, Integer, SmallInteger, String, Text
from sqlalchemy.types import TypeEngine

from evc.store.cells import cleaner, missing

KIND: dict[str, TypeEngine[Any]] = {
    "float": Float(),
    "small": SmallInteger(),
    "int": Integer(),
    "big": BigInteger(),
    "text": Text(),
    "word": String(5),
    "truth": Boolean(),
    "json": JSON(),
}


@pytest.mark.parametrize(
    ("kind", "given", "stored"),
    [
        ("float", [1.5, None, 3, True], [1.5, None, 3, True]),
        ("float", [nan, inf, -inf, 10**400], [None, None, None, None]),
        ("float", [1.5, "warm", b"x", [], {}, "1.5"], [1.5, None, None, None, None, None]),
        ("small", [True, False, 32767, 32768, -32769, None], [1, 0, 32767, None, None, None]),
        ("int", [2**31 - 1, 2**31, 3.0, "4"], [2**31 - 1, None, 3, None]),
        ("big", [2**63 - 1, 2**63, 2**64 - 1, -(2**63), nan, 10**30], [2**63 - 1, None, None, -(2**63), None, None]),
        ("word", ["/", "sixsix", None, "온도계온도계"], ["/", "sixsi", None, "온도계온도"]),
        ("text", ["a\0b", "\udc80", 7, "x" * 1_000_001], ["a\ufffdb", "?", None, "x" * 1_000_000]),
        ("truth", [True, 0, 1, None], [True, False, True, None]),
        ("json", [{}, {"a": [1, None]}, None, []], ["{}", '{"a":[1,null]}', None, "[]"]),
        ("json", [{"a": [1, nan]}, (inf, {"b": -inf})], ['{"a":[1,null]}', '[null,{"b":null}]']),
        ("json", [{"a": object()}, {"a": 1}], [None, '{"a":1}']),
    ],
)
def test_values_are_made_to_fit(kind: str, given: list[Any], stored: list[Any]) -> None:
    assert cleaner(Column("c", KIND[kind]))(given) == stored


def test_an_unknown_type_is_a_fault_of_ours() -> None:
    with pytest.raises(TypeError, match="no rule"):
        cleaner(Column("c", Date()))


def test_missing() -> None:
    assert missing([1, None, 0, None]) == {1, 3}
