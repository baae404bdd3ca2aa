"""Sweeps of real sshds, good and bad ones side by side."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from evc.errors import CredentialsError, NodeTimeout
from evc.fleet.nodes import Node
from evc.ssh.credentials import Credentials, load_credentials
from evc.ssh.pool import Pool
from evc.sweep.reading import Memory, Outcome
from evc.sweep.sweeper import Sweeper, SweepResult
from tests.servers.sshd import SshServer, free_port, running_sshd

Sweep = Callable[..., Awaitable[SweepResult]]


def sweeping(server: SshServer, test: Callable[[Sweep], Awaitable[None]], timeout_s: float = 10) -> None:
    """Run ``test`` with a function that sweeps nodes over one pool."""

    def credentials_of(conn_id: str) -> Credentials:
        if conn_id != "evc_nodes":
            raise CredentialsError(f"connection {conn_id}: not defined")
        return load_credentials(conn_id, login=server.user, key_file=str(server.key_file))

    async def main() -> None:
        pool = Pool(credentials_of, connect_timeout_s=timeout_s)
        sweeper = Sweeper(pool, timeout_s=timeout_s, deadline_s=3 * timeout_s)

        async def sweep(
            *nodes: Node, ts: int = 1_000_000_200, memories: dict[int, Memory] | None = None
        ) -> SweepResult:
            return await sweeper.sweep(nodes, {node.name: node for node in nodes}, memories or {}, ts)

        try:
            await test(sweep)
        finally:
            await pool.close()

    asyncio.run(main())


def outcome_of(result: SweepResult, name: str) -> Outcome:
    (found,) = [outcome for node, outcome in result.outcomes if node.name == name]
    return found


def test_a_first_sweep_reads_everything_and_pins_the_key(sshd: SshServer) -> None:
    async def test(sweep: Sweep) -> None:
        result = await sweep(sshd.node(id=1))
        outcome = outcome_of(result, "edge1")
        (sample,) = outcome.rows["node_samples"]
        assert sample["up"] == 1
        assert sample["memory_total_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        assert sample["uptime_s"] == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=5)
        assert sample["storage_total_bytes"] > sample["storage_available_bytes"] > 0
        assert outcome.node["arch"] == os.uname().machine
        assert outcome.node["kernel"] == os.uname().release
        assert outcome.node["cpu_count"] == os.cpu_count()
        assert outcome.node["host_key"] == sshd.host_key
        assert {event["kind"] for event in outcome.rows["node_events"]} == {"up", "host_key_pinned"}
        assert "probe_runs" not in outcome.rows

    sweeping(sshd, test)


def test_the_second_sweep_over_the_same_connection_has_rates(sshd: SshServer) -> None:
    async def test(sweep: Sweep) -> None:
        node = sshd.node(id=1, host_key=sshd.host_key)
        first = outcome_of(await sweep(node), "edge1")
        before = sshd.sessions()
        await asyncio.sleep(1.1)
        second = outcome_of(await sweep(node, memories={1: first.memory}), "edge1")
        assert set(before) <= set(sshd.sessions())
        (sample,) = second.rows["node_samples"]
        assert 0 <= sample["cpu_usage_ratio"] <= 1
        assert "node_events" not in second.rows

    sweeping(sshd, test)


def test_bad_nodes_are_data_and_keep_nobody_waiting(sshd: SshServer, tmp_path: Path) -> None:
    async def test(sweep: Sweep) -> None:
        with running_sshd(tmp_path / "other") as other:
            result = await sweep(
                sshd.node("good", id=1),
                Node("closed", "127.0.0.1", free_port(), id=2),
                other.node("stranger", id=3),
                sshd.node("changed", id=4, host_key=other.host_key),
                sshd.node("nologin", id=5, conn_id="gone"),
                sshd.node("behind", id=6, jump_node="closed"),
                sshd.node("lost", id=7, jump_node="nowhere"),
            )
        assert outcome_of(result, "good").failure is None
        failures = {node.name: outcome.failure for node, outcome in result.outcomes if outcome.failure}
        assert set(failures) == {"closed", "stranger", "changed", "behind", "lost"}
        assert "Connection refused" in str(failures["closed"])
        assert "refused user" in str(failures["stranger"])
        assert "host key changed" in str(failures["changed"])
        assert str(failures["behind"]).startswith("behind: jump node closed: ")
        assert '"nowhere" is not a registered node' in str(failures["lost"])
        assert list(result.faults) == ["gone"]
        changed = outcome_of(result, "changed")
        assert [event["kind"] for event in changed.rows["node_events"]] == ["host_key_changed"]
        assert "host_key" not in changed.node

    sweeping(sshd, test)


def test_one_slow_node_ends_with_the_sweep_s_deadline(sshd: SshServer) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            pool = Pool(
                lambda conn_id: load_credentials(conn_id, login=sshd.user, key_file=str(sshd.key_file)),
                connect_timeout_s=30,
            )
            sweeper = Sweeper(pool, timeout_s=30, deadline_s=3)
            nodes = [Node("mute", "127.0.0.1", mute.getsockname()[1], id=1), sshd.node("good", id=2)]
            result = await sweeper.sweep(nodes, {}, {}, 1_000_000_200)
            await pool.close()
        assert outcome_of(result, "mute").failure == "mute: not done within the 3 s of a sweep"
        assert outcome_of(result, "good").failure is None

    asyncio.run(main())


def test_a_dead_jump_node_is_tried_once_for_all_nodes_behind_it(sshd: SshServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        gate = Node("gate", "127.0.0.1", mute.getsockname()[1], id=1)
        behind = [sshd.node(f"n{n}", id=n, jump_node="gate") for n in range(2, 12)]

        async def test(sweep: Sweep) -> None:
            begun = time.monotonic()
            result = await sweep(gate, *behind)
            assert len(result.failures) == 11
            assert sum(": jump node gate: " in line for line in result.failures) == 10
            assert time.monotonic() - begun < 6, "each node waited for it anew"

        sweeping(sshd, test, timeout_s=1)


def test_nodes_that_answered_last_time_come_first(sshd: SshServer) -> None:
    asked = []

    class Noting(Sweeper):
        async def ask(self, node: Node, registered: Mapping[str, Node], memory: Memory, ts: int) -> Outcome:
            asked.append(node.name)
            raise NodeTimeout(node.name)

    async def main() -> None:
        sweeper = Noting(Pool(lambda _: login, connect_timeout_s=1), timeout_s=1, deadline_s=1)
        nodes = [sshd.node(f"n{n}", id=n) for n in range(6)]
        await sweeper.sweep(nodes, {}, {n: Memory(missed_sweeps=(n + 1) % 3) for n in range(6)}, 1_000_000_200)

    login = load_credentials("evc_nodes", login=sshd.user, key_file=str(sshd.key_file))
    asyncio.run(main())
    assert asked == ["n2", "n5", "n0", "n3", "n1", "n4"]


def test_no_file_descriptor_left_is_our_fault_and_not_the_nodes(sshd: SshServer) -> None:
    async def test(sweep: Sweep) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        taken = []
        try:
            with suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            result = await sweep(*(sshd.node(f"n{n}", id=n) for n in range(1, 4)))
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert result.outcomes == []
        assert {"Too many open files" in str(fault) for fault in result.faults.values()} == {True}

    sweeping(sshd, test)


def test_a_connection_that_died_between_sweeps_is_opened_again_in_the_same_sweep(tmp_path: Path) -> None:
    with running_sshd(tmp_path) as server:

        async def test(sweep: Sweep) -> None:
            await sweep(server.node(id=1))
            server.stop()
            server.start()
            assert outcome_of(await sweep(server.node(id=1)), "edge1").failure is None

        sweeping(server, test)


def test_a_node_whose_key_changes_between_sweeps_is_refused(tmp_path: Path) -> None:
    with running_sshd(tmp_path) as server:

        async def test(sweep: Sweep) -> None:
            node = server.node(id=1, host_key=server.host_key)
            assert outcome_of(await sweep(node), "edge1").failure is None
            server.stop()
            server.renew_host_key()
            server.start()
            assert "host key changed" in str(outcome_of(await sweep(node), "edge1").failure)

        sweeping(server, test)


def test_a_connection_cut_in_mid_answer_counts_as_far_as_it_came(tmp_path: Path) -> None:
    slow, begun = tmp_path / "bin", tmp_path / "begun"
    fake(slow / "df", f"touch {begun}; exec sleep 30")
    with running_sshd(tmp_path / "sshd", f"SetEnv PATH={slow}:/usr/bin:/bin") as server:

        async def test(sweep: Sweep) -> None:
            running = asyncio.ensure_future(sweep(server.node(id=1)))
            while not begun.exists() and not running.done():  # noqa: ASYNC110  a file, which no event tells of
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)  # what was said before it is on its way
            for pid in server.sessions():
                os.kill(pid, signal.SIGKILL)
            (sample,) = outcome_of(await running, "edge1").rows["node_samples"]
            assert sample["up"] == 1
            assert sample["load1"] is not None
            assert sample.get("storage_total_bytes") is None

        sweeping(server, test)


def fake(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_hung_df_costs_only_storage_and_only_the_time_out(tmp_path: Path) -> None:
    started = tmp_path / "started"
    fake(tmp_path / "bin" / "df", f"echo df >> {started}; exec sleep 60")
    with running_sshd(tmp_path / "sshd", f"SetEnv PATH={tmp_path / 'bin'}:/usr/bin:/bin") as server:

        async def test(sweep: Sweep) -> None:
            begun = time.monotonic()
            first = outcome_of(await sweep(server.node(id=1)), "edge1")
            assert time.monotonic() - begun < 30
            (sample,) = first.rows["node_samples"]
            assert (sample["up"], sample.get("storage_total_bytes")) == (1, None)
            assert sample["memory_total_bytes"] > 0
            assert [run["probe"] for run in first.rows["probe_runs"]] == ["storage"]
            second = outcome_of(await sweep(server.node(id=1), ts=1_000_000_230, memories={1: first.memory}), "edge1")
            assert second.failure is None

        sweeping(server, test, timeout_s=3)
    assert started.read_text() == "df\n", "df was started again in its slot"


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("exec head -c 10000000 /dev/zero", "answered without a single reading (limit"),
        ("exec head -c 30000 /dev/urandom", "answered without a single reading (exit status 0"),
        ("exit 3", "answered without a single reading (exit status 3, 0 bytes)"),
        ("exec sleep 30", "no answer within 6 s"),
        ("echo 'This account is currently not available.'; exit 1", "answered without a single reading (exit status 1"),
    ],
)
def test_an_answer_without_a_reading_says_what_came(tmp_path: Path, script: str, failure: str) -> None:
    fake(tmp_path / "shell", script)
    with running_sshd(tmp_path / "sshd", f"ForceCommand {tmp_path / 'shell'}") as server:

        async def test(sweep: Sweep) -> None:
            outcome = outcome_of(await sweep(server.node(id=1)), "edge1")
            assert failure in str(outcome.failure)
            assert "host_key" not in outcome.node

        sweeping(server, test, timeout_s=6)


def test_a_banner_of_the_login_shell_before_the_answer_does_no_harm(tmp_path: Path) -> None:
    script = 'echo "Welcome to edge!"; head -c 3000 /dev/urandom; echo; exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"'
    fake(tmp_path / "shell", script)
    with running_sshd(tmp_path / "sshd", f"ForceCommand {tmp_path / 'shell'}") as server:

        async def test(sweep: Sweep) -> None:
            (sample,) = outcome_of(await sweep(server.node(id=1)), "edge1").rows["node_samples"]
            assert sample["load1"] is not None
            assert sample["storage_total_bytes"] > 0

        sweeping(server, test)


def test_fifty_nodes_on_as_many_addresses(tmp_path: Path) -> None:
    with running_sshd(tmp_path, address="0.0.0.0") as server:

        async def test(sweep: Sweep) -> None:
            nodes = [replace(server.node(f"n{n}", id=n), host=f"127.0.7.{n}") for n in range(1, 51)]
            result = await sweep(*nodes)
            assert result.failures == []
            assert len(result.outcomes) == 50

        sweeping(server, test, timeout_s=30)
