"""Values of a column as the database will take them.

One value that a database refuses would cost a whole batch, the samples of a thousand nodes, so whatever a node may have
sent is made to fit here: numbers that are not finite or too large become NULL, texts lose what PostgreSQL can't store
and end at the column's length. By column, not by value: a list comprehension over a column is what makes it cheap.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, SmallInteger, String

Values = list[Any]
Clean = Callable[[Values], Values]

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_HUGE = sys.float_info.max
_UNBOUNDED = 1_000_000  # characters; a TEXT column takes more, but nothing sensible is longer


def cleaner(column: Column[Any]) -> Clean:
    """Return the function that makes values fit ``column``; it never raises."""
    clean = _cleaner(column)

    def each(values: Values) -> Values:
        try:
            return clean(values)
        except (TypeError, ValueError, OverflowError):
            return [_one(clean, value) for value in values]

    return each


def _cleaner(column: Column[Any]) -> Clean:
    kind = column.type
    if isinstance(kind, Float):
        return _floats
    if isinstance(kind, Boolean):
        return _booleans
    if isinstance(kind, JSON):
        return _documents
    if isinstance(kind, Integer):
        bits = 63 if isinstance(kind, BigInteger) else 15 if isinstance(kind, SmallInteger) else 31
        return _integers(-(2**bits), 2**bits - 1)
    if isinstance(kind, String):
        return _texts(kind.length or _UNBOUNDED)
    raise TypeError(f"{column}: no rule for {kind!r}")


def _one(clean: Clean, value: Any) -> Any:
    try:
        return clean([value])[0]
    except (TypeError, ValueError, OverflowError):
        return None


def _floats(values: Values) -> Values:
    return [float(value) if value is not None and -_HUGE <= value <= _HUGE else None for value in values]


def _integers(low: int, high: int) -> Clean:
    def integers(values: Values) -> Values:
        return [int(value) if value is not None and low <= value <= high else None for value in values]

    return integers


def _booleans(values: Values) -> Values:
    return [None if value is None else bool(value) for value in values]


def _texts(length: int) -> Clean:
    def shorter(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(value)
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()[:length]

    def texts(values: Values) -> Values:
        return [
            value
            if value is None or (len(value) <= length and value.isascii() and "\0" not in value)
            else shorter(value)
            for value in values
        ]

    return texts


def _documents(values: Values) -> Values:
    try:
        return [None if value is None else "{}" if value == {} else _encode(value) for value in values]
    except ValueError:
        return [None if value is None else _encode(_finite(value)) for value in values]


def _finite(value: Any) -> Any:
    """Return ``value``, JSON-able, with None for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def missing(values: Iterable[Any]) -> set[int]:
    """Return where ``values`` has None."""
    return {index for index, value in enumerate(values) if value is None}
