"""Containers of models: from model.yaml and an image to the body that makes the container.

Source: Docker Engine API 1.41, ``POST /containers/create``. The same model and image give the same body, name and
``evc.config``, so that a second try finds what the first one made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evc.fleet.images import Image
from evc.fleet.models import InputKind, Model

MODEL_LABEL = "evc.model"
DIGEST_LABEL = "evc.digest"
CONFIG_LABEL = "evc.config"
"""Hash of what the container was made from: another one means another model.yaml."""
MODE_LABEL = "evc.mode"
"""``continuous`` or ``on_demand`` where it was deployed; ``once`` where it is one run of inference."""
ROLLOUT_LABEL = "evc.rollout"
RUN_LABEL = "evc.run"
ONCE = "once"

INPUT_FOLDER = "/evc/input"
"""Where a container of ``run_inference`` finds its file or folder."""
LOG_CONFIG: Mapping[str, Any] = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
"""A container's log takes 30 MB at most: no node is filled by what a model prints."""

_VOLATILE = (CONFIG_LABEL, ROLLOUT_LABEL, RUN_LABEL)
_NO_HEALTH_CHECK = {"Test": ["NONE"]}
_S = 1_000_000_000  # the engine counts in nanoseconds


@dataclass(frozen=True, slots=True)
class Container:
    """A container to be made.

    :param name: the same for the same content
    :param config: what its label ``evc.config`` says
    :param body: of ``POST /containers/create``
    """

    name: str
    config: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Input:
    """What a run of inference looks at.

    :param value: absolute path on the node, or URL
    """

    kind: InputKind
    value: str


def deployed_container(model: Model, image: Image, registry: str, rollout: str) -> Container:
    """Return the container that stands for a deployed model on a node.

    Of a ``continuous`` model it runs on, restarted by the engine whenever it ends. Of an ``on_demand`` model it runs
    ``health.command`` once, or never where there is none, and stays as the node's record of what is deployed there.

    :param registry: ``host:port`` as the node sees it
    :param rollout: label ``evc.rollout``: who asked for it first
    """
    body = _body(model, image, registry, model.mode, {ROLLOUT_LABEL: rollout})
    if model.mode == "continuous":
        body["HostConfig"]["RestartPolicy"] = {"Name": "unless-stopped"}
        body.update(_health_check(model))
    else:
        body["Healthcheck"] = _NO_HEALTH_CHECK
        if model.health.command:
            body["Entrypoint"] = list(model.health.command)
    config = _labelled(body)
    return Container(f"evc-{model.name}-{_digest(config)[:12]}", config, body)


def inference_container(
    model: Model, image: Image, registry: str, run: str, given: Input | None = None, limit: int | None = None
) -> Container:
    """Return the container of one run of inference: it runs once and stays until it is removed.

    Its environment says what to do: ``EVC_INPUT`` (path in the container, or URL), ``EVC_INPUT_KIND``, ``EVC_LIMIT``,
    ``EVC_RUN``.

    :param registry: ``host:port`` as the node sees it
    :param run: label ``evc.run``, and what the name is made from: one run has one container a node
    :param given: its input; None: as the model does without
    :param limit: how many frames or pictures at most
    """
    told = {"EVC_RUN": run} if limit is None else {"EVC_RUN": run, "EVC_LIMIT": str(limit)}
    body = _body(model, image, registry, ONCE, {RUN_LABEL: run})
    body["Healthcheck"] = _NO_HEALTH_CHECK
    if given:
        told |= {"EVC_INPUT_KIND": given.kind, "EVC_INPUT": given.value}
        if given.kind in {"file", "folder"}:
            inside = INPUT_FOLDER if given.kind == "folder" else f"{INPUT_FOLDER}/{_file_name(given.value)}"
            told["EVC_INPUT"] = inside
            body["HostConfig"]["Mounts"].append(_mount(given.value, inside, read_only=True))
        elif given.kind == "camera" and given.value not in model.devices:
            body["HostConfig"]["Devices"].append(_device(given.value))
    body["Env"] = sorted([*body["Env"], *(f"{name}={value}" for name, value in told.items())])
    return Container(f"evc-run-{model.name}-{_digest(run)[:12]}", _labelled(body), body)


def _body(model: Model, image: Image, registry: str, mode: str, labels: Mapping[str, str]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "Image": image.reference(registry),
        "Env": _environment(model, mode),
        "Labels": {MODEL_LABEL: model.name, DIGEST_LABEL: image.digest, MODE_LABEL: mode, **labels},
        "StopTimeout": model.stop_grace_s,
        "HostConfig": _host_config(model),
    }
    if model.command:
        body["Entrypoint"] = list(model.command)  # program and arguments: nothing of the image's own is left
    return body


def _environment(model: Model, mode: str) -> list[str]:
    told = {"EVC_MODEL": model.name, "EVC_MODE": mode}
    if model.runtime == "nvidia":
        # without them the runtime gives a container of an image that does not ask for it no GPU at all
        told |= {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "all"}
    return sorted(f"{name}={value}" for name, value in {**told, **model.environment}.items())


def _host_config(model: Model) -> dict[str, Any]:
    memory_bytes = model.resources.memory_bytes
    host: dict[str, Any] = {
        "RestartPolicy": {"Name": "no"},
        "Memory": memory_bytes,
        "MemorySwap": memory_bytes,  # memory and swap together: no swap
        "NanoCpus": round(model.resources.cpus * 1e9),
        "NetworkMode": model.network,
        "Devices": [_device(path) for path in model.devices],
        # unlike Binds, a mount of what is not there is refused; no folder of root's appears on the node
        "Mounts": [_mount(it.source, it.target, read_only=it.read_only) for it in model.volumes],
        "LogConfig": {"Type": LOG_CONFIG["Type"], "Config": dict(LOG_CONFIG["Config"])},
    }
    if model.runtime:
        host["Runtime"] = model.runtime
    elif model.resources.gpu:
        host["DeviceRequests"] = [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]
    return host


def _health_check(model: Model) -> dict[str, Any]:
    health = model.health
    if not health.command:
        return {}  # the image's own, if it has one
    return {
        "Healthcheck": {
            "Test": ["CMD", *health.command],
            "Interval": round(health.interval_s * _S),
            "Timeout": round(health.timeout_s * _S),
            "Retries": health.retries,
            "StartPeriod": round(health.start_period_s * _S),
        }
    }


def _device(path: str) -> dict[str, str]:
    return {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}


def _mount(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _file_name(path: str) -> str:
    """Return what a file is called inside: models go by the ending."""
    name = path.rsplit("/", 1)[-1]
    return "file" if name in {"", ".", ".."} else name


def _labelled(body: dict[str, Any]) -> str:
    body["Labels"][CONFIG_LABEL] = config = _hash(body)
    return config


def _hash(body: Mapping[str, Any]) -> str:
    """Hash what the container is, whoever asked for it and by whatever address its registry was reached."""
    labels = {name: value for name, value in body["Labels"].items() if name not in _VOLATILE}
    image = body["Image"].partition("/")[2]
    return _digest(json.dumps({**body, "Image": image, "Labels": labels}, sort_keys=True, separators=(",", ":")))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
