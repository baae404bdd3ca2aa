"""A real OpenSSH server of its own: a temporary folder, a free loopback port, stopped by its pid."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from evc.fleet.nodes import Node

_PACKAGE = "openssh-server"
_PRIVILEGE_SEPARATION = Path("/run/sshd")


@dataclass(slots=True)
class SshServer:
    """A running sshd that lets the current user in with ``key_file``.

    :param address: it listens on this one; ``0.0.0.0`` answers on all of 127.0.0.0/8
    :param host_key: what it presents, ``TYPE BASE64``
    """

    folder: Path
    address: str
    port: int
    options: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None

    @property
    def key_file(self) -> Path:
        """The private key that it accepts."""
        return self.folder / "id"

    @property
    def host_key(self) -> str:
        """The public host key, ``TYPE BASE64``."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def user(self) -> str:
        """The only user it lets in."""
        return getpass.getuser()

    def node(self, name: str = "edge1", **more: object) -> Node:
        """Return a node that leads here."""
        given = {"name": name, "host": "127.0.0.1", "port": self.port, **more}
        return Node(**given)  # type: ignore[arg-type]  # a test says what it wants to differ

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [_binary(), "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"sshd did not start:\n{(self.folder / 'sshd.log').read_text()}")

    def stop(self) -> None:
        """Stop it and every session of it."""
        if self.process is None:
            return
        # from the top: a shell whose command is killed under it goes on to its next one
        for pid in [self.process.pid, *_descendants(self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def sessions(self) -> list[int]:
        """Return the pids of its sessions, and of what they run."""
        return _descendants(self.process.pid) if self.process else []

    def renew_host_key(self) -> None:
        """Be another machine from the next connection on."""
        for file in self.folder.glob("host_key*"):
            file.unlink()
        _keygen(self.folder / "host_key")

    def configure(self, *options: str) -> None:
        """Write the configuration, with more options than those it was made with."""
        (self.folder / "sshd_config").write_text("\n".join([*self._config(), *self.options, *options, ""]))

    def _config(self) -> Iterable[str]:
        return (
            f"ListenAddress {self.address}",
            f"Port {self.port}",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.folder / 'id.pub'}",
            "PidFile none",
            "StrictModes no",  # the temporary folder's parents may be open to others
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "MaxStartups 1000",
            "MaxSessions 100",
            "UseDNS no",
            "PrintMotd no",
            "Subsystem sftp internal-sftp",
        )


@contextmanager
def running_sshd(
    folder: Path, *options: str, address: str = "127.0.0.1", key_type: str = "ed25519"
) -> Iterator[SshServer]:
    """Start a server in ``folder``, yield it, stop it.

    :param options: more lines of sshd_config(5)
    """
    folder.mkdir(parents=True, exist_ok=True)
    _keygen(folder / "id")
    _keygen(folder / "host_key", key_type)
    if os.geteuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    server = SshServer(folder, address, free_port(), options)
    server.configure()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a loopback port on which nobody listens now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _binary() -> str:
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not found:
        raise RuntimeError(f"no sshd: install the Debian package {_PACKAGE!r}")
    return found


def _keygen(path: Path, key_type: str = "ed25519") -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", key_type, "-N", "", "-C", "", "-f", str(path)], check=True)


def _descendants(pid: int) -> list[int]:
    """Return the children of ``pid`` and theirs, each parent before its children."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = stat.read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(stat.parent.name))

    def below(of: int) -> list[int]:
        return [found for child in children.get(of, []) for found in (child, *below(child))]

    return below(pid)
