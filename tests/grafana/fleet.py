"""A fleet with a past: ninety days of rollups, two hours of samples, and everything else that a dashboard may show.

Four nodes. ``cam-1`` is well. ``cam-2`` is hot, throttled and its disk fills. ``hill`` is down since 20 minutes. ``new``
was never seen. Between 60 and 40 minutes before the end nobody swept: a gap.
"""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, insert, text

from evc.store import tables
from evc.store.tables import ROLLED_UP, ROLLED_UP_TOTALS
from tests.grafana.macros import Range
from tests.grafana.rollups import SECONDS, roll_up, roll_up_results

END = 1_760_000_400 // 3600 * 3600 + 1800
SHORT = Range(END - 7200, END)
WEEK = Range(END - 7 * 86400, END)
LONG = Range(END - 90 * 86400, END)
GAP = Range(END - 3600, END - 2400)
EMPTY = Range(END - 400 * 86400, END - 399 * 86400)

CAM_1, CAM_2, HILL, NEW = 1, 2, 3, 4
DIGESTS = [f"sha256:{letter * 64}" for letter in "ab"]
GB = 1_000_000_000


def fill(connection: Connection) -> None:
    """Fill an empty database."""
    connection.execute(insert(tables.nodes), _nodes())
    connection.execute(
        insert(tables.node_samples), [_sample(node, ts) for ts in _ticks() for node in (CAM_1, CAM_2, HILL)]
    )
    for name in SECONDS:
        roll_up(connection, name)
        _older_rollups(connection, name)
    _details(connection)
    _events(connection)
    _sweeps(connection)
    _models(connection)
    _rollouts(connection)
    _inference(connection)
    roll_up_results(connection)
    _identities(connection)


def _nodes() -> list[dict[str, Any]]:
    common: dict[str, Any] = {
        "port": 22, "conn_id": "evc_nodes", "labels": {}, "thermal_unit": "millidegree_celsius", "arch": "aarch64",
        "os": "Debian 13", "kernel": "6.12.1", "cpu_count": 4, "memory_bytes": 8 * GB, "engine_version": "28.1",
        "registered_ts": END - 100 * 86400, "address": "Jeju-si", "latitude": None, "longitude": None,
        "board_model": "Raspberry Pi 5", "last_seen_ts": END - 30, "status": "up", "groups": [],
    }  # fmt: skip
    own: list[dict[str, Any]] = [
        {"id": CAM_1, "name": "cam-1", "groups": ["farm", "north"], "latitude": 33.5, "longitude": 126.5},
        {"id": CAM_2, "name": "cam-2", "groups": ["farm"], "latitude": 37.5, "longitude": 127.0},
        {
            "id": HILL,
            "name": "hill",
            "status": "down",
            "last_seen_ts": END - 1200,
            "latitude": 35.1,
            "longitude": 129.0,
        },
        {"id": NEW, "name": "new", "status": "unknown", "last_seen_ts": None},
    ]
    return [{**common, **row, "host": f"10.0.0.{row['id']}"} for row in own]


def _ticks() -> list[int]:
    ticks = range(SHORT.begin, END, 30)
    return [ts for ts in ticks if not GAP.begin <= ts < GAP.end]


def _sample(node: int, ts: int) -> dict[str, Any]:
    wave = (math.sin(ts / 600 + node) + 1) / 2
    key = {column.name: None for column in tables.node_samples.columns} | {"ts": ts, "node_id": node}
    if node == HILL and ts > END - 1200:
        return {**key, "up": 0}
    hot = node == CAM_2
    fills = (ts - SHORT.begin) * 1_000_000 if hot else 0
    return {
        **key, "up": 1, "sweep_duration_s": 0.1 + wave, "uptime_s": 1000.0 + ts - SHORT.begin, "cpu_usage_ratio": 0.2 + 0.7 * wave,
        "cpu_iowait_ratio": 0.05 * wave, "cpu_steal_ratio": 0.0, "load1": 4 * wave, "load5": 3 * wave, "load15": 2 * wave,
        "memory_total_bytes": 8 * GB, "memory_free_bytes": GB, "memory_available_bytes": int(0.3 * GB if hot else 5 * GB),
        "swap_total_bytes": 2 * GB, "swap_free_bytes": GB, "storage_total_bytes": 64 * GB,
        "storage_used_bytes": 50 * GB + fills, "storage_available_bytes": 13 * GB - fills,
        "network_receive_bytes_per_s": 9000 * wave * node, "network_transmit_bytes_per_s": 100_000 * wave * node,
        "temperature_celsius": 86.6 if hot else 50 + 5 * wave, "gpu_usage_ratio": None, "throttled": int(hot),
        "throttled_since_boot": int(hot), "pressure_cpu_ratio": 0.3 * wave, "pressure_memory_ratio": 0.0,
        "pressure_io_ratio": 0.1 * wave,
    }  # fmt: skip


