"""Inference: how much, how fast, how well, per model, node and digest; beside what the nodes' temperature did meanwhile."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from tools.dashboards import series
from tools.dashboards.board import (
    annotation,
    group_variable,
    interval_variable,
    many_variable,
    models_variable,
    nodes_variable,
)
from tools.dashboards.board import board as frame
from tools.dashboards.dialects import Dialect
from tools.dashboards.panels import ANY, RED, TEMPERATURE, Built, Steps, column, lines, node_link, number, rows, shares
from tools.dashboards.selection import chosen, chosen_nodes

ERRORS = "('error', 'malformed')"
ERROR_SHARE: Steps = {0.01: "yellow", 0.05: RED}
SHARES = {"Median": 0.5, "95 %": 0.95, "99 %": 0.99}


def board(dialect: Dialect) -> dashboard.Dashboard:
    """Return the dashboard."""
    text = "How much, how fast and how well models work, per model, node and digest, beside temperature and throttling."
    made = frame("evc-inference", "EVC Inference", text)
    digests = f"SELECT DISTINCT r.digest FROM inference_runs r WHERE {chosen('model', 'r.model')} ORDER BY 1"
    for variable in (
        models_variable(dialect),
        group_variable(dialect),
        nodes_variable(dialect),
        many_variable(dialect, "digest", "Digest", "Images by their digest", digests),
    ):
        made = made.with_variable(variable)
    made = made.with_variable(interval_variable())
    failed = (
        "SELECT r.finished_ts AS time, r.model || ' on ' || n.name || ': ' || coalesce(r.message, r.status) AS text, r.status AS tags\n"
        f"FROM inference_runs r JOIN nodes n ON n.id = r.node_id\nWHERE {dialect.within('r.finished_ts')}\n"
        f"AND r.status IN ('failed', 'timeout') AND {_wanted(dialect, 'r')} ORDER BY 1 LIMIT 200"
    )
    made = made.annotation(annotation(dialect, "Failed runs", RED, failed))
    panels = (_numbers, _throughput, _latency, _errors, _temperature, _throttled, _by_node, _runs)
    for panel in panels:
        made = made.with_panel(panel(dialect))
    return made


def _wanted(dialect: Dialect, row: str) -> str:
    """Return the condition that a row of runs or results is of what is chosen."""
    return (
        f"{chosen('model', f'{row}.model')} AND {chosen('digest', f'{row}.digest')}\n"
        f"AND {row}.node_id IN (SELECT n.id FROM nodes n WHERE {chosen_nodes(dialect)})"
    )


def _results(dialect: Dialect, kind: str) -> str:
    return (
        "SELECT i.ts, i.kind, i.latency_ms, i.model, i.digest, i.node_id, i.run_id, i.model || ' on ' || m.name AS who, m.name AS node\n"
        "FROM inference_results i JOIN nodes m ON m.id = i.node_id\n"
        f"WHERE {dialect.within('i.ts')} AND {_wanted(dialect, 'i')} AND {kind}"
    )


def frames(dialect: Dialect) -> str:
    """Return the condition that a line stands for a frame: its kind says so, or none of its run does and it has a latency."""
    telling = f"SELECT f.run_id FROM inference_results f WHERE f.kind = 'frame' AND {dialect.within('f.ts')}"
    return f"(i.kind = 'frame' OR (i.latency_ms IS NOT NULL AND i.run_id NOT IN ({telling})))"


def _numbers(dialect: Dialect) -> Built:
    seconds = f"nullif({dialect.to_s} - {dialect.from_s}, 0)"
    sql = (
        "SELECT count(DISTINCT node_id) AS \"Nodes\", count(DISTINCT model) AS \"Models\", count(*) AS \"Result lines\",\n"
        f'  1.0 * count(*) / {seconds} AS "Lines a second", count(*) FILTER (WHERE kind IN {ERRORS}) AS "Errors"\n'
        f"FROM (\n{_results(dialect, 'i.kind IS NOT NULL')}\n) AS r"
    )  # fmt: skip
    panel = number(dialect, "At a glance", "What came in over the range", sql, "short").span(24)
    return column(column(panel, "Errors", steps=ANY), "Lines a second", "cps", decimals=1)


def _throughput(dialect: Dialect) -> Built:
    rate = f"1.0 * count(*) / {series.step_s(dialect)}"
    sql = series.long(dialect, _results(dialect, frames(dialect)), "who", rate)
    text = "Frames a second. Of a model that prints no line of kind frame, lines with a latency are counted"
    return lines(dialect, "Throughput", text, sql, "cps", label="who").min(0)


def _latency(dialect: Dialect) -> Built:
    ranked = dialect.ranked(_latencies(dialect), [series.bucket(dialect)], "latency_ms")
    values = {name: dialect.percentile(share, "latency_ms") for name, share in SHARES.items()}
    text = "Latency of a frame, of all that is chosen: half of the frames were quicker, 95 % were, 99 % were"
    return lines(dialect, "Latency", text, series.wide(dialect, ranked, values), "ms").min(0)


def _latencies(dialect: Dialect) -> str:
    return _results(dialect, f"i.latency_ms IS NOT NULL AND {frames(dialect)}")


def _errors(dialect: Dialect) -> Built:
    count = f"1.0 * count(*) FILTER (WHERE kind IN {ERRORS})"
    sql = series.long(dialect, _results(dialect, "i.kind IS NOT NULL"), "who", count)
    text = "Lines of kind error, and lines that could not be read, in each step"
    return lines(dialect, "Errors", text, sql, "none", label="who").min(0)


def _readings(dialect: Dialect, **columns: str) -> str:
    """Return the samples of nodes that have results in the range."""
    having = f"SELECT i.node_id FROM inference_results i WHERE {dialect.within('i.ts')} AND {_wanted(dialect, 'i')}"
    source = series.readings(dialect, columns, f"node_id IN ({having})")
    return f"SELECT r.*, n.name AS node FROM (\n{source}\n) AS r JOIN nodes n ON n.id = r.node_id"


def _temperature(dialect: Dialect) -> Built:
    source = _readings(dialect, celsius="temperature_celsius_max")
    sql = series.long(dialect, source, "node", "max(celsius)")
    text = "The hottest zone of each node that has results in the range"
    return lines(dialect, "Temperature", text, sql, "celsius", label="node", steps=TEMPERATURE)


def _throttled(dialect: Dialect) -> Built:
    source = _readings(dialect, throttled="throttled_ratio")
    sql = series.long(dialect, source, "node", "avg(1.0 * throttled)")
    text = "Share of sweeps in which the node slowed itself down: latency rises with it"
    return shares(lines(dialect, "Throttling", text, sql, "percentunit", label="node")).span(24).height(6)


def _by_node(dialect: Dialect) -> Built:
    groups = ["model", "node", "digest"]
    ranked = dialect.ranked(_latencies(dialect), groups, "latency_ms")
    values = ", ".join(f'{dialect.percentile(share, "latency_ms")} AS "{name}"' for name, share in SHARES.items())
    percentiles = f"SELECT model, node, digest, {values} FROM (\n{ranked}\n) AS l GROUP BY model, node, digest"
    sql = (
        f'SELECT r.model AS "Model", r.node AS "Node", substr(r.digest, 8, 12) AS "Digest", count(*) AS "Lines",\n'
        f'  1.0 * count(*) FILTER (WHERE r.kind IN {ERRORS}) / count(*) AS "Errors",\n'
        + ", ".join(f'max(p."{name}") AS "{name}"' for name in SHARES)
        + f"\nFROM (\n{_results(dialect, 'i.kind IS NOT NULL')}\n) AS r LEFT JOIN (\n{percentiles}\n) AS p\n"
        "ON p.model = r.model AND p.node = r.node AND p.digest = r.digest\n"
        "GROUP BY r.model, r.node, r.digest ORDER BY 1, 2, 3"
    )
    text = "Over the whole range: lines, the share of errors among them, latency. Compare nodes, and an image with the one before"
    panel = rows(dialect, "Per model, node and digest", text, sql)
    panel = column(column(panel, "Node", link=node_link()), "Errors", "percentunit", steps=ERROR_SHARE, decimals=2)
    for name in SHARES:
        panel = column(panel, name, "ms", decimals=1)
    return panel


def _runs(dialect: Dialect) -> Built:
    sql = (
        'SELECT r.started_ts * 1000 AS "Began", n.name AS "Node", r.model AS "Model", substr(r.digest, 8, 12) AS "Digest",\n'
        '  r.mode AS "Mode", r.status AS "State", r.frames AS "Frames", r.errors AS "Errors",\n'
        '  r.frames_per_s AS "Frames a second", r.latency_p95_ms AS "95 %", r.temperature_max_celsius AS "Hottest",\n'
        '  r.throttled AS "Throttled", r.message AS "Message"\n'
        f"FROM inference_runs r JOIN nodes n ON n.id = r.node_id\nWHERE {_wanted(dialect, 'r')}\n"
        f"AND r.started_ts <= {dialect.to_s} AND coalesce(r.finished_ts, {dialect.to_s}) >= {dialect.from_s}\n"
        "ORDER BY r.started_ts DESC, 2 LIMIT 200"
    )
    text = "Runs that went on in the range: each container, by what it did and what the node did meanwhile"
    panel = rows(dialect, "Runs", text, sql)
    panel = column(column(panel, "Began", "dateTimeAsIso", width=170), "Node", link=node_link())
    panel = column(column(panel, "State", colored_states=True, width=100), "Hottest", "celsius", steps=TEMPERATURE)
    panel = column(column(panel, "Frames a second", "cps", decimals=1), "95 %", "ms", decimals=1)
    return column(column(panel, "Errors", "none", steps=ANY), "Throttled", "none", steps=ANY)
