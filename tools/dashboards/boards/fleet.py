"""Fleet: all nodes at once: where they are, how they are, what is wrong, who talks most."""

from __future__ import annotations

from grafana_foundation_sdk.builders import bargauge, dashboard, heatmap, statushistory, timeseries
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from tools.dashboards import series
from tools.dashboards.board import board as frame
from tools.dashboards.board import group_variable, interval_variable, node_events, nodes_variable
from tools.dashboards.dialects import Dialect
from tools.dashboards.panels import (
    ANY,
    BUSY,
    GREEN,
    RED,
    TEMPERATURE,
    USED,
    YELLOW,
    Built,
    bars,
    column,
    density,
    history,
    lines,
    node_link,
    node_map,
    number,
    rows,
    shares,
    thresholds,
)
from tools.dashboards.selection import chosen_nodes

POINTS, STEP = 15, "5m"
"""Of charts over all nodes, which read rollups only: some hundred buckets of each node at most, whatever the range."""
BANDS_CELSIUS = (30, 40, 50, 60, 70, 80, 90)


def board(dialect: Dialect) -> dashboard.Dashboard:
    """Return the dashboard."""
    made = frame(
        "evc-fleet", "EVC Fleet", "All nodes: where they are, how they are, what is wrong now.", begin="now-3h"
    )
    for variable in (group_variable(dialect), nodes_variable(dialect)):
        made = made.with_variable(variable)
    made = made.with_variable(interval_variable())
    made = made.annotation(node_events(dialect, "error", RED, chosen_nodes(dialect)))
    for panel in (_counts(dialect), _extremes(dialect), _map(dialect), _wrong(dialect), _table(dialect)):
        made = made.with_panel(panel)
    for chart in (_silent(dialect), _temperatures(dialect), _talkers(dialect), _traffic(dialect)):
        made = made.with_panel(chart.max_data_points(POINTS).interval(STEP))
    return made.with_panel(_busiest(dialect).max_data_points(POINTS).interval(STEP))


def latest(dialect: Dialect) -> str:
    """Return the CTE of each chosen node's newest sample in the range."""
    return (
        "latest AS (\n"
        "  SELECT n.id, n.name, n.status, n.last_seen_ts, n.latitude, n.longitude, n.address, n.board_model, s.*\n"
        "  FROM nodes n LEFT JOIN node_samples s ON s.node_id = n.id AND s.ts = (\n"
        f"    SELECT max(ts) FROM node_samples WHERE node_id = n.id AND {dialect.within('ts')})\n"
        f"  WHERE {chosen_nodes(dialect)}\n)"
    )


def _chosen_ids(dialect: Dialect) -> str:
    return f"node_id IN (SELECT n.id FROM nodes n WHERE {chosen_nodes(dialect)})"


def _counts(dialect: Dialect) -> Built:
    sql = (
        "SELECT count(*) FILTER (WHERE n.status = 'up') AS \"Up\", count(*) FILTER (WHERE n.status = 'down') AS \"Down\",\n"
        "  count(*) FILTER (WHERE n.status NOT IN ('up', 'down')) AS \"Not seen yet or leaving\"\n"
        f"FROM nodes n WHERE {chosen_nodes(dialect)}"
    )
    panel = number(dialect, "Nodes", "Nodes by state, as of their last two sweeps", sql, "none", steps={}).span(12)
    none_up = DynamicConfigValue(id_val="thresholds", value=thresholds({1: GREEN}, RED).build())
    panel = column(panel.override_by_name("Up", [none_up]), "Down", steps=ANY)
    return column(panel, "Not seen yet or leaving", steps={1: YELLOW})


def _extremes(dialect: Dialect) -> Built:
    sql = (
        f"WITH {latest(dialect)}\n"
        'SELECT max(temperature_celsius) AS "Hottest",\n'
        '  max(1 - storage_available_bytes * 1.0 / nullif(storage_total_bytes, 0)) AS "Fullest storage",\n'
        '  max(1 - memory_available_bytes * 1.0 / nullif(memory_total_bytes, 0)) AS "Fullest memory",\n'
        f'  {dialect.to_s} - max(ts) AS "Age of data"\nFROM latest'
    )
    text = "The worst values of all nodes' newest samples, and how old the newest sample is"
    panel = number(dialect, "Extremes", text, sql, "percentunit", steps=USED).span(12)
    panel = column(panel, "Hottest", "celsius", steps=TEMPERATURE, decimals=1)
    return column(panel, "Age of data", "s", steps={120: "yellow", 300: RED}, decimals=0)


