"""The private registry over HTTPS: what it holds, which digest a tag leads to, what an image is, and deleting it.

Source: OCI distribution specification 1.1; Docker Registry HTTP API V2 for ``/v2/_catalog`` and ``docker`` media types.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import urljoin

import httpx

from evc.errors import ImageNotFound, InputError, RegistryAway, RegistryError, RegistryRefused
from evc.fleet.images import check_digest, check_repository, check_tag
from evc.fleet.nodes import few
from evc.fleet.progress import Layer

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
PAGE = 100
MAX_DOCUMENT_BYTES = 8 * 2**20  # registries refuse manifests beyond 4 MiB
CONCURRENCY = 8

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_ACCEPT = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}

_RENEW = "run `evc registry init` in its folder, which renews the certificate, and start the registry again"
# X509_V_ERR_*: x509_vfy.h of OpenSSL
_UNTRUSTED = {
    9: "its certificate is not valid yet: is this machine's clock right?",
    10: f"its certificate has expired: {_RENEW}",
    62: "its certificate is not for this name: `evc registry init --name ...` with every name it is reached by",
    64: "its certificate is not for this address: `evc registry init --name ...` with every address it is reached by",
}
_OTHER_AUTHORITY = "its certificate is not signed by the authority in ca_path: is that the ca.crt of this registry?"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the registry tells of one digest.

    :param size_bytes: compressed, what a pull transfers: layers and configuration; of an index, its largest image
    :param platform: e.g. ``linux/arm64``; of an index, all of them, parted by commas
    :param created_ts: unix seconds; None where the image does not say
    :param labels: of the image's configuration; of an index, its annotations over the labels of its first image
    """

    digest: str
    size_bytes: int
    platform: str | None = None
    created_ts: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class RegistryClient:
    """Speaks to one face of the registry. Use it as a context manager; its methods may be called by several threads.

    Errors: ``RegistryAway`` where a retry may help, ``RegistryRefused`` where it refuses the account or its certificate
    is not trusted, ``ImageNotFound``, and ``RegistryError`` where it does not speak as the specification says. None
    shows the password.

    :param address: ``host:port``
    :param ca_file: PEM of the authority to trust, and no other; None: those that the system trusts
    :param transport: in place of the network, for tests
    :raises InputError: ``ca_file`` can't be read
    """

    def __init__(
        self,
        address: str,
        login: str,
        password: str,
        ca_file: str | Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.address = address
        self.login = login
        self.certificate_expires: datetime | None = None
        """Of the certificate that the last answer came with, UTC."""
        self._http = httpx.Client(
            base_url=f"https://{address}",
            auth=httpx.BasicAuth(login, password),
            verify=_trust(ca_file),
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=CONCURRENCY),
            trust_env=False,  # a proxy or a .netrc of the environment is not meant for it
            transport=transport,
        )

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    # -- what it holds ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Return where the registry answers and lets the account in."""
        self._get("/v2/", "look-up")

    def repositories(self) -> list[str]:
        """Return every repository that it ever held; some may hold no image any more."""
        return [self._name(name) for name in self._pages("/v2/_catalog", "catalogue", "repositories")]

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository, sorted; none where all its images were deleted.

        :raises ImageNotFound: no such repository
        """
        path = f"/v2/{check_repository('repository', repository)}/tags/list"
        return sorted({self._tag(tag) for tag in self._pages(path, f"repository {repository}", "tags")})

    def resolve(self, repository: str, reference: str) -> str:
        """Return the digest that ``reference`` leads to.

        :param reference: a tag, or a digest: then whether it is there
        :raises ImageNotFound: no such repository, tag or digest
        """
        what = _spoken(repository, reference)
        answer = self._ask("HEAD", _manifest_path(repository, reference), what, _ACCEPT)
        try:
            digest = check_digest("digest", answer.headers.get("Docker-Content-Digest"))
        except InputError:
            self._strange(what, "names no digest")
        if ":" in reference and digest != reference:
            self._strange(what, f"names another digest, {digest}")
        return digest

    def find(self, repository: str, reference: str) -> str:
        """Return what :meth:`resolve` does.

        :raises ImageNotFound: the message says what there is in its place
        """
        try:
            return self.resolve(repository, reference)
        except ImageNotFound as error:
            raise ImageNotFound(f"{error}; {self._choice(repository)}") from None

    def _choice(self, repository: str) -> str:
        try:
            tags = self.tags(repository)
        except ImageNotFound:
            return f"the registry has: {few(self.repositories())}"
        return f"{repository} has: {few(tags)}"

    def tagged(self, repository: str) -> dict[str, str]:
        """Return the digest of each tag of a repository; a tag that goes meanwhile is left out.

        :raises ImageNotFound: no such repository
        """

        def digest_of(tag: str) -> str | None:
            try:
                return self.resolve(repository, tag)
            except ImageNotFound:
                return None

        tags = self.tags(repository)
        with ThreadPoolExecutor(CONCURRENCY) as threads:
            digests = list(threads.map(digest_of, tags))
        return {tag: digest for tag, digest in zip(tags, digests, strict=True) if digest}

    def facts(self, repository: str, digest: str) -> ImageFacts:
        """Return what its manifest and configuration tell.

        :raises ImageNotFound: no such digest in that repository
        """
        manifest = self._manifest(repository, digest)
        if "manifests" in manifest:
            return self._facts_of_index(repository, digest, manifest)
        return self._facts_of_image(repository, digest, manifest)

    def layers(self, repository: str, digest: str) -> dict[str, list[Layer]]:
        """Return the layers of an image, lowest first, by architecture as images name it (``arm64``).

        Images for other systems than Linux, and those that do not say for what they are, are left out.

        :raises ImageNotFound: no such digest in that repository
        """
        manifest = self._manifest(repository, digest)
        images = [manifest]
        if "manifests" in manifest:
            entries = [entry for entry in manifest["manifests"] if isinstance(entry, dict)]
            images = [self._manifest(repository, str(entry.get("digest"))) for entry in entries]
        found: dict[str, list[Layer]] = {}
        for image in images:
            architecture, layers = self._layers(repository, digest, image)
            if architecture:
                found.setdefault(architecture, layers)
        return found

    def _layers(self, repository: str, digest: str, manifest: Mapping[str, Any]) -> tuple[str | None, list[Layer]]:
        what = _spoken(repository, digest)
        try:
            config_digest = check_digest("config", manifest["config"]["digest"])
            config = self._document(
                f"/v2/{repository}/blobs/{config_digest}", f"configuration of {what}", config_digest
            )
            diff_ids = [str(diff_id) for diff_id in (config.get("rootfs") or {}).get("diff_ids") or ()]
            blobs = [(str(layer["digest"]), int(layer["size"])) for layer in manifest["layers"]]
        except (LookupError, TypeError, ValueError, AttributeError, InputError):
            self._strange(what, "is not a manifest that EVC knows")
        if config.get("os") != "linux" or not isinstance(config.get("architecture"), str):
            return None, []
        padded = [*diff_ids, *[None] * len(blobs)]
        layers = [Layer(blob, size, diff_id) for (blob, size), diff_id in zip(blobs, padded, strict=False)]
        return str(config["architecture"]), layers

    # -- changing it -----------------------------------------------------------------------------------------------

    def delete(self, repository: str, digest: str) -> bool:
        """Delete a manifest and every tag that leads to it; False where it is not there.

        Its space comes back with the registry's next garbage collection.

        :raises RegistryRefused: this face does not delete
        """
        check_digest("digest", digest)
        try:
            self._ask("DELETE", _manifest_path(repository, digest), f"deletion of {_spoken(repository, digest)}")
        except ImageNotFound:
            return False
        return True

    # -- documents -------------------------------------------------------------------------------------------------

    def _facts_of_image(self, repository: str, digest: str, manifest: Mapping[str, Any]) -> ImageFacts:
        what = _spoken(repository, digest)
        try:
            reference = manifest["config"]
            size = int(reference["size"]) + sum(int(layer["size"]) for layer in manifest["layers"])
            config_digest = check_digest("config", reference["digest"])
        except (LookupError, TypeError, ValueError, InputError):
            self._strange(what, "is not a manifest that EVC knows")
        path = f"/v2/{repository}/blobs/{config_digest}"
        config = self._document(path, f"configuration of {what}", config_digest)
        settings = config.get("config")
        labels = settings.get("Labels") if isinstance(settings, dict) else None
        return ImageFacts(digest, size, _platform(config), _timestamp(config.get("created")), _texts(labels))

    def _facts_of_index(self, repository: str, digest: str, index: Mapping[str, Any]) -> ImageFacts:
        what = _spoken(repository, digest)
        try:
            images = [
                check_digest("manifest", entry["digest"])
                for entry in index["manifests"]
                # what builders attach to an image, e.g. its provenance, is listed like one
                if (entry.get("platform") or {}).get("architecture") != "unknown"
            ]
        except (LookupError, TypeError, AttributeError, InputError):
            self._strange(what, "is not an index that EVC knows")
        facts = [self._facts_of_image(repository, image, self._manifest(repository, image)) for image in images]
        platforms = sorted({one.platform for one in facts if one.platform})
        first = facts[0] if facts else ImageFacts(digest, 0)
        labels = {**first.labels, **_texts(index.get("annotations"))}
        size = max((one.size_bytes for one in facts), default=0)
        return ImageFacts(digest, size, ",".join(platforms) or None, first.created_ts, labels)

    def _manifest(self, repository: str, digest: str) -> dict[str, Any]:
        check_digest("digest", digest)
        return self._document(_manifest_path(repository, digest), _spoken(repository, digest), digest, _ACCEPT)

    def _document(self, path: str, what: str, digest: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        content = self._get(path, what, headers).content
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            self._strange(what, "is not what its digest says")
        return self._json(content, what)

    def _pages(self, path: str, what: str, key: str) -> Iterator[str]:
        """Yield the names of a list, page by page (``Link: <...>; rel="next"``)."""
        url: str | None = f"{path}?n={PAGE}"
        seen = set()
        while url:
            if url in seen:
                self._strange(what, "repeats its pages without end")
            seen.add(url)
            answer = self._get(url, what)
            names = self._json(answer.content, what).get(key)
            yield from names or ()
            url = self._next(answer, what) if names else None

    def _next(self, answer: httpx.Response, what: str) -> str | None:
        link = re.match(r'\s*<([^>]*)>\s*;\s*rel="?next"?', answer.headers.get("Link", ""))
        if not link:
            return None
        url = httpx.URL(urljoin(str(answer.url), link[1]))
        # the account goes to this registry and nowhere else
        if (url.scheme, url.netloc) != (answer.url.scheme, answer.url.netloc):
            self._strange(what, "goes on at another server")
        return url.raw_path.decode("ascii")

    def _json(self, content: bytes, what: str) -> dict[str, Any]:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            self._strange(what, "is not a JSON object")
        return document

    def _name(self, name: object) -> str:
        try:
            return check_repository("repository", name)
        except InputError as error:
            self._strange("catalogue", error.wrong)

    def _tag(self, tag: object) -> str:
        try:
            return check_tag("tag", tag)
        except InputError as error:
            self._strange("list of tags", error.wrong)

    # -- requests --------------------------------------------------------------------------------------------------

    def _get(self, path: str, what: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self._ask("GET", path, what, headers)

    def _ask(self, method: str, path: str, what: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        try:
            with self._http.stream(method, path, headers=headers) as answer:
                self._note_certificate(answer)
                content = bytearray()
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > MAX_DOCUMENT_BYTES:
                        self._strange(what, f"is longer than {MAX_DOCUMENT_BYTES} bytes")
        except httpx.HTTPError as error:
            raise self._why(error) from None
        whole = httpx.Response(
            answer.status_code, headers=_plain(answer.headers), content=bytes(content), request=answer.request
        )
        if not whole.is_success:
            self._refuse(whole, what)
        return whole

    def _note_certificate(self, answer: httpx.Response) -> None:
        stream = answer.extensions.get("network_stream")
        tls = stream.get_extra_info("ssl_object") if stream else None
        certificate = tls.getpeercert() if tls else None
        if certificate:
            expires_ts = ssl.cert_time_to_seconds(certificate["notAfter"])
            self.certificate_expires = datetime.fromtimestamp(expires_ts, UTC)

    def _refuse(self, answer: httpx.Response, what: str) -> NoReturn:
        status = answer.status_code
        if status == 404:
            raise ImageNotFound(f"registry {self.address}: {what}: there is none")
        if status in (401, 403):
            raise RegistryRefused(
                f"registry {self.address}: refused the account {self.login!r} ({status}): the connection needs login "
                "and password of connection.json in the registry's folder; `evc registry init --new-password` makes "
                "new ones"
            )
        if status == 405:
            raise RegistryRefused(
                f"registry {self.address}: {what}: not allowed on this face (405): the connection's port must be that "
                "of the read-write face, whose configuration has storage.delete.enabled"
            )
        if status in (408, 429) or status >= 500:
            raise RegistryAway(f"registry {self.address}: {what}: {status}{_words(answer)}")
        raise RegistryError(f"registry {self.address}: {what}: {status}{_words(answer)}")

    def _why(self, error: httpx.HTTPError) -> RegistryError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return RegistryRefused(
                    f"registry {self.address}: {_UNTRUSTED.get(cause.verify_code, _OTHER_AUTHORITY)}"
                    f" ({cause.verify_message})"
                )
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, httpx.TimeoutException):
            return RegistryAway(f"registry {self.address}: does not answer in time")
        reason = _one_line(str(error)) or type(error).__name__
        return RegistryAway(f"registry {self.address}: does not answer ({reason}): is it running?")

    def _strange(self, what: str, wrong: str) -> NoReturn:
        raise RegistryError(f"registry {self.address}: {what}: the answer {wrong}")


def _trust(ca_file: str | Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except ssl.SSLError:
        wrong = "is not a certificate"
    except OSError as error:
        wrong = str(error.strerror)
    raise InputError("ca_path", f"{ca_file}: {wrong}", "the ca.crt that `evc registry init` made") from None


def _plain(headers: httpx.Headers) -> Sequence[tuple[str, str]]:
    """Return ``headers`` without the encoding that was undone."""
    return [
        (name, value) for name, value in headers.multi_items() if name not in {"content-encoding", "content-length"}
    ]


def _manifest_path(repository: str, reference: str) -> str:
    check_repository("repository", repository)
    if ":" in reference:
        check_digest("digest", reference)
    else:
        check_tag("tag", reference)
    return f"/v2/{repository}/manifests/{reference}"


def _spoken(repository: str, reference: str) -> str:
    return f"{repository}{'@' if ':' in reference else ':'}{reference}"


def _platform(config: Mapping[str, Any]) -> str | None:
    parts = [config.get(key) for key in ("os", "architecture", "variant")]
    return "/".join(str(part) for part in parts if part) or None


def _timestamp(text: object) -> int | None:
    """Return unix seconds of an RFC 3339 time; those before 1970 are nobody's, builders write them for "unknown"."""
    try:
        moment = datetime.fromisoformat(re.sub(r"\.\d+", "", str(text)))
    except ValueError:
        return None
    ts = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return ts if ts > 0 else None


def _texts(labels: object) -> dict[str, str]:
    found = labels.items() if isinstance(labels, dict) else ()
    return {name: value for name, value in found if isinstance(name, str) and isinstance(value, str)}


def _words(answer: httpx.Response) -> str:
    """Return what the registry says of an error, as `` (...)``; nothing where it says nothing."""
    try:
        words = answer.json()["errors"][0]["message"]
    except (ValueError, LookupError, TypeError):
        return ""
    return f" ({_one_line(str(words))})"


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else f"{line[:200]}..."
