"""Reconciliation of many nodes: one never keeps the others from their turn. What needs an engine: tests/fleet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from evc.errors import DatabaseError
from evc.fleet.nodes import Node
from evc.fleet.progress import Snapshot
from evc.hooks.reconcile import ReconcileHook, _Work, told
from evc.rollout.node import Steps
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


@pytest.mark.parametrize(
    ("steps", "renewed", "brought"),
    [
        (range(1, 9), True, True),  # bytes come all the time
        ([1] * 8, True, False),  # it stands still
        (range(1, 9), False, False),  # a roll-out has other plans
        (range(1, 99), True, False),  # it would take for ever
    ],
)
def test_a_pull_that_gets_on_may_take_its_time(
    hook: ReconcileHook, monkeypatch: pytest.MonkeyPatch, steps: Sequence[int], renewed: bool, brought: bool
) -> None:
    for name, value in (("BRING_TIMEOUT_S", 0.3), ("PULL_TIMEOUT_S", 2.0), ("RENEW_S", 0.0)):
        monkeypatch.setattr(f"evc.hooks.reconcile.{name}", value)

    async def deploy(session: object, target: object, told: Steps) -> str:
        for done in steps:
            await asyncio.sleep(0.1)
            told.progress(Snapshot(done, None, None, ""))
        return "deployed"

    ends: list[object] = []
    monkeypatch.setattr("evc.hooks.reconcile.deploy_node", deploy)
    monkeypatch.setattr("evc.hooks.reconcile.told", lambda *_: "")
    monkeypatch.setattr(hook, "_renew", lambda found: renewed)
    monkeypatch.setattr(hook, "_brought", lambda node, found, deployed, was: ends.append(deployed))
    monkeypatch.setattr(hook, "_not_brought", lambda node, found, error: ends.append(error))
    none: Any = None
    asyncio.run(hook._bring_claimed(none, Node("edge-1", "127.0.0.1"), none, none, []))
    assert [end == "deployed" for end in ends] == [brought]


def test_what_is_there_instead_is_told_in_bounds() -> None:
    wanted: Any = SimpleNamespace(digest="sha256:w")
    there: Any = [SimpleNamespace(digest=f"sha256:{number}", state="running") for number in range(10_000)]
    line = told(wanted, there)
    assert line.startswith("sha256:w is wanted, sha256:0 is there (running), ")
    assert line.endswith(" and 9995 more")
    assert len(line) < 300
