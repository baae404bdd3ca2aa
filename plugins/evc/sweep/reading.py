"""From one node's answer, and what was remembered of it, to rows: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evc.errors import ParseError
from evc.fleet.nodes import Node, without_name
from evc.fleet.status import judge
from evc.fleet.ticks import is_due
from evc.probes import PROBES
from evc.probes.answer import Answer
from evc.probes.probe import Before, Probe, Sample

MAX_MESSAGE = 500
_ENTRY = ("uptime_s", "ts", "counters", "columns")


@dataclass(slots=True)
class Memory:
    """What is remembered of a node from sweep to sweep: a row of ``node_readings``.

    :param counters: by probe: ``[uptime_s, ts, counters, columns]`` of its last reading; the columns only of a probe
        with a cadence of its own, which stand until its next reading
    :param failing: by probe, or ``ssh``: the message of a failure that lasts
    """

    ts: int = 0
    boot_id: str | None = None
    uptime_s: float | None = None
    missed_sweeps: int = 0
    counters: dict[str, Any] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Memory:
        """Return the memory that :meth:`row` wrote. What is not of its form is forgotten: only a rate is lost by it."""
        memory = cls(**{name: row[name] for name in cls.__slots__})
        memory.counters = {name: kept for name, kept in memory.counters.items() if len(kept) == len(_ENTRY)}
        return memory

    @classmethod
    def assumed_up(cls) -> Memory:
        """Return what to go on with where the memory can't be read: no rates at first, but no news either."""
        return cls(uptime_s=0.0)

    def row(self, node_id: int) -> dict[str, Any]:
        """Return the row of ``node_readings``."""
        return {"node_id": node_id, **{name: getattr(self, name) for name in self.__slots__}}

    @property
    def status(self) -> str:
        """``up``, ``down`` or ``unknown`` as the sweeps so far say."""
        if judge("up", self.missed_sweeps - 1, answered=False).status == "down":
            return "down"
        return "up" if self.boot_id or self.uptime_s is not None else "unknown"


@dataclass(slots=True)
class Outcome:
    """What one sweep of one node leaves behind.

    :param rows: by table, complete
    :param node: columns of ``nodes`` to set, ``id`` included
    :param failure: why there is no answer; None where there is one
    """

    rows: dict[str, list[dict[str, Any]]]
    node: dict[str, Any]
    memory: Memory
    failure: str | None = None


def due_probes(memory: Memory, tick_ts: int, phase: int) -> list[Probe]:
    """Return the probes that are due, in an order in which a command that hangs comes last."""
    return [
        probe
        for probe in PROBES.values()
        if is_due(
            probe.interval_s, memory.counters[probe.name][1] if probe.name in memory.counters else None, tick_ts, phase
        )
    ]


def answered(
    node: Node,
    memory: Memory,
    answer: Answer,
    probes: Iterable[Probe],
    *,
    ts: int,
    duration_s: float,
    missing: str | None,
) -> Outcome:
    """Return what an answer says.

    :param missing: why a part of the answer did not come (``cut short: ...``); None where it is complete
    """
    turn = _Turn(node, memory, ts, duration_s)
    turn.clock(answer)
    asked = list(probes)
    for probe in asked:
        turn.take(probe, answer, missing)
    turn.carry({probe.name for probe in asked})
    turn.judge_up()
    return turn.outcome()


def silent(node: Node, memory: Memory, reason: str, *, kind: str | None, ts: int, duration_s: float | None) -> Outcome:
    """Return what silence says: a row with up = 0, and events where the status or the reason changed.

    :param reason: one line, what the operator reads
    :param kind: of an event of its own, e.g. ``host_key_changed``, given once as long as the reason stays
    """
    if node.id is None:
        raise ValueError(f"{node.name} is not stored")
    before = memory.failing.get("ssh")
    verdict = judge(memory.status, memory.missed_sweeps, answered=False)
    new = Memory(
        ts, memory.boot_id, memory.uptime_s, verdict.missed_sweeps, memory.counters, {**memory.failing, "ssh": reason}
    )
    key = {"ts": ts, "node_id": node.id}
    rows: dict[str, list[dict[str, Any]]] = {
        "node_samples": [{**key, "up": 0, "sweep_duration_s": duration_s}],
        "node_readings": [new.row(node.id)],
    }
    if before is None:
        rows["probe_runs"] = [{**key, "probe": "ssh", "success": False, "message": reason[:MAX_MESSAGE]}]
    events, said = [], without_name(node.name, reason)[:MAX_MESSAGE]
    if verdict.changed:
        events.append({**key, "kind": "down", "severity": "error", "message": said})
    if kind and before != reason:
        events.append({**key, "kind": kind, "severity": "error", "message": said})
    if events:
        rows["node_events"] = events
    update: dict[str, Any] = {"id": node.id}
    if verdict.changed:
        update["status"] = verdict.status
    return Outcome(rows, update if len(update) > 1 else {}, new, reason)


