"""The rollups of samples over all of the history at once, in plain SQL."""

from __future__ import annotations

from sqlalchemy import Connection, text

from evc.store.tables import ROLLED_UP, ROLLED_UP_TOTALS

SECONDS = {
    "node_samples_5m": 300, "node_samples_1h": 3600, "node_samples_6h": 21_600, "node_samples_1d": 86_400,
    "node_samples_7d": 604_800,
}  # fmt: skip


def roll_up(connection: Connection, name: str) -> None:
    """Fill a rollup from the samples."""
    seconds = SECONDS[name]
    parts = [
        f"{function}({column}) AS {column}_{function}" for column in ROLLED_UP for function in ("min", "avg", "max")
    ]
    values = [
        "count(*) AS samples", "avg(1.0 * up) AS up_ratio", *parts, *(f"max({total}) AS {total}" for total in ROLLED_UP_TOTALS),
        "min(uptime_s) AS uptime_s_min", "avg(1.0 * throttled) AS throttled_ratio",
    ]  # fmt: skip
    names = [value.rpartition(" AS ")[2] for value in values]
    connection.execute(
        text(
            f"INSERT INTO {name} (ts, node_id, {', '.join(names)})\n"
            f"SELECT ts / {seconds} * {seconds}, node_id, {', '.join(values)} FROM node_samples GROUP BY 1, 2"
        )
    )
