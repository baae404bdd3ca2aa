"""Alert rules: what is asked, from which value on it is wrong, for how long, and what is said then.

A query gives a row for everything it watches, well or not: text columns are the alert's labels, the one number is judged.
So an alert ends when its row is well again, and when the row is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tools.dashboards.dialects import DATA_SOURCE_UID, Dialect
from tools.dashboards.selection import PRESENT

CONTACT = "EVC"
INTERVAL = "1m"

# Grafana's own address, whether or not it is set with a slash at its end
_GRAFANA = '{{ reReplaceAll "/*$" "/" externalURL }}'
_NEVER_HOURS = 99_999


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    :param holds: for how long it has to be wrong
    :param window_s: how far back the query looks
    :param summary: one line; a name in braces is a label, ``{value:.0f}`` or ``{value:%}`` the number
    :param board: the dashboard to look at, as the end of its address; labels as in ``summary``
    :param panel: title of a panel there, which Grafana shows beside the alert
    :param broken: what it means that the query fails
    """

    uid: str
    title: str
    severity: Literal["critical", "warning"]
    sql: Callable[[Dialect], str]
    wrong: Literal["gt", "lt"]
    threshold: float
    holds: str
    window_s: int
    summary: str
    description: str
    board: str
    panel: str
    broken: Literal["Error", "Alerting"] = "Error"


# -- queries -----------------------------------------------------------------------------------------------------------


def _recent(dialect: Dialect, value: str) -> str:
    """Return the mean of a value of the newest samples, by node."""
    return (
        f"SELECT n.name AS node, {value} AS value\n"
        "FROM node_samples s JOIN nodes n ON n.id = s.node_id\n"
        f"WHERE {PRESENT} AND {dialect.within('s.ts')}\nGROUP BY n.name HAVING {value} IS NOT NULL"
    )


def _down(dialect: Dialect) -> str:
    del dialect
    return (
        f"SELECT n.name AS node, CASE WHEN n.status = 'down' THEN 1 ELSE 0 END AS value\nFROM nodes n WHERE {PRESENT}"
    )


def _hot(dialect: Dialect) -> str:
    return _recent(dialect, "avg(s.temperature_celsius)")


def _throttled(dialect: Dialect) -> str:
    return _recent(dialect, "avg(1.0 * s.throttled)")


def _memory(dialect: Dialect) -> str:
    return _recent(dialect, "1.0 * avg(s.memory_available_bytes) / nullif(avg(s.memory_total_bytes), 0)")


_WRITABLE = "(d.read_only IS NULL OR NOT d.read_only) AND d.total_bytes > 0"  # an image of a CD is full for ever


def _full(dialect: Dialect) -> str:
    return (
        "SELECT n.name AS node, d.mountpoint AS mountpoint, max(1 - 1.0 * d.available_bytes / d.total_bytes) AS value\n"
        "FROM storage_samples d JOIN nodes n ON n.id = d.node_id\n"
        f"WHERE {PRESENT} AND {dialect.within('d.ts')} AND {_WRITABLE} AND d.ts = (\n"
        "  SELECT max(l.ts) FROM storage_samples l WHERE l.node_id = d.node_id AND l.mountpoint = d.mountpoint\n"
        f"  AND {dialect.within('l.ts')})\nGROUP BY n.name, d.mountpoint"
    )


def _fills(dialect: Dialect) -> str:
    """Return the hours until nothing is available: the straight line through the readings, by least squares."""
    # floats: PostgreSQL's exact numbers take three times as long
    x, y = f"CAST(d.ts - {dialect.to_s} AS double precision) / 3600", "CAST(d.available_bytes AS double precision)"
    sums = (
        f"SELECT n.name AS node, d.mountpoint AS mountpoint, count(*) AS readings, avg({x}) AS x, avg({y}) AS y,\n"
        f"  avg({x} * {x}) AS xx, avg({x} * {y}) AS xy, max(d.total_bytes) AS total\n"
        "FROM storage_samples d JOIN nodes n ON n.id = d.node_id\n"
        f"WHERE {PRESENT} AND {dialect.within('d.ts')} AND {_WRITABLE}\nGROUP BY n.name, d.mountpoint"
    )
    line = f"SELECT *, (xy - x * y) / nullif(xx - x * x, 0) AS slope FROM (\n{sums}\n) AS sums WHERE readings >= 6"
    left = "(y - slope * x) / -slope"  # from what the line says of now down to nothing
    return (
        "SELECT node, mountpoint, CASE\n"
        f"  WHEN slope < 0 AND y - slope * x < 0.5 * total AND {left} < {_NEVER_HOURS} THEN {dialect.greatest(left, '0.0')}\n"
        f"  ELSE {_NEVER_HOURS}.0 END AS value\nFROM (\n{line}\n) AS line"
    )


