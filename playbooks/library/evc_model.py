"""The node's side of ``evc_model``: the folder of one revision of a model's source, put together and proved.

Every revision has a folder of its own, ``~/.evc/models/NAME/REVISION``, which is never changed once it is there: builds
at the same time don't see each other's files. Contents that the node has already, in any revision, are not sent again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: evc_model
short_description: Bring the source of a model to the node that builds it
description: Only contents that the node lacks are sent; nothing is ever written outside ~/.evc/models/NAME.
options:
  model: {description: The model's name., type: str, required: true}
  models_folder: {description: The folder of all models, on this side., type: path, required: true}
  revision: {description: The revision that is expected., type: str}
"""

BASE = "~/.evc/models"
KEPT_REVISIONS = 3
STALE_S = 86_400  # a build may still read a folder that is younger
FILE_TIME_S = 315_532_800  # 1980: the same in every copy, so that equal sources make equal layers
CHUNK_BYTES = 1 << 20


class Refused(Exception):
    """What was asked is not done; the message says why."""


def check_manifest(name: str, revision: str, files: list[dict[str, Any]]) -> None:
    """Raise Refused for anything that could lead out of the model's folder."""
    if len(name) > 63 or not re.fullmatch(r"[a-z0-9]+(?:(?:__?|-+)[a-z0-9]+)*", name):
        raise Refused(f"the name {name!r} is not that of a model")
    if not re.fullmatch(r"[0-9a-f]{64}", revision):
        raise Refused(f"the revision {revision!r} is none")
    paths = set()
    for file in files:
        path = file["path"]
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or not path.isprintable():
            raise Refused(f"the path {path!r} leads out of the model's folder")
        if not re.fullmatch(r"[0-9a-f]{64}", file["sha256"]):
            raise Refused(f"{path!r} has no checksum")
        paths.add(path)
    if len(paths) != len(files):
        raise Refused("a path stands twice in the list")


def model_folder(name: str, make: bool) -> str:
    """Return the model's folder; below ~/.evc nothing may be a link that leads elsewhere."""
    base = os.path.expanduser(BASE)
    folder = os.path.join(base, name)
    for part in (base, folder):
        if os.path.islink(part):
            raise Refused(f"{part} is a symbolic link: it could lead anywhere")
        if os.path.lexists(part) and not os.path.isdir(part):
            raise Refused(f"{part} is not a folder")
    if make:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def open_regular(path: str) -> Any:
    """Open a regular file, no link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def checksum(path: str) -> tuple[str, bool]:
    """Return content's SHA-256 and whether it is executable."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            if not chunk:
                break
            digest.update(chunk)
        return digest.hexdigest(), bool(os.fstat(file.fileno()).st_mode & stat.S_IXUSR)


def contents(folder: str) -> dict[str, tuple[str, bool]]:
    """Return checksum and executable bit of all that lies below ``folder``; what is no file has an empty checksum."""
    found = {}
    for here, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]
        for name in names + links:
            path = os.path.join(here, name)
            try:
                found[os.path.relpath(path, folder)] = checksum(path)
            except OSError:
                found[os.path.relpath(path, folder)] = ("", False)
    return found


def is_complete(folder: str, files: list[dict[str, Any]]) -> bool:
    """Whether ``folder`` holds exactly ``files``."""
    wanted = {file["path"]: (file["sha256"], bool(file["executable"])) for file in files}
    return os.path.isdir(folder) and not os.path.islink(folder) and contents(folder) == wanted


def revisions(folder: str) -> list[str]:
    """Return the folders of the revisions that are there, the one that was used last first."""
    if not os.path.isdir(folder):
        return []
    found = [os.path.join(folder, name) for name in os.listdir(folder) if re.fullmatch(r"[0-9a-f]{64}", name)]
    found = [path for path in found if os.path.isdir(path) and not os.path.islink(path)]
    return sorted(found, key=lambda path: -os.lstat(path).st_mtime)


def known_contents(folder: str) -> dict[str, str]:
    """Return a path for each checksum that the node has."""
    known: dict[str, str] = {}
    for revision in revisions(folder)[:KEPT_REVISIONS]:
        for path, (digest, _) in contents(revision).items():
            known.setdefault(digest, os.path.join(revision, path))
    known.pop("", None)
    return known


