"""Every playbook: readable, documented, and refusing what it is not told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "playbooks"
PLAYBOOKS = sorted(FOLDER.glob("*.yaml"))


def ansible_playbook(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as a user does, but with nothing of this user's."""
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), *arguments]
    environment = {"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, cwd=home, env=environment)


def test_there_are_playbooks() -> None:
    assert {"copy_cert", "del_cert", "get_logs"} <= {path.stem for path in PLAYBOOKS}


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_ansible_reads_it(path: Path, tmp_path: Path) -> None:
    done = ansible_playbook(tmp_path, "--syntax-check", "-i", "localhost,", "-e", "builder=localhost", str(path))
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_its_head_says_how_it_is_run_by_hand(path: Path) -> None:
    head = path.read_text().partition("---\n")[0]
    assert head.startswith("# ")
    assert f"playbooks/{path.name}" in head


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_task_has_a_name_that_tells_hosts_apart_in_a_log(path: Path) -> None:
    def tasks(of: object) -> list[dict[str, object]]:
        found = []
        for task in of if isinstance(of, list) else []:
            found += [task, *(one for key in ("block", "rescue", "always") for one in tasks(task.get(key)))]
        return found

    for play in yaml.safe_load(path.read_text()):
        assert play.get("gather_facts") is False
        for task in tasks(play.get("tasks")):
            assert "name" in task or "block" in task, task


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("copy_cert", {}),
        ("copy_cert", {"registry_address": "reg.test:5001", "registry_account": "node-1"}),
        ("copy_cert", {"registry_address": "../../x", "registry_account": "n", "registry_password": "p"}),
        ("copy_cert", {"registry_address": "a b", "registry_account": "n", "registry_password": "p"}),
        ("copy_cert", {"registry_address": "reg.test:5001", "registry_account": "a:b", "registry_password": "p"}),
        ("del_cert", {}),
        ("del_cert", {"registry_account": "node-1", "registry_address": "../x"}),
        ("get_logs", {}),
        ("get_logs", {"logs_folder": "relative", "logs_since_ts": "1"}),
        ("get_logs", {"logs_folder": "/tmp", "logs_since_ts": "yesterday"}),
    ],
    ids=str,
)
def test_without_its_variables_it_does_nothing(name: str, variables: dict[str, str], tmp_path: Path) -> None:
    extra = tmp_path / "vars.yaml"
    extra.write_text(yaml.safe_dump(variables) if variables else "{}")
    local = ("-i", "localhost,", "-c", "local", "-e", f"@{extra}")
    done = ansible_playbook(tmp_path, *local, str(FOLDER / f"{name}.yaml"))
    assert done.returncode == 2, done.stdout
    assert "Check the variables" in done.stdout
    assert len(re.findall(r"^TASK ", done.stdout, re.MULTILINE)) == 1, done.stdout