def _map(dialect: Dialect) -> Built:
    sql = (
        f"WITH {latest(dialect)}\n"
        'SELECT name AS "Node", status AS "State", latitude, longitude, address AS "Address",\n'
        '  temperature_celsius AS "Temperature", cpu_usage_ratio AS "CPU"\n'
        "FROM latest WHERE latitude IS NOT NULL AND longitude IS NOT NULL\nORDER BY 1"
    )
    text = "Nodes whose place is known, by state; the node's dashboard is behind its name"
    panel = column(node_map(dialect, "Map", text, sql, "State"), "Temperature", "celsius", decimals=1)
    return column(column(panel, "CPU", "percentunit", decimals=0), "Node", link=node_link())


def problems(dialect: Dialect) -> str:
    """Return the query of what is wrong now: node, severity, what, since when (milliseconds)."""
    whole = "CAST(CAST(round({}) AS bigint) AS text)".format
    free = "{0}_available_bytes * 100.0 / nullif({0}_total_bytes, 0)".format
    used = "100 - " + free("storage")
    found = (
        ("error", "'does not answer'", "last_seen_ts", "FROM latest WHERE status = 'down'"),
        ("warning", "'was never seen'", "CAST(NULL AS bigint)", "FROM latest WHERE status = 'unknown'"),
        ("warning", f"'hot: ' || {whole('temperature_celsius')} || ' °C'", "ts", "FROM latest WHERE temperature_celsius >= 80"),
        ("warning", "'throttled'", "ts", "FROM latest WHERE throttled = 1"),
        ("warning", f"'storage ' || {whole(used)} || ' % full'", "ts", f"FROM latest WHERE {free('storage')} <= 10"),
        ("warning", f"'memory ' || {whole(free('memory'))} || ' % free'", "ts", f"FROM latest WHERE {free('memory')} <= 5"),
        (
            "warning", "'probe ' || pair.key || ': ' || pair.value", "r.ts",
            f"FROM latest JOIN node_readings r ON r.node_id = latest.id, {dialect.pairs('r.failing')}\n"
            "WHERE pair.key <> 'ssh'",
        ),
        (
            "warning", "'model ' || a.model || ' is ' || a.status || coalesce(': ' || a.message, '')", "a.checked_ts",
            "FROM latest JOIN assignments a ON a.node_id = latest.id WHERE a.status IN ('drifted', 'unreachable')",
        ),
    )  # fmt: skip
    parts = [
        f'SELECT name AS "Node", \'{severity}\' AS "Severity", {what} AS "What", {since} * 1000 AS "Seen"\n{source}'
        for severity, what, since, source in found
    ]
    return f"WITH {latest(dialect)}\n" + "\nUNION ALL\n".join(parts) + "\nORDER BY 2, 1, 3"


def _wrong(dialect: Dialect) -> Built:
    text = "Nodes that do not answer, are hot, throttled or nearly full, have failing probes or other models than they should"
    panel = rows(dialect, "What is wrong now", text, problems(dialect)).span(12).height(12).no_value("Nothing")
    panel = column(panel, "Node", link=node_link(), width=100)
    return column(column(panel, "Severity", colored_states=True, width=90), "Seen", "dateTimeFromNow")


def _table(dialect: Dialect) -> Built:
    sql = (
        f"WITH {latest(dialect)}\n"
        'SELECT name AS "Node", status AS "State", last_seen_ts * 1000 AS "Last seen", cpu_usage_ratio AS "CPU",\n'
        '  load1 AS "Load", 1 - memory_available_bytes * 1.0 / nullif(memory_total_bytes, 0) AS "Memory",\n'
        '  1 - storage_available_bytes * 1.0 / nullif(storage_total_bytes, 0) AS "Storage",\n'
        '  temperature_celsius AS "Temperature", network_receive_bytes_per_s AS "Receive",\n'
        '  network_transmit_bytes_per_s AS "Transmit", gpu_usage_ratio AS "GPU", uptime_s AS "Uptime",\n'
        '  board_model AS "Board"\nFROM latest ORDER BY 1'
    )
    panel = rows(dialect, "Nodes", "Each node's newest sample; empty where it did not answer", sql).height(11)
    panel = column(column(panel, "Node", link=node_link()), "State", colored_states=True, width=125)
    panel = column(panel, "Last seen", "dateTimeFromNow")
    for name, unit, steps, width in (
        ("CPU", "percentunit", BUSY, 65),
        ("Memory", "percentunit", USED, 80),
        ("Storage", "percentunit", USED, 80),
        ("GPU", "percentunit", BUSY, 65),
        ("Temperature", "celsius", TEMPERATURE, 105),
    ):
        panel = column(panel, name, unit, steps=steps, width=width, decimals=0)
    for name in ("Receive", "Transmit"):
        panel = column(panel, name, "binBps", width=110)
    return column(column(panel, "Uptime", "s", width=100), "Load", "short", width=65, decimals=2)


