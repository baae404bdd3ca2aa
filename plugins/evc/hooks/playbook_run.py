"""One run of a playbook through ansible-runner, in a folder of its own that is gone afterwards. Imports no Airflow.

The inventory is made for the run, from nodes and their logins. Neither ``ansible.cfg``, ``~/.ssh/config``, an ssh agent
nor the environment of whoever runs Airflow has a say. No secret is in an argument or in the environment of a process:
what Ansible needs of them lies in files of mode 0600 in a folder of mode 0700.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evc.errors import CredentialsError, InputError, PlaybookFailed, Stopped
from evc.fleet import inventory, openssh
from evc.fleet.log import Log
from evc.fleet.nodes import Node, jump_path, quote
from evc.fleet.openssh import Login
from evc.fleet.playbooks import HostResult, Progress, Report, Status
from evc.hooks.guard import PID_FILE
from evc.ssh.credentials import Credentials

PREFIX = "evc-playbook-"
FORKS = 20
TIMEOUT_S = 600.0
_POLL_S = 0.2
_MAX_TEMPORARY = 45  # of the folder's path: below it are sockets, whose paths may have 107 bytes
_GUARD = Path(__file__).with_name("guard.py")
# the system's own first: a version manager's shim in a login's PATH may be no Python at all
_PYTHONS = [
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "python3",
    "/usr/bin/python3.12",
    "/usr/libexec/platform-python",
]
_TASKS_IN_TIME = 4
"""Where a run has several hosts, one task may take this part of its time: a host that hangs is one that failed."""
_KEEPALIVE = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")


@dataclass(frozen=True, slots=True)
class Job:
    """What is run, and where.

    :param playbook: absolute path
    :param nodes: its hosts; one whose login can't be used, or whose way is broken, is a result like any other
    :param registered: every registered node by name, for the way through jump nodes
    :param variables: extra vars, the same for all hosts; texts stay as they are, whatever braces they hold
    :param secrets: more of them, which no line of the log may show
    :param host_secrets: variables of single hosts, by name of the node, secret too
    :param forks: on how many hosts at a time
    :param timeout_s: for all of it; where there are several nodes, a quarter of it for a single task
    """

    playbook: Path
    nodes: Sequence[Node]
    registered: Mapping[str, Node]
    variables: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)
    host_secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    forks: int = FORKS
    timeout_s: float = TIMEOUT_S


class PlaybookRun:
    """Runs a :class:`Job`, once.

    :param credentials_of: raises ``CredentialsError``
    :param log: a line for each host and task as it happens
    """

    def __init__(
        self, job: Job, credentials_of: Callable[[str], Credentials], log: Log, *, connect_timeout_s: float = 10
    ) -> None:
        self.job, self.log = job, log
        self._credentials_of = credentials_of
        self._connect_timeout_s = connect_timeout_s
        self._folder: Path | None = None
        self._is_stopped = False
        self._is_late = False

    def run(self) -> Report:
        """Run it to its end. What a host did not do is data.

        :raises PlaybookFailed: Ansible itself failed, e.g. at the syntax of the playbook, or was not over in time
        :raises Stopped: :meth:`stop` was called
        """
        hosts, unusable = self._hosts()
        secrets = _texts([self.job.secrets, self.job.host_secrets])
        progress = Progress(
            lambda line: self.log.info("%s", line), lambda line: self.log.error("%s", line), secrets=secrets
        )
        for result in unusable.values():
            self.log.error("%s", result)
        if hosts:
            self._check_stopped()
            with private_folder() as folder:
                self._folder = folder
                try:
                    self._write(folder, hosts)
                    self._execute(folder, progress, len(hosts))
                finally:
                    self._folder = None
            self._judge(progress)
        results = unusable | progress.results(node.name for node in hosts)
        return Report(
            self.job.playbook.stem, {node.name: results[node.name] for node in self.job.nodes}, progress.data()
        )

    def stop(self) -> None:
        """End Ansible and everything it started on this machine; may be called from a signal handler or a thread."""
        self._is_stopped = True
        self._signal()

    # -- before ----------------------------------------------------------------------------------------------------

    def _hosts(self) -> tuple[list[Node], dict[str, HostResult]]:
        """Return the nodes that Ansible can be told to reach, and results for the others."""
        hosts: list[Node] = []
        unusable: dict[str, HostResult] = {}
        for node in self.job.nodes:
            try:
                path = jump_path(node, self.job.registered)
                openssh.check_length(path)
                for step in (*path, node):
                    self._credentials_of(step.conn_id)
            except (InputError, CredentialsError) as error:
                unusable[node.name] = HostResult(node.name, Status.UNREACHABLE, False, None, str(error))
            else:
                hosts.append(node)
        return hosts, unusable

    def _write(self, folder: Path, hosts: Sequence[Node]) -> None:
        nodes = {**self.job.registered, **{node.name: node for node in hosts}}
        steps = {step.name: step for node in hosts for step in (*jump_path(node, nodes), node)}
        logins = {conn_id: self._login(folder, conn_id) for conn_id in {step.conn_id for step in steps.values()}}
        place = folder / "inventory"
        _write(folder / "known_hosts", openssh.known_hosts(steps.values()))
        names = {node.name for node in hosts}
        text = inventory.render(steps.values(), logins, str(folder / "known_hosts"), only=names)
        _write(place / "hosts.ini", text)
        _write(place / "group_vars" / "all.json", json.dumps({"ansible_interpreter_python_fallback": _PYTHONS}))
        for node in hosts:
            variables = dict(self.job.host_secrets.get(node.name, {}))
            password = self._credentials_of(node.conn_id).password
            if password:
                variables["ansible_become_password"] = password  # for sudo, where it asks
            if variables:
                _write(place / "host_vars" / f"{node.name}.json", json.dumps(inventory.untemplated(variables)))
        _write(folder / "env" / "settings", json.dumps({"pexpect_timeout": _POLL_S, "suppress_output_file": True}))
        extra = {**self.job.variables, **self.job.secrets}
        if extra:
            _write(folder / "env" / "extravars", json.dumps(inventory.untemplated(extra)))
        _write(folder / "ansible.cfg", "")

    def _login(self, folder: Path, conn_id: str) -> Login:
        """Write what a login needs, and the program that stands for ``ssh`` with it."""
        credentials = self._credentials_of(conn_id)
        place = folder / "logins" / hashlib.sha256(conn_id.encode()).hexdigest()[:32]
        key_file: Path | None = None
        if credentials.keys:
            # decrypted, and a copy: ssh would ask for the passphrase, and refuses a file that others may read
            key_file = place / "key"
            _write(key_file, credentials.keys[0].export_private_key("openssh").decode())
        said = ["BatchMode=yes"]
        lines = ["#!/bin/sh"]
        if credentials.password:
            _write(place / "password", credentials.password + "\n")
            _write(place / "askpass", f"#!/bin/sh\nexec cat {shlex.quote(str(place / 'password'))}\n", 0o700)
            lines.append(
                f"export SSH_ASKPASS={shlex.quote(str(place / 'askpass'))} SSH_ASKPASS_REQUIRE=force DISPLAY=:0"
            )
            methods = ["publickey", "password", "keyboard-interactive"][0 if key_file else 1 :]
            said = ["BatchMode=no", "NumberOfPasswordPrompts=1", f"PreferredAuthentications={','.join(methods)}"]
            said += ["PasswordAuthentication=yes", "KbdInteractiveAuthentication=yes"]
        options = ["-F", "none", *_KEEPALIVE, *(part for option in said for part in ("-o", option))]
        lines.append(f'exec ssh {shlex.join(options)} "$@"')
        program = place / "ssh"
        _write(program, "\n".join([*lines, ""]), 0o700)
        return Login(
            credentials.login,
            str(key_file) if key_file else None,
            program=str(program),
            is_batch=not credentials.password,
        )

    def _environment(self, folder: Path) -> dict[str, str]:
        """Return all that Ansible sees of this process."""
        from ansible_runner.config._base import get_callback_dir  # noqa: PLC0415  heavy

        sockets = folder / "c"
        sockets.mkdir(mode=0o700)
        return {
            "PATH": os.defpath,
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_CALLBACK_PLUGINS": get_callback_dir(),
            "ANSIBLE_STDOUT_CALLBACK": "awx_display",
            "ANSIBLE_INVENTORY_ENABLED": "ini",
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "ANSIBLE_NOCOLOR": "True",
            "ANSIBLE_DEPRECATION_WARNINGS": "False",
            "ANSIBLE_GATHERING": "explicit",
            "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
            "ANSIBLE_TIMEOUT": str(max(1, round(self._connect_timeout_s))),
            # no file of a module, with its arguments, on the node's disk; and half the round trips
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_SSH_TRANSFER_METHOD": "piped",  # through the ssh that is given: a node may have no sftp-server
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
            "ANSIBLE_CACHE_PLUGIN": "memory",
        }

    # -- while -----------------------------------------------------------------------------------------------------

    def _execute(self, folder: Path, progress: Progress, count: int) -> None:
        from ansible_runner import Runner, RunnerConfig  # noqa: PLC0415  heavy

        config = RunnerConfig(
            private_data_dir=str(folder),
            playbook=str(self.job.playbook),
            inventory=str(folder / "inventory"),
            forks=self.job.forks,
            quiet=True,
            fact_cache_type=None,
        )
        config.prepare()
        theirs = {key: config.env[key] for key in ("AWX_ISOLATED_DATA_DIR", "RUNNER_OMIT_EVENTS") if key in config.env}
        config.env = theirs | {"RUNNER_ONLY_FAILED_EVENTS": "False"} | self._environment(folder)
        if count > 1:  # all wait for the slowest at each task: it must not use up the time of all
            config.env["ANSIBLE_TASK_TIMEOUT"] = str(max(1, round(self.job.timeout_s / _TASKS_IN_TIME)))
        ansible = str(Path(sys.executable).with_name("ansible-playbook"))
        guarded = [sys.executable, "-I", "-S", str(_GUARD), str(folder), str(os.getpid())]
        config.command = [*guarded, sys.executable, ansible, *config.command[1:]]

        def take(event: dict[str, Any]) -> bool:
            progress.take(event)
            return False  # not kept in a file: it may hold what no_log does not cover

        started = time.monotonic()

        def check() -> bool:
            if not self._is_stopped and time.monotonic() - started > self.job.timeout_s:
                self._is_late = True
            if self._is_stopped or self._is_late:
                self._signal()
            return False  # the guard ends all of it; the library's SIGKILL would reach only a part

        Runner(config, event_handler=take, cancel_callback=check, remove_partials=True).run()

    def _signal(self) -> None:
        folder = self._folder
        if folder is not None:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((folder / PID_FILE).read_text()), signal.SIGTERM)

    # -- after -----------------------------------------------------------------------------------------------------

    def _check_stopped(self) -> None:
        if self._is_stopped:
            raise Stopped(f"{self.job.playbook.stem}: stopped before its end")

    def _judge(self, progress: Progress) -> None:
        self._check_stopped()
        if self._is_late:
            raise PlaybookFailed(f"{self.job.playbook.stem}: not over within {self.job.timeout_s:g} s; stopped")
        if not progress.is_complete:
            raise PlaybookFailed(f"{self.job.playbook.stem}: Ansible: {progress.crash()}")


def check_playbook(folder: Path, name: str) -> Path:
    """Return the path of a playbook by its name, with or without ``.yaml``.

    :raises InputError: not the name of one in ``folder``
    """
    there = sorted(path.stem for path in folder.glob("*.yaml"))
    stem = name.removesuffix(".yaml")
    if stem not in there:
        where = f"[evc] playbooks_folder {folder}"
        raise InputError(
            "playbook", f"{quote(name)} is not one", f"{', '.join(there)} (in {where})" if there else where
        )
    return (folder / f"{stem}.yaml").absolute()


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a new folder of mode 0700, removed afterwards; what killed processes left behind is removed first."""
    base = tempfile.gettempdir()
    base = base if len(base) + len(PREFIX) + 8 <= _MAX_TEMPORARY else "/tmp"  # noqa: S108
    _remove_leftovers(Path(base))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as long as this process lives
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _remove_leftovers(base: Path) -> None:
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if status.st_uid != os.getuid() or time.time() - status.st_mtime < 1:
                continue  # another user's, or one that is just being made
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
