from __future__ import annotations

import fcntl
import gzip
import logging
import os
import stat
import time
from concurrent.futures import Executor
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from evc.errors import DatabaseAway, DatabaseError, DatabaseReadOnly, SchemaMismatch, SpoolError
from evc.store.database import open_engine, upgrade
from evc.store.spool import Spool, Waiting
from evc.store.writer import Batch, write
from tests.servers.limits import not_root, small_disk
from tests.servers.postgres import running_postgres
from tests.store.batches import TS, drain_into, put_sweeps, sample, store_with_nodes, sweep_batch

MANY = 10_000_000


def batch(number: int) -> Batch:
    return Batch({"node_samples": [sample(number)]}, [{"id": number, "last_seen_ts": TS}])


def filled(folder: Path, count: int) -> Spool:
    spool = Spool(folder / "spool", MANY)
    for number in range(1, count + 1):
        spool.put(batch(number))
    return spool


def files(spool: Spool) -> list[Path]:
    return sorted(path for path in spool.folder.iterdir() if path.name != ".lock")


class Sink:
    """Takes batches, until it is told to raise."""

    def __init__(self, *faults: Exception | None) -> None:
        self.taken: list[Batch] = []
        self.faults = list(faults)

    def __call__(self, given: Batch) -> None:
        fault = self.faults.pop(0) if self.faults else None
        if fault:
            raise fault
        self.taken.append(given)


def test_batches_come_back_in_order_as_they_were(tmp_path: Path) -> None:
    spool, sink = filled(tmp_path, 12), Sink()
    assert spool.drain(sink) == 12
    assert sink.taken == [batch(number) for number in range(1, 13)]
    assert spool.waiting() == Waiting(0, 0, None)
    assert spool.drain(sink) == 0


def test_what_waits_is_counted(tmp_path: Path) -> None:
    before = int(time.time())
    spool = filled(tmp_path, 3)
    waiting = spool.waiting()
    assert (waiting.batches, waiting.bytes) == (3, sum(path.stat().st_size for path in files(spool)))
    assert waiting.oldest_ts is not None
    assert before <= waiting.oldest_ts <= time.time()


def test_nothing_was_ever_put(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", MANY)
    assert spool.waiting() == Waiting(0, 0, None)
    assert spool.drain(Sink()) == 0
    assert not spool.folder.exists()


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        spool = filled(tmp_path, 1)
        spool.drain(Sink(DatabaseAway("gone")))
    finally:
        os.umask(mask)
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in spool.folder.iterdir()} == {0o600}


@pytest.mark.parametrize("fault", [DatabaseAway("gone"), DatabaseReadOnly("a standby")])
def test_draining_stops_where_the_database_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: DatabaseError
) -> None:
    spool, sink = filled(tmp_path, 5), Sink(None, None, fault)
    with caplog.at_level(logging.WARNING):
        assert spool.drain(sink) == 2
    assert caplog.messages == [f"spool {spool.folder}: {fault}; 3 batches wait"]
    assert spool.drain(sink) == 3
    assert sink.taken == [batch(number) for number in range(1, 6)]


def test_another_fault_of_the_database_is_the_caller_s(tmp_path: Path) -> None:
    spool, sink = filled(tmp_path, 2), Sink(SchemaMismatch("of a newer EVC"))
    with pytest.raises(SchemaMismatch):
        spool.drain(sink)
    assert spool.drain(sink) == 2


def test_the_oldest_is_dropped_at_the_bound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    size = filled(tmp_path / "measure", 1).waiting().bytes
    spool = Spool(tmp_path / "spool", 3 * size + size // 2)
    dropped = [spool.put(batch(number)) for number in range(1, 6)]
    assert dropped == [0, 0, 0, 1, 1]
    assert spool.waiting().bytes <= spool.max_bytes
    assert len(caplog.messages) == 2
    assert f"spool {spool.folder}: full ({spool.max_bytes} bytes): dropped the 1 oldest batches, " in caplog.text
    sink = Sink()
    spool.drain(sink)
    assert sink.taken == [batch(3), batch(4), batch(5)]


def test_several_small_ones_make_room_for_a_large_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    large = sweep_batch(list(range(1, 200)))
    alone = Spool(tmp_path / "measure", MANY)
    alone.put(large)
    spool = Spool(tmp_path / "spool", alone.waiting().bytes + 10)
    for number in range(4):
        spool.put(batch(number))
    assert spool.put(large) == 4
    assert "dropped the 4 oldest batches, " in caplog.text
    assert spool.waiting().batches == 1


def test_a_batch_that_never_fits(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 100)
    with pytest.raises(SpoolError, match=r"one batch takes \d+ bytes, the bound is 100$"):
        spool.put(batch(1))


def test_disk_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    large = sweep_batch(list(range(1, 3000)))
    with small_disk(disk, 64 * 1024) as said:
        spool = Spool(disk / "spool", MANY)
        spool.put(batch(1))
        with pytest.raises(SpoolError) as caught:
            spool.put(large)
        assert str(caught.value) == f"spool {spool.folder}: {said}"
        assert spool.waiting().batches == len(files(spool)) == 1, "no half file"
        sink = Sink()
        assert spool.drain(sink) == 1
        assert sink.taken == [batch(1)]


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    spool = Spool(tmp_path / "locked" / "spool", MANY)
    with not_root(), pytest.raises(SpoolError, match=f"^spool {spool.folder}: Permission denied$"):
        spool.put(batch(1))


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("here first")
    spool = Spool(tmp_path / "spool", MANY)
    with pytest.raises(SpoolError, match=f"^spool {tmp_path}/spool: File exists$"):
        spool.put(batch(1))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        gzip.compress(b"{}", mtime=0)[:-6],
        gzip.compress(b"not json", mtime=0),
        gzip.compress(b'{"tables": {}}', mtime=0),
        gzip.compress(b"[]", mtime=0),
        gzip.compress(b"\xff\xfe", mtime=0),
    ],
)
def test_a_corrupt_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    spool = filled(tmp_path, 3)
    broken = files(spool)[1]
    broken.write_bytes(content)
    sink = Sink()
    assert spool.drain(sink) == 2
    assert sink.taken == [batch(1), batch(3)]
    assert [path.name for path in files(spool)] == [broken.name + ".bad"]
    assert f"set aside {broken.name}.bad: " in caplog.text
    assert spool.waiting() == Waiting(0, 0, None)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"tables": {}, "nodes": ' + '{"a":' * 100_000,
        '{"tables": [], "nodes": []}',
        '{"tables": {"node_samples": [[]]}, "nodes": []}',
        '{"tables": {"node_samples": [1]}, "nodes": []}',
        '{"tables": {"node_samples": ["ts"]}, "nodes": []}',
        '{"tables": {"node_samples": [{"ts": Infinity, "node_id": 1}]}, "nodes": []}',
        '{"tables": {"probe_runs": [{"ts": 1, "node_id": 1, "probe": [], "message": {}}]}, "nodes": []}',
        '{"tables": {}, "nodes": {"a": 1}}',
        '{"tables": {}, "nodes": [7]}',
        '{"tables": {}, "nodes": [{"id": {}, "status": "up"}]}',
        '{"tables": {}, "nodes": [{"id": 1, "facts": []}]}',
        '{"tables": null, "nodes": null}',
    ],
)
def test_json_of_another_shape_does_not_block_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, engine: Engine, content: str
) -> None:
    store_with_nodes(engine, 3)
    spool = filled(tmp_path, 3)
    broken = files(spool)[1]
    broken.write_bytes(gzip.compress(content.encode()))
    assert spool.drain(lambda given: write(engine, given)) == 2
    assert [path.name for path in files(spool)] == [broken.name + ".bad"]
    assert f"set aside {broken.name}.bad: " in caplog.text


