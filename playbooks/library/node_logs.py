#!/usr/bin/python
"""Logs and facts of a node in one compressed file: whatever of them the node has, each bounded, the newest kept."""

from __future__ import annotations

import contextlib
import glob
import gzip
import http.client
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.parse

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: node_logs
short_description: Logs and facts of a node in one compressed file
options:
  since_ts: {type: int, required: true, description: Unix seconds; what is older is left out where a log tells times.}
  max_bytes: {type: int, default: 20000000, description: Of all logs together, before compression; a third for each.}
  engine_socket: {type: path, default: /var/run/docker.sock, description: Where the Docker Engine listens.}
  labels: {type: list, elements: str, description: Logs of the containers that bear one of these labels.}
  log_files: {type: list, elements: path, description: Files that are taken where they have changed since.}
"""
RETURN = """
path: {description: The file, 0600. Fetch it and remove it.}
files: {description: What is in it.}
notes: {description: "What the node has not, or may not show."}
"""

PREFIX = "evc-logs-"
TIMEOUT_S = 60
FACTS = (
    "/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev",
    "/sys/class/thermal/thermal_zone0/temp", "/proc/device-tree/model",
)  # fmt: skip


class Tail:
    """Keeps the end of what is written to it."""

    def __init__(self, limit):
        self.limit, self.parts, self.size, self.total = limit, [], 0, 0

    def write(self, data):
        self.parts.append(data)
        self.size += len(data)
        self.total += len(data)
        while self.size - len(self.parts[0]) > self.limit:
            self.size -= len(self.parts.pop(0))

    def value(self):
        data = b"".join(self.parts)
        if self.total > self.limit:
            data = data[-self.limit :]
            data = b"[cut: %d bytes before]\n" % (self.total - len(data)) + data.partition(b"\n")[2]
        return data


def output_of(argv, limit):
    """Return the end of what a command printed, and why it failed where it did."""
    tail = Tail(limit)
    environment = dict(os.environ, LC_ALL="C", PATH=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    process = subprocess.Popen(  # noqa: S603  no shell, and argv is ours
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    timer = threading.Timer(TIMEOUT_S, process.kill)
    timer.start()
    try:
        for chunk in iter(lambda: process.stdout.read1(65536), b""):
            tail.write(chunk)
    finally:
        timer.cancel()
        process.stdout.close()
    status = process.wait()
    return tail.value(), (None if status == 0 else f"exit status {status}")


class Engine:
    """The Docker Engine's API over its socket."""

    def __init__(self, path):
        self.path = path

    @contextlib.contextmanager
    def get(self, path, **query):
        connection = http.client.HTTPConnection("engine", timeout=TIMEOUT_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT_S)
        try:
            connection.sock.connect(self.path)
            connection.request("GET", path + ("?" + urllib.parse.urlencode(query) if query else ""))
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"the engine answered {answer.status} to {path}")
            yield answer
        finally:
            connection.close()

    def json(self, path, **query):
        with self.get(path, **query) as answer:
            return json.loads(answer.read(20000000))

    def logs(self, container, since_ts, limit):
        """Return the end of a container's log, both streams in their order, with times."""
        name = urllib.parse.quote(container)
        is_terminal = bool(self.json(f"/containers/{name}/json")["Config"].get("Tty"))
        tail = Tail(limit)
        with self.get(
            f"/containers/{name}/logs", stdout=1, stderr=1, timestamps=1, since=since_ts, tail=200000
        ) as answer:
            while True:
                if is_terminal:
                    data = answer.read(65536)
                else:
                    head = answer.read(8)
                    data = answer.read(struct.unpack(">I", head[4:])[0]) if len(head) == 8 else b""
                if not data:
                    return tail.value()
                tail.write(data)


