"""What a node lists as containers: whatever it says, it is read, or it is the engine's fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest

from evc.engine.client import Engine
from evc.errors import EngineError
from evc.rollout.containers import Running, running
from evc.rollout.gate import _check_said, _state, last_lines

ID = "a" * 64


class Listing:
    """Stands for an engine that says this."""

    name = "edge-1"

    def __init__(self, *listed: Mapping[str, Any], details: Mapping[str, Any] | None = None) -> None:
        self.listed, self.details = list(listed), details

    async def containers(self, labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
        return self.listed

    async def inspect(self, container: str) -> Mapping[str, Any] | None:
        return self.details


def read(*listed: Mapping[str, Any]) -> list[Running]:
    return asyncio.run(running(cast(Engine, Listing(*listed))))


@pytest.mark.parametrize(
    "more",
    [
        {"Names": 7},
        {"Names": []},
        {"Names": [None]},
        {"Labels": ["evc.model"]},
        {"Labels": {"evc.digest": "x\0" * 500, "evc.model": {"a": 1}}},
        {"Created": "yesterday"},
        {"State": "run\0ning" * 100, "Status": None, "Image": 3},
    ],
)
def test_whatever_a_node_says_fits_the_tables(more: dict[str, Any]) -> None:
    (found,) = read({"Id": ID, "Labels": {"evc.config": "c"}, **more})
    assert found.container_id == ID
    assert len(found.digest) <= 80
    assert len(found.state) <= 20
    assert all(text.isprintable() for text in (found.digest, found.name, found.state, found.model))


@pytest.mark.parametrize("identity", [None, 7, {}])
def test_one_without_an_id_is_the_engine_s_fault(identity: object) -> None:
    with pytest.raises(EngineError, match="edge-1: containers: not as its API promises"):
        read({"Id": identity})


@pytest.mark.parametrize("details", [{}, {"State": None}, {"State": "up"}, {"State": {"Health": [1]}}])
def test_one_without_a_state_is_the_engine_s_fault(details: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="not as its API promises: no state"):
        asyncio.run(_state(cast(Engine, Listing(details=details)), ID))


def test_no_secret_of_what_a_container_wrote_is_told() -> None:
    class Written(Listing):
        async def logs(self, container: str, **_: Any) -> AsyncIterator[list[tuple[bool, bytes]]]:
            yield [(True, b"rtsp://me:s3cret@cam/1: refused\nno frame\n")]

    lines = asyncio.run(last_lines(cast(Engine, Written()), ID))
    assert lines == ["rtsp://me:***@cam/1: refused", "no frame"]
    said = {"Health": {"Log": [{"ExitCode": "1\0" * 99, "Output": "token=s3cret\0"}]}}
    assert _check_said(said) == "the last health check ended with None (token=***)"
