"""What Grafana shows of EVC, as code: dashboards, alert rules and their provisioning, for PostgreSQL and SQLite.

``python -m tools.dashboards`` writes the folder ``grafana/`` anew. A dashboard is one file in ``boards/``; being there is
registration. See docs/dashboards.md.
"""
