"""Figure 7: a roll-out to eight nodes, beside `docker pull` by hand on the same nodes, and beside run_model.yaml."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.child import PROJECT, BenchError, wait_for
from bench.cpu import tree_cpu_s
from bench.stage import Stage
from bench.table import Section, below
from demo import airflow
from demo.api import Api, NotFound
from demo.state import DemoError, State
from evc.engine.account import node_auth
from evc.engine.client import connect
from evc.engine.pull import pull_image
from evc.ssh.credentials import load_credentials
from evc.ssh.session import open_session
from evc.store.database import embedded_url, open_engine, upgrade
from tests.servers.edge import EdgeFleet, running_fleet
from tests.servers.edge_node import EdgeNode
from tests.servers.running_airflow import fleet_environment

NODES, QUICK_NODES = 8, 2
RUNS, QUICK_RUNS = 3, 1
SIZE_MB, QUICK_SIZE_MB = 60, 10
FIXED_S = 5.0  # beyond 1.3 x docker pull: a fixed few seconds
POLL_S = 0.5
MODEL = "bench"
TAG = "1.0"
_SPEC = {
    "name": MODEL,
    "description": "Stands for a model of this size; does nothing.",
    "task": "bench",
    "version": TAG,
    "mode": "continuous",
    "inputs": ["camera"],
    "results": [{"kind": "nothing"}],
    "health": {"stable_s": 0},
    "stop_grace_s": 0,
}
# what Airflow itself takes for the tasks of one wave: its own processes, forks, API and scheduler
NOTHING = "nothing"
_NOTHING = """\"\"\"As many tasks as a roll-out in one wave has, which do nothing.\"\"\"
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseOperator, Param, dag

class Nothing(BaseOperator):
    template_fields = ("node",)

    def __init__(self, *, node=None, **kwargs):
        super().__init__(**kwargs)
        self.node = node

    def execute(self, context):
        return context["params"]["nodes"]

@dag(schedule=None, params={"nodes": Param([], type="array")})
def nothing():
    plan = Nothing(task_id="plan")
    each = Nothing.partial(task_id="each").expand(node=plan.output)
    each >> EmptyOperator(task_id="done", trigger_rule="all_done") >> Nothing(task_id="gate")

