"""A real PostgreSQL of its own: started in a temporary folder on a free loopback port, stopped by its pid."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

_PACKAGE = "postgresql"
_USER = "evc"
_START_TIMEOUT_S = 60


class PostgresServer:
    """A server whose data lie in a temporary folder. :meth:`start` and :meth:`stop` it as often as a test likes."""

    host = "127.0.0.1"
    user = _USER

    def __init__(self, folder: Path, password: str, settings: Mapping[str, str] | None = None) -> None:
        self.folder, self.password, self._settings = folder, password, settings or {}
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        :raises RuntimeError: it does not; the message ends with its log
        """
        self._process = _spawn(self.folder, self.port, self._settings)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'server.log').read_text()[-2000:]}")

    def stop(self) -> None:
        """End it by its pid: connections are cut, what was committed stays."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)  # at once: its children end too
            process.wait(20)

    def limit_file_size(self, backend_pid: int, max_bytes: int) -> None:
        """Let the server process of one connection write no file beyond ``max_bytes``: to it the disk is full then.

        Not below a segment of the log, 1 MiB here: what can't write its log ends the whole server.
        """
        command = _as_owner("prlimit", "--pid", str(backend_pid), f"--fsize={max_bytes}:")
        subprocess.run(command, check=True, cwd=self.folder)

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of ``database``, password included."""
        return f"postgresql+psycopg://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Return an autocommit connection as the superuser."""
        return psycopg.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, dbname=database, autocommit=True
        )

    def create(self, database: str) -> None:
        """Create an empty database."""
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(database)))

    @contextmanager
    def database(self) -> Iterator[str]:
        """Create an empty database, yield its name, drop it with whoever is still connected."""
        name = f"evc_{secrets.token_hex(6)}"
        self.create(name)
        try:
            yield name
        finally:
            with self.connect() as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise RuntimeError(f"no /usr/lib/postgresql/*/bin/postgres: install the Debian package {_PACKAGE!r}")
    return found[-1].parent


def _as_owner(*command: str | Path) -> list[str]:
    """Return ``command`` to run as who may own a server, which root may not; it ends when this process does."""
    prefix = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() == 0:
        prefix += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return [*prefix, *(str(part) for part in command)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _own(path: Path) -> None:
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(path, owner.pw_uid, owner.pw_gid)


def _init(folder: Path, password: str) -> None:
    password_file = folder / "password"
    password_file.touch(0o600)
    password_file.write_text(password)
    _own(password_file)
    command = _as_owner(
        _binaries() / "initdb", "--pgdata", folder / "data", "--username", _USER, "--pwfile", password_file,
        "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--wal-segsize", "1",
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        raise RuntimeError(f"initdb ended with {done.returncode}: {done.stderr.strip()}")


def _spawn(folder: Path, port: int, own: Mapping[str, str]) -> subprocess.Popen[bytes]:
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "shared_buffers": "32MB",
        "max_wal_size": "64MB",
        "max_connections": 40,
        "jit": "off",
        **own,
    }
    command = _as_owner(_binaries() / "postgres", "-D", folder / "data")
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)


@contextmanager
def running_postgres(settings: Mapping[str, str] | None = None, kept: Path | None = None) -> Iterator[PostgresServer]:
    """Make a server, start it, yield it, stop it and delete its folder.

    :param settings: of ``postgresql.conf``, instead of those that suit tests
    :param kept: a folder that stays: with the server's data from the last time, or none yet
    :raises RuntimeError: its binaries are missing (names the Debian package), or it does not start
    """
    folder = kept or Path(tempfile.mkdtemp(prefix="evc-postgres-"))
    is_new = not (folder / "password").exists()
    password = secrets.token_urlsafe(12) if is_new else (folder / "password").read_text()
    server = PostgresServer(folder, password, settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_new:
            _own(folder)
            _init(folder, server.password)
        server.start()
        yield server
    finally:
        server.stop()
        if not kept:
            shutil.rmtree(folder)
