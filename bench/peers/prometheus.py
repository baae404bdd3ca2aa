"""Prometheus that scrapes node_exporter, both as Debian ships them: many targets, each an address of one exporter."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.child import BenchError, wait_for
from bench.cpu import memory_mb, tree_cpu_s
from bench.fleet import address
from tests.servers.sshd import free_port

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_SCRAPES = re.compile(r"^prometheus_target_interval_length_seconds_count\{.*\} (\S+)$", re.MULTILINE)
_SERIES = re.compile(r"^prometheus_tsdb_head_series (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one scrape costs once all series exist; processor time is user and system.

    :param series: of one target
    """

    prometheus_cpu_ms: float
    exporter_cpu_ms: float
    scrapes: int
    series: float
    prometheus_memory_mb: float


def measure(folder: Path, targets: int, interval_s: int, window_s: int) -> Cost:
    """Scrape ``targets`` addresses every ``interval_s``; measure for ``window_s`` after the first round."""
    folder.mkdir()
    exporter_port, port = free_port(), free_port()
    listen = [f"--web.listen-address={address(index)}:{exporter_port}" for index in range(targets)]
    config = {
        "global": {"scrape_interval": f"{interval_s}s", "scrape_timeout": f"{interval_s}s"},
        "scrape_configs": [
            {
                "job_name": "node",
                "static_configs": [{"targets": [f"{address(index)}:{exporter_port}" for index in range(targets)]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    server = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        _running(folder, "prometheus-node-exporter", listen) as exporter,
        _running(folder, "prometheus", server) as one,
    ):
        url = f"http://127.0.0.1:{port}/metrics"
        wait_for(
            "Prometheus to scrape every target",
            lambda: True if _scrapes(url) > targets / 2 else None,
            timeout_s=3 * interval_s + 30,
        )
        return _window(url, one.pid, exporter.pid, targets, window_s)


def _window(url: str, server: int, exporter: int, targets: int, window_s: int) -> Cost:
    before = tree_cpu_s(server), tree_cpu_s(exporter), _scrapes(url)
    time.sleep(window_s)
    after = tree_cpu_s(server), tree_cpu_s(exporter), _scrapes(url)
    used, exporter_used, scrapes = (now - then for now, then in zip(after, before, strict=True))
    if not scrapes:
        raise BenchError(f"Prometheus scraped nothing within {window_s} s")
    series = _SERIES.search(_metrics(url) or "")
    return Cost(
        used / scrapes * 1000,
        exporter_used / scrapes * 1000,
        int(scrapes),
        float(series[1]) / targets if series else 0.0,
        memory_mb(server),
    )


def _metrics(url: str) -> str | None:
    try:
        with _OPENER.open(url, timeout=10) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return None


def _scrapes(url: str) -> float:
    """Return how many scrapes there were, less the first one of each target."""
    return sum(map(float, _SCRAPES.findall(_metrics(url) or "")))


@contextmanager
def _running(folder: Path, program: str, options: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    found = shutil.which(program)
    if not found:
        raise BenchError(f"no {program}: install the Debian package of that name")
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen([found, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    try:
        yield process
        if process.poll() is not None:
            raise BenchError(f"{program} ended: {(folder / f'{program}.log').read_text()[-1000:]}")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
