"""Write ``grafana/`` anew: ``python -m tools.dashboards``."""

from __future__ import annotations

from pathlib import Path

from tools.dashboards.files import files, write

if __name__ == "__main__":
    write(Path(__file__).parents[2], files())
