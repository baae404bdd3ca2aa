"""Runs of DAGs that the demo triggers and waits for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from demo.api import Api
from demo.progress import wait_until
from demo.state import DemoError

RUN_TIMEOUT_S = 120.0


def run_dag(api: Api, dag_id: str, confs: Sequence[dict[str, Any]]) -> None:
    """Trigger a run for each of ``confs`` and wait for all of them.

    :raises DemoError: one failed; the message ends with its log's last lines
    """
    waiting = [api.trigger(dag_id, conf) for conf in confs]

    def ended() -> bool | None:
        for run_id in list(waiting):
            if is_over(api, dag_id, run_id):
                waiting.remove(run_id)
        return None if waiting else True

    wait_until(ended, RUN_TIMEOUT_S, dag_id)


def is_over(api: Api, dag_id: str, run_id: str) -> bool:
    """Whether a run ended well. :raises DemoError: it failed; the message ends with its log's last lines"""
    state = api.run_state(dag_id, run_id)
    if state == "failed":
        raise DemoError(f"{dag_id} failed\n{api.failure(dag_id, run_id)}")
    return state == "success"
