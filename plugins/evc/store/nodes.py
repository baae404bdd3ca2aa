"""Nodes in the metrics database. Functions take a connection; the transaction is the caller's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, case, delete, func, null, or_, select, update

from evc.errors import InputError
from evc.fleet.nodes import Node, quote
from evc.store.dialects import insert_into
from evc.store.tables import assignments, inference_runs, node_readings, nodes, rollout_nodes

FACTS = ("arch", "os", "kernel", "board_model", "cpu_count", "memory_bytes", "engine_version")

REMOVED = "removed"
PENDING_CLEANUP = "pending_cleanup"  # out of the fleet, but what EVC put on it may still be there

_GIVEN = [nodes.c[name] for name in Node.__dataclass_fields__]
_REGISTERED = nodes.c.removed_ts.is_(None)


def _node(row: RowMapping) -> Node:
    return Node(**{**row, "groups": tuple(row["groups"])})


def _address(host: str, port: int, jump_node: str | None) -> ColumnElement[bool]:
    return and_(nodes.c.host == host, nodes.c.port == port, func.coalesce(nodes.c.jump_node, "") == (jump_node or ""))


def list_nodes(connection: Connection) -> list[Node]:
    """Return every registered node by name."""
    query = select(*_GIVEN).where(_REGISTERED).order_by(nodes.c.name)
    return [_node(row) for row in connection.execute(query).mappings()]


def node_rows(connection: Connection, removed: bool = False, pending: bool = False) -> list[dict[str, Any]]:
    """Return every column of every registered node by name.

    :param removed: those that were removed too
    :param pending: of those only the ones that are not cleaned yet
    """
    query = select(nodes).order_by(nodes.c.name, nodes.c.id)
    if not removed:
        query = query.where(or_(_REGISTERED, nodes.c.status == PENDING_CLEANUP) if pending else _REGISTERED)
    return [dict(row) for row in connection.execute(query).mappings()]


def find_node(connection: Connection, name: str) -> Node | None:
    """Return the registered node of that name."""
    row = connection.execute(select(*_GIVEN).where(nodes.c.name == name, _REGISTERED)).mappings().first()
    return _node(row) if row else None


def nodes_to_locate(connection: Connection) -> list[Node]:
    """Return the registered nodes, by name, that have an address but no place on the map, or a coarse one."""
    coarse = or_(nodes.c.latitude.is_(None), nodes.c.location_source == "gazetteer")
    query = select(*_GIVEN).where(_REGISTERED, nodes.c.address.is_not(None), coarse)
    return [_node(row) for row in connection.execute(query.order_by(nodes.c.name)).mappings()]


def store_node(connection: Connection, node: Node, ts: int) -> tuple[int, bool]:
    """Store ``node``; returns its id and whether it is new.

    A registered node of the same name, host, port and jump node is updated: a host key that is not given stays pinned,
    an address that differs loses its place on the map. A node that was removed leaves name and address free: who takes
    them is a new node.

    :param ts: unix seconds
    :raises InputError: the name is taken by another address, or the address by another name
    """
    given = {name: getattr(node, name) for name in Node.__dataclass_fields__ if name != "id"}
    given |= {"groups": list(node.groups), "labels": dict(node.labels)}
    # Writing comes first: SQLite then waits for its lock, and two at once can't both find the name free.
    for _ in range(2):
        created = _insert(connection, {**given, "status": "unknown", "registered_ts": ts})
        if created is not None:
            return created, True
        updated = _update(connection, node, given)
        if updated is not None:
            return updated, False
        _refuse_taken(connection, node)  # returns where the other one was removed meanwhile
    raise InputError("name", f"{quote(node.name)} is being changed by someone else", "once more, in a moment")


def _insert(connection: Connection, values: Mapping[str, Any]) -> int | None:
    statement = insert_into(connection, nodes).values(values).on_conflict_do_nothing().returning(nodes.c.id)
    found = connection.execute(statement).scalar()
    return None if found is None else int(found)


def _update(connection: Connection, node: Node, given: Mapping[str, Any]) -> int | None:
    stays = nodes.c.address.is_not_distinct_from(node.address)
    values: dict[str, Any] = {name: value for name, value in given.items() if name != "host_key" or value is not None}
    for name in ("latitude", "longitude", "location_source"):
        values[name] = case((stays, nodes.c[name]), else_=null())
    same = _address(node.host, node.port, node.jump_node)
    statement = update(nodes).where(nodes.c.name == node.name, same, _REGISTERED).values(values).returning(nodes.c.id)
    found = connection.execute(statement).scalar()
    return None if found is None else int(found)


def _refuse_taken(connection: Connection, node: Node) -> None:
    same = _address(node.host, node.port, node.jump_node)
    query = select(nodes.c.name, nodes.c.host, nodes.c.port).where(_REGISTERED, or_(nodes.c.name == node.name, same))
    for name, host, port in connection.execute(query):
        if name == node.name:
            wrong = f"{quote(name)} is registered at {host} port {port}"
            raise InputError("name", wrong, "another name, or remove that node first")
        wrong = f"{host} port {port} is registered as {quote(name)}"
        raise InputError("host", wrong, "another address, or remove that node first")


def remove_node(connection: Connection, name: str, ts: int, status: str = REMOVED) -> int:
    """Take a node out of the fleet and return its id. Its row and its samples stay; its last reading goes.

    :param ts: unix seconds
    :param status: :data:`REMOVED`, or :data:`PENDING_CLEANUP` where something is left to do on it
    :raises InputError: no registered node of that name
    """
    statement = update(nodes).where(nodes.c.name == name, _REGISTERED).values(status=status, removed_ts=ts)
    found = connection.execute(statement.returning(nodes.c.id)).scalar()
    if found is None:
        raise InputError("name", f"{quote(name)} is not registered", "the name of a registered node")
    connection.execute(delete(node_readings).where(node_readings.c.node_id == found))
    return int(found)


def pending_nodes(connection: Connection, name: str | None = None) -> list[Node]:
    """Return the nodes that left the fleet and are not cleaned yet, the latest first.

    :param name: only those that had this name
    """
    query = select(*_GIVEN).where(nodes.c.status == PENDING_CLEANUP).order_by(nodes.c.id.desc())
    if name is not None:
        query = query.where(nodes.c.name == name)
    return [_node(row) for row in connection.execute(query).mappings()]


def end_cleanup(connection: Connection, node_id: int) -> bool:
    """Note that nothing is left to do on a node; False where that was noted before."""
    pending = and_(nodes.c.id == node_id, nodes.c.status == PENDING_CLEANUP)
    return connection.execute(update(nodes).where(pending).values(status=REMOVED)).rowcount > 0


def had_containers(connection: Connection, node_id: int) -> bool:
    """Whether EVC has ever made containers on a node, as far as its tables tell."""
    sources = (
        select(assignments.c.node_id).where(assignments.c.node_id == node_id),
        select(rollout_nodes.c.node_id).where(
            rollout_nodes.c.node_id == node_id, rollout_nodes.c.started_ts.is_not(None)
        ),
        select(inference_runs.c.node_id).where(inference_runs.c.node_id == node_id),
    )
    return any(connection.execute(source.limit(1)).first() is not None for source in sources)


def set_location(connection: Connection, node_id: int, latitude: float, longitude: float, source: str) -> None:
    """Store where a node is, degrees north and east (WGS 84).

    :param source: who said so
    """
    values = {"latitude": latitude, "longitude": longitude, "location_source": source}
    connection.execute(update(nodes).where(nodes.c.id == node_id, _REGISTERED).values(values))


def set_facts(connection: Connection, node_id: int, facts: Mapping[str, Any]) -> None:
    """Store what hardly changes on a node; keys of :data:`FACTS`, None where the node has nothing of the kind.

    :raises ValueError: another key
    """
    unknown = set(facts) - set(FACTS)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no facts of a node")
    if facts:
        connection.execute(update(nodes).where(nodes.c.id == node_id, _REGISTERED).values(dict(facts)))


def pin_host_key(connection: Connection, node_id: int, host_key: str) -> None:
    """Pin the host key of first contact, ``TYPE BASE64``; where one is pinned already, only the same one passes.

    :raises InputError: another key is pinned
    """
    free = or_(nodes.c.host_key.is_(None), nodes.c.host_key == host_key)
    statement = update(nodes).where(nodes.c.id == node_id, _REGISTERED, free).values(host_key=host_key)
    if connection.execute(statement).rowcount == 0:
        allowed = "register_node with the new key as host_key, where the change is known"
        raise InputError("host_key", f"the node with id {node_id} is not registered or has another key pinned", allowed)
