"""Tell by the exit status whether a part of Airflow is healthy, as its API says: ``health.py scheduler``.

For the health checks of docker-compose.yaml: the standard library alone, as it runs every few seconds.
"""

from __future__ import annotations

import json
import sys
import urllib.request

URL = "http://api-server:8080/api/v2/monitor/health"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main(part: str) -> str | None:
    """Return what is wrong with ``part`` (``metadatabase``, ``scheduler``, ``triggerer``, ``dag_processor``)."""
    try:
        with _DIRECT.open(URL, timeout=8) as answer:
            status = json.load(answer)[part]["status"]
    except (OSError, ValueError) as error:
        return f"the API does not answer: {error}"
    return None if status == "healthy" else f"{part}: {status}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
