"""Airflow connections from environment variables; those of databases are in tests/store/test_database.py."""

from __future__ import annotations

import pytest

from evc.errors import InputError
from evc.fleet.connections import read_connection

REGISTRY = {"conn_type": "docker", "host": "registry.example.org", "login": "evc", "password": "p/@:#%"}


@pytest.mark.parametrize(
    "value",
    [  # Airflow 3.3.2, get_uri() and as_json() of the same connection
        "docker://evc:p%2F%40%3A%23%25@registry.example.org:5000/?ca_path=%2Fsrv%2Fca.crt",
        "docker://evc:p%2F%40%3A%23%25@registry.example.org:5000/?__extra__=%7B%22ca_path%22%3A+%22%2Fsrv%2Fca.crt%22%7D",
        '{"conn_type": "docker", "host": "registry.example.org", "login": "evc", "password": "p/@:#%", "port": 5000, '
        '"extra": {"ca_path": "/srv/ca.crt"}}',
        '{"conn_type": "docker", "host": "registry.example.org", "login": "evc", "password": "p/@:#%", "port": 5000, '
        '"extra": "{\\"ca_path\\": \\"/srv/ca.crt\\"}"}',
    ],
)
def test_each_form_says_the_same(value: str) -> None:
    found = read_connection("connection x", value, "a registry")
    assert {name: found[name] for name in REGISTRY} == REGISTRY
    assert (int(found["port"]), found["extra"]) == (5000, {"ca_path": "/srv/ca.crt"})


def test_an_option_that_says_nothing_is_none() -> None:
    """Airflow writes and takes it."""
    found = read_connection("connection x", '{"conn_type": "docker", "extra": {"ca_path": null, "a": 1}}', "a registry")
    assert found["extra"] == {"a": "1"}


@pytest.mark.parametrize("value", ["hunter2", "{hunter2", "docker://evc:hunter2/@h"])
def test_what_can_not_be_read_is_named_and_not_shown(value: str) -> None:
    with pytest.raises(InputError, match=r"^connection x: .*; allowed: ") as caught:
        read_connection("connection x", value, "a registry")
    assert "hunter2" not in str(caught.value)
