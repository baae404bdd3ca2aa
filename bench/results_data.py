"""A month of result lines in PostgreSQL, made by the database itself: half of the nodes look at plants, half at people.

A line about every 50 s and node: a picture of plants has ten lines, a frame with people three. What is in them is
drawn; how many there are and how large they are is as the two models that are shipped print them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, insert, text

from evc.store.partitions import WEEK_S
from evc.store.tables import PARTITIONED, identity_galleries, inference_runs, nodes

DAY_S = 86_400
PICTURE_S, FRAME_S = 480, 150  # a day is a whole number of each
VISIT_S = 600
_KINDS = ("canopy_cover", "exg", "exgr", "gli", "ngrdi", "vari", "mgrvi", "health", "change", "frame")
_DIGEST = "sha256:" + "a" * 64


@dataclass(frozen=True, slots=True)
class Scale:
    """How much there is."""

    nodes: int
    days: int


def fill(engine: Engine, scale: Scale, end_ts: int) -> None:
    """Fill an empty database up to ``end_ts``."""
    begin_ts = end_ts - scale.days * DAY_S
    _nodes(engine, scale, begin_ts)
    with engine.begin() as connection:
        for begin in range(begin_ts // WEEK_S * WEEK_S, end_ts + WEEK_S, WEEK_S):
            for table in PARTITIONED:
                bounds = f"FROM ({begin}) TO ({begin + WEEK_S})"
                made = f"CREATE TABLE {table.name}_{begin} PARTITION OF {table.name} FOR VALUES {bounds}"
                connection.execute(text(made))
    for begin in range(begin_ts, end_ts, DAY_S):
        given = {"begin": begin, "end": begin + DAY_S - 1, "digest": _DIGEST, "kinds": list(_KINDS), "origin": begin_ts}
        with engine.begin() as connection:
            for statement in (_PLANTS, _PEOPLE, *_ROLLUPS):
                connection.execute(text(statement), given)
    with engine.begin() as connection:
        connection.execute(text(_VISITS), {"begin": begin_ts, "end": end_ts - 1})
        connection.execute(text(_IDENTITIES))
        connection.execute(text(_COUNTS))
        connection.execute(text(_NOTES))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))


def _nodes(engine: Engine, scale: Scale, begin_ts: int) -> None:
    rows = [
        {
            "name": f"node-{number}", "host": "192.0.2.1", "port": number, "conn_id": "evc_nodes", "labels": {},
            "groups": [("field" if number % 2 else "gate") + f"-{number % 10}"], "thermal_unit": "millidegree_celsius",
            "latitude": 36 + number / 100, "longitude": 127.0, "status": "up", "registered_ts": begin_ts,
        }
        for number in range(1, scale.nodes + 1)
    ]  # fmt: skip
    runs = [
        {
            "id": number, "run_id": f"{number:064x}", "node_id": number, "digest": _DIGEST, "mode": "continuous",
            "model": "smart_farm" if number % 2 else "reid", "status": "running", "started_ts": begin_ts, "lines": 0,
        }
        for number in range(1, scale.nodes + 1)
    ]  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(nodes), rows)
        connection.execute(insert(inference_runs), runs)
        connection.execute(insert(identity_galleries), [{"name": "reid", "version": 1, "next_id": 10_000}])


_INTO = """
    INSERT INTO inference_results
        (run_id, seq, ts, node_id, model, digest, kind, label, score, value, latency_ms, payload)
"""
_PLANTS = f"""{_INTO}
    SELECT n.id, (p.ts - :origin) / {PICTURE_S} * 10 + k.place - 1, p.ts, n.id, 'smart_farm', :digest,
        CASE WHEN k.place = 10 AND p.ts % 97 = 0 THEN 'error' ELSE k.kind END,
        CASE WHEN k.place = 8 THEN CASE WHEN random() < 0.02 THEN 'discoloured' ELSE 'green' END END, NULL,
        CASE WHEN k.place = 9 THEN random() * 0.05 WHEN k.place < 9 THEN random() END,
        CASE WHEN k.place = 10 THEN 15 + 40 * random() END,
        CASE WHEN k.place = 8
            THEN json_build_object('yellow_ratio', random() / 5, 'brown_ratio', random() / 9, 'saturation', 0.5)
            ELSE json_build_object('std', 0.05, 'frame', (p.ts - :origin) / {PICTURE_S}) END
    FROM generate_series(CAST(:begin AS bigint), :end, {PICTURE_S}) AS p(ts)
    CROSS JOIN nodes n CROSS JOIN unnest(CAST(:kinds AS text[])) WITH ORDINALITY AS k(kind, place)
    WHERE n.id % 2 = 1
