"""One run of a model on one node: a container of its own, its lines read as they come, bounded in time.

Every step may be cut off and done again: the container is known by the label of its run, its lines by their number, and
what has ended is stored before the container is removed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Engine as Database

from evc.engine.account import node_auth
from evc.engine.client import Engine, connect
from evc.engine.logs import ContainerLog, LogLine
from evc.engine.pull import pull_image
from evc.errors import ConnectionCut, ContainerFailed, EngineAway, EngineError, NodeError, NodeTimeout, NodeUnreachable
from evc.fleet.containers import MODE_LABEL, MODEL_LABEL, ONCE, RUN_LABEL, Input, inference_container
from evc.fleet.images import Image
from evc.fleet.inputs import hide_password, kinds_of
from evc.fleet.log import Log
from evc.fleet.models import InputKind, Model
from evc.fleet.nodes import quote
from evc.fleet.progress import Snapshot
from evc.inference.ledger import SHOWN_LINES, Ledger
from evc.inference.thread import to_end
from evc.ssh.session import Session
from evc.store.inference import (
    CANCELLED,
    FAILED,
    RUNNING,
    STARTING,
    SUCCEEDED,
    TIMEOUT,
    UNREACHABLE,
    Run,
    change_run,
    open_run,
    overrule_run,
    reopen_run,
    reset_run,
)

STORE_EVERY_S = 1.0
CANCEL_GRACE_S = 1
"""Airflow kills a cancelled task after 5 s."""
PROGRESS_EVERY_S = 10.0
OUT_OF_TOUCH = (ConnectionCut, EngineAway, NodeTimeout, NodeUnreachable)
"""Errors that say nothing about the run: it may go on meanwhile."""
_WHAT_IS_IT = (
    """exec /bin/sh -c 'IFS= read -r p; if [ -d "$p" ]; then echo folder; elif [ -e "$p" ]; then echo file; fi'"""
)


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of one node.

    :param run_id: of the DAG run: a retry has the same
    :param registry: ``host:port`` as the node sees it
    :param given: path on the node or URL; None: as the model does without
    :param limit: how many frames at most
    :param timeout_s: from the container's start
    """

    run_id: str
    node_id: int
    model: Model
    image: Image
    registry: str
    given: str | None = None
    limit: int | None = None
    timeout_s: int = 600


