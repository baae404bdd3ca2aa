"""The floor: bare asyncssh that runs ``true`` over open connections, in a fresh process; a child of the bench."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncssh

from bench.child import cpu_s, read_order, reply

AT_ONCE = 20


class _Session(asyncssh.SSHClientSession[bytes]):
    """The least that asyncssh can be asked to do with a command: wait for its end."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def _run_true(connection: asyncssh.SSHClientConnection) -> None:
    session = _Session()
    await connection.create_session(lambda: session, "true", encoding=None)
    await session.closed


async def _main(addresses: list[list[Any]], user: str, key_file: str, rounds: int) -> dict[str, float]:
    key = asyncssh.read_private_key(key_file)
    places = asyncio.Semaphore(AT_ONCE)

    async def connect(host: str, port: int) -> asyncssh.SSHClientConnection:
        async with places:
            return await asyncssh.connect(
                host, port, username=user, client_keys=[key], known_hosts=None, config=None, agent_path=None
            )

    begun = cpu_s()
    connections = await asyncio.gather(*(connect(*address) for address in addresses))
    opened = cpu_s()
    for _ in range(rounds):
        await asyncio.gather(*map(_run_true, connections))
    ran = cpu_s()
    for connection in connections:
        connection.close()
    await asyncio.gather(*(connection.wait_closed() for connection in connections))
    count = len(addresses)
    return {"login_ms": (opened - begun) / count * 1000, "true_ms": (ran - opened) / count / max(rounds, 1) * 1000}


if __name__ == "__main__":
    reply(asyncio.run(_main(**read_order())))