"""  # noqa: S608
_PEOPLE = f"""{_INTO}
    SELECT n.id, (p.ts - :origin) / {FRAME_S} * 3 + k, p.ts, n.id, 'reid', :digest,
        CASE WHEN k > 0 THEN 'person' WHEN p.ts % 89 = 0 THEN 'error' ELSE 'frame' END,
        CASE WHEN k > 0 THEN CAST(p.ts / {VISIT_S} AS text) END, CASE WHEN k > 0 THEN 0.5 + random() / 2 END, NULL,
        60 + 90 * random(), CASE WHEN k > 0
            THEN json_build_object('box', json_build_array(1, 2, 3, 4), 'describer', 'stripes-1',
                'embedding', CASE WHEN p.ts / {FRAME_S} % 5 = 0 THEN repeat(md5(random()::text), 16) END)
            ELSE json_build_object('frame', (p.ts - :origin) / {FRAME_S}, 'people', 2) END
    FROM generate_series(CAST(:begin AS bigint), :end, {FRAME_S}) AS p(ts)
    CROSS JOIN nodes n CROSS JOIN generate_series(0, 2) AS k
    WHERE n.id % 2 = 0
"""  # noqa: S608
_VISITS = f"""
    WITH drawn AS MATERIALIZED (
        SELECT n.id AS node_id, p.ts, 1 + CAST(random() * 5000 AS int) AS identity_id
        FROM generate_series(CAST(:begin AS bigint), :end, {VISIT_S}) AS p(ts) CROSS JOIN nodes n WHERE n.id % 2 = 0
    ), ordered AS (
        SELECT *, lag(node_id) OVER way AS from_node_id, lag(ts + 240) OVER way AS left_ts
        FROM drawn WINDOW way AS (PARTITION BY identity_id ORDER BY ts, node_id)
    )
    INSERT INTO identity_visits
        (gallery, run_id, track, identity_id, node_id, ts, end_ts, sightings, similarity, from_node_id, left_ts)
    SELECT 'reid', node_id, CAST(ts / {VISIT_S} AS text), identity_id, node_id, ts, ts + 240, 8,
        CASE WHEN random() > 0.03 THEN random() END,
        CASE WHEN from_node_id <> node_id THEN from_node_id END, CASE WHEN from_node_id <> node_id THEN left_ts END
    FROM ordered ORDER BY ts, node_id
"""  # noqa: S608
_IDENTITIES = """
    INSERT INTO identities (gallery, id, describer, ts, end_ts, visits, nodes, sightings, total)
    SELECT 'reid', identity_id, 'stripes-1', min(ts), max(end_ts), count(*), count(DISTINCT node_id), sum(sightings), ''
    FROM identity_visits GROUP BY identity_id
"""
_COUNTS = "UPDATE inference_runs r SET lines = (SELECT max(seq) + 1 FROM inference_results i WHERE i.run_id = r.id)"
_NOTES = """
    INSERT INTO rollup_notes (rollup, ts)
    SELECT DISTINCT 'inference_results_1h', ts - ts % 3600 FROM inference_results
"""
_ROLLUPS = tuple(
    f"""
    INSERT INTO node_samples_{name} (ts, node_id, samples, up_ratio, temperature_celsius_max, throttled_ratio)
    SELECT t.ts, n.id, {bucket_s // 30}, 1, 45 + 20 * random(), 0
    FROM generate_series(CAST(:begin AS bigint) / {bucket_s} * {bucket_s}, :end, {bucket_s}) AS t(ts) CROSS JOIN nodes n
    """  # noqa: S608
    for name, bucket_s in (("5m", 300), ("1h", 3600))
)
