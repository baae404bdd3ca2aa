"""What Grafana reads when it starts: the data source and where the dashboards are. ``$NAME`` is its environment's."""

from __future__ import annotations

from typing import Any

import yaml

from tools.dashboards.dialects import DATA_SOURCE_UID, Dialect

FOLDER = "Edge Vision Cluster"
_HEAD = "# made by: python -m tools.dashboards\n"


def files(dialect: Dialect) -> dict[str, str]:
    """Return the content of the files, by their path below ``provisioning/``."""
    return {
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