def write(source: Any, path: str, file: dict[str, Any]) -> None:
    """Write one file and prove its content."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    digest = hashlib.sha256()
    with open(path, "xb") as target:
        while True:
            chunk = source.read(CHUNK_BYTES)
            if not chunk:
                break
            digest.update(chunk)
            target.write(chunk)
    if digest.hexdigest() != file["sha256"]:
        raise Refused("{} changed while it was copied".format(file["path"]))
    os.chmod(path, 0o755 if file["executable"] else 0o644)
    os.utime(path, (FILE_TIME_S, FILE_TIME_S))


def assemble(folder: str, files: list[dict[str, Any]], known: dict[str, str], archive: str | None) -> str:
    """Put a revision together beside the others; returns where."""
    place = tempfile.mkdtemp(prefix=".new-", dir=folder)
    try:
        os.chmod(place, 0o755)  # noqa: S103  # as after a checkout; the folder around it is closed
        with contextlib.ExitStack() as stack:
            sent = stack.enter_context(tarfile.open(archive)) if archive else None
            members = {member.name: member for member in sent.getmembers() if member.isreg()} if sent else {}
            for file in files:
                path = os.path.join(place, file["path"])
                if sent and file["sha256"] in members:
                    write(sent.extractfile(members[file["sha256"]]), path, file)
                elif file["sha256"] in known:
                    with open_regular(known[file["sha256"]]) as source:
                        write(source, path, file)
                else:
                    raise Refused(f"{file['path']} was not sent")
        for here, _, _ in os.walk(place, topdown=False):
            if here != place:
                os.utime(here, (FILE_TIME_S, FILE_TIME_S))
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return place


def put_in_place(place: str, target: str, files: list[dict[str, Any]]) -> None:
    """Give the new folder its name; one that someone else has put there meanwhile is as good."""
    for _ in range(3):
        try:
            os.rename(place, target)
        except OSError:
            if is_complete(target, files):
                shutil.rmtree(place, ignore_errors=True)
                return
            damaged = tempfile.mkdtemp(prefix=".old-", dir=os.path.dirname(target))
            os.rename(target, os.path.join(damaged, "it"))
            shutil.rmtree(damaged, ignore_errors=True)
        else:
            return
    raise Refused(f"{target} is being changed by someone else")


def prune(folder: str, target: str) -> None:
    """Remove revisions, and leftovers of copies that were killed, that nobody can be using any more."""
    old = time.time() - STALE_S
    leftovers = [os.path.join(folder, name) for name in os.listdir(folder) if name.startswith((".new-", ".old-"))]
    for path in [*revisions(folder)[KEPT_REVISIONS:], *leftovers]:
        if path != target and os.lstat(path).st_mtime < old:
            shutil.rmtree(path, ignore_errors=True)


def run(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Return what is missing; where nothing is, or it was sent, put the revision in its place."""
    name, revision, files = parameters["name"], parameters["revision"], parameters["files"]
    check_manifest(name, revision, files)
    folder = model_folder(name, make=not check_mode)
    target = os.path.join(folder, revision)
    answer: dict[str, Any] = {"folder": target, "changed": False, "missing": []}
    if os.path.islink(target):
        raise Refused(f"{target} is a symbolic link: it could lead anywhere")
    if is_complete(target, files):
        os.utime(target)
        return answer
    answer["changed"] = True
    known = known_contents(folder)
    if parameters["archive"] is None:
        answer["missing"] = sorted({file["sha256"] for file in files} - set(known))
    if not answer["missing"] and not check_mode:
        put_in_place(assemble(folder, files, known, parameters["archive"]), target, files)
        os.utime(target)
        prune(folder, target)
    return answer


def main() -> None:
    """Read the parameters, answer in JSON."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "revision": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "dict", "required": True},
            "archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        answer = run(module.params, module.check_mode)
    except (Refused, OSError, tarfile.TarError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**answer)


if __name__ == "__main__":
    main()
