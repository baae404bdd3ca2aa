"""The registry's catalogue in the metrics database."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from evc.operators.refusal import one_line


class SyncRegistryOperator(BaseOperator):
    """Records what the registry holds in ``registry_images``; tags that are gone are marked, not dropped.

    Warns in the log when the registry's certificate is about to expire.
    """

    def execute(self, context: Context) -> dict[str, int]:
        """Return how many ``images`` there are, and how many were ``added``, are ``back`` and ``gone``.

        :raises AirflowSkipException: no registry is configured
        :raises AirflowFailException: the registry refuses the account, or its certificate is not trusted
        :raises AirflowException: it does not answer; nothing is marked as gone
        """
        from evc.hooks.images import ImagesHook

        with one_line():
            hook = ImagesHook(self.log)
            if not hook.registry.is_configured:
                raise AirflowSkipException("no connection evc_registry: see docs/registry.md")
            return hook.sync()
