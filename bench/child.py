"""Child processes of the bench: each a module here that reads its order as JSON from standard input.

The order may hold a database's password, so it is never an argument. A child that only serves ends when its standard
input does, so none outlives the bench.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

PROJECT = Path(__file__).resolve().parent.parent


_replies: TextIO = sys.stdout


class BenchError(Exception):
    """A part of the bench did not do its work."""


class Child:
    """A running child.

    :param module: below ``bench``
    :param order: JSON-able
    :param environment: instead of this process' own
    """

    def __init__(self, module: str, order: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        self.module = module
        command = [sys.executable, "-m", f"bench.{module}"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=environment
        )
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    @property
    def pid(self) -> int:
        return self.process.pid

    def answer(self) -> Any:
        """Return the next line it prints, as JSON. :raises BenchError: it ended without one"""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"bench.{self.module} ended with {self.process.wait()}; its error stands above")
        return json.loads(line)

    def end(self, patience_s: float = 30) -> None:
        """Close its input and wait for it; kill it where that is not enough."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run(module: str, order: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Any:
    """Start a child, return the one line it prints, wait for its end."""
    child = Child(module, order, environment)
    try:
        return child.answer()
    finally:
        child.end()


def read_order() -> Any:
    """Return what the parent wants of this child. From now on whatever is printed goes to standard error."""
    global _replies  # noqa: PLW0603
    _replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return json.loads(sys.stdin.readline())


def reply(answer: Mapping[str, Any]) -> None:
    """Send one line to the parent."""
    _replies.write(json.dumps(answer) + "\n")
    _replies.flush()


def cpu_s() -> float:
    """Return user and system seconds of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def wait_for(what: str, ready: Any, timeout_s: float = 60, every_s: float = 0.1) -> Any:
    """Return the first answer of ``ready`` that is not None. :raises BenchError: none came in time"""
    deadline = time.monotonic() + timeout_s
    while (answer := ready()) is None:
        if time.monotonic() > deadline:
            raise BenchError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(every_s)
    return answer