nothing()
"""
# a deployed container runs on; one that run_model.yaml has started ends at once
_SCRIPT = "[ -z \"$EVC_RUN\" ] || exit 0; trap 'exit 0' TERM; while :; do sleep 1; done"


def measure(stage: Stage) -> Section:
    """Roll out, pull by hand and run the playbook in turn, each on nodes without the image; print medians."""
    count = QUICK_NODES if stage.quick else NODES
    section = Section(f"7. A roll-out to {count} nodes")
    with contextlib.redirect_stdout(sys.stderr), running_fleet(nodes=count) as fleet:
        try:
            with _running(fleet, stage.new_folder()) as bench:
                _measure(section, bench, QUICK_RUNS if stage.quick else RUNS, stage.quick)
        except DemoError as error:
            raise BenchError(str(error)) from None
    return section


class _Bench:
    """A fleet, an Airflow that knows it, and one image in the fleet's registry."""

    def __init__(self, fleet: EdgeFleet, api: Api, pid: int, state: State) -> None:
        self.fleet, self.api, self.pid, self.state = fleet, api, pid, state
        self.nodes: Sequence[EdgeNode] = [fleet.nodes[name] for name in sorted(fleet.nodes)]
        self.reference = f"{fleet.registry.address(fleet.registry.pull)}/{MODEL}:{TAG}"

    def clean(self) -> None:
        """Take the image and its containers from every node."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(_take_away, self.nodes))

    def run_dag(self, dag_id: str, conf: dict[str, object]) -> float:
        """Trigger a run; return the seconds until it had succeeded."""
        begun = time.monotonic()
        run_id = self.api.trigger(dag_id, conf)

        def ended() -> str | None:
            state = self.api.run_state(dag_id, run_id)
            return state if state in {"success", "failed"} else None

        if wait_for(dag_id, ended, 600, every_s=POLL_S) == "failed":
            raise BenchError(f"{dag_id} failed:\n{self.api.failure(dag_id, run_id)}")
        return time.monotonic() - begun

    def register(self, node: EdgeNode) -> None:
        """Register a node, its registry login included."""
        self.run_dag("register_node", {"name": node.name, "host": node.address, "host_key": node.host_key})


def _take_away(node: EdgeNode) -> None:
    with node.engine() as engine:
        for container in engine.containers.list(ignore_removed=True, all=True):
            container.remove(force=True)
        for image in engine.images.list():
            engine.images.remove(image.id, force=True)


# -- ours, the peer, the playbook, the floor ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    """Each run's figures: seconds, and for Airflow's runs processor seconds a node."""

    deploys: list[tuple[float, float]] = field(default_factory=list)
    nothings: list[tuple[float, float]] = field(default_factory=list)
    pulls: list[float] = field(default_factory=list)
    playbooks: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)


def _measure(section: Section, bench: _Bench, runs: int, quick: bool) -> None:
    names = [node.name for node in bench.nodes]
    bench.fleet.push_image(MODEL, TAG, script=_SCRIPT, size_mb=QUICK_SIZE_MB if quick else SIZE_MB)
    conf: dict[str, object] = {"model": MODEL, "tag": TAG, "nodes": list(names), "waves": ["100%"]}
    bench.clean()
    bench.run_dag("deploy_model", conf)  # caches are warm after that
    bench.run_dag(NOTHING, {"nodes": names})
    idle = _idle(bench, 5 if quick else 20)
    found = _Found()
    for _ in range(runs):
        bench.clean()
        found.deploys.append(_run(bench, "deploy_model", conf, idle))
        found.pulls.append(_timed(bench, lambda: _pull_by_hand(bench)))
        found.nothings.append(_run(bench, NOTHING, {"nodes": names}, idle))
        found.playbooks.append(_timed(bench, lambda: _run_playbook(bench)))
        bench.clean()
        found.floors.append(_bare_pulls_cpu_s(bench) / len(names))
    _report(section, found)
    section.remarks += [
        f"medians of {runs}; an image of {QUICK_SIZE_MB if quick else SIZE_MB} MB that does not compress; registry, the"
        f" engines of all {len(names)} nodes and Airflow share the cores of this machine",
        "control side: all processes of Airflow (SQLite, LocalExecutor), less what they use anyway; for a whole run,"
        " its plan, gate and end included, divided by the nodes",
        "docker pull: ssh and docker's own client on each node, all at once, nothing else",
        "Airflow's tasks that do nothing: a DAG of plan, one mapped task a node and gate, the graph of one wave",
        "bare SSH and Engine API: login and pull in one process, no Airflow, no database, no container",
    ]


def _run(bench: _Bench, dag_id: str, conf: dict[str, object], idle: float) -> tuple[float, float]:
    """Return a run's seconds, and its processor seconds a node beyond what Airflow uses meanwhile anyway."""
    used = tree_cpu_s(bench.pid)
    seconds = bench.run_dag(dag_id, conf)
    return seconds, (tree_cpu_s(bench.pid) - used - idle * seconds) / len(bench.nodes)


def _report(section: Section, found: _Found) -> None:
    ours, cpu = map(statistics.median, zip(*found.deploys, strict=True))
    airflow_s, airflow_cpu = map(statistics.median, zip(*found.nothings, strict=True))
    pull, playbook, floor = map(statistics.median, (found.pulls, found.playbooks, found.floors))
    section.add("deploy_model, from the trigger to the end of the run", ours, "s")
    section.add("peer: docker pull by hand on the same nodes, side by side", pull, "s", pull / ours)
    section.add("peer: run_model.yaml by hand on the same nodes", playbook, "s", playbook / ours)
    section.add("floor: as many tasks of Airflow that do nothing", airflow_s, "s", airflow_s / ours)
    over = ours - 1.3 * pull
    section.add("deploy_model beyond 1.3 x docker pull", over, "s", over / ours, below(FIXED_S, over, "s"))
    section.add("control side, per deployed node", cpu, "s CPU", goal=below(0.5, cpu, "s"))
    section.add("floor: as many tasks of Airflow that do nothing", airflow_cpu, "s CPU", airflow_cpu / cpu)
    own = cpu - airflow_cpu
    section.add("beyond that: what EVC does", own, "s CPU", own / cpu, below(0.25, own, "s"))
    section.add("floor: bare SSH and Engine API, the pull alone", floor, "s CPU", floor / cpu)