def _stale(dialect: Dialect) -> str:
    # a new fleet has no sweep yet: its first is waited for as for any other
    newest = "(SELECT max(ts) FROM sweeps)"
    return (
        f"SELECT 'metrics' AS source, {dialect.to_s} - coalesce({newest}, max(n.registered_ts)) AS value\n"
        f"FROM nodes n WHERE {PRESENT} HAVING count(*) > 0"
    )


def _rollout(dialect: Dialect) -> str:
    return (
        "SELECT CAST(r.id AS text) AS rollout, r.model AS model,\n"
        "  CASE WHEN r.status IN ('failed', 'rolled_back') THEN 1 ELSE 0 END AS value\n"
        f"FROM rollouts r WHERE r.finished_ts IS NULL OR {dialect.within('r.finished_ts')}"
    )


def _errors(dialect: Dialect) -> str:
    return (
        "SELECT n.name AS node, i.model AS model,\n"
        "  1.0 * count(*) FILTER (WHERE i.kind IN ('error', 'malformed')) / count(*) AS value\n"
        "FROM inference_results i JOIN nodes n ON n.id = i.node_id\n"
        f"WHERE {PRESENT} AND {dialect.within('i.ts')}\nGROUP BY n.name, i.model HAVING count(*) >= 10"
    )


def _failed_runs(dialect: Dialect) -> str:
    return (
        "SELECT n.name AS node, r.model AS model,\n"
        "  count(*) FILTER (WHERE r.status IN ('failed', 'timeout')) AS value\n"
        "FROM inference_runs r JOIN nodes n ON n.id = r.node_id\n"
        f"WHERE {PRESENT} AND (r.finished_ts IS NULL OR {dialect.within('r.finished_ts')})\nGROUP BY n.name, r.model"
    )


def _registry(dialect: Dialect) -> str:
    return (
        "SELECT c.address AS registry, CASE WHEN c.message IS NULL THEN 0 ELSE 1 END AS value\n"
        f"FROM registry_checks c WHERE {dialect.within('c.checked_ts')}"
    )


def _certificate(dialect: Dialect) -> str:
    return (
        f"SELECT c.address AS registry, (c.certificate_expires_ts - {dialect.to_s}) / 86400.0 AS value\n"
        f"FROM registry_checks c WHERE {dialect.within('c.checked_ts')} AND c.certificate_expires_ts IS NOT NULL"
    )


# -- rules -------------------------------------------------------------------------------------------------------------

_NODE = "evc-node/?var-node={node}"

RULES = (
    Rule(
        "evc-node-down", "Node down", "critical", _down, "gt", 0, "2m", 600,
        "{node} does not answer", "It missed two sweeps or more. Power, network, sshd?", _NODE, "Answered",
    ),
    Rule(
        "evc-node-hot", "Node hot", "warning", _hot, "gt", 80, "5m", 300,
        "{node} is hot: {value:.0f} °C", "The hottest zone, mean of five minutes. Boards slow themselves down from 80 to 85 °C on.",
        _NODE, "Temperature",
    ),
    Rule(
        "evc-node-throttled", "Node throttled", "warning", _throttled, "gt", 0.5, "5m", 300,
        "{node} slows itself down", "Too hot, or too little voltage: see its temperature and its power supply.", _NODE, "Throttling",
    ),
    Rule(
        "evc-disk-full", "Disk nearly full", "warning", _full, "gt", 0.9, "5m", 900,
        "{node}: {mountpoint} is nearly full ({value:%})", "Images of former models are what most often can go.",
        _NODE, "Used, by mountpoint",
    ),
    Rule(
        "evc-disk-fills", "Disk full within a day", "warning", _fills, "lt", 24, "30m", 21600,
        "{node}: {mountpoint} will be full in {value:.1f} h", "By the straight line through the last six hours; from half full on.",
        _NODE, "Used, by mountpoint",
    ),
    Rule(
        "evc-node-memory", "Memory nearly used up", "warning", _memory, "lt", 0.05, "5m", 300,
        "{node} has {value:%} of its memory left", "Share that is available, mean of five minutes.", _NODE, "Memory",
    ),
    Rule(
        "evc-no-data", "No fresh data", "critical", _stale, "gt", 300, "2m", 600,
        "no sweep of any node for {value:.0f} s", "Is Airflow running, collect_telemetry on, the database there?",
        "evc-system/", "Duration of sweeps", broken="Alerting",
    ),
    Rule(
        "evc-rollout-failed", "Roll-out failed", "critical", _rollout, "gt", 0, "1m", 3600,
        "roll-out {rollout} of {model} failed", "Ended failed, or was taken back. The alert ends an hour after the roll-out.",
        "evc-rollouts/?var-rollout={rollout}", "By node",
    ),
    Rule(
        "evc-inference-errors", "Inference errors", "warning", _errors, "gt", 0.05, "5m", 900,
        "{model} on {node}: {value:%} of its lines are errors", "Of the last quarter of an hour, ten lines or more.",
        "evc-inference/?var-model={model}&var-node={node}", "Errors",
    ),
    Rule(
        "evc-inference-failed", "Inference run failed", "warning", _failed_runs, "gt", 0, "1m", 3600,
        "{model} on {node}: {value:.0f} runs failed", "In the last hour; a run that ends well does not take it back.",
        "evc-inference/?var-model={model}&var-node={node}", "Runs",
    ),
    Rule(
        "evc-registry-unreachable", "Registry unreachable", "critical", _registry, "gt", 0, "10m", 3600,
        "registry {registry} can't be read", "The last looks of sync_registry failed: nothing can be built or pushed; nodes pull from the other face. Its task log says why.",
        "evc-models/", "Registries",
    ),
    Rule(
        "evc-certificate-expires", "Certificate about to expire", "warning", _certificate, "lt", 30, "1h", 86400,
        "the certificate of registry {registry} ends in {value:.0f} days",
        "Then no node can pull. `evc registry init` in its folder renews it; start the registry again.", "evc-models/", "Registries",
    ),
)  # fmt: skip


