"""The module that puts a login into a docker configuration and takes it away."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parents[2] / "playbooks" / "library" / "registry_login.py"
OTHER = {"auth": base64.b64encode(b"me:mine").decode()}


def module(path: Path, *, check: bool = False, **options: str) -> dict[str, Any]:
    """Run it as Ansible does on a node."""
    arguments = {"path": str(path), **options, "_ansible_check_mode": check}
    program = (
        "import json, runpy, sys\n"
        "from ansible.module_utils.testing import patch_module_args\n"
        f"with patch_module_args({arguments!r}):\n"
        f"    runpy.run_path({str(MODULE)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert options.get("password", "no password") not in json.dumps(found.get("invocation", {}))
    return found


def present(path: Path, **more: Any) -> dict[str, Any]:
    return module(path, **{"address": "reg.test:5001", "account": "node-7", "password": "hunter22", **more})


def absent(path: Path, **more: Any) -> dict[str, Any]:
    return module(path, **{"account": "node-7", "address": "reg.test:5001", "state": "absent", **more})


def test_a_login_is_added_to_what_is_there_and_taken_away_again(tmp_path: Path) -> None:
    path = tmp_path / ".docker" / "config.json"
    path.parent.mkdir()
    before = {"auths": {"other.test": OTHER}, "detachKeys": "ctrl-q"}
    path.write_text(json.dumps(before))
    assert present(path)["changed"] is True
    entry = {"auth": base64.b64encode(b"node-7:hunter22").decode()}
    assert json.loads(path.read_text()) == {**before, "auths": {"other.test": OTHER, "reg.test:5001": entry}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert present(path)["changed"] is False
    assert absent(path) == {"changed": True, "addresses": ["reg.test:5001"], "invocation": _any(absent, path)}
    assert json.loads(path.read_text()) == before
    assert absent(path)["changed"] is False


def _any(of: Any, path: Path) -> Any:
    return of(path, check=True)["invocation"] | {}


def test_the_last_login_takes_the_file_and_its_folder_along(tmp_path: Path) -> None:
    path = tmp_path / ".docker" / "config.json"
    present(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    absent(path)
    assert not path.parent.exists()
    assert absent(path) | {"invocation": None} == {"changed": False, "addresses": ["reg.test:5001"], "invocation": None}


def test_only_the_account_s_own_logins_go_at_whatever_address(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    present(path, address="old.test:5001")
    present(path, account="node-8", password="other one")  # noqa: S106
    found = absent(path)
    assert found["addresses"] == ["old.test:5001"], "at the given address someone else is logged in"
    assert list(json.loads(path.read_text())["auths"]) == ["reg.test:5001"]


def test_a_look_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    present(path)
    before = path.read_text()
    assert absent(path, check=True)["addresses"] == ["reg.test:5001"]
    assert path.read_text() == before


def test_a_file_that_others_may_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    present(path)
    path.chmod(0o644)
    assert present(path)["changed"] is True
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_stays_one(tmp_path: Path) -> None:
    path, real = tmp_path / "config.json", tmp_path / "real.json"
    real.write_text("{}")
    path.symlink_to(real)
    present(path)
    assert path.is_symlink()
    assert "reg.test:5001" in real.read_text()


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": []}', "secret-word"])
def test_what_is_no_configuration_stays_and_is_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    found = present(path)
    assert found["failed"]
    assert "is not a docker configuration" in found["msg"]
    assert "secret-word" not in found["msg"]
    assert path.read_text() == content


def test_nothing_half_written_stays_behind(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    present(path)
    assert os.listdir(tmp_path) == ["config.json"]  # noqa: PTH208
