"""The settings of Airflow's section ``[evc]``: names, defaults and bounds. Reading them is the hooks' work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from evc.errors import InputError
from evc.fleet.nodes import quote


@dataclass(frozen=True, slots=True)
class Settings:
    """``AIRFLOW__EVC__<NAME>`` or ``<name>`` below ``[evc]`` in airflow.cfg.

    :param state_folder: holds the embedded metrics database, the spool and the last list of nodes
    :param hosts_ini: Ansible's inventory, written at every change of the nodes; empty: in the state folder
    :param sweep_interval_s: seconds between two sweeps
    :param sweep_window_s: seconds of sweeps that one run of collect_telemetry does, and its schedule
    :param nodes_per_task: how many nodes one task sweeps
    :param connect_timeout_s: for TCP up to the first byte, and again for key exchange and login
    :param sweep_timeout_s: for the answer of one node; what came until then counts
    :param spool_max_bytes: how much may wait on disk while the database is away
    :param nominatim_url: base URL of the geocoding service; empty: offline only
    :param models_folder: model sources; empty: ``include/models`` beside the DAGs folder
    :param scenarios_folder: run configurations; empty: ``include/scenarios`` beside the DAGs folder
    :param playbooks_folder: Ansible playbooks; empty: ``playbooks`` beside the DAGs folder
    :param registry_folder: what ``evc registry init`` made, accounts included; empty: ``registry`` in the state folder
    :param repair_drift: reconcile_fleet puts right what someone changed by hand; off: it only shows it
    :param drift_interval_s: how often reconcile_fleet looks at a node where nothing is to be done
    :param pull_slots: how many nodes are deployed to at once: the size of the pool evc_pulls when the scheduler starts
    :param notify_conn_id: connection (type smtp or apprise) by which notify_events tells people of events; empty: none
    :param notify_to: of smtp: addresses, with commas between them
    :param notify_severity: the least that people are told of: info, warning or error
    :param retention_samples_days: days for which node_samples are kept; of each of these: 0 for ever
    :param retention_details_days: temperature_samples, storage_samples, network_samples
    :param retention_rollup_5m_days: node_samples_5m, inference_runs_5m
    :param retention_rollup_1h_days: node_samples_1h and the longer ones, inference_runs_1h, inference_results_1h
    :param retention_events_days: node_events, event_notices, node_anomalies from their end and probe_runs
    :param retention_results_days: inference_results
    :param retention_identities_days: identities, from when they were last seen, with their visits
    :param retention_sweeps_days: sweeps
    :param retention_logs_days: Airflow's own log files, and its own rows of runs and what belongs to them
    """

    state_folder: str = ""
    hosts_ini: str = ""
    sweep_interval_s: int = 30
    sweep_window_s: int = 300
    nodes_per_task: int = 1000
    connect_timeout_s: int = 8
    sweep_timeout_s: int = 12
    spool_max_bytes: int = 256_000_000
    nominatim_url: str = "https://nominatim.openstreetmap.org"
    models_folder: str = ""
    scenarios_folder: str = ""
    playbooks_folder: str = ""
    registry_folder: str = ""
    repair_drift: bool = False
    drift_interval_s: int = 300
    pull_slots: int = 8
    notify_conn_id: str = ""
    notify_to: str = ""
    notify_severity: str = "warning"
    retention_samples_days: int = 30
    retention_details_days: int = 14
    retention_rollup_5m_days: int = 90
    retention_rollup_1h_days: int = 1825
    retention_events_days: int = 365
    retention_results_days: int = 90
    retention_identities_days: int = 90
    retention_sweeps_days: int = 30
    retention_logs_days: int = 30

    def retention_days(self, kind: str) -> int:
        """Return for how many days a kind of data is kept; 0 for ever."""
        days: int = getattr(self, f"retention_{kind}_days")
        return days


_SEVERITIES = ("info", "warning", "error")
_KEPT_DAYS = (0, 36_500)
_BOUNDS = {
    "sweep_interval_s": (1, 3600),
    "sweep_window_s": (1, 86400),
    "nodes_per_task": (1, 5000),
    "connect_timeout_s": (1, 300),
    "sweep_timeout_s": (1, 600),
    "drift_interval_s": (30, 86400),
    "pull_slots": (1, 1024),
    "spool_max_bytes": (1_000_000, 1_000_000_000_000),
    **{item.name: _KEPT_DAYS for item in fields(Settings) if item.name.startswith("retention_")},
}


def read_settings(get: Callable[[str], str | None]) -> Settings:
    """Return the settings, each checked.

    :param get: the text of a setting by its name; None where it is not set
    :raises InputError: naming the setting
    """
    values: dict[str, Any] = {}
    for item in fields(Settings):
        text = get(item.name)
        if text is None:
            continue
        if item.name in _BOUNDS:
            values[item.name] = _whole(item.name, text)
        elif isinstance(item.default, bool):
            values[item.name] = _truth(item.name, text)
        else:
            values[item.name] = text.strip()
    return _consistent(Settings(**values))


def _consistent(settings: Settings) -> Settings:
    if settings.sweep_window_s % settings.sweep_interval_s:
        raise InputError(
            "[evc] sweep_window_s",
            f"{settings.sweep_window_s} is not a multiple of sweep_interval_s {settings.sweep_interval_s}",
            "a whole number of sweeps",
        )
    if settings.notify_severity not in _SEVERITIES:
        wrong = f"{quote(settings.notify_severity)} is none"
        raise InputError("[evc] notify_severity", wrong, f"one of {', '.join(_SEVERITIES)}")
    longest_s = settings.connect_timeout_s + settings.sweep_timeout_s
    if longest_s > settings.sweep_interval_s:
        raise InputError(
            "[evc] connect_timeout_s and sweep_timeout_s",
            f"together {longest_s} s",
            f"at most sweep_interval_s, {settings.sweep_interval_s} s, so that a dead node delays no sweep",
        )
    return settings


def _truth(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word not in {"true", "false"}:
        raise InputError(f"[evc] {name}", f"{quote(text)} is neither", "True or False")
    return word == "true"


def _whole(name: str, text: str) -> int:
    low, high = _BOUNDS[name]
    allowed = f"a whole number from {low} to {high}"
    try:
        number = int(text)
    except ValueError:
        raise InputError(f"[evc] {name}", f"{quote(text)} is not a number", allowed) from None
    if not low <= number <= high:
        raise InputError(f"[evc] {name}", f"{number} is out of bounds", allowed)
    return number
