"""What the demo shows of samples."""

from __future__ import annotations

from demo.up import _last_known


def test_values_that_were_not_due_come_from_an_older_sample() -> None:
    rows = [
        {"ts": 90, "cpu_usage_ratio": 0.5, "storage_total_bytes": None, "gpu_usage_ratio": None},
        {"ts": 60, "cpu_usage_ratio": 0.9, "storage_total_bytes": 7, "gpu_usage_ratio": None},
        {"ts": 30, "cpu_usage_ratio": 0.1, "storage_total_bytes": 5, "gpu_usage_ratio": None},
    ]
    assert _last_known(rows) == {
        "ts": 90,
        "cpu_usage_ratio": 0.5,
        "storage_total_bytes": 7,
        "gpu_usage_ratio": None,
    }
