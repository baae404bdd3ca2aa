"""The health gate: a container that was just started becomes healthy, or the reason why not.

The engine tells what happens to the container; nothing is polled while nothing happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from evc.engine.client import Engine
from evc.errors import ContainerFailed, EngineAway, EngineError, NodeError
from evc.fleet.masking import mask_line
from evc.fleet.models import HealthCheck, Model

LOG_LINES = 20
_LOOK_S = 15.0  # in case an event was lost
_ERROR_LINES, _ERROR_WIDTH = 5, 200
_TAIL = 200  # the engine counts them before it looks at the time


@dataclass(slots=True)
class _Seen:
    """What the events told."""

    died: bool = False
    exit_code: int | None = None
    until: str | None = None
    is_out_of_memory: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: Mapping[str, Any]) -> None:
        action = event.get("Action")
        if action == "oom":
            self.is_out_of_memory = True
        elif action in {"die", "destroy"} and not self.died:
            self.died = True
            code = str(((event.get("Actor") or {}).get("Attributes") or {}).get("exitCode", ""))
            self.exit_code = int(code) if code.isdecimal() and len(code) < 6 else None
            moment = event.get("timeNano")
            if isinstance(moment, int):
                self.until = f"{moment // 10**9}.{moment % 10**9:09d}"
        self.wake.set()


async def start_and_wait(engine: Engine, container: str, model: Model) -> str:
    """Start ``container`` and wait until it is healthy; returns how that was seen, one line.

    A container that runs already is not started again, but watched as long. One of a model that runs on demand, without
    a health command, is not started at all: what it would do without an input is its own affair.

    :raises ContainerFailed: it did not start, died, became unhealthy or was not healthy in time; its exit code, whether
        it ran out of memory, and its last lines
    """
    if model.mode == "on_demand" and not model.health.command:
        return "is created: model.yaml has no health.command"
    async with _watching(engine, container) as seen:
        try:
            await engine.start(container)
        except EngineAway:
            raise
        except EngineError as error:
            raise ContainerFailed(str(error)) from None
        wait = _wait_for_end if model.mode == "on_demand" else _wait_until_healthy
        return await wait(engine, container, model.health, seen)


async def last_lines(engine: Engine, container: str, count: int = LOG_LINES, until: str | None = None) -> list[str]:
    """Return the end of what a container wrote, printable, each line cut to a bounded length.

    :param until: unix seconds by the node's clock: what it wrote after it was restarted is not asked for
    """
    said = bytearray()
    with suppress(EngineError):
        async with aclosing(engine.logs(container, tail=_TAIL, until=until)) as batches:
            async for frames in batches:
                said += b"".join(text for _, text in frames)
                del said[:-65_536]
    lines = said.decode("utf-8", "replace").splitlines()[-count:]
    return [mask_line("".join(c if c.isprintable() else "?" for c in line))[:_ERROR_WIDTH] for line in lines]


async def _wait_until_healthy(engine: Engine, container: str, health: HealthCheck, seen: _Seen) -> str:
    clock = asyncio.get_running_loop().time
    begin, deadline_s = clock(), health.deadline_s
    first = await _state(engine, container)
    has_check = bool(first.get("Health"))
    stable_s = 0.0 if has_check else health.stable_s
    deadline_s = max(deadline_s, stable_s + 1)
    while True:
        seen.wake.clear()
        state = await _state(engine, container)
        status = (state.get("Health") or {}).get("Status")
        if seen.died or not _is_running(state) or state.get("StartedAt") != first.get("StartedAt"):
            raise await _failed(engine, container, "ended", seen, state, clock() - begin)
        if status == "unhealthy":
            raise await _failed(engine, container, f"is unhealthy: {_check_said(state)}", seen, state, clock() - begin)
        passed_s = clock() - begin
        if status == "healthy":
            return f"healthy after {passed_s:.1f} s"
        if not has_check and passed_s >= stable_s:
            return f"has been running for {passed_s:.1f} s"
        if passed_s >= deadline_s:
            words = f"was not healthy within {deadline_s:g} s: {_check_said(state)}"
            raise await _failed(engine, container, words, seen, state, passed_s)
        until_s = deadline_s if has_check else stable_s
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_LOOK_S, until_s - passed_s + 0.01)):
                await seen.wake.wait()


async def _wait_for_end(engine: Engine, container: str, health: HealthCheck, seen: _Seen) -> str:
    clock = asyncio.get_running_loop().time
    begin = clock()
    while True:
        seen.wake.clear()
        state = await _state(engine, container)
        passed_s = clock() - begin
        if not state.get("Running"):
            if state.get("ExitCode") == 0 and state.get("Status") == "exited":
                return f"its health command succeeded after {passed_s:.1f} s"
            raise await _failed(engine, container, "its health command failed", seen, state, passed_s)
        if passed_s >= health.deadline_s:
            words = f"its health command was not over within {health.deadline_s:g} s"
            raise await _failed(engine, container, words, seen, state, passed_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_LOOK_S, health.deadline_s - passed_s + 0.01)):
                await seen.wake.wait()


async def _state(engine: Engine, container: str) -> Mapping[str, Any]:
    details = await engine.inspect(container)
    if details is None:
        raise ContainerFailed(f"{engine.name}: container {container[:12]}: someone removed it meanwhile")
    state = details.get("State")
    if not isinstance(state, dict) or not isinstance(state.get("Health") or {}, dict):
        raise EngineError(f"{engine.name}: container {container[:12]}: not as its API promises: no state")
    return state


async def _failed(
    engine: Engine, container: str, what: str, seen: _Seen, state: Mapping[str, Any], passed_s: float
) -> ContainerFailed:
    words = [f"{engine.name}: container {container[:12]} {what}"]
    if seen.died or not _is_running(state):
        code = seen.exit_code if seen.exit_code is not None else _code(state.get("ExitCode"))
        words.append(f"after {passed_s:.1f} s with exit code {code}")
        is_out_of_memory = seen.is_out_of_memory or state.get("OOMKilled")
        words.append("out of memory: raise resources.memory_bytes" if is_out_of_memory else "not out of memory")
        if state.get("Error"):
            words.append(_words(state["Error"]))
    lines = await last_lines(engine, container, _ERROR_LINES, seen.until)
    words.append(f"last lines: {' | '.join(lines)}" if lines else "it wrote nothing")
    return ContainerFailed(", ".join(words))


def _is_running(state: Mapping[str, Any]) -> bool:
    # between two tries of its restart policy a container counts as running too
    return bool(state.get("Running")) and not state.get("Restarting") and not state.get("Paused")


def _check_said(state: Mapping[str, Any]) -> str:
    log = (state.get("Health") or {}).get("Log")
    if not isinstance(log, list) or not log or not isinstance(log[-1], dict):
        return "no health check has ended"
    said = _words(log[-1].get("Output", ""))
    return f"the last health check ended with {_code(log[-1].get('ExitCode'))}{f' ({said})' if said else ''}"


def _words(said: object) -> str:
    """Return what a node says on one line of bounded length."""
    return mask_line("".join(c if c.isprintable() else "?" for c in " ".join(str(said).split())))[:_ERROR_WIDTH]


def _code(value: object) -> int | None:
    return value if isinstance(value, int) and abs(value) < 2**31 else None


@asynccontextmanager
async def _watching(engine: Engine, container: str) -> AsyncIterator[_Seen]:
    """Yield what happens to a container; nothing that happens inside the block is missed."""
    seen = _Seen()
    async with aclosing(engine.events(container)) as events:
        await anext(events)
        pump = asyncio.create_task(_pump(events, seen))
        try:
            yield seen
        finally:
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump


async def _pump(events: AsyncGenerator[dict[str, Any], None], seen: _Seen) -> None:
    # an engine that ends the stream, or a link that is cut, is found out by the next question
    with suppress(NodeError):
        async for event in events:
            seen.take(event)
    seen.wake.set()
