"""Runs of sweeps: ticks, the writer, and the spool while the database is away."""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from evc.errors import CredentialsError, DatabaseAway, EvcError, InputError, SchemaMismatch, SpoolError, Stopped
from evc.fleet.nodes import Node
from evc.fleet.ticks import Ticks
from evc.fleet.words import counted
from evc.probes import PROBES
from evc.probes.answer import Answer
from evc.probes.probe import Before, Sample
from evc.ssh.credentials import Credentials, load_credentials
from evc.ssh.pool import Pool
from evc.store.database import embedded_url, open_engine, upgrade
from evc.store.nodes import list_nodes, remove_node, store_node
from evc.store.spool import Spool
from evc.sweep.depot import Depot
from evc.sweep.run import Collection, Job, Report, Shard
from tests.servers.sshd import SshServer, free_port, running_sshd

LOG = logging.getLogger("tests.sweep.run")


class Bench:
    """One metrics database with nodes, and runs against it."""

    def __init__(self, engine: Engine, folder: Path, server: SshServer) -> None:
        self.engine, self.folder, self.server = engine, folder, server
        self.spool = Spool(folder / "spool", 10_000_000)

    def register(self, *nodes: Node) -> None:
        with self.engine.begin() as connection:
            for node in nodes:
                store_node(connection, node, 1_000_000_000)

    def credentials(self, conn_id: str) -> Credentials:
        if conn_id != "evc_nodes":
            raise CredentialsError(f"connection {conn_id}: not defined")
        return load_credentials(conn_id, login=self.server.user, key_file=str(self.server.key_file))

    def collection(self, ticks: Ticks, run_id: str = "run", job: Job | None = None) -> Collection:
        depot = Depot(self.engine, self.spool, self.folder, LOG)
        return Collection(
            job or Job(run_id, ticks),
            depot,
            self.credentials,
            connect_timeout_s=5,
            sweep_timeout_s=5,
            log=LOG,
        )

    def run(self, count: int = 1, interval_s: int = 1, run_id: str = "run") -> Report:
        # half a second ahead at least: on a busy machine a tick that is nearer may be missed
        return asyncio.run(self.collection(Ticks(math.ceil(time.time() + 0.5), interval_s, count), run_id).run())

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]


