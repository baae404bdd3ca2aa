"""Deleting an image from the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context

from evc.operators.refusal import one_line


class DeleteImageOperator(BaseOperator):
    """Deletes an image by digest, with every tag that leads to it; the log lists them before.

    A retry after a try that got as far as deleting finds it gone, and is done.

    :param image: what :class:`~evc.operators.find_image.FindImageOperator` returned (templated)
    """

    template_fields: Sequence[str] = ("image",)

    def __init__(self, *, image: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image = image

    def execute(self, context: Context) -> list[str]:
        """Return the tags that went along.

        :raises AirflowFailException: it is in use by now, and not forced; or the registry refuses
        :raises AirflowException: the registry or the database does not answer
        """
        from evc.fleet.images import Image
        from evc.hooks.images import ImagesHook

        with one_line():
            return ImagesHook(self.log).delete(Image(**self.image), force=context["params"]["force"])
