"""Runs of inference and the results of what runs continuously: nodes, images, sessions and database put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection, Engine

from evc.building.source import read_source
from evc.errors import InputError, NodeError, NodeTimeout, Stopped
from evc.fleet.images import Image, check_digest, check_tag
from evc.fleet.inputs import check_input
from evc.fleet.log import Log
from evc.fleet.models import Model, check_model_name
from evc.fleet.nodes import Node, quote, select
from evc.fleet.settings import Settings
from evc.hooks.metrics import checked_engine
from evc.hooks.nodes import NodesHook
from evc.hooks.registry import RegistryHook
from evc.hooks.settings import models_folder, settings
from evc.inference.continuous import Collector, Kinds, Round, Visit
from evc.inference.once import OnceRun, Order
from evc.ssh.pool import Pool
from evc.store.assignments import Assignment, list_assignments
from evc.store.inference import CONTINUOUS, ONCE, Run, unfinished_runs
from evc.store.nodes import list_nodes
from evc.store.rollouts import recorded_spec

DAG_ID = "run_inference"
MAX_NODES = 1024  # Airflow's max_map_length: one task instance for each
MAX_TIMEOUT_S = 86_400
LOST_AFTER_S = 600
"""So long after its time was over a run is given up whose task could not reach the node."""
MARGIN_S = 2 * 3600.0
"""What a run may take beside its own time: pull, end, reading what is left. Then the node has to give its slot back."""
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user asks for.

    :param tag, digest: which image; neither: what is deployed on each node
    :param given: path on the node, or URL
    """

    model: str
    tag: str | None = None
    digest: str | None = None
    nodes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    given: str | None = None
    limit: int | None = None
    timeout_s: int = 600


def run_key(dag_id: str, task_id: str, run_id: str) -> str:
    """Return what tells a run of inference from all others; of DAG ``run_inference`` simply the run's id."""
    return run_id if dag_id == DAG_ID else f"{dag_id}.{task_id} {run_id}"