class Collection:
    """A tar.gz that is being made."""

    def __init__(self, path, max_bytes):
        self.file = gzip.GzipFile(fileobj=open(path, "wb"), mode="wb", mtime=0)  # noqa: SIM115
        self.tar = tarfile.open(fileobj=self.file, mode="w|")  # noqa: SIM115
        self.limit, self.left = max_bytes // 3, max_bytes
        self.files, self.notes = [], []

    def room(self):
        return max(0, min(self.limit, self.left))

    def add(self, name, data):
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
        self.tar.addfile(info, io.BytesIO(data))
        self.left -= len(data)
        self.files.append(name)

    def note(self, what, why):
        self.notes.append(f"{what}: {why}")

    def command(self, name, *argv):
        if not shutil.which(argv[0], path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"):
            self.note(name, f"no {argv[0]} here")
            return
        data, failure = output_of(argv, self.room())
        if failure:
            self.note(name, "{}: {}".format(failure, data[-200:].decode("utf-8", "replace").strip()))
        if data.strip():
            self.add(name, data)

    def log_file(self, path, since_ts):
        try:
            status = os.stat(path)
            if status.st_mtime < since_ts:
                self.note(path, "not changed since")
                return
            limit = self.room()
            with open(path, "rb") as file:
                file.seek(max(0, status.st_size - limit))
                data = file.read(limit)
            self.add("files/" + path.strip("/").replace("/", "_"), data)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.note(path, error.strerror)

    def close(self):
        self.add("notes.txt", "".join(note + "\n" for note in self.notes).encode("utf-8", "replace"))
        self.tar.close()
        self.file.close()
        self.file.fileobj and self.file.fileobj.close()


def add_facts(collection):
    """Add what the kernel and the system say of the node."""
    text = io.StringIO()
    for path in FACTS:
        with contextlib.suppress(OSError, UnicodeError), open(path, encoding="utf-8") as file:
            text.write("# {}\n{}\n".format(path, file.read(20000).strip("\0\n")))
    collection.add("facts.txt", text.getvalue().encode())
    collection.command("disks.txt", "df", "-h")
    collection.command("kernel.log", "dmesg")


def add_engine(collection, engine, labels, since_ts):
    """Add the engine's version and list of containers, and the logs of those that bear one of ``labels``."""
    try:
        about = {"version": engine.json("/version")}
        containers = engine.json("/containers/json", all=1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        collection.note("engine", str(error))
        return
    # not all that inspect says: environments hold secrets
    about["containers"] = [
        {key: one.get(key) for key in ("Names", "Image", "ImageID", "State", "Status", "Created", "Labels")}
        for one in containers
    ]
    collection.add("engine.json", json.dumps(about, indent=1).encode())
    for one in containers:
        if not set(labels) & set(one.get("Labels") or {}):
            continue
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", (one.get("Names") or [one["Id"]])[0].strip("/"))[:100]
        try:
            collection.add(f"containers/{name}.log", engine.logs(one["Id"], since_ts, collection.room()))
        except (OSError, ValueError, http.client.HTTPException) as error:
            collection.note(f"container {name}", str(error))


def remove_leftovers():
    """Remove what runs that were cut off left here."""
    for path in glob.glob(os.path.join(tempfile.gettempdir(), PREFIX + "*.tar.gz")):
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            if status.st_uid == os.getuid() and status.st_mtime < time.time() - 3600:
                os.remove(path)


def main():
    """Collect."""
    module = AnsibleModule(
        argument_spec={
            "since_ts": {"type": "int", "required": True},
            "max_bytes": {"type": "int", "default": 20000000},
            "engine_socket": {"type": "path", "default": "/var/run/docker.sock"},
            "labels": {"type": "list", "elements": "str", "default": []},
            "log_files": {"type": "list", "elements": "path", "default": []},
        },
    )
    given = module.params
    since_ts = given["since_ts"]
    remove_leftovers()
    handle, path = tempfile.mkstemp(prefix=PREFIX, suffix=".tar.gz", dir=tempfile.gettempdir())  # 0600
    os.close(handle)
    try:
        collection = Collection(path, given["max_bytes"])
        add_facts(collection)
        add_engine(collection, Engine(given["engine_socket"]), given["labels"], since_ts)
        journal = ("journalctl", "--no-pager", "--output=short-iso", f"--since=@{since_ts}")
        collection.command("engine.log", *journal, "--unit=docker.service", "--unit=containerd.service")
        collection.command("journal.log", *journal)
        for file in given["log_files"]:
            collection.log_file(file, since_ts)
        collection.close()
    except OSError as error:
        os.remove(path)
        module.fail_json(msg=f"logs not collected: {error.filename or path}: {error.strerror}")
    except BaseException:
        os.remove(path)
        raise
    module.exit_json(changed=False, path=path, files=collection.files, notes=collection.notes)


if __name__ == "__main__":
    main()
