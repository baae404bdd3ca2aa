"""The tables of the metrics database, for SQLite and PostgreSQL alike.

Time is ``ts``: unix seconds, UTC. Absent is NULL, never 0. Every name carries its unit.

A change here needs a new file in ``migrations/versions``; a test compares what those make with what stands here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    event,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


# Without a rowid SQLite keeps the rows in their key: a quarter less disk for tables that grow by the minute.
_KEYED: dict[str, Any] = {"sqlite_with_rowid": False}
# In partitions by time, dropped whole, where the database can: see partitions.py.
_BY_TIME: dict[str, Any] = {**_KEYED, "postgresql_partition_by": "RANGE (ts)"}
# Rows that change at every sweep: with space left in their page PostgreSQL changes them without touching an index.
_CHANGING: dict[str, Any] = {"postgresql_with": {"fillfactor": 50}}


RUN_KEY = String(752)
"""A DAG's id, ``.``, a task's id, a space, a run's id: Airflow allows 250 characters for each."""


def _ts() -> Column[int]:
    return Column("ts", BigInteger, primary_key=True, autoincrement=False)


def _sequence() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _node_id() -> Column[int]:
    return Column("node_id", Integer, ForeignKey("nodes.id"), primary_key=True, autoincrement=False)


def _sampled_node_id() -> Column[int]:
    # No foreign key: it doubled what a sweep costs PostgreSQL. A row of nodes is never deleted, its id is never given
    # twice, and the writer leaves out rows of ids that are not there.
    return Column("node_id", Integer, primary_key=True, autoincrement=False)


