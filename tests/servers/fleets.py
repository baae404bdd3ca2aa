"""Fixtures: a real fleet, with engines and a registry.

Tests that use it bear ``xdist_group("fleet")``, so that one test process has it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.edge import BASE, EdgeFleet, running_fleet
from tests.servers.edge_node import EdgeNode


@pytest.fixture(scope="session")
def edge_fleet() -> Iterator[EdgeFleet]:
    """A builder, the nodes ``edge-1`` to ``edge-3``, and a registry; what a test changes, it sets right again."""
    with running_fleet() as fleet:
        yield fleet


@pytest.fixture
def edge_nodes(edge_fleet: EdgeFleet) -> Iterator[list[EdgeNode]]:
    """The three edge nodes, as new: no containers, images, logins or limits, before and after the test."""
    nodes = list(edge_fleet.nodes.values())
    for node in nodes:
        node.clean()
    yield nodes
    for node in nodes:
        node.clean()


@pytest.fixture
def clean_node(edge_nodes: list[EdgeNode]) -> EdgeNode:
    """One edge node, as new."""
    return edge_nodes[0]


@pytest.fixture
def builder(edge_fleet: EdgeFleet) -> EdgeNode:
    """The node that builds, with no image but ``base/python:3.11``."""
    edge_fleet.builder.clean(keep_images=[":".join(BASE)])
    return edge_fleet.builder
