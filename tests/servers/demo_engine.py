"""A Docker Engine for ``make demo``, as new: a network of its own, and stand-ins for the images that it would pull."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from tests.servers.engine import engine_of_its_own
from tests.servers.opencv_base import OPENCV_BASE, packed_opencv_base
from tests.servers.stack_images import load_registry_image

BASE_IMAGE = ":".join(OPENCV_BASE)
_BRIDGE, _ADDRESS = "evcdemo0", "172.30.250.1/24"


@contextmanager
def running_demo_engine(folder: Path) -> Iterator[docker.DockerClient]:
    """Yield a client of an engine whose socket is ``docker.sock`` in ``folder``. Needs root."""
    with _bridge(), engine_of_its_own(folder, _BRIDGE) as client:
        yield client


def load_stand_ins(client: docker.DockerClient) -> None:
    """Give the engine :data:`BASE_IMAGE` and that of the registry, made of Debian's packages."""
    repository, tag = OPENCV_BASE
    client.api.import_image_from_file(str(packed_opencv_base()), repository=repository, tag=tag)
    load_registry_image(client)


@contextmanager
def _bridge() -> Iterator[None]:
    # one that a killed test has left is as good, and without an owner
    subprocess.run(["ip", "link", "delete", _BRIDGE], check=False, capture_output=True)
    subprocess.run(["ip", "link", "add", _BRIDGE, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", _ADDRESS, "dev", _BRIDGE], check=True)
        subprocess.run(["ip", "link", "set", _BRIDGE, "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "link", "delete", _BRIDGE], check=True)