def _older_rollups(connection: Connection, name: str) -> None:
    """Add what retention left of the time before the samples."""
    seconds = SECONDS[name]
    begin = (WEEK if seconds == 300 else LONG).begin // seconds * seconds
    end = min(SHORT.begin - 3600, SHORT.begin // seconds * seconds)
    rows = [_rolled(node, ts) for ts in range(begin, end, seconds) for node in (CAM_1, CAM_2, HILL)]
    columns = list(rows[0])
    values = ", ".join(f":{column}" for column in columns)
    connection.execute(text(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({values})"), rows)


def _rolled(node: int, ts: int) -> dict[str, Any]:
    sample = _sample(node, ts)
    values = {f"{column}_{part}": sample[column] for column in ROLLED_UP for part in ("min", "avg", "max")}
    totals = {total: sample[total] for total in ROLLED_UP_TOTALS}
    key = {"ts": ts, "node_id": node, "samples": 10, "up_ratio": 0.9, "uptime_s_min": sample["uptime_s"]}
    return {**key, **values, **totals, "throttled_ratio": float(sample["throttled"])}


def _details(connection: Connection) -> None:
    readings = [
        {
            "node_id": node,
            "ts": END - 30,
            "boot_id": "b",
            "uptime_s": 5.0,
            "missed_sweeps": 0,
            "counters": {},
            "failing": failing,
        }
        for node, failing in ((CAM_1, {}), (CAM_2, {"storage": "df: no answer"}), (HILL, {"ssh": "no TCP connection"}))
    ]
    connection.execute(insert(tables.node_readings), readings)
    zones, disks, interfaces = [], [], []
    for ts in _ticks():
        for node in (CAM_1, CAM_2):
            key = {"ts": ts, "node_id": node}
            zones += [{**key, "zone": zone, "celsius": 50.0 + place} for place, zone in enumerate(("cpu", "gpu"))]
            rates = {
                "receive_bytes_per_s": 9000.0, "transmit_bytes_per_s": 500.0, "receive_errors_per_s": 0.0,
                "transmit_errors_per_s": None, "receive_drops_per_s": 0.5, "transmit_drops_per_s": 0.0,
            }  # fmt: skip
            interfaces += [{**key, "interface": interface, **rates} for interface in ("eth0", "wlan0")]
            if ts % 300 == 0:
                disks += [{**key, **disk} for disk in _disks(node, ts)]
    connection.execute(insert(tables.temperature_samples), zones)
    connection.execute(insert(tables.network_samples), interfaces)
    connection.execute(insert(tables.storage_samples), disks)


def _disks(node: int, ts: int) -> list[dict[str, Any]]:
    fills = (ts - SHORT.begin) * 1_000_000 if node == CAM_2 else 0
    common = {"filesystem": "ext4", "inodes_total": 4_000_000, "inodes_free": 3_000_000, "read_only": False}
    return [
        {
            **common, "mountpoint": "/", "device": "/dev/mmcblk0p2", "total_bytes": 64 * GB, "used_bytes": 50 * GB + fills,
            "available_bytes": 13 * GB - fills,
        },
        {
            **common, "mountpoint": "/data", "device": "/dev/sda1", "total_bytes": 500 * GB, "used_bytes": GB,
            "available_bytes": 499 * GB, "read_only": True, "inodes_total": None, "inodes_free": None,
        },
    ]  # fmt: skip


def _events(connection: Connection) -> None:
    events = [
        {
            "ts": END - 1140,
            "node_id": HILL,
            "kind": "down",
            "severity": "error",
            "message": "no TCP connection within 8 s",
        },
        {
            "ts": END - 5500,
            "node_id": CAM_2,
            "kind": "host_key_changed",
            "severity": "error",
            "message": "another host key",
        },
        {"ts": END - 5200, "node_id": CAM_2, "kind": "reboot", "severity": "info", "message": "started again"},
        {"ts": END - 5000, "node_id": CAM_2, "kind": "threshold", "severity": "warning", "message": "86.6 °C"},
        {"ts": END - 6000, "node_id": CAM_1, "kind": "reboot", "severity": "info", "message": "it's back"},
    ]
    connection.execute(insert(tables.node_events), events)
    runs = [
        {"ts": END - 5000, "node_id": CAM_2, "probe": "storage", "success": False, "message": "df: no answer"},
        {"ts": END - 4000, "node_id": CAM_1, "probe": "gpu", "success": True, "message": "works again"},
    ]
    connection.execute(insert(tables.probe_runs), runs)


def _sweeps(connection: Connection) -> None:
    connection.execute(
        insert(tables.sweeps),
        [
            {
                "run_id": f"scheduled__{ts}", "shard": 0, "ts": ts, "duration_s": 0.5 + ts % 7, "nodes_up": 2 if ts > END - 1200 else 3,
                "nodes_down": 1 if ts > END - 1200 else 0, "rows_written": 40, "missed_ticks": int(ts % 1500 == 0),
            }
            for ts in _ticks()[::10]
        ],
    )  # fmt: skip


def _models(connection: Connection) -> None:
    connection.execute(
        insert(tables.models),
        [
            {
                "name": name, "description": f"the model {name}", "task": task, "version": "1.1", "spec": {},
                "source_revision": "sha256:" + "c" * 64, "updated_ts": END - 86400,
            }
            for name, task in (("smart_farm", "segmentation"), ("reid", "re-identification"))
        ],
    )  # fmt: skip
    build = {
        "model": "smart_farm", "repository": "smart_farm", "platform": "linux/arm64", "builder_id": CAM_1,
        "source_revision": "sha256:" + "c" * 64, "spec": {},
    }  # fmt: skip
    builds = [
        {**build, "run_id": f"build_model.build manual__{place}", "version": f"1.{place}", "tag": f"1.{place}", "status": status,
         "digest": digest, "size_bytes": 99_000_000 + place, "started_ts": END - 6000 + 600 * place,
         "finished_ts": END - 5900 + 600 * place, "message": None if digest else "COPY failed"}
        for place, (status, digest) in enumerate((("succeeded", DIGESTS[0]), ("failed", None), ("succeeded", DIGESTS[1])))
    ]  # fmt: skip
    connection.execute(insert(tables.builds), builds)
    image = {
        "repository": "smart_farm", "platform": "linux/arm64", "description": "plants", "source_revision": "sha256:" + "c" * 64,
        "first_seen_ts": END - 6000, "last_seen_ts": END - 60, "gone_ts": None,
    }  # fmt: skip
    images = [
        {**image, "tag": f"1.{place}", "digest": digest, "size_bytes": 99_000_000, "created_ts": END - 6000}
        for place, digest in enumerate(DIGESTS)
    ]
    connection.execute(insert(tables.registry_images), images)
    check = {"address": "registry:5000", "checked_ts": END - 60, "answered_ts": END - 60, "message": None}
    connection.execute(insert(tables.registry_checks), [{**check, "certificate_expires_ts": END + 200 * 86400}])
    assignment = {
        "model": "smart_farm", "repository": "smart_farm", "tag": "1.1", "digest": DIGESTS[1], "spec": {}, "rollout_id": 2,
        "ts": END - 3600, "checked_ts": END - 100, "container_id": "c" * 64,
    }  # fmt: skip
    assignments = [
        {**assignment, "node_id": CAM_1, "status": "running", "running_digest": DIGESTS[1], "message": None},
        {
            **assignment,
            "node_id": CAM_2,
            "status": "drifted",
            "running_digest": DIGESTS[0],
            "message": "another image runs",
        },
        {
            **assignment,
            "node_id": HILL,
            "status": "unreachable",
            "running_digest": None,
            "message": "no TCP connection",
        },
    ]
    connection.execute(insert(tables.assignments), assignments)


def _rollouts(connection: Connection) -> None:
    common = {
        "model": "smart_farm", "repository": "smart_farm", "spec": {}, "waves": [1, "100%"], "success_threshold": 90.0,
        "error_threshold": 20.0, "deadline_ts": END + 86400, "command": None,
    }  # fmt: skip
    connection.execute(
        insert(tables.rollouts),
        [
            {**common, "run_id": "deploy_model.open manual__1", "tag": "1.0", "digest": DIGESTS[0], "status": "failed",
             "created_ts": END - 5400, "finished_ts": END - 5000, "message": "1 of 2 nodes failed"},
            {**common, "run_id": "deploy_model.open manual__2", "tag": "1.1", "digest": DIGESTS[1], "status": "running",
             "created_ts": END - 600, "finished_ts": None, "message": None},
        ],
    )  # fmt: skip
    node = {
        "message": None,
        "previous_digest": None,
        "started_ts": END - 500,
        "finished_ts": None,
        "rate_bytes_per_s": None,
    }
    done = {"bytes_total": 99_000_000, "bytes_done": 99_000_000}
    connection.execute(
        insert(tables.rollout_nodes),
        [
            {**node, **done, "rollout_id": 1, "node_id": CAM_1, "wave": 0, "status": "succeeded", "finished_ts": END - 5300,
             "started_ts": END - 5390},
            {**node, **done, "rollout_id": 1, "node_id": CAM_2, "wave": 1, "status": "failed", "finished_ts": END - 5000,
             "started_ts": END - 5300, "message": "the container ended with 1"},
            {**node, **done, "rollout_id": 2, "node_id": CAM_1, "wave": 0, "status": "succeeded", "finished_ts": END - 400},
            {**node, "rollout_id": 2, "node_id": CAM_2, "wave": 1, "status": "pulling", "bytes_total": 99_000_000,
             "bytes_done": 33_000_000, "rate_bytes_per_s": 1_500_000.0},
            {**node, "rollout_id": 2, "node_id": HILL, "wave": 1, "status": "pending", "bytes_total": None, "bytes_done": None,
             "started_ts": None, "message": "does not answer"},
        ],
    )  # fmt: skip
    approval = {"rollout_id": 2, "wave": 1, "failed": ["hill"], "asked_ts": END - 390, "approved_ts": END - 380}
    connection.execute(insert(tables.rollout_approvals), [{**approval, "approved_by": "admin"}])


FARM_RUN, REID_RUN, REID_RUN_2, FAILED_RUN = 1, 2, 3, 4


def _inference(connection: Connection) -> None:
    run = {
        "container_id": "d" * 64, "exit_code": None, "oom_killed": False, "message": None, "finished_ts": None, "cursor": None,
        "malformed": 0, "temperature_max_celsius": 60.0, "cpu_usage_avg_ratio": 0.4, "throttled": 0, "digest": DIGESTS[1],
        "mode": "continuous", "input": "/dev/video0", "status": "running", "lines": 100, "frames": 90, "results": 90,
        "errors": 1, "frames_per_s": 3.5, "latency_p50_ms": 50.0, "latency_p95_ms": 80.0, "latency_p99_ms": 95.0,
    }  # fmt: skip
    runs = [
        {**run, "id": FARM_RUN, "run_id": "farm", "node_id": CAM_1, "model": "smart_farm", "started_ts": END - 7000},
        {**run, "id": REID_RUN, "run_id": "reid-1", "node_id": CAM_1, "model": "reid", "started_ts": END - 7000},
        {**run, "id": REID_RUN_2, "run_id": "reid-2", "node_id": CAM_2, "model": "reid", "started_ts": END - 7000},
        {**run, "id": FAILED_RUN, "run_id": "once", "node_id": CAM_2, "model": "smart_farm", "mode": "once", "status": "failed",
         "exit_code": 1, "message": "no camera", "started_ts": END - 900, "finished_ts": END - 890, "frames": 0,
         "frames_per_s": None, "latency_p50_ms": None, "latency_p95_ms": None, "latency_p99_ms": None},
    ]  # fmt: skip
    connection.execute(insert(tables.inference_runs), runs)
    rows = [_line(FARM_RUN, CAM_1, "smart_farm", *line) for line in enumerate(_farm_lines())]
    for run_id, node in ((REID_RUN, CAM_1), (REID_RUN_2, CAM_2)):
        rows += [_line(run_id, node, "reid", *line) for line in enumerate(_reid_lines())]
    connection.execute(insert(tables.inference_results), rows)


def _line(run_id: int, node: int, model: str, seq: int, line: dict[str, Any]) -> dict[str, Any]:
    empty = {"label": None, "score": None, "value": None, "latency_ms": None, "payload": None}
    return {**empty, "run_id": run_id, "seq": seq, "node_id": node, "model": model, "digest": DIGESTS[1], **line}


def _farm_lines() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for ts in range(END - 7000, END, 60):
        wave = math.sin(ts / 1800)
        lines.append(
            {
                "ts": ts,
                "kind": "canopy_cover",
                "value": 0.5 + 0.3 * wave,
                "payload": {"method": "exg", "threshold": 0.1},
            }
        )
        indices = ("exg", "exgr", "gli", "ngrdi", "vari", "mgrvi")
        lines += [{"ts": ts, "kind": kind, "value": 0.3 + 0.1 * wave, "payload": {"std": 0.05}} for kind in indices]
        shares = {"yellow_ratio": 0.1, "brown_ratio": 0.05, "saturation": 0.5}
        lines.append({"ts": ts, "kind": "health", "label": "green", "value": 0.85, "payload": shares})
        lines.append(
            {"ts": ts, "kind": "change", "value": 0.01 * wave, "payload": {"cover_before": 0.5, "since_s": 60}}
        )
        lines.append({"ts": ts, "kind": "frame", "latency_ms": 20.0 + ts % 50})
    lines.append({"ts": END - 2000, "kind": "change", "value": -0.25, "payload": {"cover_before": 0.5, "since_s": 60}})
    lines.append({"ts": END - 1900, "kind": "health", "label": "discoloured", "value": 0.7, "payload": shares})
    lines.append({"ts": END - 3000, "kind": "error", "label": "dark", "payload": {"message": "too dark"}})
    return sorted(lines, key=lambda line: int(line["ts"]))


def _reid_lines() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for ts in range(END - 7000, END, 20):
        latency_ms = 50.0 + ts % 90
        lines.append(
            {"ts": ts, "kind": "frame", "value": None, "latency_ms": latency_ms, "payload": {"frame": ts, "people": 2}}
        )
        lines += [
            {
                "ts": ts,
                "kind": "person",
                "label": track,
                "score": 0.6,
                "latency_ms": latency_ms,
                "payload": {"box": [1, 2, 3, 4]},
            }
            for track in ("1", "2")
        ]
    return lines


def _identities(connection: Connection) -> None:
    connection.execute(insert(tables.identity_galleries), [{"name": "reid", "version": 3, "next_id": 3}])
    identity = {"gallery": "reid", "describer": "stripes-1", "ts": END - 6500, "end_ts": END - 500, "total": b"0000"}
    connection.execute(
        insert(tables.identities),
        [
            {**identity, "id": 1, "visits": 3, "nodes": 2, "sightings": 60},
            {**identity, "id": 2, "visits": 1, "nodes": 1, "sightings": 20},
        ],
    )
    visit = {"gallery": "reid", "sightings": 20, "similarity": 0.95, "from_node_id": None, "left_ts": None}
    connection.execute(
        insert(tables.identity_visits),
        [
            {**visit, "run_id": REID_RUN, "track": "1", "identity_id": 1, "node_id": CAM_1, "ts": END - 6500, "end_ts": END - 6400,
             "similarity": None},
            {**visit, "run_id": REID_RUN_2, "track": "1", "identity_id": 1, "node_id": CAM_2, "ts": END - 6000, "end_ts": END - 5900,
             "from_node_id": CAM_1, "left_ts": END - 6400},
            {**visit, "run_id": REID_RUN, "track": "2", "identity_id": 1, "node_id": CAM_1, "ts": END - 600, "end_ts": END - 500,
             "from_node_id": CAM_2, "left_ts": END - 5900},
            {**visit, "run_id": REID_RUN_2, "track": "2", "identity_id": 2, "node_id": CAM_2, "ts": END - 3000, "end_ts": END - 2900,
             "similarity": None},
        ],
    )  # fmt: skip
