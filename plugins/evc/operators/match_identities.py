"""Who was seen by which nodes: sightings become identities."""

from __future__ import annotations

from airflow.sdk import BaseOperator, Context

from evc.operators.dag_runs import rollout_key
from evc.operators.refusal import one_line


class MatchIdentitiesOperator(BaseOperator):
    """Links what the nodes of a scenario's run have seen and nobody has linked yet to the identities of the scenario.

    A retry goes on where the try before it ended; a second time there is nothing to do.
    """

    def execute(self, context: Context) -> dict[str, int]:
        """Return how many ``lines`` were read, ``visits`` made or lengthened, ``new_identities`` made.

        :raises AirflowException: another task links at the same time, or the database is away; a retry goes on
        """
        from evc.hooks.identities import IdentitiesHook

        with one_line():
            found = IdentitiesHook(self.log).match(rollout_key(context))
        return {"lines": found.lines, "visits": found.visits, "new_identities": found.new_identities}
