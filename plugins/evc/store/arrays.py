"""Columns as PostgreSQL arrays in its binary format: one packing per column, no text to write and parse again.

Source: ``array_send`` of PostgreSQL, src/backend/utils/adt/arrayfuncs.c: number of dimensions, whether it holds NULLs,
the element's type, then length and lower bound of each dimension; an element is its length (-1 for NULL) and its bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar

from psycopg import Connection
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, SmallInteger

_HEADER = struct.Struct(">iiIii")
_NULL = struct.pack(">i", -1)


@dataclass(frozen=True, slots=True)
class Kind:
    """An element type of PostgreSQL.

    :param name: as SQL spells it
    :param oid, array_oid: from its catalogue ``pg_type``, the same in every version
    :param code: of the module ``struct``; empty for text
    """

    name: str
    oid: int
    array_oid: int
    code: str = ""


FLOAT8 = Kind("float8", 701, 1022, "d")
INT2 = Kind("int2", 21, 1005, "h")
INT4 = Kind("int4", 23, 1007, "i")
INT8 = Kind("int8", 20, 1016, "q")
BOOL = Kind("bool", 16, 1000, "?")
TEXT = Kind("text", 25, 1009)


def kind_of(column: Column[Any]) -> Kind:
    """Return the element type for ``column``; text for what is neither number nor truth, JSON included."""
    by_type = ((Float, FLOAT8), (Boolean, BOOL), (BigInteger, INT8), (SmallInteger, INT2), (Integer, INT4))
    return next((kind for type_, kind in by_type if isinstance(column.type, type_)), TEXT)


class _Array:
    """A parameter that is packed already."""

    __slots__ = ("packed",)
    kind: ClassVar[Kind]

    def __init__(self, packed: bytes) -> None:
        self.packed = packed


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        return bytes(obj.packed)


def _classes(kind: Kind) -> tuple[type[_Array], type[_ArrayDumper]]:
    array = type(f"Array_{kind.name}", (_Array,), {"__slots__": (), "kind": kind})
    return array, type(f"Dumper_{kind.name}", (_ArrayDumper,), {"oid": kind.array_oid})


_BY_KIND = {kind: _classes(kind) for kind in (FLOAT8, INT2, INT4, INT8, BOOL, TEXT)}


def register(connection: Connection[Any]) -> None:
    """Teach a connection of psycopg to send what :func:`pack` returns."""
    for array, dumper in _BY_KIND.values():
        connection.adapters.register_dumper(array, dumper)


def pack(kind: Kind, values: list[Any]) -> _Array:
    """Return ``values``, which fit ``kind`` or are None, as a parameter."""
    header = _HEADER.pack(1, 1, kind.oid, len(values), 1) if values else struct.pack(">iiI", 0, 0, kind.oid)
    return _BY_KIND[kind][0](header + _elements(kind, values))


def _elements(kind: Kind, values: list[Any]) -> bytes:
    if not kind.code:
        texts = (None if value is None else value.encode() for value in values)
        return b"".join(_NULL if text is None else len(text).to_bytes(4, "big") + text for text in texts)
    size = struct.calcsize(">" + kind.code)
    if None in values:
        one = struct.Struct(">i" + kind.code).pack
        return b"".join(_NULL if value is None else one(size, value) for value in values)
    pairs = [size] * (2 * len(values))
    pairs[1::2] = values
    return struct.pack(">" + ("i" + kind.code) * len(values), *pairs)
