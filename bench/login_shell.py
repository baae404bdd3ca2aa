"""The login shell of the nodes that sshd plays here.

A node's cost must not depend on what the shell profile of whoever runs the bench happens to load. sshd takes the login
shell from ``/etc/passwd``, so the bench runs in a mount namespace of its own where a copy stands in for that file: the
system's file stays as it is, and the copy can be changed between measurements.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

PLAIN_SHELL = "/bin/sh"
_HOME = "/"
_COPY = "EVC_BENCH_PASSWD"
_SCRIPT = 'mount --bind "$EVC_BENCH_PASSWD" /etc/passwd && exec "$@"'


def enter_private_view(arguments: list[str]) -> None:
    """Start this program anew where :func:`set_login_shell` works; do nothing where it does so already, or can't."""
    if _COPY in os.environ:
        return
    descriptor, copy = tempfile.mkstemp(prefix="evc-bench-passwd-")
    os.fchmod(descriptor, 0o644)
    os.write(descriptor, Path("/etc/passwd").read_bytes())
    os.close(descriptor)
    command = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid():
        command += ["--user", "--map-current-user", "--keep-caps"]
    command += ["sh", "-c", _SCRIPT, "sh"]
    environment = {**os.environ, _COPY: copy}
    try:
        tried = subprocess.run([*command, "true"], env=environment, capture_output=True, check=False).returncode
    except FileNotFoundError:
        tried = 1
    if tried:
        Path(copy).unlink()
        return
    os.execvpe(command[0], [*command, sys.executable, "-m", "bench", *arguments], environment)  # noqa: S606


def leave_private_view() -> None:
    """Delete the copy; the view ends with this process."""
    copy = os.environ.pop(_COPY, None)
    if copy:
        Path(copy).unlink(missing_ok=True)


def set_login_shell(shell: str) -> bool:
    """Give the current user another login shell and a home without a profile, as this process and its children see it.

    Returns whether the user has that shell now.
    """
    user = pwd.getpwuid(os.getuid())
    copy = os.environ.get(_COPY)
    if copy:
        lines = Path(copy).read_text(encoding="utf-8").splitlines()
        changed = [
            ":".join([*line.split(":")[:5], _HOME, shell]) if line.startswith(f"{user.pw_name}:") else line
            for line in lines
        ]
        with Path(copy).open("r+", encoding="utf-8") as file:  # the same file: a mount holds on to it
            file.write("\n".join([*changed, ""]))
            file.truncate()
    return pwd.getpwuid(os.getuid()).pw_shell == shell


def login_shell() -> str:
    """Return the login shell of the current user."""
    return pwd.getpwuid(os.getuid()).pw_shell
