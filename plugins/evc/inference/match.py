"""Links what models have seen on many nodes to identities, from the database and back into it.

In steps of some thousand lines. Linking itself holds no transaction open, so nobody waits for it; where another task
has linked in the same gallery meanwhile, this one ends, and its next try goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from sqlalchemy import Engine

from evc.fleet.log import Log
from evc.identities.link import Linked, Rules, link
from evc.store.identities import (
    NewSightings,
    Version,
    forget_replaced_runs,
    load_gallery,
    new_sightings,
    node_places,
    open_gallery,
    store_links,
)


@dataclass(frozen=True, slots=True)
class Order:
    """What to link.

    :param gallery: its name, a scenario's by custom
    :param models: whose lines
    :param node_ids: of which nodes; None: of all
    :param lines_at_once: how many are in memory
    """

    gallery: str
    models: Collection[str]
    node_ids: Collection[int] | None = None
    rules: Rules = field(default_factory=Rules)
    lines_at_once: int = 20_000


@dataclass(frozen=True, slots=True)
class Matched:
    """What has come of it.

    :param lines: read
    :param skipped: of those: without an embedding, or with a damaged one
    :param visits: new or grown
    :param identities: new or seen again, counted at each step
    :param new_identities: of those: new
    """

    lines: int = 0
    skipped: int = 0
    visits: int = 0
    identities: int = 0
    new_identities: int = 0


def match_identities(engine: Engine, order: Order, log: Log) -> Matched:
    """Link all that is new; a second time there is nothing to do.

    :raises Stopped: another task links in the same gallery; what this one has stored so far is whole
    """
    done = Matched()
    while True:
        with engine.begin() as connection:
            if replaced := forget_replaced_runs(connection, order.gallery):
                log.info("%s: %d runs were done anew, their old visits are forgotten", order.gallery, replaced)
            version = open_gallery(connection, order.gallery)
        with engine.connect() as connection:
            new = new_sightings(connection, order.gallery, order.models, order.node_ids, limit=order.lines_at_once)
        if not new.cursors:
            return done
        linked = _link(engine, order, version, new)
        with engine.begin() as connection:
            after = store_links(connection, version, new, linked)
        done = _add(done, new, linked, after.next_id - version.next_id)
        log.info(
            "%s: %d lines read, %d visits, %d identities are new",
            order.gallery, done.lines, done.visits, done.new_identities,
        )  # fmt: skip


def _link(engine: Engine, order: Order, version: Version, new: NewSightings) -> list[Linked]:
    linked = []
    with engine.connect() as connection:
        places = node_places(connection)
    for describer, seen in sorted(new.by_describer.items()):
        with engine.connect() as connection:
            gallery = load_gallery(connection, version, describer, float(seen.ts.min()) - order.rules.forget_s)
        linked.append(link(gallery, seen, places, order.rules))
        version = replace(version, next_id=linked[-1].gallery.next_id)
    return linked


def _add(done: Matched, new: NewSightings, linked: list[Linked], new_identities: int) -> Matched:
    return Matched(
        done.lines + new.lines,
        done.skipped + new.skipped,
        done.visits + sum(len(each.visits) for each in linked),
        done.identities + sum(len(each.changed) for each in linked),
        done.new_identities + new_identities,
    )