class _Turn:
    """One node's turn in one sweep, as it is being read."""

    def __init__(self, node: Node, memory: Memory, ts: int, duration_s: float) -> None:
        if node.id is None:
            raise ValueError(f"{node.name} is not stored")
        self.key = {"ts": ts, "node_id": node.id}
        self.old = memory
        self.new = Memory(ts, None, None, 0, dict(memory.counters), dict(memory.failing))
        self.sample: dict[str, Any] = {**self.key, "up": 1, "sweep_duration_s": duration_s}
        self.rows: dict[str, list[dict[str, Any]]] = {"node_samples": [self.sample]}
        self.update: dict[str, Any] = {"id": node.id, "last_seen_ts": ts}
        self.same_boot = True

    def clock(self, answer: Answer) -> None:
        """Find out first whether this is still the boot that the counters were read on."""
        try:
            reading = PROBES["uptime"].read(answer, None)
        except ParseError:
            reading = None  # reported when its own turn comes
        counters = (reading.counters if reading else None) or {}
        self.new.boot_id = counters.get("boot_id")
        self.new.uptime_s = counters.get("uptime_s")
        old = self.old
        if old.boot_id and self.new.boot_id:
            self.same_boot = old.boot_id == self.new.boot_id
        elif old.uptime_s is not None and self.new.uptime_s is not None:
            self.same_boot = self.new.uptime_s >= old.uptime_s
        if not self.same_boot:
            uptime = self.new.uptime_s
            self.event("reboot", "warning", f"rebooted, up for {uptime:.0f} s" if uptime is not None else "rebooted")
        self.new.boot_id = self.new.boot_id or old.boot_id

    def take(self, probe: Probe, answer: Answer, missing: str | None) -> None:
        """Read one probe; what fails is that probe's row in ``probe_runs``, not the sweep's failure."""
        output = answer.output(probe.name)
        if output is not None and output.status is None:
            # the command that the answer ended in: it may hang, so it is not started again in this slot
            self.new.counters[probe.name] = [None, self.key["ts"], None, {}]
            self._state(probe, f"{missing}; its command did not end" if missing else "its command did not end")
            return
        try:
            sample = probe.read(answer, self._before(probe))
        except ParseError as error:
            self._state(probe, str(error))
            return
        if sample is None:
            # nothing of the kind on this node, unless the answer ended before it came
            if missing and probe.name in self.old.counters:
                self._state(probe, missing)
            return
        self._accept(probe, sample)
        self._state(probe, "; ".join(sample.problems))

    def _before(self, probe: Probe) -> Before | None:
        if not self.same_boot or probe.name not in self.old.counters:
            return None
        uptime_s, ts, counters, _ = self.old.counters[probe.name]
        if uptime_s is not None and self.new.uptime_s is not None:
            elapsed_s = self.new.uptime_s - uptime_s
        else:
            elapsed_s = float(self.key["ts"] - ts)
        return Before(counters, elapsed_s) if elapsed_s > 0 and counters is not None else None

    def _accept(self, probe: Probe, sample: Sample) -> None:
        self.sample.update(sample.columns)
        for table, details in sample.details.items():
            self.rows.setdefault(table, []).extend({**self.key, **detail} for detail in details)
        if sample.counters is not None or probe.interval_s:
            columns = sample.columns if probe.interval_s else {}
            self.new.counters[probe.name] = [self.new.uptime_s, self.key["ts"], sample.counters, columns]
        self.update.update({name: value for name, value in sample.facts.items() if value is not None})

    def carry(self, asked: set[str]) -> None:
        """Fill in what probes that were not due read at an earlier tick: it is as fresh as their cadence says."""
        for name, (_, _, _, columns) in self.old.counters.items():
            if name not in asked:
                self.sample.update(columns)

    def _state(self, probe: Probe, message: str) -> None:
        """Keep a row only where a probe began to fail, fails otherwise than before, or works again."""
        message = message[:MAX_MESSAGE]
        if message == self.old.failing.get(probe.name, ""):
            return
        self._probe_run(probe.name, message)
        if message:
            self.new.failing[probe.name] = message
        else:
            self.new.failing.pop(probe.name)

    def _probe_run(self, name: str, message: str) -> None:
        row = {**self.key, "probe": name, "success": not message, "message": message or "works again"}
        self.rows.setdefault("probe_runs", []).append(row)

    def judge_up(self) -> None:
        """Note the node's status and, where it was silent, that it speaks again."""
        if self.new.failing.pop("ssh", None) is not None:
            self._probe_run("ssh", "")
        old_status = self.old.status
        if judge(old_status, self.old.missed_sweeps, answered=True).changed:
            self.update["status"] = "up"
            self.event("up", "info", "answers" if old_status == "unknown" else "answers again")

    def event(self, kind: str, severity: str, message: str) -> None:
        """Add an event of this node at this tick."""
        self.rows.setdefault("node_events", []).append(
            {**self.key, "kind": kind, "severity": severity, "message": message}
        )

    def outcome(self) -> Outcome:
        """Return what this turn leaves behind."""
        self.rows["node_readings"] = [self.new.row(self.key["node_id"])]
        return Outcome(self.rows, self.update, self.new)


def add_event(outcome: Outcome, kind: str, severity: str, message: str) -> None:
    """Add one more event to a node's outcome."""
    key = {name: outcome.rows["node_samples"][0][name] for name in ("ts", "node_id")}
    outcome.rows.setdefault("node_events", []).append({**key, "kind": kind, "severity": severity, "message": message})