# -- as Grafana reads them ---------------------------------------------------------------------------------------------


def groups(dialect: Dialect, folder: str, panels: Callable[[str, str], int]) -> list[dict[str, Any]]:
    """Return the groups of rules for a provisioning file.

    :param panels: from a dashboard's uid and a panel's title to the panel's number
    """
    rules = [_rule(rule, dialect, panels) for rule in RULES]
    return [{"orgId": 1, "name": "evc", "folder": folder, "interval": INTERVAL, "rules": rules}]


def _rule(rule: Rule, dialect: Dialect, panels: Callable[[str, str], int]) -> dict[str, Any]:
    uid = rule.board.partition("/")[0]
    return {
        "uid": rule.uid,
        "title": rule.title,
        "condition": "B",
        "data": [_query(rule, dialect), _judgement(rule)],
        "dashboardUid": uid,
        "panelId": panels(uid, rule.panel),
        "noDataState": "OK",  # nothing to watch: no node, no roll-out, no registry
        "execErrState": rule.broken,
        "for": rule.holds,
        "annotations": {
            "summary": _said(rule.summary),
            "description": rule.description,
            "dashboard": f"{_GRAFANA}d/{_said(rule.board)}",
        },
        "labels": {"severity": rule.severity, "team": "evc"},
        "isPaused": False,
        "notification_settings": {
            "receiver": CONTACT,
            "group_by": ["grafana_folder", "alertname"],
            "group_wait": "30s",
        },
    }


def _query(rule: Rule, dialect: Dialect) -> dict[str, Any]:
    return {
        "refId": "A",
        "relativeTimeRange": {"from": rule.window_s, "to": 0},
        "datasourceUid": DATA_SOURCE_UID,
        "model": _plain(dialect.query(rule.sql(dialect), "table").to_json()),
    }


def _judgement(rule: Rule) -> dict[str, Any]:
    expression = {"type": "__expr__", "uid": "__expr__"}
    condition = {"evaluator": {"type": rule.wrong, "params": [rule.threshold]}}
    model = {"refId": "B", "type": "threshold", "datasource": expression, "expression": "A", "conditions": [condition]}
    return {"refId": "B", "datasourceUid": "__expr__", "relativeTimeRange": {"from": 0, "to": 0}, "model": model}


def _plain(query: dict[str, Any]) -> dict[str, Any]:
    return {**query, "datasource": query["datasource"].to_json()}


def _said(text: str) -> str:
    """Return a text with its names in Go's templates."""
    said = []
    for part in text.split("{"):
        name, brace, rest = part.partition("}")
        if not brace:
            said.append(part)
        elif name == "value:%":
            said.append(f"{{{{ humanizePercentage $values.A.Value }}}}{rest}")
        elif name.startswith("value:"):
            said.append(f'{{{{ printf "%{name.removeprefix("value:")}" $values.A.Value }}}}{rest}')
        else:
            said.append(f"{{{{ $labels.{name} }}}}{rest}")
    return "".join(said)
