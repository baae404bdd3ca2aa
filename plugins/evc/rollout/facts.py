"""What preflight wants to know of a node, asked over its engine and one command."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from evc.engine.client import Auth, Engine, api_version
from evc.errors import EngineAway, EngineError
from evc.fleet.images import Image
from evc.fleet.models import Model
from evc.fleet.preflight import Facts, missing_bytes, paths_to_ask
from evc.fleet.progress import Layer
from evc.probes import temperature
from evc.probes.answer import END_FILE, parse_answer
from evc.probes.probe import Sample
from evc.ssh.session import Session

_TIMEOUT_S = 20.0
_CONTAINERD_ROOT = "/var/lib/containerd"
_SPACE = re.compile(r"space .*?\s(\d{1,18})\s+(-?\d{1,18})\s+(-?\d{1,18})\s+\d{1,3}%\s+(/.*)", re.ASCII)
_PATH = re.compile(r"path ([01])", re.ASCII)
# the folder of images and the paths come by stdin. A folder that the login may not look at lies on the disk of one
# above it, unless someone mounted it there: then this is not asked, as nobody can
_COMMAND = (
    "exec /bin/sh -c '"
    "exec 2>/dev/null; export LC_ALL=C; IFS= read -r d; "
    'while [ -n "$d" ] && ! s=$(df -Pk "$d"); do d=${d%/*}; done; '
    'echo "$s" | tail -n 1 | while IFS= read -r s; do echo "space $s"; done; '
    'while IFS= read -r p; do if [ -e "$p" ]; then echo "path 1"; else echo "path 0"; fi; done; '
    f"exec head -n 1 {' '.join(temperature.PROBE.files)} {END_FILE}'"
)


async def gather_facts(engine: Engine, model: Model, image: Image, registry: str, auth: Auth | None) -> Facts:
    """Ask a node everything that preflight judges.

    :param auth: its account at the registry; None: it has the image, the registry is not asked
    """
    asked_at = time.time()
    version, info = await asyncio.gather(engine.version(), engine.info())
    skew_s = clock_skew_s(info.get("SystemTime"), (asked_at + time.time()) / 2)
    folder = _image_folder(info)
    (free_bytes, free_path, paths, celsius), (platforms, lookup_error) = await asyncio.gather(
        _on_disk(engine.session, folder, paths_to_ask(model)), _look_up(engine, image.reference(registry), auth)
    )
    runtimes = info.get("Runtimes")
    return Facts(
        free_bytes=free_bytes,
        free_path=free_path or folder,
        engine_version=str(version.get("Version", ""))[:40],
        api_version=api_version(version.get("ApiVersion")),
        architecture=_text(version.get("Arch")) or _text(info.get("Architecture")),
        cpus=_number(info.get("NCPU")),
        memory_bytes=_number(info.get("MemTotal")),
        runtimes=frozenset(runtimes) if isinstance(runtimes, dict) else None,
        clock_skew_s=skew_s,
        temperature_celsius=celsius,
        platforms=platforms,
        lookup_error=lookup_error,
        paths=paths,
    )


async def bytes_to_pull(engine: Engine, image: Image, registry: str, layers: Sequence[Layer]) -> int | None:
    """Return how many compressed bytes a pull of ``image`` brings; None where its layers are not known.

    Only images of the same repository are looked at: their layers are the ones that it may share.
    """
    if not layers:
        return None
    present = []
    for known in await engine.images(reference=f"{registry}/{image.repository}"):
        details = await engine.image(str(known.get("Id")))
        diff_ids = ((details or {}).get("RootFS") or {}).get("Layers")
        if isinstance(diff_ids, list):
            present.append([str(diff_id) for diff_id in diff_ids])
    return missing_bytes(layers, present)


def clock_skew_s(system_time: object, ours: float) -> float | None:
    """Return a node's clock minus ours, seconds.

    :param system_time: ``SystemTime`` of ``GET /info``, RFC 3339
    :param ours: unix seconds at that moment
    """
    try:
        theirs = datetime.fromisoformat(str(system_time))
    except ValueError:
        return None
    return theirs.timestamp() - ours if theirs.tzinfo else None


def parse_disk(said: str, paths: Sequence[str]) -> tuple[int | None, str, dict[str, bool]]:
    """Read free bytes, the mount point they are of, and which of ``paths`` are there."""
    space = _SPACE.search(said)
    flags = [flag == "1" for flag in _PATH.findall(said)]
    there = dict(zip(paths, flags, strict=True)) if len(flags) == len(paths) else {}
    if not space:
        return None, "", there
    return max(0, int(space[3])) * 1024, "".join(c for c in space[4] if c.isprintable())[:200], there


async def _on_disk(
    session: Session, folder: str, paths: Sequence[str]
) -> tuple[int | None, str, dict[str, bool], float | None]:
    paths = [path for path in paths if path.isprintable()]  # one a line
    lines: list[str] = []
    stdin = "".join(f"{line}\n" for line in [folder, *paths]).encode()
    await session.follow(_COMMAND, lines.append, stdin=stdin, timeout_s=_TIMEOUT_S)
    head = next((number for number, line in enumerate(lines) if line.startswith("==> ")), len(lines))
    free_bytes, mountpoint, there = parse_disk("\n".join(lines[:head]), paths)
    answer = parse_answer("\n".join(lines[head:]).encode(), session.node.thermal_unit)
    return free_bytes, mountpoint, there, _celsius(temperature.read(answer, None))


async def _look_up(engine: Engine, reference: str, auth: Auth | None) -> tuple[Sequence[tuple[str, str]], str | None]:
    if auth is None:
        return (), None
    try:
        found = await engine.distribution(reference, auth)
    except EngineAway:
        raise
    except EngineError as error:
        return (), str(error).removeprefix(f"{engine.name}: ")
    platforms = found.get("Platforms")
    return [_platform(it) for it in platforms if isinstance(it, dict)] if isinstance(platforms, list) else [], None


def _platform(given: Mapping[str, Any]) -> tuple[str, str]:
    return str(given.get("os", "")), str(given.get("architecture", ""))


def _image_folder(info: Mapping[str, Any]) -> str:
    """Return where the engine keeps images; Docker 29 leaves them to containerd."""
    status = info.get("DriverStatus")
    if isinstance(status, list) and ["driver-type", "io.containerd.snapshotter.v1"] in status:
        return _CONTAINERD_ROOT
    root = info.get("DockerRootDir")
    return root if isinstance(root, str) and root.startswith("/") and root.isprintable() else "/"


def _celsius(sample: Sample | None) -> float | None:
    value = sample.columns.get("temperature_celsius") if sample else None
    return value if isinstance(value, float) else None


def _text(value: object) -> str | None:
    return value[:40] if isinstance(value, str) and value else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
