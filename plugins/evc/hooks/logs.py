"""Logs of nodes: fetched by ``get_logs.yaml``, masked here, kept as one compressed file for each node."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from evc.errors import CredentialsError, InputError, NodeError, PlaybookFailed, Stopped
from evc.fleet.containers import CONFIG_LABEL, MODEL_LABEL, RUN_LABEL
from evc.fleet.log import Log
from evc.fleet.masking import MAX_LINE, mask_lines
from evc.fleet.nodes import Node, select
from evc.fleet.playbooks import Status
from evc.fleet.since import parse_since
from evc.fleet.words import counted
from evc.hooks.playbook_run import private_folder
from evc.hooks.playbooks import PlaybooksHook
from evc.hooks.settings import state_folder

PLAYBOOK = "get_logs"
MAX_NODE_BYTES = 20_000_000
TIMEOUT_S = 1800.0
_MAX_FILES = 2000
_MAX_OVERHEAD = 2048  # of a file in an archive: its header, and what fills up its last block
_NAME = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")


class LogsHook:
    """Collects logs; one object serves one task.

    :param log: the task's own log
    :param playbooks: what runs Ansible, so that the caller can stop it
    """

    def __init__(self, log: Log, playbooks: PlaybooksHook) -> None:
        self.log = log
        self.playbooks = playbooks

    def collect(self, run_id: str, names: Sequence[str], groups: Sequence[str], since: str) -> dict[str, int]:
        """Write ``logs/<run>/<node>.tar.gz`` in the state folder; returns the sizes in bytes, by node.

        A node that does not answer is a line of the log. A retry writes the same files anew.

        :param run_id: of the DAG run
        :param since: a duration or a time, see :func:`~evc.fleet.since.parse_since`
        :raises InputError: a node or group that does not exist, or ``since`` does not fit; nothing was contacted
        :raises PlaybookFailed: a node answered and gave no logs; those of the others are there
        """
        since_ts = parse_since(since, int(time.time()))
        nodes = self.playbooks.nodes()
        chosen = select(nodes, names, groups)
        if not chosen:
            raise InputError("nodes", "no node is registered", "nodes that register_node or import_inventory brought")
        folder = state_folder(self.playbooks.settings) / "logs" / re.sub(r"[^A-Za-z0-9_.-]", "_", run_id).strip(".")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with private_folder() as raw:
            report = self.playbooks.run(
                PLAYBOOK,
                chosen,
                nodes,
                variables={
                    "logs_folder": str(raw),
                    "logs_since_ts": since_ts,
                    "logs_max_bytes": MAX_NODE_BYTES,
                    "logs_labels": [CONFIG_LABEL, MODEL_LABEL, RUN_LABEL],
                },
                timeout_s=TIMEOUT_S,
            )
            sizes, broken = {}, []
            for node in chosen:
                if report.results[node.name].status is not Status.OK:
                    continue
                try:
                    sizes[node.name] = self._keep(raw / f"{node.name}.tar.gz", folder, self._secrets(node))
                except NodeError as error:  # the others' are worth having
                    self.log.error("%s", error)
                    broken.append(str(error))
        for result in report.failures():
            if result.status is Status.UNREACHABLE:
                self.log.warning("%s: no logs: %s", result.host, result.message)
        told = (len(sizes), counted(len(chosen), "node"), counted(sum(sizes.values()), "byte"), folder)
        self.log.info("%d of %s, %s, in %s", *told)
        report.raise_failures(unreachable=False)
        if broken:
            raise PlaybookFailed("; ".join(broken[:3]))
        return sizes

    def _secrets(self, node: Node) -> list[str]:
        """Return what is known to be secret: no log of the node may hold the password that logs in to it."""
        try:
            password = self.playbooks.nodes_hook.credentials(node.conn_id).password
        except CredentialsError:
            return []
        return [password] if password else []

    def _keep(self, raw: Path, folder: Path, secrets: Sequence[str]) -> int:
        if self.playbooks.is_stopped:
            raise Stopped("stopped; the files that were written stay")
        path = folder / raw.name
        count = mask_archive(raw, path, secrets)
        size = path.stat().st_size
        self.log.info("%s: %d files, %d bytes: %s", raw.name.removesuffix(".tar.gz"), count, size, path)
        return size


def mask_archive(source: Path, path: Path, secrets: Sequence[str] = (), max_bytes: int = 2 * MAX_NODE_BYTES) -> int:
    """Write the text files of the tar.gz ``source`` to ``path``, 0600, without their secrets; returns how many.

    What a node sent is not trusted: nothing is unpacked to disk, names that lead elsewhere and whatever is no regular
    file are left out, and it ends after ``max_bytes``.

    :raises NodeError: it is no archive, or one that unpacks to more than its files may be
    """
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    count, left = 0, max_bytes
    try:
        with (
            os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|") as to,
            gzip.open(source) as unpacked,
            tarfile.open(fileobj=_Bounded(unpacked, max_bytes + _MAX_FILES * _MAX_OVERHEAD), mode="r|") as archive,
        ):
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or not _NAME.fullmatch(member.name) or ".." in member.name.split("/"):
                    continue
                if count >= _MAX_FILES or left <= 0 or not 0 <= member.size <= left:
                    break
                left -= member.size
                masked = "".join(f"{line}\n" for line in mask_lines(_lines(content), secrets)).encode()
                info = tarfile.TarInfo(member.name)
                info.size, info.mode, info.mtime = len(masked), 0o600, int(member.mtime)
                to.addfile(info, io.BytesIO(masked))
                count += 1
        temporary.replace(path)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError) as error:
        raise NodeError(f"{source.name.removesuffix('.tar.gz')}: what it sent is no archive of logs: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return count


class _Bounded(io.RawIOBase):
    """Reads a file up to a bound: a few bytes of an archive may unpack to terabytes, be they headers or names."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self._file, self._left = file, limit

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.ReadError("it unpacks to more than its files may be")
        return data


def _lines(file: IO[bytes]) -> Iterator[str]:
    """Yield lines without their ends; of one that is very long only its beginning."""
    while line := file.readline(4 * MAX_LINE):
        text = line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
        if not line.endswith(b"\n"):
            while (rest := file.readline(4 * MAX_LINE)) and not rest.endswith(b"\n"):
                pass
        yield text
