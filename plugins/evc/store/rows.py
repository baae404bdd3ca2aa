"""Rows of one table on their way into the database: made to fit, complete, in the order of their key."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Table

from evc.store.cells import Clean, cleaner, missing
from evc.store.tables import metadata

log = logging.getLogger(__name__)

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Shape:
    """What writing needs to know of a table; columns by their position.

    :param required: those that can't be NULL
    :param newest_wins: a row replaces an older one (by ``ts``) of its key, else the first one stays
    """

    table: Table
    names: tuple[str, ...]
    cleaners: tuple[Clean, ...]
    key: tuple[int, ...]
    required: tuple[int, ...]
    node_id: int | None
    newest_wins: bool


@cache
def shape_of(name: str) -> Shape:
    """Return the shape of the table ``name``."""
    table = metadata.tables[name]
    columns = list(table.columns)
    names = tuple(column.name for column in columns)
    return Shape(
        table=table,
        names=names,
        cleaners=tuple(cleaner(column) for column in columns),
        key=tuple(index for index, column in enumerate(columns) if column.primary_key),
        required=tuple(index for index, column in enumerate(columns) if not column.nullable),
        node_id=names.index("node_id") if "node_id" in names else None,
        newest_wins="ts" in names and not table.c.ts.primary_key,
    )


@dataclass(slots=True)
class Rows:
    """Rows by column, clean."""

    shape: Shape
    columns: list[list[Any]]

    @classmethod
    def of(cls, name: str, rows: Sequence[Mapping[str, Any]]) -> Rows:
        """Return ``rows`` of the table ``name``; a column that a row does not have is NULL.

        :raises ValueError: a column that the table does not have
        """
        shape = shape_of(name)
        unknown: set[str] = set().union(*rows).difference(shape.names)
        if unknown:
            raise ValueError(f"table {name} has no columns {sorted(unknown)}")
        columns = [
            clean([row.get(column) for row in rows]) for column, clean in zip(shape.names, shape.cleaners, strict=True)
        ]
        return cls(shape, columns)

    @property
    def node_ids(self) -> set[int]:
        """The nodes that these rows are of."""
        return set() if self.shape.node_id is None else set(self.columns[self.shape.node_id]) - {None}

    def complete(self, known: Set[int]) -> list[tuple[Any, ...]]:
        """Return the rows that can be written, by key: nothing required is missing and the node is one of ``known``."""
        left_out = self._incomplete() | self._unknown(known)
        rows = [row for index, row in enumerate(zip(*self.columns, strict=True)) if index not in left_out]
        if self.shape.newest_wins:
            rows.sort(key=itemgetter(self.shape.names.index("ts")))
            rows = list({itemgetter(*self.shape.key)(row): row for row in rows}.values())
        rows.sort(key=itemgetter(*self.shape.key))
        return rows

    def _incomplete(self) -> set[int]:
        found = [(index, missing(self.columns[index])) for index in self.shape.required if None in self.columns[index]]
        for index, at in found:
            log.warning("%s: left out %d rows without %s", self.shape.table.name, len(at), self.shape.names[index])
        return set().union(*(at for _, at in found))

    def _unknown(self, known: Set[int]) -> set[int]:
        unknown = sorted(self.node_ids - known)
        if not unknown:
            return set()
        shown = ", ".join(map(str, unknown[:_SHOWN])) + (" ..." if len(unknown) > _SHOWN else "")
        log.warning("%s: left out the rows of nodes that are not registered, ids %s", self.shape.table.name, shown)
        ids = self.columns[self.shape.node_id or 0]
        return {index for index, node_id in enumerate(ids) if node_id not in known}
