"""The shape of a probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evc.probes.answer import Answer

Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Before:
    """The previous reading of the same probe on the same boot of the same node.

    :param counters: what the probe returned as ``Sample.counters`` then
    :param elapsed_s: seconds between the two readings by the node's own clock, always > 0
    """

    counters: Any
    elapsed_s: float


@dataclass(slots=True)
class Sample:
    """What one probe makes of one answer.

    :param columns: columns of ``node_samples``; absent is None, never 0
    :param details: rows of detail tables by table name, without ``ts`` and ``node_id``
    :param counters: what the next reading needs of this one, JSON-able; None where nothing
    :param facts: columns of ``nodes`` that hardly change (arch, os ...)
    :param problems: parts that could not be read, one line each, e.g. a zone that is broken; the rest counts
    """

    columns: dict[str, Value] = field(default_factory=dict)
    details: Mapping[str, Sequence[Mapping[str, Value]]] = field(default_factory=dict)
    counters: Any = None
    facts: dict[str, Value] = field(default_factory=dict)
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """One subsystem of a node.

    :param name: its file's stem
    :param read: pure; None where the node has nothing of the kind (neither error nor zero).
        Raises ``ParseError`` where the answer is not what its source promises
    :param files: absolute paths or globs, expanded by the node's shell, read by one ``head`` for all probes
    :param command: POSIX shell fragment without single quotes or newlines; its output is ``answer.output(name)``
    :param condition: POSIX shell fragment of builtins (no fork), without which the command does not run
    :param may_hang: the command may wait for a dead disk or daemon, so it runs after those that do not
    :param interval_s: how often it is due; 0 is every sweep
    """

    name: str
    read: Callable[[Answer, Before | None], Sample | None]
    files: tuple[str, ...] = ()
    command: str | None = None
    condition: str | None = None
    may_hang: bool = False
    interval_s: int = 0
