"""``make demo``: from nothing, or from whatever is there, to samples of three nodes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine

from demo import airflow
from demo.api import Api, NotFound
from demo.engine import LocalEngine, NoEngine, find_engine, prepare_registry, start_registry
from demo.farm import DAG_ID as SCENARIO
from demo.farm import NODE, show_farm, write_scenario
from demo.nodes import FLEET, start_nodes
from demo.progress import say, wait_until
from demo.runs import RUN_TIMEOUT_S, run_dag
from demo.state import PROJECT, DemoError, State
from evc.cli import NODE_SAMPLES, print_table
from evc.store.database import embedded_url, open_engine, reporting, upgrade
from evc.store.nodes import list_nodes
from evc.store.samples import sample_rows

PARSE_TIMEOUT_S = 120.0
ON_DEMAND = ("register_node", "remove_node", "import_inventory", "locate_nodes")
TELEMETRY = "collect_telemetry"
MAINTENANCE = "maintain_metrics"


def _wait_for_dags(api: Api, dag_ids: Sequence[str]) -> None:
    def parsed() -> bool | None:
        errors = api.get("/api/v2/importErrors")["import_errors"]
        if errors:
            last = errors[0]["stack_trace"].strip().splitlines()[-1]
            raise DemoError(f"Airflow could not read {errors[0]['filename']}: {last}")
        try:
            for dag_id in dag_ids:
                api.get(f"/api/v2/dags/{dag_id}")
        except NotFound:
            return None
        return True

    wait_until(parsed, PARSE_TIMEOUT_S, "the DAGs")


# -- nodes and samples -------------------------------------------------------------------------------------------------


def _registered(engine: Engine) -> dict[str, int]:
    with reporting(), engine.connect() as connection:
        return {node.name: node.port for node in list_nodes(connection)}


def _register(api: Api, engine: Engine, ports: dict[str, int]) -> None:
    known = _registered(engine)
    missing = [node for node in FLEET if node.name not in known]
    if not missing:
        say("the nodes are registered already")
        return
    say(f"registering {', '.join(node.name for node in missing)}: DAG register_node")
    run_dag(api, "register_node", [node.conf(ports[node.name]) for node in missing])


def _fresh_samples(engine: Engine, since_ts: int) -> list[dict[str, Any]] | None:
    with reporting(), engine.connect() as connection:
        samples = [sample_rows(connection, node.name, 1) for node in FLEET]
    if not all(rows and rows[0]["ts"] >= since_ts for rows in samples):
        return None
    down = [str(rows[0]["node"]) for rows in samples if not rows[0]["up"]]
    if down:
        raise DemoError(f"{', '.join(down)} did not answer: .venv/bin/evc events says why")
    return [rows[0] for rows in samples]


def _collect(api: Api, engine: Engine) -> list[dict[str, Any]]:
    say(f"collecting: DAG {TELEMETRY}")
    since_ts = int(time.time())
    run_dag(api, TELEMETRY, [{"groups": ["demo"], "sweeps": 1}])
    return wait_until(lambda: _fresh_samples(engine, since_ts), RUN_TIMEOUT_S, "a sample of each node")


def _print_samples(samples: list[dict[str, Any]]) -> None:
    print()
    print_table(samples, NODE_SAMPLES, sys.stdout)
    print(flush=True)


# -- a scenario --------------------------------------------------------------------------------------------------------


def _find_engine(state: State) -> LocalEngine | NoEngine:
    """Return the engine of this machine, or why there is none; the nodes and Airflow learn of it too."""
    found: LocalEngine | NoEngine
    try:
        found = find_engine()
    except NoEngine as reason:
        found = reason
    engine = found if isinstance(found, LocalEngine) else None
    if prepare_registry(state, engine):
        state.stop(airflow.PART)  # it knows the registry from its environment
    try:
        if engine:
            start_registry(state, engine)
    except DemoError as reason:
        # one that does not see this machine's files or loopback, as from inside of a container, is as good as none
        found, engine = NoEngine(str(reason)), None
    state.note_engine(engine.socket if engine else None)
    return found


def _show_scenario(
    state: State, api: Api, database: Engine, found: LocalEngine | NoEngine, ports: dict[str, int]
) -> bool:
    """Show the scenario, or say why not; returns whether it was shown."""
    try:
        if isinstance(found, NoEngine):
            raise found
        show_farm(state, api, database, found, ports[NODE.name])
    except NoEngine as reason:
        say(f"no scenario is shown, a model needs a Docker Engine of this machine: {reason}")
        return False
    return True


def _print_end(state: State, api: Api, shown: bool) -> None:
    scenario = f"\nscenario  {api.url}/dags/{SCENARIO}" if shown else ""
    folder = state.folder.relative_to(PROJECT) if state.folder.is_relative_to(PROJECT) else state.folder
    print(f"""
Airflow   {api.url}   login: {api.user}   password: {api.password}
          {TELEMETRY} goes on: a sweep of all nodes every 30 s{scenario}
samples   .venv/bin/evc samples demo-1
events    .venv/bin/evc events
Ansible   .venv/bin/ansible -i {folder}/hosts.ini all -m ping
trigger   . {folder}/env; .venv/bin/airflow dags trigger {TELEMETRY} --conf '{{"sweeps": 2}}'
stop      make demo-stop""")


def up(state: State) -> None:
    """Start what does not run, register what is not registered, and show a fresh sample of each node.

    :raises EvcError: what went wrong, in a line; where a task failed, followed by the end of its log
    """
    state.make_folders()
    with state.locked():
        state.make_keys(tuple(node.name for node in FLEET))
        engine = open_engine(embedded_url(state.folder))
        upgrade(engine)
        write_scenario(state)
        local_engine = _find_engine(state)
        ports = start_nodes(state, _registered(engine))
        say("nodes: " + ", ".join(f"{name} on port {port}" for name, port in sorted(ports.items())))
        api = airflow.start_airflow(state)
        _wait_for_dags(api, (*ON_DEMAND, TELEMETRY, MAINTENANCE, SCENARIO))
        for dag_id in ON_DEMAND:
            api.unpause(dag_id)
        _register(api, engine, ports)
        api.unpause(TELEMETRY)
        api.unpause(MAINTENANCE)
        _print_samples(_collect(api, engine))
        shown = _show_scenario(state, api, engine, local_engine, ports)
        _print_end(state, api, shown)
