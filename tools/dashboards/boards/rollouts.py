"""Roll-outs: one as it goes on, by wave and node, and what became of those before."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.common import LineInterpolation

from tools.dashboards.board import annotation, models_variable, single_variable
from tools.dashboards.board import board as frame
from tools.dashboards.dialects import Dialect
from tools.dashboards.panels import (
    ANY,
    BLUE,
    DURATION,
    GREEN,
    NOTHING,
    RED,
    Built,
    Steps,
    bars,
    colored,
    column,
    lines,
    node_link,
    node_map,
    number,
    rows,
    states,
)
from tools.dashboards.selection import chosen

THE_ROLLOUT = "CAST(r.id AS text) IN (${rollout:sqlstring})"
FAILED = "('failed', 'refused', 'expired')"
ENDED = "('succeeded', 'failed', 'refused', 'expired', 'rolled_back', 'aborted')"
SHARE: Steps = {0: BLUE, 0.95: "green"}


def board(dialect: Dialect) -> dashboard.Dashboard:
    """Return the dashboard."""
    text = "One roll-out as it goes on, by wave and node, and what became of those before."
    made = frame("evc-rollouts", "EVC Roll-outs", text, begin="now-24h", refresh="10s")
    ids = f"SELECT CAST(r.id AS text) FROM rollouts r WHERE {chosen('model', 'r.model')}\nORDER BY r.id DESC LIMIT 200"
    made = made.with_variable(models_variable(dialect))
    made = made.with_variable(
        single_variable(
            dialect, "rollout", "Roll-out", "The roll-out that is shown, by its number; the newest first", ids
        )
    )
    began = (
        "SELECT r.created_ts AS time, 'roll-out ' || r.id || ' of ' || r.model AS text, r.model AS tags\n"
        f"FROM rollouts r WHERE {dialect.within('r.created_ts')} AND {chosen('model', 'r.model')}\nORDER BY 1 LIMIT 200"
    )
    made = made.annotation(annotation(dialect, "Roll-outs", BLUE, began))
    for panel in (_outcome(dialect), _progress(dialect), _bytes(dialect), _what(dialect)):
        made = made.with_panel(panel)
    for panel in (_waves(dialect), _rates(dialect), _nodes(dialect), _map(dialect), _finished(dialect)):
        made = made.with_panel(panel)
    for panel in (_approvals(dialect), _all(dialect)):
        made = made.with_panel(panel)
    return made


def _nodes_of() -> str:
    return f"FROM rollouts r JOIN rollout_nodes m ON m.rollout_id = r.id\nWHERE {THE_ROLLOUT}"


def _outcome(dialect: Dialect) -> Built:
    sql = f'SELECT r.status AS "State" FROM rollouts r WHERE {THE_ROLLOUT}'
    panel = number(dialect, "State", "How the chosen roll-out stands", sql, "string", steps={}).span(4)
    return panel.mappings([NOTHING, *states()])


def _what(dialect: Dialect) -> Built:
    sql = (
        'SELECT r.model AS "Model", coalesce(r.tag, substr(r.digest, 8, 12)) AS "Image", r.created_ts * 1000 AS "Began",\n'
        f'  CASE WHEN r.created_ts <= {dialect.to_s} THEN coalesce(r.finished_ts, {dialect.to_s}) - r.created_ts END AS "Took",\n'
        '  r.command AS "Asked", r.message AS "Message"\n'
        f"FROM rollouts r WHERE {THE_ROLLOUT}"
    )
    panel = rows(dialect, "What", "What is rolled out, since when, and what a person asked of it", sql).height(4)
    return column(column(panel, "Began", "dateTimeAsIso"), "Took", DURATION)


def _progress(dialect: Dialect) -> Built:
    sql = (
        f'SELECT count(*) AS "Nodes", count(*) FILTER (WHERE m.status = \'succeeded\') AS "Done",\n'
        f'  count(*) FILTER (WHERE m.status IN {FAILED}) AS "Failed"\n{_nodes_of()}'
    )
    panel = number(
        dialect, "Nodes", "Nodes of the roll-out: all, those that run it, those that failed", sql, "none"
    ).span(8)
    return column(panel, "Failed", steps=ANY)


def _bytes(dialect: Dialect) -> Built:
    sql = (
        'SELECT 1.0 * sum(m.bytes_done) AS "Pulled", 1.0 * sum(m.bytes_total) AS "To pull",\n'
        "  1.0 * sum(m.rate_bytes_per_s) FILTER (WHERE m.status = 'pulling') AS \"Rate\"\n" + _nodes_of()
    )
    text = "Bytes that all nodes have pulled, will pull, and pull a second now"
    return column(number(dialect, "Bytes", text, sql, "bytes").span(12).height(4), "Rate", "binBps")


def _waves(dialect: Dialect) -> Built:
    sql = (
        'SELECT m.wave + 1 AS "Wave", count(*) AS "Nodes",\n'
        "  1.0 * count(*) FILTER (WHERE m.status = 'succeeded') / count(*) AS \"Done\",\n"
        "  count(*) FILTER (WHERE m.status = 'succeeded') AS \"Succeeded\",\n"
        f'  count(*) FILTER (WHERE m.status IN {FAILED}) AS "Failed",\n'
        f"  count(*) FILTER (WHERE m.status NOT IN {ENDED} AND m.status NOT IN ('waiting', 'pending')) AS \"At work\",\n"
        "  count(*) FILTER (WHERE m.status = 'waiting') AS \"Waiting\",\n"
        "  count(*) FILTER (WHERE m.status = 'pending') AS \"Away\",\n"
        '  min(m.started_ts) * 1000 AS "Began", max(m.finished_ts) * 1000 AS "Last one done"\n'
        f"{_nodes_of()}\nGROUP BY m.wave ORDER BY 1"
    )
    text = "How far each wave is. Away: nodes that did not answer and are done when they are back"
    panel = column(rows(dialect, "Waves", text, sql).height(8), "Done", "percentunit", steps=SHARE, decimals=0)
    panel = column(column(panel, "Began", "dateTimeAsIso"), "Last one done", "dateTimeAsIso")
    return column(panel, "Failed", "none", steps=ANY)


def _rates(dialect: Dialect) -> Built:
    sql = (
        'SELECT n.name AS "Node", m.rate_bytes_per_s AS "Rate"\n'
        "FROM rollouts r JOIN rollout_nodes m ON m.rollout_id = r.id JOIN nodes n ON n.id = m.node_id\n"
        f"WHERE {THE_ROLLOUT} AND m.rate_bytes_per_s IS NOT NULL AND m.status = 'pulling'\nORDER BY 2 DESC LIMIT 25"
    )
    return bars(dialect, "Rates", "How fast nodes pull now", sql, "binBps").span(24).no_value("Nobody pulls")


def _nodes(dialect: Dialect) -> Built:
    sql = (
        'SELECT n.name AS "Node", m.wave + 1 AS "Wave", m.status AS "State",\n'
        '  1.0 * m.bytes_done / nullif(m.bytes_total, 0) AS "Pulled", m.bytes_total AS "Size", m.rate_bytes_per_s AS "Rate",\n'
        f'  CASE WHEN m.started_ts <= {dialect.to_s} THEN coalesce(m.finished_ts, {dialect.to_s}) - m.started_ts END AS "Took",\n'
        '  substr(m.previous_digest, 8, 12) AS "Before",\n'
        '  m.message AS "Message"\n'
        "FROM rollouts r JOIN rollout_nodes m ON m.rollout_id = r.id JOIN nodes n ON n.id = m.node_id\n"
        f"WHERE {THE_ROLLOUT}\nORDER BY 2, 1"
    )
    text = "Each node's step, how much of the image it has, and what it said. Before: the digest it can go back to"
    panel = column(rows(dialect, "By node", text, sql).height(11), "Node", link=node_link())
    panel = column(column(panel, "State", colored_states=True, width=110), "Pulled", "percentunit", decimals=0)
    panel = column(column(panel, "Size", "bytes"), "Rate", "binBps")
    return column(panel, "Took", DURATION)


def _map(dialect: Dialect) -> Built:
    sql = (
        'SELECT n.name AS "Node", m.status AS "State", m.wave + 1 AS "Wave", n.latitude AS latitude, n.longitude AS longitude\n'
        "FROM rollouts r JOIN rollout_nodes m ON m.rollout_id = r.id JOIN nodes n ON n.id = m.node_id\n"
        f"WHERE {THE_ROLLOUT} AND n.latitude IS NOT NULL AND n.longitude IS NOT NULL ORDER BY 1"
    )
    text = "Nodes of the roll-out whose place is known, by how it stands there"
    return column(node_map(dialect, "Map", text, sql, "State").height(10), "Node", link=node_link())


def _finished(dialect: Dialect) -> Built:
    sql = (
        "SELECT time, max(done) AS \"Done\", max(failed) AS \"Failed\" FROM (\n"
        "  SELECT m.finished_ts AS time,\n"
        "    count(*) FILTER (WHERE m.status = 'succeeded') OVER (ORDER BY m.finished_ts) AS done,\n"
        f"    count(*) FILTER (WHERE m.status IN {FAILED}) OVER (ORDER BY m.finished_ts) AS failed\n"
        "  FROM rollouts r JOIN rollout_nodes m ON m.rollout_id = r.id\n"
        f"  WHERE {THE_ROLLOUT} AND m.finished_ts IS NOT NULL\n) AS ends\n"
        f"WHERE {dialect.within('time')}\nGROUP BY time ORDER BY 1"
    )  # fmt: skip
    panel = lines(dialect, "Progress", "Nodes that were done, and that had failed, by then", sql, "none").min(0)
    panel = panel.height(10).line_interpolation(LineInterpolation.STEP_AFTER)
    return colored(panel, {"Done": GREEN, "Failed": RED})


def _approvals(dialect: Dialect) -> Built:
    sql = (
        'SELECT a.wave + 1 AS "Wave", a.asked_ts * 1000 AS "Asked", a.approved_ts * 1000 AS "Approved", a.approved_by AS "By",\n'
        "  replace(replace(replace(CAST(a.failed AS text), '[', ''), ']', ''), '\"', '') AS \"Failed by then\"\n"
        f"FROM rollouts r JOIN rollout_approvals a ON a.rollout_id = r.id WHERE {THE_ROLLOUT}\nORDER BY 1"
    )
    panel = rows(dialect, "Approvals", "Waves that a person was asked for, and who said yes", sql).span(24).height(5)
    return column(column(panel, "Asked", "dateTimeAsIso"), "Approved", "dateTimeAsIso").no_value("None were asked for")


def _all(dialect: Dialect) -> Built:
    sql = (
        'SELECT r.id AS "Roll-out", r.model AS "Model", coalesce(r.tag, substr(r.digest, 8, 12)) AS "Image",\n'
        '  r.status AS "State", r.created_ts * 1000 AS "Began", r.finished_ts - r.created_ts AS "Took",\n'
        '  count(m.node_id) AS "Nodes", count(m.node_id) FILTER (WHERE m.status = \'succeeded\') AS "Done",\n'
        f'  count(m.node_id) FILTER (WHERE m.status IN {FAILED}) AS "Failed", r.message AS "Message"\n'
        "FROM rollouts r LEFT JOIN rollout_nodes m ON m.rollout_id = r.id\n"
        f"WHERE {dialect.within('r.created_ts')} AND {chosen('model', 'r.model')}\n"
        "GROUP BY r.id, r.model, r.tag, r.digest, r.status, r.created_ts, r.finished_ts, r.message\nORDER BY 1 DESC LIMIT 200"
    )
    panel = rows(dialect, "All roll-outs", "Those that began in the range, and what became of them", sql)
    link = "/d/evc-rollouts/?var-rollout=${__value.raw:percentencode}&${__url_time_range}"
    panel = column(column(panel, "Roll-out", link=link, width=90), "State", colored_states=True, width=110)
    panel = column(column(panel, "Began", "dateTimeAsIso"), "Took", DURATION)
    return column(panel, "Failed", "none", steps=ANY)
