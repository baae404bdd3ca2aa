"""Servers that many tests share, each started at its first use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.servers.sshd import SshServer, running_sshd

# how long an example takes says something of the machine, not of the code
settings.register_profile("evc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("evc")

pytest_plugins = ["tests.servers.airflow", "tests.servers.databases", "tests.servers.fleets"]


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An sshd on 127.0.0.1 that lets the current user in; a test that changes it starts its own."""
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server
