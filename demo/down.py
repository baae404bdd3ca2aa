"""``make demo-stop``."""

from __future__ import annotations

from demo import airflow
from demo.nodes import FLEET
from demo.process import family, stop
from demo.state import DemoError, State


def stop_parts(state: State, *parts: str) -> int:
    """End ``parts`` with all their descendants; return how many processes that were.

    :raises DemoError: some would not end
    """
    roots = [root for part in parts if (root := state.started(part))]
    count = len(family(roots))
    left = stop(roots)
    if left:
        raise DemoError(f"these processes did not end: {' '.join(str(process.pid) for process in left)}")
    return count


def down(state: State) -> None:
    """End everything that ``up`` started and wait until it is gone. The data stay.

    :raises DemoError: something would not end, or ``up`` is at work
    """
    if not state.folder.is_dir():
        print(f"nothing to stop: there is no {state.folder}")
        return
    with state.locked():
        count = stop_parts(state, airflow.PART, *(node.name for node in FLEET))
    print(f"stopped {count} processes; the data stay in {state.folder}")
