"""Everything EVC raises on purpose.

::

    EvcError
    ├── InputError            what a user gave is wrong; nothing was changed
    ├── ParseError            an answer of a node is not what its source promises
    ├── CredentialsError      a login of ours is missing or unreadable: our fault, not a node's
    ├── NodeError             one node did not do what was asked: data about that node
    │   ├── NodeUnreachable   no TCP connection, no SSH, or no jump node
    │   ├── NodeTimeout       it accepted, then did not answer in time
    │   ├── LoginRefused      it refused user or key
    │   ├── HostKeyChanged    it is not the machine that was pinned
    │   ├── ConnectionCut     the connection ended before the answer did
    │   ├── EngineError       its Docker Engine refused or failed
    │   │   ├── EngineAway    no engine answers on the node, or the login may not use it
    │   │   ├── PullFailed    an image did not arrive
    │   │   └── ContainerFailed  a container did not start, did not become healthy, or died
    │   └── NodeRefused       preflight: the node is not fit for what was asked
    ├── RegistryError         the private registry
    │   ├── RegistryAway      it does not answer: worth a retry
    │   ├── RegistryRefused   it refused the account, or our trust in its certificate failed
    │   └── ImageNotFound     it has no such repository, tag or digest
    ├── PlaybookFailed        Ansible: at least one host failed or was not reached
    ├── BuildFailed           the builder could not make the image
    ├── RolloutFailed         a roll-out ended without having reached its goal
    ├── ScenarioFailed        a scenario's run ended, and not every node or step got through
    ├── DatabaseError         the metrics database
    │   ├── DatabaseAway      not there, locked or full: worth a retry
    │   ├── DatabaseReadOnly  it may be read only
    │   └── SchemaMismatch    its tables are of another version of EVC
    ├── SpoolError            samples could not be kept on disk
    ├── NoticeFailed          people could not be told of events
    ├── GeocodingError        the geocoding service did not answer
    └── Stopped               someone told the task to end before its work was done
"""

from __future__ import annotations


class EvcError(Exception):
    """The root of the tree: ``str()`` of any of these is one line fit for an operator."""


class InputError(EvcError):
    """What a user gave is wrong.

    :param where: the parameter, file or line, e.g. ``"name"`` or ``"hosts.ini:12"``
    :param wrong: what is wrong with it, quoting the value safely
    :param allowed: what would be right
    """

    def __init__(self, where: str, wrong: str, allowed: str) -> None:
        super().__init__(f"{where}: {wrong}; allowed: {allowed}")
        self.where, self.wrong, self.allowed = where, wrong, allowed


class ParseError(EvcError):
    """An answer of a node is not what its source promises."""


class CredentialsError(EvcError):
    """A login of ours is missing or unreadable. The message names the connection, never the secret."""


class NodeError(EvcError):
    """One node did not do what was asked. The caller decides whether that is a failure."""


class NodeUnreachable(NodeError):
    """No TCP connection, no SSH behind the port, or no jump node."""


class NodeTimeout(NodeError):
    """The node accepted, then did not answer in time."""


class LoginRefused(NodeError):
    """The node refused the user or the key."""


class HostKeyChanged(NodeError):
    """The node presents another host key than the one pinned.

    :param expected: fingerprint that is pinned, ``SHA256:...``
    :param presented: fingerprint that came
    """

    def __init__(self, node: str, expected: str, presented: str) -> None:
        super().__init__(f"{node}: host key changed: pinned {expected}, presented {presented}")
        self.expected, self.presented = expected, presented


class ConnectionCut(NodeError):
    """The connection ended before the answer did."""


class EngineError(NodeError):
    """A node's Docker Engine refused or failed.

    ``status`` is the HTTP status of its answer, None where there was none.
    """

    status: int | None = None


class EngineAway(EngineError):
    """No engine answers on the node, or the login may not use it."""


class PullFailed(EngineError):
    """An image did not arrive on the node."""


class ContainerFailed(EngineError):
    """A container did not start, did not become healthy, or died."""


class NodeRefused(NodeError):
    """Preflight: the node is not fit for what was asked; the message says why and what to do. Nothing was changed.

    :ivar checks: which checks refused, e.g. ``("disk", "architecture")``
    :ivar may_pass: every reason can be over by itself, as when the registry is away: worth a try later
    """

    checks: tuple[str, ...] = ()
    may_pass: bool = False


class RegistryError(EvcError):
    """The private registry."""


class RegistryAway(RegistryError):
    """It does not answer: worth a retry."""


class RegistryRefused(RegistryError):
    """It refused the account, or its certificate is not one that is trusted."""


class ImageNotFound(RegistryError):
    """It has no such repository, tag or digest."""


class PlaybookFailed(EvcError):
    """Ansible: at least one host failed or was not reached."""


class BuildFailed(EvcError):
    """The builder could not make the image."""


class RolloutFailed(EvcError):
    """A roll-out ended without having reached its goal."""


class ScenarioFailed(EvcError):
    """A scenario's run ended, and not every node or step got through."""


class DatabaseError(EvcError):
    """The metrics database."""


class DatabaseAway(DatabaseError):
    """Not there, locked or full: worth a retry."""


class DatabaseReadOnly(DatabaseError):
    """It may be read only."""


class SchemaMismatch(DatabaseError):
    """Its tables are of another version of EVC than this one."""


class SpoolError(EvcError):
    """Samples could not be kept on disk."""


class Stopped(EvcError):
    """Someone told the task to end before its work was done: a person in the UI, or a worker that shuts down."""


class NoticeFailed(EvcError):
    """People could not be told of events."""


class GeocodingError(EvcError):
    """The geocoding service did not answer, or not in its format."""
