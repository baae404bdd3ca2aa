"""``include/scenarios/<name>.yaml``: a run configuration, which becomes the DAG ``scenario_<name>``.

Every key is documented in ``include/scenarios/reference.yaml.example``; a test holds that file to this one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from evc.errors import InputError
from evc.fleet.deadlines import DEADLINE_PATTERN, DEFAULT_DEADLINE
from evc.fleet.documents import read_document
from evc.fleet.images import DIGEST_PATTERN, TAG_PATTERN
from evc.fleet.inputs import INPUT_PATTERN
from evc.fleet.models import LINE_PATTERN, MAX_NAME, MODEL_PATTERN, VARIABLE_PATTERN, WORD_PATTERN
from evc.fleet.nodes import GROUP_PATTERN, LABEL_PATTERN, NAME_PATTERN, Node, quote, select
from evc.fleet.spans import SPAN_PATTERN, seconds_of
from evc.fleet.waves import DEFAULT_WAVES, parse_waves

ENDING = ".yaml"
MAX_SCENARIO_NAME = 63
SCENARIO_PATTERN = r"^[a-z0-9]+(?:_[a-z0-9]+)*$"
PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")

_ALLOWED_NAME = "1 to 63 lower-case ASCII letters and digits, parted by single '_', none of those first or last"
_WORDS = {
    MODEL_PATTERN: "the name of a model: lower-case letters and digits, parted by '-' or '_'",
    TAG_PATTERN: "1 to 128 ASCII letters, digits, '_', '.' or '-', no '.' or '-' first; in quotes",
    DIGEST_PATTERN: "sha256: and 64 digits of 0-9 and a-f",
    NAME_PATTERN: "the name of a node: at most 63 letters, digits, '-', '_', '.'",
    GROUP_PATTERN: "the name of a group of Ansible's inventory: letters, digits, '-' and '_', no digit or '-' first",
    LABEL_PATTERN: "the name of a label, as register_node takes it",
    VARIABLE_PATTERN: "1 to 128 ASCII letters, digits or '_', no digit first",
    LINE_PATTERN: "one line of at most 2000 printable characters",
    WORD_PATTERN: "1 to 63 ASCII letters, digits, '_', '.' or '-', no '.' or '-' first",
    INPUT_PATTERN: "an absolute path on the node (file, folder, or a camera such as /dev/video0) or a URL",
    DEADLINE_PATTERN: 'a duration ("90m", "2h", "1d") or an RFC 3339 time with its offset; or nothing: without end',
    SPAN_PATTERN: 'a whole number and a unit: "30m", "24h", "7d"',
}
_MAX_SPAN_S = 3650 * 86_400


def _complain(allowed: str, wrong: str = "does not fit") -> PydanticCustomError:
    return PydanticCustomError("scenario", "{wrong}", {"wrong": wrong, "allowed": allowed})


def _once_each(items: list[str]) -> list[str]:
    twice = next((item for index, item in enumerate(items) if item in items[:index]), None)
    if twice is not None:
        raise _complain("each once", f"names {quote(twice)} twice")
    return items


def _check_waves(given: list[int | str]) -> list[int | str]:
    try:
        parse_waves(given)
    except InputError as error:
        raise _complain(error.allowed, f"{error.where}: {error.wrong}") from None
    return given


def _comes(cron: str) -> bool:
    """Whether there is such a time, the same whoever asks: not 30 February, nor croniter's "R", a random one."""
    if re.search(r"(?<![a-z])r(?![a-z])", cron, re.IGNORECASE):
        return False
    try:
        croniter(cron, 0.0).get_next()
    except CroniterBadDateError:
        return False
    return True


def _check_schedule(text: str) -> str:
    if text not in PRESETS and not (len(text.split()) == 5 and croniter.is_valid(text) and _comes(text)):
        raise _complain(f"five fields of cron, '0 6 * * *', or one of {', '.join(PRESETS)}; or nothing: on demand")
    return text


def _check_timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # unknown, or more than a name
        raise _complain("a name of the IANA time zone database, Asia/Seoul") from None
    return text


def _check_span(text: str) -> str:
    if seconds_of(text) > _MAX_SPAN_S:
        raise _complain("at most 3650d", "is too long")
    return text


