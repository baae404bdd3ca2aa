"""YAML that people write: one mapping a file, read so that every complaint names file, line and key.

A plain subset of YAML 1.2 with its core schema: ``true`` and ``false`` are the only booleans, dates stay texts. What
makes a small text a large thing (anchors, aliases) or more than data (tags) is refused before anything is built.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from evc.errors import InputError
from evc.fleet.nodes import quote

MAX_DOCUMENT_BYTES = 65_536
MAX_DEPTH = 16

Path = tuple[str | int, ...]
Part = TypeVar("Part", bound=BaseModel)

_YAML = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"^[-+]?[0-9]+$|^0o[0-7]+$|^0x[0-9a-fA-F]+$")
_FLOAT = re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$")
_SHOWN_PROBLEMS = 5


class _Resolver(BaseResolver):
    """YAML 1.2, 10.3.2: how plain scalars are told apart; all else is a text."""


_Resolver.add_implicit_resolver(f"{_YAML}null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Resolver.add_implicit_resolver(f"{_YAML}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Resolver.add_implicit_resolver(f"{_YAML}int", _INTEGER, list("-+0123456789"))
_Resolver.add_implicit_resolver(f"{_YAML}float", _FLOAT, list("-+.0123456789"))


class _Loader(Reader, Scanner, Parser, Composer, _Resolver):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)


@dataclass(frozen=True, slots=True)
class Document:
    """One file's mapping.

    :param where: what the file is called in errors
    :param value: mappings, lists, texts, numbers, booleans and None
    :param lines: where each key, or item of a list, stands, from 1; () is the mapping itself
    """

    where: str
    value: dict[str, Any]
    lines: Mapping[Path, int]

    def at(self, *path: str | int) -> str:
        """Return ``file:line: key`` of ``path``, or of the nearest part around it that is there."""
        there = next(path[:end] for end in range(len(path), -1, -1) if path[:end] in self.lines)
        key = f": {_dotted(path)}" if path else ""
        return f"{self.where}:{self.lines[there]}{key}"

    def fit(self, part: type[Part], words: Mapping[str, str]) -> Part:
        """Return the document as a ``part``.

        :param words: for each pattern that ``part`` uses, what it allows, for people
        :raises InputError: the first problem in full, and where the others are
        """
        try:
            return part.model_validate(self.value)
        except ValidationError as error:
            raise self._error(part, error.errors(include_url=False), words) from None

    def _error(self, part: type[BaseModel], errors: Iterable[ErrorDetails], words: Mapping[str, str]) -> InputError:
        def line(error: ErrorDetails) -> int:
            return int(self.at(*_path(error)).removeprefix(f"{self.where}:").partition(":")[0])

        first, *others = sorted(errors, key=line)
        wrong, allowed = _explain(part, first, words)
        if others:
            places = [f"line {line(error)} {_dotted(_path(error))}" for error in others]
            more = [f"and {len(others) - _SHOWN_PROBLEMS} more"] if len(others) > _SHOWN_PROBLEMS else []
            allowed = f"{allowed}; also wrong: {', '.join(places[:_SHOWN_PROBLEMS] + more)}"
        return InputError(self.at(*_path(first)), wrong, allowed)


def read_document(where: str, data: bytes, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> Document:
    """Read one YAML mapping.

    :param where: what the file is called in errors
    :raises InputError: naming the line
    """
    if len(data) > max_bytes:
        raise InputError(where, f"{len(data)} bytes", f"at most {max_bytes}")
    text = _decode(where, data)
    try:
        _refuse_more_than_data(where, text)
        root = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{where}:{line}", "a character that YAML does not allow", "printable text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"{where}:{mark.line + 1 if mark else 1}", f"no YAML: {error.problem}", "YAML") from None
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1 if root else 1
        raise InputError(f"{where}:{line}", "is not a mapping", "keys with their values, 'name: ...'")
    lines: dict[Path, int] = {(): root.start_mark.line + 1}
    return Document(where, _mapping(where, root, (), lines), lines)


def _decode(where: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{where}:{line}", "is not UTF-8", "text in UTF-8") from None


def _refuse_more_than_data(where: str, text: str) -> None:
    """Look at the stream of events, before aliases become anything."""
    depth = documents = 0
    for event in _events(text):
        at = f"{where}:{event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise InputError(at, f"the alias *{event.anchor}", "values written out")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise InputError(at, "a second document", "one document a file")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(at, "nested too deep", f"at most {MAX_DEPTH} levels")
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            _refuse_decorated(at, event)


def _refuse_decorated(at: str, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
    if event.anchor:
        raise InputError(at, f"the anchor &{event.anchor}", "values written out")
    if event.tag:
        raise InputError(at, f"the tag {quote(event.tag)}", "plain values; a text in quotes")


def _events(text: str) -> Iterator[Any]:
    loader = _Loader(text)
    while loader.check_event():
        yield loader.get_event()  # type: ignore[no-untyped-call]


def _value(where: str, node: yaml.Node, path: Path, lines: dict[Path, int]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(where, node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        values = []
        for index, item in enumerate(node.value):
            lines[*path, index] = item.start_mark.line + 1
            values.append(_value(where, item, (*path, index), lines))
        return values
    return _scalar(where, node, path)


def _mapping(where: str, node: yaml.MappingNode, path: Path, lines: dict[Path, int]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_YAML}str":
            raise InputError(f"{where}:{line}", "a key that is not a text", "texts as keys, in quotes where needed")
        name = _scalar(where, key, path)
        if name in values:
            raise InputError(f"{where}:{line}: {_dotted((*path, name))}", "stands here twice", "each key once")
        lines[*path, name] = line
        values[name] = _value(where, value, (*path, name), lines)
    return values


def _scalar(where: str, node: yaml.Node, path: Path) -> Any:
    text: str = node.value
    at = f"{where}:{node.start_mark.line + 1}{': ' if path else ''}{_dotted(path)}"
    match node.tag.removeprefix(_YAML):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" if len(text) <= 20:
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        case "float" if math.isfinite(float(text)):
            return float(text)
        case "int" | "float":
            raise InputError(at, f"{quote(text)} is too large", "a smaller number, or a text in quotes")
    if any((ord(c) < 32 and c not in "\n\t") or 0xD800 <= ord(c) <= 0xDFFF or ord(c) == 127 for c in text):
        raise InputError(at, "a control character", "printable text")
    return text


def _path(error: ErrorDetails) -> Path:
    return tuple(part for part in error["loc"] if part != "[key]")


def _dotted(path: Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    # a key is of the file's writer: on one line, not endless
    return text if text.isprintable() and len(text) <= 80 else quote(text)


def _explain(part: type[BaseModel], error: ErrorDetails, words: Mapping[str, str]) -> tuple[str, str]:
    """Return what is wrong and what is allowed."""
    path, kind, context = _path(error), error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(part, path)
    if kind == "missing":
        return "is missing", _meaning(part, path)
    shown = quote(error["input"])
    if kind == "string_pattern_mismatch":
        return f"{shown} does not fit", words[context["pattern"]]
    if kind == "string_type":
        return f"{shown} is not a text", "a text; in quotes where it looks like a number"
    if "allowed" in context:
        is_whole = isinstance(error["input"], dict | list)  # what is wrong of it says the message
        return error["msg"] if is_whole else f"{shown} {error['msg']}", str(context["allowed"])
    allowed = re.sub(r"^\w+ should (?:be|have) ", "", error["msg"]).partition(" after validation")[0]
    return f"{shown} does not fit", _ALLOWED.get(kind, allowed)


_ALLOWED = {
    "model_type": "a mapping, keys with their values",
    "dict_type": "a mapping, keys with their values",
    "list_type": "a list",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}


def _unknown_key(part: type[BaseModel], path: Path) -> tuple[str, str]:
    holder = _part_at(part, path[:-1])
    keys = list(holder.model_fields) if holder else []
    close = get_close_matches(str(path[-1]), keys, 1)
    return f"unknown key{f', is {close[0]} meant?' if close else ''}", ", ".join(keys)


def _meaning(part: type[BaseModel], path: Path) -> str:
    holder = _part_at(part, path[:-1])
    return (holder and holder.model_fields[str(path[-1])].description) or "a value"


def _part_at(part: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """Return the class that describes the mapping at ``path``."""
    found: type[BaseModel] | None = part
    for step in path:
        if isinstance(step, str) and found:
            found = _nested(found.model_fields[step].annotation)
    return found


def _nested(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in typing.get_args(annotation) if (found := _nested(inner))), None)
