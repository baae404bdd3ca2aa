"""Figure 3: a thousand nodes in one task."""

from __future__ import annotations

from bench.stage import Stage
from bench.table import Goal, Section, below


def measure(stage: Stage) -> Section:
    """Sweep the largest count in one fresh process that holds what a task of Airflow holds."""
    count = max(stage.counts)
    run = stage.task(count, "sqlite")
    later = max(mark.duration_s for mark in run.marks[1:])
    rows = round(sum(mark.rows for mark in run.marks[1:]) / len(run.marks[1:]))
    section = Section(f"3. {count:,} nodes in one task, SQLite")
    section.add("first sweep, logins included", run.first.duration_s, "s", goal=below(30, run.first.duration_s, "s"))
    section.add("the longest later sweep", later, "s", goal=below(30, later, "s"))
    section.add("writing it, meanwhile", max(mark.write_s for mark in run.marks[1:]), "s")
    section.add("rows of a later sweep", rows, "rows")
    section.add("ticks missed", run.missed_ticks, "", goal=Goal("none", run.missed_ticks == 0))
    section.add("resident memory at the peak", run.memory_peak_mb, "MB", goal=below(300, run.memory_peak_mb, "MB"))
    section.add("  of it Airflow and imports, before the first sweep", run.memory_before_mb, "MB")
    section.remarks += [
        "real ticks of 30 s; the processors are shared with the sshd and the scripts of all the nodes"
        if not stage.quick
        else "a quick run: shorter ticks",
    ]
    return section
