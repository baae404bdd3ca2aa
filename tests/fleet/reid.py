"""A model for tests."""

from __future__ import annotations

from evc.fleet.models import Model


def model(**more: object) -> Model:
    """Return a model that runs on; ``more`` wins."""
    given: dict[str, object] = {
        "name": "reid",
        "description": "Who is it?",
        "task": "reid",
        "version": "1.2",
        "mode": "continuous",
        "inputs": ["file", "folder", "camera", "url"],
        "results": [{"kind": "person"}],
    }
    return Model.model_validate({**given, **more})
