"""How one query is said to PostgreSQL and to SQLite, and how Grafana's data sources for them want to be asked.

Only what differs stands here: both know CTEs, window functions, ``FILTER``, ``->>`` and integer division of integers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from textwrap import indent
from typing import Literal

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef

DATA_SOURCE_UID = "evc-metrics"

Shape = Literal["table", "series"]


class Query(Dataquery, Builder[Dataquery]):
    """A query as Grafana's JSON holds it. The SDK knows neither of the two data sources."""

    def __init__(self, fields: dict[str, object]) -> None:
        self._fields = fields

    def build(self) -> Query:
        """Return itself: there is nothing more to set."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return it for the SDK's encoder."""
        return self._fields


class Dialect(ABC):
    """One database and its data source."""

    name: str
    plugin: str
    from_s: str  # begin of the range, unix seconds
    to_s: str

    @property
    def source(self) -> DataSourceRef:
        """The metrics database, as panels name it."""
        return DataSourceRef(type_val=self.plugin, uid=DATA_SOURCE_UID)

    @abstractmethod
    def within(self, column: str) -> str:
        """Return the condition that a time lies in the range."""

    @abstractmethod
    def within_since(self, column: str, since: str) -> str:
        """Return the condition that a time lies in the part of the range that begins with ``since``."""

    @abstractmethod
    def greatest(self, *values: str) -> str:
        """Return the greatest of several values, none of which is NULL."""

    @abstractmethod
    def elements(self, array: str) -> str:
        """Return what stands in FROM to have each text of a JSON array as ``element.value``."""

    @abstractmethod
    def pairs(self, mapping: str) -> str:
        """Return what stands in FROM to have each pair of a JSON object as ``pair.key``, ``pair.value``."""

    @abstractmethod
    def number(self, text: str) -> str:
        """Return a JSON value that ``->>`` gave as a number."""

    @abstractmethod
    def ranked(self, source: str, partition: Sequence[str], value: str) -> str:
        """Return ``source``, a SELECT, with what :meth:`percentile` needs where it is grouped by ``partition``."""

    @abstractmethod
    def percentile(self, share: float, value: str) -> str:
        """Return the aggregate that is the percentile, between two values where it falls between them."""

    @abstractmethod
    def database_bytes(self) -> str:
        """Return the SELECT of the database's size."""

    @abstractmethod
    def query(self, sql: str, shape: Shape, ref_id: str = "A") -> Query:
        """Return the query as a panel, an annotation or an alert holds it."""


class PostgreSQL(Dialect):
    """PostgreSQL, by Grafana's own data source."""

    name = "postgresql"
    plugin = "grafana-postgresql-datasource"
    from_s = "$__unixEpochFrom()"
    to_s = "$__unixEpochTo()"

    def within(self, column: str) -> str:
        return f"$__unixEpochFilter({column})"

    def within_since(self, column: str, since: str) -> str:
        return f"{self.within(column)} AND {column} >= {since}"  # by the constants it knows which partitions

    def greatest(self, *values: str) -> str:
        return f"greatest({', '.join(values)})"

    def elements(self, array: str) -> str:
        return f"json_array_elements_text({array}) AS element(value)"

    def pairs(self, mapping: str) -> str:
        return f"json_each_text({mapping}) AS pair(key, value)"

    def number(self, text: str) -> str:
        return f"CAST({text} AS double precision)"

    def ranked(self, source: str, partition: Sequence[str], value: str) -> str:
        del partition, value
        return source

    def percentile(self, share: float, value: str) -> str:
        return f"percentile_cont({share}) WITHIN GROUP (ORDER BY {value})"

    def database_bytes(self) -> str:
        return "SELECT pg_database_size(current_database())"

    def query(self, sql: str, shape: Shape, ref_id: str = "A") -> Query:
        return Query(
            {
                "refId": ref_id,
                "datasource": self.source,
                "editorMode": "code",
                "format": "table" if shape == "table" else "time_series",
                "rawQuery": True,
                "rawSql": sql,
            }
        )


class SQLite(Dialect):
    """SQLite, by the plugin frser-sqlite-datasource."""

    name = "sqlite"
    plugin = "frser-sqlite-datasource"
    from_s = "$__from / 1000"
    to_s = "$__to / 1000"

    def within(self, column: str) -> str:
        return f"{column} >= {self.from_s} AND {column} <= {self.to_s}"

    def within_since(self, column: str, since: str) -> str:
        # of two lower bounds it looks up one in the index and compares each row with the other
        return f"{column} >= {self.greatest(self.from_s, since)} AND {column} <= {self.to_s}"

    def greatest(self, *values: str) -> str:
        return f"max({', '.join(values)})"

    def elements(self, array: str) -> str:
        return f"json_each({array}) AS element"

    def pairs(self, mapping: str) -> str:
        return f"json_each({mapping}) AS pair"

    def number(self, text: str) -> str:
        return f"CAST({text} AS real)"

    def ranked(self, source: str, partition: Sequence[str], value: str) -> str:
        groups = ", ".join(partition)
        return (
            f"SELECT *, row_number() OVER (PARTITION BY {groups} ORDER BY {value}) AS place,\n"
            f"  count(*) OVER (PARTITION BY {groups}) AS places\n"
            f"FROM (\n{indent(source, '  ')}\n) AS unranked"
        )

    def percentile(self, share: float, value: str) -> str:
        place = f"{share} * (places - 1)"
        below, above = (f"max({value}) FILTER (WHERE place = CAST({place} AS int) + {step})" for step in (1, 2))
        return f"{below} + coalesce(({above} - {below}) * max({place} - CAST({place} AS int)), 0)"

    def database_bytes(self) -> str:
        return "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"

    def query(self, sql: str, shape: Shape, ref_id: str = "A") -> Query:
        return Query(
            {
                "refId": ref_id,
                "datasource": self.source,
                "queryText": sql,
                "queryType": "table" if shape == "table" else "time series",
                "rawQueryText": sql,
                "timeColumns": ["time"],
            }
        )


DIALECTS: tuple[Dialect, ...] = (PostgreSQL(), SQLite())
