"""The rollups of samples: those of the store where it has them, else the same as agreed, for these tests alone."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Connection, Float, Index, Integer, MetaData, Table, text

from evc.store.tables import metadata

ROLLED = (
    "sweep_duration_s", "cpu_usage_ratio", "cpu_iowait_ratio", "cpu_steal_ratio", "load1", "memory_available_bytes",
    "swap_free_bytes", "storage_used_bytes", "storage_available_bytes", "network_receive_bytes_per_s",
    "network_transmit_bytes_per_s", "temperature_celsius", "gpu_usage_ratio", "pressure_cpu_ratio",
    "pressure_memory_ratio", "pressure_io_ratio",
)  # fmt: skip
TOTALS = ("memory_total_bytes", "swap_total_bytes", "storage_total_bytes")
SECONDS = {"node_samples_5m": 300, "node_samples_1h": 3600}


def make_missing(connection: Connection) -> None:
    """Create the tables where the store has none."""
    missing = [name for name in SECONDS if name not in metadata.tables]
    own = MetaData()
    for name in missing:
        columns = [Column(f"{column}_{part}", Float) for column in ROLLED for part in ("min", "avg", "max")]
        table = Table(
            name, own, Column("ts", BigInteger, primary_key=True), Column("node_id", Integer, primary_key=True),
            Column("samples", Integer, nullable=False), Column("up_ratio", Float, nullable=False), *columns,
            *(Column(total, BigInteger) for total in TOTALS), Column("uptime_s_min", Float),
            Column("throttled_ratio", Float),
        )  # fmt: skip
        Index(f"ix_{name}_node_id_ts", table.c.node_id, table.c.ts)
    own.create_all(connection)


def roll_up(connection: Connection, name: str) -> None:
    """Fill a rollup from the samples."""
    seconds = SECONDS[name]
    parts = [f"{function}({column}) AS {column}_{function}" for column in ROLLED for function in ("min", "avg", "max")]
    values = [
        "count(*) AS samples", "avg(1.0 * up) AS up_ratio", *parts, *(f"max({total}) AS {total}" for total in TOTALS),
        "min(uptime_s) AS uptime_s_min", "avg(1.0 * throttled) AS throttled_ratio",
    ]  # fmt: skip
    names = [value.rpartition(" AS ")[2] for value in values]
    connection.execute(
        text(
            f"INSERT INTO {name} (ts, node_id, {', '.join(names)})\n"
            f"SELECT ts / {seconds} * {seconds}, node_id, {', '.join(values)} FROM node_samples GROUP BY 1, 2"
        )
    )
