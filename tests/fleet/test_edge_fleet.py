"""The real fleet itself: what the tests on it rely on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import asyncssh
import docker
import pytest
from docker.errors import APIError

from tests.servers.edge import BASE, EdgeFleet
from tests.servers.edge_node import ENGINE_SOCKET, EdgeNode

PROJECT = Path(__file__).parents[2]


def pull(node: EdgeNode, fleet: EdgeFleet, image: str) -> str:
    """Pull as a person on the node would; returns what docker said."""
    return node.run("docker", "pull", f"{fleet.registry.address(fleet.registry.pull)}/{image}", check=False)


def greeting(node: EdgeNode, timeout_s: float) -> bytes:
    """Connect to the node's sshd, without SSH."""
    with socket.create_connection((node.address, node.port), timeout_s) as connection:
        return connection.recv(8)


async def running_names(node: EdgeNode, socket_file: Path) -> list[str]:
    """Ask the engine through a tunnel, the host key pinned; returns the names of its containers."""
    registered = node.node()
    connection = await asyncssh.connect(
        registered.host,
        registered.port,
        username=registered.user or "",
        client_keys=[str(node.key_file)],
        known_hosts=asyncssh.import_known_hosts(f"{registered.host} {registered.host_key}"),
        config=None,
    )
    async with connection, await connection.forward_local_path(str(socket_file), ENGINE_SOCKET):
        client = docker.DockerClient(f"unix://{socket_file}", version="1.41")
        found = await asyncio.to_thread(client.containers.list)
        client.close()
    return [container.name for container in found]


