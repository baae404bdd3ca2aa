"""Where a task's lines go."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """Where a task's lines go: Airflow's task log, or a logger of the standard library."""

    def info(self, event: str, *args: Any) -> Any:
        """What a reader wants to follow."""

    def warning(self, event: str, *args: Any) -> Any:
        """What a reader should look at."""

    def error(self, event: str, *args: Any) -> Any:
        """What someone has to mend."""
