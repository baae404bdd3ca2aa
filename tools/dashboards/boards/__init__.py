"""The dashboards, one file each, with a function ``board(dialect)``; being there is registration."""
