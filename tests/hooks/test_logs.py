"""Archives that nodes send: masked, and not trusted."""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import Path

import pytest

from evc.errors import NodeError
from evc.hooks.logs import mask_archive


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
