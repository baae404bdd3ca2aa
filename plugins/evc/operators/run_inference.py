"""One model on one node, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from evc.operators.conf import params_of
from evc.operators.refusal import one_line

if TYPE_CHECKING:
    from evc.hooks.inference import InferenceHook, Wanted
    from evc.store.inference import Run


class RunInferenceOperator(BaseOperator):
    """Runs a container of a model on a node; its lines are read as they come and stored.

    The task fails where the model does, or where its time is over without a line. A retry after a cut connection or a
    killed task reads on; a task that is cleared after its end runs anew and its results are replaced. Where the node is
    away then, the run's row says so, and the results of the go before stay until one begins.

    :param node: name of the node
    :param digest: of the image
    """

    template_fields: Sequence[str] = ("node", "digest")

    def __init__(self, *, node: str, digest: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.node, self.digest = node, digest
        self._hook: InferenceHook | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Return ``node``, ``inference_run`` (its id), ``status`` and ``lines``.

        :raises AirflowFailException: the model failed on the node
        :raises AirflowException: node or database are away; a retry reads on
        """
        from evc.hooks.inference import InferenceHook, run_key

        key = run_key(self.dag_id, self.task_id, str(context["dag_run"].run_id))
        with one_line():
            self._hook = InferenceHook(self.log)
            run = self._hook.run(key, self.node, self.digest, wanted_of(params_of(context)))
        self._judge(run)
        return {"node": self.node, "inference_run": run.id, "status": run.status, "lines": run.lines}

    def on_kill(self) -> None:
        """Stop and remove the container: the task was cancelled, or its worker shuts down."""
        if self._hook:
            self._hook.stop()

    def _judge(self, run: Run) -> None:
        line = f"{self.node}: {run.model}: {(run.message or run.status).splitlines()[0]}"
        if run.status == "timeout" and run.lines:
            self.log.warning("%s; what it said until then is kept", line)
        elif run.status != "succeeded":
            self.log.error("%s", line)
            raise AirflowFailException(line)


def wanted_of(params: Mapping[str, Any]) -> Wanted:
    """Return what the params of a run ask for."""
    from evc.hooks.inference import Wanted

    return Wanted(
        model=params["model"],
        tag=params["tag"] or None,
        digest=params.get("digest") or None,
        nodes=tuple(params["nodes"] or ()),
        groups=tuple(params["groups"] or ()),
        given=params["input"] or None,
        limit=params["limit"],
        timeout_s=params["timeout_s"],
    )
