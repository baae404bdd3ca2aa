"""The section ``[evc]`` of Airflow's configuration."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk.configuration import conf

from evc.errors import InputError
from evc.fleet.settings import Settings, read_settings


def settings() -> Settings:
    """Return the settings as they are now.

    :raises InputError: one of them does not fit; the message names it
    """
    return read_settings(lambda name: conf.get("evc", name, fallback=None))


def sweep_window() -> timedelta:
    """Return how long one run of collect_telemetry sweeps: also its schedule.

    :raises InputError: the setting does not fit; Airflow shows it as the DAG's import error
    """
    return timedelta(seconds=settings().sweep_window_s)


def state_folder(of: Settings) -> Path:
    """Return the folder that holds EVC's own files, made on first use, closed to others."""
    folder = (
        Path(of.state_folder).expanduser()
        if of.state_folder
        else Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "evc"
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "[evc] state_folder", f"{folder}: {error.strerror}", "a folder that Airflow may write"
        ) from None
    return folder


def hosts_ini(of: Settings) -> Path:
    """Return the path of Ansible's inventory."""
    return Path(of.hosts_ini).expanduser() if of.hosts_ini else state_folder(of) / "hosts.ini"


def playbooks_folder(of: Settings) -> Path:
    """Return the folder that holds Ansible's playbooks."""
    return _beside_dags(of.playbooks_folder, "playbooks")


def models_folder(of: Settings) -> Path:
    """Return the folder that holds a folder for each model."""
    return _beside_dags(of.models_folder, "include/models")


def scenarios_folder(of: Settings) -> Path:
    """Return the folder that holds a file for each scenario."""
    return _beside_dags(of.scenarios_folder, "include/scenarios")


def _beside_dags(given: str, name: str) -> Path:
    return Path(given).expanduser() if given else Path(conf.get("core", "dags_folder")).expanduser().parent / name
