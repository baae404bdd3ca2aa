"""Figure 6: result lines on their way from an engine's log into the database."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import psycopg
from sqlalchemy import Engine, make_url

from bench.fleet import nodes_of, store
from bench.stage import Stage
from bench.table import Section, at_least
from evc.engine.client import Frame
from evc.engine.logs import LogParser, Place
from evc.inference.ledger import Ledger
from evc.store.database import open_engine
from evc.store.inference import ONCE, RUNNING, Run, open_run

BACKENDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
BEGIN_S = 1_700_000_000
FRAMES_OF_A_READ = 200
GOAL = 10_000

Row = tuple[int, str, str, float, float, str]
_TABLE = "(seq BIGINT PRIMARY KEY, ts BIGINT, kind TEXT, label TEXT, score FLOAT, latency_ms FLOAT, payload TEXT)"


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast lines went in.

    :param cpu_us: of this process, each line
    """

    per_s: float
    cpu_us: float


def measure(stage: Stage) -> Section:
    """Read the same log by EVC, by the least that could be, and line by line, into both databases."""
    count = 20_000 if stage.quick else 200_000
    reads = list(_reads(count))
    section = Section("6. Result lines, from an engine's log into the database")
    for backend, name in BACKENDS.items():
        own = _own(stage, backend, reads, count)
        floor = _floor(stage, backend, reads, count)
        few = max(count // 20, 1000)
        each = _each(stage, backend, reads, few)
        section.add(f"{name}: EVC", own.per_s, "lines/s", goal=at_least(GOAL, own.per_s, " a second"))
        section.add("  CPU of the control side", own.cpu_us, "us a line")
        section.add(f"  floor: json.loads and {_BULK[backend]}", floor.per_s, "lines/s", floor.per_s / own.per_s)
        section.add("    CPU of the control side", floor.cpu_us, "us a line", floor.cpu_us / own.cpu_us)
        section.add("  an INSERT and a COMMIT for each line", each.per_s, "lines/s", each.per_s / own.per_s)
    section.remarks += [
        f"{count:,} lines of 128 bytes, one thread, a transaction for each 5,000 lines",
        "EVC: frames of the log, checks, latencies counted, rows and the place to go on from, each line once",
        "floor: the same lines without frames, checks, counting and place, into a table with a key and no other index",
        "PostgreSQL runs without fsync; SQLite with WAL and synchronous NORMAL, for all three",
    ]
    return section


# -- the log -----------------------------------------------------------------------------------------------------------


def _lines(count: int) -> Iterator[bytes]:
    for index in range(count):
        line = {
            "kind": "person", "label": f"person-{index % 7}", "score": 0.91234, "frame": index // 3,
            "latency_ms": 126.4 + index % 9, "box": [index % 640, 20, 40, 88],
        }  # fmt: skip
        yield json.dumps(line).encode()


def _reads(count: int) -> Iterator[list[Frame]]:
    """Yield what single reads from an engine hold."""
    frames = ((False, b"%s %s\n" % (_stamp(index), line)) for index, line in enumerate(_lines(count)))
    while read := list(islice(frames, FRAMES_OF_A_READ)):
        yield read


def _stamp(index: int) -> bytes:
    second, part = divmod(index, 1000)
    whole = datetime.fromtimestamp(BEGIN_S + second, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{part * 1_000_000:09d}Z".encode()


def _plain(reads: list[list[Frame]], count: int) -> Iterator[bytes]:
    return islice((frame[31:] for read in reads for _, frame in read), count)


# -- ways in -----------------------------------------------------------------------------------------------------------


def _timed(count: int, work: Callable[[], None]) -> Speed:
    begun, cpu = time.perf_counter(), time.process_time()
    work()
    return Speed(count / (time.perf_counter() - begun), (time.process_time() - cpu) / count * 1e6)


def _own(stage: Stage, backend: str, reads: list[list[Frame]], count: int) -> Speed:
    folder = stage.new_folder()
    folder.mkdir()
    with stage.database(backend, folder) as url:
        store(url, stage.sshd, nodes_of(stage.sshd, 1))
        engine = open_engine(url)
        run = _run(engine)
        speed = _timed(count, lambda: _through_ledger(engine, run, reads))
        with engine.connect() as connection:
            kept = connection.exec_driver_sql("SELECT count(*) FROM inference_results").scalar()
        engine.dispose()
    assert kept == count
    return speed


def _run(engine: Engine) -> Run:
    with engine.begin() as connection:
        given = {
            "run_id": "bench", "node_id": 1, "model": "reid", "digest": "sha256:" + "0" * 64, "mode": ONCE,
            "status": RUNNING, "started_ts": BEGIN_S,
        }  # fmt: skip
        return open_run(connection, given)


def _through_ledger(engine: Engine, run: Run, reads: list[list[Frame]]) -> None:
    parser, ledger = LogParser(), Ledger(engine, run, frozenset({"person"}), logging.getLogger("bench"))
    for read in reads:
        lines = parser.feed(read)
        ledger.take(lines, Place(lines[-1].ts_ns, 1))
        if ledger.is_full:
            ledger.store()
    ledger.store()


_BULK = {"sqlite": "executemany", "postgresql": "COPY"}


def _row(seq: int, line: bytes) -> tuple[Any, ...]:
    said = json.loads(line)
    ts, kind, label = BEGIN_S, said.pop("kind"), said.pop("label")
    return (seq, ts, kind, label, said.pop("score"), said.pop("latency_ms"), json.dumps(said))


def _floor(stage: Stage, backend: str, reads: list[list[Frame]], count: int) -> Speed:
    rows = (_row(seq, line) for seq, line in enumerate(_plain(reads, count)))
    return _directly(stage, backend, count, rows, each=False)


def _each(stage: Stage, backend: str, reads: list[list[Frame]], count: int) -> Speed:
    rows = (_row(seq, line) for seq, line in enumerate(_plain(reads, count)))
    return _directly(stage, backend, count, rows, each=True)


def _directly(stage: Stage, backend: str, count: int, rows: Iterator[tuple[Any, ...]], *, each: bool) -> Speed:
    folder = stage.new_folder()
    folder.mkdir()
    with stage.database(backend, folder) as url:
        if backend == "sqlite":
            return _timed(count, lambda: _sqlite(str(folder / "plain.db"), rows, each=each))
        return _timed(count, lambda: _postgresql(url, rows, each=each))


def _sqlite(path: str, rows: Iterator[tuple[Any, ...]], *, each: bool) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
    connection.execute(f"CREATE TABLE plain {_TABLE}")
    insert = "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)"
    if each:
        for row in rows:
            connection.execute(insert, row)
            connection.commit()
    else:
        while batch := list(islice(rows, 5_000)):
            connection.executemany(insert, batch)
            connection.commit()
    connection.close()


def _postgresql(url: str, rows: Iterator[tuple[Any, ...]], *, each: bool) -> None:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        connection.execute(f"CREATE TABLE plain {_TABLE}")
        connection.commit()
        if each:
            for row in rows:
                connection.execute("INSERT INTO plain VALUES (%s, %s, %s, %s, %s, %s, %s)", row)
                connection.commit()
            return
        while batch := list(islice(rows, 5_000)):
            with connection.cursor().copy("COPY plain FROM STDIN") as copy:
                for row in batch:
                    copy.write_row(row)
            connection.commit()
