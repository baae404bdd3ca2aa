"""What the figures share in one run: servers that stay up, and measurements that more than one figure shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.child import BenchError, run
from bench.cpu import tree_cpu_s
from bench.fleet import Host, address, nodes_of, store
from bench.peers import ansible, prometheus
from bench.task import Mark, Order
from evc.store.database import embedded_url
from tests.servers.postgres import PostgresServer, running_postgres
from tests.servers.sshd import SshServer, running_sshd

SWEEPS_OF_A_RUN = 10  # the default window of 300 s at 30 s


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What one task did, by its own account.

    :param database_cpu_s: of the processes of PostgreSQL; 0 for SQLite
    """

    nodes: int
    backend: str
    open_cpu_s: float
    close_cpu_s: float
    marks: list[Mark]
    missed_ticks: int
    memory_before_mb: float
    memory_peak_mb: float
    database_cpu_s: float = 0.0

    @property
    def first(self) -> Mark:
        """The sweep that also logs in."""
        return self.marks[0]

    @property
    def later_cpu_s(self) -> float:
        """Of a whole sweep over open connections, on average."""
        return sum(mark.cpu_s for mark in self.marks[1:]) / len(self.marks[1:])

    def cpu_ms(self) -> float:
        """Per node and sweep in a run of ten: opening, logins, sweeps, writing and closing."""
        total = self.open_cpu_s + self.first.cpu_s + (SWEEPS_OF_A_RUN - 1) * self.later_cpu_s + self.close_cpu_s
        return total / SWEEPS_OF_A_RUN / self.nodes * 1000

    def later_cpu_ms(self) -> float:
        """Per node of a sweep over open connections."""
        return self.later_cpu_s / self.nodes * 1000

    def write_cpu_ms(self) -> float:
        """Of :meth:`later_cpu_ms`, in the thread that writes."""
        return sum(mark.write_cpu_s for mark in self.marks[1:]) / len(self.marks[1:]) / self.nodes * 1000

    def login_cpu_ms(self) -> float:
        """Per node: what the first sweep costs more than a later one, and the closing."""
        return (self.first.cpu_s - self.later_cpu_s + self.close_cpu_s) / self.nodes * 1000

    def database_cpu_ms(self) -> float:
        """Of the database's own processes, per node and sweep."""
        return self.database_cpu_s / self.nodes / len(self.marks) * 1000


def task_run(nodes: int, backend: str, told: dict[str, Any], database_cpu_s: float, complete: bool = True) -> TaskRun:
    """Return what a task told.

    :param complete: a sweep that was not kept, or a node that did not answer, is an error and not a figure
    :raises BenchError: fewer than two sweeps, or not every node answered, where they must
    """
    marks = [Mark(**mark) for mark in told.pop("marks")]
    down = [mark.nodes_down for mark in marks]
    if complete and (len(marks) < 2 or any(down)):
        reasons = "; ".join(mark.reason for mark in marks if mark.reason)
        raise BenchError(f"{nodes} nodes, {backend}: {len(marks)} sweeps, nodes down in each: {down}: {reasons}")
    return TaskRun(nodes=nodes, backend=backend, marks=marks, database_cpu_s=database_cpu_s, **told)


