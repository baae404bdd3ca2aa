"""The DAG of a scenario, made of the operators that the hand-triggered DAGs are made of."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, TaskGroup, TriggerRule
from airflow.sdk.definitions.xcom_arg import XComArg

from evc.fleet.scenarios import ENDING, Scenario, read_scenario
from evc.operators.build_model import BuildModelOperator
from evc.operators.finish_scenario import FinishScenarioOperator
from evc.operators.match_identities import MatchIdentitiesOperator
from evc.operators.plan_inference import PlanInferenceOperator
from evc.operators.plan_sweeps import PlanSweepsOperator
from evc.operators.resolve_image import ResolveImageOperator
from evc.operators.roll_out import roll_out
from evc.operators.run_inference import RunInferenceOperator
from evc.operators.scenario_params import scenario_params
from evc.operators.select_nodes import SelectNodesOperator
from evc.operators.sweep_nodes import SweepNodesOperator

PREFIX = "scenario_"


def scenario_dag(file: str, data: bytes) -> DAG:
    """Return the DAG of a scenario file.

    :param file: its name, which is the scenario's and ``.yaml``
    :param data: what it holds
    :raises InputError: naming file, line, key and what is allowed: Airflow shows it as the DAG's import error
    """
    scenario = read_scenario(file, data)
    name = file.removesuffix(ENDING)
    with DAG(
        dag_id=f"{PREFIX}{name}",
        schedule=_schedule(scenario),
        # what begins by hand begins: a run of a DAG that is switched off waits without a word
        is_paused_upon_creation=None if scenario.schedule else False,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1,
        params=scenario_params(scenario),
        default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
        description=scenario.description,
        doc_md=f"{scenario.description}\n\n```yaml\n{data.decode()}\n```\n",
        tags=["evc", "scenario"],
    ) as dag:
        _Steps(file, data.decode(), scenario).add()
    return dag


def _schedule(scenario: Scenario) -> CronTriggerTimetable | None:
    if scenario.schedule is None:
        return None
    return CronTriggerTimetable(scenario.schedule, timezone=scenario.timezone)


class _Steps:
    """Adds the steps of a scenario to the DAG that is being made, one after another."""

    def __init__(self, file: str, content: str, scenario: Scenario) -> None:
        self.scenario = scenario
        self.select = SelectNodesOperator(task_id="select", file=file, content=content)
        self.last: Any = self.select
        self.digest: XComArg | None = None
        self.digest_of: tuple[str, str] | None = None
        self.needed: list[str] = ["select"]
        self.ends: list[Any] = []

    def add(self) -> None:
        """Add all."""
        if self.scenario.collect:
            self._collect()
        if self.scenario.build:
            self._build()
        elif self.scenario.model.tag or self.scenario.model.digest:
            self._find_image()
        if self.scenario.rollout:
            self._roll_out()
        if self.scenario.inference:
            self._infer()
        if self.scenario.identities:
            # what the others have seen counts, whatever became of one
            match = MatchIdentitiesOperator(task_id="match_identities", trigger_rule=TriggerRule.ALL_DONE, retries=5)
            self._then(match, match)
            self.needed.append("match_identities")
        # one that failed lets the steps after the next be skipped at once: the next one's end may be still to come
        [*self.ends, self.last] >> FinishScenarioOperator(
            task_id="finish",
            steps=self.needed,
            digest_of=self.digest_of,
            trigger_rule=TriggerRule.ALL_DONE,
            retries=5,
        )

    def _then(self, first: Any, last: Any) -> None:
        self.last >> first
        self.last = last

    def _collect(self) -> None:
        with TaskGroup("collect"):
            plan = PlanSweepsOperator(task_id="plan", nodes=self.select.output)  # type: ignore[arg-type]
            sweep = SweepNodesOperator.partial(task_id="sweep").expand_kwargs(plan.output)
        self._then(plan, sweep)
        self.needed += [plan.task_id, sweep.task_id]

    def _build(self) -> None:
        build = BuildModelOperator(task_id="build", multiple_outputs=True)
        self._then(build, build)
        self.digest, self.digest_of = build.output["digest"], ("build", "digest")  # type: ignore[index]
        self.needed.append("build")

    def _find_image(self) -> None:
        image = ResolveImageOperator(task_id="image")
        self._then(image, image)
        self.digest, self.digest_of = image.output, ("image", "return_value")
        self.needed.append("image")

    def _roll_out(self) -> None:
        with TaskGroup("rollout"):
            plan, finish = roll_out(self.select.output, self.digest)
        self._then(plan, finish)
        if self.scenario.inference:
            self.ends.append(finish)
        # of a run that is cleared after its end the nodes' rows are still those of the first time
        self.needed += [plan.task_id, finish.task_id]

    def _infer(self) -> None:
        with TaskGroup("inference"):
            plan = PlanInferenceOperator(
                task_id="plan",
                nodes=self.select.output,  # type: ignore[arg-type]
                digest=self.digest,  # type: ignore[arg-type]
                # a roll-out that reached its goal skips its end
                trigger_rule=TriggerRule.NONE_FAILED,
            )
            infer = RunInferenceOperator.partial(
                task_id="infer", map_index_template="{{ task.node }}", retries=4
            ).expand_kwargs(plan.output)
        self._then(plan, infer)
        self.needed.append(plan.task_id)
