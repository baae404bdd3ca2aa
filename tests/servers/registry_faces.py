"""A registry as ``evc registry init`` makes it, both faces running here; images are pushed without an engine."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from evc.registry.client import RegistryClient
from evc.registry.folder import Face, RegistryFolder, Wanted
from tests.servers.sshd import free_port

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_PACKAGE = "docker-registry"
_START_TIMEOUT_S = 20


@dataclass(slots=True)
class RegistryServer:
    """Both faces of a registry at 127.0.0.1. :param folder: what ``evc registry init`` made"""

    folder: RegistryFolder
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def faces(self) -> tuple[Face, Face]:
        """The read-write face, the pull-only face."""
        return self.folder.read_write, self.folder.pull_only

    @property
    def connection(self) -> dict[str, Any]:
        """Airflow connection of the read-write account."""
        found = self.folder.connection()
        assert found
        return found

    def address(self, face: Face) -> str:
        """``host:port``."""
        return f"127.0.0.1:{face.port()}"

    def start(self) -> None:
        """Start both faces and wait until they listen."""
        for face in self.faces:
            self.processes[face.name] = _spawn(face)
        for face in self.faces:
            _await(face, self.processes[face.name])

    def stop(self) -> None:
        """End both by their pids; what is stored stays."""
        for face in self.faces:
            self.stop_one(face)

    def stop_one(self, face: Face) -> None:
        """End one of them."""
        process = self.processes.pop(face.name, None)
        if process:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def restart(self) -> None:
        """Stop, and start again."""
        self.stop()
        self.start()

    def client(self, **other: Any) -> RegistryClient:
        """Return a client of the read-write face, or whatever ``other`` says of its arguments."""
        given = self.connection
        arguments = {
            "address": self.address(self.folder.read_write),
            "login": given["login"],
            "password": given["password"],
            "ca_file": self.folder.ca_file,
        }
        return RegistryClient(**{**arguments, **other})

    def pull_client(self, login: str, password: str) -> RegistryClient:
        """Return a client of the pull-only face."""
        return self.client(address=self.address(self.folder.pull_only), login=login, password=password)

    # -- pushing ---------------------------------------------------------------------------------------------------

    def push(
        self,
        repository: str,
        *tags: str,
        layers: Sequence[bytes] | None = None,
        labels: Mapping[str, str] | None = None,
        architecture: str = "amd64",
        created: str = "2026-01-02T03:04:05.678901234Z",
    ) -> str:
        """Push an image under every one of ``tags``; returns its digest. Other layers, another digest."""
        layers = [secrets.token_bytes(1000)] if layers is None else layers
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": {"Labels": dict(labels or {})},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
        }
        with self._http() as http:
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self._blob(http, repository, json.dumps(config).encode(), f"{MANIFEST}.config"),
                "layers": [self._blob(http, repository, layer, "application/x") for layer in layers],
            }
            return self._manifest(http, repository, tags, manifest)

    def push_index(self, repository: str, *tags: str, images: Mapping[str, str], **more: Any) -> str:
        """Push an index of images that are there. :param images: architecture by digest"""
        with self._http() as http:
            entries = []
            for digest, architecture in images.items():
                path = f"/v2/{repository}/manifests/{digest}"
                size = len(http.get(path, headers={"Accept": f"{MANIFEST}, {INDEX}"}).raise_for_status().content)
                platform = {"os": "linux", "architecture": architecture}
                entries.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform})
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, **more}
            return self._manifest(http, repository, tags, index)

    def _http(self) -> httpx.Client:
        given = self.connection
        return httpx.Client(
            base_url=f"https://{self.address(self.folder.read_write)}",
            auth=(given["login"], given["password"]),
            verify=ssl.create_default_context(cafile=self.folder.ca_file),
            trust_env=False,
        )

    def _blob(self, http: httpx.Client, repository: str, content: bytes, media_type: str) -> dict[str, Any]:
        digest = _digest(content)
        place = http.post(f"/v2/{repository}/blobs/uploads/").raise_for_status().headers["Location"]
        http.put(httpx.URL(place).copy_merge_params({"digest": digest}), content=content).raise_for_status()
        return {"mediaType": media_type, "size": len(content), "digest": digest}

    def _manifest(self, http: httpx.Client, repository: str, tags: Sequence[str], document: Mapping[str, Any]) -> str:
        content = json.dumps(document).encode()
        for reference in tags or [_digest(content)]:
            path = f"/v2/{repository}/manifests/{reference}"
            headers = {"Content-Type": document["mediaType"]}
            http.put(path, content=content, headers=headers).raise_for_status()
        return _digest(content)


def make_registry(folder: Path) -> RegistryServer:
    """Make a registry's folder, names ``127.0.0.1`` and ``localhost``, free ports; start it by yourself."""
    made = RegistryFolder(folder)
    made.init(Wanted(names=["127.0.0.1", "localhost"], port=free_port(), pull_port=free_port()))
    return RegistryServer(made)


@contextmanager
def running_registry(folder: Path) -> Iterator[RegistryServer]:
    """Yield a running registry; it is stopped at the end."""
    server = make_registry(folder)
    with ExitStack() as end:
        end.callback(server.stop)
        server.start()
        yield server


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _spawn(face: Face) -> subprocess.Popen[bytes]:
    binary = shutil.which("docker-registry")
    if not binary:
        raise RuntimeError(f"no docker-registry: install the Debian package {_PACKAGE!r}")
    with _log_file(face).open("ab") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", binary, "serve", face.config_file.name],  # a killed test leaves none
            cwd=face.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _await(face: Face, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", face.port() or 0), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the registry did not start: {_log_file(face).read_text()[-2000:]}")


def _log_file(face: Face) -> Path:
    return face.folder / f"{face.name}.log"
