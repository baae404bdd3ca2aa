"""tools/environment.sh and tests/packages.sh where something is missing, broken or unfinished."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Machine:
    """A folder as the project's, and a PATH on which only chosen programs are."""

    project: Path
    programs: Path

    def link(self, *names: str) -> None:
        for name in names:
            found = shutil.which(name)
            assert found, name
            (self.programs / name).symlink_to(found)

    def stub(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, script: Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.programs), "HOME": str(self.project)}
        return subprocess.run(
            ["/bin/sh", script],
            cwd=self.project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def set_up(self) -> subprocess.CompletedProcess[str]:
        return self.run(PROJECT / "tools/environment.sh")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "project", tmp_path / "bin")
    made.project.mkdir()
    made.programs.mkdir()
    (made.project / "pyproject.toml").touch()
    (made.project / "requirements.lock").write_text("uv==0.0.1 \\\n    --hash=sha256:00\n    # via dev\nwheel==1\n")
    made.link("flock", "awk", "rm")
    return made


def _venv_of(machine: Machine) -> Path:
    folder = machine.project / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(sys.executable)
    return folder


def test_no_python_that_fits_is_said_with_the_package(machine: Machine) -> None:
    machine.stub("python3", "exit 1")  # too old
    ran = machine.set_up()
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "apt install python3 python3-venv" in ran.stderr


def test_a_python_without_venv_is_said_with_the_package(machine: Machine) -> None:
    machine.stub("python3", f'case "$*" in *ensurepip*) exit 1 ;; esac; exec {sys.executable} "$@"')
    ran = machine.set_up()
    assert ran.returncode == 1
    version = "{}.{}".format(*sys.version_info[:2])
    assert ran.stderr == f"environment: python3 has no venv module: apt install python{version}-venv\n"


def test_what_is_done_is_not_done_again(machine: Machine) -> None:
    venv = _venv_of(machine)
    time.sleep(0.01)
    (venv / "synced").touch()
    ran = machine.set_up()  # no Python on this PATH: it would fail
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_a_change_is_installed(machine: Machine, changed: str) -> None:
    venv = _venv_of(machine)
    (venv / "synced").touch()
    os.utime(machine.project / changed, (time.time() + 10, time.time() + 10))
    (venv / "bin/python").unlink()
    (venv / "bin/python").write_text(
        '#!/bin/sh\necho "$@" >> calls\ncase "$*" in *install*) cat > asked; exit 9 ;; esac\n'
    )
    (venv / "bin/python").chmod(0o755)
    machine.link("cat")
    assert machine.set_up().returncode == 9
    assert (machine.project / "asked").read_text() == "uv==0.0.1 \\\n    --hash=sha256:00\n"
    assert "--require-hashes" in (machine.project / "calls").read_text()
    assert not (venv / "synced").exists()


def test_an_unfinished_environment_is_made_anew(machine: Machine) -> None:
    venv = _venv_of(machine)
    (venv / "syncing").touch()
    (venv / "half").touch()
    machine.stub("python3", 'case "$*" in "-m venv .venv") exit 7 ;; *-c*) echo x ;; --version) echo P ;; esac')
    assert machine.set_up().returncode == 7
    assert not (venv / "half").exists()


def _packages(machine: Machine) -> subprocess.CompletedProcess[str]:
    return machine.run(PROJECT / "tests/packages.sh")


def test_missing_packages_are_one_message_where_they_cannot_be_installed(machine: Machine) -> None:
    machine.stub("id", "echo 1000")
    machine.stub("sudo", "exit 1")
    ran = _packages(machine)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "apt install" in ran.stderr
    assert "openssh-client" in ran.stderr
    assert "busybox-static" in ran.stderr


def test_missing_packages_are_installed_by_sudo(machine: Machine) -> None:
    machine.stub("id", "echo 1000")
    machine.stub("sudo", '[ "$1" != -n ] || shift; exec "$@"')
    machine.stub("apt-get", 'echo "$@" >> calls')
    for name in ("true", "tee", "chmod", "rm"):  # nothing of this machine is changed
        (machine.programs / name).unlink(missing_ok=True)
        machine.stub(name, "exit 0")
    machine.stub("env", 'while :; do case $1 in *=*) shift ;; *) break ;; esac; done; exec "$@"')
    ran = _packages(machine)
    assert ran.returncode == 0, ran.stderr
    update, install = (machine.project / "calls").read_text().splitlines()
    assert update.startswith("update")
    assert install.startswith("install -y")
    assert "openssh-client" in install
    assert "openssh-server" not in install


def test_nothing_is_installed_where_nothing_is_missing(machine: Machine) -> None:
    programs = (
        "sshd",
        "ssh-keygen",
        "initdb",
        "busybox",
        "dockerd",
        "docker-registry",
        "docker-compose",
        "openssl",
        "mmdebstrap",
    )
    for name in (*programs, "mkfs.ext4", "tc"):
        machine.stub(name, "exit 0")
    ran = _packages(machine)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