nodes = Table(
    "nodes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False),
    Column("host", String(253), nullable=False),
    Column("port", Integer, nullable=False),
    Column("user", String(32)),
    Column("conn_id", String(250), nullable=False),
    Column("jump_node", String(63)),
    Column("host_key", Text),
    Column("groups", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("thermal_unit", String(20), nullable=False),
    Column("address", Text),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("location_source", String(20)),  # cache is not one: the source is who first answered
    Column("arch", String(32)),
    Column("os", Text),
    Column("kernel", Text),
    Column("board_model", Text),
    Column("cpu_count", Integer),
    Column("memory_bytes", BigInteger),
    Column("engine_version", Text),
    Column("status", String(16), nullable=False),
    Column("registered_ts", BigInteger, nullable=False),
    Column("last_seen_ts", BigInteger),
    Column("removed_ts", BigInteger),
    sqlite_autoincrement=True,  # an id is never given twice: samples outlive their node
    **_CHANGING,
)
# removed nodes keep their row and history, so a name or an address is taken only by a node that is not removed
Index(
    "uq_nodes_name",
    nodes.c.name,
    unique=True,
    sqlite_where=text("removed_ts IS NULL"),
    postgresql_where=text("removed_ts IS NULL"),
)
Index(
    "uq_nodes_address",
    nodes.c.host,
    nodes.c.port,
    text("coalesce(jump_node, '')"),
    unique=True,
    sqlite_where=text("removed_ts IS NULL"),
    postgresql_where=text("removed_ts IS NULL"),
)

node_samples = Table(
    "node_samples",
    metadata,
    _ts(),
    _sampled_node_id(),
    Column("up", SmallInteger, nullable=False),
    Column("sweep_duration_s", Float),
    Column("uptime_s", Float),
    Column("cpu_usage_ratio", Float),
    Column("cpu_iowait_ratio", Float),
    Column("cpu_steal_ratio", Float),
    Column("load1", Float),
    Column("load5", Float),
    Column("load15", Float),
    Column("memory_total_bytes", BigInteger),
    Column("memory_free_bytes", BigInteger),
    Column("memory_available_bytes", BigInteger),
    Column("swap_total_bytes", BigInteger),
    Column("swap_free_bytes", BigInteger),
    Column("storage_total_bytes", BigInteger),
    Column("storage_used_bytes", BigInteger),
    Column("storage_available_bytes", BigInteger),
    Column("network_receive_bytes_per_s", Float),
    Column("network_transmit_bytes_per_s", Float),
    Column("temperature_celsius", Float),
    Column("gpu_usage_ratio", Float),
    Column("throttled", SmallInteger),  # 1 now, 0 not now
    Column("throttled_since_boot", SmallInteger),
    Column("pressure_cpu_ratio", Float),  # share of the time in which some task waited
    Column("pressure_memory_ratio", Float),
    Column("pressure_io_ratio", Float),
    **_BY_TIME,
)

temperature_samples = Table(
    "temperature_samples",
    metadata,
    _ts(),
    _sampled_node_id(),
    Column("zone", String(64), primary_key=True),
    Column("celsius", Float, nullable=False),
    **_BY_TIME,
)

storage_samples = Table(
    "storage_samples",
    metadata,
    _ts(),
    _sampled_node_id(),
    Column("mountpoint", String(255), primary_key=True),
    Column("device", Text, nullable=False),
    Column("filesystem", String(32)),
    Column("total_bytes", BigInteger),
    Column("used_bytes", BigInteger),
    Column("available_bytes", BigInteger),
    Column("inodes_total", BigInteger),
    Column("inodes_free", BigInteger),
    Column("read_only", Boolean),
    **_BY_TIME,
)

network_samples = Table(
    "network_samples",
    metadata,
    _ts(),
    _sampled_node_id(),
    Column("interface", String(64), primary_key=True),
    Column("receive_bytes_per_s", Float),
    Column("transmit_bytes_per_s", Float),
    Column("receive_errors_per_s", Float),
    Column("transmit_errors_per_s", Float),
    Column("receive_drops_per_s", Float),
    Column("transmit_drops_per_s", Float),
    **_BY_TIME,
)

SAMPLED = (node_samples, temperature_samples, storage_samples, network_samples)
"""Tables of what sweeps found: a row a node and sweep, or one for each of its parts."""
for _table in SAMPLED:
    # One node over time. Of these two the index holds the values too: a node's rows lie on as many pages as there were
    # sweeps, and no rollup has them.
    _read = _table in (temperature_samples, network_samples)
    _values = [column for column in _table.columns if _read and column.name not in ("ts", "node_id")]
    Index(f"ix_{_table.name}_node_id_ts", _table.c.node_id, _table.c.ts, *_values)

probe_runs = Table(
    "probe_runs",
    metadata,
    _ts(),
    _node_id(),
    Column("probe", String(32), primary_key=True),
    Column("success", Boolean, nullable=False),
    Column("message", Text, nullable=False),
)

node_events = Table(
    "node_events",
    metadata,
    _ts(),
    _node_id(),
    Column("kind", String(32), primary_key=True),
    Column("severity", String(8), nullable=False),  # info, warning, error
    Column("message", Text, nullable=False),
)
Index("ix_node_events_node_id_ts", node_events.c.node_id, node_events.c.ts)

event_notices = Table(
    "event_notices",
    metadata,
    _ts(),  # these three are the event's
    _node_id(),
    Column("kind", String(32), primary_key=True),
    Column("claimed_ts", BigInteger, nullable=False),  # a task began to tell people of it
    Column("sent_ts", BigInteger),  # and did; NULL: it is at it, or it was killed: nobody sends it again
)

node_anomalies = Table(
    "node_anomalies",
    metadata,
    _node_id(),
    Column("what", String(32), primary_key=True),  # cpu, memory, ...: see evc.anomalies.watched
    Column("ts", BigInteger, primary_key=True, autoincrement=False),  # begin of the bucket in which it was noticed
    Column("end_ts", BigInteger),  # NULL: it goes on
    Column("value", Float, nullable=False),
    Column("score", Float, nullable=False),  # usual half ranges off the middle
    Column("message", Text, nullable=False),
)
Index(
    "uq_node_anomalies_open",
    node_anomalies.c.node_id,
    node_anomalies.c.what,
    unique=True,
    sqlite_where=text("end_ts IS NULL"),
    postgresql_where=text("end_ts IS NULL"),
)

node_readings = Table(
    "node_readings",
    metadata,
    Column("node_id", Integer, ForeignKey("nodes.id"), primary_key=True, autoincrement=False),
    Column("ts", BigInteger, nullable=False),
    Column("boot_id", String(64)),
    Column("uptime_s", Float),
    Column("missed_sweeps", Integer, nullable=False),
    Column("counters", JSON, nullable=False),  # by probe: what its next reading needs of the last one
    Column("failing", JSON, nullable=False),  # by probe that failed at its last reading: the message
    **_CHANGING,
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("run_id", RUN_KEY, primary_key=True),  # of a scenario: its DAG's id, a space, the run's id
    Column("shard", Integer, primary_key=True, autoincrement=False),
    _ts(),
    Column("duration_s", Float, nullable=False),
    Column("nodes_up", Integer, nullable=False),
    Column("nodes_down", Integer, nullable=False),
    Column("rows_written", Integer, nullable=False),
    Column("missed_ticks", Integer, nullable=False),
)
# the values too: charts read every sweep of their range, and never the row
Index("ix_sweeps_ts", *(column for column in sweeps.columns if column.name not in ("run_id", "shard")))

# -- rollups of node_samples -------------------------------------------------------------------------------------------

ROLLED_UP = (
    "sweep_duration_s",
    "cpu_usage_ratio",
    "cpu_iowait_ratio",
    "cpu_steal_ratio",
    "load1",
    "memory_available_bytes",
    "swap_free_bytes",
    "storage_used_bytes",
    "storage_available_bytes",
    "network_receive_bytes_per_s",
    "network_transmit_bytes_per_s",
    "temperature_celsius",
    "gpu_usage_ratio",
    "pressure_cpu_ratio",
    "pressure_memory_ratio",
    "pressure_io_ratio",
)
"""Columns of node_samples of which a rollup has least, mean and greatest."""
ROLLED_UP_TOTALS = ("memory_total_bytes", "swap_total_bytes", "storage_total_bytes")
"""Columns of node_samples of which a rollup has the greatest, under the same name."""


FLEET_COLUMNS = (
    "up_ratio",
    "cpu_usage_ratio_avg",
    "network_receive_bytes_per_s_avg",
    "network_transmit_bytes_per_s_avg",
    "temperature_celsius_max",
)
"""Columns of a rollup that are read of all nodes at once, so from an index of their own on PostgreSQL."""
# What an index alone shall answer must be known to be visible to all. PostgreSQL looks into that after a fifth of the
# table is new, which are weeks; here after as many rows as a thousand nodes leave in four hours.
_READ_BY_INDEX: dict[str, Any] = {
    "postgresql_with": {"autovacuum_vacuum_insert_scale_factor": 0, "autovacuum_vacuum_insert_threshold": 50000}
}


def _rollup(name: str) -> Table:
    table = Table(
        name,
        metadata,
        _ts(),  # begin of the bucket
        _sampled_node_id(),
        Column("samples", Integer, nullable=False),  # rows in the bucket
        Column("up_ratio", Float, nullable=False),
        *(Column(f"{column}_{what}", Float) for column in ROLLED_UP for what in ("min", "avg", "max")),
        *(Column(column, BigInteger) for column in ROLLED_UP_TOTALS),
        Column("uptime_s_min", Float),
        Column("throttled_ratio", Float),
        **_KEYED,
        **_READ_BY_INDEX,
    )
    Index(f"ix_{name}_node_id_ts", table.c.node_id, table.c.ts)
    # a tenth of the row: SQLite, which keeps rows in the order of their key and has fewer nodes, does without
    fleet = Index(f"ix_{name}_fleet", table.c.ts, table.c.node_id, postgresql_include=FLEET_COLUMNS)
    fleet.ddl_if(dialect="postgresql")
    return table


node_samples_5m = _rollup("node_samples_5m")
node_samples_1h = _rollup("node_samples_1h")
node_samples_6h = _rollup("node_samples_6h")
node_samples_1d = _rollup("node_samples_1d")
node_samples_7d = _rollup("node_samples_7d")  # a week begins on a Thursday, as those of partitions do

rollup_notes = Table(
    "rollup_notes",
    metadata,
    _sequence(),
    Column("rollup", String(32), nullable=False),  # the table whose bucket is to be made anew
    Column("ts", BigInteger, nullable=False),  # begin of the bucket
    sqlite_autoincrement=True,  # an id is never given twice: who deletes what it has read deletes nothing else
)
Index("ix_rollup_notes_rollup_ts", rollup_notes.c.rollup, rollup_notes.c.ts)

history_marks = Table(
    "history_marks",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("ts", BigInteger, nullable=False),  # rows of that table before it are gone, or about to go
)

geocodes = Table(
    "geocodes",
    metadata,
    Column("address", String(500), primary_key=True),
    Column("latitude", Float, nullable=False),
    Column("longitude", Float, nullable=False),
    Column("source", String(20), nullable=False),  # nominatim or gazetteer
    Column("ts", BigInteger, nullable=False),
)

# -- models ------------------------------------------------------------------------------------------------------------

models = Table(
    "models",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("description", Text, nullable=False),
    Column("task", String(63), nullable=False),
    Column("version", String(128), nullable=False),
    Column("spec", JSON, nullable=False),  # model.yaml as it was read
    Column("source_revision", String(80), nullable=False),
    Column("updated_ts", BigInteger, nullable=False),
)

builds = Table(
    "builds",
    metadata,
    _sequence(),
    Column("run_id", RUN_KEY, nullable=False, unique=True),  # of the DAG run: a retry is the same build
    Column("model", String(63), nullable=False),
    Column("version", String(128), nullable=False),
    Column("repository", String(255), nullable=False),
    Column("tag", String(128), nullable=False),
    Column("platform", String(64), nullable=False),
    Column("builder_id", Integer, ForeignKey("nodes.id"), nullable=False),
    Column("source_revision", String(80), nullable=False),  # sha256:... of what was built, file by file
    Column("spec", JSON, nullable=False),  # model.yaml as it was read: how containers of this digest are made
    Column("status", String(16), nullable=False),  # running, succeeded, unchanged, failed
    Column("digest", String(80)),
    Column("size_bytes", BigInteger),
    Column("started_ts", BigInteger, nullable=False),
    Column("finished_ts", BigInteger),
    Column("message", Text),
    sqlite_autoincrement=True,
)
Index("ix_builds_digest", builds.c.digest)
Index("ix_builds_model_started_ts", builds.c.model, builds.c.started_ts)

registry_images = Table(
    "registry_images",
    metadata,
    Column("repository", String(255), primary_key=True),
    Column("tag", String(128), primary_key=True),
    Column("digest", String(80), primary_key=True),
    Column("size_bytes", BigInteger),  # compressed: what a pull transfers
    Column("platform", String(64)),
    Column("created_ts", BigInteger),
    Column("description", Text),
    Column("source_revision", String(80)),
    Column("first_seen_ts", BigInteger, nullable=False),
    Column("last_seen_ts", BigInteger, nullable=False),
    Column("gone_ts", BigInteger),  # the tag is gone, or leads to another digest
)
Index("ix_registry_images_digest", registry_images.c.digest)

registry_checks = Table(
    "registry_checks",
    metadata,
    Column("address", String(255), primary_key=True),
    Column("checked_ts", BigInteger, nullable=False),
    Column("answered_ts", BigInteger),  # the last time it did
    Column("message", Text),  # why the last look failed; NULL: it did not fail
    Column("certificate_expires_ts", BigInteger),
)

assignments = Table(
    "assignments",
    metadata,
    Column("node_id", Integer, ForeignKey("nodes.id"), primary_key=True, autoincrement=False),
    Column("model", String(63), primary_key=True),
    Column("repository", String(255), nullable=False),
    Column("tag", String(128)),
    Column("digest", String(80), nullable=False),  # desired
    Column("spec", JSON, nullable=False),
    Column("rollout_id", Integer),  # who last asked for it
    Column("ts", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),  # pending, running, drifted, unreachable
    Column("running_digest", String(80)),
    Column("container_id", String(64)),
    Column("checked_ts", BigInteger),
    Column("message", Text),
    **_CHANGING,
)

rollouts = Table(
    "rollouts",
    metadata,
    _sequence(),
    Column("run_id", RUN_KEY, nullable=False, unique=True),  # of the DAG run: a retry is the same roll-out
    Column("model", String(63), nullable=False),
    Column("repository", String(255), nullable=False),
    Column("tag", String(128)),
    Column("digest", String(80), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("layers", JSON),  # by architecture: [digest, compressed bytes, diff_id] of each, lowest first
    Column("waves", JSON, nullable=False),  # as given, e.g. [1, "25%", "100%"]
    Column("success_threshold", Float, nullable=False),  # percent of a wave
    Column("error_threshold", Float, nullable=False),  # percent of a wave
    Column("status", String(16), nullable=False),  # running, succeeded, failed, aborted, rolled_back
    Column("command", String(16)),  # pause, abort: what a person asked for; rollback
    Column("deadline_ts", BigInteger, nullable=False),
    Column("created_ts", BigInteger, nullable=False),
    Column("finished_ts", BigInteger),
    Column("message", Text),
    sqlite_autoincrement=True,
)
# the lock: two roll-outs of one model never interleave
Index(
    "uq_rollouts_unfinished",
    rollouts.c.model,
    unique=True,
    sqlite_where=text("finished_ts IS NULL"),
    postgresql_where=text("finished_ts IS NULL"),
)

rollout_nodes = Table(
    "rollout_nodes",
    metadata,
    Column("rollout_id", Integer, ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
    Column("node_id", Integer, ForeignKey("nodes.id"), primary_key=True, autoincrement=False),
    Column("wave", Integer, nullable=False),  # from 0
    # waiting, preflight, pulling, starting, gate, succeeded, refused, failed, pending, expired, rolled_back, aborted
    Column("status", String(16), nullable=False),
    Column("bytes_total", BigInteger),
    Column("bytes_done", BigInteger),
    Column("rate_bytes_per_s", Float),
    Column("message", Text),
    Column("previous_digest", String(80)),  # NULL: the node had no container of this model
    Column("previous_repository", String(255)),
    Column("previous_spec", JSON),
    Column("container_id", String(64)),
    Column("started_ts", BigInteger),
    Column("finished_ts", BigInteger),
    **_CHANGING,
)
Index("ix_rollout_nodes_node_id", rollout_nodes.c.node_id)

rollout_approvals = Table(
    "rollout_approvals",
    metadata,
    Column("rollout_id", Integer, ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
    Column("wave", Integer, primary_key=True, autoincrement=False),  # from 0: the one that was asked for
    Column("failed", JSON, nullable=False),  # names of nodes that had failed when it was asked, sorted
    Column("asked_ts", BigInteger, nullable=False),
    Column("approved_ts", BigInteger),  # NULL: not yet, or it was rejected
    Column("approved_by", Text),
)

inference_runs = Table(
    "inference_runs",
    metadata,
    _sequence(),
    Column("run_id", RUN_KEY, nullable=False),  # DAG run; container id where the model runs continuously
    Column("node_id", Integer, ForeignKey("nodes.id"), nullable=False),
    Column("model", String(63), nullable=False),
    Column("digest", String(80), nullable=False),
    Column("mode", String(16), nullable=False),  # once, continuous
    Column("input", Text),
    Column("container_id", String(64)),
    # starting, running, unreachable; at the end: succeeded, failed, timeout, cancelled, ended (continuous)
    Column("status", String(16), nullable=False),
    Column("exit_code", Integer),
    Column("oom_killed", Boolean),
    Column("message", Text),
    Column("started_ts", BigInteger, nullable=False),
    Column("finished_ts", BigInteger),
    Column("lines", BigInteger, nullable=False),  # read so far: the next line's seq
    Column("cursor", Text),  # where reading goes on
    Column("frames", BigInteger),
    Column("results", BigInteger),
    Column("errors", BigInteger),
    Column("malformed", BigInteger),
    Column("frames_per_s", Float),
    Column("latency_p50_ms", Float),
    Column("latency_p95_ms", Float),
    Column("latency_p99_ms", Float),
    Column("temperature_max_celsius", Float),
    Column("cpu_usage_avg_ratio", Float),
    Column("throttled", SmallInteger),
    sqlite_autoincrement=True,
    **_CHANGING,
)
Index("uq_inference_runs_run_id_node_id", inference_runs.c.run_id, inference_runs.c.node_id, unique=True)
Index("ix_inference_runs_started_ts", inference_runs.c.started_ts)

scenario_runs = Table(
    "scenario_runs",
    metadata,
    _sequence(),
    Column("run_id", RUN_KEY, nullable=False, unique=True),  # DAG and id of its run: a retry is the same
    Column("scenario", String(63), nullable=False),
    Column("content", Text, nullable=False),  # the file as it was
    Column("model", String(63), nullable=False),
    Column("nodes", JSON, nullable=False),  # names that it took, sorted
    Column("digest", String(80)),  # NULL: what is deployed on each node
    Column("status", String(16), nullable=False),  # running, succeeded, failed
    Column("message", Text),
    Column("started_ts", BigInteger, nullable=False),
    Column("finished_ts", BigInteger),
    sqlite_autoincrement=True,
)
Index("ix_scenario_runs_scenario", scenario_runs.c.scenario, scenario_runs.c.started_ts)

inference_results = Table(
    "inference_results",
    metadata,
    # no foreign keys: see _sampled_node_id
    Column("run_id", Integer, primary_key=True, autoincrement=False),  # inference_runs.id
    Column("seq", BigInteger, primary_key=True, autoincrement=False),  # number of the line in its run, from 0
    # Part of the key for the partitions' sake. That a number is given once is seen to by inference_runs.lines.
    _ts(),
    Column("node_id", Integer, nullable=False),
    Column("model", String(63), nullable=False),
    Column("digest", String(80), nullable=False),
    Column("kind", String(63), nullable=False),  # of the model's result kinds; or malformed
    Column("label", String(255)),
    Column("score", Float),
    Column("value", Float),
    Column("latency_ms", Float),
    Column("payload", JSON),
    **_BY_TIME,
)
Index("ix_inference_results_ts", inference_results.c.ts)
Index("ix_inference_results_kind_ts", inference_results.c.kind, inference_results.c.ts)

PARTITIONED = (*SAMPLED, inference_results)
"""Tables that are in partitions on PostgreSQL."""
REST = "_rest"
"""Ends the name of the partition that takes what no other takes."""
for _table in PARTITIONED:
    _rest: Any = DDL(  # type: ignore[no-untyped-call]
        f"CREATE TABLE {_table.name}{REST} PARTITION OF {_table.name} DEFAULT"
    )
    event.listen(_table, "after_create", _rest.execute_if(dialect="postgresql"))

_RENARD = (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8)  # R10 of ISO 3: each a quarter more than the one before
LATENCIES_MS = (*(round(step * 10**decade, 2) for decade in range(4) for step in _RENARD), 10_000)
"""Upper bounds of the classes in which latencies are counted; one more class takes those above."""


def latency_columns() -> tuple[str, ...]:
    """Return the names of the columns that count latencies, the lowest class first."""
    return (*(f"latency_to_{bound:g}_ms".replace(".", "_") for bound in LATENCIES_MS), "latency_above_ms")


def _of_run() -> tuple[Column[Any], ...]:
    return (
        _ts(),  # begin of the five minutes, or of the hour
        Column("run_id", Integer, primary_key=True, autoincrement=False),  # inference_runs.id
        Column("node_id", Integer, nullable=False),
        Column("model", String(63), nullable=False),
    )


def _runs_rollup(name: str) -> Table:
    return Table(
        name,
        metadata,
        *_of_run(),
        Column("digest", String(80), nullable=False),
        Column("lines", Integer, nullable=False),
        Column("errors", Integer, nullable=False),  # lines of kind error or malformed
        Column("frames", Integer, nullable=False),  # lines of kind frame; where there are none, those with a latency
        # Latencies of the frames; NULL: none. Percentiles of several nodes can be had from counts, not from each one's.
        *(Column(name, Integer) for name in latency_columns()),
        **_KEYED,
    )


inference_runs_5m = _runs_rollup("inference_runs_5m")
inference_runs_1h = _runs_rollup("inference_runs_1h")

inference_results_1h = Table(
    "inference_results_1h",
    metadata,
    *_of_run(),
    Column("kind", String(63), primary_key=True),
    Column("lines", Integer, nullable=False),
    Column("last_seq", BigInteger, nullable=False),  # of the last of them
    Column("value_count", Integer, nullable=False),  # lines that have a value
    Column("value_sum", Float),
    Column("value_min", Float),
    Column("value_max", Float),
    **_KEYED,
)
Index("ix_inference_results_1h_kind_ts", inference_results_1h.c.kind, inference_results_1h.c.ts)

# -- identities --------------------------------------------------------------------------------------------------------

identity_galleries = Table(
    "identity_galleries",
    metadata,
    Column("name", String(63), primary_key=True),
    Column(
        "version", BigInteger, nullable=False
    ),  # goes up with every change: who has read an older one stores nothing
    Column("next_id", Integer, nullable=False),
)

identities = Table(
    "identities",
    metadata,
    Column("gallery", String(63), primary_key=True),
    Column("id", Integer, primary_key=True, autoincrement=False),  # from 1 in each gallery, never given twice
    Column("describer", String(80), nullable=False),  # what made the vectors: those of two are never compared
    Column("ts", BigInteger, nullable=False),  # seen first
    Column("end_ts", BigInteger, nullable=False),  # seen last
    Column("visits", Integer, nullable=False),
    Column("nodes", Integer, nullable=False),  # how many different ones
    Column("sightings", BigInteger, nullable=False),
    Column("total", LargeBinary, nullable=False),  # sum of the vectors of all sightings, float32, little-endian
)
Index("ix_identities_gallery_end_ts", identities.c.gallery, identities.c.end_ts)

identity_visits = Table(
    "identity_visits",
    metadata,
    Column("gallery", String(63), primary_key=True),
    # no foreign keys: see _sampled_node_id
    Column("run_id", Integer, primary_key=True, autoincrement=False),  # inference_runs.id
    Column("track", String(255), primary_key=True),  # label of the lines in inference_results
    Column("identity_id", Integer, nullable=False),
    Column("node_id", Integer, nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("end_ts", BigInteger, nullable=False),
    Column("sightings", BigInteger, nullable=False),
    Column("similarity", Float),  # cosine, -1 to 1; NULL: the identity begins with it
    # where the identity's visit before this one was and when it ended; NULL: there was none, or it was at this node too
    Column("from_node_id", Integer),
    Column("left_ts", BigInteger),
    **_KEYED,
)
Index(
    "ix_identity_visits_gallery_identity_id",
    identity_visits.c.gallery,
    identity_visits.c.identity_id,
    identity_visits.c.ts,
)
Index("ix_identity_visits_gallery_ts", identity_visits.c.gallery, identity_visits.c.ts)

identity_cursors = Table(
    "identity_cursors",
    metadata,
    Column("gallery", String(63), primary_key=True),
    Column("run_id", Integer, primary_key=True, autoincrement=False),  # inference_runs.id
    Column("seq", BigInteger, nullable=False),  # of the last line that was read
    Column("started_ts", BigInteger, nullable=False),  # of the run: a later one is another go of it
)