class OnceRun:
    """Carries out an order; one object serves one try.

    :param name: of the node, for messages
    """

    def __init__(self, database: Database, order: Order, name: str, log: Log) -> None:
        self._database, self._order, self._name, self._log = database, order, name, log
        self._container: str | None = None
        self._ledger: Ledger | None = None
        self._run = self._change(open_run, self._given())
        # another go of it, which has not begun yet; or an earlier try was killed before it could clear away
        self._was_over = self._run.finished_ts is not None

    # -- what the caller does ----------------------------------------------------------------------------------------

    async def run(self, session: Session) -> Run:
        """Run to the end, or read on from where an earlier try was cut off; returns how it ended.

        A run that has failed is an answer, not an error.

        :raises NodeError: the node could not be reached, or could not run the container
        :raises Stopped: another task has taken this run over
        :raises DatabaseError: nothing that was read is lost, the next try stores it
        """
        async with connect(session) as engine:
            try:
                return await self._go(engine)
            except asyncio.CancelledError:
                await asyncio.shield(self._cancel(engine))
                raise
            except OUT_OF_TOUCH as error:
                self.out_of_touch(error)
                raise
            except NodeError as error:
                self._refused(error)
                raise

    def out_of_touch(self, error: NodeError) -> None:
        """Keep why the node could not be asked; the run itself may go on, unless it had ended before this try."""
        if self._was_over:
            self._overrule(error)
        else:
            self._change(change_run, self._run, status=UNREACHABLE, message=str(error))

    def _refused(self, error: NodeError) -> None:
        """Keep why the node could not do it: this try is over, another one begins anew."""
        if self._was_over:
            self._overrule(error)
        else:
            self._change(change_run, self._run, status=FAILED, message=str(error), finished_ts=int(time.time()))

    def _overrule(self, error: NodeError) -> None:
        """Let the row say what this try found: how the go before it ended is no answer to who asked for another."""
        self._run = self._change(overrule_run, self._run, str(error), int(time.time()))

    # -- steps -------------------------------------------------------------------------------------------------------

    async def _go(self, engine: Engine) -> Run:
        found = await self._find(engine)
        if self._run.finished_ts is not None:
            self._was_over = False
            if found and not self._is_overruled(found):  # an earlier try ended before it could clear away
                await engine.remove(found)
                return self._run
            if found:
                self._run = await self._store(reopen_run, self._run)
            else:
                self._run = await self._store(reset_run, self._run, self._given())
                self._log.info("%s: this run had ended before; it starts anew, its results are replaced", self._name)
        elif found is None and self._run.container_id:
            return await self._finish(FAILED, message="its container was removed by someone before it had ended")
        try:
            self._container = found or await self._create(engine, engine.session)
            state = await self._start(engine, self._container)
        except OUT_OF_TOUCH:
            raise
        except NodeError as error:
            if self._container:
                await engine.remove(self._container)
            if isinstance(error, EngineError) and error.status is not None and error.status < 500:
                raise ContainerFailed(str(error)) from None  # no such file, no such device: a retry mends nothing
            raise
        return await self._watch(engine, self._container, state)

    def _is_overruled(self, found: str) -> bool:
        """Whether the row says what a try found that could not look at the container: this one can."""
        run = self._run
        return run.status == FAILED and run.exit_code is None and run.container_id == found

    async def _find(self, engine: Engine) -> str | None:
        order = self._order
        labels = {RUN_LABEL: order.run_id, MODEL_LABEL: order.model.name, MODE_LABEL: ONCE}
        found = await engine.containers(labels)
        return str(found[0]["Id"]) if found else None

    async def _create(self, engine: Engine, session: Session) -> str:
        order = self._order
        reference = order.image.reference(order.registry)
        if await engine.image(reference) is None:
            auth = await node_auth(session, order.registry)
            self._log.info("%s: pulling %s", self._name, reference)
            await pull_image(engine, reference, auth, report=self._pulling)
        given = Input(await self._kind(session, order.given), order.given) if order.given else None
        made = inference_container(order.model, order.image, order.registry, order.run_id, given, order.limit)
        try:
            container = await engine.create(made.name, made.body)
        except EngineError as error:
            if error.status != 409:
                raise
            found = await self._find(engine)  # a try that was taken for dead was quicker
            if found is None:
                raise
            container = found
        self._run = await self._store(change_run, self._run, container_id=container)
        return container

    async def _kind(self, session: Session, given: str) -> InputKind:
        kinds = kinds_of(given)
        if len(kinds) == 1:
            return kinds[0]
        said: list[str] = []
        await session.follow(_WHAT_IS_IT, said.append, stdin=f"{given}\n".encode(), timeout_s=15)
        kind: InputKind = "folder" if said == ["folder"] else "file"  # what the login can't see, the engine may
        if kind not in self._order.model.inputs:
            raise ContainerFailed(
                f"{self._name}: input {quote(given)} is a {kind}; {self._order.model.name} takes "
                f"{', '.join(self._order.model.inputs)}"
            )
        return kind

    async def _start(self, engine: Engine, container: str) -> dict[str, Any]:
        """Start the container unless an earlier try did."""
        state = await self._state(engine, container)
        if self._run.container_id != container:
            self._run = await self._store(change_run, self._run, container_id=container)
        if state["Status"] == "created":
            self._log.info("%s: starting container %s of %s", self._name, container[:12], self._order.image.digest)
            await engine.start(container)
            state = await self._state(engine, container)
        else:
            self._log.info("%s: container %s of an earlier try is %s", self._name, container[:12], state["Status"])
        if self._run.status == STARTING:
            started = {"status": RUNNING, "started_ts": int(time.time()), "message": None}
        else:
            started = {"status": RUNNING, "message": None}
        self._run = await self._store(change_run, self._run, **started)
        return state

    async def _watch(self, engine: Engine, container: str, state: dict[str, Any]) -> Run:
        kinds = frozenset(kind.kind for kind in self._order.model.results)
        ledger = self._ledger = Ledger(self._database, self._run, kinds, self._log, SHOWN_LINES)
        ledger.more.setdefault("deadline_ts", self._run.started_ts + self._order.timeout_s)
        await to_end(ledger.store)  # that its time is running is known from now on
        if self._run.lines:
            self._log.info("%s: %d lines were stored before; reading on", self._name, self._run.lines)
        is_followed = bool(state["Running"]) and await self._follow(engine, container, ledger)
        state = await self._state(engine, container)
        if state["Running"]:
            raise EngineAway(f"{self._name}: the engine ended the log of a container that runs on")
        log = ContainerLog(engine, container, ledger.place)
        await self._read(log.read(ended=True, whole=not is_followed), log, ledger)
        run = await self._end(ledger, state)
        await engine.remove(container)
        return run

    async def _follow(self, engine: Engine, container: str, ledger: Ledger) -> bool:
        """Read until it has ended; False where its time was over and it was told to end."""
        log = ContainerLog(engine, container, ledger.place)
        try:
            async with asyncio.timeout(max(ledger.more["deadline_ts"] - time.time(), 0)):
                await self._read(log.follow(), log, ledger)
        except TimeoutError:
            self._log.warning("%s: not over within %d s: stopping it", self._name, self._order.timeout_s)
            ledger.more["timed_out"] = True
            await to_end(ledger.store)  # first: a next try would take it for one that ended by itself
            await engine.stop(container, self._order.model.stop_grace_s)
            return False
        return True

    async def _read(self, lines: AsyncGenerator[list[LogLine], None], log: ContainerLog, ledger: Ledger) -> None:
        """Take lines until they end; store them every second, and when there are many."""
        stored_at = shown_at = time.monotonic()
        following: asyncio.Task[list[LogLine] | None] | None = None
        async with aclosing(lines):
            try:
                while True:
                    following = following or asyncio.create_task(anext(lines, None))
                    wait_s = (
                        max(stored_at + STORE_EVERY_S - time.monotonic(), 0) if ledger.waiting else PROGRESS_EVERY_S
                    )
                    done, _ = await asyncio.wait({following}, timeout=wait_s)
                    if done:
                        new, following = following.result(), None
                        if new is None:
                            break
                        ledger.take(new, log.place)
                    now = time.monotonic()
                    if ledger.is_full or (ledger.waiting and now >= stored_at + STORE_EVERY_S):
                        await to_end(ledger.store)
                        stored_at = time.monotonic()
                    if now >= shown_at + PROGRESS_EVERY_S:
                        self._log.info("%s: %s", self._name, ledger.progress())
                        shown_at = now
            finally:
                if following:
                    following.cancel()
                    with suppress(asyncio.CancelledError, NodeError):
                        await following
        await to_end(ledger.store)
        if log.lost:
            self._log.warning("%s: lines were rotated away before they could be read", self._name)

    # -- ends --------------------------------------------------------------------------------------------------------

    async def _end(self, ledger: Ledger, state: dict[str, Any]) -> Run:
        in_time = not ledger.more.get("timed_out")
        code, oom_killed = int(state["ExitCode"]), bool(state["OOMKilled"])
        memory_mib = self._order.model.resources.memory_bytes / 1024**2
        message = None
        if oom_killed:
            message = f"out of memory: it was killed at its limit of {memory_mib:.4g} MiB (exit code {code})"
        elif not in_time:
            message = f"stopped after {self._order.timeout_s} s (exit code {code})"
        elif code:
            message = f"exit code {code}"
        status = TIMEOUT if not in_time else FAILED if code or oom_killed else SUCCEEDED
        if status == FAILED and ledger.stderr:
            message = "\n".join([f"{message}; its last lines:", *ledger.stderr])
            for line in ledger.stderr:
                self._log.warning("  stderr: %s", line)
        self._run = ledger.run
        run = await self._finish(status, exit_code=code, oom_killed=oom_killed, message=message)
        self._log.info("%s: %s in %d s: %s", self._name, status, int(time.time()) - run.started_ts, ledger.progress())
        if conditions := _told(ledger.conditions.columns()):
            self._log.info("%s: meanwhile on the node: %s", self._name, conditions)
        return run

    async def _finish(self, status: str, **values: Any) -> Run:
        self._run = await self._store(change_run, self._run, status=status, finished_ts=int(time.time()), **values)
        return self._run

    async def _cancel(self, engine: Engine) -> None:
        """Someone cancelled the task: what came is kept, the container goes away."""
        with suppress(NodeError):
            if self._container:
                await engine.stop(self._container, CANCEL_GRACE_S)
        if self._ledger:
            await to_end(self._ledger.store)
        await self._finish(CANCELLED, message="cancelled")
        if self._container:
            await engine.remove(self._container)

    # -- parts -------------------------------------------------------------------------------------------------------

    async def _state(self, engine: Engine, container: str) -> dict[str, Any]:
        found = await engine.inspect(container)
        if found is None:
            raise ContainerFailed(f"{self._name}: container {container[:12]} was removed by someone")
        return dict(found["State"])

    def _given(self) -> dict[str, Any]:
        order = self._order
        return {
            "run_id": order.run_id,
            "node_id": order.node_id,
            "model": order.model.name,
            "digest": order.image.digest,
            "mode": ONCE,
            "input": hide_password(order.given) if order.given else None,
            "status": STARTING,
            "started_ts": int(time.time()),
        }

    def _change(self, change: Any, *given: Any, **values: Any) -> Run:
        with self._database.begin() as connection:
            run: Run = change(connection, *given, **values)
        return run

    async def _store(self, change: Any, *given: Any, **values: Any) -> Run:
        return await to_end(partial(self._change, change, *given, **values))

    def _pulling(self, snapshot: Snapshot) -> None:
        self._log.info("%s: %s", self._name, snapshot.line)


def _told(columns: dict[str, Any]) -> str:
    parts = []
    if columns["temperature_max_celsius"] is not None:
        parts.append(f"at most {columns['temperature_max_celsius']:.1f} degrees Celsius")
    if columns["cpu_usage_avg_ratio"] is not None:
        parts.append(f"CPU {100 * columns['cpu_usage_avg_ratio']:.0f} % busy")
    if columns["throttled"]:
        parts.append("throttled")
    return ", ".join(parts)
