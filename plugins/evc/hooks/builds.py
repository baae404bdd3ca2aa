"""Builds of models: source, builder, registry and metrics database put together."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine as Database

from evc.building.build import build_image
from evc.building.known import is_of, with_arguments
from evc.building.options import MODEL_LABEL, build_options
from evc.building.platforms import architecture, architecture_of, check_architecture, check_platform, read_handlers
from evc.building.push import check_way, push_image
from evc.building.source import Source, known_models, read_source
from evc.engine.client import Engine, connect
from evc.errors import (
    BuildFailed,
    DatabaseError,
    EngineError,
    EvcError,
    ImageNotFound,
    InputError,
    RegistryRefused,
    Stopped,
)
from evc.fleet.images import check_tag
from evc.fleet.log import Log
from evc.fleet.models import Model
from evc.fleet.nodes import Node, quote
from evc.fleet.settings import Settings
from evc.hooks.metrics import checked_engine
from evc.hooks.nodes import NodesHook
from evc.hooks.playbooks import PlaybooksHook
from evc.hooks.registry import RegistryHook
from evc.hooks.settings import models_folder, settings
from evc.ssh.pool import Pool
from evc.ssh.session import Session
from evc.store.builds import begin_build, end_build, find_build, last_build, store_model
from evc.store.nodes import list_nodes

COPY_PLAYBOOK = "copy_model"
TRUST_PLAYBOOK = "trust_registry"
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One build as a user asks for it.

    :param run_id: tells it from every other build; a retry has the same
    :param tag: None: the model's version
    :param builder: name of a registered node
    :param platform: e.g. ``linux/arm64``; None: the builder's own
    :param arguments: build arguments over those of model.yaml
    :param force: build and push even where nothing has changed, without the builder's cache
    """

    run_id: str
    model: str
    builder: str
    tag: str | None = None
    platform: str | None = None
    arguments: Mapping[str, str] | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    """What a build needs, all of it checked."""

    wanted: Wanted
    source: Source
    model: Model
    builder: Node
    native: str
    platform: str
    tag: str

    @property
    def repository(self) -> str:
        return self.model.name

    @property
    def spec(self) -> dict[str, Any]:
        return self.model.model_dump(mode="json")

    @property
    def local_name(self) -> str:
        """The image's name on the builder until it is pushed: no other build has the same."""
        return f"evc-build/{self.model.name}:{hashlib.sha256(self.wanted.run_id.encode()).hexdigest()[:32]}"


def build_key(dag_id: str, task_id: str, run_id: str) -> str:
    """Return what tells the build of a task from all others; of DAG ``build_model`` simply the run's id."""
    return run_id if dag_id == "build_model" else f"{dag_id}.{task_id} {run_id}"


