"""Re-ID: how many people were seen where, who came again, and on which ways between the nodes."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from tools.dashboards import series
from tools.dashboards.board import board as frame
from tools.dashboards.board import group_variable, interval_variable, node_events, nodes_variable, single_variable
from tools.dashboards.dialects import Dialect
from tools.dashboards.panels import (
    DURATION,
    RED,
    Built,
    column,
    counts,
    earth,
    layer_of,
    lines,
    node_link,
    number,
    rows,
)
from tools.dashboards.results import POINTS
from tools.dashboards.selection import chosen_nodes

GALLERY = "v.gallery IN (${gallery:sqlstring})"
IDENTITY = "CAST(v.identity_id AS text) IN (${identity:sqlstring})"


def board(dialect: Dialect) -> dashboard.Dashboard:
    """Return the dashboard."""
    text = "How many people were seen where, who came again, on which ways. An identity is a look, not a name."
    made = frame("evc-reid", "EVC Re-ID", text, begin="now-12h")
    galleries = "SELECT name FROM identity_galleries ORDER BY 1"
    known = (
        f"SELECT CAST(v.id AS text) FROM identities v WHERE {GALLERY} AND v.end_ts >= {dialect.from_s} AND v.ts <= {dialect.to_s}\n"
        "ORDER BY v.nodes DESC, v.visits DESC, v.id LIMIT 500"
    )
    for variable in (
        single_variable(dialect, "gallery", "Gallery", "Identities that are told apart from each other", galleries),
        group_variable(dialect),
        nodes_variable(dialect),
        single_variable(dialect, "identity", "Identity", "Whose way is shown; who was at most nodes first", known),
    ):
        made = made.with_variable(variable)
    made = made.with_variable(interval_variable())
    made = made.annotation(node_events(dialect, "error", RED, chosen_nodes(dialect)))
    for panel in (_numbers, _sightings, _people, _ways, _way, _journeys, _identities, _visits):
        made = made.with_panel(panel(dialect))
    return made


def _of_range(dialect: Dialect) -> str:
    """Return the condition that a visit is of the range, at one of the chosen nodes."""
    return (
        f"{GALLERY} AND {dialect.within('v.ts')}\n"
        f"AND v.node_id IN (SELECT n.id FROM nodes n WHERE {chosen_nodes(dialect)})"
    )


def _visited(dialect: Dialect) -> str:
    """Return the visits of the range at the chosen nodes."""
    return (
        "SELECT v.ts, v.end_ts, v.identity_id, v.node_id, v.sightings, v.similarity, m.name AS node\n"
        f"FROM identity_visits v JOIN nodes m ON m.id = v.node_id\nWHERE {_of_range(dialect)}"
    )


def _ways_of_range(dialect: Dialect) -> str:
    """Return the visits of the range to which somebody came from another node; of both ends chosen nodes."""
    return (
        "SELECT v.identity_id, v.from_node_id AS from_id, v.node_id AS to_id, v.left_ts, v.ts FROM identity_visits v\n"
        f"WHERE {_of_range(dialect)} AND v.from_node_id IN (SELECT n.id FROM nodes n WHERE {chosen_nodes(dialect)})"
    )


def _pairs(dialect: Dialect, values: str) -> str:
    """Return aggregates of the ways by both ends: by their ids, for names are wide to sort."""
    return f"SELECT from_id, to_id, {values}\nFROM (\n{_ways_of_range(dialect)}\n) AS ways GROUP BY from_id, to_id"


def _numbers(dialect: Dialect) -> Built:
    sql = (
        'SELECT count(DISTINCT v.identity_id) AS "Identities", count(*) AS "Visits", coalesce(sum(v.sightings), 0) AS "Sightings",\n'
        '  count(*) FILTER (WHERE v.similarity IS NULL) AS "New", count(DISTINCT v.node_id) AS "Nodes",\n'
        f'  (SELECT count(*) FROM (\n{_ways_of_range(dialect)}\n) AS ways) AS "Ways"\n\n'
        f"FROM identity_visits v WHERE {_of_range(dialect)}"
    )
    text = "What was seen in the range. New: visits with which an identity begins. Ways: from one node to another"
    return number(dialect, "At a glance", text, sql, "none").span(24)


def _by_node(dialect: Dialect, value: str) -> str:
    """Return an aggregate of the visits of each step and node: by ids, for names are wide to sort."""
    return (
        f"SELECT s.ts, n.name AS node, s.value\nFROM (\n"
        f"  SELECT {series.bucket(dialect, 'v.ts')} AS ts, v.node_id, {value} AS value FROM identity_visits v\n"
        f"  WHERE {_of_range(dialect)} GROUP BY 1, 2\n) AS s JOIN nodes n ON n.id = s.node_id"
    )


def _sightings(dialect: Dialect) -> Built:
    sql = series.long(dialect, _by_node(dialect, "sum(v.sightings)"), "node", "1.0 * sum(value)")
    text = "Times that somebody was seen, by node, counted when the visit began"
    return counts(lines(dialect, "Sightings", text, sql, "none", label="node")).max_data_points(POINTS)


def _people(dialect: Dialect) -> Built:
    sql = series.long(dialect, _by_node(dialect, "count(DISTINCT v.identity_id)"), "node", "1.0 * sum(value)")
    text = "Different identities whose visits began in each step, by node"
    return counts(lines(dialect, "Identities", text, sql, "none", label="node")).max_data_points(POINTS)


def _placed(dialect: Dialect) -> str:
    """Return the chosen nodes with a place that saw somebody, or whom somebody left that was seen elsewhere then."""
    pairs = (
        f"SELECT DISTINCT v.node_id, v.from_node_id FROM identity_visits v WHERE {GALLERY} AND {dialect.within('v.ts')}"
    )
    ends = (
        f"SELECT CASE WHEN e.column1 = 0 THEN s.node_id ELSE s.from_node_id END\nFROM (\n{pairs}\n) AS s\n"
        "CROSS JOIN (VALUES (0), (1)) AS e"
    )
    return (
        "SELECT n.id, n.name, n.latitude, n.longitude FROM nodes n\n"
        f"WHERE {chosen_nodes(dialect)} AND n.latitude IS NOT NULL AND n.longitude IS NOT NULL AND n.id IN (\n{ends}\n)"
    )


def _ways(dialect: Dialect) -> Built:
    people = (
        "SELECT v.node_id, count(DISTINCT v.identity_id) AS identities FROM identity_visits v\n"
        f"WHERE {GALLERY} AND {dialect.within('v.ts')} GROUP BY v.node_id"
    )
    points = (
        "SELECT p.name AS id, p.name AS title, p.latitude AS latitude, p.longitude AS longitude,\n"
        "  coalesce(s.identities, 0) AS mainstat\n"
        f"FROM (\n{_placed(dialect)}\n) AS p LEFT JOIN (\n{people}\n) AS s ON s.node_id = p.id ORDER BY 1"
    )
    # the layer needs both ends of a line among its points, and fails where there are points and not one line
    edges = (
        f"WITH placed AS (\n{_placed(dialect)}\n), ways AS (\n"
        "  SELECT a.name || ' to ' || b.name AS id, a.name AS source, b.name AS target, s.ways AS mainstat\n"
        f"  FROM (\n{_pairs(dialect, 'count(*) AS ways')}\n  ) AS s\n"
        "  JOIN placed a ON a.id = s.from_id JOIN placed b ON b.id = s.to_id\n)\n"
        "SELECT * FROM ways\n"
        "UNION ALL\nSELECT 'none', name, name, 0 FROM placed\n"
        "WHERE id = (SELECT min(id) FROM placed) AND NOT EXISTS (SELECT 1 FROM ways)\nORDER BY 1"
    )
    style = {
        "color": {"fixed": "blue"},
        "size": {"field": "mainstat", "fixed": 6, "min": 4, "max": 14},
        "text": {"mode": "field", "field": "title", "fixed": ""},
        "opacity": 0.8,
    }
    edge_style = {
        "color": {"fixed": "orange"},
        "lineWidth": 2,
        "opacity": 0.8,
        "size": {"field": "mainstat", "fixed": 2, "min": 1, "max": 8},
    }
    layer = layer_of("network", "Ways", {"showLegend": False, "arrow": 1, "style": style, "edgeStyle": edge_style})
    text = "Nodes by how many people they saw, lines by how many went from one to the other"
    panel = earth(dialect, "Ways between nodes", text, [layer])
    return panel.with_target(dialect.query(points, "table", "nodes")).with_target(
        dialect.query(edges, "table", "edges")
    )


def _way(dialect: Dialect) -> Built:
    sql = (
        'SELECT v.ts * 1000 AS "Came", v.node AS "Node", v.end_ts - v.ts AS "Stayed", n.latitude AS latitude,\n'
        "  n.longitude AS longitude\n"
        f"FROM (\n{_visited(dialect)}\n) AS v JOIN nodes n ON n.id = v.node_id\n"
        f"WHERE {IDENTITY} AND n.latitude IS NOT NULL AND n.longitude IS NOT NULL ORDER BY 1"
    )
    style = {"color": {"fixed": "orange"}, "lineWidth": 3, "opacity": 0.9, "size": {"fixed": 5}}
    points = {"color": {"fixed": "orange"}, "size": {"fixed": 6}, "opacity": 0.9}
    layers = [
        layer_of("route", "Way", {"style": style, "arrow": 1}),
        layer_of("markers", "Nodes", {"showLegend": False, "style": points}),
    ]
    text = "The way of the chosen identity over the nodes that saw it, in order"
    panel = earth(dialect, "Way of the identity", text, layers).with_target(dialect.query(sql, "table"))
    return column(column(panel, "Came", "dateTimeAsIso"), "Stayed", DURATION)


def _journeys(dialect: Dialect) -> Built:
    values = "count(*) AS ways, min(ts - left_ts) AS shortest_s, 1.0 * avg(ts - left_ts) AS mean_s, max(ts) AS last_ts"
    # how many different ones is counted for those that are shown only: it takes a sort of all ways
    sql = (
        f"WITH pairs AS (\n{_pairs(dialect, values)}\nORDER BY 3 DESC, 1, 2 LIMIT 200\n), people AS (\n"
        "  SELECT w.from_id, w.to_id, count(DISTINCT w.identity_id) AS identities\n"
        f"  FROM (\n{_ways_of_range(dialect)}\n  ) AS w JOIN pairs p ON p.from_id = w.from_id AND p.to_id = w.to_id\n"
        "  GROUP BY w.from_id, w.to_id\n)\n"
        'SELECT a.name AS "From", b.name AS "To", s.ways AS "Ways", i.identities AS "Identities",\n'
        '  s.shortest_s AS "Shortest", s.mean_s AS "Mean", s.last_ts * 1000 AS "Last one"\n'
        "FROM pairs s JOIN people i ON i.from_id = s.from_id AND i.to_id = s.to_id\n"
        "JOIN nodes a ON a.id = s.from_id JOIN nodes b ON b.id = s.to_id ORDER BY 3 DESC, 1, 2"
    )
    text = "Who was seen at one node and then at another: how often, and how long it took"
    panel = rows(dialect, "Ways", text, sql).span(12)
    panel = column(column(panel, "From", link=node_link()), "To", link=node_link())
    panel = column(column(panel, "Shortest", DURATION), "Mean", DURATION)
    return column(panel, "Last one", "dateTimeFromNow")


def _identities(dialect: Dialect) -> Built:
    sql = (
        'SELECT v.id AS "Identity", v.ts * 1000 AS "Seen first", v.end_ts * 1000 AS "Seen last", v.visits AS "Visits",\n'
        '  v.nodes AS "Nodes", v.sightings AS "Sightings"\n'
        f"FROM identities v WHERE {GALLERY} AND v.end_ts >= {dialect.from_s} AND v.ts <= {dialect.to_s}\n"
        "ORDER BY 5 DESC, 4 DESC, 1 LIMIT 200"
    )
    text = "Who was seen in the range, those at most nodes first; visits of all time. Choose one to see its way"
    panel = rows(dialect, "Who", text, sql).span(12)
    link = "/d/evc-reid/?var-identity=${__value.raw:percentencode}&${gallery:queryparam}&${__url_time_range}"
    panel = column(panel, "Identity", link=link)
    return column(column(panel, "Seen first", "dateTimeAsIso"), "Seen last", "dateTimeAsIso")


def _visits(dialect: Dialect) -> Built:
    sql = (
        'SELECT v.ts * 1000 AS "Came", v.identity_id AS "Identity", v.node AS "Node", v.end_ts - v.ts AS "Stayed",\n'
        '  v.sightings AS "Sightings", v.similarity AS "Similarity"\n'
        f"FROM (\n{_visited(dialect)}\n) AS v ORDER BY 1 DESC, 2, 3 LIMIT 500"
    )
    text = "Each visit; similarity to what the identity looked like until then, -1 to 1; none: it begins here"
    panel = column(rows(dialect, "Visits", text, sql), "Came", "dateTimeAsIso")
    panel = column(column(panel, "Node", link=node_link()), "Stayed", DURATION)
    return column(panel, "Similarity", "none", decimals=3)
