"""Servers that many tests share, each started at its first use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.sshd import SshServer, running_sshd

pytest_plugins = ["tests.servers.airflow", "tests.servers.databases"]


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An sshd on 127.0.0.1 that lets the current user in; a test that changes it starts its own."""
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server