def _silent(dialect: Dialect) -> statushistory.Panel:
    up = {"up": "up_ratio"}
    # first which nodes, then their rows: steps of every node would take three times as long
    worst = (
        f"worst AS (\nSELECT node_id FROM (\n{series.readings(dialect, up, _chosen_ids(dialect))}\n) AS r\n"
        "GROUP BY node_id ORDER BY avg(up), node_id LIMIT 40)"
    )
    source = series.readings(dialect, up, "node_id IN (SELECT node_id FROM worst)")
    shown = f"SELECT r.ts, r.up, n.name AS node FROM (\n{source}\n) AS r JOIN nodes n ON n.id = r.node_id"
    sql = series.long(dialect, shown, "node", "avg(1.0 * up)", worst)
    text = "The share of sweeps that were answered, of the 40 nodes that answered least; no cell: no sweep"
    steps = {0.5: "orange", 0.99: "green"}
    return history(dialect, "Who did not answer", text, sql, "percentunit", label="node", steps=steps)


def _temperatures(dialect: Dialect) -> heatmap.Panel:
    source = series.readings(dialect, {"celsius": "temperature_celsius_max"}, _chosen_ids(dialect))
    per_node = f"SELECT {series.bucket(dialect)} AS ts, node_id, max(celsius) AS celsius FROM (\n{source}\n) AS r GROUP BY 1, 2"
    lower = ("-1000", *map(str, BANDS_CELSIUS))
    upper = (*map(str, BANDS_CELSIUS), "1000")
    names = (f"below {BANDS_CELSIUS[0]} °C", *(f"from {celsius} °C" for celsius in BANDS_CELSIUS))
    bands = {
        name: f"1.0 * count(*) FILTER (WHERE celsius >= {low} AND celsius < {high})"
        for name, low, high in zip(names, lower, upper, strict=True)
    }
    text = "How many nodes were how hot, by the hottest zone of each"
    return density(dialect, "Heat map", text, series.wide(dialect, per_node, bands, at_end=True), "none")


def _talkers(dialect: Dialect) -> bargauge.Panel:
    columns = {"receive": "network_receive_bytes_per_s_avg", "transmit": "network_transmit_bytes_per_s_avg"}
    source = series.readings(dialect, columns, _chosen_ids(dialect))
    means = f"SELECT node_id, avg(receive + transmit) AS mean FROM (\n{source}\n) AS r GROUP BY node_id"
    sql = (
        'SELECT n.name AS "Node", m.mean AS "Traffic"\n'
        f"FROM (\n{means}\n) AS m JOIN nodes n ON n.id = m.node_id\n"
        "WHERE m.mean > 0 ORDER BY 2 DESC, 1 LIMIT 10"
    )
    return bars(
        dialect, "Top talkers", "The ten nodes with most traffic, received and sent, mean over the range", sql, "binBps"
    )


def _traffic(dialect: Dialect) -> timeseries.Panel:
    columns = {"receive": "network_receive_bytes_per_s_avg", "transmit": "network_transmit_bytes_per_s_avg"}
    source = series.readings(dialect, columns, _chosen_ids(dialect))
    per_sweep = f"SELECT ts, sum(receive) AS receive, sum(transmit) AS transmit FROM (\n{source}\n) AS r GROUP BY ts"
    sql = series.wide(dialect, per_sweep, {"Received": "avg(receive)", "Sent": "avg(transmit)"})
    return lines(dialect, "Traffic", "What all chosen nodes receive and send together", sql, "binBps").min(0)


def _busiest(dialect: Dialect) -> timeseries.Panel:
    source = series.readings(dialect, {"cpu": "cpu_usage_ratio_avg"}, _chosen_ids(dialect))
    values = {"Mean": "avg(cpu)", "Busiest": "max(cpu)"}
    sql = series.wide(dialect, source, values)
    text = "CPU usage over the fleet: the mean of all nodes and the busiest one"
    return shares(lines(dialect, "CPU", text, sql, "percentunit", steps=BUSY)).span(24)
