"""What to ask a node and how to read the answer: one file per subsystem.

A module in this package that defines ``PROBE`` is registered by being there. Probes do no I/O: they name files and
at most one command, and turn the node's answer into columns of ``node_samples`` and rows of the detail tables.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import MappingProxyType

from evc.probes.probe import Probe

_NOT_PROBES = {"answer", "fields", "probe", "rates", "script"}


def _discover() -> dict[str, Probe]:
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_PROBES)
    probes = [importlib.import_module(f"{__name__}.{name}").PROBE for name in names]
    return {probe.name: probe for probe in probes}


PROBES = MappingProxyType(_discover())
"""Every probe by its name, in the order of their names."""
