"""Airflow for the demo: its settings, its start."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from demo.api import Api
from demo.engine import registry_folder
from demo.process import family, listens
from demo.progress import say, wait_until
from demo.server import ADDRESS, login
from demo.state import PROJECT, DemoError, State, write_private

PART = "airflow"
START_TIMEOUT_S = 300.0
# how long one that runs already may take to be healthy before it is replaced: it may only just have been started
ADOPT_TIMEOUT_S = 60.0
PORTS = range(8080, 8180)
# the user's own environment stays, but no other Airflow's or EVC's settings, and no proxy before loopback
_FOREIGN = ("AIRFLOW", "EVC_")
# what says every few seconds that all is well
_QUIET = (
    "airflow.dag_processing",
    "airflow.executors",
    "airflow.jobs",
    "airflow.models",
    "airflow.serialization",
    "asyncssh",
    "http.access",
)
# the DAG files, and a DAG for each scenario file
BUNDLES = [
    {"name": "dags-folder", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}},
    {"name": "scenarios", "classpath": "evc.scenarios.bundle.ScenarioBundle", "kwargs": {}},
]
_NO_PROXY = f"{ADDRESS},localhost"
# `airflow standalone` calls `airflow` by name. Its log servers listen on every interface of the machine; the demo reads
# its logs from disk and needs none of them
_WRAPPER = """#!/bin/sh
case $1 in scheduler | triggerer) set -- "$@" --skip-serve-logs ;; esac
exec {airflow} "$@"
"""


def free_port() -> int:
    """Return the first free port from 8080. :raises DemoError: none"""
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, port))
            except OSError:
                continue
            return port
    raise DemoError(f"no free port for Airflow from {PORTS[0]} to {PORTS[-1]} on {ADDRESS}")


def _connections(state: State) -> dict[str, str]:
    nodes = {"conn_type": "ssh", "login": login(), "extra": {"key_file": str(state.key)}}
    metrics = {"conn_type": "sqlite", "host": str(state.folder / "metrics.db")}
    connections = {"evc_nodes": nodes, "evc_metrics": metrics, "evc_registry": registry_folder(state).connection()}
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(said) for name, said in connections.items() if said}


def _own_bundle(state: State) -> dict[str, object]:
    own = {"folder": str(state.scenarios)}
    return {"name": "demo-scenarios", "classpath": "evc.scenarios.bundle.ScenarioBundle", "kwargs": own}


def _settings(state: State, port: int) -> dict[str, dict[str, object]]:
    secrets = state.secrets()
    return {
        "core": {
            "dags_folder": PROJECT / "dags",
            "plugins_folder": PROJECT / "plugins",
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": 4,
            "fernet_key": secrets["fernet_key"],
            "simple_auth_manager_users": "admin:admin",
            "simple_auth_manager_passwords_file": state.passwords,
            "execution_api_server_url": f"http://{ADDRESS}:{port}/execution/",
        },
        # tasks and the API write at the same time
        "database": {"sql_alchemy_conn": f"sqlite:///{state.airflow_home / 'airflow.db'}?timeout=60"},
        "api": {
            "host": ADDRESS,
            "port": port,
            "base_url": f"http://{ADDRESS}:{port}",
            "workers": 1,
            "secret_key": secrets["api_secret"],
        },
        # after a stop in mid-window tasks may start before the API does: they wait for it
        "workers": {"execution_api_retries": 20, "execution_api_retry_wait_max": 5},
        "api_auth": {"jwt_secret": secrets["jwt_secret"]},
        "logging": {
            "uvicorn_logging_level": "WARNING",
            "namespace_levels": " ".join(f"{name}=WARNING" for name in _QUIET),
            "colored_console_log": False,
        },
        # a new file is seen within 30 s, a changed one too; what did not change is read again every 5 minutes
        "dag_processor": {
            "refresh_interval": 30,
            "min_file_process_interval": 300,
            "file_parsing_sort_mode": "modified_time",
            "print_stats_interval": 0,
            "parsing_processes": 1,
            "dag_bundle_config_list": json.dumps([*BUNDLES, _own_bundle(state)]),
            "dag_bundle_storage_path": state.airflow_home / "bundles",
        },
        # places are looked up offline: the demo asks no service outside
        "evc": {
            "state_folder": state.folder,
            "hosts_ini": state.hosts_ini,
            "nominatim_url": "",
            "registry_folder": registry_folder(state).path,
        },
    }


def environment(state: State, port: int, more: Mapping[str, str]) -> dict[str, str]:
    """Return what Airflow runs with: for its own processes, and for ``airflow`` on a shell (``.evc/env``).

    :param more: further variables, which win
    """
    values = {"AIRFLOW_HOME": str(state.airflow_home), **_connections(state)}
    for section, options in _settings(state, port).items():
        for option, value in options.items():
            values[f"AIRFLOW__{section}__{option}".upper()] = str(value)
    return {**values, **more}


def write_env_file(state: State, values: dict[str, str]) -> Path:
    """Write ``values`` as a file for ``.`` of a POSIX shell. It holds secrets: mode 0600."""
    path = state.folder / "env"
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in values.items()]
    # the programs that belong to it, without the warnings of libraries for their developers
    lines.append(f'export PYTHONWARNINGS=ignore PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n')
    write_private(path, "".join(lines))
    return path


def _launch(state: State, port: int, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
    programs = state.folder / "bin"
    airflow = programs / "airflow"
    write_private(airflow, _WRAPPER.format(airflow=shlex.quote(str(Path(sys.executable).with_name("airflow")))))
    airflow.chmod(0o700)
    own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    no_proxy = ",".join(filter(None, (own.get("no_proxy") or own.get("NO_PROXY"), _NO_PROXY)))
    values = environment(state, port, more)
    write_env_file(state, values)
    launched = state.launch(
        PART,
        [airflow, "standalone"],
        {
            **own,
            **values,
            "PATH": f"{programs}{os.pathsep}{own.get('PATH', os.defpath)}",
            "PYTHONPATH": str(PROJECT / "config"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "ignore::DeprecationWarning",
            "NO_COLOR": "1",
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
        },
    )
    state.write_port(PART, launched.pid, port)
    return launched


class _PortLost(DemoError):
    """Another program took Airflow's port before Airflow did."""


