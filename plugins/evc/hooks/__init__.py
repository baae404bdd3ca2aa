"""Airflow's face of the floors below: settings, connections, and files that Airflow's operators write."""
