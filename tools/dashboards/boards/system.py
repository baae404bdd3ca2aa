"""EVC itself: whether it keeps its ticks, how old its data are, how much they take."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from tools.dashboards import series
from tools.dashboards.board import annotation, interval_variable
from tools.dashboards.board import board as frame
from tools.dashboards.dialects import Dialect
from tools.dashboards.panels import (
    ANY,
    GREEN,
    RED,
    YELLOW,
    Built,
    Steps,
    colored,
    column,
    counts,
    lines,
    number,
    rows,
    stacked,
)

AGE_S: Steps = {120: YELLOW, 300: RED}

# newest and oldest row by table: each has an index that begins with the column, so neither reads the table
TABLES = {
    "node_samples": "ts", "node_samples_5m": "ts", "node_samples_1h": "ts", "inference_results": "ts",
    "identity_visits": "ts",
}  # fmt: skip


def board(dialect: Dialect) -> dashboard.Dashboard:
    """Return the dashboard."""
    text = "Whether EVC keeps its ticks, how old its data are and how much room they take."
    made = frame("evc-system", "EVC Itself", text).with_variable(interval_variable())
    missed = (
        "SELECT ts AS time, 'missed ' || missed_ticks || ' ticks' AS text, 'missed' AS tags\n"
        f"FROM sweeps WHERE missed_ticks > 0 AND {dialect.within('ts')} ORDER BY 1 LIMIT 500"
    )
    made = made.annotation(annotation(dialect, "Missed ticks", RED, missed, shown=False))
    for panel in (*_numbers(dialect), *_charts(dialect), _tables(dialect), _silence(dialect)):
        made = made.with_panel(panel)
    return made


def _numbers(dialect: Dialect) -> list[Built]:
    within = dialect.within("ts")
    age = f'SELECT {dialect.to_s} - max(ts) AS "Age" FROM sweeps WHERE ts <= {dialect.to_s}'
    missed = f'SELECT sum(missed_ticks) AS "Missed" FROM sweeps WHERE {within}'
    written = f'SELECT sum(rows_written) AS "Rows" FROM sweeps WHERE {within}'
    longest = f'SELECT max(duration_s) AS "Longest" FROM sweeps WHERE {within}'
    size = f'SELECT ({dialect.database_bytes()}) AS "Size"'
    waiting = (
        "SELECT count(*) FILTER (WHERE status = 'running' OR status = 'starting') AS \"Inference\",\n"
        "  (SELECT count(*) FROM rollouts WHERE finished_ts IS NULL) AS \"Roll-outs\",\n"
        "  (SELECT count(*) FROM builds WHERE finished_ts IS NULL) AS \"Builds\"\nFROM inference_runs WHERE finished_ts IS NULL"
    )  # fmt: skip
    return [
        number(dialect, "Age of data", "Since the newest sweep that is in the database", age, "s", steps=AGE_S),
        number(dialect, "Missed ticks", "Sweeps of the range that could not be kept", missed, "none", steps=ANY),
        number(
            dialect,
            "Longest sweep",
            "Of all shards; it has to be shorter than the interval",
            longest,
            "s",
            steps={20: YELLOW, 30: RED},
        ),
        number(dialect, "Rows written", "By sweeps, in the range", written, "short"),
        number(dialect, "Database", "What the database takes on disk, indexes included", size, "bytes"),
        number(dialect, "Going on", "Runs that are not finished", waiting, "none"),
    ]


def _ticks(dialect: Dialect, **values: str) -> str:
    """Return the SELECT of values of each tick: shards sweep side by side, so it is of all of them together.

    Only what a chart shows, for SQLite computes the rest too.
    """
    columns = ", ".join(f"{value} AS {name}" for name, value in values.items())
    return f"SELECT ts, {columns} FROM sweeps WHERE {dialect.within('ts')} GROUP BY ts"


def _charts(dialect: Dialect) -> list[Built]:
    duration = series.wide(dialect, _ticks(dialect, s="max(duration_s)"), {"Mean": "avg(s)", "Longest": "max(s)"})
    asked = _ticks(dialect, up="sum(nodes_up)", down="sum(nodes_down)")
    nodes = series.wide(dialect, asked, {"Answered": "1.0 * max(up)", "Silent": "1.0 * max(down)"})
    written = series.wide(dialect, _ticks(dialect, written="sum(rows_written)"), {"Rows": "avg(written)"})
    missed = series.wide(dialect, _ticks(dialect, missed="sum(missed_ticks)"), {"Missed ticks": "1.0 * sum(missed)"})
    gap = "A gap: nobody swept, or what was swept waits in the spool and comes later, with its own time"
    return [
        lines(
            dialect,
            "Duration of sweeps",
            f"All nodes of a tick, of the slowest shard. {gap}",
            duration,
            "s",
            steps={30: RED},
        ).min(0),
        colored(
            counts(
                lines(dialect, "Missed ticks, by step", "Sweeps that could not be kept, in each step", missed, "none")
            ),
            {"Missed ticks": RED},
        ),
        colored(
            stacked(lines(dialect, "Nodes", "Nodes that were asked, by whether they answered", nodes, "none")).min(0),
            {"Answered": GREEN, "Silent": RED},
        ),
        lines(dialect, "Rows a sweep", "Rows that a tick writes, all shards together", written, "short").min(0),
    ]


def _tables(dialect: Dialect) -> Built:
    parts = [
        f"SELECT '{table}' AS \"Table\", (SELECT max({ts}) FROM {table}) * 1000 AS \"Newest\",\n"
        f"  (SELECT min({ts}) FROM {table}) * 1000 AS \"Oldest\", {dialect.to_s} - (SELECT max({ts}) FROM {table} WHERE {ts} <= {dialect.to_s}) AS \"Age\""
        for table, ts in TABLES.items()
    ]  # fmt: skip
    text = "How far each kind of data reaches back and how old the newest is"
    panel = rows(dialect, "Tables", text, "\nUNION ALL\n".join(parts) + "\nORDER BY 1").span(12)
    panel = column(column(panel, "Newest", "dateTimeAsIso"), "Oldest", "dateTimeAsIso")
    return column(panel, "Age", "s", decimals=0)


def _silence(dialect: Dialect) -> Built:
    sql = (
        'SELECT p.ts * 1000 AS "When", n.name AS "Node", p.probe AS "Probe",\n'
        "  CASE WHEN p.success THEN 'works again' ELSE 'failed' END AS \"Outcome\", p.message AS \"Message\"\n"
        f"FROM probe_runs p JOIN nodes n ON n.id = p.node_id WHERE {dialect.within('p.ts')}\nORDER BY p.ts DESC, 2, 3 LIMIT 200"
    )
    text = "Probes that began to fail, failed otherwise or work again; probe ssh is the connection itself"
    panel = rows(dialect, "Probes", text, sql).span(12)
    return column(panel, "When", "dateTimeAsIso")
