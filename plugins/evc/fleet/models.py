"""``model.yaml``: what a model is and how its container runs.

Every key is documented in docs/models.md; a test holds that page to this file.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from evc.errors import InputError
from evc.fleet.documents import read_document
from evc.fleet.images import TAG_PATTERN
from evc.fleet.nodes import quote

MODEL_FILE = "model.yaml"
MAX_NAME = 63
# also the name of a folder, of a repository and a part of containers' names
MODEL_PATTERN = r"^[a-z0-9]+(?:(?:__?|-+)[a-z0-9]+)*$"
WORD_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
PATH_PATTERN = r"^/[^\x00:]{0,1000}$"
TARGET_PATTERN = r"^/[^\x00:]{1,1000}$"
LINE_PATTERN = r"^[^\x00-\x1f\x7f]{0,2000}$"

_ALLOWED_NAME = "1 to 63 lower-case ASCII letters and digits, parted by '-' or '_', none of those first or last"
_WORDS = {
    MODEL_PATTERN: _ALLOWED_NAME,
    TAG_PATTERN: "1 to 128 ASCII letters, digits, '_', '.' or '-', no '.' or '-' first",
    WORD_PATTERN: "1 to 63 ASCII letters, digits, '_', '.' or '-', no '.' or '-' first",
    VARIABLE_PATTERN: "1 to 128 ASCII letters, digits or '_', no digit first",
    PATH_PATTERN: "an absolute path without ':'",
    LINE_PATTERN: "one line of at most 2000 printable characters",
    TARGET_PATTERN: "an absolute path without ':', not '/' itself",
}

Items = TypeVar("Items", bound=list[Any])


def _each_once(items: Items) -> Items:
    keys = [getattr(item, "kind", None) or getattr(item, "target", None) or item for item in items]
    twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
    if twice is not None:
        raise PydanticCustomError("twice", "names {name} twice", {"name": quote(twice), "allowed": "each once"})
    return items


Architecture = Literal["amd64", "arm64", "arm"]
InputKind = Literal["file", "folder", "camera", "url"]
Word = Annotated[str, StringConstraints(pattern=WORD_PATTERN)]
Variable = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)]
Line = Annotated[str, StringConstraints(pattern=LINE_PATTERN)]
Value = Annotated[str, StringConstraints(max_length=32_768)]
NodePath = Annotated[str, StringConstraints(pattern=PATH_PATTERN)]
TargetPath = Annotated[str, StringConstraints(pattern=TARGET_PATTERN)]
Command = Annotated[list[Value], Field(min_length=1, max_length=256)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Build(_Part):
    """How the image is made."""

    arguments: dict[Variable, Line] = Field(
        default_factory=dict, description="build arguments, ARG in the Dockerfile: names and texts; no secrets"
    )


class ResultKind(_Part):
    """One kind of line that a model prints, see the contract in docs/models.md."""

    kind: Word = Field(description="the kind of a result line, a word")
    description: str = Field("", max_length=1000, description="what it says, for people")
    unit: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = Field(
        None, description="the unit of its value"
    )


class Resources(_Part):
    """What a container may use."""

    memory_bytes: int = Field(
        512 * 1024**2, ge=6 * 1024**2, le=2**50, description="memory, bytes; it is killed where it takes more"
    )
    cpus: float = Field(1.0, gt=0, le=1024, description="processor cores, parts of one allowed")
    gpu: bool = Field(False, description="whether it needs the node's GPU")


class Volume(_Part):
    """A folder or file of the node inside the container."""

    source: NodePath = Field(description="path on the node, absolute")
    target: TargetPath = Field(description="path in the container, absolute")
    read_only: bool = Field(True, description="whether the container may only read it")


class HealthCheck(_Part):
    """When a container counts as healthy.

    :param command: run inside it, 0 is healthy; None: it has to keep running for ``stable_s``
    """

    command: Command | None = Field(None, description="program and arguments, run in the container; exit 0 is healthy")
    interval_s: float = Field(5.0, gt=0, le=3600, description="seconds between two checks")
    timeout_s: float = Field(5.0, gt=0, le=3600, description="seconds that one check may take")
    retries: int = Field(3, ge=1, le=100, description="failed checks in a row that make it unhealthy")
    start_period_s: float = Field(0.0, ge=0, le=3600, description="seconds at first in which failures do not count")
    stable_s: float = Field(5.0, ge=0, le=3600, description="without a command: seconds that it has to keep running")
    deadline_s: float = Field(60.0, gt=0, le=3600, description="seconds until it has to be healthy")


class Model(_Part):
    """One model.

    :param mode: ``continuous`` containers run on and print results all the time; ``on_demand`` ones run once per
        ``run_inference``
    """

    name: Annotated[str, StringConstraints(pattern=MODEL_PATTERN, max_length=MAX_NAME)] = Field(
        description="the model's name, as its folder is called"
    )
    description: str = Field(min_length=1, max_length=1000, description="what it does, for people")
    task: Word = Field(description="what it is for, a word, e.g. reid or detection")
    version: Annotated[str, StringConstraints(pattern=TAG_PATTERN)] = Field(
        description="its version, in quotes; also the image's tag"
    )
    mode: Literal["continuous", "on_demand"] = Field(
        "on_demand", description="runs on and prints results all the time, or once per run_inference"
    )
    inputs: Annotated[list[InputKind], AfterValidator(_each_once)] = Field(
        min_length=1, description="what it can look at, a list of file, folder, camera, url"
    )
    results: Annotated[list[ResultKind], AfterValidator(_each_once)] = Field(
        min_length=1, description="the kinds of lines that it prints, a list of mappings with kind"
    )
    architectures: Annotated[list[Architecture], AfterValidator(_each_once)] = Field(
        default=["amd64", "arm64"], min_length=1, description="architectures that it can be built for"
    )
    build: Build = Field(default_factory=Build, description="how the image is made")
    command: Command | None = Field(None, description="program and arguments instead of the image's own")
    environment: dict[Variable, Value] = Field(
        default_factory=dict, description="environment variables, names and texts; no secrets"
    )
    volumes: Annotated[list[Volume], AfterValidator(_each_once)] = Field(
        default_factory=list, description="folders or files of the node"
    )
    devices: Annotated[list[NodePath], AfterValidator(_each_once)] = Field(
        default_factory=list, description="device files of the node, e.g. /dev/video0"
    )
    runtime: Word | None = Field(None, description="the engine's runtime, e.g. nvidia")
    network: Literal["bridge", "host", "none"] = Field("bridge", description="the container's network")
    resources: Resources = Field(default_factory=Resources, description="what its container may use")
    health: HealthCheck = Field(default_factory=HealthCheck, description="when its container counts as healthy")
    stop_grace_s: int = Field(10, ge=0, le=600, description="seconds between SIGTERM and SIGKILL")


def read_model(where: str, data: bytes, *, folder: str | None = None) -> Model:
    """Read the text of a ``model.yaml``.

    :param where: what the file is called in errors
    :param folder: name of the folder in which it lies: also the model's
    :raises InputError: ``file:line: key`` of the first problem, what is allowed, and where more problems are
    """
    document = read_document(where, data)
    model = document.fit(Model, _WORDS)
    if folder is not None and model.name != folder:
        raise InputError(document.at("name"), f"{quote(model.name)} lies in folder {quote(folder)}", "the same name")
    return model


def check_model_name(where: str, value: object) -> str:
    """Return ``value`` where it can be the name of a model. :raises InputError: it can't, path parts included"""
    if not isinstance(value, str) or len(value) > MAX_NAME or not re.fullmatch(MODEL_PATTERN, value):
        raise InputError(where, f"{quote(value)} does not fit", _ALLOWED_NAME)
    return value
