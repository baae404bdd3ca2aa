"""A node's own login at the registry: what needs no node. On real ones: tests/fleet/test_registry_login.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from evc.fleet.nodes import Node
from evc.hooks.logins import LoginsHook
from evc.hooks.playbooks import PlaybooksHook
from tests.servers.airflow import DagRunner

LOG = logging.getLogger("tests.hooks.logins")


def test_the_name_that_a_node_tells_stays_on_its_line(
    dag_runner: DagRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hook = LoginsHook(LOG, PlaybooksHook(LOG))

    class Reached:
        async def session(self, *_: object) -> tuple[object, bool]:
            return self, True

        async def close(self) -> None:
            pass

        async def log_in(self, address: str, auth: Any) -> None:
            pass

    @asynccontextmanager
    async def connect(session: Any) -> AsyncIterator[Any]:
        yield session

    async def told(*_: object) -> dict[str, str]:
        return {"username": "node-1\nedge-2: removed \x1b[31m" + "x" * 10_000, "password": "s3cret"}

    monkeypatch.setattr(hook, "_pool", Reached)
    monkeypatch.setattr("evc.hooks.logins.connect", connect)
    monkeypatch.setattr("evc.hooks.logins.node_auth", told)
    asyncio.run(hook._try(Node("edge-1", "127.0.0.1"), {}, "registry.example:5001"))
    (line,) = caplog.messages
    assert line.startswith("edge-1: logged in at registry.example:5001 as ")
    assert line.isprintable()
    assert len(line) < 400
    assert "s3cret" not in line
