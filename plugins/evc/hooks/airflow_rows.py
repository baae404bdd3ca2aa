"""Airflow's own old rows, runs and what belongs to them: once a day, by its own ``airflow db clean``.

A task may not use the metadata database, and what a process started by a task inherits leads to none. But a listener
hears of a run's success in the process that decides it: the scheduler, which has the database by its configuration. So
a run of ``maintain_metrics`` that succeeded makes the scheduler start the command, and go on at once. The command reads
the same configuration: no login stands in its arguments.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl

from evc.errors import InputError
from evc.hooks.settings import settings, state_folder

DAG_ID = "maintain_metrics"
LOG = "airflow_db_clean.log"
"""In the state folder: what the command said last. When it was begun is when it was last done."""
EVERY_S = 86_400
_ROWS_AT_ONCE = 1_000
log = logging.getLogger(__name__)
_running: list[subprocess.Popen[bytes]] = []


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:
    """Start the command where it is due; never raises, as the scheduler would log a traceback of it."""
    if dag_run.dag_id != DAG_ID:
        return
    try:
        days = settings().retention_days("logs")
        if days:
            clean(state_folder(settings()), days)
    except (InputError, OSError) as error:
        log.error("old rows of Airflow stay: %s", error)


def clean(folder: Path, days: int) -> subprocess.Popen[bytes] | None:
    """Start the command; None where it runs or was begun less than a day ago.

    :param folder: of its log
    :param days: rows that are older go
    """
    _forget_ended(folder / LOG)
    if _running or not _is_due(folder / LOG):
        return None
    with (folder / LOG).open("wb") as said:
        started = subprocess.Popen(  # noqa: S603  nothing in it is from outside
            command(days), stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
    _running.append(started)
    return started


def command(days: int) -> list[str]:
    """Return what deletes the rows of all DAGs that are older than ``days``; the last scheduled run of each stays."""
    before = datetime.now(UTC) - timedelta(days=days)
    options = ["--yes", "--skip-archive", "--error-on-cleanup-failure", "--batch-size", str(_ROWS_AT_ONCE)]
    when = ["--clean-before-timestamp", before.isoformat(timespec="seconds")]
    return [sys.executable, "-m", "airflow", "db", "clean", *when, *options]


def _is_due(file: Path) -> bool:
    try:
        # one from the future, of a clock that was ahead, says nothing
        return not 0 <= time.time() - file.stat().st_mtime <= EVERY_S
    except FileNotFoundError:
        return True


def _forget_ended(file: Path) -> None:
    for process in _running[:]:
        status = process.poll()
        if status is None:
            continue
        _running.remove(process)
        if status:
            log.error("airflow db clean ended with %d: see %s", status, file)
