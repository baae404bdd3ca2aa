# ruff: noqa: S608  its statements are made of names and numbers of this file
"""The same series in three stores: EVC's wide rows, a narrow table with a row for each value, and Prometheus.

One day of samples at 30 s. Prometheus gets them by its own ``promtool tsdb create-blocks-from openmetrics``, so its
data are compressed and compacted, as those of a past day are.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from bench.child import BenchError, wait_for
from bench.history_data import DAY_S, Scale, fill
from bench.table import Section
from evc.store.database import open_engine, upgrade
from evc.store.retention import size
from evc.store.rollups import roll_up
from evc.store.tables import node_samples
from tests.servers.postgres import PostgresServer
from tests.servers.sshd import free_port

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_SERIES = [column.name for column in node_samples.columns if column.name not in ("ts", "node_id")]
_ROUNDS = 15
_NODE = 3
_STEP_S = 300


def measure(section: Section, server: PostgresServer, folder: Path, nodes: int) -> None:
    """Add bytes and query times of all three to ``section``."""
    folder.mkdir()
    end_ts = int(time.time()) // 3600 * 3600
    with server.database() as name:
        engine = open_engine(server.url(name))
        try:
            upgrade(engine)
            fill(server.url(name), Scale(nodes, 1, 0, 0, 0), end_ts)
            _note_and_roll_up(engine, end_ts)
            _make_narrow(engine)
            values = _write_openmetrics(engine, folder / "samples.txt")
            with _prometheus(folder) as url:
                _sizes(section, engine, folder, nodes, values)
                _queries(section, engine, url, nodes, end_ts)
        finally:
            engine.dispose()


def _note_and_roll_up(engine: Engine, end_ts: int) -> None:
    notes = "INSERT INTO rollup_notes (rollup, ts) SELECT DISTINCT 'node_samples_5m', ts / 300 * 300 FROM node_samples"
    with engine.begin() as connection:
        connection.execute(text(notes))
    roll_up(engine, end_ts + 3600)
    _vacuum(engine)


def _vacuum(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _make_narrow(engine: Engine) -> None:
    values = ", ".join(f"({number}, CAST({name} AS float8))" for number, name in enumerate(_SERIES))
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE narrow (ts bigint, node_id int, metric smallint, value float8,"
                " PRIMARY KEY (node_id, metric, ts))"
            )
        )
        connection.execute(
            text(
                "INSERT INTO narrow SELECT ts, node_id, metric, value FROM node_samples"
                f" CROSS JOIN LATERAL (VALUES {values}) AS one(metric, value) WHERE value IS NOT NULL ORDER BY ts"
            )
        )
    _vacuum(engine)


def _write_openmetrics(engine: Engine, file: Path) -> int:
    """Write every value as Prometheus reads it; returns how many."""
    count = 0
    with file.open("w") as out, engine.connect() as connection:
        for name in _SERIES:
            out.write(f"# TYPE {name} gauge\n")
            query = f"SELECT node_id, ts, {name} FROM node_samples WHERE {name} IS NOT NULL ORDER BY node_id, ts"
            for node_id, ts, value in connection.execute(text(query)):
                out.write(f'{name}{{node="{node_id}"}} {value} {ts}\n')
                count += 1
        out.write("# EOF\n")
    return count


# -- Prometheus --------------------------------------------------------------------------------------------------------


@contextmanager
def _prometheus(folder: Path) -> Iterator[str]:
    """Make blocks of the samples, serve them, yield the URL."""
    data = folder / "data"
    made = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h",
         folder / "samples.txt", data],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise BenchError(f"promtool ended with {made.returncode}: {made.stderr[-300:]}")
    (folder / "prometheus.yml").write_text("{}")
    port = free_port()
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=10y", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for("Prometheus to be ready", lambda: True if _is_ready(url) else None, timeout_s=60)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _is_ready(url: str) -> bool:
    try:
        with _OPENER.open(f"{url}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _ask(url: str, query: str, begin_ts: int, end_ts: int, step_s: int) -> list[Any]:
    asked = urllib.parse.urlencode({"query": query, "start": begin_ts, "end": end_ts, "step": step_s})
    with _OPENER.open(f"{url}/api/v1/query_range?{asked}", timeout=60) as answer:
        found: list[Any] = json.load(answer)["data"]["result"]
    if not found:
        raise BenchError(f"Prometheus knows nothing of {query}")
    return found


# -- figures -----------------------------------------------------------------------------------------------------------


def _sizes(section: Section, engine: Engine, folder: Path, nodes: int, values: int) -> None:
    own = size(engine).tables["node_samples"]
    with engine.connect() as connection:
        narrow = int(connection.execute(text("SELECT pg_total_relation_size('narrow')")).scalar_one())
    blocks = sum(file.stat().st_size for file in (folder / "data").glob("0*/**/*") if file.is_file())
    section.add(f"The same series, {nodes} nodes, a day: EVC's node_samples", own / nodes / 1000, "kB a node")
    section.add("  a row for each value, PostgreSQL", narrow / nodes / 1000, "kB a node", narrow / own)
    section.add("  Prometheus, compacted blocks", blocks / nodes / 1000, "kB a node", blocks / own)
    section.remarks.append(f"the same series: {len(_SERIES)} of each node, {values:,} values")


def _queries(section: Section, engine: Engine, url: str, nodes: int, end_ts: int) -> None:
    begin_ts = end_ts - DAY_S
    cpu, celsius = _SERIES.index("cpu_usage_ratio"), _SERIES.index("temperature_celsius")
    during = f"ts >= {begin_ts} AND ts < {end_ts}"
    one = f"node_id = {_NODE} AND {during}"
    five = f"ts / {_STEP_S} * {_STEP_S}"
    asked: dict[str, dict[str, str]] = {
        "one series of a node, a day in 5 minutes": {
            "own": f"SELECT {five}, avg(cpu_usage_ratio) FROM node_samples WHERE {one} GROUP BY 1",
            "rollup": f"SELECT ts, cpu_usage_ratio_avg FROM node_samples_5m WHERE {one}",
            "narrow": f"SELECT {five}, avg(value) FROM narrow WHERE {one} AND metric = {cpu} GROUP BY 1",
            "prometheus": f'avg_over_time(cpu_usage_ratio{{node="{_NODE}"}}[5m])',
        },
        "all series of a node, a day as it was sampled": {
            "own": f"SELECT * FROM node_samples WHERE {one}",
            "narrow": f"SELECT * FROM narrow WHERE {one}",
            "prometheus": f'{{node="{_NODE}"}}',
        },
        f"the hottest of {nodes} nodes, a day in 5 minutes": {
            "own": f"SELECT {five}, max(temperature_celsius) FROM node_samples WHERE {during} GROUP BY 1",
            "rollup": f"SELECT ts, max(temperature_celsius_max) FROM node_samples_5m WHERE {during} GROUP BY 1",
            "narrow": f"SELECT {five}, max(value) FROM narrow WHERE metric = {celsius} AND {during} GROUP BY 1",
            "prometheus": "max(max_over_time(temperature_celsius[5m]))",
        },
    }  # fmt: skip
    for what, queries in asked.items():
        step_s = 30 if "sampled" in what else _STEP_S
        runs = {store: partial(_run, engine, query) for store, query in queries.items() if store != "prometheus"}
        times = {store: _median_ms(run) for store, run in runs.items()}
        times["prometheus"] = _median_ms(partial(_ask, url, queries["prometheus"], begin_ts, end_ts - 30, step_s))
        section.add(f"{what[0].upper()}{what[1:]}: EVC, samples", times["own"], "ms")
        for store, name in (
            ("rollup", "EVC, rollup"),
            ("narrow", "a row for each value"),
            ("prometheus", "Prometheus"),
        ):
            if store in times:
                section.add(f"  {name}", times[store], "ms", times[store] / times["own"])


def _run(engine: Engine, query: str) -> None:
    with engine.connect() as connection:
        connection.execute(text(query)).all()


def _median_ms(what: Callable[[], object]) -> float:
    times = []
    for _ in range(_ROUNDS + 1):
        begun = time.perf_counter()
        what()
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times[1:])
