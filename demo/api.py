"""Airflow's REST API, as far as the demo needs it."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from demo.state import DemoError

LOG_LINES = 10
# a machine that is busy with runs that are due answers late; what was asked may be under way, so it is not asked again
TIMEOUT_S = 120.0
# over SQLite a statement can meet a lock that no time-out waits for (each holds what the other wants): asked again
BUSY_WAITS_S = (0.5, 1.0, 2.0, 4.0)
_FOLD = "  ::"  # how a log says where the UI may fold it
# loopback is never reached through a proxy
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotFound(DemoError):
    """Airflow does not know what was asked for."""


class _Busy(DemoError):
    """Airflow answered with an error of its own; nothing was changed."""


class _Exists(DemoError):
    """What should be made is there already."""


_KINDS = {404: NotFound, 409: _Exists}


@dataclass(slots=True)
class Api:
    """One Airflow, as one user.

    :param url: where its UI is, e.g. ``http://127.0.0.1:8080``
    """

    url: str
    user: str
    password: str = field(repr=False)
    _token: str = field(default="", repr=False)

    def health(self) -> dict[str, Any] | None:
        """Return the state of Airflow's parts; None where no API answers yet."""
        try:
            health = self._ask("GET", "/api/v2/monitor/health", None, token=False)
        except DemoError:
            return None
        return health if isinstance(health, dict) else None

    def get(self, path: str) -> Any:
        """Return what is at ``path``. :raises DemoError: what Airflow said against it; :class:`NotFound`"""
        return self._send("GET", path, None)

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run."""
        self._send("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run and return its id. :raises DemoError: Airflow refused ``conf``"""
        run_id = f"manual__{datetime.now(UTC).isoformat()}"  # named here, so that asking again makes no second one
        run = {"dag_run_id": run_id, "conf": conf, "logical_date": None}
        with contextlib.suppress(_Exists):
            self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", run)
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return ``queued``, ``running``, ``success`` or ``failed``."""
        return str(self.get(f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run: ``task_id``, ``state``, ``start_date``, ``rendered_map_index``, ..."""
        found = self.get(f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances")["task_instances"]
        return list(found)

    def failure(self, dag_id: str, run_id: str) -> str:
        """Return the end of the log of each task of the run that failed."""
        run = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances"
        tails = []
        for task in self.tasks(dag_id, run_id):
            if task["state"] == "failed":
                log = self.get(f"{run}/{task['task_id']}/logs/{task['try_number']}?map_index={task['map_index']}")
                lines = [line for entry in log["content"] if not (line := _log_line(entry)).startswith(_FOLD)]
                tails.append("\n".join([f"{dag_id}.{task['task_id']} of {run_id}:", *lines[-LOG_LINES:]]))
        return "\n".join(tails)

    def _send(self, method: str, path: str, body: object, token: bool = True) -> Any:
        for wait_s in BUSY_WAITS_S:
            with contextlib.suppress(_Busy):
                return self._ask(method, path, body, token)
            time.sleep(wait_s)
        return self._ask(method, path, body, token)

    def _ask(self, method: str, path: str, body: object, token: bool) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            if not self._token:
                login = {"username": self.user, "password": self.password}
                self._token = self._ask("POST", "/auth/token", login, token=False)["access_token"]
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - our own http
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            kind = _KINDS.get(error.code, _Busy if error.code >= 500 else DemoError)
            raise kind(f"Airflow answered {error.code} to {method} {path}: {_detail(error)}") from None
        except (OSError, ValueError) as error:
            raise DemoError(f"Airflow's API at {self.url}: {error}") from None


def _detail(error: urllib.error.HTTPError) -> str:
    text = error.read().decode("utf-8", "replace")
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text[:200]


def _log_line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return f"  {entry}"
    errors = [f"{error.get('exc_type')}: {error.get('exc_value')}" for error in entry.get("error_detail") or ()]
    return "  " + " | ".join([str(entry.get("event", "")), *errors])
