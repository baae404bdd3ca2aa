"""The registry's client, on real registries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from evc.errors import ImageNotFound, InputError, RegistryAway, RegistryError, RegistryRefused
from evc.registry.authority import Authority
from evc.registry.client import PAGE, RegistryClient
from tests.servers.registry_faces import RegistryServer, running_registry
from tests.servers.sshd import free_port

NOWHERE = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """One that no test stops."""
    with running_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RegistryServer]:
    """One of the test's own."""
    with running_registry(tmp_path / "registry") as server:
        yield server


def test_an_image_is_told_as_it_was_pushed(registry: RegistryServer) -> None:
    labels = {"org.opencontainers.image.description": "사람 찾기", "number": "1"}
    layers = [b"a" * 1000, b"b" * 500]
    digest = registry.push("told/reid", "1.0", "latest", layers=layers, labels=labels, architecture="arm64")
    with registry.client() as client:
        assert "told/reid" in client.repositories()
        assert client.tags("told/reid") == ["1.0", "latest"]
        assert client.tagged("told/reid") == {"1.0": digest, "latest": digest}
        assert client.resolve("told/reid", "1.0") == digest
        assert client.resolve("told/reid", digest) == digest
        facts = client.facts("told/reid", digest)
    assert facts.digest == digest
    assert facts.platform == "linux/arm64"
    assert facts.created_ts == int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp())
    assert facts.labels == labels
    config_size = facts.size_bytes - 1500
    assert 200 < config_size < 600


def test_an_index_is_told_by_its_images(registry: RegistryServer) -> None:
    small = registry.push("many", layers=[b"s" * 10])
    large = registry.push("many", layers=[b"l" * 9000], architecture="arm64")
    proof = registry.push("many", layers=[b"p" * 90000], architecture="unknown")
    images = {small: "amd64", large: "arm64", proof: "unknown"}
    digest = registry.push_index("many", "1", images=images, annotations={"note": "of the index"})
    with registry.client() as client:
        assert client.resolve("many", "1") == digest
        facts = client.facts("many", digest)
        assert facts.size_bytes == client.facts("many", large).size_bytes
    assert facts.platform == "linux/amd64,linux/arm64"
    assert facts.labels == {"note": "of the index"}


def test_a_catalogue_of_several_pages_is_whole(own: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evc.registry.client.PAGE", 5)
    layer = [b"the same"]
    names = sorted(f"model-{number:03}" for number in range(12))
    for name in names:
        own.push(name, "1", layers=layer)
    with own.client() as client:
        assert client.repositories() == names


def paged_tags(request: httpx.Request) -> httpx.Response:
    """A registry that pages tags, which distribution 2.8 does not: as the specification says."""
    tags = [f"{number:03}" for number in range(250)]
    after = request.url.params.get("last")
    start = tags.index(after) + 1 if after else 0
    page = tags[start : start + int(request.url.params["n"])]
    headers = {}
    if start + len(page) < len(tags):
        headers["Link"] = f'</v2/reid/tags/list?n={PAGE}&last={page[-1]}>; rel="next"'
    return httpx.Response(200, json={"name": "reid", "tags": page}, headers=headers)


def answering(handler: Callable[[httpx.Request], httpx.Response]) -> RegistryClient:
    return RegistryClient("registry.test:5000", "evc", "TOPSECRET", transport=httpx.MockTransport(handler))


def test_tags_of_several_pages_are_whole() -> None:
    assert answering(paged_tags).tags("reid") == [f"{number:03}" for number in range(250)]


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (httpx.Response(200, text="<html>welcome</html>"), "the answer is not a JSON object"),
        (httpx.Response(200, json=[]), "the answer is not a JSON object"),
        (httpx.Response(200, json={"repositories": ["../etc"]}), "catalogue: the answer"),
        (httpx.Response(200, json={"repositories": [1]}), "catalogue: the answer"),
        (httpx.Response(200, content=b"[" * 100_000), "the answer is not a JSON object"),
        (httpx.Response(200, content=b" " * (9 * 2**20)), "is longer than"),
        (
            httpx.Response(200, json={"repositories": ["a"]}, headers={"Link": '<https://evil.test/>; rel="next"'}),
            "goes on at another server",
        ),
        (
            httpx.Response(200, json={"repositories": ["a"]}, headers={"Link": '</v2/_catalog?n=100>; rel="next"'}),
            "repeats its pages",
        ),
        (httpx.Response(302, headers={"Location": "https://evil.test/"}), "catalogue: 302"),
        (httpx.Response(418, json={"errors": [{"message": "I am\na teapot"}]}), r"418 \(I am a teapot\)"),
    ],
)
def test_what_is_no_registry_is_an_error_of_one_line(answer: httpx.Response, wrong: str) -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return answer

    with pytest.raises(RegistryError, match=wrong) as caught:
        answering(handler).repositories()
    assert not isinstance(caught.value, RegistryAway | RegistryRefused | ImageNotFound)
    assert "\n" not in str(caught.value)
    assert set(asked) == {"registry.test"}


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_may_pass_is_worth_a_retry(status: int) -> None:
    with pytest.raises(RegistryAway, match=str(status)):
        answering(lambda _: httpx.Response(status)).repositories()


