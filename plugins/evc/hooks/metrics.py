"""Connection ``evc_metrics``: the metrics database."""

from __future__ import annotations

from functools import cached_property

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from sqlalchemy import Engine

from evc.hooks.settings import settings, state_folder
from evc.store.database import check_schema, embedded_url, open_engine, upgrade, url_from_connection


class MetricsHook(BaseHook):
    """Opens the metrics database: PostgreSQL or SQLite as the connection says, else the embedded SQLite file.

    :param conn_id: the connection; where none of that name is defined, ``metrics.db`` in EVC's state folder is meant
    """

    conn_name_attr = "conn_id"
    default_conn_name = "evc_metrics"
    hook_name = "EVC metrics database"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.conn_id = conn_id

    @cached_property
    def engine(self) -> Engine:
        """An engine on the database, not yet connected.

        :raises InputError: the connection describes no database that EVC knows
        """
        try:
            connection = self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            engine = open_engine(embedded_url(state_folder(settings())))
            upgrade(engine)  # the embedded file is ours alone: nobody else would make its tables
            return engine
        return open_engine(url_from_connection(connection.as_json()))


def checked_engine() -> Engine:
    """Return an engine on the metrics database.

    :raises DatabaseError: away, or its tables are of another version
    """
    engine = MetricsHook().engine
    check_schema(engine)
    return engine
