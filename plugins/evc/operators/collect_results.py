"""What models print that run continuously."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from evc.fleet.words import counted
from evc.operators.refusal import one_line

if TYPE_CHECKING:
    from evc.hooks.inference import InferenceHook


class CollectResultsOperator(BaseOperator):
    """Stores the new lines of every continuous container of the fleet, each once.

    A node that does not answer is read when it is back. The task fails where the database or a login is at fault.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._hook: InferenceHook | None = None

    def execute(self, context: Context) -> dict[str, int]:
        """Return how many containers, lines, malformed lines and silent nodes there were.

        :raises AirflowException: the database or a login is at fault; what else was read is stored
        """
        from evc.hooks.inference import InferenceHook

        with one_line():
            self._hook = InferenceHook(self.log)
            done = self._hook.collect()
            for line in done.silent.values():
                self.log.warning("not read: %s", line)
            for name in done.behind:
                self.log.warning("%s: more lines wait for the next round", name)
            counts = (done.containers, done.lines, done.malformed, len(done.silent))
            read = f"{counted(done.containers, 'container')}: {counted(done.lines, 'new line')}"
            silent = counted(len(done.silent), "node")
            self.log.info("%s, %d of them malformed; %s did not answer", read, done.malformed, silent)
            done.raise_faults()
        return dict(zip(("containers", "lines", "malformed", "silent_nodes"), counts, strict=True))

    def on_kill(self) -> None:
        """End; what was stored stays, what was not is read next time."""
        if self._hook:
            self._hook.stop()
