"""docs/models.md says every key of model.yaml with its default, and no other."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from evc.fleet.models import Model

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
NOTHING = {"none", "the image's own", "the engine's own"}


def parts(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from parts(inner)


def keys(part: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, info in part.model_fields.items():
        inner = list(parts(info.annotation))
        is_list = typing.get_origin(info.annotation) is list
        if not inner or is_list:
            yield f"{prefix}{name}", info
        for each in inner:
            yield from keys(each, f"{prefix}{name}{'[]' if is_list else ''}.")


def rows() -> dict[str, tuple[str, str]]:
    section = PAGE.partition("## model.yaml")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+) \|$", section, re.MULTILINE)
    assert len(found) == len({key for key, _, _ in found})
    return {key: (default, meaning) for key, default, meaning in found}


def shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return value if isinstance(value, str) and value else json.dumps(value)


def test_the_page_names_every_key_and_no_other() -> None:
    assert list(rows()) == [key for key, _ in keys(Model)]


def test_the_page_says_every_default() -> None:
    page = rows()
    for key, info in keys(Model):
        default = info.get_default(call_default_factory=True)
        said = page[key][0]
        if default is PydanticUndefined:
            assert said == "required", key
        elif default in (None, [], {}):
            assert said in NOTHING, key
        else:
            assert said == f"`{shown(default)}`", key


def test_every_key_has_a_meaning_here_and_there() -> None:
    for key, info in keys(Model):
        assert info.description, key
        assert len(rows()[key][1]) > 5, key


def test_limits_are_those_of_the_code() -> None:
    from evc.building import source
    from evc.fleet.documents import MAX_DOCUMENT_BYTES

    assert f"Limits: {source.MAX_FILES:,} files, {source.MAX_FILE_BYTES >> 30} GiB a file" in PAGE
    assert f"{source.MAX_BYTES >> 30} GiB together" in PAGE
    assert f"at most {MAX_DOCUMENT_BYTES >> 10} KiB" in PAGE