@pytest.fixture
def bench(tmp_path: Path, sshd: SshServer) -> Iterator[Bench]:
    engine = open_engine(embedded_url(tmp_path) + "?timeout=1")
    upgrade(engine)
    yield Bench(engine, tmp_path, sshd)
    engine.dispose()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold SQLite's write lock, as another process does that hangs in a transaction."""
    connection = sqlite3.connect(folder / "metrics.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_every_tick_is_a_row_of_each_node_at_its_own_second(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    bench.register(bench.server.node("good"), Node("closed", "127.0.0.1", free_port()))
    report = bench.run(count=3, interval_s=2)
    assert (report.sweeps, report.missed_ticks, report.nodes_up, report.nodes_down) == (3, 0, 1, 1)
    assert bench.rows("SELECT node_id, up, count(*) FROM node_samples GROUP BY 1, 2 ORDER BY 1") == [
        (1, 1, 3),
        (2, 0, 3),
    ]
    (first, last), *_ = bench.rows("SELECT min(ts), max(ts) FROM node_samples")
    assert last - first == 4  # type: ignore[operator]
    assert bench.rows("SELECT count(*) FROM node_samples WHERE cpu_usage_ratio IS NOT NULL") == [(2,)]
    assert bench.rows("SELECT name, status FROM nodes ORDER BY id") == [("good", "up"), ("closed", "down")]
    assert bench.rows("SELECT node_id, kind FROM node_events ORDER BY 1, 2") == [
        (1, "host_key_pinned"),
        (1, "up"),
        (2, "down"),
    ]
    assert bench.rows("SELECT count(*), sum(nodes_up), sum(nodes_down) FROM sweeps") == [(3, 3, 3)]
    lines = [record.getMessage() for record in caplog.records]
    assert sum("1 up, 1 down" in line and line.startswith("sweep ") for line in lines) == 3
    assert sum(line.startswith("  down: closed: ") and "Connection refused" in line for line in lines) == 3


def test_rates_are_there_in_the_first_sweep_of_the_next_run(bench: Bench) -> None:
    bench.register(bench.server.node())
    bench.run()
    bench.run(run_id="next")
    assert bench.rows("SELECT cpu_usage_ratio IS NULL FROM node_samples ORDER BY ts") == [(1,), (0,)]


def test_a_run_that_is_told_to_end_does_so_at_once_and_keeps_what_was_swept(bench: Bench) -> None:
    bench.register(bench.server.node())
    collection = bench.collection(Ticks(int(time.time()), 30, 10))

    async def main() -> None:
        running = asyncio.create_task(collection.run())
        while not bench.rows("SELECT 1 FROM sweeps"):  # noqa: ASYNC110  another connection of SQLite tells nobody
            await asyncio.sleep(0.1)
        collection.stop()
        with pytest.raises(Stopped, match="told to end after 1 sweeps of 10"):
            await asyncio.wait_for(running, 10)

    asyncio.run(main())
    assert bench.rows("SELECT count(*) FROM node_samples") == [(1,)]


def test_an_empty_fleet_is_swept_in_no_time(bench: Bench) -> None:
    report = bench.run()
    assert (report.sweeps, report.nodes_up, report.nodes_down) == (1, 0, 0)


def test_ticks_that_are_over_are_counted_and_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.register(bench.server.node())
    late = Ticks(int(time.time()) - 7, 2, 5)
    report = asyncio.run(bench.collection(late).run())
    assert report.sweeps + report.missed_ticks == 5
    assert report.missed_ticks in (3, 4)
    assert bench.rows("SELECT sum(missed_ticks) FROM sweeps") == [(report.missed_ticks,)]
    assert f"{counted(report.missed_ticks, 'tick')} could not be kept" in caplog.text


def test_ticks_that_an_earlier_try_kept_are_neither_kept_again_nor_missed(bench: Bench) -> None:
    bench.register(bench.server.node())
    ticks = Ticks(int(time.time()) - 4, 2, 4)
    job = Job("run", ticks, done=frozenset({ticks.at(0), ticks.at(1), ticks.at(2)}))
    report = asyncio.run(bench.collection(ticks, job=job).run())
    assert (report.sweeps, report.missed_ticks) == (1, 0)
    assert bench.rows("SELECT ts FROM node_samples") == [(ticks.at(3),)]


def test_a_window_that_is_over_counts_all_its_ticks(bench: Bench) -> None:
    report = asyncio.run(bench.collection(Ticks(1_000_000_200, 30, 10)).run())
    assert (report.sweeps, report.missed_ticks) == (0, 10)


def test_the_same_tick_swept_again_doubles_nothing(bench: Bench) -> None:
    bench.register(bench.server.node())
    now = Ticks(int(time.time()), 60, 1)
    for _ in range(2):
        asyncio.run(bench.collection(now).run())
    tables = ("node_samples", "storage_samples", "network_samples", "sweeps", "node_events")
    counts = [bench.rows(f"SELECT count(*), count(DISTINCT ts) FROM {table}") for table in tables]  # noqa: S608
    assert [count[0][1] for count in counts] == [1, 1, 1, 1, 1]
    assert counts[0] == [(1, 1)]
    assert bench.rows("SELECT kind, count(*) FROM node_events GROUP BY 1") == [("host_key_pinned", 1), ("up", 1)]


def test_shards_share_the_nodes_among_them(bench: Bench) -> None:
    bench.register(*(bench.server.node(f"n{n}", host=f"127.0.0.{n + 1}") for n in range(5)))
    nodes = list_nodes_of(bench)
    shares = [Job("r", Ticks(0, 1, 1), Shard(index, 3)).picks(nodes) for index in range(3)]
    assert sorted(node.name for share in shares for node in share) == [f"n{n}" for n in range(5)]
    only = Job("r", Ticks(0, 1, 1), Shard(), frozenset({"n3"})).picks(nodes)
    assert [node.name for node in only] == ["n3"]


def list_nodes_of(bench: Bench) -> list[Node]:
    with bench.engine.connect() as connection:
        return list_nodes(connection)


def test_nodes_registered_and_removed_while_a_run_goes_on(bench: Bench) -> None:
    bench.register(bench.server.node("first"))

    async def main() -> None:
        running = asyncio.create_task(bench.collection(Ticks(int(time.time()) + 1, 2, 4)).run())
        await asyncio.sleep(2.5)
        with bench.engine.begin() as connection:
            remove_node(connection, "first", 1_000_000_000)
            store_node(connection, bench.server.node("second"), 1_000_000_000)
        await running

    asyncio.run(main())
    ((first, _), (second, _)) = bench.rows("SELECT node_id, count(*) FROM node_samples GROUP BY 1 ORDER BY 1")
    assert (first, second) == (1, 2)
    assert bench.rows("SELECT max(node_id) FROM node_samples WHERE ts = (SELECT max(ts) FROM node_samples)") == [(2,)]
    assert bench.rows(
        "SELECT count(*) FROM node_samples WHERE node_id = 1 AND ts = (SELECT max(ts) FROM node_samples)"
    ) == [(0,)]


def test_a_login_at_fault_fails_the_task_after_everything_else_was_swept(bench: Bench) -> None:
    bench.register(bench.server.node("good"), bench.server.node("nologin", host="127.0.0.2", conn_id="gone"))
    with pytest.raises(EvcError, match="connection gone: not defined"):
        bench.run(count=2)
    assert bench.rows("SELECT node_id, up FROM node_samples") == [(1, 1), (1, 1)]
    assert bench.rows("SELECT status FROM nodes ORDER BY id") == [("up",), ("unknown",)]


def test_an_error_of_evc_itself_at_one_node_costs_no_other_node_its_sample(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.register(bench.server.node("odd"), bench.server.node("good", host="127.0.0.1", jump_node="odd"))
    load = PROBES["load"]
    answers = iter([True, False])

    def read(answer: Answer, before: Before | None) -> Sample | None:
        if next(answers):
            raise RuntimeError("a bug")
        return Sample(columns={"load1": 1.0})

    monkeypatch.setattr("evc.sweep.reading.PROBES", {**PROBES, "load": replace(load, read=read)})
    with pytest.raises(EvcError, match=r"(odd|good): error of EVC itself: RuntimeError\('a bug'\)"):
        bench.run()
    assert bench.rows("SELECT up, load1 FROM node_samples") == [(1, 1.0)]


def test_what_is_remembered_in_another_form_is_forgotten(bench: Bench) -> None:
    bench.register(bench.server.node())
    bench.run()
    with bench.engine.begin() as connection:
        connection.execute(text("""UPDATE node_readings SET counters = '{"cpu": [1, 2], "storage": []}'"""))
    bench.run(run_id="next")
    assert bench.rows("SELECT count(*) FROM node_samples WHERE up = 1") == [(2,)]


def test_samples_wait_on_disk_while_the_database_is_locked_and_are_written_after(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.register(bench.server.node())

    async def main() -> Report:
        running = asyncio.create_task(bench.collection(Ticks(int(time.time()) + 1, 2, 5)).run())
        await asyncio.sleep(0.5)
        with locked(bench.folder):
            await asyncio.sleep(4.5)
            assert bench.spool.waiting().batches >= 1
        return await running

    report = asyncio.run(main())
    assert report.sweeps == 5
    assert report.batches_spooled >= 1
    assert bench.spool.waiting().batches == 0
    assert bench.rows("SELECT count(*) FROM node_samples") == [(5,)]
    assert "batches" in caplog.text
    assert "wait in the spool" in caplog.text
    assert "that had waited in the spool" in caplog.text


def test_a_run_that_ends_while_the_database_is_away_fails_and_says_what_waits(bench: Bench) -> None:
    bench.register(bench.server.node())
    with locked(bench.folder), pytest.raises(DatabaseAway, match=r"locked.*2 batches .* wait in the spool"):
        bench.run(count=2)
    assert bench.rows("SELECT count(*) FROM node_samples") == [(0,)]
    bench.run(run_id="next")
    assert bench.rows("SELECT count(*) FROM node_samples") == [(3,)]


def away() -> Engine:
    return open_engine(f"postgresql+psycopg://evc@127.0.0.1:{free_port()}/evc")


def test_a_run_that_begins_while_the_database_is_away_sweeps_the_nodes_last_known(bench: Bench) -> None:
    bench.register(bench.server.node())
    bench.run()
    with pytest.raises(DatabaseAway, match="1 batches .* wait in the spool"):
        Bench(away(), bench.folder, bench.server).run(run_id="next")
    bench.run(run_id="last")
    assert bench.rows("SELECT count(*) FROM node_samples WHERE up = 1") == [(3,)]
    assert bench.rows("SELECT count(*) FROM node_events WHERE kind = 'up'") == [(1,)]


def test_without_any_known_node_the_database_s_own_error_comes_out(bench: Bench) -> None:
    with pytest.raises(DatabaseAway, match="refused"):
        Bench(away(), bench.folder, bench.server).run()


def test_a_key_seen_first_while_the_database_is_away_stays_pinned(bench: Bench, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "own") as server:
        own = Bench(bench.engine, bench.folder, server)
        own.register(server.node())
        first = server.host_key

        async def main() -> None:
            running = asyncio.create_task(own.collection(Ticks(int(time.time()) + 1, 3, 5)).run())
            await asyncio.sleep(0.5)
            with locked(own.folder):
                while own.spool.waiting().batches == 0:  # noqa: ASYNC110  the spool tells nobody
                    await asyncio.sleep(0.1)
                server.stop()
                server.renew_host_key()
                server.start()
                await asyncio.sleep(3.5)
            await running

        asyncio.run(main())
    assert own.rows("SELECT host_key FROM nodes") == [(first,)]
    kinds = [kind for (kind,) in own.rows("SELECT kind FROM node_events ORDER BY kind")]
    assert kinds.count("host_key_pinned") == 1
    assert "host_key_changed" in kinds


def test_a_jump_node_that_is_only_passed_through_is_pinned(bench: Bench) -> None:
    bench.register(bench.server.node("gate"), bench.server.node("inner", jump_node="gate"))
    job = Job("run", Ticks(int(time.time()), 30, 1), names=frozenset({"inner"}))
    asyncio.run(bench.collection(job.ticks, job=job).run())
    key = bench.server.host_key
    assert bench.rows("SELECT name, host_key FROM nodes ORDER BY id") == [("gate", key), ("inner", key)]
    assert bench.rows("SELECT count(*) FROM node_events WHERE kind = 'host_key_pinned'") == [(2,)]
    assert bench.rows("SELECT node_id FROM node_samples") == [(2,)]


def test_a_removed_node_s_connection_is_closed(bench: Bench) -> None:
    bench.register(bench.server.node("first"), bench.server.node("second", host="127.0.0.1", jump_node="first"))

    async def main() -> set[str]:
        collection = bench.collection(Ticks(int(time.time()) + 1, 2, 3))
        kept: list[set[str]] = []
        close = Pool.keep_only

        async def keep_only(pool: Pool, names: set[str]) -> None:
            await close(pool, names)
            kept.append(set(pool._sessions))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Pool, "keep_only", keep_only)
            running = asyncio.create_task(collection.run())
            await asyncio.sleep(2)
            with bench.engine.begin() as connection:
                remove_node(connection, "second", 1_000_000_000)
            await running
        assert kept[0] == {"first", "second"}
        return kept[-1]

    assert asyncio.run(main()) == {"first"}


def test_a_spool_that_can_t_be_used_ends_no_sweep_while_the_database_is_well(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.register(bench.server.node())
    bench.spool.folder.mkdir()
    (bench.spool.folder / ".lock").mkdir()
    assert bench.run(count=2).sweeps == 2
    assert bench.rows("SELECT count(*) FROM node_samples") == [(2,)]
    assert "what waits there stays" in caplog.text


def test_hosts_ini_that_can_t_be_written_ends_no_sweep(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.register(bench.server.node())

    def publish() -> None:
        raise InputError("hosts_ini", "is a folder", "the path of a file")

    depot = Depot(bench.engine, bench.spool, bench.folder, LOG, on_pinned=publish)
    ticks = Ticks(int(time.time()) + 1, 1, 2)
    collection = Collection(
        Job("run", ticks), depot, bench.credentials, connect_timeout_s=5, sweep_timeout_s=5, log=LOG
    )
    assert asyncio.run(collection.run()).sweeps == 2
    assert caplog.text.count("hosts_ini: is a folder") == 1


def test_a_table_that_is_gone_for_a_while_loses_nothing(bench: Bench) -> None:
    bench.register(bench.server.node())

    async def main() -> Report:
        running = asyncio.create_task(bench.collection(Ticks(int(time.time()) + 1, 2, 4)).run())
        await asyncio.sleep(0.5)
        with bench.engine.begin() as connection:
            connection.execute(text("ALTER TABLE node_samples RENAME TO elsewhere"))
        await asyncio.sleep(3)
        with bench.engine.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO node_samples"))
        return await running

    report = asyncio.run(main())
    assert (report.sweeps, report.batches_spooled >= 1) == (4, True)
    assert bench.rows("SELECT count(*) FROM node_samples") == [(4,)]


def test_a_clock_that_is_set_back_ends_the_run(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.register(bench.server.node())
    collection = bench.collection(Ticks(int(time.time()), 2, 5))
    begun = time.time()
    collection._clock = lambda: time.time() - (3600 if time.time() - begun > 3 else 0)
    report = asyncio.run(asyncio.wait_for(collection.run(), 30))
    assert 1 <= report.sweeps < 5
    assert report.sweeps + report.missed_ticks == 5
    assert "the clock was set back" in caplog.text


def test_a_disk_that_is_full_while_the_database_is_away_loses_nothing_that_memory_can_hold(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.register(bench.server.node())
    bench.spool.max_bytes = 1  # as if the disk had no room: the spool takes nothing

    async def main() -> Report:
        running = asyncio.create_task(bench.collection(Ticks(int(time.time()) + 1, 2, 4)).run())
        await asyncio.sleep(0.5)
        with locked(bench.folder):
            await asyncio.sleep(3)
        return await running

    report = asyncio.run(main())
    assert report.batches_spooled >= 1
    assert "are held in memory only" in caplog.text
    assert bench.rows("SELECT count(*) FROM node_samples") == [(4,)]
    with locked(bench.folder), pytest.raises(SpoolError, match="1 sweeps are lost"):
        bench.run(run_id="next")


def test_a_database_of_another_version_stops_the_run_at_once(bench: Bench) -> None:
    with bench.engine.begin() as connection:
        connection.execute(text("UPDATE evc_schema SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="9999"):
        bench.run()
