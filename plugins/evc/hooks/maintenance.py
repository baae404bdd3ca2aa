"""Keeps the metrics database fit: rollups, partitions, retention; and deletes Airflow's own old logs."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path

from airflow.sdk.configuration import conf
from sqlalchemy import Engine

from evc.fleet.log import Log
from evc.fleet.settings import Settings
from evc.hooks.airflow_logs import delete_old_logs
from evc.hooks.metrics import checked_engine
from evc.hooks.settings import settings, state_folder
from evc.store.clock import believed_now
from evc.store.partitions import are_in, make_ahead
from evc.store.result_rollups import NAME as RESULTS_1H
from evc.store.result_rollups import roll_up_results
from evc.store.retention import KINDS, Removed, forget_identities, give_back, remove_old, size
from evc.store.rollups import Rolled, roll_up

DAY_S = 86_400
LOGS_EVERY_S = DAY_S
LOGS_DONE = "airflow_logs_deleted"
"""A file in the state folder: when it was written is when old logs were last deleted."""
_SHOWN_TABLES = 5


class MaintenanceHook:
    """One round; one object serves one task.

    :param log: the task's own log
    :param budget_s: for how long a new step may begin: what is left then is done in the next round
    """

    def __init__(self, log: Log, budget_s: float = 480) -> None:
        self.log = log
        self._until = time.monotonic() + budget_s
        self._stopped = False

    @cached_property
    def settings(self) -> Settings:
        """The settings as they were at the beginning."""
        return settings()

    def stop(self) -> None:
        """End after the step that goes on."""
        self._stopped = True

    def run(self, now_ts: int) -> dict[str, int]:
        """Do what is due; returns how many rows were ``rolled_up`` and ``removed``, and ``database_bytes``.

        :raises DatabaseError: the database is away or at fault; steps that were done stay done
        """
        engine = checked_engine()
        self._make_partitions(engine, now_ts)
        rolled = self._roll_up(engine, now_ts)
        today_ts = self._today(engine, now_ts)
        removed = self._remove_old(engine, today_ts)
        self._give_back(engine)
        total = self._tell_size(engine)
        self._delete_logs(now_ts, today_ts)
        if not self._go_on():
            self.log.info("time is up: the next round goes on")
        return {"rolled_up": rolled, "removed": removed, "database_bytes": total}

    def _go_on(self) -> bool:
        return not self._stopped and time.monotonic() < self._until

    def _today(self, engine: Engine, now_ts: int) -> int:
        """Return from when on days are counted back for what is too old."""
        today_ts = believed_now(engine, now_ts)
        if today_ts < now_ts:
            self.log.warning(
                "the clock is more than a day ahead of the last rounds: until tomorrow what is too old goes as of %s",
                _when(today_ts),
            )
        return today_ts

    # -- the database --------------------------------------------------------------------------------------------------

    def _make_partitions(self, engine: Engine, now_ts: int) -> None:
        if are_in(engine) and (made := make_ahead(engine, now_ts)):
            self.log.info("partitions made ahead: %s", ", ".join(made))

    def _roll_up(self, engine: Engine, now_ts: int) -> int:
        done = roll_up(engine, now_ts, self._go_on)
        done[RESULTS_1H] = roll_up_results(engine, now_ts, self._go_on)
        for name, rolled in done.items():
            self.log.info("%s: %s", name, _rolled(rolled))
        return sum(rolled.rows for rolled in done.values())

    def _remove_old(self, engine: Engine, now_ts: int) -> int:
        rows = 0
        for kind in KINDS:
            if not (days := self.settings.retention_days(kind)):
                continue
            for name, removed in remove_old(engine, kind, now_ts - days * DAY_S, self._go_on).items():
                rows += removed.rows
                if removed.rows or removed.partitions:
                    self.log.info("%s: %s (kept for %d days)", name, _removed(removed), days)
        days = self.settings.retention_days("identities")
        if days and (forgotten := forget_identities(engine, now_ts - days * DAY_S)):
            self.log.info("identities: forgot %d that were not seen for %d days", forgotten, days)
            rows += forgotten
        return rows

    def _give_back(self, engine: Engine) -> None:
        if given := give_back(engine, self._go_on):
            self.log.info("database file: %s given back to the disk", amount(given))

    def _tell_size(self, engine: Engine) -> int:
        found = size(engine)
        largest = sorted(found.tables.items(), key=lambda item: -item[1])[:_SHOWN_TABLES]
        parts = [f"{name} {amount(bytes_)}" for name, bytes_ in largest]
        if found.empty_bytes is not None:
            parts.append(f"{amount(found.empty_bytes)} of it free for new rows")
        self.log.info("database: %s (%s)", amount(found.bytes), ", ".join(parts))
        return found.bytes

    # -- Airflow's own -------------------------------------------------------------------------------------------------

    def _delete_logs(self, now_ts: int, today_ts: int) -> None:
        days = self.settings.retention_days("logs")
        done = state_folder(self.settings) / LOGS_DONE
        if not days or not _is_due(done, now_ts) or not self._go_on():
            return
        folder = Path(conf.get("logging", "base_log_folder")).expanduser()
        deleted = delete_old_logs(folder, today_ts - days * DAY_S)
        done.touch()
        self.log.info(
            "Airflow's logs: deleted %d files older than %d days, %s", deleted.files, days, amount(deleted.bytes)
        )
        if deleted.refused:
            self.log.warning("Airflow's logs: %d old files in %s may not be deleted", deleted.refused, folder)


def _is_due(file: Path, now_ts: int) -> bool:
    try:
        # whole seconds, as now_ts; one from the future, of a clock that was ahead, says nothing
        return not 0 <= now_ts - int(file.stat().st_mtime) <= LOGS_EVERY_S
    except FileNotFoundError:
        return True


def _rolled(rolled: Rolled) -> str:
    if rolled.through_ts is None:
        said = "nothing new"
    else:
        said = f"{rolled.rows:,} rows made, the last bucket ends {_when(rolled.through_ts)}"
    return f"{said}; {rolled.too_late} came too late" if rolled.too_late else said


def _removed(removed: Removed) -> str:
    parts = [f"{removed.rows:,} rows"] if removed.rows else []
    if removed.partitions:
        parts.append(f"{', '.join(removed.partitions)} with {amount(removed.freed_bytes)}")
    return f"removed {' and '.join(parts)} from before {_when(removed.before_ts)}"


def _when(ts: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ts))


def amount(bytes_: float) -> str:
    """Return a number of bytes as a person reads it, decimal: ``1.2 GB``."""
    for unit in ("B", "kB", "MB"):
        if bytes_ < 1000:
            return f"{bytes_:.0f} {unit}" if bytes_ >= 100 or unit == "B" else f"{bytes_:.1f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} GB"
