"""The params of EVC's DAGs as JSON schema, one place for each: Airflow refuses a bad value before a run starts."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from evc.fleet.deadlines import DEADLINE_PATTERN, DEFAULT_DEADLINE
from evc.fleet.images import DIGEST_PATTERN, MAX_REPOSITORY, REPOSITORY_PATTERN, TAG_PATTERN
from evc.fleet.inputs import INPUT_PATTERN
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
from evc.fleet.since import DEFAULT_SINCE, SINCE_PATTERN
from evc.fleet.waves import DEFAULT_WAVES, MAX_WAVES, PERCENT_PATTERN

_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"

# a task checks each param three times, and its schema with it: that of draft 7 in a quarter of the time of today's
_DRAFT = "http://json-schema.org/draft-07/schema#"


def _param(*default: Any, description: str, **schema: Any) -> Param:
    said: dict[str, Any] = {"description": description, "schema": {"$schema": _DRAFT, **schema}}
    return Param(*default, **said)


def _text(pattern: str, description: str, **more: Any) -> Param:
    return _param(type="string", pattern=pattern, description=description, **more)


def _optional(pattern: str, description: str, **more: Any) -> Param:
    return _param(None, type=["null", "string"], pattern=pattern, description=description, **more)


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
        "port": _param(
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
        "conn_id": _param(
            DEFAULT_CONN_ID,
            type="string",
            pattern=CONN_ID_PATTERN,
            title="Connection",
            description="SSH connection with the login.",
        ),
        "jump_node": _optional(NAME_PATTERN, "Registered node through which this one is reached.", title="Jump node"),
        "labels": _param(
            {},
            type="object",
            propertyNames={"pattern": LABEL_PATTERN},
            additionalProperties={"type": "string", "maxLength": MAX_TEXT, "pattern": _ONE_LINE},
            title="Labels",
            description='Free names and texts, e.g. {"site": "Suwon"}.',
        ),
        "thermal_unit": _param(
            THERMAL_UNITS[0],
            type="string",
            enum=list(THERMAL_UNITS),
            title="Unit of thermal zones",
            description="What its kernel counts temperature in; a few vendor kernels count in tenths of a kelvin.",
        ),
    }


def names(description: str, pattern: str = NAME_PATTERN, **more: Any) -> Param:
    """A list of names, empty by default."""
    return _param(
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


def again() -> Param:
    """Which earlier run is done once more."""
    return _optional(
        r"^[^\x00-\x1f\x7f]{1,250}$",
        "Id of an earlier run of this DAG: only the nodes that did not get through it, whatever nodes and groups say.",
        title="Again",
    )


def sweeps() -> Param:
    """How many sweeps a run does."""
    return _param(
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
        "builder": _text(
            NAME_PATTERN,
            "The registered node that builds: its engine, its architecture, its cache.",
            title="Builder",
            maxLength=63,
        ),
        "tag": _optional(TAG_PATTERN, "The image's tag; empty: the version that model.yaml says.", title="Tag"),
        "platform": _param(
            None,
            type=["null", "string"],
            enum=[None, "linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6"],
            values_display={"null": "what the builder is"},
            title="Platform",
            description="What to build for; empty: what the builder is.",
        ),
        "arguments": _param(
            {},
            type=["null", "object"],
            propertyNames={"pattern": VARIABLE_PATTERN},
            additionalProperties={"type": "string", "pattern": LINE_PATTERN},
            title="Build arguments",
            description='Over those of model.yaml, e.g. {"BASE": "base/python:3.11"}. No secrets: an image shows them.',
        ),
        "force": force("Build and push even where nothing has changed, without the builder's cache."),
    }


def image_params() -> dict[str, Param]:
    """Which image of the registry to delete."""
    return {
        "repository": _text(
            REPOSITORY_PATTERN, "Its repository: the model's name.", title="Repository", maxLength=MAX_REPOSITORY
        ),
        "tag": _optional(TAG_PATTERN, "The image that this tag leads to.", title="Tag"),
        "digest": _optional(
            DIGEST_PATTERN, "Instead of a tag: sha256:... With both, the tag has to lead to it.", title="Digest"
        ),
        "force": force("Delete it even where a node or an unfinished roll-out needs it."),
    }


def since() -> Param:
    """Since when logs are collected."""
    return _param(
        DEFAULT_SINCE,
        type="string",
        pattern=SINCE_PATTERN,
        title="Since",
        description='A duration that goes back from now ("30m", "2h", "7d") or an RFC 3339 time with its offset.',
    )


def force(description: str) -> Param:
    """Whether to go on where EVC would refuse."""
    return _param(False, type="boolean", title="Force", description=description)


def rollout_params() -> dict[str, Param]:
    """Everything that may be said of a roll-out."""
    return {
        "model": model(),
        "tag": _optional(TAG_PATTERN, "Tag of the image; becomes a digest once, when the run begins.", title="Tag"),
        "digest": _optional(
            DIGEST_PATTERN, "Instead of a tag: sha256:... With both, the tag has to lead to it.", title="Digest"
        ),
        **selection(),
        "waves": _param(
            list(DEFAULT_WAVES),
            type="array",
            minItems=1,
            maxItems=MAX_WAVES,
            items={
                "type": ["integer", "string"],  # not "string" alone: the form would make texts of counts
                "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": PERCENT_PATTERN}],
            },
            title="Waves",
            description="Where each wave ends, earlier ones included: a count of nodes, 1, or a percentage of all, "
            '"25%"; "100%" last.',
        ),
        "success_threshold": _param(
            90,
            type="number",
            minimum=1,
            maximum=100,
            title="Success threshold",
            description="Percent of a wave's nodes that have to succeed before the next wave begins.",
        ),
        "error_threshold": _param(
            10,
            type="number",
            minimum=0,
            maximum=100,
            title="Error threshold",
            description="Where more than this percent of a wave's nodes fail, all nodes of the roll-out go back.",
        ),
        "approval": _param(
            False,
            type="boolean",
            title="Approval",
            description="Ask a person before each wave but the first: Required actions.",
        ),
        "deadline": _param(
            DEFAULT_DEADLINE,
            type=["null", "string"],
            pattern=DEADLINE_PATTERN,
            title="Deadline",
            description='How long nodes that do not answer are waited for: "90m", "2h", "1d", or until a time with its '
            "offset. Empty: without end.",
        ),
        "if_busy": _param(
            "refuse",
            type="string",
            enum=["refuse", "wait"],
            title="Where another roll-out of the model is not finished",
            description="Refuse this one, or wait for the other's end.",
        ),
    }


def control_params() -> dict[str, Param]:
    """Which roll-out, and what is asked of it."""
    return {
        "rollout": _param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=2**31 - 1,
            title="Roll-out",
            description="Its id, as `evc rollouts` and the log of plan say. Or give the model.",
        ),
        "model": _optional(MODEL_PATTERN, "Model whose roll-out is meant; instead of its id.", title="Model"),
        "action": _param(
            "pause",
            type="string",
            enum=["pause", "resume", "abort"],
            title="Action",
            description="Pause: no further node begins. Resume: go on. Abort: end it; nodes that have it keep it.",
        ),
    }


def reconcile_params() -> dict[str, Param]:
    """Which nodes are looked at, and whether they are put right."""
    return {
        **selection(),
        "repair": _param(
            None,
            type=["null", "boolean"],
            title="Repair",
            description="Put right what someone changed by hand. Empty: as [evc] repair_drift says.",
        ),
    }


def inference_params() -> dict[str, Param]:
    """Everything that may be said of a run of inference."""
    return {
        "model": model(),
        "tag": _optional(TAG_PATTERN, "The image's tag; empty, without digest: what is deployed there.", title="Tag"),
        "digest": _optional(DIGEST_PATTERN, "The image's digest, 'sha256:...'.", title="Digest"),
        "nodes": names("Only these nodes. Empty, with no group either: all on which it is deployed.", title="Nodes"),
        "groups": names("Only the nodes of these groups.", GROUP_PATTERN, title="Groups"),
        "input": _optional(
            INPUT_PATTERN,
            "What it looks at: a path on the node (file, folder, or a camera such as /dev/video0) or a URL; "
            "empty: as the model does without.",
            title="Input",
        ),
        "limit": _param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=2**53,
            title="Limit",
            description="How many frames or pictures at most; empty: all.",
        ),
        "timeout_s": _param(
            600,
            type="integer",
            minimum=1,
            maximum=86_400,
            title="Time-out",
            description="Seconds after which it is stopped; what it said until then is kept.",
        ),
    }
