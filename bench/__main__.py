"""``python -m bench [FIGURE ...]``: one table of figures."""

from __future__ import annotations

import argparse
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bench.child import PROJECT, BenchError
from bench.login_shell import PLAIN_SHELL, enter_private_view, leave_private_view, set_login_shell
from bench.machine import describe
from bench.stage import Stage
from bench.table import Section, as_markdown, as_text

FIGURES = (
    *("sweep", "node", "scale", "simulated", "airflow", "ingest", "history", "results"),
    *("rollout", "smart_farm", "reid", "anomalies"),
)


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "figure",
        nargs="*",
        choices=[[], *FIGURES],
        metavar="FIGURE",
        help=f"some of {', '.join(FIGURES)}; default: all of them",
    )
    parser.add_argument("--quick", action="store_true", help="small counts, to try the bench itself")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="history's databases: made once, there next time")
    parser.add_argument("--markdown", action="store_true", help="the table as in docs/scale.md")
    return parser.parse_args(given)


def _measure(figures: list[str], quick: bool, kept: Path | None) -> tuple[list[Section], list[str]]:
    folder = Path(tempfile.mkdtemp(prefix="evc-bench-"))
    stage = Stage(folder, quick, kept)
    sections, failed = [], []
    try:
        for name in figures:
            begun = time.monotonic()
            figure: Callable[[Stage], Section] = import_module(f"bench.{name}").measure
            try:
                sections.append(figure(stage))
            except BenchError as error:
                failed.append(f"{name}: {error}")
            print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    finally:
        stage.close()
        shutil.rmtree(folder, ignore_errors=True)
    return sections, failed


def main(given: list[str]) -> int:
    """Measure and print; return the exit status: 1 where a figure could not be measured."""
    options = _arguments(given)
    if subprocess.run([PROJECT / "tests" / "packages.sh", "bench"], check=False).returncode:
        return 1  # it said why
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are stopped on the way out
    enter_private_view(given)
    machine = describe()
    set_login_shell(PLAIN_SHELL)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        sections, failed = _measure(options.figure or list(FIGURES), options.quick, options.keep)
    finally:
        leave_private_view()
    lines = [f"- {line}" for line in machine] if options.markdown else machine
    print("\n".join([*lines, "", as_markdown(sections) if options.markdown else as_text(sections)]))
    for line in failed:
        print(f"not measured: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
