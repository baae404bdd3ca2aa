"""EVC on one machine: Airflow and three nodes, without root, Docker or an SSH server of the system."""
