"""New lines of the containers that run continuously, of many nodes at once, each line once.

A container is a run of its own, known by its id. Nodes are asked at the same time and each for a bounded number of
lines, so that neither a silent nor a talkative one keeps the others waiting.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Engine as Database

from evc.engine.client import Engine, connect
from evc.engine.logs import ContainerLog
from evc.errors import CredentialsError, DatabaseError, EvcError, NodeError, NodeTimeout, Stopped
from evc.fleet.containers import DIGEST_LABEL, MODE_LABEL, MODEL_LABEL, ONCE, RUN_LABEL
from evc.fleet.images import DIGEST_PATTERN
from evc.fleet.log import Log
from evc.fleet.models import MAX_NAME, MODEL_PATTERN
from evc.fleet.nodes import Node
from evc.inference.ledger import Ledger
from evc.inference.thread import to_end
from evc.ssh.pool import Pool
from evc.store.inference import CONTINUOUS, ENDED, FAILED, RUNNING, Run, change_run, open_run

log = logging.getLogger(__name__)

Kinds = Mapping[tuple[str, str], Collection[str]]
"""By model and digest, the kinds of lines that its model.yaml lists."""

_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one round does.

    :param lines: of one container; what is more waits for the next round
    :param node_s: seconds for one node
    :param nodes: how many are read at the same time
    """

    lines: int = 50_000
    node_s: float = 40.0
    nodes: int = 100


@dataclass(slots=True)
class Round:
    """What one round did.

    :param silent: nodes that could not be asked, with the reason
    :param behind: containers of which more lines wait, ``node/model``
    :param faults: of ours: the database, a login
    """

    containers: int = 0
    lines: int = 0
    malformed: int = 0
    silent: dict[str, str] = field(default_factory=dict)
    behind: list[str] = field(default_factory=list)
    faults: list[EvcError] = field(default_factory=list)

    def raise_faults(self) -> None:
        """Raise what is to be mended on our side. :raises EvcError: all of it, each once"""
        if len(self.faults) == 1:
            raise self.faults[0]
        if self.faults:
            raise EvcError("; ".join(sorted({str(fault) for fault in self.faults})))


@dataclass(frozen=True, slots=True)
class Visit:
    """What is to be done on one node.

    :param open_runs: continuous runs that were not seen to end
    :param lost_runs: single runs whose tasks have given up on them: their containers go away
    """

    node: Node
    open_runs: Sequence[Run] = ()
    lost_runs: Sequence[Run] = ()


