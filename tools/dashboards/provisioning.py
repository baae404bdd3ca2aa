"""What Grafana reads when it starts: data source, where the dashboards are, alert rules, whom to tell.

``$NAME`` is of Grafana's environment; in a rule's query and texts it leaves ``$`` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from tools.dashboards import alerts
from tools.dashboards.dialects import DATA_SOURCE_UID, Dialect

FOLDER = "Edge Vision Cluster"
_HEAD = "# made by: python -m tools.dashboards\n"


def files(dialect: Dialect, panels: Callable[[str, str], int]) -> dict[str, str]:
    """Return the content of the files, by their path below ``provisioning/``.

    :param panels: from a dashboard's uid and a panel's title to the panel's number
    """
    return {
        "alerting/contact-points.yaml": document({"contactPoints": [_CONTACT]}),
        "alerting/rules.yaml": document({"groups": alerts.groups(dialect, FOLDER, panels)}),
        "datasources/evc.yaml": document({"datasources": [_source(dialect)]}),
        "dashboards/evc.yaml": document({"providers": [_PROVIDER]}),
    }


def document(content: dict[str, Any]) -> str:
    """Return a provisioning file."""
    return _HEAD + yaml.dump(
        {"apiVersion": 1, **content}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120
    )


_PROVIDER = {
    "name": "evc",
    "folder": FOLDER,
    "folderUid": "evc",
    "type": "file",
    "disableDeletion": False,
    "allowUiUpdates": False,
    "updateIntervalSeconds": 60,
    "options": {"path": "$EVC_GRAFANA_DASHBOARDS"},
}

# each type of contact point takes its own of the two settings: addresses that of e-mail, url that of nearly all others
_CONTACT = {
    "orgId": 1,
    "name": alerts.CONTACT,
    "receivers": [
        {
            "uid": "evc",
            "type": "$EVC_ALERT_TYPE",
            "settings": {"addresses": "$EVC_ALERT_TARGET", "url": "$EVC_ALERT_TARGET"},
        }
    ],
}


def _source(dialect: Dialect) -> dict[str, Any]:
    made: dict[str, Any] = {"name": "EVC metrics", "uid": DATA_SOURCE_UID, "type": dialect.plugin, "access": "proxy"}
    if dialect.name == "sqlite":
        # it writes no row; the folder has to be writable all the same, for a database in WAL mode
        made["jsonData"] = {"path": "$EVC_METRICS_FILE", "pathPrefix": "file:", "pathOptions": "mode=ro"}
    else:
        made |= {
            "url": "$EVC_METRICS_ADDRESS",
            "user": "$EVC_METRICS_USER",
            "jsonData": {
                "database": "$EVC_METRICS_DATABASE",
                "sslmode": "$EVC_METRICS_SSLMODE",
                "postgresVersion": 1500,
                "timeInterval": "30s",
                "maxOpenConns": 10,
                "maxIdleConns": 2,
                "connMaxLifetime": 14400,
            },
            "secureJsonData": {"password": "$EVC_METRICS_PASSWORD"},
        }
    return {**made, "isDefault": False, "editable": False}


class _Dumper(yaml.SafeDumper):
    """SQL as it was written, line by line."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
