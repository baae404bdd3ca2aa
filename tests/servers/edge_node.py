"""An edge node of a test fleet: a container with sshd, a Docker Engine and a disk of its own."""

from __future__ import annotations

import asyncio
import io
import json
import shlex
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import docker
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from requests import RequestException

from evc.fleet.nodes import Node
from tests.servers.programs import program
from tests.servers.registry import Registry

ENGINE_SOCKET = "/var/run/docker.sock"
_READY_TIMEOUT_S = 60
_ENVIRONMENT = ("HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
_FILLER = "/var/lib/docker/filler"
_DISK_METADATA_BYTES = 8 << 20  # a file system needs some for a large file, too


class EdgeNode:
    """A running node.

    :param folder: its disk image, keys and logs, on this machine
    :param address: its own address, reachable from this machine and from the other nodes; the same over restarts
    :param local_port: where 127.0.0.1 leads to its sshd too; connecting there works even when the node does not answer
    """

    user = "root"
    port = 22

    def __init__(
        self, name: str, address: str, local_port: int, folder: Path, key_file: Path, engine: docker.DockerClient
    ) -> None:
        self.name, self.address, self.local_port = name, address, local_port
        self.folder, self.key_file = folder, key_file
        self.container_id = ""
        self._engine = engine

    # what leads to it

    @property
    def host_key(self) -> str:
        """What its sshd presents, ``TYPE BASE64``; the same over restarts."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def node(self, **more: object) -> Node:
        """Return what a user would register; ``more`` wins."""
        given: dict[str, object] = {
            "name": self.name,
            "host": self.address,
            "port": self.port,
            "user": self.user,
            "host_key": self.host_key,
        }
        return Node(**{**given, **more})  # type: ignore[arg-type]  # a test says what it wants to differ

    @contextmanager
    def engine(self) -> Iterator[docker.DockerClient]:
        """Yield a client of its engine past SSH and network: what is really there, even while it is cut off."""
        client = docker.DockerClient(base_url=f"unix://{self.folder / 'engine.sock'}", version="1.41", timeout=60)
        try:
            yield client
        finally:
            client.close()

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command on it past SSH; returns stdout and stderr.

        :raises RuntimeError: it ended with another status than 0, or the node is not running
        """
        pid = self._state()["Pid"]
        if not pid:
            raise RuntimeError(f"{self.name} is not running")
        # docker exec loses a command's output now and then on a busy machine
        enter = ["nsenter", "--target", str(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--root"]
        command = [*enter, "/usr/bin/env", "-i", "-C", "/", *_ENVIRONMENT, *argv]
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if check and done.returncode:
            said = done.stdout[-2000:]
            raise RuntimeError(f"{shlex.join(argv)} on {self.name} ended with {done.returncode}: {said}")
        return done.stdout

    def write_file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file on it; folders on the way are made."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode, info.mtime = len(content), mode, int(time.time())
            tar.addfile(info, io.BytesIO(content))
        self._engine.api.put_archive(self.container_id, "/", archive.getvalue())

    def logs(self, max_lines: int = 50) -> str:
        """Return the end of what its engine and its sshd said."""
        said: bytes = self._engine.api.logs(self.container_id, tail=max_lines)
        parts = [f"--- {self.name} console", said.decode(errors="replace")]
        parts += [log_tail(file, max_lines) for file in sorted(self.folder.glob("*.log"))]
        return "\n".join(parts)

    # power

    def start(self) -> None:
        """Boot it and wait until its engine answers over SSH."""
        self._engine.api.start(self.container_id)
        self.wait_ready()

    def stop(self) -> None:
        """Shut it down in order: containers get their SIGTERM."""
        self._engine.api.stop(self.container_id, timeout=20)

    def power_off(self) -> None:
        """Pull the plug."""
        self._engine.api.kill(self.container_id)

    def restart(self) -> None:
        """Shut it down and boot it: images, containers, files and host key stay, limits and cuts of its link do not."""
        self.stop()
        self.start()

    def wait_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Wait until its engine answers over SSH.

        :raises RuntimeError: it does not; the message ends with its logs
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                with self.engine() as client:
                    client.ping()  # cheaper than a login, until it is worth one
                asyncio.run(self._ping())
            except (OSError, DockerException, RequestException, asyncssh.Error) as error:
                if time.monotonic() > deadline or not self._is_up():
                    raise RuntimeError(f"{self.name} is not ready: {error}\n{self.logs()}") from error
                time.sleep(0.05)
            else:
                return

    def _is_up(self) -> bool:
        return bool(self._state()["Running"])

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._engine.api.inspect_container(self.container_id)["State"]
        return state

    async def _ping(self) -> None:
        async with asyncio.timeout(5):
            connection = await asyncssh.connect(
                self.address,
                self.port,
                username=self.user,
                client_keys=[str(self.key_file)],
                known_hosts=asyncssh.import_known_hosts(f"{self.address} {self.host_key}"),
                config=None,
                agent_path=None,
            )
            async with connection:
                reader, writer = await connection.open_unix_connection(ENGINE_SOCKET)
                writer.write(b"GET /_ping HTTP/1.0\r\n\r\n")
                answer = await reader.readline()
                if b" 200 " not in answer:
                    raise OSError(f"the engine answered {answer!r}")

    # network

    def cut(self, *, fast: bool = False) -> None:
        """Cut it off from the network: packets vanish and whoever waits hangs; ``fast``: each is refused at once."""
        self.restore()
        if fast:
            refused = ("-p", "tcp", "!", "--tcp-flags", "RST", "RST", "-j", "REJECT", "--reject-with", "tcp-reset")
            for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o"), ("FORWARD", "-i"), ("FORWARD", "-o")):
                self._iptables("filter", "-I", chain, way, "eth0", *refused)
                self._iptables("filter", "-I", chain, way, "eth0", "-p", "udp", "-j", "REJECT")
        else:
            self._iptables("mangle", "-I", "PREROUTING", "-i", "eth0", "-j", "DROP")
            self._iptables("mangle", "-I", "POSTROUTING", "-o", "eth0", "-j", "DROP")

    def restore(self) -> None:
        """Take back :meth:`cut` and :meth:`lose_packets`."""
        script = "for t in mangle filter; do iptables-save -t $t | grep -E -- '-[io] eth0 .*(DROP|REJECT)'"
        script += " | sed s/^-A/-D/ | while read -r rule; do eval iptables -w -t $t $rule; done; done; true"
        self.run("sh", "-c", script)

    def lose_packets(self, probability: float) -> None:
        """Let each packet, in and out, be lost with this probability."""
        self.restore()
        lose = ("-m", "statistic", "--mode", "random", "--probability", f"{probability:.4f}", "-j", "DROP")
        self._iptables("mangle", "-I", "PREROUTING", "-i", "eth0", *lose)
        self._iptables("mangle", "-I", "POSTROUTING", "-o", "eth0", *lose)

    def limit_rate(self, bytes_per_s: int | None) -> None:
        """Let it receive no faster than this; None: as fast as it can."""
        interface = self._interface()
        qdisc = [program("tc", "iproute2"), "qdisc"]
        if bytes_per_s is None:
            subprocess.run([*qdisc, "del", "dev", interface, "root"], check=False, capture_output=True)
            return
        shape = ["tbf", "rate", f"{bytes_per_s * 8}bit", "burst", "32kb", "latency", "200ms"]
        subprocess.run([*qdisc, "replace", "dev", interface, "root", *shape], check=True)

    def _iptables(self, table: str, *rule: str) -> None:
        self.run("iptables", "-w", "-t", table, *rule)

    def _interface(self) -> str:
        """Return this machine's end of its link."""
        index = self.run("cat", "/sys/class/net/eth0/iflink").strip()
        for found in Path("/sys/class/net").iterdir():
            if (found / "ifindex").read_text().strip() == index:
                return found.name
        raise RuntimeError(f"{self.name} has no link: is it running?")

    # engine

    def kill_engine(self) -> None:
        """Kill its dockerd, SIGKILL; containers run on without it. Nothing starts it again but :meth:`start_engine`."""
        self.run("sh", "-c", "kill -9 $(cat /run/docker.pid); while kill -0 $(cat /run/docker.pid) 2>&1; do :; done")

    def start_engine(self) -> None:
        """Start its dockerd and wait until it answers."""
        done = self._engine.api.exec_create(self.container_id, ["edge-engine"])
        self._engine.api.exec_start(done, detach=True)
        self.wait_ready()

    def clean(self, keep_images: Sequence[str] = ()) -> None:
        """Bring it to a new node's state: up, no cut, no limit, no logins, no containers, volumes or images.

        :param keep_images: repository tags of images that stay
        """
        if not self._is_up():
            self.start()
        self.restore()
        self.limit_rate(None)
        self.run("rm", "-rf", "/etc/docker/certs.d", "/root/.docker", _FILLER)
        if not self._engine_runs():
            self.start_engine()
        with self.engine() as client:
            for container in client.containers.list(all=True, ignore_removed=True):
                _remove(container)
            for image in client.images.list():
                if not set(image.tags) & set(keep_images):
                    client.images.remove(image.id, force=True)
            client.images.prune(filters={"dangling": True})
            client.volumes.prune()
            client.networks.prune()

    def _engine_runs(self) -> bool:
        return "yes" in self.run("sh", "-c", "kill -0 $(cat /run/docker.pid) && echo yes", check=False)

    def load_root(self, archive: Path, repository: str, tag: str) -> None:
        """Import a ``.tar.gz`` of a root file system as an image; nothing happens where it is there already."""
        with self.engine() as client:
            if client.images.list(f"{repository}:{tag}"):
                return
            said = client.api.import_image(src=str(archive), repository=repository, tag=tag)
            if "error" in said:
                raise DockerException(said)

    # registry

    def trust(self, registry: Registry, *, log_in: bool = True) -> None:
        """Give it the registry's CA, and a login to each face for who runs ``docker`` on it, as by hand."""
        auths: dict[str, Mapping[str, str]] = {}
        for face in (registry.push, registry.pull):
            for host in (registry.host, registry.name):
                address = registry.address(face, host)
                self.write_file(f"/etc/docker/certs.d/{address}/ca.crt", registry.ca_file.read_bytes())
                auths[address] = {"auth": face.account.basic()}
        if log_in:
            self.write_file("/root/.docker/config.json", json.dumps({"auths": auths}).encode(), 0o600)

    # disk

    def fill_disk(self, leave_bytes: int = 0) -> None:
        """Fill the disk of its engine up to ``leave_bytes``."""
        self.free_disk()
        blocks, block_bytes = self.run("stat", "-f", "-c", "%a %S", "/var/lib/docker").split()
        size = int(blocks) * int(block_bytes) - leave_bytes
        at_once = max(size - _DISK_METADATA_BYTES, 1)
        fill = f"fallocate -l {at_once} {_FILLER}; head -c {size - at_once} /dev/zero >>{_FILLER} 2>/dev/null"
        self.run("sh", "-c", f"{fill}; sync")

    def free_disk(self) -> None:
        """Take back :meth:`fill_disk`."""
        self.run("rm", "-f", _FILLER)


def log_tail(file: Path, max_lines: int) -> str:
    """Return the last lines of a log, and which log it is."""
    lines = [line[:400] for line in file.read_text(errors="replace").splitlines()[-max_lines:]]
    return "\n".join([f"--- {file.parent.name} {file.name}", *lines])


def _remove(container: Container, timeout_s: float = 20) -> None:
    """Remove it, or wait until the engine has: it may be at that already, of a build that was ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            container.remove(force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409 or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return
