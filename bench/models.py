"""The code of the models that come with the project, as their containers import it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from bench.child import PROJECT


def model_module(model: str, module: str) -> Any:
    """Return a module of a model's package, which is called as the model is."""
    folder = str(PROJECT / "include" / "models" / model)
    if folder not in sys.path:
        sys.path.append(folder)
    return import_module(f"{model}.{module}")
