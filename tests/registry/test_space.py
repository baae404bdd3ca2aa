"""How space comes back: as docs/registry.md says it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.registry_faces import RegistryServer, running_registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryServer]:
    with running_registry(tmp_path / "registry") as server:
        yield server


def stored_bytes(registry: RegistryServer) -> int:
    return sum(path.stat().st_size for path in registry.folder.storage.rglob("data"))


def collect_garbage(registry: RegistryServer) -> None:
    subprocess.run(
        ["docker-registry", "garbage-collect", registry.folder.read_write.config_file.name],
        cwd=registry.folder.path,
        check=True,
        capture_output=True,
    )


def test_space_comes_back_with_garbage_collection_while_nodes_go_on_pulling(registry: RegistryServer) -> None:
    shared = b"s" * 50_000
    gone = registry.push("reid", "1.0", "latest", layers=[shared, b"g" * 1_000_000])
    kept = registry.push("reid", "2.0", layers=[shared, b"k" * 200_000])
    moved = registry.push("farm", "latest", layers=[b"m" * 100_000])
    registry.push("farm", "latest", layers=[b"n" * 100])
    with registry.client() as client:
        client.delete("reid", gone)
        facts = client.facts("reid", kept)
    assert stored_bytes(registry) > 1_350_000, "deleting frees nothing yet"

    registry.stop_one(registry.folder.read_write)
    password = registry.folder.pull_only.accounts.grant("node-1")
    with registry.pull_client("node-1", password) as puller:
        collect_garbage(registry)
        assert 350_000 < stored_bytes(registry) < 400_000
        assert puller.facts("reid", kept) == facts
        # nodes run digests: one whose tag has moved on is still theirs
        assert puller.resolve("farm", moved) == moved
    registry.restart()
    with registry.client() as client:
        assert client.tagged("reid") == {"2.0": kept}
        client.delete("farm", moved)
    registry.stop_one(registry.folder.read_write)
    collect_garbage(registry)
    assert stored_bytes(registry) < 300_000
