"""A real fleet on this machine: a builder, edge nodes, and a registry with TLS.

By hand: ``python -m tests.servers.edge up --folder DIR``, and ``down``; ``DIR/fleet.json`` tells where all of it is.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh
import docker
from docker.errors import APIError
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from tests.servers import images
from tests.servers.cache import making, packed_root, recipe_key, root_folder
from tests.servers.edge_node import EdgeNode, log_tail
from tests.servers.engine import LABEL, owned_fleet, running_engine
from tests.servers.opencv_base import OPENCV_BASE, PYTHON_RECIPE, packed_opencv_base
from tests.servers.programs import program
from tests.servers.registry import NAME, Registry, make_registry
from tests.servers.sshd import free_port

BASE = ("base/python", "3.11")
_NODE_RECIPE = "edge-node.sh"
_DISK_BYTES = 8 << 30


class EdgeFleet:
    """A running fleet.

    :param folder: keys, registry, the nodes' disks and logs
    :ivar nodes: the edge nodes by name, the builder not among them
    :ivar builder: the node that builds; it holds the image ``base/python:3.11``
    """

    builder: EdgeNode

    def __init__(self, engine: docker.DockerClient, fleet_id: str, folder: Path) -> None:
        self.folder = folder
        self.engine = engine
        self.id = fleet_id
        self.nodes: dict[str, EdgeNode] = {}
        self._image = _node_image(engine)
        self.key_file = folder / "id"
        _write_key(self.key_file)
        self._network, self.gateway = _create_network(engine, self.id)
        self._next_address = 10
        self._numbers = threading.Lock()
        self.registry: Registry = make_registry(folder / "registry", self.gateway)

    @property
    def network_name(self) -> str:
        """The network of nodes and registry; it leads to this machine and no further."""
        return str(self._network.name)

    def connections(self) -> dict[str, dict[str, Any]]:
        """Return the Airflow connections by which EVC knows it, by their ids: logins of nodes, the registry."""
        registry, account = self.registry, self.registry.push.account
        return {
            "evc_nodes": {"conn_type": "ssh", "login": "root", "extra": {"key_file": str(self.key_file)}},
            "evc_registry": {
                "conn_type": "docker",
                "host": registry.host,
                "port": registry.push.port,
                "login": account.login,
                "password": account.password,
                "extra": {"ca_path": str(registry.ca_file), "pull_address": registry.address(registry.pull)},
            },
        }

    def start(self, node_names: Sequence[str]) -> None:
        """Start registry, builder and nodes, all at once."""
        self.registry.start()
        with ThreadPoolExecutor(8) as pool:
            builder = pool.submit(self._add_builder)
            nodes = list(pool.map(self._new_node, node_names))
            self.builder = builder.result()
        self.nodes.update((node.name, node) for node in nodes)

    def add_node(self, name: str, *, disk_bytes: int = _DISK_BYTES, engine_options: str = "") -> EdgeNode:
        """Start one more node and wait until it is ready.

        :param disk_bytes: the size of the disk on which its engine keeps everything
        :param engine_options: more options of dockerd(8)
        """
        node = self._new_node(name, disk_bytes=disk_bytes, engine_options=engine_options)
        self.nodes[name] = node
        return node

    def add_nodes(self, names: Sequence[str]) -> list[EdgeNode]:
        """Start more nodes, all at once."""
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(self.add_node, names))

    def remove_node(self, name: str) -> None:
        """Remove a node with all it has."""
        node = self.nodes.pop(name)
        self.engine.api.remove_container(node.container_id, force=True, v=True)
        shutil.rmtree(node.folder)

    def push_image(
        self,
        repository: str,
        tag: str,
        *more_tags: str,
        script: str = "trap exit TERM; sleep 1000000 & wait",
        healthcheck: str | None = None,
        labels: Mapping[str, str] | None = None,
        size_mb: float = 0,
        architecture: str = "amd64",
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Push a small image with busybox to the registry; returns its digest.

        :param script: what its containers run, /bin/sh
        :param healthcheck: a shell command, asked every second: ``true`` is a healthy image, ``false`` an unhealthy one
        :param size_mb: megabytes of random data in a layer of their own, so that a pull takes time
        :param architecture: what it says it was built for
        """
        layers = [images.busybox_layer(), images.file_layer({"run.sh": f"#!/bin/sh\n{script}\n".encode()})]
        if size_mb:
            layers.append(images.random_layer(size_mb))
        image = images.Image(
            layers,
            labels=labels or {},
            architecture=architecture,
            healthcheck=healthcheck,
            environment=environment or {},
        )
        return images.push(self.registry, image, repository, [tag, *more_tags])

    def push_base(self) -> str:
        """Push ``base/python:3.11`` to the registry; returns its digest."""
        image = images.Image([images.root_layer(packed_root(PYTHON_RECIPE))], command=["python3"])
        return images.push(self.registry, image, BASE[0], [BASE[1]])

    def push_opencv_base(self) -> str:
        """Push ``base/opencv:4``, ``base/python:3.11`` with NumPy and OpenCV, to the registry; returns its digest."""
        image = images.Image([images.root_layer(packed_opencv_base())], command=["python3"])
        return images.push(self.registry, image, OPENCV_BASE[0], [OPENCV_BASE[1]])

    def load_opencv_base(self) -> None:
        """Give the builder ``base/opencv:4``: builds find it there by that name."""
        self.builder.load_root(packed_opencv_base(), *OPENCV_BASE)

    def logs(self, max_lines: int = 50) -> str:
        """Return the end of every log there is."""
        parts = [node.logs(max_lines) for node in (self.builder, *self.nodes.values())]
        parts += [log_tail(face.log_file, max_lines) for face in (self.registry.push, self.registry.pull)]
        return "\n".join(parts)

    def summary(self) -> dict[str, object]:
        """Return where everything is, for ``fleet.json``."""
        registry = self.registry
        return {
            "id": self.id,
            "key_file": str(self.key_file),
            "builder": self._node_summary(self.builder),
            "nodes": [self._node_summary(node) for node in self.nodes.values()],
            "registry": {
                "name": registry.name,
                "host": registry.host,
                "ca_file": str(registry.ca_file),
                **{
                    face.name: {
                        "port": face.port,
                        "login": face.account.login,
                        "password": face.account.password,
                        "htpasswd": str(face.htpasswd),
                    }
                    for face in (registry.push, registry.pull)
                },
            },
        }

    def _node_summary(self, node: EdgeNode) -> dict[str, object]:
        return {
            "name": node.name,
            "host": node.address,
            "port": node.port,
            "local_port": node.local_port,
            "user": node.user,
            "host_key": node.host_key,
            "key_file": str(node.key_file),
            "container": node.container_id,
            "engine_socket": str(node.folder / "engine.sock"),
        }

    def _add_builder(self) -> EdgeNode:
        node = self._new_node("builder")
        node.load_root(packed_root(PYTHON_RECIPE), *BASE)
        return node

    def _new_node(self, name: str, *, disk_bytes: int = _DISK_BYTES, engine_options: str = "") -> EdgeNode:
        with self._numbers:
            address = f"{self.gateway.rpartition('.')[0]}.{self._next_address}"
            self._next_address += 1
            local_port = free_port()
        folder = self.folder / "nodes" / name
        folder.mkdir(parents=True)
        _write_disk(folder / "disk.img", disk_bytes)
        _write_key(folder / "host_key")
        authorized = folder / "authorized_keys"
        authorized.write_text(self.key_file.with_suffix(".pub").read_text())
        authorized.chmod(0o600)
        node = EdgeNode(name, address, local_port, folder, self.key_file, self.engine)
        node.container_id = self._create_container(node, engine_options)
        node.start()
        return node

    def _create_container(self, node: EdgeNode, engine_options: str) -> str:
        api = self.engine.api
        host = api.create_host_config(
            cap_add=["ALL"],
            # --privileged would ask for it, and fails where the machine itself was started without
            cap_drop=["SYS_RESOURCE"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            device_cgroup_rules=["a *:* rwm"],
            extra_hosts={NAME: self.gateway},
            dns=["127.0.0.1"],  # nobody: names that are not the fleet's fail soon, whatever this machine's DNS does
            dns_opt=["timeout:1", "attempts:1"],
            binds={str(node.folder): {"bind": "/edge", "mode": "rw"}},
            port_bindings={22: ("127.0.0.1", node.local_port)},
            log_config={"Type": "json-file", "Config": {"max-size": "1m"}},
        )
        host |= {"MaskedPaths": [], "ReadonlyPaths": []}
        network = api.create_networking_config(
            {self._network.name: api.create_endpoint_config(ipv4_address=node.address, aliases=[node.name])}
        )
        created = api.create_container(
            self._image,
            command=["tini", "--", "edge-init"],
            name=f"evc-{self.id}-{node.name}",
            hostname=node.name,
            environment={"DOCKERD_ARGS": engine_options},
            ports=[22],
            labels={LABEL: self.id},
            host_config=host,
            networking_config=network,
        )
        return str(created["Id"])


@contextmanager
def running_fleet(nodes: int = 3) -> Iterator[EdgeFleet]:
    """Start a fleet with nodes ``edge-1`` ..., yield it, remove it.

    :raises RuntimeError: a part of it does not start; the message ends with its log
    """
    if os.geteuid() != 0:
        raise RuntimeError("a fleet needs root: its nodes are containers that run engines of their own")
    with running_engine() as engine, owned_fleet(engine) as (fleet_id, folder):
        fleet = EdgeFleet(engine, fleet_id, folder)
        try:
            fleet.start([f"edge-{number}" for number in range(1, nodes + 1)])
            yield fleet
        finally:
            fleet.registry.stop()


def _node_image(engine: docker.DockerClient) -> str:
    """Return the image of nodes, made once for all fleets."""
    name = f"edge-node:{recipe_key(_NODE_RECIPE)}"
    with making("edge-node"):
        if not engine.images.list(name):
            for older in engine.images.list("edge-node"):
                with suppress(APIError):  # a fleet of another checkout runs on it
                    engine.images.remove(older.id)
            with root_folder(_NODE_RECIPE) as root:
                pack = ["tar", "--numeric-owner", "-C", str(root), "-c", "."]
                with subprocess.Popen(pack, stdout=subprocess.PIPE) as tar:
                    repository, tag = name.split(":")
                    engine.api.import_image_from_stream(tar.stdout, repository=repository, tag=tag)
    return name


def _create_network(engine: docker.DockerClient, fleet_id: str) -> tuple[Network, str]:
    """Return a network on a subnet that no other fleet has, and its gateway: this machine."""
    for number in random.sample(range(256), 256):
        gateway = f"172.29.{number}.1"
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet=f"172.29.{number}.0/24", gateway=gateway)])
        try:
            return engine.networks.create(f"evc-{fleet_id}", ipam=pool, labels={LABEL: fleet_id}), gateway
        except APIError as error:
            if "overlaps" not in str(error):
                raise
    raise RuntimeError("172.29.0.0/16 is full: end some of the fleets")


def _write_key(path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.touch(0o600)
    key.write_private_key(path)
    key.write_public_key(path.with_suffix(".pub"))


def _write_disk(path: Path, size_bytes: int) -> None:
    """Write a sparse file with an empty ext4: it takes the room that is used of it."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run([program("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-m", "0", "-O", "^has_journal", path], check=True)
