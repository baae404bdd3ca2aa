"""What a run was given: Airflow lets keys pass that its DAG does not know, and a mistyped ``nodes`` would mean all."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from airflow.sdk import Context

from evc.errors import InputError
from evc.fleet.nodes import quote

_OF_AIRFLOW = frozenset({"openlineage"})
"""Keys that Airflow itself adds: TriggerDagRunOperator, where OpenLineage is installed."""


def params_of(context: Context) -> dict[str, Any]:
    """Return the run's params; of a scenario by its file as it was when the run began.

    :raises InputError: the run's conf has a key that is no param of its DAG, or the file has other steps by now
    """
    begun = _as_begun(context)
    # a task has its DAG's too; of a scenario what counts is what the run was triggered with
    known = list(dict.fromkeys([*context["dag"].params, *context["task"].params] if begun is None else begun))
    for key in context["dag_run"].conf or {}:
        if known and key not in known and key not in _OF_AIRFLOW:
            close = get_close_matches(key, known, 1)
            meant = f", is {close[0]} meant?" if close else ""
            raise InputError("conf", f"{quote(key)} is no param of {context['dag'].dag_id}{meant}", ", ".join(known))
    return dict(context["params"]) if begun is None else begun


def _as_begun(context: Context) -> dict[str, Any] | None:
    from evc.operators.select_nodes import SelectNodesOperator

    select = context["dag"].task_dict.get("select")
    if not isinstance(select, SelectNodesOperator):
        return None
    from evc.operators.scenario_params import params_as_begun

    return params_as_begun(context, select.file, select.content)
