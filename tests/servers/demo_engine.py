"""A Docker Engine for ``make demo``, as new: a network of its own, and stand-ins for the images that it would pull."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from tests.servers.engine import engine_of_its_own
from tests.servers.opencv_base import OPENCV_BASE, packed_opencv_base
from tests.servers.programs import program

BASE_IMAGE = ":".join(OPENCV_BASE)
REGISTRY_IMAGE = "evc.test/registry:2.8"
_BRIDGE, _ADDRESS = "evcdemo0", "172.30.250.1/24"


@contextmanager
def running_demo_engine(folder: Path) -> Iterator[docker.DockerClient]:
    """Yield a client of an engine whose socket is ``docker.sock`` in ``folder``. Needs root."""
    with _bridge(), engine_of_its_own(folder, _BRIDGE) as client:
        yield client


def load_stand_ins(client: docker.DockerClient) -> None:
    """Give the engine :data:`BASE_IMAGE` and :data:`REGISTRY_IMAGE`, made of Debian's packages."""
    repository, tag = OPENCV_BASE
    client.api.import_image_from_file(str(packed_opencv_base()), repository=repository, tag=tag)
    repository, tag = REGISTRY_IMAGE.split(":")
    entry = ['ENTRYPOINT ["/usr/bin/docker-registry"]']
    client.api.import_image_from_data(_packed_registry(), repository=repository, tag=tag, changes=entry)


def _packed_registry() -> bytes:
    """Return a tar of Debian's registry with the libraries that it asks for."""
    binary = program("docker-registry", "docker-registry")
    listed = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    files = [str(binary), *(word for word in listed.split() if word.startswith("/"))]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for file in files:
            tar.add(file)
    return archive.getvalue()


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