Tag = Annotated[str, StringConstraints(pattern=TAG_PATTERN)]
NodeName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Group = Annotated[str, StringConstraints(pattern=GROUP_PATTERN)]
Label = Annotated[str, StringConstraints(pattern=LABEL_PATTERN)]
Line = Annotated[str, StringConstraints(pattern=LINE_PATTERN)]
Word = Annotated[str, StringConstraints(pattern=WORD_PATTERN)]
Span = Annotated[str, StringConstraints(pattern=SPAN_PATTERN), AfterValidator(_check_span)]
Variable = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)]
Severity = Literal["info", "warning", "error"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelImage(_Part):
    """Which model, and which image of it."""

    name: Annotated[str, StringConstraints(pattern=MODEL_PATTERN, max_length=MAX_NAME)] = Field(
        description="name of the model: its folder in include/models, its repository in the registry"
    )
    tag: Tag | None = Field(
        None, description="with build: the new image's tag, else model.yaml's version; without: the image to be used"
    )
    digest: Annotated[str, StringConstraints(pattern=DIGEST_PATTERN)] | None = Field(
        None, description="the image to be used, instead of a tag; not together with build"
    )


class BuildStep(_Part):
    """The model is built first; an unchanged source builds nothing."""

    builder: NodeName = Field(description="the registered node that builds")
    platform: Literal["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6"] | None = Field(
        None, description="what to build for; what the builder is"
    )
    arguments: dict[Variable, Line] = Field(
        default_factory=dict, description="build arguments over those of model.yaml; no secrets"
    )


class Selection(_Part):
    """Which nodes: those named, and those of the groups; of these only those that bear all the labels."""

    names: Annotated[list[NodeName], AfterValidator(_once_each)] = Field(
        default_factory=list, description="these nodes"
    )
    groups: Annotated[list[Group], AfterValidator(_once_each)] = Field(
        default_factory=list, description="the nodes of these groups; without names either: all nodes, or see nodes"
    )
    labels: dict[Label, Line] = Field(
        default_factory=dict, description="of those only the nodes that bear all of these labels"
    )


class RollOutStep(_Part):
    """The image is rolled out to the nodes: as deploy_model does."""

    waves: Annotated[list[int | str], AfterValidator(_check_waves)] = Field(
        default_factory=lambda: list(DEFAULT_WAVES), description="where each wave ends: a count, or a percentage of all"
    )
    success_threshold: float = Field(
        90.0, ge=1, le=100, description="percent of a wave's nodes that have to succeed before the next wave begins"
    )
    error_threshold: float = Field(
        10.0, ge=0, le=100, description="where more percent of a wave's nodes fail, all go back"
    )
    approval: bool = Field(False, description="whether a person is asked before each wave but the first")
    deadline: Annotated[str, StringConstraints(pattern=DEADLINE_PATTERN)] | None = Field(
        DEFAULT_DEADLINE, description="how long nodes that do not answer are waited for; null: without end"
    )
    if_busy: Literal["refuse", "wait"] = Field(
        "wait", description="where another roll-out of the model is not finished: refuse this one, or wait"
    )


class InferenceStep(_Part):
    """The model is run once on each node: as run_inference does."""

    input: Annotated[str, StringConstraints(pattern=INPUT_PATTERN)] | None = Field(
        None, description="a path on the node (file, folder, camera) or a URL; null: as the model does without"
    )
    limit: int | None = Field(None, ge=1, le=2**53, description="frames or pictures at most; null: all")
    timeout_s: int = Field(600, ge=1, le=86_400, description="seconds after which it is stopped")


class EventRule(_Part):
    """An event of the node where what its results say crosses a threshold."""

    kind: Word = Field(description="the kind of result lines that are looked at")
    label: Line | None = Field(None, description="only lines with this label; null: all of the kind")
    statistic: Literal["last", "mean", "min", "max", "count"] = Field(
        "mean", description="of the lines' values; count: how many lines there are"
    )
    window: Span | None = Field(None, description="over this time up to now; null: over this run")
    above: float | None = Field(None, description="the event is raised where the statistic is above this")
    below: float | None = Field(None, description="the event is raised where the statistic is below this")
    falls_by: float | None = Field(
        None,
        gt=0,
        le=100,
        description="percent that it has fallen by, from the window before to this one",
    )
    severity: Severity = Field("warning", description="of the event")
    message: Line | None = Field(None, description="what the event says beside the figures")

    @model_validator(mode="after")
    def _one_threshold(self) -> EventRule:
        if sum(value is not None for value in (self.above, self.below, self.falls_by)) != 1:
            raise _complain("exactly one of above, below and falls_by", "has no threshold, or more than one")
        if self.falls_by is not None and self.window is None:
            raise _complain("a window such as 24h beside falls_by", "falls_by has nothing to fall from")
        return self


class IdentityStep(_Part):
    """Sightings of several nodes become identities: the rules of docs/reid.md."""

    similarity_min: float = Field(
        0.9, ge=0, le=1, description="cosine from which on two sightings may be one identity; depends on the describer"
    )
    speed_m_per_s: float = Field(
        3.0, ge=0.01, le=1000, description="metres a second; who would have been faster is somebody else"
    )
    reach_m: float = Field(30.0, ge=0, le=100_000, description="metres that a person may be from the node that sees it")
    forget_s: float = Field(
        43_200.0, ge=1, le=_MAX_SPAN_S, description="seconds for which an identity is remembered after it was last seen"
    )


class Scenario(_Part):
    """One run configuration. Its steps run in this order; those that are absent are left out."""

    description: str = Field(min_length=1, max_length=1000, description="what it does, for people")
    schedule: Annotated[str, AfterValidator(_check_schedule)] | None = Field(
        None, description="cron of five fields, or a preset such as @daily; null: on demand"
    )
    timezone: Annotated[str, AfterValidator(_check_timezone)] = Field(
        "UTC", description="time zone of the schedule, a name of the IANA database"
    )
    model: ModelImage = Field(description="which model, and which image of it")
    nodes: Selection = Field(
        default_factory=Selection,
        description="which nodes; without names and groups all, or, where the model is run and neither built nor "
        "rolled out, those on which it is deployed",
    )
    collect: bool = Field(False, description="whether the nodes' telemetry is collected first")
    build: BuildStep | None = Field(None, description="the model is built first")
    rollout: RollOutStep | None = Field(None, description="the image is rolled out to the nodes")
    inference: InferenceStep | None = Field(None, description="the model is run once on each node")
    results: Annotated[list[Word], AfterValidator(_once_each)] = Field(
        default_factory=list, description="the kinds of results that are summed up in the log; all where none is named"
    )
    events: list[EventRule] = Field(
        default_factory=list, max_length=100, description="thresholds on the results that raise events"
    )
    identities: IdentityStep | None = Field(None, description="sightings of several nodes become identities")

    @property
    def only_runs(self) -> bool:
        """Whether it runs the model and neither builds nor rolls it out."""
        return bool(self.inference and not self.build and not self.rollout)

    @property
    def steps(self) -> tuple[str, ...]:
        """What it does: two files with the same steps are DAGs with the same tasks."""
        is_named = self.model.tag or self.model.digest
        does = {
            "collect": self.collect,
            "build": self.build,
            "image": is_named and not self.build,
            "rollout": self.rollout,
            "inference": self.inference,
            "identities": self.identities,
        }
        return tuple(step for step, wanted in does.items() if wanted)

    @model_validator(mode="after")
    def _does_something(self) -> Scenario:
        if not (self.collect or self.build or self.rollout or self.inference):
            raise _complain("at least one of collect, build, rollout and inference", "does nothing")
        if self.build and self.model.digest:
            raise _complain("a tag, or nothing", "has a build and model.digest: a build makes its own digest")
        if self.rollout and not (self.build or self.model.tag or self.model.digest):
            raise _complain("build, model.tag or model.digest", "has a rollout, but no image to roll out")
        if not self.inference and any(rule.window is None for rule in self.events):
            raise _complain("inference, or a window such as 24h", "has an event over this run, which runs no model")
        return self


def check_scenario_name(where: str, name: str) -> str:
    """Return ``name``. :raises InputError: it can't be the name of a scenario"""
    if not re.fullmatch(SCENARIO_PATTERN, name) or len(name) > MAX_SCENARIO_NAME:
        raise InputError(where, f"{quote(name)} does not fit", _ALLOWED_NAME)
    return name


def read_scenario(path: str, data: bytes) -> Scenario:
    """Read a scenario.

    :param path: of the file; its stem is the scenario's name
    :raises InputError: naming file, line, key and what is allowed
    """
    file = path.rsplit("/", 1)[-1]
    check_scenario_name(file, file.removesuffix(".example").removesuffix(ENDING))
    return read_document(file, data).fit(Scenario, _WORDS)


def choose_nodes(
    scenario: Scenario,
    nodes: Iterable[Node],
    model: str,
    names: Collection[str],
    groups: Collection[str],
    deployed: Collection[int],
) -> list[Node]:
    """Return the nodes that a run takes.

    Where no name and no group is given all of them; where it only runs the model, those on which that is deployed, as
    run_inference does.

    :param nodes: all that are registered
    :param model: of the run, which may have been given another one than the file names; names and groups too
    :param deployed: ids of the nodes on which the model is deployed
    :raises InputError: a name or group that no node has, labels that none bears, no node at all
    """
    nodes, labels = list(nodes), scenario.nodes.labels
    if scenario.only_runs and not names and not groups:
        chosen = [node for node in nodes if node.id in deployed and labels.items() <= node.labels.items()]
        if not chosen:
            bearing = f" that bears {quote(labels)}" if labels else ""
            wrong = f"{quote(model)} is deployed on no node{bearing}"
            raise InputError("model", wrong, "deploy_model first, or name nodes")
        return chosen
    chosen = select(nodes, names, groups, labels)
    if not chosen:
        raise InputError("nodes", "no node is registered", "nodes that register_node or import_inventory made")
    return chosen


def keys(part: type[BaseModel] = Scenario, before: str = "") -> dict[str, Any]:
    """Return every key that a file may have, dotted, with its field; items of a list as ``events[]``."""
    found: dict[str, Any] = {}
    for name, field in part.model_fields.items():
        key = f"{before}{name}"
        found[key] = field
        nested = _part_of(field.annotation)
        if nested:
            is_list = getattr(field.annotation, "__origin__", None) is list
            found |= keys(nested, f"{key}{'[]' if is_list else ''}.")
    return found


def _part_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in getattr(annotation, "__args__", ()) if (found := _part_of(inner))), None)
