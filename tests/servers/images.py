"""Small images made and pushed without an engine: milliseconds each, any architecture, as large as a test likes."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from tests.servers.programs import program
from tests.servers.registry import Account, Face, Registry

_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_APPLETS = (
    "sh",
    "cat",
    "date",
    "echo",
    "env",
    "false",
    "kill",
    "ls",
    "mkdir",
    "nc",
    "ping",
    "rm",
    "sleep",
    "true",
    "wget",
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: a gzipped tar, and the digest of the tar itself."""

    packed: bytes
    diff_id: str


@dataclass(frozen=True, slots=True)
class Image:
    """What an image holds and how it is run.

    :param command: what a container of it runs
    :param healthcheck: a shell command that tells health, every second; None: it has none
    """

    layers: Sequence[Layer]
    command: Sequence[str] = ("/bin/sh", "/run.sh")
    labels: Mapping[str, str] = field(default_factory=dict)
    architecture: str = "amd64"
    healthcheck: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None

    def config(self) -> bytes:
        """Return its configuration, JSON."""
        run: dict[str, object] = {
            "Cmd": list(self.command),
            "Env": ["PATH=/usr/bin:/bin", *(f"{name}={value}" for name, value in self.environment.items())],
            "Labels": dict(self.labels),
        }
        if self.healthcheck is not None:
            second_ns = 1_000_000_000
            run["Healthcheck"] = {
                "Test": ["CMD-SHELL", self.healthcheck],
                "Interval": second_ns,
                "Timeout": 5 * second_ns,
                "Retries": 2,
            }
        config = {
            "architecture": self.architecture,
            "os": "linux",
            "created": (self.created or datetime.now(UTC)).isoformat(),
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
        }
        return json.dumps(config).encode()


def busybox_layer() -> Layer:
    """Return a layer with a static busybox and its usual names."""
    return _busybox_layer(Path(program("busybox", "busybox-static")))


@cache
def _busybox_layer(program: Path) -> Layer:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        _add(tar, "bin/busybox", program.read_bytes())
        for name in _APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", mode=0o644)
    return packed_layer(archive.getvalue(), level=6)


def file_layer(files: Mapping[str, bytes]) -> Layer:
    """Return a layer with these files, by their paths without the first slash, all of them executable."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            _add(tar, name, content)
    return packed_layer(archive.getvalue())


def random_layer(size_mb: float) -> Layer:
    """Return a layer that no compression makes smaller than ``size_mb``, and that no other image has."""
    data = os.urandom(int(size_mb * 1_000_000))
    return file_layer({f"random/{hashlib.sha256(data[:64]).hexdigest()[:12]}": data})


def packed_layer(tar: bytes, level: int = 0) -> Layer:
    """Return a layer of a whole tar; the level is gzip's, 0 leaves it as large as it is."""
    return Layer(gzip.compress(tar, level, mtime=0), _digest(tar))


def root_layer(archive: Path) -> Layer:
    """Return a layer from a ``.tar.gz`` of a root file system."""
    packed = archive.read_bytes()
    return Layer(packed, _digest(gzip.decompress(packed)))


def push(registry: Registry, image: Image, repository: str, tags: Sequence[str]) -> str:
    """Push ``image`` to the read-write face under every one of ``tags``; returns its digest."""
    client = _Client(registry, registry.push, registry.push.account)
    try:
        config = image.config()
        client.push_blob(repository, config)
        for layer in image.layers:
            client.push_blob(repository, layer.packed)
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": _descriptor(_CONFIG_TYPE, config),
            "layers": [_descriptor(_LAYER_TYPE, layer.packed) for layer in image.layers],
        }
        body = json.dumps(manifest).encode()
        for tag in tags:
            client.request("PUT", f"/v2/{repository}/manifests/{tag}", body, {"Content-Type": _MANIFEST_TYPE})
        return _digest(body)
    finally:
        client.close()


class _Client:
    def __init__(self, registry: Registry, face: Face, account: Account) -> None:
        context = registry.tls_context()
        self._connection = http.client.HTTPSConnection(registry.host, face.port, timeout=60, context=context)
        self._headers = {"Authorization": f"Basic {account.basic()}"}

    def push_blob(self, repository: str, blob: bytes) -> None:
        digest = _digest(blob)
        if self.request("HEAD", f"/v2/{repository}/blobs/{digest}", allow=(200, 404)).status == 200:
            return
        place = self.request("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["Location"]
        place = place.removeprefix(f"https://{self._connection.host}:{self._connection.port}")
        separator = "&" if "?" in place else "?"
        headers = {"Content-Type": "application/octet-stream"}
        self.request("PUT", f"{place}{separator}digest={digest}", blob, headers)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        allow: Sequence[int] = (200, 201, 202),
    ) -> http.client.HTTPResponse:
        self._connection.request(method, path, body, {**self._headers, **(headers or {})})
        response = self._connection.getresponse()
        said = response.read()
        if response.status not in allow:
            raise RuntimeError(f"the registry answered {response.status} to {method} {path}: {said[:500]!r}")
        return response

    def close(self) -> None:
        self._connection.close()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o755) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "size": len(blob), "digest": _digest(blob)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
