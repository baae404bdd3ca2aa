"""The frame of every dashboard: its uid, its links to the others, the variables at its top, events as annotations."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationTarget,
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from tools.dashboards.dialects import Dialect, Query
from tools.dashboards.selection import ALL, PRESENT, in_groups

TAG = "evc"

STEPS = {"auto": 0, "30 s": 30, "1 min": 60, "5 min": 300, "15 min": 900, "1 h": 3600, "6 h": 21600, "1 d": 86400}


def board(uid: str, title: str, description: str, *, begin: str = "now-6h", refresh: str = "1m") -> dashboard.Dashboard:
    """Return an empty dashboard.

    :param uid: also the stem of its file
    :param begin: of the range that it shows at first
    """
    others = dashboard.DashboardLink("EVC").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    others = others.as_dropdown(False).include_vars(True).keep_time(True)
    made = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).editable()
    return (
        made.time(begin, "now").refresh(refresh).timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR).link(others)
    )


# -- variables ---------------------------------------------------------------------------------------------------------


def group_variable(dialect: Dialect) -> dashboard.QueryVariable:
    """Return the choice of groups."""
    sql = f"SELECT DISTINCT element.value FROM nodes n, {dialect.elements('n.groups')}\nWHERE {PRESENT} ORDER BY 1"
    return _many(dialect, "group", "Group", "Groups of nodes, as in the inventory", sql)


def nodes_variable(dialect: Dialect) -> dashboard.QueryVariable:
    """Return the choice of nodes, those of the chosen groups."""
    sql = f"SELECT n.name FROM nodes n\nWHERE {PRESENT} AND {in_groups(dialect)}\nORDER BY 1"
    return _many(dialect, "node", "Node", "Nodes of the chosen groups", sql)


def node_variable(dialect: Dialect) -> dashboard.QueryVariable:
    """Return the choice of one node."""
    sql = f"SELECT n.name FROM nodes n\nWHERE {PRESENT} AND {in_groups(dialect)}\nORDER BY 1"
    return _asked(dialect, "node", "Node", "The node that is shown", sql)


def models_variable(dialect: Dialect) -> dashboard.QueryVariable:
    """Return the choice of models: those that are there, and those that nodes have or had."""
    sql = (
        "SELECT name FROM models UNION SELECT model FROM assignments UNION SELECT model FROM rollouts\n"
        "UNION SELECT model FROM inference_runs ORDER BY 1"
    )
    return _many(dialect, "model", "Model", "Models, whether registered, rolled out or run", sql)


def interval_variable() -> dashboard.CustomVariable:
    """Return the choice of how long a step is at least; 300 s and more read the rollups."""
    values = ", ".join(f"{text} : {seconds}" for text, seconds in STEPS.items())
    options = [VariableOption(selected=not seconds, text=text, value=str(seconds)) for text, seconds in STEPS.items()]
    variable = dashboard.CustomVariable("interval").label("Interval").values(values).options(options)
    variable = variable.description("How long a step is at least; from 5 min on, rollups are read")
    return variable.current(options[0]).allow_custom_value(False)


def single_variable(dialect: Dialect, name: str, label: str, description: str, sql: str) -> dashboard.QueryVariable:
    """Return the choice of one value; the first is chosen at first."""
    return _asked(dialect, name, label, description, sql).sort(VariableSort.DISABLED)


def many_variable(dialect: Dialect, name: str, label: str, description: str, sql: str) -> dashboard.QueryVariable:
    """Return the choice of some values, or all."""
    return _many(dialect, name, label, description, sql)


def _asked(dialect: Dialect, name: str, label: str, description: str, sql: str) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(label).description(description).datasource(dialect.source)
    return variable.query(sql).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).allow_custom_value(False)


def _many(dialect: Dialect, name: str, label: str, description: str, sql: str) -> dashboard.QueryVariable:
    everything = VariableOption(selected=True, text="All", value="$__all")
    variable = _asked(dialect, name, label, description, sql)
    return variable.multi(True).include_all(True).all_value(ALL).current(everything)


# -- annotations -------------------------------------------------------------------------------------------------------


class _Target(AnnotationTarget, Builder[AnnotationTarget]):
    """A query of ours where the SDK knows only the one of Grafana's own annotations."""

    def __init__(self, query: Query) -> None:
        super().__init__()
        self._query = query

    def build(self) -> AnnotationTarget:
        return self

    def to_json(self) -> dict[str, object]:
        return self._query.to_json()


def annotation(dialect: Dialect, name: str, color: str, sql: str, *, shown: bool = True) -> dashboard.AnnotationQuery:
    """Return marks at points of time: ``time``, ``text``, ``tags``."""
    made = dashboard.AnnotationQuery().name(name).datasource(dialect.source).enable(shown).hide(False)
    return made.icon_color(color).target(_Target(dialect.query(sql, "table", "Annotation")))


def node_events(dialect: Dialect, severity: str, color: str, where: str) -> dashboard.AnnotationQuery:
    """Return the events of nodes of one severity.

    :param where: condition on ``n``, a row of nodes
    """
    sql = (
        f"SELECT e.ts AS time, n.name || ': ' || e.message AS text, e.kind AS tags\n"
        f"FROM node_events e JOIN nodes n ON n.id = e.node_id\n"
        f"WHERE e.severity = '{severity}' AND {dialect.within('e.ts')} AND {where}\nORDER BY 1 LIMIT 500"
    )
    return annotation(dialect, f"Events: {severity}", color, sql, shown=severity != "info")
