"""Stand-ins for the images that ``docker-compose.yaml`` names, made of Debian's packages, from no image registry."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import docker

from tests.servers.cache import packed_root
from tests.servers.programs import program

PYTHON_IMAGE = "evc.test/python:3.11"
POSTGRES_IMAGE = "evc.test/postgres:15"
REGISTRY_IMAGE = "evc.test/registry:2.8"
_TRUST = "/etc/ssl/certs/ca-certificates.crt"
_APPLETS = ("sh", "cat", "grep", "id", "ls", "mkdir", "rm", "sleep", "wget")
_POSTGRES_UID = 999
# starts as the public image does: POSTGRES_* count at the first start, PGDATA is below the volume /var/lib/postgresql
_POSTGRES_ENTRY = b"""#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p -m 700 "$PGDATA"
    umask 077
    printf '%s' "$POSTGRES_PASSWORD" >/tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 --auth-local=trust \\
        --encoding=UTF8 --locale=C >/dev/null
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE \\"$POSTGRES_DB\\"" | postgres --single -j postgres >/dev/null
fi
[ "${1:-}" != postgres ] || shift
exec postgres -c listen_addresses='*' "$@"
"""


def load_stack_images(client: docker.DockerClient) -> None:
    """Give the engine the three of them."""
    repository, tag = PYTHON_IMAGE.split(":")
    trust = [f"ENV SSL_CERT_FILE={_TRUST} PIP_CERT={_TRUST}"]
    archive = str(packed_root("stack-python.sh"))
    client.api.import_image_from_file(archive, repository=repository, tag=tag, changes=trust)
    _load_postgres(client)
    load_registry_image(client)


def load_registry_image(client: docker.DockerClient) -> None:
    """Give the engine :data:`REGISTRY_IMAGE`: Debian's registry, and busybox as the public image has it."""
    root = _Root()
    root.add_program(Path(program("docker-registry", "docker-registry")))
    _load(client, REGISTRY_IMAGE, root, 'ENTRYPOINT ["/usr/bin/docker-registry"]')


def _load_postgres(client: docker.DockerClient) -> None:
    programs = max(Path("/usr/lib/postgresql").iterdir())
    root = _Root()
    for folder in (programs, Path("/usr/share/postgresql") / programs.name, Path("/usr/share/zoneinfo")):
        root.add_folder(folder)
    for file in [*(programs / "bin").iterdir(), *(programs / "lib").glob("*.so")]:
        root.add_libraries(file)
    root.add_file("etc/passwd", b"postgres:x:%d:0::/:/bin/sh\n" % _POSTGRES_UID, mode=0o644)
    root.add_file("docker-entrypoint.sh", _POSTGRES_ENTRY)
    for own in ("var/lib/postgresql", "var/run/postgresql"):
        root.make_folder(own, _POSTGRES_UID)
    environment = f"ENV PATH={programs}/bin:/bin PGDATA=/var/lib/postgresql/{programs.name}/docker"
    _load(client, POSTGRES_IMAGE, root, environment, 'ENTRYPOINT ["/docker-entrypoint.sh"]', 'CMD ["postgres"]')


def _load(client: docker.DockerClient, image: str, root: _Root, *changes: str) -> None:
    repository, tag = image.split(":")
    client.api.import_image_from_data(root.packed(), repository=repository, tag=tag, changes=list(changes))


class _Root:
    """A root file system: busybox, and what is added of this machine's Debian packages."""

    def __init__(self) -> None:
        self._archive = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._archive, mode="w", dereference=True)  # noqa: SIM115  packed() closes it
        self._names: set[str] = set()
        self.add_file("bin/busybox", Path(program("busybox", "busybox-static")).read_bytes())
        for name in _APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            self._tar.addfile(link)
        self.make_folder("tmp", mode=0o1777)

    def add_file(self, name: str, content: bytes, mode: int = 0o755) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), mode
        self._tar.addfile(info, io.BytesIO(content))

    def make_folder(self, name: str, uid: int = 0, mode: int = 0o755) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.uid, info.mode = tarfile.DIRTYPE, uid, mode
        self._tar.addfile(info)

    def add_folder(self, folder: Path) -> None:
        self._tar.add(folder)

    def add_program(self, file: Path) -> None:
        self._add_once([str(file)])
        self.add_libraries(file)

    def add_libraries(self, file: Path) -> None:
        listed = subprocess.run(["ldd", file], capture_output=True, text=True, check=False).stdout
        self._add_once(word for word in listed.split() if word.startswith("/"))

    def _add_once(self, files: Iterable[str]) -> None:
        for file in files:
            if file not in self._names:
                self._names.add(file)
                self._tar.add(file)

    def packed(self) -> bytes:
        self._tar.close()
        return self._archive.getvalue()
