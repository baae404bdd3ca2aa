"""Fixtures: a real fleet, with engines and a registry.

Tests that use it bear the mark ``fleet`` by themselves, and one test process runs them all: ``--dist loadgroup``.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers.edge import BASE, EdgeFleet, running_fleet
from tests.servers.edge_node import EdgeNode

_FLEET = pytest.StashKey[EdgeFleet]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whoever uses the fleet."""
    for item in items:
        if "edge_fleet" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.fleet)
            item.add_marker(pytest.mark.xdist_group("fleet"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the fleet's logs where a test failed."""
    report = yield
    fleet = item.session.stash.get(_FLEET, None)
    if report.failed and fleet is not None and "edge_fleet" in getattr(item, "fixturenames", ()):
        report.sections.append(("edge fleet", fleet.logs(max_lines=10)))
    return report


@pytest.fixture(scope="session")
def edge_fleet(request: pytest.FixtureRequest) -> Iterator[EdgeFleet]:
    """A builder, the nodes ``edge-1`` to ``edge-3``, and a registry; what a test changes, it sets right again."""
    if os.geteuid() != 0:
        pytest.skip("a fleet needs root: its nodes are containers that run engines of their own")
    with running_fleet() as fleet:
        request.session.stash[_FLEET] = fleet
        yield fleet
        del request.session.stash[_FLEET]


@pytest.fixture
def edge_nodes(edge_fleet: EdgeFleet) -> list[EdgeNode]:
    """The three edge nodes, as new: no containers, images, logins or limits; the registry runs."""
    edge_fleet.registry.start()
    nodes = [edge_fleet.nodes[f"edge-{number}"] for number in (1, 2, 3)]
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(EdgeNode.clean, nodes))
    return nodes


@pytest.fixture
def clean_node(edge_fleet: EdgeFleet) -> EdgeNode:
    """``edge-1`` as new; the registry runs."""
    edge_fleet.registry.start()
    node = edge_fleet.nodes["edge-1"]
    node.clean()
    return node


@pytest.fixture
def builder(edge_fleet: EdgeFleet) -> EdgeNode:
    """The node that builds, with no image but ``base/python:3.11``; the registry runs."""
    edge_fleet.registry.start()
    edge_fleet.builder.clean(keep_images=[":".join(BASE)])
    return edge_fleet.builder
