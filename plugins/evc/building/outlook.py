"""What a run of a scenario would do now: from the metrics database and the model's source, without doing it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from evc.building.source import read_source
from evc.errors import ImageNotFound
from evc.fleet.nodes import select
from evc.fleet.scenarios import BuildStep, ModelImage, Scenario
from evc.fleet.waves import cut, parse_waves
from evc.store.assignments import list_assignments
from evc.store.builds import build_rows
from evc.store.images import image_rows
from evc.store.nodes import list_nodes, node_rows


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run would do.

    :param nodes: names, in the order of a roll-out: those that are down at the moment last
    :param image: ``model:tag`` or ``model@digest``; None: what is deployed on each node
    :param digest: what the image is; None: a build makes it, or it differs from node to node
    :param build: what a build would do, on one line; None: there is none
    :param waves: names of each wave's nodes; empty: nothing is rolled out
    :param has_it: nodes that should run the digest already
    """

    nodes: list[str]
    image: str | None
    digest: str | None
    build: str | None
    waves: list[list[str]]
    has_it: list[str]


def outlook(connection: Connection, scenario: Scenario, models_folder: Path) -> Outlook:
    """Return what a run of a scenario would do now.

    What is in the registry is taken from ``registry_images``, as sync_registry saw it last.

    :raises InputError: a node, group, label or model that is not there, waves that leave nodes out
    :raises ImageNotFound: the image that it names was not in the registry
    """
    chosen = select(list_nodes(connection), scenario.nodes.names, scenario.nodes.groups, scenario.nodes.labels)
    down = {row["name"] for row in node_rows(connection) if row["status"] == "down"}
    names = sorted((node.name for node in chosen), key=lambda name: (name in down, name))
    build = None
    tag, digest = scenario.model.tag, scenario.model.digest
    if scenario.build:
        tag, digest, build = _built(connection, scenario.model, scenario.build, models_folder)
    elif tag or digest:
        digest = _in_registry(connection, scenario.model.name, tag, digest)
    waves = cut(parse_waves(scenario.rollout.waves), names) if scenario.rollout else []
    by_id = {node.id: node.name for node in chosen}
    has_it = [
        by_id[found.node_id]
        for found in list_assignments(connection)
        if digest and found.model == scenario.model.name and found.digest == digest and found.node_id in by_id
    ]
    image = f"{scenario.model.name}:{tag}" if tag else f"{scenario.model.name}@{digest}" if digest else None
    return Outlook(names, image, digest, build, waves, sorted(has_it))


def _built(
    connection: Connection, model: ModelImage, build: BuildStep, models_folder: Path
) -> tuple[str, str | None, str]:
    """Return the tag, the digest where nothing would be built, and what a build would do."""
    source = read_source(models_folder, model.name)
    tag = model.tag or source.model.version
    size = f"{len(source.files)} files, {source.size_bytes / 1e6:.1f} MB, {source.revision[:19]}"
    for row in build_rows(connection, model.name):
        is_same = (row["tag"], row["source_revision"]) == (tag, source.revision)
        if is_same and row["digest"] and row["status"] in {"succeeded", "unchanged"}:
            return tag, row["digest"], f"unchanged, where nothing but the source counts: {size}"
    return tag, None, f"{size}, on {build.builder}"


def _in_registry(connection: Connection, model: str, tag: str | None, digest: str | None) -> str:
    rows = [row for row in image_rows(connection) if row["repository"] == model]
    for row in rows:
        if (not tag or row["tag"] == tag) and (not digest or row["digest"] == digest):
            return str(row["digest"])
    have = ", ".join(sorted({str(row["tag"]) for row in rows})) or "no image of it"
    named = f"{model}:{tag}" if tag else f"{model}@{digest}"
    raise ImageNotFound(f"{named}: sync_registry saw {have}; trigger it, or build_model")