def _ready(state: State, api: Api, port: int) -> bool | None:
    """Return True once the Airflow that answers is ours and healthy. :raises _PortLost: it is another's"""
    known = state.started(PART)
    ours = listens(family([known]), port) if known else None
    if ours is False:
        raise _PortLost(f"port {port} was taken by another program")
    health = api.health() if ours else None
    if health and all(health[part]["status"] == "healthy" for part in ("scheduler", "dag_processor")):
        return True
    return None


def _api(state: State, port: int) -> Api:
    return Api(f"http://{ADDRESS}:{port}", "admin", state.secrets()["password"])


def _running(state: State) -> Api | None:
    port = state.running_port(PART)
    if port is None:
        return None
    api = _api(state, port)
    try:
        wait_until(lambda: _ready(state, api, port), ADOPT_TIMEOUT_S, "the Airflow that runs already")
    except DemoError:
        say("the Airflow that runs is not healthy: starting it again")
        return None
    say(f"Airflow runs already at {api.url}")
    return api


def _start(state: State, more: Mapping[str, str]) -> Api:
    state.stop(PART)
    port = free_port()
    if port != PORTS[0]:
        say(f"port {PORTS[0]} is taken: Airflow gets port {port}")
    launched, api = _launch(state, port, more), _api(state, port)
    say("starting Airflow")

    def ready() -> bool | None:
        if launched.poll() is not None:
            raise DemoError(f"Airflow ended at its start:\n{state.log_end(PART, lines=15)}")
        return _ready(state, api, port)

    wait_until(ready, START_TIMEOUT_S, f"Airflow; its log is {state.log(PART)}")
    say(f"Airflow is healthy at {api.url}")
    return api


def start_airflow(state: State, more: Mapping[str, str] | None = None) -> Api:
    """Start Airflow unless it runs, and wait until it is healthy.

    :param more: environment variables beside the demo's own
    :raises DemoError: it ended, or did not become healthy
    """
    api = _running(state)
    while api is None:
        try:
            api = _start(state, more or {})
        except _PortLost as error:
            say(f"{error}: starting again")
    return api
