"""What the reader chose at the top of a dashboard, as conditions of SQL.

A value is always quoted by Grafana's format ``sqlstring``. "All" is the text ``'*'``, which no name can be.
"""

from __future__ import annotations

from tools.dashboards.dialects import Dialect

ALL = "'*'"
PRESENT = "n.removed_ts IS NULL"


def chosen(variable: str, column: str) -> str:
    """Return the condition that a column is among the values of a variable, or all of them are wanted."""
    return f"({ALL} IN (${{{variable}:sqlstring}}) OR {column} IN (${{{variable}:sqlstring}}))"


def in_groups(dialect: Dialect) -> str:
    """Return the condition that node ``n`` is in one of the chosen groups."""
    return (
        f"({ALL} IN (${{group:sqlstring}}) OR EXISTS (\n"
        f"  SELECT 1 FROM {dialect.elements('n.groups')} WHERE element.value IN (${{group:sqlstring}})))"
    )


def chosen_nodes(dialect: Dialect) -> str:
    """Return the condition that ``n`` is one of the chosen nodes, by group and by name."""
    return f"{PRESENT} AND {in_groups(dialect)} AND {chosen('node', 'n.name')}"


THE_NODE = f"(SELECT max(n.id) FROM nodes n WHERE {PRESENT} AND n.name IN (${{node:sqlstring}}))"
"""The id of the node of a dashboard that shows one; of several in the address, one."""
