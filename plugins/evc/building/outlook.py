"""What a run of a scenario would do now: from database, registry and the model's source, without doing it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from evc.building.images import Images
from evc.building.known import is_of, with_arguments
from evc.building.platforms import architecture, architecture_of, check_architecture
from evc.building.source import read_source
from evc.errors import ImageNotFound, InputError
from evc.fleet.images import one_digest
from evc.fleet.nodes import Node, quote
from evc.fleet.scenarios import BuildStep, Scenario, choose_nodes
from evc.fleet.waves import cut, parse_waves
from evc.store.assignments import Assignment, list_assignments
from evc.store.builds import last_build
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
    :param registry: ``host:port`` of the one that was asked which image it is; None: none was
    :param registry_why: why sync_registry's last look was taken in place of the registry; None: it was not
    :param registry_ts: unix seconds of that look; None: there was none
    """

    nodes: list[str]
    image: str | None
    digest: str | None
    build: str | None
    waves: list[list[str]]
    has_it: list[str]
    registry: str | None
    registry_why: str | None
    registry_ts: int | None


def outlook(connection: Connection, scenario: Scenario, models_folder: Path, images: Images) -> Outlook:
    """Return what a run of a scenario would do now.

    :raises InputError: a node, group, label, builder or model that is not there, waves that leave nodes out, a model
        that has to be deployed and is not
    :raises ImageNotFound: there is no image as it names it
    """
    model = scenario.model.name
    assigned = [found for found in list_assignments(connection) if found.model == model]
    named = scenario.nodes
    chosen = choose_nodes(
        scenario, list_nodes(connection), model, named.names, named.groups, {found.node_id for found in assigned}
    )
    down = {row["name"] for row in node_rows(connection) if row["status"] == "down"}
    names = sorted((node.name for node in chosen), key=lambda name: (name in down, name))
    tag, digest, build = scenario.model.tag, scenario.model.digest, None
    if scenario.build:
        tag, digest, build = _built(connection, scenario, scenario.build, models_folder, images)
    elif tag or digest:
        digest = one_digest(model, tag, digest, images.find)
    elif scenario.inference:
        _check_deployed(model, chosen, assigned)
    waves = cut(parse_waves(scenario.rollout.waves), names) if scenario.rollout else []
    by_id = {node.id: node.name for node in chosen}
    has_it = [by_id[it.node_id] for it in assigned if digest and it.digest == digest and it.node_id in by_id]
    image = f"{model}:{tag}" if tag else f"{model}@{digest}" if digest else None
    return Outlook(names, image, digest, build, waves, sorted(has_it), images.registry, images.why, images.as_of_ts)


def _check_deployed(model: str, nodes: list[Node], assigned: list[Assignment]) -> None:
    has = {found.node_id for found in assigned}
    bare = sorted(node.name for node in nodes if node.id not in has)
    if bare:
        raise InputError(
            "nodes",
            f"{quote(model)} is not deployed on {', '.join(bare)}",
            "deploy_model first, or name a tag or digest",
        )


def _built(
    connection: Connection, scenario: Scenario, build: BuildStep, models_folder: Path, images: Images
) -> tuple[str, str | None, str]:
    """Return the tag, the digest where nothing would be built, and what a build would do."""
    source = read_source(models_folder, scenario.model.name)
    model = with_arguments(source.model, build.arguments)
    tag = scenario.model.tag or model.version
    platform = build.platform or _platform_of(connection, build.builder)
    if platform:
        check_architecture("build.platform", architecture(platform), model.architectures)
    last = last_build(connection, model.name, tag, platform) if platform else None
    size = f"{len(source.files)} files, {source.size_bytes / 1e6:.1f} MB, {source.revision[:19]}"
    if last and is_of(last, source.revision, model):
        if _leads_to(images, model.name, tag) == last["digest"]:
            return tag, last["digest"], f"nothing, unchanged: {size}"
        why = f"{model.name}:{tag} of this source is in the registry no more"
    else:
        why = (
            "no build of this source with these arguments is known"
            if platform
            else f"what {build.builder} builds for is not known yet"
        )
    return tag, None, f"{size}, on {build.builder}{f' for {platform}' if platform else ''}: {why}"


def _platform_of(connection: Connection, builder: str) -> str | None:
    """Return what a builder builds for, as its last facts say; None: they do not.

    :raises InputError: it is not registered
    """
    machines = {row["name"]: row["arch"] for row in node_rows(connection)}
    if builder not in machines:
        names = ", ".join(sorted(machines)) or "none yet: trigger register_node"
        raise InputError("build.builder", f"{quote(builder)} is not registered", f"a registered node: {names}")
    return f"linux/{architecture_of(machines[builder])}" if machines[builder] else None


def _leads_to(images: Images, repository: str, tag: str) -> str | None:
    try:
        return images.find(repository, tag)
    except ImageNotFound:
        return None
