"""Which image a user means."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.refusal import one_line


class FindImageOperator(BaseOperator):
    """Turns ``repository``, ``tag`` and ``digest`` of the run's params into one digest, once; refuses one in use.

    What comes after goes by the digest: a tag may lead elsewhere by the time of a retry.
    """

    def execute(self, context: Context) -> dict[str, str | None]:
        """Return ``repository``, ``digest`` and ``tag``.

        :raises AirflowFailException: no such image, tag and digest that differ, or it is in use and not forced
        :raises AirflowException: the registry does not answer
        """
        from evc.hooks.images import ImagesHook

        with one_line():
            params = params_of(context)
            hook = ImagesHook(self.log)
            image = hook.find(params["repository"], params["tag"], params["digest"])
            hook.check_unused(image, force=params["force"])
        return {"repository": image.repository, "digest": image.digest, "tag": image.tag}