def test_what_is_set_aside_makes_room_first(tmp_path: Path) -> None:
    size = filled(tmp_path / "measure", 1).waiting().bytes
    spool = Spool(tmp_path / "spool", 2 * size + size // 2)
    for number in (1, 2):
        spool.put(batch(number))
    files(spool)[0].rename(str(files(spool)[0]) + ".bad")
    assert spool.put(batch(3)) == 0
    sink = Sink()
    assert spool.drain(sink) == 2
    assert sink.taken == [batch(2), batch(3)]


def test_a_batch_that_the_database_cannot_take_does_not_block_the_rest(tmp_path: Path, engine: Engine) -> None:
    store_with_nodes(engine, 3)
    spool = Spool(tmp_path / "spool", MANY)
    spool.put(batch(1))
    spool.put(Batch({"node_samples": [{"ts": TS, "node_id": 2, "up": 1, "a_column_of_the_future": 1}]}))
    spool.put(batch(3))
    assert spool.drain(lambda given: write(engine, given)) == 2
    assert [path.suffix for path in files(spool)] == [".bad"]


def test_half_files_of_the_dead_are_deleted(tmp_path: Path) -> None:
    spool = filled(tmp_path, 1)
    old, young = spool.folder / "1.json.gz.tmp", spool.folder / "2.json.gz.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3600, time.time() - 3600))
    assert spool.drain(Sink()) == 1
    assert files(spool) == [young]


def test_only_one_drains(tmp_path: Path) -> None:
    spool = filled(tmp_path, 2)
    with (spool.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert spool.drain(Sink()) == 0
    assert spool.drain(Sink()) == 2


def test_put_goes_on_while_another_drains(tmp_path: Path) -> None:
    spool = filled(tmp_path, 1)
    taken: list[Batch] = []

    def slow(given: Batch) -> None:
        taken.append(given)
        if len(taken) == 1:
            spool.put(batch(2))
            assert spool.drain(Sink()) == 0, "this one still holds the lock"

    assert spool.drain(slow) == 1
    assert spool.drain(slow) == 1
    assert taken == [batch(1), batch(2)]


def test_processes_put_and_drain_at_once(tmp_path: Path, engine: Engine, processes: Executor) -> None:
    """Nothing is lost and nothing twice: two put while one drains, then the rest is drained."""
    ids = store_with_nodes(engine, 20)
    url = engine.url.render_as_string(hide_password=False)
    folder = str(tmp_path / "spool")
    putting = [processes.submit(put_sweeps, folder, ids[start::2], 25) for start in range(2)]
    draining = processes.submit(drain_into, folder, url, 1.0)
    for future in putting:
        future.result(60)
    drained = draining.result(60) + drain_into(folder, url, 0)
    assert drained == 50
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM node_samples")).scalar() == 20 * 25


def test_samples_wait_while_postgresql_is_away(tmp_path: Path) -> None:
    """The whole way: away, kept, back, written, nothing lost."""
    with running_postgres() as server, server.database() as name:
        engine = open_engine(server.url(name))
        upgrade(engine)
        ids = store_with_nodes(engine, 10)
        spool = Spool(tmp_path / "spool", MANY)
        server.stop()
        for sweep in range(3):
            waits = sweep_batch(ids, TS + 30 * sweep)
            with pytest.raises(DatabaseAway):
                write(engine, waits)
            spool.put(waits)
        assert spool.drain(lambda given: write(engine, given)) == 0
        assert spool.waiting().batches == 3
        server.start()
        assert spool.drain(lambda given: write(engine, given)) == 3
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM node_samples")).scalar() == 30
        engine.dispose()
