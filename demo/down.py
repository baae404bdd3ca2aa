"""``make demo-stop``."""

from __future__ import annotations

from demo import airflow
from demo.engine import stop_registry
from demo.nodes import FLEET
from demo.state import State


def down(state: State) -> None:
    """End everything that ``up`` started and wait until it is gone. The data stay.

    :raises DemoError: something would not end, or ``up`` is at work
    """
    if not state.folder.is_dir():
        print(f"nothing to stop: there is no {state.folder}")
        return
    with state.locked():
        count = state.stop(airflow.PART, *(node.name for node in FLEET))
        containers = stop_registry(state)
    more = f" and {containers} containers" if containers else ""
    print(f"stopped {count} processes{more}; the data stay in {state.folder}")
