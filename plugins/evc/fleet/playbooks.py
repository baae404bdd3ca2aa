"""What Ansible says of a run of a playbook, as one line for each host and task, and one result for each host.

Source: the events of ansible-runner's callback (``runner_on_ok``, ``runner_on_failed``, ``runner_on_unreachable`` ...,
``playbook_on_stats``). What a host said may hold anything: it becomes one printable line of bounded length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from evc.errors import PlaybookFailed

MAX_MESSAGE = 400
HIDDEN = "hidden by no_log"
_MAX_OUTPUT_LINES = 200
_SIGNS = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "its host key is not the one that is pinned",
    "host key is known for": "it has no pinned host key yet: its first sweep pins it",
}
_DEBUG = frozenset({"debug", "ansible.builtin.debug"})  # its message is meant for the reader


class Status(StrEnum):
    """How a run ended for one host."""

    OK = "ok"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class HostResult:
    """What a playbook did on one host.

    :param changed: it changed something there
    :param task: where it failed or was not reached; None where it did neither
    :param message: why, in one line
    """

    host: str
    status: Status
    changed: bool = False
    task: str | None = None
    message: str | None = None

    def __str__(self) -> str:
        if self.status is Status.OK:
            return f"{self.host}: {'changed' if self.changed else 'ok'}"
        return _failure(self.host, self.status, self.task, self.message)


@dataclass(frozen=True, slots=True)
class Report:
    """What a playbook did, by name of the host.

    :param data: what the playbook has put there with ``set_stats``
    """

    playbook: str
    results: Mapping[str, HostResult]
    data: Mapping[str, Any] = field(default_factory=dict)

    def failures(self, unreachable: bool = True) -> list[HostResult]:
        """Return the hosts that failed; those that were not reached too, unless ``unreachable`` is false."""
        bad = {Status.FAILED, Status.UNREACHABLE} if unreachable else {Status.FAILED}
        return [result for result in self.results.values() if result.status in bad]

    def raise_failures(self, unreachable: bool = True) -> None:
        """Do nothing where every host did what was asked.

        :raises PlaybookFailed: with host, task and message of those that did not, at most three of them
        """
        bad = self.failures(unreachable)
        if bad:
            more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
            raise PlaybookFailed(f"{self.playbook}: {'; '.join(str(one) for one in bad[:3])}{more}")


class Progress:
    """Takes the events of one run in their order.

    :param info: where lines go as they come
    :param error: the same, for what someone has to mend
    :param secrets: texts that no line may hold
    """

    def __init__(self, info: Callable[[str], Any], error: Callable[[str], Any], secrets: Iterable[str] = ()) -> None:
        self._info, self._error = info, error
        self._secrets = sorted({one for one in secrets if len(one) > 3}, key=len, reverse=True)
        self._bad: dict[str, HostResult] = {}
        self._changed: set[str] = set()
        self._seen: set[str] = set()
        self._stats: Mapping[str, Any] | None = None
        self._output: list[str] = []

    @property
    def is_complete(self) -> bool:
        """Whether Ansible came to its end, however hosts fared."""
        return self._stats is not None

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        kind, data = str(event.get("event", "")), event.get("event_data") or {}
        host = data.get("host")
        if kind.startswith("runner_on_") and host:
            self._seen.add(str(host))
            self._host_event(kind.removeprefix("runner_on_"), str(host), self._line(data.get("task") or "?"), data)
        elif kind == "playbook_on_stats":
            self._stats = data
        elif kind in {"verbose", "error", "warning"} and len(self._output) < _MAX_OUTPUT_LINES:
            self._output += str(event.get("stdout", "")).splitlines()

    def results(self, hosts: Iterable[str]) -> dict[str, HostResult]:
        """Return the results of ``hosts``; one of which nothing was heard was not reached."""
        return {host: self._result(host) for host in hosts}

    def data(self) -> Mapping[str, Any]:
        """Return what the playbook has put there with ``set_stats``."""
        return dict((self._stats or {}).get("artifact_data") or {})

    def crash(self) -> str:
        """Return why Ansible itself ended: its last error, or its last words."""
        lines = [line.strip() for line in self._output if line.strip()]
        errors = [line for line in lines if line.startswith(("[ERROR]", "ERROR!"))]
        said = self._line((errors or lines or ["it said nothing"])[-1 if not errors else 0])
        return said.removeprefix("[ERROR]: ").removeprefix("ERROR! ")

    def _result(self, host: str) -> HostResult:
        stats = self._stats or {}
        changed = host in self._changed or bool(stats.get("changed", {}).get(host))
        bad = self._bad.get(host)
        # a task that failed and was rescued counts as neither
        is_bad = bool(stats.get("failures", {}).get(host) or stats.get("dark", {}).get(host))
        if bad and (is_bad or self._stats is None):
            return HostResult(host, bad.status, changed, bad.task, bad.message)
        if is_bad:
            return HostResult(host, Status.FAILED, changed, None, "Ansible gives no reason")
        if host not in self._seen:
            return HostResult(host, Status.UNREACHABLE, False, None, "Ansible ran nothing there")
        return HostResult(host, Status.OK, changed)

    def _host_event(self, kind: str, host: str, task: str, data: Mapping[str, Any]) -> None:
        result = data.get("res") or {}
        if kind in {"failed", "unreachable"}:
            message = self._line(message_of(result))
            if kind == "failed" and data.get("ignore_errors"):
                self._info(f"{host}: failed, ignored: {task}: {message}")
                return
            status = Status.FAILED if kind == "failed" else Status.UNREACHABLE
            self._bad[host] = HostResult(host, status, False, task, message)
            self._error(_failure(host, status, task, message))
        elif kind == "skipped":
            self._info(f"{host}: skipped: {task}")
        elif kind == "ok":
            changed = bool(result.get("changed"))
            if changed:
                self._changed.add(host)
            said = self._line(_text(result.get("msg"))) if data.get("task_action") in _DEBUG else ""
            self._info(f"{host}: {'changed' if changed else 'ok'}: {task}{': ' if said else ''}{said}")

    def _line(self, words: Any) -> str:
        return one_line(self._without_secrets(str(words)))

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _failure(host: str, status: Status, task: str | None, message: str | None) -> str:
    word = "FAILED" if status is Status.FAILED else "unreachable"
    return ": ".join(part for part in (host, word, task, message) if part)


def message_of(result: Mapping[str, Any]) -> str:
    """Return why a task failed, from the ``res`` of its event, in Ansible's or the module's words."""
    if "censored" in result:
        return HIDDEN
    items = [item for item in result.get("results") or () if isinstance(item, Mapping) and item.get("failed")]
    if items:
        return message_of(items[0])
    message = _text(result.get("msg")).removeprefix("Task failed: ")
    for sign, meaning in _SIGNS.items():
        if sign in message:
            return meaning
    if "non-zero return code" in message:
        said = (_text(result.get("stderr")).strip() or _text(result.get("stdout")).strip()).splitlines()
        return f"{said[-1]} (exit status {result.get('rc')})" if said else message
    said = _text(result.get("module_stderr")).split()  # where no module ran, e.g. without Python
    return ": ".join(part for part in (message, " ".join(said)) if part) or "no reason given"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return "; ".join(_text(one) for one in value) if isinstance(value, list) else str(value)


def one_line(text: str) -> str:
    """Return ``text`` as one printable line of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_MESSAGE else f"{line[:MAX_MESSAGE]}..."
