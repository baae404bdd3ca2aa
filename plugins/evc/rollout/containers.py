"""The containers that EVC deployed on a node.

They are known by their labels. A container's labels include those of its image, so one that someone made by hand from a
model's image bears ``evc.model`` too; only ours bear ``evc.config``.

A container that has not passed its health gate yet has a name that ends in ``-new``. Passing renames it: of all that
may be written down on a node, that is the one thing which tells, after any crash, which container was good.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evc.engine.client import Engine
from evc.errors import EngineError
from evc.fleet.containers import CONFIG_LABEL, DIGEST_LABEL, MODE_LABEL, MODEL_LABEL, ONCE, ROLLOUT_LABEL

NEW = "-new"
_EXITED = re.compile(r"Exited \((\d{1,3})\)", re.ASCII)
_HEALTH = re.compile(r"\((healthy|unhealthy|health: starting)\)")
_MAX_LABEL, _MAX_ID = 80, 64  # the columns': whatever a node says has to fit


@dataclass(frozen=True, slots=True)
class Running:
    """A deployed container of a model, running or not.

    :param repository: of its image, without the registry's address
    :param digest: of its image
    :param config: hash of what it was made from
    :param mode: ``continuous`` or ``on_demand``
    :param rollout: who asked for it first
    :param state: ``created``, ``running``, ``paused``, ``restarting``, ``removing``, ``exited`` or ``dead``
    :param health: ``healthy``, ``unhealthy``, ``starting``; None: it has no health check
    :param exit_code: None unless it has ended
    :param created_ts: unix seconds, by the node's clock
    """

    model: str
    repository: str
    digest: str
    config: str
    mode: str
    rollout: str
    container_id: str
    name: str
    state: str
    health: str | None
    exit_code: int | None
    created_ts: int

    @property
    def is_gated(self) -> bool:
        """Whether it has passed its health gate once."""
        return not self.name.endswith(NEW)

    @property
    def is_up(self) -> bool:
        """Whether processes of it are there, frozen ones included."""
        return self.state in {"running", "restarting", "paused"}

    @property
    def is_right(self) -> bool:
        """Whether it does what it was deployed for: nothing about it has to be mended."""
        if not self.is_gated:
            return False
        if self.mode == "on_demand":
            return self.state == "created" or (self.state == "exited" and self.exit_code == 0)
        return self.state == "running" and self.health != "unhealthy"


async def running(engine: Engine, model: str | None = None) -> list[Running]:
    """Return the deployed containers of a node, those that stand still included; one request.

    :param model: only those of this model
    """
    labels = {CONFIG_LABEL: "", DIGEST_LABEL: "", MODEL_LABEL: model or ""}
    found = [listed for listed in await engine.containers(labels) if _label(listed, MODE_LABEL) != ONCE]
    if not all(isinstance(listed.get("Id"), str) for listed in found):
        raise EngineError(f"{engine.name}: containers: not as its API promises: one without an id")
    return [_running(listed) for listed in found]


def previous_of(others: Sequence[Running]) -> Running | None:
    """Return the container to go back to: a good one before one that never was, one that runs, the newest."""
    return max(others, key=lambda it: (it.is_gated, it.is_up, it.created_ts, it.container_id), default=None)


def _running(listed: Mapping[str, Any]) -> Running:
    status = _short(listed.get("Status", ""), 200)
    exited, health = _EXITED.match(status), _HEALTH.search(status)
    names, created = listed.get("Names"), listed.get("Created")
    name = names[0] if isinstance(names, list) and names else ""
    image = _short(listed.get("Image", ""), 500).partition("@")[0]
    return Running(
        model=_label(listed, MODEL_LABEL),
        # an image that lost its name is listed by its id; models are pushed under their own name
        repository=image.partition("/")[2] or _label(listed, MODEL_LABEL),
        digest=_label(listed, DIGEST_LABEL),
        config=_label(listed, CONFIG_LABEL),
        mode=_label(listed, MODE_LABEL),
        rollout=_label(listed, ROLLOUT_LABEL),
        container_id=_short(listed["Id"], _MAX_ID),
        name=_short(name, 200).lstrip("/"),
        state=_short(listed.get("State", ""), 20),
        health=health[1].removeprefix("health: ") if health else None,
        exit_code=int(exited[1]) if exited else None,
        created_ts=created if isinstance(created, int) else 0,
    )


def _label(listed: Mapping[str, Any], name: str) -> str:
    labels = listed.get("Labels")
    return _short(labels.get(name, ""), _MAX_LABEL) if isinstance(labels, dict) else ""


def _short(value: object, length: int) -> str:
    """Return what a node says as a text that logs show and every database takes."""
    return "".join(c for c in str(value)[:length] if c.isprintable())
