"""The section ``[evc]``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

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
        ("retention_samples_days", "-1", "-1 is out of bounds"),
        ("retention_logs_days", "1.5", '"1.5" is not a number'),
    ],
)
def test_a_setting_that_does_not_fit_is_named(name: str, text: str, wrong: str) -> None:
    with pytest.raises(InputError) as caught:
        read_settings({name: text}.get)
    assert "[evc] " in str(caught.value)
    assert name in str(caught.value)
    assert wrong in str(caught.value)


def test_the_page_tells_every_setting_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    for item in fields(Settings):
        shown = f"| {item.default} |" if isinstance(item.default, int) else "|"
        assert f"| `{item.name}` {shown}" in page, item.name


def test_every_kind_of_data_has_its_days() -> None:
    settings = read_settings({"retention_samples_days": "0", "retention_details_days": "7"}.get)
    assert [settings.retention_days(kind) for kind in ("samples", "details", "rollup_5m")] == [0, 7, 90]