def test_every_engine_answers_over_ssh(edge_fleet: EdgeFleet, edge_nodes: list[EdgeNode], tmp_path: Path) -> None:
    digest = edge_fleet.push_image("reid", "1.0")
    image = f"{edge_fleet.registry.address(edge_fleet.registry.pull)}/reid@{digest}"
    for node in edge_nodes:
        node.trust(edge_fleet.registry)
        node.run("docker", "run", "--detach", "--name", f"on-{node.name}", image)
    for node in edge_nodes:
        assert asyncio.run(running_names(node, tmp_path / node.name)) == [f"on-{node.name}"]
        assert json.loads(node.run("docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image)) == [image]


def test_a_node_is_reached_on_loopback_too(clean_node: EdgeNode) -> None:
    command = [
        "ssh", "-F", "none", "-i", str(clean_node.key_file), "-p", str(clean_node.local_port), "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "root@127.0.0.1", "hostname",
    ]  # fmt: skip
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "edge-1\n"


def test_nodes_know_each_other_and_the_registry(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    known = clean_node.run("getent", "hosts", "builder", edge_fleet.registry.name).split()
    assert known == [edge_fleet.builder.address, "builder", edge_fleet.registry.host, edge_fleet.registry.name]


def test_ansible_finds_python_and_sftp(clean_node: EdgeNode) -> None:
    clean_node.run("python3", "-c", "import ctypes, json, ssl, sqlite3, zipfile")
    clean_node.run("test", "-x", "/usr/lib/openssh/sftp-server")


def test_the_builder_builds_and_pushes(builder: EdgeNode, clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    registry = edge_fleet.registry
    for node in (builder, clean_node):
        node.trust(registry)
    built = f"{registry.address(registry.push, registry.name)}/built:1"
    dockerfile = f'FROM {":".join(BASE)}\nRUN python3 -c \'import json\'\nCMD ["python3", "-c", "print(6 * 7)"]\n'
    builder.write_file("/root/model/Dockerfile", dockerfile.encode())
    builder.run("docker", "build", "--tag", built, "/root/model")
    builder.run("docker", "push", built)
    pulled = f"{registry.address(registry.pull, registry.name)}/built:1"
    assert clean_node.run("docker", "run", pulled).endswith("42\n")


def test_the_pull_only_face_takes_nothing(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    edge_fleet.push_image("reid", "1.0")
    clean_node.trust(edge_fleet.registry)
    assert "Downloaded newer image" in pull(clean_node, edge_fleet, "reid:1.0")
    address = edge_fleet.registry.address(edge_fleet.registry.pull)
    clean_node.run("docker", "tag", f"{address}/reid:1.0", f"{address}/other:1")
    assert "HTTP 405" in clean_node.run("docker", "push", f"{address}/other:1", check=False)


def test_each_face_has_its_own_accounts(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    registry = edge_fleet.registry
    registry.pull.add_account("kept")
    passing = registry.pull.add_account("passing")
    clean_node.trust(registry, log_in=False)

    def log_in(address: str, login: str, password: str) -> str:
        return clean_node.run("docker", "login", "-u", login, "-p", password, address, check=False)

    assert "Login Succeeded" in log_in(registry.address(registry.pull), passing.login, passing.password)
    assert "401 Unauthorized" in log_in(registry.address(registry.push), passing.login, passing.password)
    assert "401 Unauthorized" in log_in(registry.address(registry.pull), passing.login, "wrong")
    registry.pull.remove_account("passing")
    assert "401 Unauthorized" in log_in(registry.address(registry.pull), passing.login, passing.password)
    registry.pull.remove_account("kept")


def test_a_node_trusts_no_registry_at_first(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    edge_fleet.push_image("reid", "1.0")
    assert "signed by unknown authority" in pull(clean_node, edge_fleet, "reid:1.0")


def test_an_expired_certificate_is_refused(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    edge_fleet.push_image("reid", "1.0")
    clean_node.trust(edge_fleet.registry)
    edge_fleet.registry.renew_certificate(timedelta(hours=-1))
    try:
        assert "certificate has expired" in pull(clean_node, edge_fleet, "reid:1.0")
    finally:
        edge_fleet.registry.renew_certificate()
    assert "Downloaded newer image" in pull(clean_node, edge_fleet, "reid:1.0")


def test_a_stopped_registry_keeps_what_it_has(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    digest = edge_fleet.push_image("reid", "1.0")
    clean_node.trust(edge_fleet.registry)
    edge_fleet.registry.stop()
    assert "connection refused" in pull(clean_node, edge_fleet, "reid:1.0")
    edge_fleet.registry.start()
    assert digest in pull(clean_node, edge_fleet, "reid:1.0")


def test_packets_of_a_cut_node_vanish(clean_node: EdgeNode) -> None:
    clean_node.cut()
    with pytest.raises(TimeoutError):
        greeting(clean_node, 1)
    with clean_node.engine() as engine:
        assert engine.ping()  # the test still sees what goes on there
    clean_node.restore()
    assert greeting(clean_node, 5) == b"SSH-2.0-"


def test_a_node_that_is_cut_fast_refuses(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    clean_node.trust(edge_fleet.registry)
    clean_node.cut(fast=True)
    with pytest.raises(ConnectionRefusedError):
        greeting(clean_node, 5)
    assert "connection refused" in pull(clean_node, edge_fleet, "reid:1.0")
    clean_node.restore()
    assert greeting(clean_node, 5) == b"SSH-2.0-"


def test_an_open_connection_to_a_node_that_is_cut_fast_is_reset(clean_node: EdgeNode) -> None:
    with socket.create_connection((clean_node.address, clean_node.port), 5) as connection:
        assert connection.recv(8)
        clean_node.cut(fast=True)
        with pytest.raises(ConnectionError):
            for _ in range(50):
                connection.sendall(b"\n")
                time.sleep(0.02)


def test_a_lossy_link_is_slow_and_works(clean_node: EdgeNode) -> None:
    clean_node.lose_packets(0.1)
    assert clean_node.run("iptables-save", "-t", "mangle").count("--probability 0.1") == 2
    assert greeting(clean_node, 60) == b"SSH-2.0-"


def test_a_pull_on_a_slow_link_survives_a_cut(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    digest = edge_fleet.push_image("large", "1", size_mb=16)
    clean_node.trust(edge_fleet.registry)
    clean_node.limit_rate(4_000_000)
    said: list[str] = []
    puller = threading.Thread(target=lambda: said.append(pull(clean_node, edge_fleet, "large:1")))
    started = time.monotonic()
    puller.start()
    time.sleep(1.5)
    clean_node.cut()
    with clean_node.engine() as engine:
        assert not engine.images.list()
    time.sleep(1)
    assert puller.is_alive()
    clean_node.restore()
    puller.join(60)
    assert digest in said[0]
    assert time.monotonic() - started > 16 / 4  # the link was not faster than it was told


def test_a_restart_keeps_images_files_and_the_host_key(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    digest = edge_fleet.push_image("reid", "1.0")
    clean_node.trust(edge_fleet.registry)
    image = f"{edge_fleet.registry.address(edge_fleet.registry.pull)}/reid@{digest}"
    clean_node.run("docker", "run", "--detach", "--restart", "always", "--name", "reid", image)
    host_key, boot = clean_node.host_key, clean_node.run("stat", "-c", "%Y", "/proc/1")
    clean_node.restart()
    assert clean_node.run("stat", "-c", "%Y", "/proc/1") != boot
    assert clean_node.host_key == host_key
    clean_node.run("test", "-e", f"/etc/docker/certs.d/{edge_fleet.registry.address(edge_fleet.registry.pull)}/ca.crt")
    with clean_node.engine() as engine:
        assert engine.images.list()[0].attrs["RepoDigests"] == [image]
        assert [container.name for container in engine.containers.list(ignore_removed=True)] == ["reid"]


def test_a_node_comes_back_when_its_plug_was_pulled(clean_node: EdgeNode) -> None:
    clean_node.power_off()
    with pytest.raises(OSError, match=r"timed out|No route to host"):
        greeting(clean_node, 1)
    clean_node.start()
    assert greeting(clean_node, 5) == b"SSH-2.0-"


def test_a_container_outlives_its_engine(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    edge_fleet.push_image("reid", "1.0")
    clean_node.trust(edge_fleet.registry)
    address = edge_fleet.registry.address(edge_fleet.registry.pull)
    clean_node.run("docker", "run", "--detach", "--restart", "always", "--name", "reid", f"{address}/reid:1.0")
    clean_node.kill_engine()
    assert "/run.sh" in clean_node.run("ps", "ax")
    assert "Cannot connect" in clean_node.run("docker", "ps", check=False)
    clean_node.start_engine()
    with clean_node.engine() as engine:
        assert [container.name for container in engine.containers.list(ignore_removed=True)] == ["reid"]
    clean_node.kill_engine()
    clean_node.restart()
    with clean_node.engine() as engine:
        assert [container.name for container in engine.containers.list(ignore_removed=True)] == ["reid"]


def test_a_full_disk_takes_no_image(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    edge_fleet.push_image("large", "2", size_mb=16)
    clean_node.trust(edge_fleet.registry)
    clean_node.fill_disk(leave_bytes=8_000_000)
    assert "no space left on device" in pull(clean_node, edge_fleet, "large:2")
    clean_node.free_disk()
    assert "Downloaded newer image" in pull(clean_node, edge_fleet, "large:2")


def test_a_node_with_a_small_disk_joins_and_leaves(edge_fleet: EdgeFleet) -> None:
    node = edge_fleet.add_node("small", disk_bytes=64 << 20)
    try:
        size, used = (int(word) for word in node.run("df", "-B1", "--output=size,used", "/var/lib/docker").split()[-2:])
        assert used < size < 64 << 20
    finally:
        edge_fleet.remove_node("small")
    assert "small" not in edge_fleet.nodes


def test_images_are_as_healthy_large_and_foreign_as_told(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    edge_fleet.push_image("well", "1", "latest", healthcheck="true", labels={"model": "reid"}, environment={"A": "b"})
    edge_fleet.push_image("ill", "1", healthcheck="false", size_mb=2)
    edge_fleet.push_image("foreign", "1", architecture="arm64")
    clean_node.trust(edge_fleet.registry)
    address = edge_fleet.registry.address(edge_fleet.registry.pull)
    for name in ("well", "ill"):
        clean_node.run("docker", "run", "--detach", "--name", name, f"{address}/{name}:1")
    pull(clean_node, edge_fleet, "foreign:1")
    with clean_node.engine() as engine:
        well, ill = engine.containers.get("well"), engine.containers.get("ill")
        deadline = time.monotonic() + 30
        while "starting" in (well.health, ill.health) and time.monotonic() < deadline:
            time.sleep(0.1)
            well.reload()
            ill.reload()
        assert (well.health, ill.health) == ("healthy", "unhealthy")
        assert well.image.labels == {"model": "reid"}
        assert "A=b" in well.attrs["Config"]["Env"]
        assert ill.image.attrs["Size"] - well.image.attrs["Size"] >= 2_000_000
        assert engine.images.get(f"{address}/foreign:1").attrs["Architecture"] == "arm64"


def test_a_clean_node_is_as_new(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    edge_fleet.push_image("reid", "1.0")
    clean_node.trust(edge_fleet.registry)
    address = edge_fleet.registry.address(edge_fleet.registry.pull)
    clean_node.run("docker", "run", "--detach", "--volume", "left:/data", f"{address}/reid:1.0")
    clean_node.run("docker", "network", "create", "left")
    clean_node.fill_disk()
    clean_node.cut()
    clean_node.kill_engine()
    clean_node.clean()
    assert greeting(clean_node, 5) == b"SSH-2.0-"
    with clean_node.engine() as engine:
        assert not engine.containers.list(ignore_removed=True, all=True)
        assert not engine.images.list(all=True)
        assert not engine.volumes.list()
        assert {network.name for network in engine.networks.list()} == {"bridge", "host", "none"}
    assert "No such file" in clean_node.run("ls", "/root/.docker", "/etc/docker/certs.d", check=False)
    clean_node.stop()
    clean_node.clean()
    assert greeting(clean_node, 5) == b"SSH-2.0-"


def test_the_logs_tell_what_happened(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> None:
    with pytest.raises(RuntimeError, match="on edge-1 ended with 3: so it is"):
        clean_node.run("sh", "-c", "echo so it is; exit 3")
    logs = edge_fleet.logs()
    assert "Accepted publickey for root" in logs
    assert "API listen on /var/run/docker.sock" in logs
    assert "--- registry pull-only.log" in logs


def test_what_a_killed_process_leaves_is_removed_by_the_next(edge_fleet: EdgeFleet, tmp_path: Path) -> None:
    def edge(action: str, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.servers.edge", action, "--nodes", "0", "--folder", str(folder)]
        subprocess.run(command, check=True, cwd=PROJECT, capture_output=True)

    def containers(fleet: dict[str, object]) -> list[str]:
        found = edge_fleet.engine.containers.list(
            ignore_removed=True, all=True, filters={"label": f"evc.fleet={fleet['id']}"}
        )
        return sorted(container.name.rpartition(f"{fleet['id']}-")[2] for container in found)

    edge("up", tmp_path / "killed")
    killed = json.loads((tmp_path / "killed" / "fleet.json").read_text())
    assert containers(killed) == ["builder"]
    with socket.create_connection((killed["registry"]["host"], killed["registry"]["pull"]["port"]), 5):
        os.kill(killed["pid"], signal.SIGKILL)

    edge("up", tmp_path / "next")
    assert containers(killed) == []
    assert not Path(killed["folder"]).exists()
    with pytest.raises(OSError, match="refused|No route|unreachable|timed out"):
        socket.create_connection(("127.0.0.1", killed["registry"]["pull"]["port"]), 5)
    following = json.loads((tmp_path / "next" / "fleet.json").read_text())
    assert containers(following) == ["builder"]
    edge("down", tmp_path / "next")
    edge("down", tmp_path / "killed")
    assert containers(following) == []
    assert not Path(following["folder"]).exists()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(APIError):
        edge_fleet.engine.api.inspect_network(f"evc-{following['id']}")
