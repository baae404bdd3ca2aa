from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from evc.hooks.airflow_logs import delete_old_logs

NOW = 1_700_000_000
OLD, YOUNG = NOW - 100, NOW + 100


def log_file(path: Path, ts: int, text: str = "line\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (ts, ts))
    return path


def of_run(folder: Path, run: str, ts: int, dag: str = "d") -> Path:
    return log_file(folder / f"dag_id={dag}" / f"run_id={run}" / "task_id=t" / "attempt=1.log", ts)


def test_old_files_go_and_young_ones_stay(tmp_path: Path) -> None:
    old, young = of_run(tmp_path, "a", OLD), of_run(tmp_path, "b", YOUNG)
    parsed = log_file(tmp_path / "dag_processor" / "2023-11-14" / "dags.log", OLD)
    deleted = delete_old_logs(tmp_path, NOW)
    assert (deleted.files, deleted.bytes, deleted.refused) == (2, 10, 0)
    assert not old.exists()
    assert not parsed.exists()
    assert young.exists()


def test_folders_go_when_they_are_empty_for_as_long(tmp_path: Path) -> None:
    folder = of_run(tmp_path, "a", OLD).parent
    assert delete_old_logs(tmp_path, NOW).folders == 0  # a task may be about to write there
    assert folder.exists()
    for each in (folder, folder.parent):
        os.utime(each, (OLD, OLD))
    assert delete_old_logs(tmp_path, NOW).folders == 1
    assert not folder.exists()


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside = log_file(tmp_path / "outside" / "precious.log", OLD)
    logs = tmp_path / "logs"
    of_run(logs, "a", YOUNG)
    (logs / "dag_id=d" / "run_id=linked").symlink_to(outside.parent)
    (logs / "dag_id=linked").symlink_to(outside.parent)
    (logs / "dag_id=d" / "latest.log").symlink_to(outside)
    (logs / "scheduler").symlink_to(outside.parent)
    assert delete_old_logs(logs, NOW).files == 0
    assert outside.exists()
    assert (logs / "dag_id=d" / "latest.log").is_symlink()


def test_what_is_not_airflows_is_left_alone(tmp_path: Path) -> None:
    """As where the folder of logs is /var/log."""
    others = [log_file(tmp_path / "syslog", OLD), log_file(tmp_path / "postgresql" / "main.log", OLD)]
    assert delete_old_logs(tmp_path, NOW).files == 0
    assert all(path.exists() for path in others)


def test_a_pipe_is_no_log(tmp_path: Path) -> None:
    folder = of_run(tmp_path, "a", YOUNG).parent
    os.mkfifo(folder / "pipe")
    os.utime(folder / "pipe", (OLD, OLD))
    assert delete_old_logs(tmp_path, NOW).files == 0


def test_no_folder_no_work(tmp_path: Path) -> None:
    assert delete_old_logs(tmp_path / "none", NOW).files == 0


def _unreadable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Refuse to open what has these names: root, whom tests may run as, is refused nothing."""
    really = os.open

    def opened(path: str | Path, *args: Any, **kwargs: Any) -> int:
        if Path(path).name in names:
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", opened)


def test_a_folder_that_may_not_be_read_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_run(tmp_path, "a", OLD, dag="a")
    of_run(tmp_path, "closed", OLD, dag="b")
    old = [of_run(tmp_path, "b", OLD, dag=dag) for dag in "bc"]
    _unreadable(monkeypatch, "dag_id=a", "run_id=closed")
    deleted = delete_old_logs(tmp_path, NOW)
    assert (deleted.files, deleted.refused) == (2, 2)
    assert not any(path.exists() for path in old)


def test_logs_that_may_not_be_read_at_all_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refused)
    assert delete_old_logs(tmp_path, NOW).refused == 1
