"""Reconciliation of many nodes: one never keeps the others from their turn. What needs an engine: tests/fleet."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from evc.errors import DatabaseError
from evc.fleet.nodes import Node
from evc.hooks.reconcile import ReconcileHook, _Work
from tests.servers.airflow import DagRunner

LOG = logging.getLogger("tests.hooks.reconcile")


@pytest.fixture
def hook(dag_runner: DagRunner) -> ReconcileHook:
    return ReconcileHook(LOG)


def test_a_node_whose_answers_nobody_foresaw_stops_no_other(
    hook: ReconcileHook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    async def look(pool: object, item: _Work) -> None:
        if item.node.name == "bad":
            raise AttributeError("'list' object has no attribute 'get'")
        await asyncio.sleep(0.05)
        done.append(item.node.name)

    monkeypatch.setattr(hook, "_node", look)
    asyncio.run(hook._main([_Work(Node(name, "127.0.0.1")) for name in ("good", "bad", "fine")]))
    assert sorted(done) == ["fine", "good"]
    assert hook.counts["failed"] == 1
    assert "bad: error of EVC itself" in caplog.text


def test_a_database_that_is_away_ends_it(hook: ReconcileHook, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: Any) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(hook, "_node", look)
    with pytest.raises(DatabaseError, match="away"):
        asyncio.run(hook._main([_Work(Node("edge-1", "127.0.0.1"))]))


def test_a_repair_is_announced_when_it_begins_not_while_it_waits_for_its_turn(
    hook: ReconcileHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook._pulls = asyncio.Semaphore(1)
    claimed: list[Any] = []
    at_once: list[int] = []

    async def bring(*_: Any) -> None:
        at_once.append(len(claimed) - len(at_once))
        await asyncio.sleep(0.01)

    def claim(found: Any) -> bool:
        claimed.append(found)
        return True

    monkeypatch.setattr(hook, "_claim", claim)
    monkeypatch.setattr(hook, "_bring_claimed", bring)

    async def main() -> None:
        node: Any = Node("edge-1", "127.0.0.1")
        none: Any = None
        await asyncio.gather(*(hook._bring(none, node, none, none, []) for _ in range(3)))

    asyncio.run(main())
    assert at_once == [1, 1, 1]
