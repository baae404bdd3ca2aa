"""The tasks of a roll-out: as many waves as there can be, each a group; those that one does not have are skipped.

One task instance a node. What there is not to do costs nothing: the last gate skips the waves that are not there and
the way back at one stroke, and ``done`` is an EmptyOperator, which the scheduler itself marks as successful.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TaskGroup, TriggerRule
from airflow.sdk.definitions.xcom_arg import XComArg

from evc.fleet.waves import MAX_WAVES
from evc.operators.deploy_node import DeployNodeOperator, RestoreNodeOperator
from evc.operators.finish_rollout import FinishRolloutOperator, PlanRollbackOperator
from evc.operators.judge_wave import JudgeWaveOperator
from evc.operators.plan_rollout import PlanRolloutOperator

POOL = "evc_pulls"
_A_NODE = {"retries": 2, "retry_delay": timedelta(seconds=10), "map_index_template": "{{ task.node }}", "pool": POOL}


def roll_out(
    nodes: XComArg | None = None, digest: XComArg | None = None
) -> tuple[PlanRolloutOperator, FinishRolloutOperator]:
    """Add the tasks of a roll-out to the DAG that is being made; returns the first and the last one.

    The last one is skipped where the roll-out reached its goal, and fails where it did not.

    :param nodes: names, instead of the params ``nodes`` and ``groups``
    :param digest: of the image, instead of the params ``tag`` and ``digest``
    """
    plan = PlanRolloutOperator(task_id="plan", nodes=nodes, digest=digest)  # type: ignore[arg-type]
    gates: list[JudgeWaveOperator] = []
    wave_nodes: XComArg = plan.output
    before: PlanRolloutOperator | JudgeWaveOperator = plan
    for wave in range(MAX_WAVES):
        gate = _wave(wave, wave_nodes, before)
        gates.append(gate)
        wave_nodes, before = gate.output, gate
    with TaskGroup("rollback"):
        # runs where a gate, or what a gate needs, failed; else the scheduler skips it
        plan_rollback = PlanRollbackOperator(task_id="plan_rollback", trigger_rule=TriggerRule.ONE_FAILED)
        restore = RestoreNodeOperator.partial(task_id="restore", **_A_NODE).expand(node=plan_rollback.output)
    finish = FinishRolloutOperator(task_id="finish", trigger_rule=TriggerRule.ALL_DONE, retries=5)
    gates >> plan_rollback
    [*gates, restore] >> finish
    return plan, finish


def _wave(number: int, nodes: XComArg, before: PlanRolloutOperator | JudgeWaveOperator) -> JudgeWaveOperator:
    with TaskGroup(f"wave_{number + 1}"):
        deploy = DeployNodeOperator.partial(task_id="deploy", **_A_NODE).expand(node=nodes)
        # a red node must not fail the gate, but a gate before it must: hence two of them
        done = EmptyOperator(task_id="done", trigger_rule=TriggerRule.ALL_DONE)
        gate = JudgeWaveOperator(
            task_id="gate",
            wave=number,
            retries=3,  # Airflow fails it where an answer comes within about a second; it asks once more
        )
    deploy >> done >> gate
    before >> gate
    return gate
