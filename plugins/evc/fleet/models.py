"""``model.yaml``: what a model is and how its container runs.

Every key is documented in docs/models.md; a test holds that page to this file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from evc.fleet.images import TAG_PATTERN

MODEL_PATTERN = r"^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$"

Architecture = Literal["amd64", "arm64", "arm"]
InputKind = Literal["file", "folder", "camera", "url"]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
NodePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00:]{0,1000}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ResultKind(_Part):
    """One kind of line that a model prints, see the contract in docs/models.md."""

    kind: Word
    description: str = ""
    unit: str | None = None


class Resources(_Part):
    """What a container may use."""

    memory_bytes: int = Field(512 * 1024**2, ge=6 * 1024**2)
    cpus: float = Field(1.0, gt=0, le=1024)
    gpu: bool = False


class Volume(_Part):
    """A folder or file of the node inside the container."""

    source: NodePath
    target: NodePath
    read_only: bool = True


class HealthCheck(_Part):
    """When a container counts as healthy.

    :param command: run inside it, 0 is healthy; None: it has to keep running for ``stable_s``
    """

    command: list[str] | None = None
    interval_s: float = Field(5.0, gt=0, le=3600)
    timeout_s: float = Field(5.0, gt=0, le=3600)
    retries: int = Field(3, ge=1, le=100)
    start_period_s: float = Field(0.0, ge=0, le=3600)
    stable_s: float = Field(5.0, ge=0, le=3600)
    deadline_s: float = Field(60.0, gt=0, le=3600)


class Model(_Part):
    """One model.

    :param mode: ``continuous`` containers run on and print results all the time; ``on_demand`` ones run once per
        ``run_inference``
    """

    name: Annotated[str, StringConstraints(pattern=MODEL_PATTERN)]
    description: str = Field(min_length=1, max_length=1000)
    task: Word
    version: Annotated[str, StringConstraints(pattern=TAG_PATTERN)]
    mode: Literal["continuous", "on_demand"] = "on_demand"
    inputs: list[InputKind] = Field(min_length=1)
    results: list[ResultKind] = Field(min_length=1)
    architectures: list[Architecture] = Field(default=["amd64", "arm64"], min_length=1)
    command: list[str] | None = None
    environment: dict[Variable, str] = Field(default_factory=dict)
    volumes: list[Volume] = Field(default_factory=list)
    devices: list[NodePath] = Field(default_factory=list)
    runtime: Word | None = None
    network: Literal["bridge", "host", "none"] = "bridge"
    resources: Resources = Field(default_factory=Resources)
    health: HealthCheck = Field(default_factory=HealthCheck)
    stop_grace_s: int = Field(10, ge=0, le=600)
