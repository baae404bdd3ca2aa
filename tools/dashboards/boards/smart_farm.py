"""Smart Farm: how much plants cover, how green and how healthy they look, what changed, what could not be seen."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import VariableOption

from tools.dashboards import series
from tools.dashboards.board import annotation, group_variable, interval_variable, models_variable, nodes_variable
from tools.dashboards.board import board as frame
from tools.dashboards.dialects import Dialect
from tools.dashboards.panels import (
    GREY,
    ORANGE,
    RED,
    YELLOW,
    Built,
    Steps,
    colored,
    column,
    counts,
    lines,
    node_link,
    node_map,
    rows,
    shares,
)
from tools.dashboards.results import KINDS, LINES, POINTS, by_range, by_step, within
from tools.dashboards.selection import chosen, chosen_nodes

INDICES = {
    "exg": "excess green", "exgr": "excess green minus red", "gli": "green leaf", "ngrdi": "green-red difference",
    "vari": "atmospherically resistant", "mgrvi": "modified green-red",
}  # fmt: skip
HEALTH: Steps = {0: RED, 0.8: "yellow", 0.9: "green"}
CHANGED = 0.1  # of the picture between two pictures: more than wind and light do


def board(dialect: Dialect) -> dashboard.Dashboard:
    """Return the dashboard."""
    text = "How much plants cover, how green and healthy they look, what changed. Compare a camera with itself only."
    made = frame("evc-smart-farm", "EVC Smart Farm", text, begin="now-7d", refresh="5m")
    for variable in (models_variable(dialect), group_variable(dialect), nodes_variable(dialect)):
        made = made.with_variable(variable)
    made = made.with_variable(_index_variable()).with_variable(interval_variable())
    made = made.annotation(annotation(dialect, "Discoloured or changed", ORANGE, _marks(dialect)))
    for panel in (_map, _newest, _cover, _health, _index, _discoloured, _change, _unseen, _events):
        made = made.with_panel(panel(dialect))
    return made


def _index_variable() -> dashboard.CustomVariable:
    options = [
        VariableOption(selected=name == "exg", text=f"{name} {text}", value=name) for name, text in INDICES.items()
    ]
    values = ", ".join(f"{name} {text} : {name}" for name, text in INDICES.items())
    variable = dashboard.CustomVariable("index").label("Index").values(values).options(options)
    return variable.description("Vegetation index that is charted").current(options[0]).allow_custom_value(False)


def _lines(dialect: Dialect, *kinds: str) -> str:
    """Return the result lines of some kinds, of what is chosen, in the range."""
    return _lines_of(dialect, ", ".join(f"'{kind}'" for kind in kinds))


def _lines_of(dialect: Dialect, kinds: str, since: str | None = None) -> str:
    return _told(dialect, LINES, "i.seq, i.kind, i.label, i.value, i.payload", kinds, since)


def _told(dialect: Dialect, table: str, columns: str, kinds: str, since: str | None = None) -> str:
    return (
        f"SELECT i.ts, i.node_id, m.name AS node, {columns}\n"
        f"FROM {table} i JOIN nodes m ON m.id = i.node_id\nWHERE {_wanted(dialect, kinds, since)}"
    )


def _wanted(dialect: Dialect, kinds: str, since: str | None = None) -> str:
    return (
        f"{within(dialect, 'i.ts', since)} AND i.kind IN ({kinds}) AND {chosen('model', 'i.model')}\n"
        f"AND i.node_id IN (SELECT n.id FROM nodes n WHERE {chosen_nodes(dialect)})"
    )


def _by_step(dialect: Dialect, of_lines: str, of_hours: str, kinds: str) -> str:
    """Return columns of lines of some kinds, or of hours."""
    return by_step(dialect, KINDS).all(
        lambda since: _told(dialect, LINES, of_lines, kinds, since),
        lambda table: _told(dialect, table, of_hours, kinds),
    )


def _totals(dialect: Dialect, kinds: str) -> str:
    """Return what the values of some kinds come to and how many there are."""
    of_lines = "i.value AS total, CASE WHEN i.value IS NOT NULL THEN 1 ELSE 0 END AS counted"
    return _by_step(dialect, of_lines, "i.value_sum AS total, i.value_count AS counted", kinds)


_MEAN = "1.0 * sum(total) / nullif(sum(counted), 0)"


def _share(dialect: Dialect, key: str) -> str:
    return dialect.number(f"payload ->> '{key}'")


def _newest_lines(dialect: Dialect, kinds: str) -> str:
    """Return lines of which the newest of each node and kind is one: all, or the last ones that the hours name."""

    def last_ones(table: str) -> str:
        named = (
            f"SELECT i.run_id, i.kind, max(i.last_seq) AS last_seq FROM {table} i\n"
            f"WHERE {_wanted(dialect, kinds)}\nGROUP BY i.run_id, i.kind"
        )
        return (
            "SELECT i.ts, i.node_id, m.name AS node, i.seq, i.kind, i.label, i.value, i.payload\n"
            f"FROM (\n{named}\n) AS h JOIN {LINES} i ON i.run_id = h.run_id AND i.seq = h.last_seq\n"
            f"JOIN nodes m ON m.id = i.node_id\nWHERE {dialect.within('i.ts')}"
        )

    return by_range(dialect, KINDS).all(lambda since: _lines_of(dialect, kinds, since), last_ones)


def _latest(dialect: Dialect) -> str:
    told = _newest_lines(dialect, "'canopy_cover', 'health', 'change', 'exg'")
    newest_first = "row_number() OVER (PARTITION BY node_id, kind ORDER BY ts DESC, seq DESC)"
    ranked = f"SELECT l.*, {newest_first} AS place\nFROM (\n{told}\n) AS l"
    health = "FILTER (WHERE kind = 'health')"
    yellow, brown = (_share(dialect, f"{color}_ratio") for color in ("yellow", "brown"))
    return (
        f"SELECT node_id, node, max(value) FILTER (WHERE kind = 'canopy_cover') AS cover, max(label) {health} AS label,\n"
        f"  max(value) {health} AS health, max({yellow}) {health} AS yellow,\n"
        f"  max({brown}) {health} AS brown, max(value) FILTER (WHERE kind = 'exg') AS exg,\n"
        "  max(value) FILTER (WHERE kind = 'change') AS change, max(ts) AS ts\n"
        f"FROM (\n{ranked}\n) AS ranked WHERE place = 1 GROUP BY node_id, node"
    )


def _map(dialect: Dialect) -> Built:
    sql = (
        "SELECT l.node AS \"Node\", coalesce(l.label, 'unknown') AS \"State\", l.cover AS \"Cover\", l.health AS \"Health\",\n"
        "  n.latitude AS latitude, n.longitude AS longitude\n"
        f"FROM (\n{_latest(dialect)}\n) AS l JOIN nodes n ON n.id = l.node_id\n"
        "WHERE n.latitude IS NOT NULL AND n.longitude IS NOT NULL ORDER BY 1"
    )  # fmt: skip
    text = "Nodes that look at plants, by what the newest picture shows: green, or yellow and brown beyond a fifth"
    panel = column(node_map(dialect, "Fields", text, sql, "State"), "Node", link=node_link())
    return column(column(panel, "Cover", "percentunit"), "Health", "percentunit")


def _newest(dialect: Dialect) -> Built:
    sql = (
        'SELECT l.node AS "Node", l.label AS "State", l.cover AS "Cover", l.change AS "Change", l.health AS "Health",\n'
        '  l.yellow AS "Yellow", l.brown AS "Brown", l.exg AS "ExG", l.ts * 1000 AS "Picture of"\n'
        f"FROM (\n{_latest(dialect)}\n) AS l ORDER BY 1"
    )
    text = "What each node's newest pictures show; shares of the picture, of the canopy for health, yellow and brown"
    panel = rows(dialect, "Newest pictures", text, sql).span(12).height(12)
    panel = column(column(panel, "Node", link=node_link()), "State", colored_states=True)
    for name in ("Cover", "Change", "Yellow", "Brown"):
        panel = column(panel, name, "percentunit", decimals=1)
    panel = column(panel, "Health", "percentunit", steps=HEALTH, decimals=1)
    return column(column(panel, "ExG", "none", decimals=3), "Picture of", "dateTimeFromNow")


def _cover(dialect: Dialect) -> Built:
    sql = series.long(dialect, _totals(dialect, "'canopy_cover'"), "node", _MEAN)
    text = "Share of the picture that is plant, by colour alone. At night there is no picture, and so no cover: a gap"
    return shares(lines(dialect, "Canopy cover", text, sql, "percentunit", label="node")).max_data_points(POINTS)


def _health(dialect: Dialect) -> Built:
    sql = series.long(dialect, _totals(dialect, "'health'"), "node", _MEAN)
    text = "Share of the canopy that is neither yellow nor brown. Light, flowers and autumn move it as well as want and pests"
    panel = lines(dialect, "Health", text, sql, "percentunit", label="node", steps={0.8: ORANGE})
    return shares(panel).max_data_points(POINTS)


def _index(dialect: Dialect) -> Built:
    sql = series.long(dialect, _totals(dialect, "${index:sqlstring}"), "node", _MEAN)
    text = "The vegetation index that is chosen above, mean over the canopy. Of a camera's own colours: compare over time only"
    return lines(dialect, "Vegetation index", text, sql, "none", label="node").height(9).max_data_points(POINTS)


def _discoloured(dialect: Dialect) -> Built:
    yellow, brown = (_share(dialect, f"{color}_ratio") for color in ("yellow", "brown"))
    of_lines = f"{yellow} AS yellow, {brown} AS brown, i.value AS total, 1 AS counted, i.value AS least"
    of_hours = (
        "CAST(NULL AS double precision) AS yellow, CAST(NULL AS double precision) AS brown,\n"
        "  i.value_sum AS total, i.value_count AS counted, i.value_min AS least"
    )
    source = _by_step(dialect, of_lines, of_hours, "'health'")
    values = {
        "Yellow": "avg(yellow)", "Brown": "avg(brown)", "Together": f"1 - {_MEAN}",
        "Together, worst picture": "1 - min(least)",
    }  # fmt: skip
    text = (
        "Share of the canopy, mean of the chosen nodes; beyond a fifth together a picture counts as discoloured. "
        "In steps of an hour or more only together"
    )
    panel = lines(
        dialect, "Yellow and brown", text, series.wide(dialect, source, values), "percentunit", steps={0.2: ORANGE}
    )
    colors = {"Yellow": YELLOW, "Brown": "#8a5a2b", "Together": GREY, "Together, worst picture": ORANGE}
    return colored(shares(panel).height(9), colors).max_data_points(POINTS)


def _change(dialect: Dialect) -> Built:
    sql = series.long(dialect, _totals(dialect, "'change'"), "node", "1.0 * sum(total)")
    text = "Cover gained or lost in each step: a harvest, a fallen leaf before the lens, growth"
    return lines(dialect, "Change of cover", text, sql, "percentunit", label="node").max_data_points(POINTS)


def _unseen(dialect: Dialect) -> Built:
    source = f"SELECT l.ts, coalesce(l.label, 'other') AS reason FROM (\n{_lines(dialect, 'error')}\n) AS l"
    sql = series.long(dialect, source, "reason", "1.0 * count(*)")
    text = "Pictures that could not tell anything, by reason: too dark, too bright, grey (infra-red)"
    return counts(lines(dialect, "Pictures that tell nothing", text, sql, "none", label="reason")).max_data_points(
        POINTS
    )


def _found(dialect: Dialect) -> str:
    """Return what is worth a mark: discoloured canopies and large changes."""
    told = _lines(dialect, "health", "change")
    return (
        f"SELECT * FROM (\n{told}\n) AS l\n"
        f"WHERE (kind = 'health' AND label = 'discoloured') OR (kind = 'change' AND abs(value) >= {CHANGED})"
    )


_WHAT = (
    "CASE WHEN kind = 'change' THEN 'cover ' || CASE WHEN value < 0 THEN 'fell by ' ELSE 'rose by ' END ELSE 'discoloured: ' END\n"
    "  || CAST(CAST(round(100 * CASE WHEN kind = 'change' THEN abs(value) ELSE 1 - value END) AS bigint) AS text) || ' %'"
)


def _marks(dialect: Dialect) -> str:
    return f"SELECT ts AS time, node || ': ' || {_WHAT} AS text, kind AS tags\nFROM (\n{_found(dialect)}\n) AS found ORDER BY 1 LIMIT 500"


def _events(dialect: Dialect) -> Built:
    sql = (
        f'SELECT ts * 1000 AS "When", node AS "Node", kind AS "Kind", {_WHAT} AS "What"\n'
        f"FROM (\n{_found(dialect)}\n) AS found ORDER BY found.ts DESC, 2, 3 LIMIT 200"
    )
    text = "Canopies that looked discoloured, and covers that changed by a tenth of the picture or more"
    panel = rows(dialect, "Events", text, sql).span(24)
    return column(column(panel, "When", "dateTimeAsIso"), "Node", link=node_link())
