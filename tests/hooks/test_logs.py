"""Archives that nodes send: masked, and not trusted."""

from __future__ import annotations

import gzip
import io
import logging
import stat
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from evc.errors import NodeError, PlaybookFailed
from evc.fleet.nodes import Node
from evc.fleet.playbooks import HostResult, Report, Status
from evc.hooks.logs import LogsHook, mask_archive
from evc.hooks.playbooks import PlaybooksHook
from tests.servers.airflow import DagRunner

LOG = logging.getLogger("tests.hooks.logs")


def archive(path: Path, files: dict[str, bytes], **more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as to:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            to.addfile(info, io.BytesIO(content))
        for info in more.values():
            to.addfile(info)
    return path


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as found:
        return {member.name: found.extractfile(member).read() for member in found}  # type: ignore[union-attr]


def test_lines_are_masked_and_the_file_is_closed_to_others(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.tar.gz", {"x/y.log": b"password=hunter22\r\n\xff raw known-secret\nend"})
    target = tmp_path / "b.tar.gz"
    target.write_text("of an earlier try")
    assert mask_archive(source, target, ["known-secret"]) == 1
    assert contents(target) == {"x/y.log": b"password=***\n\\xff raw ***\nend\n"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "b.tar.gz"]


def test_names_that_lead_elsewhere_and_what_is_no_file_are_left_out(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
    device = tarfile.TarInfo("device")
    device.type = tarfile.CHRTYPE
    files = {"../up": b"", "/abs": b"", "a/../../b": b"", "a b": b"", "ok.log": b"fine\n"}
    source = archive(tmp_path / "a.tar.gz", files, link=link, device=device)
    assert mask_archive(source, tmp_path / "b.tar.gz") == 1
    assert contents(tmp_path / "b.tar.gz") == {"ok.log": b"fine\n"}


def test_more_than_was_agreed_is_not_taken(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.tar.gz", {"one": b"x\n" * 10, "two": b"\0" * 10_000_000})
    assert mask_archive(source, tmp_path / "b.tar.gz", max_bytes=1000) == 1


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.tar.gz", {"one": b"x" * 5_000_000 + b"\nnext\n"})
    mask_archive(source, tmp_path / "b.tar.gz")
    first, second, _ = contents(tmp_path / "b.tar.gz")["one"].split(b"\n")
    assert len(first) < 40_000
    assert second == b"next"


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00garbage"])
def test_what_is_no_archive_is_said_so(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "edge-1.tar.gz"
    source.write_bytes(content)
    with pytest.raises(NodeError, match="^edge-1: what it sent is no archive of logs"):
        mask_archive(source, tmp_path / "b.tar.gz")
    assert not (tmp_path / "b.tar.gz").exists()


def _bomb(kind: bytes) -> bytes:
    """Return what unpacks to 64 MiB: one name without end, or entries that nobody wants."""
    if kind == b"name":
        header = tarfile.TarInfo("././@LongLink")
        header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 26
        unpacked = [header.tobuf(tarfile.GNU_FORMAT), *[b"a" * (1 << 20)] * 64]
    else:
        unpacked = [tarfile.TarInfo("no name").tobuf() * 2048] * 64
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        for part in unpacked:
            file.write(part)
    return packed.getvalue()


@pytest.mark.parametrize("kind", [b"name", b"entries"])
def test_a_few_bytes_that_unpack_to_many_are_refused(tmp_path: Path, kind: bytes) -> None:
    source = tmp_path / "edge-1.tar.gz"
    source.write_bytes(_bomb(kind))
    assert source.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(NodeError, match="edge-1: .*more than its files may be"):
            mask_archive(source, tmp_path / "b.tar.gz", max_bytes=4_000_000)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mtime", ["inf", "nan", "1e400"])
def test_a_time_that_is_none_is_no_archive(tmp_path: Path, mtime: str) -> None:
    info = tarfile.TarInfo("ok.log")
    info.pax_headers = {"mtime": mtime}
    source = archive(tmp_path / "edge-1.tar.gz", {}, info=info)
    with pytest.raises(NodeError, match="is no archive of logs"):
        mask_archive(source, tmp_path / "b.tar.gz")


def test_a_node_that_sends_no_archive_does_not_cost_the_logs_of_the_others(
    dag_runner: DagRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [Node("bad", "127.0.0.1"), Node("good", "127.0.0.2")]
    playbooks = PlaybooksHook(LOG)

    def run(playbook: str, chosen: Any, registered: Any, *, variables: Any, timeout_s: float) -> Report:
        folder = Path(variables["logs_folder"])
        (folder / "bad.tar.gz").write_bytes(b"no archive")
        archive(folder / "good.tar.gz", {"journal.log": b"fine"})
        return Report(playbook, {node.name: HostResult(node.name, Status.OK) for node in nodes})

    monkeypatch.setattr(playbooks, "nodes", lambda: nodes)
    monkeypatch.setattr(playbooks, "run", run)
    monkeypatch.setattr("evc.hooks.logs.state_folder", lambda settings: tmp_path)
    with pytest.raises(PlaybookFailed, match="^bad: what it sent is no archive of logs"):
        LogsHook(LOG, playbooks).collect("run", [], [], "1h")
    assert [path.name for path in (tmp_path / "logs" / "run").iterdir()] == ["good.tar.gz"]