class Collector:
    """Reads containers into the database.

    :param registered: all nodes by name, for jump nodes
    """

    def __init__(
        self,
        database: Database,
        pool: Pool,
        registered: Mapping[str, Node],
        kinds: Kinds,
        log: Log,
        *,
        bounds: Bounds | None = None,
    ) -> None:
        self._database, self._pool, self._registered, self._kinds, self._log = database, pool, registered, kinds, log
        self._bounds = bounds or Bounds()
        self._places = asyncio.Semaphore(self._bounds.nodes)
        self._writer = asyncio.Lock()  # one at a time, in the order in which they ask: SQLite has one writer anyway
        self.round = Round()

    async def collect(self, visits: Sequence[Visit]) -> Round:
        """Read every node once."""
        async with asyncio.TaskGroup() as group:
            for visit in visits:
                group.create_task(self._turn(visit))
        return self.round

    async def _turn(self, visit: Visit) -> None:
        name = visit.node.name
        try:
            async with self._places, asyncio.timeout(self._bounds.node_s):
                await self._visit(visit)
        except TimeoutError:
            self.round.silent[name] = str(NodeTimeout(f"{name}: not read within {self._bounds.node_s:g} s"))
        except NodeError as error:
            self.round.silent[name] = str(error)
        except Stopped as error:
            self._log.warning("%s: %s", name, error)
        except (CredentialsError, DatabaseError) as error:
            self.round.faults.append(error)
        except Exception as error:
            log.error("%s: error of EVC itself", name, exc_info=error)
            self.round.faults.append(EvcError(f"{name}: error of EVC itself: {error!r:.200}"))

    async def _visit(self, visit: Visit) -> None:
        session, _ = await self._pool.session(visit.node, self._registered)
        async with connect(session) as engine:
            clock_s = await _seconds_ahead(engine)
            found = await engine.containers({MODE_LABEL: CONTINUOUS})
            for container in found:
                await self._read(engine, visit.node, container, clock_s)
            there = {str(container.get("Id")) for container in found}
            for run in visit.open_runs:
                if run.run_id not in there:
                    await self._write(_end, run, "its container is gone")
            for run in visit.lost_runs:
                await self._bury(engine, visit.node, run)

    async def _read(self, engine: Engine, node: Node, container: Mapping[str, Any], clock_s: float | None) -> None:
        given = _run_of(container, node)
        if given is None:
            self._log.warning("%s: a container with labels that EVC did not write: left alone", node.name)
            return
        state = (await engine.inspect(given["run_id"]) or {}).get("State")
        if not isinstance(state, dict):
            return  # gone since
        run = await self._write(open_run, given)
        kinds = self._kinds.get((run.model, run.digest))
        ledger = Ledger(self._database, run, kinds, self._log)
        started_at, is_running = str(state.get("StartedAt")), bool(state.get("Running"))
        self.round.containers += 1
        if run.finished_ts is not None and not is_running and ledger.place and ledger.place.started_at == started_at:
            return  # ended, and read to its end
        # without stderr: a place is one of stdout, so all that was written there since would travel again each round
        source = ContainerLog(engine, run.run_id, ledger.place, started_at=started_at, clock_s=clock_s, stderr=False)
        is_complete = await self._take(source, ledger, ended=not is_running)
        ended = is_complete and not is_running
        columns = _columns(state, ended=ended)
        if ledger.is_ahead or ended != (run.finished_ts is not None):
            await self._store(ledger, columns)
        self._tell(f"{node.name}/{run.model}", run, ledger, is_lost=source.lost, is_complete=is_complete)

    async def _take(self, source: ContainerLog, ledger: Ledger, *, ended: bool) -> bool:
        """Take what there is; False where the bound was reached first."""
        begin = ledger.run.lines
        try:
            async with aclosing(source.read(ended=ended)) as chunks:
                async for lines in chunks:
                    ledger.take(lines, source.place)
                    if ledger.is_full:
                        await self._store(ledger, {"status": RUNNING})
                    if ledger.run.lines - begin + ledger.waiting >= self._bounds.lines:
                        return False
        except (asyncio.CancelledError, NodeError):
            # the way is slow, or was cut: without what came so far the next round would get no farther either
            if ledger.waiting:
                await self._store(ledger, {"status": RUNNING})
            raise
        ledger.place = source.place
        return True

    async def _bury(self, engine: Engine, node: Node, run: Run) -> None:
        """Read what a run has left behind whose task could not reach the node any more, and clear it away."""
        container = run.container_id or await self._container_of(engine, run)
        if container and (found := await engine.inspect(container)):
            await engine.stop(container, 1)
            ledger = Ledger(self._database, run, None, self._log)
            source = ContainerLog(engine, container, ledger.place, stderr=False)
            is_complete = await self._take(source, ledger, ended=True)
            await self._store(ledger, {})
            if not is_complete:  # it stays as it is until all of it is read
                self.round.behind.append(f"{node.name}/{run.model}")
                return
            await self._write(change_run, ledger.run, **_lost(found["State"]))
            await engine.remove(container)
        else:
            await self._write(change_run, run, **_lost({}))
        self._log.info("%s: what run %s of %s left there was read and removed", node.name, run.run_id, run.model)

    async def _container_of(self, engine: Engine, run: Run) -> str | None:
        """Return the container of a run whose task was killed before it could note which one it is."""
        labels = {RUN_LABEL: run.run_id, MODEL_LABEL: run.model, MODE_LABEL: ONCE}
        return next((str(found.get("Id")) for found in await engine.containers(labels)), None)

    def _tell(self, name: str, run: Run, ledger: Ledger, *, is_lost: bool, is_complete: bool) -> None:
        lines = ledger.run.lines - run.lines
        self.round.lines += lines
        self.round.malformed += ledger.malformed
        if is_lost:
            self._log.warning("%s: lines were rotated away before they could be read", name)
        if lines:
            self._log.info("%s: %d new lines; so far %s", name, lines, ledger.progress())
        if not is_complete:
            self.round.behind.append(name)

    async def _store(self, ledger: Ledger, columns: dict[str, Any]) -> None:
        async with self._writing():
            await to_end(partial(ledger.store, columns))

    async def _write(self, change: Any, *given: Any, **values: Any) -> Run:
        def work() -> Run:
            with self._database.begin() as connection:
                run: Run = change(connection, *given, **values)
            return run

        async with self._writing():
            return await to_end(work)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        async with self._writer:
            yield


def _end(connection: Any, run: Run, message: str) -> Run:
    return change_run(connection, run, status=ENDED, finished_ts=int(time.time()), message=message)


def _columns(state: Mapping[str, Any], *, ended: bool) -> dict[str, Any]:
    """Return what a run's row says of its container: it may be started again after it has ended."""
    if not ended:
        return {"status": RUNNING, "finished_ts": None, "exit_code": None, "oom_killed": None}
    return {"status": ENDED, "finished_ts": int(time.time()), **_exit(state)}


def _exit(state: Mapping[str, Any]) -> dict[str, Any]:
    code = state.get("ExitCode")
    fits = isinstance(code, int) and -(2**31) <= code < 2**31
    return {"exit_code": code if fits else None, "oom_killed": bool(state.get("OOMKilled"))}


def _lost(state: Mapping[str, Any]) -> dict[str, Any]:
    message = "the node was out of reach until its time was over"
    return {"status": FAILED, "finished_ts": int(time.time()), "message": message, **_exit(state)}


def _run_of(container: Mapping[str, Any], node: Node) -> dict[str, Any] | None:
    """Return the run that a container is; None where a node lists something else."""
    identity, labels = container.get("Id"), container.get("Labels")
    if not isinstance(identity, str) or not _ID.fullmatch(identity) or not isinstance(labels, dict):
        return None
    model, digest = str(labels.get(MODEL_LABEL)), str(labels.get(DIGEST_LABEL))
    if len(model) > MAX_NAME or not re.fullmatch(MODEL_PATTERN, model) or not re.fullmatch(DIGEST_PATTERN, digest):
        return None
    return {
        "run_id": identity,
        "node_id": node.id,
        "model": model,
        "digest": digest,
        "mode": CONTINUOUS,
        "container_id": identity,
        "status": RUNNING,
        "started_ts": int(time.time()),
    }


async def _seconds_ahead(engine: Engine) -> float | None:
    """Return the node's clock minus ours; None where it does not tell."""
    told = (await engine.info()).get("SystemTime")
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(told))).timestamp() - time.time()
    except ValueError:
        return None