class BuildsHook:
    """Builds models; one object serves one task.

    :param log: the task's own log
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.settings: Settings = settings()
        self.nodes_hook = NodesHook()
        self.playbooks = PlaybooksHook(log, self.nodes_hook)
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopped = False

    @cached_property
    def database(self) -> Database:
        """The metrics database. :raises DatabaseError: away, or of another version"""
        return checked_engine()

    def models(self) -> list[str]:
        """Return the names of all models that have a source."""
        return known_models(models_folder(self.settings))

    def build(self, wanted: Wanted) -> dict[str, Any]:
        """Copy, build, push and record one image; what was done already is not done again.

        Returns ``model``, ``version``, ``repository``, ``tag``, ``digest``, ``platform``, ``source_revision`` and
        ``status``: ``succeeded``, or ``unchanged`` where the registry has this very build already.

        :raises InputError: what is asked for does not exist or does not fit; nothing was changed
        :raises RegistryError: the registry is not fit for a push; nothing was copied
        :raises PlaybookFailed: the source did not reach the builder
        :raises BuildFailed: the build failed; the message ends with the reason
        :raises NodeError: the builder or its engine failed
        :raises Stopped: :meth:`stop` was called
        """
        registered = self._registered()
        job = self._check(wanted, registered)
        registry = RegistryHook()
        known = self._known(job, registry)
        if known:
            return known
        with self.database.begin() as connection:
            begin_build(connection, wanted.run_id, self._row(job), int(time.time()))
        try:
            self._let_trust(job, registered, registry)
            digest = self._make(job, registered, registry)
            with registry.client() as client:
                size_bytes = client.facts(job.repository, digest).size_bytes
        except EvcError as error:
            self._record_failure(wanted.run_id, str(error))
            raise
        self._record(job, "succeeded", digest, size_bytes)
        self.log.info("%s:%s is %s, %.1f MB", job.repository, job.tag, digest, size_bytes / 1e6)
        return _result(job, "succeeded", digest)

    def stop(self) -> None:
        """End the build under way; may be called from a signal handler."""
        self._is_stopped = True
        self.playbooks.stop()
        if self._loop and self._task and not self._task.done():
            self._loop.call_soon_threadsafe(self._task.cancel)

    # -- before ----------------------------------------------------------------------------------------------------

    def _registered(self) -> dict[str, Node]:
        with self.database.connect() as connection:
            return {node.name: node for node in list_nodes(connection)}

    def _check(self, wanted: Wanted, registered: Mapping[str, Node]) -> _Job:
        """Find out, before anything is changed, whether the build can be done."""
        source = read_source(models_folder(self.settings), wanted.model)
        model = with_arguments(source.model, wanted.arguments or {})
        tag = model.version if wanted.tag is None else check_tag("tag", wanted.tag)
        builder = registered.get(wanted.builder)
        if builder is None:
            names = ", ".join(sorted(registered)) or "none yet: trigger register_node"
            raise InputError("builder", f"{quote(wanted.builder)} is not registered", f"a registered node: {names}")
        if wanted.platform:
            check_architecture("platform", architecture(wanted.platform), model.architectures)
        native = self._run(self._ask_builder(builder, registered, wanted.platform))
        check_architecture("builder", architecture(wanted.platform or f"linux/{native}"), model.architectures)
        return _Job(wanted, source, model, builder, native, wanted.platform or f"linux/{native}", tag)

    async def _ask_builder(self, builder: Node, registered: Mapping[str, Node], platform: str | None) -> str:
        """Return the architecture of the builder's engine.

        :raises InputError: it can't build for ``platform``
        """
        async with self._engine(builder, registered) as (session, engine):
            info = await engine.info()
            native = architecture_of(str(info.get("Architecture")))
            if platform and architecture(platform) != native:
                check_platform(builder.name, native, platform, await read_handlers(session))
            return native

    def _known(self, job: _Job, registry: RegistryHook) -> dict[str, Any] | None:
        """Return the result where this try has nothing to do.

        :raises RegistryError: the registry does not answer or refuses us: better known now than after the build
        """
        with self.database.connect() as connection:
            own = find_build(connection, job.wanted.run_id)
            last = last_build(connection, job.repository, job.tag, job.platform)
        is_own = bool(own and last and own["id"] == last["id"])
        with registry.client() as client:
            client.check()
            if last is None or not is_of(last, job.source.revision, job.model) or (job.wanted.force and not is_own):
                return None
            try:
                there = client.resolve(job.repository, job.tag)
            except ImageNotFound:
                there = None
        digest = str(last["digest"])
        if there != digest:
            self.log.info("%s:%s was built from this source, but the registry has it no more", job.repository, job.tag)
            return None
        if is_own:
            self.log.info("an earlier try of this task has built %s", digest)
            return _result(job, str(last["status"]), digest)
        self.log.info(
            "unchanged: %s:%s was built from this very source (%s) on %s and is in the registry as %s; "
            "force builds it anyway",
            job.repository, job.tag, job.source.revision, last["builder"], digest,
        )  # fmt: skip
        with self.database.begin() as connection:
            begin_build(connection, job.wanted.run_id, self._row(job), int(time.time()))
        self._record(job, "unchanged", digest, last["size_bytes"])
        return _result(job, "unchanged", digest)

    def _let_trust(self, job: _Job, registered: Mapping[str, Node], registry: RegistryHook) -> None:
        """Let the builder's engine trust the registry to which it pushes, where it does not yet.

        :raises RegistryRefused: it does not trust it, and nobody says which CA to trust
        """

        async def ask() -> bool:
            async with self._engine(job.builder, registered) as (_, engine):
                return await check_way(engine, f"{registry.address}/{job.repository}", job.tag, registry.auth)

        if self._run(ask()):
            return
        self.log.info("%s does not trust registry %s yet", job.builder.name, registry.address)
        if registry.ca_path is None:
            raise RegistryRefused(
                f"{job.builder.name}: its engine does not trust the certificate of registry {registry.address}; name "
                "its CA in ca_path of connection evc_registry, or add it there by hand"
            )
        variables = {
            "builder": job.builder.name,
            "registry_address": registry.address,
            "registry_ca": _read_ca(registry.ca_path),
        }
        report = self.playbooks.run(TRUST_PLAYBOOK, [job.builder], registered.values(), variables=variables)
        report.raise_failures()
        if not self._run(ask()):
            raise RegistryRefused(
                f"{job.builder.name}: its engine does not trust registry {registry.address}, though "
                f"/etc/docker/certs.d/{registry.address}/ca.crt is there: is it the CA of this registry?"
            )

    # -- the build -------------------------------------------------------------------------------------------------

    def _make(self, job: _Job, registered: Mapping[str, Node], registry: RegistryHook) -> str:
        """Copy, build and push; returns the digest."""
        self.log.info(
            "source %s: %d files, %d bytes", job.source.revision, len(job.source.files), job.source.size_bytes
        )
        variables = {
            "builder": job.builder.name,
            "model": job.model.name,
            "models_folder": str(job.source.folder.parent.absolute()),
            "revision": job.source.revision,
        }
        report = self.playbooks.run(COPY_PLAYBOOK, [job.builder], registered.values(), variables=variables)
        report.raise_failures()
        return self._run(self._build_and_push(job, registered, registry))

    async def _build_and_push(self, job: _Job, registered: Mapping[str, Node], registry: RegistryHook) -> str:
        is_foreign = architecture(job.platform) != job.native or job.platform.count("/") > 1
        options = build_options(
            job.source,
            image=job.local_name,
            platform=job.platform if is_foreign else None,
            arguments=job.model.build.arguments,
            is_fresh=job.wanted.force,
        )

        def follow(line: str) -> None:
            self.log.info("%s", line)

        async with self._engine(job.builder, registered) as (session, engine):
            begin = time.monotonic()
            self.log.info("building on %s for %s", job.builder.name, job.platform)
            await build_image(session, job.model.name, job.source.revision, options, follow)
            image_id = await self._built(engine, job)
            self.log.info("built %s in %.1f s", image_id, time.monotonic() - begin)
            begin = time.monotonic()
            repository = f"{registry.address}/{job.repository}"
            self.log.info("pushing %s:%s", repository, job.tag)
            digest = await push_image(engine, image_id, repository, job.tag, registry.auth, follow)
            self.log.info("pushed %s in %.1f s", digest, time.monotonic() - begin)
            await self._tidy(engine, job, image_id)
        return digest

    async def _built(self, engine: Engine, job: _Job) -> str:
        """Return the id of what was built.

        :raises BuildFailed: it is for another architecture: so was its base
        """
        image = await engine.image(job.local_name)
        if image is None:
            raise BuildFailed(f"{engine.name}: the build ended well, but its image is not there")
        made = str(image.get("Architecture"))
        if made != architecture(job.platform):
            raise BuildFailed(
                f"{engine.name}: the image is for {made} and not for {job.platform}: is its base image for "
                f"{architecture(job.platform)}?"
            )
        return str(image["Id"])

    async def _tidy(self, engine: Engine, job: _Job, image_id: str) -> None:
        """Leave this image and the one before it on the builder; what is still in use stays too."""
        with contextlib.suppress(EngineError):
            await engine.remove_image(job.local_name)
            mine = await engine.images(labels={MODEL_LABEL: job.model.name})
            nameless = [image for image in mine if not set(image.get("RepoTags") or ()) - {"<none>:<none>"}]
            nameless.sort(key=lambda image: -int(image.get("Created") or 0))
            for image in nameless[1:]:
                if image["Id"] != image_id:
                    with contextlib.suppress(EngineError):
                        await engine.remove_image(str(image["Id"]))

    @asynccontextmanager
    async def _engine(self, node: Node, registered: Mapping[str, Node]) -> AsyncIterator[tuple[Session, Engine]]:
        pool = Pool(self.nodes_hook.credentials, connect_timeout_s=self.settings.connect_timeout_s)
        try:
            session, _ = await pool.session(node, registered)
            async with connect(session) as engine:
                yield session, engine
        finally:
            await pool.close()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        async def main() -> _Result:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self._is_stopped:
                work.close()
                raise Stopped("the build was stopped")
            return await work

        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            raise Stopped("the build was stopped") from None

    # -- records ---------------------------------------------------------------------------------------------------

    def _row(self, job: _Job) -> dict[str, Any]:
        return {
            "model": job.model.name,
            "version": job.model.version,
            "repository": job.repository,
            "tag": job.tag,
            "platform": job.platform,
            "builder_id": job.builder.id,
            "source_revision": job.source.revision,
            "spec": job.spec,
        }

    def _record(self, job: _Job, status: str, digest: str, size_bytes: int | None) -> None:
        ts = int(time.time())
        with self.database.begin() as connection:
            end_build(connection, job.wanted.run_id, status, ts, digest=digest, size_bytes=size_bytes)
            store_model(connection, job.spec, job.source.revision, ts)

    def _record_failure(self, run_id: str, message: str) -> None:
        # where the database is away too, the build's own error is what the log has to end with
        with contextlib.suppress(DatabaseError), self.database.begin() as connection:
            end_build(connection, run_id, "failed", int(time.time()), message=message)


def _read_ca(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="ascii")
    except (OSError, ValueError):
        raise InputError("connection evc_registry", f"ca_path {path} can't be read", "the CA's PEM file") from None


def _result(job: _Job, status: str, digest: str) -> dict[str, Any]:
    return {
        "model": job.model.name,
        "version": job.model.version,
        "repository": job.repository,
        "tag": job.tag,
        "digest": digest,
        "platform": job.platform,
        "source_revision": job.source.revision,
        "status": status,
    }
