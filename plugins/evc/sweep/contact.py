"""The first contact with a node: everything about it, or one clear reason why not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from evc.fleet.nodes import Node
from evc.ssh.pool import CredentialsOf, Pool
from evc.sweep.reading import Memory, Outcome
from evc.sweep.sweeper import Sweeper

_NOT_STORED_YET = 0


async def first_contact(
    node: Node,
    registered: Mapping[str, Node],
    credentials_of: CredentialsOf,
    *,
    connect_timeout_s: float,
    sweep_timeout_s: float,
) -> Outcome:
    """Log in to ``node`` and read everything that a first sweep reads.

    The outcome's rows carry node id 0: the caller stores the node and then calls :func:`with_id`.
    ``outcome.node["host_key"]`` is the key that the node has proved to hold, where none was pinned.

    :raises NodeError: it did not answer as it should; the kind says why
    :raises CredentialsError: a login of ours is at fault
    """
    pool = Pool(credentials_of, connect_timeout_s=connect_timeout_s)
    try:
        sweeper = Sweeper(pool, timeout_s=sweep_timeout_s, deadline_s=3 * (connect_timeout_s + sweep_timeout_s))
        return await sweeper.ask(replace(node, id=_NOT_STORED_YET), registered, Memory(), int(time.time()))
    finally:
        await pool.close()


def with_id(outcome: Outcome, node_id: int) -> Outcome:
    """Return the outcome of a first contact for the id under which the node was stored."""
    for rows in outcome.rows.values():
        for row in rows:
            row["node_id"] = node_id
    outcome.node["id"] = node_id
    return outcome
