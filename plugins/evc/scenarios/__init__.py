"""Scenario files become DAGs: where Airflow finds them, and of which tasks they are made."""
