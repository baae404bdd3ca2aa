"""The rollups of samples and of result lines over all of the history at once, in plain SQL."""

from __future__ import annotations

from sqlalchemy import Connection, text

from evc.store.tables import LATENCIES_MS, ROLLED_UP, ROLLED_UP_TOTALS, latency_columns

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


def roll_up_results(connection: Connection) -> None:
    """Fill the rollups of result lines; of each run here some line is of kind frame, or none has a latency."""
    hour = "ts / 3600 * 3600"
    connection.execute(
        text(
            "INSERT INTO inference_results_1h (ts, run_id, node_id, model, kind, lines, last_seq, value_count, value_sum,\n"
            f"  value_min, value_max) SELECT {hour}, run_id, node_id, model, kind, count(*), max(seq), count(value),\n"
            "  sum(value), min(value), max(value) FROM inference_results GROUP BY 1, 2, 3, 4, 5"
        )
    )
    lows = (-1, *LATENCIES_MS)
    highs = (*LATENCIES_MS, 1e9)
    classes = [
        f"sum(CASE WHEN kind = 'frame' AND latency_ms > {low} AND latency_ms <= {high} THEN 1 END)"
        for low, high in zip(lows, highs, strict=True)
    ]
    for name, seconds in (("inference_runs_5m", 300), ("inference_runs_1h", 3600)):
        connection.execute(
            text(
                f"INSERT INTO {name} (ts, run_id, node_id, model, digest, lines, errors, frames, {', '.join(latency_columns())})\n"
                f"SELECT ts / {seconds} * {seconds}, run_id, node_id, model, digest, count(*),\n"
                "  sum(CASE WHEN kind IN ('error', 'malformed') THEN 1 ELSE 0 END),\n"
                f"  sum(CASE WHEN kind = 'frame' THEN 1 ELSE 0 END), {', '.join(classes)} FROM inference_results GROUP BY 1, 2, 3, 4, 5"
            )
        )
