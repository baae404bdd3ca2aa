"""Whether a build has anything to do: the image of this very source may be there already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from evc.errors import InputError
from evc.fleet.models import Build, Model
from evc.fleet.nodes import quote


def with_arguments(model: Model, arguments: Mapping[str, str]) -> Model:
    """Return a model with build arguments over its own.

    :raises InputError: a name or text that does not fit
    """
    if not arguments:
        return model
    try:
        build = Build.model_validate({"arguments": {**model.build.arguments, **arguments}})
    except ValidationError:
        allowed = "names of letters, digits and '_', each with one line of text"
        raise InputError("arguments", f"{quote(dict(arguments))} does not fit", allowed) from None
    return model.model_copy(update={"build": build})


def is_of(built: Mapping[str, Any], revision: str, model: Model) -> bool:
    """Whether a build was of this source and of this model.yaml, arguments included. :param built: a row of builds"""
    return (built["source_revision"], built["spec"]) == (revision, model.model_dump(mode="json"))
