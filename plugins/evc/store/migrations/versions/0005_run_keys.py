"""Keys of runs as long as Airflow allows: id of the DAG, of the task and of the run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_LENGTH = 752
_BEFORE = {"builds": 250, "rollouts": 250, "inference_runs": 250, "scenario_runs": 500, "sweeps": 250}


def upgrade() -> None:
    """Widen the columns; no row is touched, on neither database."""
    if op.get_bind().dialect.name == "sqlite":
        _declare()
        return
    for table, length in _BEFORE.items():
        op.alter_column(table, "run_id", existing_type=sa.String(length), type_=sa.String(_LENGTH))


def _declare() -> None:
    """Change what the tables are declared as: SQLite stores a text of any length, whatever is declared.

    Source: lang_altertable.html, "Making Other Kinds Of Table Schema Changes", for those that leave the rows as they
    are. To make the tables anew would copy every row, and what refers to them forbids to drop them.
    """
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    for table, length in _BEFORE.items():
        connection.exec_driver_sql(
            "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
            (f"run_id VARCHAR({length})", f"run_id VARCHAR({_LENGTH})", table),
        )
    connection.exec_driver_sql(f"PRAGMA schema_version = {int(version or 0) + 1}")  # other connections read it anew
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")