class InferenceHook:
    """Plans and does runs of inference, and collects results; one object serves one task.

    :param log: the task's own log
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.settings: Settings = settings()
        self.nodes_hook = NodesHook()
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopped = False

    @cached_property
    def database(self) -> Engine:
        """The metrics database. :raises DatabaseError: away, or of another version"""
        return checked_engine()

    # -- plan --------------------------------------------------------------------------------------------------------

    def plan(self, wanted: Wanted) -> list[dict[str, str]]:
        """Check everything and return ``node`` and ``digest`` for each node.

        :raises InputError: anything that makes no sense
        :raises RegistryError: the registry does not have the image, or does not answer
        """
        model = check_model_name("model", wanted.model)
        assigned = self._assigned(model)
        nodes = self._select(wanted, assigned)
        digest = self._named(wanted)
        digests = {node.name: digest or assigned[node.id or 0].digest for node in nodes}
        if wanted.given:
            for each in sorted(set(digests.values())):
                check_input(wanted.given, self._model(model, each))
        else:
            self._model(model, next(iter(digests.values())))
        return [{"node": name, "digest": digests[name]} for name in sorted(digests)]

    def _assigned(self, model: str) -> dict[int, Assignment]:
        with self.database.connect() as connection:
            return {found.node_id: found for found in list_assignments(connection) if found.model == model}

    def _select(self, wanted: Wanted, assigned: Mapping[int, Assignment]) -> list[Node]:
        nodes = self._nodes()
        if wanted.nodes or wanted.groups:
            chosen = select(nodes, wanted.nodes, wanted.groups)
        else:
            chosen = [node for node in nodes if node.id in assigned]
            if not chosen:
                raise InputError(
                    "model", f"{quote(wanted.model)} is deployed on no node", "deploy_model first, or name nodes"
                )
        if not chosen:
            raise InputError("nodes", "no node is registered", "register_node first")
        if len(chosen) > MAX_NODES:
            raise InputError("nodes", f"{len(chosen):,} nodes", f"at most {MAX_NODES:,} a run: by nodes or groups")
        if not wanted.tag and not wanted.digest:
            bare = [node.name for node in chosen if node.id not in assigned]
            if bare:
                wrong = f"{quote(wanted.model)} is not deployed on {', '.join(bare[:10])}{' ...' if bare[10:] else ''}"
                raise InputError("nodes", wrong, "deploy_model first, or name a tag or digest")
        return chosen

    def _named(self, wanted: Wanted) -> str | None:
        if wanted.tag:
            check_tag("tag", wanted.tag)
        if wanted.digest:
            check_digest("digest", wanted.digest)
        if not wanted.tag:
            return wanted.digest
        with RegistryHook().client() as registry:
            found = registry.find(wanted.model, wanted.tag)
        self.log.info("%s:%s is %s", wanted.model, wanted.tag, found)
        if wanted.digest and wanted.digest != found:
            wrong = f"{wanted.digest} is not what tag {quote(wanted.tag)} leads to: {found}"
            raise InputError("digest", wrong, "one of both")
        return found

    def _model(self, model: str, digest: str) -> Model:
        """Return model.yaml as it was when the image was built; as it is now where nobody recorded the build."""
        with self.database.connect() as connection:
            spec = _spec(connection, model, digest)
        if spec is None:
            self.log.warning("no build of %s is recorded: its container is made by today's model.yaml", digest)
            return read_source(models_folder(self.settings), model).model
        try:
            return Model.model_validate(spec)
        except ValidationError as error:
            wrong = f"what is recorded of {digest} does not fit this version of EVC ({error.error_count()} problems)"
            raise InputError("model", wrong, "build_model anew") from None

    def _nodes(self) -> list[Node]:
        with self.database.connect() as connection:
            return list_nodes(connection)

    # -- one run -----------------------------------------------------------------------------------------------------

    def run(self, key: str, node_name: str, digest: str, wanted: Wanted) -> Run:
        """Run a model on one node to its end, or read on from where an earlier try was cut off.

        :param key: see :func:`run_key`; a retry has the same
        :raises InputError: the node is not registered any more
        :raises NodeError: the node could not be reached or could not run it; the run's row says so too
        :raises Stopped: the task was cancelled; the container is removed
        """
        registered = {node.name: node for node in self._nodes()}
        if node_name not in registered:
            raise InputError("nodes", f"{quote(node_name)} is not registered any more", "names of registered nodes")
        node = registered[node_name]
        image = Image(wanted.model, digest)
        model = self._model(wanted.model, digest)
        registry = RegistryHook().pull_address
        limits = {"limit": wanted.limit, "timeout_s": wanted.timeout_s}
        order = Order(key, node.id or 0, model, image, registry, wanted.given, **limits)  # type: ignore[arg-type]
        once = OnceRun(self.database, order, node.name, self.log)
        return self._run(self._once(once, node, registered, wanted.timeout_s + MARGIN_S))

    async def _once(self, once: OnceRun, node: Node, registered: Mapping[str, Node], timeout_s: float) -> Run:
        pool = self._pool()
        try:
            try:
                session, _ = await pool.session(node, registered)
            except NodeError as error:
                once.out_of_touch(error)
                raise
            async with asyncio.timeout(timeout_s):
                return await once.run(session)
        except TimeoutError:
            raise NodeTimeout(f"{node.name}: not done within {timeout_s:g} s") from None
        finally:
            await pool.close()

    # -- what runs continuously ----------------------------------------------------------------------------------------

    def collect(self) -> Round:
        """Read the new lines of all continuous containers.

        :raises EvcError: the database or a login is at fault; what the others had is stored
        """
        registered = {node.name: node for node in self._nodes()}
        with self.database.connect() as connection:
            assigned = [found for found in list_assignments(connection) if found.spec.get("mode") == CONTINUOUS]
            open_runs = unfinished_runs(connection, CONTINUOUS)
            lost_runs = [run for run in unfinished_runs(connection, ONCE) if _is_lost(run)]
            kinds = _kinds(connection, assigned, open_runs)
        visits = _visits(registered.values(), {found.node_id for found in assigned}, open_runs, lost_runs)
        return self._run(self._collect(visits, registered, kinds))

    async def _collect(self, visits: list[Visit], registered: Mapping[str, Node], kinds: Kinds) -> Round:
        pool = self._pool()
        try:
            return await Collector(self.database, pool, registered, kinds, self.log).collect(visits)
        finally:
            await pool.close()

    # -- parts -------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End what is under way; may be called from a signal handler."""
        self._is_stopped = True
        if self._loop and self._task and not self._task.done():
            self._loop.call_soon_threadsafe(self._task.cancel)

    def _pool(self) -> Pool:
        return Pool(self.nodes_hook.credentials, connect_timeout_s=self.settings.connect_timeout_s)

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        async def main() -> _Result:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self._is_stopped:
                work.close()
                raise Stopped("the task was cancelled")
            return await work

        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            raise Stopped("the task was cancelled") from None


def _spec(connection: Connection, model: str, digest: str) -> Mapping[str, Any] | None:
    recorded = recorded_spec(connection, model, digest)
    if recorded is not None:
        return recorded
    found = (it for it in list_assignments(connection) if it.model == model and it.digest == digest)
    return next((it.spec for it in found), None)


def _kinds(connection: Connection, assigned: Iterable[Assignment], runs: Iterable[Run]) -> Kinds:
    """Return the kinds of result lines of what runs, each model.yaml looked up once."""
    specs = {(it.model, it.digest): it.spec for it in assigned}
    for run in runs:
        if (run.model, run.digest) not in specs:
            specs[run.model, run.digest] = recorded_spec(connection, run.model, run.digest) or {}
    return {
        key: frozenset(str(it["kind"]) for it in spec["results"]) for key, spec in specs.items() if spec.get("results")
    }


def _is_lost(run: Run) -> bool:
    deadline_ts = run.deadline_ts or run.started_ts + MAX_TIMEOUT_S
    return time.time() > deadline_ts + LOST_AFTER_S


def _visits(nodes: Iterable[Node], assigned: set[int], open_runs: list[Run], lost_runs: list[Run]) -> list[Visit]:
    visits = []
    for node in nodes:
        own = [run for run in open_runs if run.node_id == node.id]
        lost = [run for run in lost_runs if run.node_id == node.id]
        if own or lost or node.id in assigned:
            visits.append(Visit(node, own, lost))
    return visits
