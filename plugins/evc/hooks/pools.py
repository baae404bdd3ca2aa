"""Pool ``evc_pulls``: how many nodes are deployed to at once. Made when a component of Airflow's starts.

A task that names a pool which does not exist is never started, and a task can't make one. A listener's ``on_starting``
is called in scheduler, DAG processor and triggerer before they do anything; there the metadata database may be used. It
is called at the start of every task too, where it may not.
"""

from __future__ import annotations

import logging

from airflow.listeners import hookimpl

from evc.errors import InputError
from evc.hooks.settings import settings

NAME = "evc_pulls"
DESCRIPTION = "Nodes that EVC deploys to at once; as many slots as [evc] pull_slots says when the scheduler starts."
log = logging.getLogger(__name__)


@hookimpl
def on_starting(component: object) -> None:
    """Make the pool, or give it the size that the setting says now.

    :param component: a ``Job``, which does not say yet of what kind; in a task something else
    """
    if type(component).__name__ != "Job":  # by name: tasks need not import the scheduler's half of Airflow
        return
    from airflow.models.pool import Pool  # noqa: PLC0415  tasks load this module too, and may not use the database
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    try:
        Pool.create_or_update_pool(NAME, settings().pull_slots, DESCRIPTION, include_deferred=False)
    except InputError as error:
        log.error("pool %s: %s", NAME, error)
    except SQLAlchemyError as error:
        # two components that start at once may both find it missing: one of them makes it
        log.warning("pool %s: %s", NAME, type(error).__name__)
