"""Figure 1: processor time of the control side for each node and sweep."""

from __future__ import annotations

from bench.peers.ansible import METRICS
from bench.stage import Stage, TaskRun
from bench.table import Section, at_least

BACKENDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
MS = "ms CPU"


def measure(stage: Stage) -> Section:
    """Sweep real sshd sessions into both databases, beside floor and peers."""
    section = Section("1. Control side, CPU per node and sweep")
    dearest = 0.0
    for count in stage.counts:
        runs = [stage.task(count, backend) for backend in BACKENDS]
        for run in runs:
            _add_run(section, run)
        own = max(run.cpu_ms() for run in runs)
        dearest = max(dearest, own)
        _add_prometheus(section, stage, count, own)
    _add_floor_and_ansible(section, stage, dearest)
    section.remarks += [
        "all in: opening the database, logins, ten sweeps, parsing, writing, closing; divided by nodes and sweeps",
        "x EVC: against the dearest all-in figure of EVC at that count",
        "Prometheus: steady state, all series known; without its first scrapes and without compaction",
        f"Ansible: {stage.ansible.nodes} nodes at once, facts not gathered; OpenSSH's processes that stay are left out",
    ]
    return section


def _add_run(section: Section, run: TaskRun) -> None:
    name = f"{run.nodes:,} nodes, {BACKENDS[run.backend]}"
    section.add(f"{name}: all in, ten sweeps a run", run.cpu_ms(), MS)
    section.add("  a sweep over open connections", run.later_cpu_ms(), MS)
    section.add("    of it the thread that writes", run.write_cpu_ms(), MS)
    section.add("  a login (tenth of it is in all in)", run.login_cpu_ms(), MS)
    if run.backend == "postgresql":
        section.add("  PostgreSQL's own processes, not in all in", run.database_cpu_ms(), MS)


def _add_prometheus(section: Section, stage: Stage, count: int, own: float) -> None:
    cost = stage.prometheus(count)
    times = cost.prometheus_cpu_ms / own
    section.add(
        f"{count:,} targets, Prometheus: a scrape of {cost.series:.0f} series",
        cost.prometheus_cpu_ms,
        MS,
        times,
        at_least(1, times),
    )


def _add_floor_and_ansible(section: Section, stage: Stage, own: float) -> None:
    floor, cost = stage.floor, stage.ansible
    section.add("floor: bare asyncssh, `true` over an open connection", floor["true_ms"], MS, floor["true_ms"] / own)
    section.add("floor: bare asyncssh, a login", floor["login_ms"], MS)
    section.add("Ansible: a playbook, per node and metric", cost.cpu_ms, MS, cost.cpu_ms / own)
    all_metrics = cost.cpu_ms * len(METRICS)
    times = all_metrics / own
    section.add(f"Ansible: all {len(METRICS)} metrics of a node", all_metrics, MS, times, at_least(500, times))
