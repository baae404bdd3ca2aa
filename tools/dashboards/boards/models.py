"""Models: what the registry holds, what was built of what, what runs where, what runs that should not."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from tools.dashboards.board import annotation, group_variable, models_variable, nodes_variable
from tools.dashboards.board import board as frame
from tools.dashboards.dialects import Dialect
from tools.dashboards.panels import (
    BLUE,
    DURATION,
    RED,
    YELLOW,
    Built,
    column,
    node_link,
    node_map,
    number,
    rows,
    widths,
)
from tools.dashboards.selection import chosen, chosen_nodes


def board(dialect: Dialect) -> dashboard.Dashboard:
    """Return the dashboard."""
    text = "What the registry holds, what was built of what, what runs where, and where that is not what should."
    made = frame("evc-models", "EVC Models", text, begin="now-7d")
    for variable in (models_variable(dialect), group_variable(dialect), nodes_variable(dialect)):
        made = made.with_variable(variable)
    built = (
        "SELECT b.started_ts AS time, 'build of ' || b.model || ' ' || b.version || ': ' || b.status AS text, 'build' AS tags\n"
        f"FROM builds b WHERE {dialect.within('b.started_ts')} AND {chosen('model', 'b.model')}\nORDER BY 1 LIMIT 200"
    )
    made = made.annotation(annotation(dialect, "Builds", BLUE, built))
    for panel in (_states(dialect), _counts(dialect), _map(dialect), _drift(dialect), _where(dialect)):
        made = made.with_panel(panel)
    for panel in (_registered(dialect), _registry(dialect), _checks(dialect), _builds(dialect)):
        made = made.with_panel(panel)
    return made


def _assigned(dialect: Dialect) -> str:
    return (
        "FROM assignments a JOIN nodes n ON n.id = a.node_id\n"
        f"WHERE {chosen('model', 'a.model')} AND {chosen_nodes(dialect)}"
    )


def _states(dialect: Dialect) -> Built:
    sql = (
        "SELECT count(*) FILTER (WHERE a.status = 'running') AS \"As wanted\",\n"
        "  count(*) FILTER (WHERE a.status = 'drifted') AS \"Drifted\",\n"
        "  count(*) FILTER (WHERE a.status = 'pending') AS \"Pending\",\n"
        f"  count(*) FILTER (WHERE a.status = 'unreachable') AS \"Unreachable\"\n{_assigned(dialect)}"
    )
    text = "Models on nodes: those that run what was rolled out, and the others"
    panel = number(dialect, "On nodes", text, sql, "none", steps={}).span(14)
    for name, color in (("Drifted", RED), ("Pending", YELLOW), ("Unreachable", RED)):
        panel = column(panel, name, steps={1: color})
    return panel


def _counts(dialect: Dialect) -> Built:
    sql = (
        f'SELECT (SELECT count(*) FROM models m WHERE {chosen("model", "m.name")}) AS "Models",\n'
        f'  count(DISTINCT i.digest) AS "Images",\n'
        f'  {dialect.to_s} - max(CASE WHEN i.last_seen_ts <= {dialect.to_s} THEN i.last_seen_ts END) AS "Last look"\n'
        "FROM registry_images i WHERE i.gone_ts IS NULL"
    )
    text = "Models that are known, images in the registry, and when EVC last read the registry"
    return column(number(dialect, "Registry", text, sql, "none").span(10), "Last look", "s", decimals=0)


def _map(dialect: Dialect) -> Built:
    sql = (
        'SELECT n.name AS "Node", a.status AS "State", a.model AS "Model", a.tag AS "Tag", n.latitude AS latitude,\n'
        f"  n.longitude AS longitude\n{_assigned(dialect)}\n"
        "AND n.latitude IS NOT NULL AND n.longitude IS NOT NULL ORDER BY 1, 3"
    )
    text = "Nodes that have one of the chosen models, by whether it is the one that they should"
    return column(node_map(dialect, "Where", text, sql, "State"), "Node", link=node_link())


def _drift(dialect: Dialect) -> Built:
    sql = (
        'SELECT n.name AS "Node", a.model AS "Model", a.status AS "State", substr(a.digest, 8, 12) AS "Wanted",\n'
        '  substr(a.running_digest, 8, 12) AS "Running", a.message AS "Message"\n'
        f"{_assigned(dialect)} AND a.status <> 'running'\nORDER BY 3, 1, 2"
    )
    text = "Nodes that run something else than they should, or can't be asked; digests by their first twelve figures"
    panel = rows(dialect, "Drift", text, sql).span(12).height(12).no_value("None")
    panel = column(column(panel, "Node", link=node_link(), width=90), "State", colored_states=True, width=100)
    return widths(panel, {"Model": 95, "Wanted": 125, "Running": 125})


def _where(dialect: Dialect) -> Built:
    # the newest build of a digest: what it was built from
    source = (
        "(SELECT b.version || ', ' || substr(b.source_revision, 8, 12) FROM builds b\n"
        "    WHERE b.digest = coalesce(a.running_digest, a.digest) ORDER BY b.id DESC LIMIT 1)"
    )
    sql = (
        'SELECT n.name AS "Node", a.model AS "Model", a.status AS "State", a.repository || \':\' || a.tag AS "Image",\n'
        f'  substr(a.running_digest, 8, 12) AS "Running", {source} AS "Built from", a.rollout_id AS "Roll-out",\n'
        f'  a.ts * 1000 AS "Assigned", a.checked_ts * 1000 AS "Checked"\n{_assigned(dialect)}\nORDER BY 1, 2'
    )
    text = "Which image runs on which node, of which version and source it was built, who asked for it, when it was last looked at"
    panel = rows(dialect, "What runs where", text, sql)
    panel = column(column(panel, "Node", link=node_link()), "State", colored_states=True, width=110)
    panel = column(column(panel, "Assigned", "dateTimeFromNow"), "Checked", "dateTimeFromNow")
    return column(
        panel,
        "Roll-out",
        link="/d/evc-rollouts/?var-rollout=${__value.raw:percentencode}&${__url_time_range}",
        width=90,
    )


def _registered(dialect: Dialect) -> Built:
    sql = (
        'SELECT m.name AS "Model", m.task AS "Task", m.version AS "Version", m.description AS "Description",\n'
        '  m.updated_ts * 1000 AS "Changed"\n'
        f"FROM models m WHERE {chosen('model', 'm.name')} ORDER BY 1"
    )
    panel = rows(dialect, "Models", "What include/models holds, as it was last built", sql).span(10)
    return widths(column(panel, "Changed", "dateTimeFromNow"), {"Model": 105, "Task": 125, "Version": 70})


def _registry(dialect: Dialect) -> Built:
    sql = (
        'SELECT i.repository AS "Repository", i.tag AS "Tag", substr(i.digest, 8, 12) AS "Digest", i.platform AS "Platform",\n'
        '  i.size_bytes AS "To pull", i.created_ts * 1000 AS "Made",\n'
        '  (SELECT count(*) FROM assignments a WHERE a.running_digest = i.digest) AS "On nodes"\n'
        "FROM registry_images i WHERE i.gone_ts IS NULL AND (\n"
        "  '*' IN (${model:sqlstring}) OR i.repository IN (\n"
        "    SELECT b.repository FROM builds b WHERE b.model IN (${model:sqlstring})))\nORDER BY 1, i.created_ts DESC, 2"
    )
    text = "Images that the registry holds and on how many nodes each runs; size is what a pull transfers at most"
    panel = column(rows(dialect, "Registry", text, sql).span(14), "To pull", "bytes")
    panel = column(panel, "Made", "dateTimeFromNow")
    return widths(panel, {"Digest": 125, "To pull": 90, "On nodes": 85, "Platform": 105, "Tag": 75})


def _checks(dialect: Dialect) -> Built:
    sql = (
        "SELECT c.address AS \"Registry\", CASE WHEN c.message IS NULL THEN 'up' ELSE 'down' END AS \"State\",\n"
        '  c.checked_ts * 1000 AS "Looked at", c.answered_ts * 1000 AS "Answered",\n'
        f'  c.certificate_expires_ts - {dialect.to_s} AS "Certificate holds for", c.message AS "Message"\n'
        "FROM registry_checks c ORDER BY 1"
    )
    text = "Whether the registry answered the last look of sync_registry, and how long its certificate holds"
    panel = column(rows(dialect, "Registries", text, sql).height(4), "State", colored_states=True, width=100)
    panel = column(column(panel, "Looked at", "dateTimeFromNow"), "Answered", "dateTimeFromNow")
    return column(panel, "Certificate holds for", "s", decimals=0)


def _builds(dialect: Dialect) -> Built:
    sql = (
        'SELECT b.started_ts * 1000 AS "Began", b.model AS "Model", b.version AS "Version", b.tag AS "Tag",\n'
        '  b.platform AS "Platform", b.status AS "State", b.finished_ts - b.started_ts AS "Took", b.size_bytes AS "Size",\n'
        '  substr(b.digest, 8, 12) AS "Digest", substr(b.source_revision, 8, 12) AS "Source", n.name AS "Builder",\n'
        '  b.message AS "Message"\n'
        "FROM builds b JOIN nodes n ON n.id = b.builder_id\n"
        f"WHERE {dialect.within('b.started_ts')} AND {chosen('model', 'b.model')}\nORDER BY b.started_ts DESC LIMIT 200"
    )
    panel = rows(dialect, "Builds", "Builds that began in the range, and what became of them", sql)
    panel = column(column(panel, "Began", "dateTimeAsIso"), "State", colored_states=True, width=100)
    panel = column(column(panel, "Took", DURATION), "Size", "bytes")
    return widths(panel, {"Digest": 125, "Source": 125, "Version": 75, "Tag": 75, "Took": 85, "Size": 85})
