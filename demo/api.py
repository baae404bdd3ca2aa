"""Airflow's REST API, as far as the demo needs it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from demo.state import DemoError

LOG_LINES = 10
# a machine that is busy with runs that are due answers late; what was asked may be under way, so it is not asked again
TIMEOUT_S = 120.0
_FOLD = "  ::"  # how a log says where the UI may fold it
# loopback is never reached through a proxy
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotFound(DemoError):
    """Airflow does not know what was asked for."""


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
            health = self._send("GET", "/api/v2/monitor/health", None, token=False)
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
        run = self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"conf": conf, "logical_date": None})
        return str(run["dag_run_id"])

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
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            if not self._token:
                login = {"username": self.user, "password": self.password}
                self._token = self._send("POST", "/auth/token", login, token=False)["access_token"]
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - our own http
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            kind = NotFound if error.code == 404 else DemoError
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