def test_a_manifest_that_was_altered_is_refused() -> None:
    with pytest.raises(RegistryError, match="is not what its digest says"):
        answering(lambda _: httpx.Response(200, json={})).facts("reid", NOWHERE)
    headers = {"Docker-Content-Digest": "sha256:" + "1" * 64}
    with pytest.raises(RegistryError, match="names another digest"):
        answering(lambda _: httpx.Response(200, headers=headers)).resolve("reid", NOWHERE)
    with pytest.raises(RegistryError, match="names no digest"):
        answering(lambda _: httpx.Response(200)).resolve("reid", "1")


def test_what_is_not_there_is_said_by_name(registry: RegistryServer) -> None:
    registry.push("there", "1")
    with registry.client() as client:
        for repository, reference in [("there", "2"), ("there", NOWHERE), ("nowhere", "1")]:
            with pytest.raises(ImageNotFound, match=f"{repository}.{reference}: there is none"):
                client.resolve(repository, reference)
        with pytest.raises(ImageNotFound, match="repository nowhere"):
            client.tags("nowhere")
        with pytest.raises(ImageNotFound):
            client.facts("there", NOWHERE)
        assert client.delete("there", NOWHERE) is False


@pytest.mark.parametrize(("repository", "reference"), [("../x", "1"), ("x", "../1"), ("X", "1"), ("x", "sha256:1")])
def test_a_name_that_does_not_fit_is_not_asked_for(repository: str, reference: str) -> None:
    def asked(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    with pytest.raises(InputError):
        answering(asked).resolve(repository, reference)


def test_deleting_takes_every_tag_of_the_digest_and_no_other(registry: RegistryServer) -> None:
    kept = registry.push("del", "1")
    gone = registry.push("del", "2", "2.0", "latest")
    with registry.client() as client:
        assert client.delete("del", gone) is True
        assert client.tagged("del") == {"1": kept}
        assert client.delete("del", gone) is False
        assert client.delete("del", kept) is True
        assert client.tags("del") == []
        assert "del" in client.repositories()


def test_the_pull_only_face_serves_and_changes_nothing(registry: RegistryServer) -> None:
    digest = registry.push("pulled", "1")
    password = registry.folder.pull_only.accounts.grant("node-1")
    with registry.pull_client("node-1", password) as client:
        assert client.resolve("pulled", "1") == digest
        assert client.facts("pulled", digest).size_bytes > 1000
        with pytest.raises(RegistryRefused, match=r"not allowed on this face \(405\)"):
            client.delete("pulled", digest)
        upload = client._http.post("/v2/pulled/blobs/uploads/")
        assert upload.status_code == 405
        manifest = client._http.get(f"/v2/pulled/manifests/{digest}", headers={"Accept": "*/*"})
        put = client._http.put("/v2/pulled/manifests/2", content=manifest.content, headers=manifest.headers)
        assert put.status_code == 405
    with registry.client() as client:
        assert client.tagged("pulled") == {"1": digest}


def test_what_one_face_deleted_the_other_does_not_serve_any_more(registry: RegistryServer) -> None:
    digest = registry.push("stale", "1")
    password = registry.folder.pull_only.accounts.grant("node-2")
    with registry.pull_client("node-2", password) as puller, registry.client() as client:
        assert puller.facts("stale", digest)
        client.delete("stale", digest)
        with pytest.raises(ImageNotFound):
            puller.resolve("stale", digest)


def test_each_face_knows_only_its_own_accounts(registry: RegistryServer) -> None:
    pull_password = registry.folder.pull_only.accounts.grant("node-3")
    with registry.client(login="node-3", password=pull_password) as client:
        with pytest.raises(RegistryRefused, match="refused the account 'node-3'") as caught:
            client.repositories()
    assert pull_password not in str(caught.value)
    given = registry.connection
    with registry.pull_client(given["login"], given["password"]) as client, pytest.raises(RegistryRefused):
        client.check()


def test_an_account_is_refused_from_the_request_after_its_revocation(registry: RegistryServer) -> None:
    accounts = registry.folder.pull_only.accounts
    for _ in range(20):  # also when grant, request and revocation follow each other within one tick of the clock
        password = accounts.grant("node-4")
        with registry.pull_client("node-4", password) as client:
            client.check()
            assert accounts.revoke("node-4") is True
            with pytest.raises(RegistryRefused, match="401"):
                client.check()


def test_a_registry_that_is_down_is_away(own: RegistryServer) -> None:
    with own.client() as client:
        client.check()
        own.stop()
        with pytest.raises(RegistryAway, match=r"^registry 127\.0\.0\.1:\d+: does not answer .*is it running\?$"):
            client.repositories()
        own.start()
        client.check()
    with own.client(address=f"127.0.0.1:{free_port()}") as client, pytest.raises(RegistryAway):
        client.check()
    with own.client(address="nosuch.invalid:5000") as client, pytest.raises(RegistryAway, match="nosuch.invalid"):
        client.check()


def test_an_expired_certificate_is_said_and_init_renews_it(own: RegistryServer) -> None:
    from evc.registry.folder import Wanted

    past = datetime.now(UTC) - timedelta(days=400)
    own.folder.authority.issue(["127.0.0.1"], now=past, valid=timedelta(days=398))
    own.restart()
    with own.client() as client, pytest.raises(RegistryRefused, match="has expired: run `evc registry init`"):
        client.check()
    made = own.folder.init(Wanted())
    assert made.restart
    assert any("as it had expired" in line for line in made.done)
    own.restart()
    with own.client() as client:
        client.check()
        assert client.certificate_expires is not None
        assert abs(client.certificate_expires - made.certificate.expires) < timedelta(seconds=1)


def test_a_certificate_of_someone_else_is_not_trusted(registry: RegistryServer, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    other.make()
    for ca_file in (other.ca_file, None):
        with registry.client(ca_file=ca_file) as client:
            with pytest.raises(RegistryRefused, match="not signed by the authority in ca_path"):
                client.check()
    with registry.client(address=f"127.0.0.2:{registry.folder.read_write.port()}") as client:
        with pytest.raises(RegistryRefused, match="is not for this address"):
            client.check()


def test_an_authority_that_can_not_be_read_is_said_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ca_path: .*nowhere.crt: No such file"):
        RegistryClient("127.0.0.1:5000", "evc", "TOPSECRET", tmp_path / "nowhere.crt")
    (tmp_path / "bad.crt").write_text("TOPSECRET")
    with pytest.raises(InputError, match=r"ca_path: .*bad.crt: is not a certificate"):
        RegistryClient("127.0.0.1:5000", "evc", "TOPSECRET", tmp_path / "bad.crt")


def test_the_password_is_in_no_error_and_no_environment_leads_astray(
    own: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    wrong = {"password": "TOPSECRET"}
    with own.client(**wrong) as client, pytest.raises(RegistryRefused) as caught:
        client.check()
    assert "TOPSECRET" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert "TOPSECRET" not in repr(vars(client))


def test_the_log_of_the_registry_holds_no_password(registry: RegistryServer) -> None:
    with registry.client() as client:
        client.check()
    log = (registry.folder.path / "read-write.log").read_text()
    assert re.search(r'"GET /v2/ HTTP/1.1" 200', log)
    assert registry.connection["password"] not in log
    assert json.dumps(registry.connection["password"]) not in log