class Stage:
    """Starts a server when it is first needed and measures what is asked for, each once.

    :param folder: temporary, for everything
    :param quick: smaller counts and shorter windows, to try the bench itself
    :param kept: a folder for databases that take long to make, which are there next time
    """

    def __init__(self, folder: Path, quick: bool, kept: Path | None = None) -> None:
        self.folder, self.quick, self.kept = folder, quick, kept
        self.counts = (50, 100) if quick else (200, 1000)
        self._stack = ExitStack()
        self._runs: dict[tuple[int, str], TaskRun] = {}
        self._scrapes: dict[int, prometheus.Cost] = {}
        self._folders = 0

    def close(self) -> None:
        """Stop every server."""
        self._stack.close()

    def new_folder(self) -> Path:
        """Return a folder that does not exist yet."""
        self._folders += 1
        return self.folder / str(self._folders)

    @cached_property
    def sshd(self) -> Host:
        """One sshd that answers on all of 127.0.0.0/8."""
        return self._stack.enter_context(running_host(self.new_folder()))[0]

    @cached_property
    def postgres(self) -> PostgresServer:
        """One PostgreSQL."""
        return self._stack.enter_context(running_postgres())

    @contextmanager
    def database(self, backend: str, folder: Path) -> Iterator[str]:
        """Yield the URL of a new, empty database."""
        if backend == "sqlite":
            yield embedded_url(folder)
            return
        with self.postgres.database() as name:
            yield self.postgres.url(name)

    def database_cpu_s(self, backend: str) -> float:
        """Return what the database's own processes have used so far."""
        if backend == "sqlite":
            return 0.0
        return tree_cpu_s(int((self.postgres.folder / "data" / "postmaster.pid").read_text().split()[0]))

    def task(self, count: int, backend: str) -> TaskRun:
        """Return one task's sweeps of ``count`` nodes, at the real interval where they are many."""
        if (count, backend) not in self._runs:
            interval_s = 30 if count > 500 else 5
            sweeps = 2 if count > 500 and backend != "sqlite" else 3
            run_of = self.measure(self.sshd, count, backend, interval_s=interval_s, sweeps=sweeps, with_airflow=True)
            self._runs[count, backend] = run_of
        return self._runs[count, backend]

    def measure(
        self, host: Host, count: int, backend: str, *, interval_s: int, sweeps: int, with_airflow: bool = False
    ) -> TaskRun:
        """Let a fresh process sweep ``count`` nodes of ``host`` into a new database."""
        folder = self.new_folder()
        folder.mkdir()
        with self.database(backend, folder) as url:
            store(url, host, nodes_of(host, count))
            before = self.database_cpu_s(backend)
            order = Order(
                url, str(folder), host.user, str(host.key_file), 0, interval_s, sweeps,
                with_airflow=with_airflow,
            )  # fmt: skip
            told = run("task", asdict(order))
            return task_run(count, backend, told, self.database_cpu_s(backend) - before)

    @cached_property
    def floor(self) -> dict[str, float]:
        """Bare asyncssh: ``login_ms`` and ``true_ms``, control-side CPU per node."""
        return self.bare_asyncssh(self.sshd, min(self.counts), rounds=5)

    def bare_asyncssh(self, host: Host, count: int, rounds: int) -> dict[str, float]:
        """Log in to ``count`` addresses and run ``true`` on each ``rounds`` times."""
        addresses = [[address(index), host.ports[0]] for index in range(count)]
        order = {"addresses": addresses, "user": host.user, "key_file": str(host.key_file), "rounds": rounds}
        told: dict[str, float] = run("floor", order)
        return told

    @cached_property
    def ansible(self) -> ansible.Cost:
        """One playbook for each metric."""
        return ansible.measure(self.new_folder(), self.sshd, 3 if self.quick else 10)

    def prometheus(self, targets: int) -> prometheus.Cost:
        """Scrapes of ``targets`` addresses of one node_exporter, about 60 a second at most."""
        if targets not in self._scrapes:
            interval_s = max(1, round(targets / 60))
            window_s = max(10, interval_s)
            self._scrapes[targets] = prometheus.measure(self.new_folder(), targets, interval_s, window_s)
        return self._scrapes[targets]


@contextmanager
def running_host(folder: Path) -> Iterator[tuple[Host, SshServer]]:
    """Start an sshd for all of 127.0.0.0/8 that lets nobody in from elsewhere, stop it."""
    with running_sshd(folder, "AllowUsers *@127.0.0.0/8", address="0.0.0.0") as server:
        yield Host((server.port,), server.host_key, server.user, server.key_file), server
