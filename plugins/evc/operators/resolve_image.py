"""Which image a run takes, from here on."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.refusal import one_line


class ResolveImageOperator(BaseOperator):
    """Turns ``model`` with ``tag`` or ``digest`` of the run's params into one digest, once."""

    def execute(self, context: Context) -> str:
        """Return the digest.

        :raises AirflowFailException: no such image, or tag and digest that differ
        :raises AirflowException: the registry does not answer
        """
        from evc.hooks.images import ImagesHook

        with one_line():
            params = params_of(context)
            digest = ImagesHook(self.log).find(params["model"], params["tag"], params["digest"]).digest
        self.log.info("%s is %s", params["model"], digest)
        return digest
