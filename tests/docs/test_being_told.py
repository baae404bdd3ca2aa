"""What docs/operations.md says of being told: the kinds of events that the code writes, the ways to a mail server."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk import Connection

from evc.store.events import SEVERITIES

PROJECT = Path(__file__).parents[2]
CODE = PROJECT / "plugins" / "evc"
SECTION = (PROJECT / "docs" / "operations.md").read_text().partition("## Being told")[2].partition("\n## ")[0]
WRITERS = {"record_event": 2, "_event": 1, "add_event": 1, "event": 0}
"""What writes an event, and where its kind stands among what it is given; the severity follows."""


def values(node: ast.expr, module: ModuleType) -> set[str]:
    """Return what an expression may be; empty where only a run can tell."""
    if isinstance(node, ast.IfExp):
        return values(node.body, module) | values(node.orelse, module)
    value = node.value if isinstance(node, ast.Constant) else getattr(module, getattr(node, "id", ""), None)
    return {value} if isinstance(value, str) else set()


def written(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield kind and severity wherever an event is made."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in WRITERS and len(node.args) > WRITERS[name] + 1:
                kind, severity = node.args[WRITERS[name] :][:2]
                yield kind, severity
        if isinstance(node, ast.Dict):
            named = {getattr(key, "value", None): value for key, value in zip(node.keys, node.values, strict=True)}
            if {"kind", "severity"} <= named.keys():
                yield named["kind"], named["severity"]


def of_code() -> dict[str, set[str]]:
    """Return the severities of each kind that is written anywhere."""
    found: dict[str, set[str]] = {}
    for file in CODE.rglob("*.py"):
        pairs = list(written(ast.parse(file.read_text())))
        if not pairs:
            continue
        module = importlib.import_module(".".join(file.relative_to(CODE.parent).with_suffix("").parts))
        for kind, severity in pairs:
            for name in values(kind, module):
                found.setdefault(name, set()).update(values(severity, module) or SEVERITIES)
    return found


def of_docs() -> dict[str, set[str]]:
    """Return what the table says."""
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", SECTION.partition("### ")[2], re.MULTILINE)
    return {kind: set(re.findall(r"`(\w+)`", severity)) for kind, severity in rows}


def test_the_list_is_what_the_code_writes() -> None:
    said = of_docs()
    assert said == of_code()
    assert {"down", "anomaly", "threshold", "cleanup_failed"} <= said.keys()


@pytest.mark.parametrize(
    ("port", "uses_tls", "uses_starttls"), [(587, False, True), (465, True, False), (25, False, False)]
)
def test_the_extras_for_mail_servers_do_what_they_say(port: int, uses_tls: bool, uses_starttls: bool) -> None:
    (extra,) = re.findall(rf"^\| .+ \| {port} \| `(.+)` \|$", SECTION, re.MULTILINE)
    hook = SmtpHook("unused")
    hook.smtp_connection = Connection(conn_id="unused", conn_type="smtp", extra=f"{{{extra}}}")
    assert (hook.use_ssl, hook.smtp_starttls) == (uses_tls, uses_starttls)


def test_the_variables_hold_connections() -> None:
    shown = [json.loads(line) for line in re.findall(r"^AIRFLOW_CONN_ALERTS='(.+)'$", SECTION, re.MULTILINE)]
    assert [connection["conn_type"] for connection in shown] == ["smtp", "apprise"]
