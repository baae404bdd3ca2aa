"""What a collector keeps of a node that is slow, or on which a task has left something; no fleet is needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest
from sqlalchemy import Engine as Database

from evc.engine.client import Engine, Frame
from evc.engine.logs import ContainerLog, LogLine
from evc.errors import ConnectionCut
from evc.fleet.nodes import Node
from evc.inference.continuous import Bounds, Collector
from evc.inference.ledger import Ledger
from evc.ssh.pool import Pool
from evc.store.inference import CONTINUOUS, ONCE, RUNNING, Run, find_run, open_run
from tests.inference.nodes import labels
from tests.store.batches import TS, add_nodes

LOG = logging.getLogger("tests.inference.collector")
ID = "a" * 64


class OneContainer:
    """Stands for an engine with one container that has printed ``count`` lines.

    :param after: lines after which nothing comes any more, or the error that comes then
    """

    name = "edge-1"

    def __init__(self, count: int, after: int | None = None, then: Exception | None = None) -> None:
        self.count, self.after, self.then = count, after, then
        self.removed: list[str] = []

    async def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        return [] if self.removed else [{"Id": ID}]

    async def inspect(self, container: str) -> dict[str, Any] | None:
        return (
            None if self.removed else {"State": {"Running": True, "StartedAt": "", "ExitCode": 0, "OOMKilled": False}}
        )

    async def stop(self, container: str, grace_s: int) -> None:
        pass

    async def remove(self, container: str) -> None:
        self.removed.append(container)

    async def logs(self, container: str, **asked: Any) -> AsyncIterator[list[Frame]]:
        self.asked = asked
        for number in range(self.count):
            if number == self.after:
                if self.then:
                    raise self.then
                await asyncio.sleep(60)
            stamp = f"2026-01-01T00:00:00.{number:09d}Z"
            yield [(False, f'{stamp} {{"kind":"person","label":"{number}"}}\n'.encode())]


def collector(database: Database, lines: int = 50_000) -> Collector:
    return Collector(database, cast(Pool, None), {}, {}, LOG, bounds=Bounds(lines=lines))


def begun(database: Database, mode: str, container: str | None) -> Run:
    given = {"run_id": "r", "node_id": 1, "model": "m", "digest": f"sha256:{ID}", "mode": mode, "status": RUNNING}
    with database.begin() as connection:
        add_nodes(connection, 1)
        return open_run(connection, {**given, "container_id": container, "started_ts": TS})


def now(database: Database) -> Run:
    with database.connect() as connection:
        run = find_run(connection, "r", 1)
    assert run is not None
    return run


@pytest.mark.parametrize("then", [None, ConnectionCut("edge-1: cut")])
def test_a_round_that_is_cut_off_keeps_what_came(engine: Database, then: Exception | None) -> None:
    run = begun(engine, CONTINUOUS, ID)

    async def main(after: int | None) -> None:
        ledger = Ledger(engine, now(engine), None, LOG)
        slow = cast(Engine, OneContainer(10, after, then))
        async with asyncio.timeout(0.5):
            await collector(engine)._take(ContainerLog(slow, ID, ledger.place), ledger, ended=False)
            await collector(engine)._store(ledger, {})

    with pytest.raises((TimeoutError, ConnectionCut)):
        asyncio.run(main(4))
    assert now(engine).lines == 4
    with pytest.raises((TimeoutError, ConnectionCut)):
        asyncio.run(main(7))
    asyncio.run(main(None))
    assert labels(engine, run.id) == [str(number) for number in range(10)]


@pytest.mark.parametrize("noted", [ID, None])
def test_what_a_lost_run_has_left_is_read_to_its_end_before_it_is_removed(engine: Database, noted: str | None) -> None:
    run = begun(engine, ONCE, noted)
    left = OneContainer(25)
    node = Node("edge-1", "127.0.0.1", id=1)
    for finished, lines in ((False, 10), (False, 20), (True, 25)):
        one = collector(engine, lines=10)
        asyncio.run(one._bury(cast(Engine, left), node, now(engine)))
        assert (now(engine).finished_ts is not None, now(engine).lines, bool(left.removed)) == (
            finished,
            lines,
            finished,
        )
        assert one.round.behind == ([] if finished else ["edge-1/m"])
    assert labels(engine, run.id) == [str(number) for number in range(25)]


def test_no_secret_of_what_a_model_prints_is_shown(engine: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ledger = Ledger(engine, begun(engine, ONCE, ID), None, LOG, shown=1)
    said = [b'{"kind":"x","label":"rtsp://me:s3cret@cam"}', b"opening rtsp://me:s3cret@cam"]
    ledger.take([LogLine(False, 1, text, len(text)) for text in said], None)
    ledger.take([LogLine(True, 1, b"rtsp://me:s3cret@cam: refused", 30)], None)
    assert ledger.stderr == ["rtsp://me:***@cam: refused"]
    assert "opening rtsp://me:***@cam" in caplog.text
    assert "s3cret" not in caplog.text


def test_what_a_container_writes_to_stderr_does_not_travel(engine: Database) -> None:
    begun(engine, CONTINUOUS, ID)
    left = OneContainer(3)
    listed = {"Id": ID, "Labels": {"evc.model": "m", "evc.digest": f"sha256:{ID}"}}
    asyncio.run(collector(engine)._read(cast(Engine, left), Node("edge-1", "127.0.0.1", id=1), listed, 0.0))
    assert left.asked["stderr"] is False
    assert labels(engine) == ["0", "1", "2"]
