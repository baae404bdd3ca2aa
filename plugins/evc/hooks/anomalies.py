"""Anomalies of the nodes that are registered now."""

from __future__ import annotations

import time
from collections.abc import Sequence

from evc.anomalies.judge import Finding, judge
from evc.anomalies.windows import BUCKET_S
from evc.fleet.log import Log
from evc.hooks.metrics import checked_engine
from evc.store.anomalies import WatchedNodes, has_buckets, newest_bucket, read_watch, record_findings
from evc.store.database import reporting
from evc.store.rollups import SETTLE_S


class AnomaliesHook:
    """Looks at all nodes once. :param log: the task's own log"""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.engine = checked_engine()

    def look(self, now_ts: int | None = None) -> dict[str, int]:
        """Judge the newest bucket that was made; returns nodes, anomalies that began and that ended.

        :param now_ts: for tests
        :raises DatabaseError: the database is away, or its tables are of another version
        """
        begun = time.monotonic()
        now_ts = int(time.time()) if now_ts is None else now_ts
        with reporting():
            seen = self._judge((now_ts - SETTLE_S) // BUCKET_S * BUCKET_S - BUCKET_S)
        if seen is None:
            self._say_why_not()
            return {"nodes": 0, "begun": 0, "ended": 0}
        watched, found = seen
        self._say(watched.names, found)
        counts = {"nodes": len(watched.ids), "begun": sum(finding.begins for finding in found)}
        counts["ended"] = len(found) - counts["begun"]
        self.log.info(
            "nodes looked at: %d, in %.1f s; anomalies that began: %d, that ended: %d",
            counts["nodes"],
            time.monotonic() - begun,
            counts["begun"],
            counts["ended"],
        )
        return counts

    def _judge(self, over_ts: int) -> tuple[WatchedNodes, list[Finding]] | None:
        """Judge and record. :param over_ts: begin of the last bucket that is over, which need not be made yet"""
        with self.engine.begin() as connection:
            last_ts = newest_bucket(connection, over_ts)
            if last_ts is None:
                return None
            watched = read_watch(connection, last_ts)
            found = list(judge(watched.watch))
            record_findings(connection, watched, found, last_ts)
        return watched, found

    def _say_why_not(self) -> None:
        with reporting(), self.engine.connect() as connection:
            is_new = not has_buckets(connection)
        if is_new:
            self.log.info("no samples are rolled up yet: nothing to look at")
        else:
            self.log.warning("no samples of the last hour are rolled up: nothing to look at")

    def _say(self, names: Sequence[str], found: Sequence[Finding]) -> None:
        for finding in found:
            (self.log.warning if finding.begins else self.log.info)("%s: %s", names[finding.node], finding.message)
