"""Is a node fit for an image? Judged before anything on it is changed; every reason is told, not only the first.

Limits and why:

- disk: twice the unpacked image has to be free. A manifest tells compressed sizes only; unpacked is taken as
  ``UNPACKED_PER_COMPRESSED`` times that. Layers that the node has already count as nothing.
- engine: API 1.41 (Docker 20.10), the oldest that this speaks.
- clock: 300 s either way. Farther off, a node takes a certificate that was just renewed for one of the future, and the
  times of its results can't be compared with those of others.
- temperature: below 85 degrees Celsius, where boards begin to throttle; unpacking an image heats them further.
- image: the node's own engine asks the registry with the node's own account, so that address, certificate, account and
  digest are tested as a pull would.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from evc.fleet.models import Model
from evc.fleet.progress import Layer, megabytes

UNPACKED_PER_COMPRESSED = 2.0
SPACE_FACTOR = 2.0
MIN_API = (1, 41)
MAX_CLOCK_SKEW_S = 300.0
MAX_CELSIUS = 85.0
GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/nvhost-ctrl")
"""Any of them: an NVIDIA card, or a Jetson of an older or newer JetPack."""

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv8l": "arm", "armv7l": "arm", "armv6l": "arm"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node is not fit.

    :param check: ``disk``, ``engine``, ``clock``, ``temperature``, ``architecture``, ``registry``, ``certificate``,
        ``account``, ``image``, ``memory``, ``cpus``, ``runtime``, ``gpu``, ``device``, ``volume``
    :param measured: what was found
    :param needed: what it has to be
    :param action: what to do
    :param may_pass: it can be over by itself: worth another try later
    """

    check: str
    measured: str
    needed: str
    action: str
    may_pass: bool = False

    def __str__(self) -> str:
        return f"{self.check}: {self.measured}; needed: {self.needed}; {self.action}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What was measured on a node; None where it can't be told, which refuses nothing.

    :param free_bytes: where its engine keeps images
    :param architecture: of its engine, ``amd64``, ``arm64``, ``arm`` (or as ``uname -m`` says it)
    :param clock_skew_s: its clock minus ours
    :param temperature_celsius: of its hottest zone
    :param platforms: (os, architecture) pairs of the image as its registry says; empty where it does not
    :param lookup_error: the engine's words where it could not look the image up; None where it could, or has it
    :param paths: which of the asked device files, sources of volumes and GPU_DEVICES are there
    """

    free_bytes: int | None = None
    free_path: str = ""
    engine_version: str = ""
    api_version: tuple[int, int] = MIN_API
    architecture: str | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    runtimes: Collection[str] | None = None
    clock_skew_s: float | None = None
    temperature_celsius: float | None = None
    platforms: Sequence[tuple[str, str]] = ()
    lookup_error: str | None = None
    paths: Mapping[str, bool] = field(default_factory=dict)


def check(facts: Facts, model: Model, pull_bytes: int | None) -> list[Refusal]:
    """Return every reason why a container of ``model`` can't be deployed; empty: the node is fit.

    :param pull_bytes: compressed bytes that still have to come; None: not known
    """
    checks = (
        _disk(facts, pull_bytes),
        _engine(facts),
        _clock(facts),
        _temperature(facts),
        _architecture(facts, model),
        None if facts.lookup_error is None else lookup_refusal(facts.lookup_error),
        *_resources(facts, model),
        *_runtime(facts, model),
        *_paths(facts, model),
    )
    return [refusal for refusal in checks if refusal]


def paths_to_ask(model: Model) -> list[str]:
    """Return the paths on the node that :func:`check` wants to know of."""
    gpu = GPU_DEVICES if model.resources.gpu else ()
    return list(dict.fromkeys([*model.devices, *(volume.source for volume in model.volumes), *gpu]))


def needed_bytes(pull_bytes: int) -> int:
    """Return how much has to be free before so many compressed bytes are pulled."""
    return int(pull_bytes * UNPACKED_PER_COMPRESSED * SPACE_FACTOR)


def missing_bytes(layers: Iterable[Layer], present: Iterable[Sequence[str]]) -> int:
    """Return how many compressed bytes a pull brings.

    :param layers: of the image, lowest first
    :param present: the ``RootFS.Layers`` of images that the node has; an engine keeps a layer by all that is below it
    """
    wanted = list(layers)
    shared = max((_common(wanted, diff_ids) for diff_ids in present), default=0)
    return sum(layer.size_bytes for layer in wanted[shared:])


def architecture_of(machine: str) -> str:
    """Return an architecture as images name it, from what ``uname -m`` or the engine says."""
    return _MACHINES.get(machine, machine)


def lookup_refusal(words: str) -> Refusal:
    """Tell what an engine's failed look-up of an image means.

    :param words: the engine's own
    """
    lower = words.lower()
    for signs, check_name, needed, action, may_pass in _LOOKUPS:
        if any(sign in lower for sign in signs):
            return Refusal(check_name, words, needed, action, may_pass)
    return Refusal("registry", words, "an answer", "see what the engine says: journalctl -u docker on the node", True)


_LOOKUPS: tuple[tuple[tuple[str, ...], str, str, str, bool], ...] = (
    (
        ("certificate has expired", "not yet valid"),
        "certificate",
        "a certificate that is valid now",
        "renew it with evc registry init and restart the registry, and check the node's clock",
        False,
    ),
    (
        ("x509", "tls:", "certificate", "http response to https client"),
        "certificate",
        "a registry whose certificate the node trusts",
        "register the node again: copy_cert.yaml installs the CA below /etc/docker/certs.d",
        False,
    ),
    (
        ("unauthorized", "no basic auth", "denied", "forbidden", "authentication required"),
        "account",
        "an account that the registry accepts",
        "register the node again: it gets a new account",
        False,
    ),
    (
        ("manifest unknown", "not found", "name unknown", "no such image"),
        "image",
        "an image that the registry has",
        "run sync_registry to see what there is",
        False,
    ),
    (
        ("toomanyrequests", "too many requests"),
        "registry",
        "an answer of the registry",
        "try again later",
        True,
    ),
    (
        ("refused", "timeout", "no such host", "unreachable", "no route", "eof", "reset", "canceled", "deadline"),
        "registry",
        "a registry that answers the node",
        "see that it runs, and that name and port are right as seen from the node",
        True,
    ),
)


def _common(layers: Sequence[Layer], diff_ids: Sequence[str]) -> int:
    count = 0
    for layer, diff_id in zip(layers, diff_ids, strict=False):
        if layer.diff_id != diff_id:
            break
        count += 1
    return count


def _disk(facts: Facts, pull_bytes: int | None) -> Refusal | None:
    if facts.free_bytes is None or not pull_bytes:
        return None
    needed = needed_bytes(pull_bytes)
    if facts.free_bytes >= needed:
        return None
    return Refusal(
        "disk",
        f"{megabytes(facts.free_bytes)} MB free in {facts.free_path or 'the folder of images'}",
        f"{megabytes(needed)} MB, {SPACE_FACTOR:g} times the image ({megabytes(pull_bytes)} MB to pull, "
        f"{megabytes(int(pull_bytes * UNPACKED_PER_COMPRESSED))} MB unpacked)",
        "free some: docker system df on the node tells what takes it",
    )


def _engine(facts: Facts) -> Refusal | None:
    if facts.api_version >= MIN_API:
        return None
    major, minor = facts.api_version
    return Refusal(
        "engine",
        f"Docker {facts.engine_version or 'of an unknown version'} speaks API {major}.{minor}",
        f"API {MIN_API[0]}.{MIN_API[1]}, Docker 20.10 or later",
        "upgrade the engine",
    )


def _clock(facts: Facts) -> Refusal | None:
    skew_s = facts.clock_skew_s
    if skew_s is None or abs(skew_s) <= MAX_CLOCK_SKEW_S:
        return None
    return Refusal(
        "clock",
        f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} ours",
        f"{MAX_CLOCK_SKEW_S:.0f} s at most",
        "set up time synchronisation on the node, e.g. systemd-timesyncd or chrony",
    )


def _temperature(facts: Facts) -> Refusal | None:
    celsius = facts.temperature_celsius
    if celsius is None or celsius < MAX_CELSIUS:
        return None
    return Refusal(
        "temperature", f"{celsius:.1f} C", f"below {MAX_CELSIUS:.0f} C", "cool the node, or wait until it is", True
    )


def _architecture(facts: Facts, model: Model) -> Refusal | None:
    if facts.architecture is None:
        return None
    own = architecture_of(facts.architecture)
    offered = [architecture for system, architecture in facts.platforms if system == "linux"] or (
        [] if facts.platforms else list(model.architectures)
    )
    if own in offered:
        return None
    return Refusal(
        "architecture",
        f"{own}",
        f"{' or '.join(dict.fromkeys(offered)) or 'linux'}, for which the image was built",
        f"build the image for linux/{own}",
    )


def _resources(facts: Facts, model: Model) -> Iterable[Refusal]:
    memory_bytes, cpus = model.resources.memory_bytes, model.resources.cpus
    if facts.memory_bytes is not None and facts.memory_bytes < memory_bytes:
        yield Refusal(
            "memory",
            f"{megabytes(facts.memory_bytes)} MB",
            f"{megabytes(memory_bytes)} MB, resources.memory_bytes of model.yaml",
            "lower it, or choose another node",
        )
    if facts.cpus is not None and facts.cpus < cpus:
        yield Refusal(
            "cpus",
            f"{facts.cpus:g} cores",
            f"{cpus:g}, resources.cpus of model.yaml",
            "lower it, or choose another node",
        )


def _runtime(facts: Facts, model: Model) -> Iterable[Refusal]:
    runtimes = facts.runtimes
    if runtimes is None:
        return
    if model.runtime and model.runtime not in runtimes:
        yield Refusal(
            "runtime",
            f"the engine has {', '.join(sorted(runtimes)) or 'none'}",
            f"{model.runtime}, runtime of model.yaml",
            "nvidia-ctk runtime configure --runtime=docker, then restart the engine"
            if model.runtime == "nvidia"
            else "add it to /etc/docker/daemon.json",
        )
    has_gpu = any(facts.paths.get(path, True) for path in GPU_DEVICES)
    if model.resources.gpu and not has_gpu:
        yield Refusal(
            "gpu",
            f"none of {', '.join(GPU_DEVICES)}",
            "an NVIDIA GPU with its driver, resources.gpu of model.yaml",
            "install driver and nvidia-container-toolkit, or choose another node",
        )


def _paths(facts: Facts, model: Model) -> Iterable[Refusal]:
    for path in model.devices:
        if not facts.paths.get(path, True):
            yield Refusal("device", f"no {path}", f"{path}, devices of model.yaml", "plug it in, or load its driver")
    for volume in model.volumes:
        if not facts.paths.get(volume.source, True):
            yield Refusal(
                "volume", f"no {volume.source}", f"{volume.source}, volumes of model.yaml", "make it on the node"
            )