def _idle(bench: _Bench, seconds: float) -> float:
    """Return processor seconds a second while nothing runs; the API is asked as often as during a run."""
    before, begun = tree_cpu_s(bench.pid), time.monotonic()
    while time.monotonic() - begun < seconds:
        bench.api.get("/api/v2/dags/deploy_model/dagRuns?limit=1")
        time.sleep(POLL_S)
    return (tree_cpu_s(bench.pid) - before) / (time.monotonic() - begun)


def _timed(bench: _Bench, work: Callable[[], None]) -> float:
    bench.clean()
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _pull_by_hand(bench: _Bench) -> None:
    commands = [
        [
            *("ssh", "-i", str(bench.fleet.key_file), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", f"root@{node.address}"),
            f"docker pull --quiet {bench.reference}",
        ]
        for node in bench.nodes
    ]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for command in commands]
    for process in started:
        _, said = process.communicate(timeout=600)
        if process.returncode:
            raise BenchError(f"docker pull by hand: {said.decode(errors='replace')}")


def _run_playbook(bench: _Bench) -> None:
    ansible = Path(sys.executable).with_name("ansible-playbook")
    given = {"image": bench.reference}
    command = [ansible, "-i", bench.state.hosts_ini, "-f", str(len(bench.nodes)), PROJECT / "playbooks/run_model.yaml"]
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "False"}
    done = subprocess.run(
        [*map(str, command), "-e", json.dumps(given)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise BenchError(f"run_model.yaml: {(done.stdout + done.stderr)[-2000:]}")


def _bare_pulls_cpu_s(bench: _Bench) -> float:
    credentials = load_credentials("bench", login="root", key_file=str(bench.fleet.key_file))
    exchanges = asyncio.Semaphore(20)
    pull_address = bench.fleet.registry.address(bench.fleet.registry.pull)

    async def pull(node: EdgeNode) -> None:
        session = await open_session(node.node(), credentials, timeout_s=20, exchanges=exchanges)
        try:
            auth = await node_auth(session, pull_address)
            async with connect(session) as engine:
                await pull_image(engine, bench.reference, auth)
        finally:
            await session.close()

    async def pull_all() -> None:
        await asyncio.gather(*map(pull, bench.nodes))

    before = time.process_time()
    asyncio.run(pull_all())
    return time.process_time() - before


# -- set-up ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _running(fleet: EdgeFleet, folder: Path) -> Iterator[_Bench]:
    state = State(folder)
    state.make_folders()
    model = folder / "models" / MODEL
    model.mkdir(parents=True)
    (model / "model.yaml").write_text(yaml.safe_dump(_SPEC))
    (model / "Dockerfile").write_text("FROM scratch\n")  # a source has one; the image is pushed as it is
    dags = folder / "dags"
    dags.mkdir()
    for dag_id in ("register_node", "deploy_model"):
        shutil.copy(PROJECT / "dags" / f"{dag_id}.py", dags)
    (dags / "nothing.py").write_text(_NOTHING)
    engine = open_engine(embedded_url(state.folder))
    upgrade(engine)
    engine.dispose()
    environment = {
        **fleet_environment(fleet, folder / "models"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__EVC__PLAYBOOKS_FOLDER": str(PROJECT / "playbooks"),
        "AIRFLOW__CORE__PARALLELISM": "8",
    }
    try:
        api = airflow.start_airflow(state, environment)
        started = state.started(airflow.PART)
        assert started
        bench = _Bench(fleet, api, started.pid, state)
        for dag_id in ("register_node", "deploy_model", NOTHING):
            wait_for(f"DAG {dag_id}", lambda dag_id=dag_id: _parsed(api, dag_id), 120)
            api.unpause(dag_id)
        with ThreadPoolExecutor(2) as pool:  # Ansible takes a core each
            list(pool.map(bench.register, bench.nodes))
        yield bench
    finally:
        state.stop(airflow.PART)


def _parsed(api: Api, dag_id: str) -> bool | None:
    try:
        api.get(f"/api/v2/dags/{dag_id}")
    except NotFound:
        return None
    return True
