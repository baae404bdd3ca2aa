"""What goes wrong between a node and its registry, or on the node: a clear refusal, and nothing half-done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from evc.errors import EngineAway, NodeRefused, PullFailed
from evc.fleet.images import Image
from evc.fleet.progress import Layer
from evc.rollout.node import Target
from tests.rollout.nodes import Images, containers, deploy, digests, quick_model
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode
from tests.servers.registry import Account

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]


@pytest.fixture
def images(edge_fleet: EdgeFleet) -> Images:
    return Images(edge_fleet)


@pytest.fixture
def node(clean_node: EdgeNode, edge_fleet: EdgeFleet) -> EdgeNode:
    clean_node.trust(edge_fleet.registry)
    return clean_node


@pytest.fixture
def good(node: EdgeNode, images: Images) -> Image:
    """What runs on the node, and has to run on whatever happens."""
    image = images.push()
    deploy(node, images.target(image))
    return image


def refusal(node: EdgeNode, target: Target, good: Image) -> NodeRefused:
    with pytest.raises(NodeRefused) as caught:
        deploy(node, target)
    assert containers(node) == [(good.digest, "running")]
    assert target.image.digest not in digests(node)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{node.name}: ")
    return caught.value


def log_in(node: EdgeNode, images: Images, account: Account) -> None:
    auths = {images.registry: {"auth": account.basic()}}
    node.write_file("/root/.docker/config.json", json.dumps({"auths": auths}).encode(), 0o600)


@contextmanager
def pull_account(images: Images, login: str) -> Iterator[Account]:
    face = images.fleet.registry.pull
    account = face.add_account(login)
    try:
        yield account
    finally:
        face.remove_account(login)


def test_an_account_that_was_revoked_is_refused_and_its_password_stays_secret(
    node: EdgeNode, images: Images, good: Image
) -> None:
    with pull_account(images, "node-7") as account:
        log_in(node, images, account)
        good = images.push()
        deploy(node, images.target(good))
    error = refusal(node, images.target(images.push()), good)
    assert (error.checks, error.may_pass) == (("account",), False)
    assert "register the node again" in str(error)
    assert account.password not in str(error)
    assert account.basic() not in str(error)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "has no ~/.docker/config.json"),
        (b"{", "is not JSON"),
        (b'{"auths": {"elsewhere:5000": {"auth": "YTpi"}}}', "has no account at"),
        (b'{"credsStore": "pass", "auths": {}}', "leaves the account at"),
    ],
)
def test_a_node_without_an_account_is_told_how_to_get_one(
    node: EdgeNode, images: Images, good: Image, config: bytes | None, words: str
) -> None:
    node.run("rm", "/root/.docker/config.json")
    if config is not None:
        node.write_file("/root/.docker/config.json", config)
    error = refusal(node, images.target(images.push()), good)
    assert error.checks == ("account",)
    assert words in str(error)


def test_a_node_without_the_ca_is_refused(node: EdgeNode, images: Images, good: Image) -> None:
    image = images.push()
    node.run("rm", "-r", "/etc/docker/certs.d")
    error = refusal(node, images.target(image), good)
    assert error.checks == ("certificate",)
    assert "copy_cert.yaml installs the CA" in str(error)


def test_a_certificate_that_has_expired_is_named_so(node: EdgeNode, images: Images, good: Image) -> None:
    image = images.push()
    images.fleet.registry.renew_certificate(timedelta(days=-1))
    try:
        error = refusal(node, images.target(image), good)
    finally:
        images.fleet.registry.renew_certificate()
    assert error.checks == ("certificate",)
    assert "renew it with evc registry init" in str(error)


def test_a_registry_that_is_down_may_be_back_later(node: EdgeNode, images: Images, good: Image) -> None:
    image = images.push()
    images.fleet.registry.stop()
    try:
        error = refusal(node, images.target(image), good)
    finally:
        images.fleet.registry.start()
    assert (error.checks, error.may_pass) == (("registry",), True)
    deploy(node, images.target(image))
    assert containers(node) == [(image.digest, "running")]


def test_an_image_that_is_not_there_is_named_so(node: EdgeNode, images: Images, good: Image) -> None:
    error = refusal(node, images.target(Image("reid", f"sha256:{'0' * 64}")), good)
    assert error.checks == ("image",)
    assert "sync_registry" in str(error)


def test_an_image_for_another_architecture_is_refused_before_a_byte_travels(
    node: EdgeNode, images: Images, good: Image
) -> None:
    error = refusal(node, images.target(images.push(architecture="arm64")), good)
    assert error.checks == ("architecture",)
    assert "amd64; needed: arm64" in str(error)


def test_devices_and_folders_that_are_missing_are_named(node: EdgeNode, images: Images, good: Image) -> None:
    it = quick_model(
        devices=["/dev/video0"], volumes=[{"source": "/srv/a b'c", "target": "/a"}], resources={"cpus": 999.0}
    )
    error = refusal(node, images.target(images.push(), it), good)
    assert error.checks == ("cpus", "device", "volume")
    assert "no /dev/video0" in str(error)
    assert "/srv/a b'c" in str(error)


def test_a_full_disk_is_seen_before_the_pull_where_sizes_are_known(node: EdgeNode, images: Images, good: Image) -> None:
    image = images.push(size_mb=20)
    node.fill_disk(leave_bytes=60_000_000)
    layers = (Layer(f"sha256:{'1' * 64}", 20_000_000, f"sha256:{'2' * 64}"),)
    error = refusal(node, images.target(image, layers=layers), good)
    assert error.checks == ("disk",)
    assert "needed: 80.0 MB, 2 times the image" in str(error)
    assert "MB free in /var/lib/docker" in str(error)
    node.free_disk()
    deploy(node, images.target(image, layers=layers))
    assert containers(node) == [(image.digest, "running")]


def test_a_disk_that_is_full_in_mid_pull_leaves_the_previous_version(
    node: EdgeNode, images: Images, good: Image
) -> None:
    image = images.push(size_mb=30)
    node.fill_disk(leave_bytes=10_000_000)
    with pytest.raises(PullFailed) as caught:
        deploy(node, images.target(image))
    assert "no space left" in str(caught.value)
    assert "docker system df" in str(caught.value)
    assert containers(node) == [(good.digest, "running")]
    node.free_disk()
    deploy(node, images.target(image))
    assert containers(node) == [(image.digest, "running")]


def test_an_engine_that_is_not_there_is_no_verdict_on_the_node(node: EdgeNode, images: Images, good: Image) -> None:
    target = images.target(images.push())
    node.kill_engine()
    try:
        with pytest.raises(EngineAway, match="is it installed and running"):
            deploy(node, target)
    finally:
        node.start_engine()
    deploy(node, target)
    assert containers(node) == [(target.image.digest, "running")]
