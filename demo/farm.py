"""The scenario that the demo shows: Smart Farm on demo-1, built, rolled out and run by its DAG."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Engine, select

from demo.api import Api
from demo.engine import LocalEngine, have_image, registry_folder
from demo.nodes import FLEET
from demo.pictures import draw_bed
from demo.progress import say, wait_until
from demo.runs import is_over, run_dag
from demo.state import PROJECT, DemoError, State, write_private
from evc.cli import Column, print_table
from evc.store.database import reporting
from evc.store.tables import inference_results, inference_runs

FILE = "demo_farm.yaml"
DAG_ID = "scenario_demo_farm"
TEMPLATE = PROJECT / "demo" / "farm.yaml"
NODE = FLEET[0]
BASE_IMAGE = "python:3.11-slim"
TIMEOUT_S = 1800.0  # a first time, on a slow line
PICTURES = 6
_SAID = {"running": "", "failed": ": failed", "up_for_retry": ": failed, is tried again"}
RESULTS = (
    Column("PICTURE", "file"),
    Column("CANOPY COVER", "canopy_cover", lambda ratio: f"{ratio:.1%}", number=True),
    Column("HEALTHY", "health", lambda ratio: f"{ratio:.1%}", number=True),
    Column("SIGN", "label"),
)


def show_farm(state: State, api: Api, engine: Engine, docker_engine: LocalEngine, port: int) -> None:
    """Run the scenario and print what it found.

    :param engine: of the metrics database
    :param port: of the node's SSH server
    :raises NoEngine: the base image can't be had
    :raises DemoError: the run failed; the message ends with its log's last lines
    """
    have_image(docker_engine, _base_image(), "EVC_BASE_IMAGE")
    _let_node_pull(state, api, port)
    _draw_pictures(_pictures(state))
    say(f"a scenario on {NODE.name}: DAG {DAG_ID}")
    # as the file says; said again, for Airflow takes half a minute to read one that has changed
    run_id = api.trigger(DAG_ID, {"input": str(_pictures(state)), "arguments": {"BASE": _base_image()}})
    _follow(api, run_id)
    print()
    print_table(_results(engine, run_id), RESULTS, sys.stdout)


def _let_node_pull(state: State, api: Api, port: int) -> None:
    """Register the node again where it has no login at the registry yet: there may have been no engine before."""
    connection = registry_folder(state).connection() or {}
    config = state.home(NODE.name) / ".docker" / "config.json"
    try:
        known = json.loads(config.read_text())["auths"]
    except (OSError, ValueError, KeyError):
        known = {}
    if connection["extra"]["pull_address"] not in known:
        say(f"a login at the registry for {NODE.name}: DAG register_node")
        run_dag(api, "register_node", [NODE.conf(port)])


def write_scenario(state: State) -> None:
    """Write the scenario's file, with what this machine gives it."""
    said = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    said["build"]["arguments"] = {"BASE": _base_image()}
    said["inference"]["input"] = str(_pictures(state))
    head = "# Made by make demo, and made anew by the next.\n"
    text = head + yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=1000)
    write_private(state.scenarios / FILE, text)


def _base_image() -> str:
    return os.environ.get("EVC_BASE_IMAGE") or BASE_IMAGE


def _pictures(state: State) -> Path:
    return state.folder / "pictures"


def _draw_pictures(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for day in range(1, PICTURES + 1):
        picture = folder / f"day-{day}.png"
        picture.write_bytes(draw_bed(day, days=PICTURES))
        picture.chmod(0o644)
    # the model's user in its container is another, and our umask may be 077
    folder.chmod(0o755)


def _follow(api: Api, run_id: str) -> None:
    said: set[tuple[str, str]] = set()

    def ended() -> bool | None:
        for task in sorted(api.tasks(DAG_ID, run_id), key=lambda task: str(task["start_date"])):
            step = (_label(task), str(task["state"]))
            if step not in said and step[1] in _SAID and not _is_nameless(task):
                said.add(step)
                say(f"  {step[0]}{_SAID[step[1]]}")
        return True if is_over(api, DAG_ID, run_id) else None

    wait_until(ended, TIMEOUT_S, DAG_ID)


def _is_nameless(task: dict[str, Any]) -> bool:
    """Whether it is a node's task that has just begun: a moment later Airflow knows which node's."""
    return task["state"] == "running" and task["map_index"] >= 0 and not _node(task)


def _node(task: dict[str, Any]) -> str:
    which = task.get("rendered_map_index") or ""
    return "" if which.isdecimal() else which


def _label(task: dict[str, Any]) -> str:
    return f"{task['task_id']} {_node(task)}".strip()


def _results(engine: Engine, run_id: str) -> list[dict[str, Any]]:
    """Return one row for each picture."""
    results, runs = inference_results.c, inference_runs.c
    wanted = (
        select(results.kind, results.label, results.value, results.payload)
        .join_from(inference_results, inference_runs, runs.id == results.run_id)
        .where(runs.run_id == f"{DAG_ID}.inference.infer {run_id}", results.kind.in_(["canopy_cover", "health"]))
        .order_by(results.seq)
    )
    pictures: dict[str, dict[str, Any]] = {}
    with reporting(), engine.connect() as connection:
        for kind, label, value, payload in connection.execute(wanted):
            row = pictures.setdefault(payload["file"], {"file": payload["file"]})
            row[kind] = value
            if label:
                row["label"] = label
    if not pictures:
        raise DemoError(f"{DAG_ID} ended well, yet its run {run_id} left no results")
    return list(pictures.values())
