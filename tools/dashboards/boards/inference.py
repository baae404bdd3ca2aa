"""Inference: how much, how fast, how well, per model, node and digest; beside what the nodes' temperature did meanwhile."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from evc.store.tables import latency_columns
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
from tools.dashboards.panels import (
    ANY,
    RED,
    TEMPERATURE,
    Built,
    Steps,
    column,
    counts,
    lines,
    node_link,
    number,
    rows,
    shares,
    widths,
)
from tools.dashboards.results import LINES, POINTS, RUNS, Counted, Told, by_range, by_step, percentiles, within
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


def _told(dialect: Dialect, table: str, columns: str, since: str | None = None, which: str = "") -> str:
    """Return rows of what is chosen, in the range. :param table: of lines, or of counts"""
    return (
        f"SELECT i.ts, i.model, i.digest, i.node_id, i.model || ' on ' || m.name AS who, m.name AS node,\n  {columns}\n"
        f"FROM {table} i JOIN nodes m ON m.id = i.node_id\n"
        f"WHERE {within(dialect, 'i.ts', since)} AND {_wanted(dialect, 'i')}" + (f" AND {which}" if which else "")
    )


def _frames(dialect: Dialect, since: str | None) -> str:
    """Return the condition that a line stands for a frame: its kind says so, or none of its run does and it has a latency."""
    # DISTINCT: every line of a month is more than PostgreSQL keeps in a hash, and without one it compares each with each
    telling = f"SELECT DISTINCT f.run_id FROM {LINES} f WHERE f.kind = 'frame' AND {within(dialect, 'f.ts', since)}"
    return f"(i.kind = 'frame' OR (i.latency_ms IS NOT NULL AND i.run_id NOT IN ({telling})))"


def _both(dialect: Dialect) -> tuple[Told, Counted]:
    """Return how many lines and errors there were, of lines and of counts."""
    of_lines = f"1 AS lines, CASE WHEN i.kind IN {ERRORS} THEN 1 ELSE 0 END AS errors"
    return (
        lambda since: _told(dialect, LINES, of_lines, since),
        lambda table: _told(dialect, table, "i.lines, i.errors"),
    )


def _numbers(dialect: Dialect) -> Built:
    seconds = f"nullif({dialect.to_s} - {dialect.from_s}, 0)"
    summed = (
        "SELECT node_id, model, sum(lines) AS lines, sum(errors) AS errors\n"
        f"FROM (\n{by_range(dialect, RUNS).all(*_both(dialect))}\n) AS told GROUP BY node_id, model"
    )
    sql = (
        "SELECT count(DISTINCT node_id) AS \"Nodes\", count(DISTINCT model) AS \"Models\",\n"
        '  CAST(coalesce(sum(lines), 0) AS bigint) AS "Result lines",\n'
        f'  1.0 * coalesce(sum(lines), 0) / {seconds} AS "Lines a second",\n'
        f'  CAST(coalesce(sum(errors), 0) AS bigint) AS "Errors"\nFROM (\n{summed}\n) AS r'
    )  # fmt: skip
    text = "What came in over the range; from six hours on from the first whole five minutes, from two days on the first whole hour"
    panel = number(dialect, "At a glance", text, sql, "short").span(24)
    return column(column(panel, "Errors", steps=ANY), "Lines a second", "suffix: /s")


def _throughput(dialect: Dialect) -> Built:
    source = by_step(dialect, RUNS).all(
        lambda since: _told(dialect, LINES, "1 AS frames", since, _frames(dialect, since)),
        lambda table: _told(dialect, table, "i.frames", which="i.frames > 0"),
    )
    sql = series.long(dialect, source, "who", f"1.0 * sum(frames) / {series.step_s(dialect)}")
    text = "Frames a second. Of a model that prints no line of kind frame, lines with a latency are counted"
    return lines(dialect, "Throughput", text, sql, "suffix: fps", label="who").min(0).max_data_points(POINTS)


def _latencies(dialect: Dialect) -> tuple[Told, Counted]:
    """Return the latencies of frames, of lines and in classes."""
    counted = ", ".join(f"i.{name}" for name in latency_columns())
    return (
        lambda since: _told(dialect, LINES, "i.latency_ms", since, f"i.latency_ms IS NOT NULL AND {_frames(dialect, since)}"),
        lambda table: _told(dialect, table, counted, which="i.frames > 0"),
    )  # fmt: skip


_OF_COUNTS = {"median_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


def _latency(dialect: Dialect) -> Built:
    told, of = _latencies(dialect)
    sources = by_step(dialect, RUNS)
    step = f"SELECT {series.bucket(dialect)} AS ts"
    classes = f"{step}, {', '.join(latency_columns())}\nFROM (\n{sources.counted(of)}\n) AS h"
    not_in_classes = f"{step}, latency_ms\nFROM (\n{sources.uncounted(told)}\n) AS u"
    tables = percentiles(classes, not_in_classes, ["ts"], _OF_COUNTS)
    source = (
        f"SELECT l.ts, l.latency_ms, {', '.join(f'CAST(NULL AS double precision) AS {name}' for name in _OF_COUNTS)}\n"
        f"FROM (\n{told(None)}\n) AS l WHERE {sources.are_lines()}\n"
        f"UNION ALL\nSELECT h.ts, NULL, {', '.join(f'h.{name}' for name in _OF_COUNTS)} FROM percentiles AS h"
    )
    ranked = dialect.ranked(source, [series.bucket(dialect)], "latency_ms")
    values = {
        name: f"coalesce({dialect.percentile(share, 'latency_ms')}, max({of_count}))"
        for (name, share), of_count in zip(SHARES.items(), _OF_COUNTS, strict=True)
    }
    text = (
        "Latency of a frame, of all that is chosen: half of the frames were quicker, 95 % were, 99 % were. "
        "In steps of five minutes or more from counts in classes: off by a quarter at most"
    )
    return (
        lines(dialect, "Latency", text, series.wide(dialect, ranked, values, *tables), "ms")
        .min(0)
        .max_data_points(POINTS)
    )


def _errors(dialect: Dialect) -> Built:
    sql = series.long(dialect, by_step(dialect, RUNS).all(*_both(dialect)), "who", "1.0 * sum(errors)")
    text = "Lines of kind error, and lines that could not be read, in each step"
    return counts(lines(dialect, "Errors", text, sql, "none", label="who")).max_data_points(POINTS)


def _readings(dialect: Dialect, **columns: str) -> str:
    """Return the samples of nodes that had a run in the range."""
    running = f"r.started_ts <= {dialect.to_s} AND coalesce(r.finished_ts, {dialect.to_s}) >= {dialect.from_s}"
    having = f"SELECT r.node_id FROM inference_runs r WHERE {running} AND {_wanted(dialect, 'r')}"
    source = series.readings(dialect, columns, f"node_id IN ({having})")
    return f"SELECT r.*, n.name AS node FROM (\n{source}\n) AS r JOIN nodes n ON n.id = r.node_id"


def _temperature(dialect: Dialect) -> Built:
    source = _readings(dialect, celsius="temperature_celsius_max")
    sql = series.long(dialect, source, "node", "max(celsius)")
    text = "The hottest zone of each node that had a run in the range"
    panel = lines(dialect, "Temperature", text, sql, "celsius", label="node", steps=TEMPERATURE)
    return panel.max_data_points(POINTS)


def _throttled(dialect: Dialect) -> Built:
    source = _readings(dialect, throttled="throttled_ratio")
    sql = series.long(dialect, source, "node", "avg(1.0 * throttled)")
    text = "Share of sweeps in which the node slowed itself down: latency rises with it"
    panel = shares(lines(dialect, "Throttling", text, sql, "percentunit", label="node")).span(24)
    return panel.max_data_points(POINTS)


def _by_node(dialect: Dialect) -> Built:
    groups = ["model", "node", "digest"]
    told, of = _latencies(dialect)
    sources = by_range(dialect, RUNS)
    ranked = dialect.ranked(f"{told(None)}\nAND {sources.are_lines()}", groups, "latency_ms")
    values = ", ".join(f"{dialect.percentile(share, 'latency_ms')} AS {name}" for name, share in _OF_COUNTS.items())
    of_lines = f"SELECT model, node, digest, {values} FROM (\n{ranked}\n) AS l GROUP BY model, node, digest"
    tables = percentiles(sources.counted(of), sources.uncounted(told), groups, _OF_COUNTS)
    counted = (
        "SELECT model, node, digest, CAST(sum(lines) AS bigint) AS lines, sum(errors) AS errors\n"
        f"FROM (\n{sources.all(*_both(dialect))}\n) AS told GROUP BY model, node, digest"
    )
    columns = ", ".join(f'p.{of_count} AS "{name}"' for name, of_count in zip(SHARES, _OF_COUNTS, strict=True))
    sql = (
        f"WITH {', '.join(tables)}\n"
        'SELECT r.model AS "Model", r.node AS "Node", substr(r.digest, 8, 12) AS "Digest", r.lines AS "Lines",\n'
        f'  1.0 * r.errors / r.lines AS "Errors",\n  {columns}\n'
        f"FROM (\n{counted}\n) AS r LEFT JOIN (\n{of_lines}\nUNION ALL\nSELECT * FROM percentiles\n) AS p\n"
        "ON p.model = r.model AND p.node = r.node AND p.digest = r.digest\nORDER BY 1, 2, 3"
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
    panel = column(column(panel, "Began", "dateTimeAsIso"), "Node", link=node_link())
    panel = column(column(panel, "State", colored_states=True, width=100), "Hottest", "celsius", steps=TEMPERATURE)
    panel = column(column(panel, "Frames a second", "suffix: fps", decimals=1), "95 %", "ms", decimals=1)
    panel = column(column(panel, "Errors", "none", steps=ANY), "Throttled", "none", steps=ANY)
    narrow = {"Digest": 125, "Mode": 95, "Frames": 75, "Hottest": 80, "Frames a second": 135, "95 %": 85}
    return widths(panel, narrow | {"Errors": 65, "Throttled": 90})
