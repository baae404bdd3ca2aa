"""The params of a scenario's DAG, and what they are for a run whose file was changed after it began."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context, Param

from evc.errors import InputError
from evc.fleet.nodes import quote
from evc.fleet.scenarios import Scenario, read_scenario
from evc.operators.dag_runs import rollout_key
from evc.operators.params import again, build_params, inference_params, rollout_params, selection

_IMAGE = {"build", "image"}
_TAKE_DIGEST = {"rollout.plan", "inference.plan"}


def scenario_params(scenario: Scenario) -> dict[str, Param]:
    """Return the params of the hand-triggered DAGs, with what the scenario says as defaults."""
    said: dict[str, Any] = {
        "model": scenario.model.name,
        "tag": scenario.model.tag,
        "digest": scenario.model.digest,
        "nodes": scenario.nodes.names,
        "groups": scenario.nodes.groups,
    }
    known: dict[str, Param] = {}
    for step, params in (
        (scenario.build, build_params()),
        (scenario.rollout, rollout_params()),
        (scenario.inference, inference_params()),
    ):
        if step:
            # what an earlier step says of a param holds: a build's tag is the new image's
            known |= {key: param for key, param in params.items() if key not in known}
            said |= step.model_dump(mode="json")
    # what run_inference says of nodes holds where only the model is run
    known = {**selection(), **known, **({} if scenario.only_runs else selection()), "again": again()}
    if scenario.build:
        known.pop("digest", None)  # the build makes it: one that is given would be passed over without a word
    if scenario.collect:
        known["sweeps"] = Param(1, type="integer", minimum=1, maximum=100, title="Sweeps")
    return {key: _with_default(param, said[key]) if key in said else param for key, param in known.items()}


def _with_default(param: Param, value: Any) -> Param:
    return Param(value, description=param.description, schema=param.schema)


def params_as_begun(context: Context, file: str, content: str) -> dict[str, Any] | None:
    """Return the params of a run by the file as it was when the run began; None: it has not, or the file is the same.

    Airflow reads a DAG anew for each task, and so the file: without this, tasks of one run would take what the file
    said at different times.

    :param content: what the file holds now
    :raises InputError: the run began without the task's step, or with another step that says which image it takes
    """
    from evc.hooks.scenarios import content_of

    begun = content_of(rollout_key(context))
    if begun is None or begun == content:
        return None
    then = read_scenario(file, begun.encode())
    if not _fits(context["task"].task_id, then, read_scenario(file, content.encode())):
        run_id = quote(str(context["dag_run"].run_id))
        raise InputError(
            file, f"has other steps than when {run_id} began", f"{', '.join(then.steps)}; or trigger a new run"
        )
    conf = context["dag_run"].conf or {}
    params = scenario_params(then)
    return {name: param.resolve(conf[name]) if name in conf else param.resolve() for name, param in params.items()}


def _fits(task_id: str, then: Scenario, now: Scenario) -> bool:
    """Whether a task of the file as it is now can be one of a run that began with the file as it was then."""
    if task_id in _TAKE_DIGEST and _IMAGE & {*then.steps} != _IMAGE & {*now.steps}:
        return False  # it would take its digest from a task that is not of this run
    return task_id == "select" or task_id.partition(".")[0] in then.steps
