"""The params of EVC's DAGs as JSON schema, one place for each: Airflow refuses a bad value before a run starts."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from evc.fleet.images import TAG_PATTERN
from evc.fleet.models import LINE_PATTERN, MAX_NAME, MODEL_PATTERN, VARIABLE_PATTERN
from evc.fleet.nodes import (
    CONN_ID_PATTERN,
    DEFAULT_CONN_ID,
    GROUP_PATTERN,
    HOST_KEY_PATTERN,
    HOST_PATTERN,
    LABEL_PATTERN,
    MAX_TEXT,
    NAME_PATTERN,
    THERMAL_UNITS,
    USER_PATTERN,
)

_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"


def _text(pattern: str, description: str, **more: Any) -> Param:
    return Param(type="string", pattern=pattern, description=description, **more)


def _optional(pattern: str, description: str, **more: Any) -> Param:
    return Param(None, type=["null", "string"], pattern=pattern, description=description, **more)


def name(description: str = "Its name in EVC and in Ansible: letters, digits, '-', '_', '.'; at most 63.") -> Param:
    """The name of a node; required."""
    return _text(NAME_PATTERN, description, title="Name", maxLength=63)


def node_params() -> dict[str, Param]:
    """Everything that may be said of a node."""
    return {
        "name": name(),
        "host": _text(
            HOST_PATTERN, "DNS name or IP address, as seen from Airflow or from its jump node.", title="Host"
        ),
        "port": Param(
            22, type="integer", minimum=1, maximum=65535, title="SSH port", description="Where sshd listens."
        ),
        "user": _optional(USER_PATTERN, "Login name; empty: the login of the connection.", title="User"),
        "groups": names("Groups in Ansible's inventory.", GROUP_PATTERN, title="Groups"),
        "address": _optional(
            _ONE_LINE,
            "Postal address or place, Korean or other: becomes a point on the map.",
            title="Address",
            maxLength=MAX_TEXT,
        ),
        "host_key": _optional(
            HOST_KEY_PATTERN,
            "Public host key as in known_hosts, 'ssh-ed25519 AAAA...'; empty: the key of the first contact is pinned.",
            title="Host key",
        ),
        "conn_id": Param(
            DEFAULT_CONN_ID,
            type="string",
            pattern=CONN_ID_PATTERN,
            title="Connection",
            description="SSH connection with the login.",
        ),
        "jump_node": _optional(NAME_PATTERN, "Registered node through which this one is reached.", title="Jump node"),
        "labels": Param(
            {},
            type="object",
            propertyNames={"pattern": LABEL_PATTERN},
            additionalProperties={"type": "string", "maxLength": MAX_TEXT, "pattern": _ONE_LINE},
            title="Labels",
            description='Free names and texts, e.g. {"site": "Suwon"}.',
        ),
        "thermal_unit": Param(
            THERMAL_UNITS[0],
            type="string",
            enum=list(THERMAL_UNITS),
            title="Unit of thermal zones",
            description="What its kernel counts temperature in; a few vendor kernels count in tenths of a kelvin.",
        ),
    }


def names(description: str, pattern: str = NAME_PATTERN, **more: Any) -> Param:
    """A list of names, empty by default."""
    return Param(
        [],
        type=["null", "array"],
        items={"type": "string", "pattern": pattern},
        uniqueItems=True,
        description=description,
        **more,
    )


def selection() -> dict[str, Param]:
    """Which nodes: by name, by group, or all."""
    return {
        "nodes": names("Only these nodes. Empty, with no group either: all.", title="Nodes"),
        "groups": names("Only the nodes of these groups.", GROUP_PATTERN, title="Groups"),
    }


def sweeps() -> Param:
    """How many sweeps a run does."""
    return Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=10_000,
        title="Sweeps",
        description="Empty: one where nodes or groups are given, else a whole window ([evc] sweep_window_s).",
    )


def inventory_path() -> Param:
    """Where an inventory lies."""
    return _text(
        r"^/[^\x00-\x1f]*$",
        "Absolute path of an Ansible inventory (INI) that Airflow's workers can read.",
        title="Path",
    )


def model() -> Param:
    """The name of a model; required."""
    return _text(MODEL_PATTERN, "Name of the model: its folder in include/models.", title="Model", maxLength=MAX_NAME)


def build_params() -> dict[str, Param]:
    """Everything that may be said of a build."""
    return {
        "model": model(),
        "tag": _optional(TAG_PATTERN, "The image's tag; empty: the version that model.yaml says.", title="Tag"),
        "builder": name("The registered node that builds: its engine, its architecture, its cache."),
        "platform": Param(
            None,
            type=["null", "string"],
            enum=[None, "linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6"],
            title="Platform",
            description="What to build for; empty: what the builder is.",
        ),
        "arguments": Param(
            {},
            type=["null", "object"],
            propertyNames={"pattern": VARIABLE_PATTERN},
            additionalProperties={"type": "string", "pattern": LINE_PATTERN},
            title="Build arguments",
            description='Over those of model.yaml, e.g. {"BASE": "base/python:3.11"}. No secrets: an image shows them.',
        ),
        "force": force("Build and push even where nothing has changed, without the builder's cache."),
    }


def force(description: str) -> Param:
    """Whether to go on where EVC would refuse."""
    return Param(False, type="boolean", title="Force", description=description)
