"""``make demo-stop``."""

from __future__ import annotations

from demo.process import Process, family, stop
from demo.state import DemoError, State

AIRFLOW = "airflow"
NODES = ("demo-1", "demo-2", "demo-3")


def recorded(state: State, part: str) -> Process | None:
    """Return the process that ``part`` was started as, whether it still runs or not; None where it never was."""
    record = state.record(part)
    if isinstance(record.get("pid"), int) and isinstance(record.get("started"), str):
        return Process(record["pid"], record["started"])
    return None


def stop_parts(state: State, parts: tuple[str, ...]) -> int:
    """End ``parts`` with all their descendants; return how many processes that were.

    :raises DemoError: some would not end
    """
    roots = [root for part in parts if (root := recorded(state, part))]
    count = len(family(roots))
    left = stop(roots)
    if left:
        raise DemoError(f"these processes did not end: {' '.join(str(process.pid) for process in left)}")
    return count


def down(state: State) -> None:
    """End everything that ``up`` started and wait until it is gone. The data stay."""
    if not state.folder.is_dir():
        print(f"nothing to stop: there is no {state.folder}")
        return
    with state.locked():
        count = stop_parts(state, (AIRFLOW, *NODES))
    print(f"stopped, {count} processes; the data stay in {state.folder}")
