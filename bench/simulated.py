"""Figure 4: ten thousand nodes a minute, played by light SSH servers on the same machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.child import Child
from bench.cpu import memory_mb, tree_cpu_s
from bench.fleet import Host, nodes_of, store
from bench.stage import Stage, TaskRun, task_run
from bench.table import Goal, Section, below
from bench.task import Order

SERVERS = 4
CORES = len(os.sched_getaffinity(0))
_START_S = 10  # from the orders to the first tick: all tasks have imported everything by then


@dataclass(frozen=True, slots=True)
class Minute:
    """What the sweeps of all shards cost together; processor seconds.

    :param simulation_cpu_s: of the servers, from before the first tick and from before the second
    """

    runs: list[TaskRun]
    simulation_cpu_s: tuple[float, float]
    database_cpu_s: float
    simulation_mb: float

    @property
    def nodes(self) -> int:
        """How many nodes all shards have together."""
        return sum(run.nodes for run in self.runs)

    @property
    def has_later(self) -> bool:
        """Whether every shard kept the second tick."""
        return all(len(run.marks) > 1 for run in self.runs)

    def cpu_s(self, sweep: int) -> float:
        """Return what a sweep of all nodes costs the control side."""
        return sum(run.marks[sweep].cpu_s for run in self.runs)

    def seconds(self, sweep: int) -> float:
        """Return the seconds of the slowest shard."""
        return max(run.marks[sweep].duration_s + run.marks[sweep].write_s for run in self.runs)


def measure(stage: Stage) -> Section:
    """Sweep all nodes twice, in shards of a thousand as collect_telemetry does, into PostgreSQL."""
    count, shards, interval_s = (1000, 2, 15) if stage.quick else (10_000, 10, 60)
    with _simulated(stage.new_folder()) as (host, servers):
        minute = _sweep(stage, host, servers, count, shards, interval_s)
    return _section(minute, interval_s)


@contextmanager
def _simulated(folder: Path) -> Iterator[tuple[Host, list[Child]]]:
    folder.mkdir()
    for name in ("id", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name], check=True)
    order = {"key_file": str(folder / "id"), "host_key_file": str(folder / "host_key")}
    with ExitStack() as stack:
        servers = []
        for _ in range(SERVERS):
            servers.append(Child("simulated_nodes", order))
            stack.callback(servers[-1].end)
        ports = tuple(int(server.answer()["port"]) for server in servers)
        host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
        yield Host(ports, host_key, "bench", folder / "id"), servers


def _sweep(stage: Stage, host: Host, servers: Sequence[Child], count: int, shards: int, interval_s: int) -> Minute:
    folder = stage.new_folder()
    folder.mkdir()
    pids = [server.pid for server in servers]
    with stage.database("postgresql", folder) as url, ExitStack() as stack:
        store(url, host, nodes_of(host, count))
        database = stage.database_cpu_s("postgresql")
        start_ts = int(time.time()) + _START_S
        children = []
        for index in range(shards):
            order = Order(
                url, str(folder), host.user, str(host.key_file), start_ts, interval_s, sweeps=2,
                shard_index=index, shard_count=shards,
            )  # fmt: skip
            children.append(Child("task", asdict(order)))
            stack.callback(children[-1].end)
        _sleep_until(start_ts)
        first = tree_cpu_s(*pids)
        _sleep_until(start_ts + interval_s)
        second = tree_cpu_s(*pids)
        told = [child.answer() for child in children]
        end = tree_cpu_s(*pids)
        runs = [task_run(count // shards, "postgresql", answer, 0.0, complete=False) for answer in told]
        used = stage.database_cpu_s("postgresql") - database
        return Minute(runs, (end - first, end - second), used, sum(memory_mb(pid) for pid in pids))


def _sleep_until(ts: float) -> None:
    time.sleep(max(0.0, ts - time.time()))


def _section(minute: Minute, interval_s: int) -> Section:
    runs, count = minute.runs, minute.nodes
    section = Section(f"4. {count:,} simulated nodes every {interval_s} s, {len(runs)} tasks, PostgreSQL")
    _add_seconds(section, minute, interval_s)
    section.add("control side, first sweep", minute.cpu_s(0), "s CPU")
    if minute.has_later:
        section.add("control side, later sweep", minute.cpu_s(1), "s CPU")
        section.add("  logins, once a run", minute.cpu_s(0) - minute.cpu_s(1), "s CPU")
        section.add("simulation, later sweep", minute.simulation_cpu_s[1], "s CPU")
    section.add("simulation, both", minute.simulation_cpu_s[0], "s CPU")
    section.add("PostgreSQL, both", minute.database_cpu_s, "s CPU")
    largest = max(run.memory_peak_mb for run in runs)
    section.add("resident memory of all tasks, without Airflow", sum(run.memory_peak_mb for run in runs), "MB")
    section.add("  of the largest", largest, "MB")
    if minute.has_later:
        _add_limits(section, minute)
    section.remarks.append(
        f"the simulation: {SERVERS} processes, {minute.simulation_mb:,.0f} MB; it runs the script itself every 5 s"
    )
    return section


def _add_seconds(section: Section, minute: Minute, interval_s: int) -> None:
    marks = [mark for run in minute.runs for mark in run.marks]
    missed = sum(run.missed_ticks for run in minute.runs)
    down = sum(mark.nodes_down for mark in marks)
    section.add("first sweep, logins included", minute.seconds(0), "s", goal=below(interval_s, minute.seconds(0), "s"))
    if minute.has_later:
        section.add("later sweep", minute.seconds(1), "s", goal=below(interval_s, minute.seconds(1), "s"))
    section.add("ticks missed, of all tasks", missed, "", goal=Goal("none", missed == 0))
    section.add("answers that did not come", down, "", goal=Goal("none", down == 0))
    section.remarks += sorted({mark.reason for mark in marks if mark.reason})[:1]


def _add_limits(section: Section, minute: Minute) -> None:
    own = (minute.cpu_s(1) + minute.database_cpu_s / 2) / minute.nodes
    share = minute.simulation_cpu_s[1] / (minute.simulation_cpu_s[1] + own * minute.nodes)
    login = (minute.cpu_s(0) - minute.cpu_s(1)) / minute.nodes
    section.add("most nodes a minute here, simulation included", minute.nodes / minute.seconds(1) * 60, "nodes")
    section.add("  reckoned without the simulation", CORES * 60 / own, "nodes")
    section.add("  and with a login every five minutes", CORES * 60 / (own + login / 5), "nodes")
    section.remarks.append(
        f"the limit is processor time: {CORES} cores do the control side, the database and, with {share:.0%} of what a"
        " later sweep uses, the simulation"
    )
