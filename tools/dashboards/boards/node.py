"""Node: everything about one, in the rows that people know from "Node Exporter Full", as far as EVC's probes see it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard, timeseries
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from tools.dashboards import series
from tools.dashboards.board import board as frame
from tools.dashboards.board import group_variable, interval_variable, node_events, node_variable
from tools.dashboards.dialects import Dialect
from tools.dashboards.panels import (
    ANY,
    BLUE,
    BUSY,
    GREEN,
    NOTHING,
    ORANGE,
    RED,
    TEMPERATURE,
    USED,
    YELLOW,
    Built,
    Steps,
    colored,
    column,
    lines,
    mirrored,
    number,
    rows,
    shares,
    stacked,
    states,
    widths,
    words,
)
from tools.dashboards.selection import THE_NODE

POINTS = 220
"""Of charts: so at most some 2,000 rows are read, each of which lies on a page of its own; a week reads hours."""


def board(dialect: Dialect) -> dashboard.Dashboard:
    """Return the dashboard."""
    made = frame("evc-node", "EVC Node", "Everything about one node, with its events as marks on every chart.")
    for variable in (group_variable(dialect), node_variable(dialect)):
        made = made.with_variable(variable)
    made = made.with_variable(interval_variable())
    for severity, color in (("error", RED), ("warning", YELLOW), ("info", BLUE)):
        made = made.annotation(node_events(dialect, severity, color, f"n.id = {THE_NODE}"))
    for panel in _quick(dialect):
        made = made.with_panel(panel)
    for title, panels in (
        ("CPU", _cpu(dialect)),
        ("Memory", _memory(dialect)),
        ("Storage", _storage(dialect)),
        ("Network", _network(dialect)),
        ("Temperature and throttling", _temperature(dialect)),
        ("Models", _models(dialect)),
        ("Collection", _collection(dialect)),
    ):
        made = made.with_row(dashboard.Row(title))
        for panel in panels:
            made = made.with_panel(panel.max_data_points(POINTS) if isinstance(panel, timeseries.Panel) else panel)
    return made


def _readings(dialect: Dialect, **columns: str) -> str:
    return series.readings(dialect, columns, f"node_id = {THE_NODE}")


def _chart(dialect: Dialect, columns: dict[str, str], values: dict[str, str]) -> str:
    return series.wide(dialect, _readings(dialect, **columns), values)


def _details(dialect: Dialect, table: str, label: str, value: str) -> str:
    """Return the query of a detail table: a series for each zone, mountpoint or interface."""
    source = f"SELECT * FROM {table} WHERE node_id = {THE_NODE} AND {dialect.within('ts')}"
    return series.long(dialect, source, label, value)


# -- at a glance -------------------------------------------------------------------------------------------------------


def _quick(dialect: Dialect) -> list[Built]:
    newest = (
        f"FROM node_samples WHERE node_id = {THE_NODE}\n"
        f"AND ts = (SELECT max(ts) FROM node_samples WHERE node_id = {THE_NODE} AND {dialect.within('ts')})"
    )
    found: list[tuple[str, str, str, str, Steps | None]] = [
        ("Uptime", "Since the last start", "uptime_s", "s", None),
        ("CPU busy", "Share of time in which a processor worked; steal counts as busy", "cpu_usage_ratio", "percentunit", BUSY),
        ("Load", "Processes that run or wait, mean of a minute", "load1", "short", None),
        (
            "Memory used", "Total less available", "1 - memory_available_bytes * 1.0 / nullif(memory_total_bytes, 0)",
            "percentunit", USED,
        ),
        (
            "Storage used", "Of all devices together, what users can still write counted as free",
            "1 - storage_available_bytes * 1.0 / nullif(storage_total_bytes, 0)", "percentunit", USED,
        ),
        ("Temperature", "The hottest zone", "temperature_celsius", "celsius", TEMPERATURE),
    ]  # fmt: skip
    panels: list[Built] = [_state(dialect)]
    for title, text, value, unit, steps in found:
        sql = f'SELECT {value} AS "{title}"\n{newest}'
        panels.append(number(dialect, title, text, sql, unit, steps=steps).span(3).decimals(1))
    sql = f'SELECT throttled AS "Throttled"\n{newest}'
    throttled = number(dialect, "Throttled", "Whether the board slows itself down now", sql, "none", steps=ANY).span(3)
    answers = words({"0": ("no", GREEN), "1": ("yes", RED)})
    return [*panels, throttled.mappings([NOTHING, answers]), _identity(dialect)]


def _state(dialect: Dialect) -> Built:
    sql = f'SELECT n.status AS "State" FROM nodes n WHERE n.id = {THE_NODE}'
    panel = number(dialect, "State", "Down after two sweeps without an answer", sql, "string", steps={}).span(3)
    return panel.mappings([NOTHING, *states()])


def _identity(dialect: Dialect) -> Built:
    sql = (
        'SELECT n.host AS "Host", n.address AS "Address", n.board_model AS "Board", n.os AS "System",\n'
        '  n.kernel AS "Kernel", n.arch AS "Architecture", n.cpu_count AS "Processors", n.memory_bytes AS "Memory",\n'
        '  n.engine_version AS "Engine", n.registered_ts * 1000 AS "Registered", n.last_seen_ts * 1000 AS "Last seen"\n'
        f"FROM nodes n WHERE n.id = {THE_NODE}"
    )
    panel = rows(dialect, "What it is", "As the node itself says, read once a day", sql).height(4)
    # what a node says of itself is longer than a column: two lines
    panel = panel.override_by_regexp("/.*/", [DynamicConfigValue(id_val="custom.wrapText", value=True)])
    panel = column(column(panel, "Memory", "bytes"), "Registered", "dateTimeAsIso")
    panel = column(panel, "Last seen", "dateTimeFromNow")
    return widths(panel, {"Kernel": 165, "Architecture": 100, "Processors": 90, "Memory": 80, "Engine": 70})


# -- rows --------------------------------------------------------------------------------------------------------------


def _cpu(dialect: Dialect) -> list[Built]:
    busy = _chart(
        dialect,
        {
            "cpu": "cpu_usage_ratio_avg",
            "top": "cpu_usage_ratio_max",
            "iowait": "cpu_iowait_ratio_avg",
            "steal": "cpu_steal_ratio_avg",
        },
        {"Busy": "avg(cpu)", "Busy, highest": "max(top)", "Waits for I/O": "avg(iowait)", "Stolen": "avg(steal)"},
    )
    load = _chart(
        dialect, {"mean": "load1_avg", "top": "load1_max"}, {"Load, 1 min": "avg(mean)", "Highest": "max(top)"}
    )
    pressure = _chart(
        dialect,
        {"cpu": "pressure_cpu_ratio_avg", "memory": "pressure_memory_ratio_avg", "io": "pressure_io_ratio_avg"},
        {"CPU": "avg(cpu)", "Memory": "avg(memory)", "I/O": "avg(io)"},
    )
    gpu = _chart(
        dialect,
        {"mean": "gpu_usage_ratio_avg", "top": "gpu_usage_ratio_max"},
        {"GPU": "avg(mean)", "Highest": "max(top)"},
    )
    text = "Busy: all but idle and waiting for I/O. Highest: of a single sweep in each step"
    return [
        shares(lines(dialect, "CPU", text, busy, "percentunit", steps=BUSY)),
        lines(
            dialect, "Load", "Processes that run or wait; compare it with the number of processors", load, "short"
        ).min(0),
        shares(
            lines(dialect, "Pressure", "Share of time in which some task waited for it (PSI)", pressure, "percentunit")
        ),
        shares(
            lines(dialect, "GPU", "Usage of the GPU, where the node has one that tells", gpu, "percentunit", steps=BUSY)
        ),
    ]


def _memory(dialect: Dialect) -> list[Built]:
    memory = _chart(
        dialect,
        {"total": "memory_total_bytes", "available": "memory_available_bytes_avg"},
        {"Used": "avg(total - available)", "Available": "avg(available)"},
    )
    swap = _chart(
        dialect,
        {"total": "swap_total_bytes", "free": "swap_free_bytes_avg"},
        {"Used": "avg(total - free)", "Free": "avg(free)"},
    )
    return [
        stacked(lines(dialect, "Memory", "Used is total less available", memory, "bytes")).min(0),
        stacked(lines(dialect, "Swap", "Swap, zram included", swap, "bytes")).min(0),
    ]


def _storage(dialect: Dialect) -> list[Built]:
    whole = _chart(
        dialect,
        {"used": "storage_used_bytes_avg", "available": "storage_available_bytes_avg"},
        {"Used": "avg(used)", "Available": "avg(available)"},
    )
    share = "1 - 1.0 * avg(available_bytes) / nullif(avg(total_bytes), 0)"
    inodes = "1 - 1.0 * avg(inodes_free) / nullif(avg(inodes_total), 0)"
    return [
        stacked(lines(dialect, "Storage", "All devices together", whole, "bytes")).min(0),
        shares(
            lines(
                dialect, "Used, by mountpoint", "Share that is not available", _details(dialect, "storage_samples", "mountpoint", share),
                "percentunit", label="mountpoint", steps=USED,
            )
        ).interval("5m"),
        shares(
            lines(
                dialect, "Inodes used, by mountpoint", "A file system without free inodes is full, whatever its bytes",
                _details(dialect, "storage_samples", "mountpoint", inodes), "percentunit", label="mountpoint", steps=USED,
            )
        ).interval("5m"),
        _mountpoints(dialect),
    ]  # fmt: skip


def _mountpoints(dialect: Dialect) -> Built:
    sql = (
        'SELECT mountpoint AS "Mountpoint", device AS "Device", filesystem AS "File system", total_bytes AS "Size",\n'
        '  available_bytes AS "Available", 1 - 1.0 * available_bytes / nullif(total_bytes, 0) AS "Used",\n'
        "  CASE WHEN read_only THEN 'read-only' ELSE 'writable' END AS \"Mode\"\n"
        f"FROM storage_samples WHERE node_id = {THE_NODE}\n"
        f"AND ts = (SELECT max(ts) FROM storage_samples WHERE node_id = {THE_NODE} AND {dialect.within('ts')})\nORDER BY 1"
    )
    panel = (
        rows(dialect, "File systems", "As of the last reading; they are read every five minutes", sql)
        .span(12)
        .height(8)
    )
    panel = column(column(panel, "Size", "bytes"), "Available", "bytes")
    panel = column(panel, "Used", "percentunit", steps=USED, decimals=0)
    return widths(panel, {"Device": 135, "Size": 80, "Available": 85, "Used": 60, "Mode": 85})


def _network(dialect: Dialect) -> list[Built]:
    total = _chart(
        dialect,
        {"receive": "network_receive_bytes_per_s_avg", "transmit": "network_transmit_bytes_per_s_avg"},
        {"Receive": "avg(receive)", "Transmit": "avg(transmit)"},
    )
    faults = " + ".join(
        f"coalesce(avg({way}_{what}_per_s), 0)" for way in ("receive", "transmit") for what in ("errors", "drops")
    )
    charts = (
        ("Receive, by interface", "Bytes received, each interface by itself", "avg(receive_bytes_per_s)", "binBps"),
        ("Transmit, by interface", "Bytes sent, each interface by itself", "avg(transmit_bytes_per_s)", "binBps"),
        ("Errors and drops, by interface", "Packets lost on this node's side, both ways", faults, "suffix: p/s"),
    )
    text = "All interfaces but loopback and those of containers; sent is drawn downwards"
    return [
        mirrored(lines(dialect, "Traffic", text, total, "binBps"), "Transmit"),
        *(
            lines(
                dialect, title, said, _details(dialect, "network_samples", "interface", value), unit, label="interface"
            ).min(0)
            for title, said, value, unit in charts
        ),
    ]


def _temperature(dialect: Dialect) -> list[Built]:
    hottest = _chart(
        dialect,
        {"mean": "temperature_celsius_avg", "top": "temperature_celsius_max"},
        {"Hottest zone, mean": "avg(mean)", "Hottest zone, highest": "max(top)"},
    )
    zones = _details(dialect, "temperature_samples", "zone", "avg(celsius)")
    throttled = _chart(dialect, {"throttled": "throttled_ratio"}, {"Throttled": "avg(1.0 * throttled)"})
    text = "Share of sweeps in which the board said that it slows itself down"
    return [
        lines(dialect, "Temperature", "The hottest zone of each sweep", hottest, "celsius", steps=TEMPERATURE)
        .axis_soft_min(20)
        .axis_soft_max(90),
        lines(
            dialect,
            "Temperature, by zone",
            "Every readable thermal zone",
            zones,
            "celsius",
            label="zone",
            steps=TEMPERATURE,
        ),
        colored(shares(lines(dialect, "Throttling", text, throttled, "percentunit")).span(24), {"Throttled": ORANGE}),
    ]


def _models(dialect: Dialect) -> list[Built]:
    sql = (
        'SELECT a.model AS "Model", a.status AS "State", a.tag AS "Tag", substr(a.digest, 8, 12) AS "Wanted",\n'
        '  substr(a.running_digest, 8, 12) AS "Running", a.checked_ts * 1000 AS "Checked", a.message AS "Message"\n'
        f"FROM assignments a WHERE a.node_id = {THE_NODE} ORDER BY 1"
    )
    panel = rows(dialect, "Models", "What should run here and what does; digests by their first twelve figures", sql)
    return [column(column(panel, "State", colored_states=True), "Checked", "dateTimeFromNow").height(6)]


def _collection(dialect: Dialect) -> list[Built]:
    duration = _chart(
        dialect,
        {"mean": "sweep_duration_s_avg", "top": "sweep_duration_s_max"},
        {"Mean": "avg(mean)", "Longest": "max(top)"},
    )
    answered = _chart(dialect, {"up": "up_ratio"}, {"Answered": "avg(1.0 * up)"})
    events = (
        'SELECT e.ts * 1000 AS "When", e.severity AS "Severity", e.kind AS "Kind", e.message AS "Message"\n'
        f"FROM node_events e WHERE e.node_id = {THE_NODE} AND {dialect.within('e.ts')}\nORDER BY e.ts DESC LIMIT 200"
    )
    failing = (
        'SELECT pair.key AS "Probe", pair.value AS "Message", r.ts * 1000 AS "As of"\n'
        f"FROM node_readings r, {dialect.pairs('r.failing')}\nWHERE r.node_id = {THE_NODE} ORDER BY 1"
    )
    log = rows(dialect, "Events", "What happened to this node in the range", events).span(12)
    log = column(column(log, "When", "dateTimeAsIso"), "Severity", colored_states=True, width=90)
    probes = rows(
        dialect, "Failing probes", "Probes that failed at their last reading; ssh is the connection itself", failing
    )
    return [
        lines(dialect, "Sweep", "How long the node takes to answer a sweep", duration, "s").min(0),
        shares(
            lines(
                dialect,
                "Answered",
                "Share of sweeps that the node answered",
                answered,
                "percentunit",
                steps={0.99: GREEN},
            )
        ),
        log,
        column(probes.span(12), "As of", "dateTimeFromNow").no_value("None"),
    ]
