"""Connection and folder of the registry, against a real one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evc.errors import InputError, RegistryRefused
from evc.hooks.registry import RegistryHook
from tests.servers.airflow import DagRunner
from tests.servers.registry_faces import RegistryServer, running_registry

GOOD: dict[str, Any] = {"conn_type": "docker", "host": "registry.example.org", "login": "evc", "password": "TOPSECRET"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with running_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


def test_what_init_wrote_is_a_connection(dag_runner: DagRunner, registry: RegistryServer) -> None:
    dag_runner.connection("evc_registry", **registry.connection)
    hook = RegistryHook()
    assert hook.is_configured
    assert hook.address == registry.address(registry.folder.read_write)
    assert hook.pull_address == registry.address(registry.folder.pull_only)
    assert hook.ca_path == str(registry.folder.ca_file)
    assert hook.auth == {"username": "evc", "password": registry.connection["password"]}
    with hook.client() as client:
        client.check()
    assert registry.connection["password"] not in repr(hook._given)


def test_a_nodes_account_pulls_until_it_is_revoked(
    dag_runner: DagRunner, registry: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    dag_runner.setting("registry_folder", str(registry.folder.path))
    hook = RegistryHook()
    with caplog.at_level(logging.DEBUG):
        password = hook.grant(7)
    with registry.pull_client("node-7", password) as client:
        client.check()
        assert hook.revoke(7) is True
        with pytest.raises(RegistryRefused):
            client.check()
    assert hook.revoke(7) is False
    assert password not in caplog.text


def test_the_folder_is_in_the_state_folder_where_none_is_set(dag_runner: DagRunner) -> None:
    assert RegistryHook().folder.path == dag_runner.state_folder / "registry"
    with pytest.raises(InputError, match="registry folder: "):
        RegistryHook().grant(1)


def test_without_a_connection_it_says_so(dag_runner: DagRunner) -> None:
    hook = RegistryHook()
    assert not hook.is_configured
    with pytest.raises(InputError, match="connection evc_registry: is not defined; allowed: what `evc registry init`"):
        hook.client()


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"host": None}, 'its host and port, ":5000", do not fit'),
        ({"host": ""}, 'its host and port, ":5000", do not fit'),
        ({"host": "https://registry"}, "its host and port"),
        ({"host": "a/b"}, "its host and port"),
        ({"port": 70000}, "its host and port"),
        ({"login": ""}, "has no login or no password"),
        ({"password": ""}, "has no login or no password"),
        ({"extra": {"pull_address": "registry"}}, "pull_address"),
        ({"extra": {"pull_address": "a b:5001"}}, "pull_address"),
        ({}, "its extra names no pull_address"),
    ],
)
def test_a_connection_that_does_not_fit_is_one_line(dag_runner: DagRunner, change: dict[str, Any], wrong: str) -> None:
    dag_runner.connection("evc_registry", **{**GOOD, **change})
    with pytest.raises(InputError, match="^connection evc_registry: ") as caught:
        RegistryHook().pull_address  # noqa: B018
    assert wrong in str(caught.value)
    assert "TOPSECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_certificate_that_is_not_there_is_said(dag_runner: DagRunner, tmp_path: Path) -> None:
    dag_runner.connection("evc_registry", **GOOD, extra={"ca_path": str(tmp_path / "none.crt")})
    with pytest.raises(InputError, match=r"ca_path: .*none\.crt: No such file"):
        RegistryHook().client()
