"""The folder in which everything the demo makes is kept, readable by its user alone."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

import asyncssh

from demo.process import Process, family, find, is_running, stop
from evc.errors import EvcError

PROJECT = Path(__file__).resolve().parent.parent


class DemoError(EvcError):
    """A part of the demo did not start or do its work."""


def write_private(path: Path, text: str) -> None:
    """Write ``text`` so that a reader, also after a crash, finds all of it or the file as it was; mode 0600."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


@dataclass(frozen=True, slots=True)
class State:
    """The state folder: ``EVC_STATE``, else ``.evc`` in the project."""

    folder: Path

    @property
    def key(self) -> Path:
        """Private key that opens every demo node."""
        return self.folder / "key"

    @property
    def hosts_ini(self) -> Path:
        """The inventory that the DAGs write."""
        return self.folder / "hosts.ini"

    @property
    def airflow_home(self) -> Path:
        return self.folder / "airflow"

    @property
    def passwords(self) -> Path:
        """What Airflow's simple auth manager reads logins from."""
        return self.folder / "passwords.json"

    def home(self, node: str) -> Path:
        """The home folder of who logs in to a node: what EVC leaves on a node does not land in the user's own."""
        return self.folder / "homes" / node

    @property
    def scenarios(self) -> Path:
        """Scenario files of the demo's own."""
        return self.folder / "scenarios"

    def log(self, part: str) -> Path:
        return self.folder / "logs" / f"{part}.log"

    def host_key(self, node: str) -> Path:
        return self.folder / "host_keys" / node

    def make_folders(self) -> None:
        """Make the folders that are missing. :raises DemoError: where that is not possible"""
        try:
            for folder in (
                self.folder,
                *(self.folder / name for name in ("airflow", "bin", "host_keys", "logs", "run", "scenarios")),
            ):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        except OSError as error:
            raise DemoError(f"state folder {self.folder}: {error.strerror}") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against another ``make demo`` or ``make demo-stop``. :raises DemoError: when one has it"""
        with (self.folder / "lock").open("w") as file:
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                raise DemoError("another make demo or make demo-stop is at work: wait for it, or end it") from None
            yield

    def record(self, part: str) -> dict[str, Any]:
        """Return what ``part`` wrote about itself when it started; empty where it never did, or nothing readable."""
        try:
            record = json.loads((self.folder / "run" / f"{part}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def launch(
        self, part: str, command: Sequence[str | Path], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start ``part`` in a session of its own, so that it outlives this process, and note which process it is."""
        with self.log(part).open("wb") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=PROJECT,
                env=environment,
                start_new_session=True,
            )
        process = find(child.pid)
        if process:
            self.write_record(part, asdict(process))
        return child

    def started(self, part: str) -> Process | None:
        """Return the process that ``part`` was started as, whether it still runs or not; None where it never was."""
        record = self.record(part)
        pid, started = record.get("pid"), record.get("started")
        return Process(pid, started) if isinstance(pid, int) and isinstance(started, str) else None

    def write_port(self, part: str, pid: int, port: int) -> None:
        """Note where process ``pid``, which is ``part``, listens."""
        self.write_record(f"{part}.port", {"pid": pid, "port": port})

    def running_port(self, part: str) -> int | None:
        """Return where ``part`` listens; None where it does not run, or has not said so yet."""
        known, record = self.started(part), self.record(f"{part}.port")
        port = record.get("port")
        if known and is_running(known) and record.get("pid") == known.pid and isinstance(port, int):
            return port
        return None

    def stop(self, *parts: str) -> int:
        """End ``parts`` with all that came of them; return how many processes that were.

        :raises DemoError: some would not end
        """
        roots = [root for part in parts if (root := self.started(part))]
        count = len(family(roots))
        left = stop(roots)
        if left:
            raise DemoError(f"these processes did not end: {' '.join(str(process.pid) for process in left)}")
        return count

    def log_end(self, part: str, lines: int) -> str:
        """Return the last lines that ``part`` printed."""
        return "\n".join(self.log(part).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-lines:])

    def write_record(self, part: str, record: dict[str, Any]) -> None:
        write_private(self.folder / "run" / f"{part}.json", json.dumps(record))

    def note_engine(self, socket: str | None) -> None:
        """Let the nodes know where this machine's Docker Engine is: they look at each request. None: there is none."""
        self.write_record("engine", {"socket": socket})

    def engine_socket(self) -> str | None:
        """Return what :meth:`note_engine` noted last."""
        found = self.record("engine").get("socket")
        return found if isinstance(found, str) else None

    def note_containers(self, socket: str) -> None:
        """Note that containers are started on an engine: it may be another one, or none, when they are to be ended."""
        self.write_record("containers", {"sockets": sorted({*self.engines_with_containers(), socket})})

    def engines_with_containers(self) -> list[str]:
        """Return the sockets of the engines on which the demo ever started containers."""
        found = self.record("containers").get("sockets")
        return [str(socket) for socket in found] if isinstance(found, list) else []

    def make_keys(self, nodes: tuple[str, ...]) -> None:
        """Make the keys that are missing: ours, and one host key for each node."""
        for path in (self.key, *map(self.host_key, nodes)):
            if not path.exists():
                write_private(path, asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode())

    def secrets(self) -> dict[str, str]:
        """Return Airflow's secrets and the admin's password, made once."""
        known = self.record("secrets")
        made = {
            "password": secrets.token_urlsafe(12),
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "jwt_secret": secrets.token_urlsafe(32),
            "api_secret": secrets.token_urlsafe(32),
        }
        if not made.keys() <= known.keys():
            self.write_record("secrets", made)
            known = made
        write_private(self.passwords, json.dumps({"admin": known["password"]}))
        return known


def default_state() -> State:
    """Return the state folder that the environment names, or the project's own, by the one name that it always has."""
    return State(Path(os.environ.get("EVC_STATE") or PROJECT / ".evc").resolve())
