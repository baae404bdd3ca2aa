"""The section ``[evc]``."""

from __future__ import annotations

import pytest

from evc.errors import InputError
from evc.fleet.settings import Settings, read_settings


def test_defaults() -> None:
    assert read_settings(lambda _: None) == Settings()
    assert Settings().sweep_window_s == 10 * Settings().sweep_interval_s


def test_what_is_set_counts() -> None:
    given = {"sweep_interval_s": " 20 ", "sweep_window_s": "60", "hosts_ini": " /srv/hosts.ini "}
    settings = read_settings(given.get)
    assert (settings.sweep_interval_s, settings.sweep_window_s, settings.hosts_ini) == (20, 60, "/srv/hosts.ini")


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("sweep_interval_s", "often", '"often" is not a number'),
        ("sweep_interval_s", "0", "0 is out of bounds"),
        ("nodes_per_task", "-3", "-3 is out of bounds"),
        ("sweep_timeout_s", "1.5", '"1.5" is not a number'),
        ("sweep_window_s", "70", "70 is not a multiple of sweep_interval_s 30"),
        ("connect_timeout_s", "20", "together"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(name: str, text: str, wrong: str) -> None:
    with pytest.raises(InputError) as caught:
        read_settings({name: text}.get)
    assert "[evc] " in str(caught.value)
    assert name in str(caught.value)
    assert wrong in str(caught.value)
