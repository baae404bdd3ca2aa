"""Places on the map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context

from evc.operators.refusal import one_line


class LocateNodesOperator(BaseOperator):
    """Turns the addresses of nodes that are not on the map into latitude and longitude.

    An address that nobody knows is an event of its node, not a failure.

    :param name: only this node (templated); None means all
    """

    template_fields: Sequence[str] = ("name",)

    def __init__(self, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name

    def execute(self, context: Context) -> dict[str, int]:
        """Return how many addresses each source answered, and how many nobody did (``unknown``)."""
        from evc.hooks.fleet import FleetHook

        with one_line():
            return FleetHook(self.log).locate(self.name)
