"""A model becomes an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from evc.operators.conf import params_of
from evc.operators.refusal import one_line

if TYPE_CHECKING:
    from evc.hooks.builds import BuildsHook


class BuildModelOperator(BaseOperator):
    """Copies the source of a model to a builder, builds it there, pushes it to the registry and records its digest.

    The build's log comes line by line. What the registry has already, built from the same source, is not built again.
    A retry goes on where the try before it ended. What is not given here is read from the run's params of that name.

    :param model: name of the model (templated)
    :param builder: name of the registered node that builds (templated)
    :param tag: empty: the model's version (templated)
    :param platform: e.g. ``linux/arm64``; empty: the builder's own (templated)
    :param arguments: build arguments over those of model.yaml
    :param force: build and push even where nothing has changed
    """

    template_fields: Sequence[str] = ("model", "builder", "tag", "platform")

    def __init__(
        self,
        *,
        model: str | None = None,
        builder: str | None = None,
        tag: str | None = None,
        platform: str | None = None,
        arguments: dict[str, str] | None = None,
        force: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model, self.builder, self.tag, self.platform = model, builder, tag, platform
        self.arguments, self.force = arguments, force
        self._hook: BuildsHook | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Return model, version, repository, tag, digest, platform, source_revision and status.

        :raises AirflowFailException: what is asked for does not exist or does not fit, or the build failed
        :raises AirflowException: builder, registry or database failed; a retry may mend it
        """
        from evc.hooks.builds import BuildsHook, Wanted, build_key

        with one_line():
            params = params_of(context)

            def given(name: str) -> Any:
                value = getattr(self, name)
                return (params.get(name) if value is None else value) or None

            wanted = Wanted(
                build_key(self.dag_id, self.task_id, str(context["dag_run"].run_id)),
                str(given("model") or ""),
                str(given("builder") or ""),
                given("tag"),
                given("platform"),
                given("arguments"),
                bool(given("force")),
            )
            self._hook = BuildsHook(self.log)
            return self._hook.build(wanted)

    def on_kill(self) -> None:
        """End the build: the task was cancelled, or its worker shuts down."""
        if self._hook:
            self._hook.stop()
