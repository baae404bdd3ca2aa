"""Figure 2: processor time that a sweep costs a node."""

from __future__ import annotations

from bench.cpu import Meter
from bench.login_shell import PLAIN_SHELL, login_shell, set_login_shell
from bench.stage import SWEEPS_OF_A_RUN, Stage, running_host
from bench.table import Section, at_least

MS = "ms CPU"


def measure(stage: Stage) -> Section:
    """Count what all processes of an sshd use while it is swept, beside node_exporter's scrapes."""
    count = 10 if stage.quick else 40
    section = Section("2. Node side, CPU per sweep")
    plain = set_login_shell(PLAIN_SHELL)
    own, login, true, how = _sshd(stage, count)
    section.add("all in, ten sweeps a run", own, MS)
    section.add("  a sweep over an open connection", own - login / SWEEPS_OF_A_RUN, MS)
    section.add("  a login (tenth of it is in all in)", login, MS)
    if set_login_shell("/bin/bash"):
        section.add("all in, with bash as login shell, no profile", _sshd(stage, count)[0], MS)
        set_login_shell(PLAIN_SHELL)
    section.add("floor: `true` over an open connection", true, MS, true / own)
    cost = stage.prometheus(20)
    times = cost.exporter_cpu_ms / own
    section.add(
        f"node_exporter: a scrape of {cost.series:.0f} series", cost.exporter_cpu_ms, MS, times, at_least(2, times)
    )
    section.add("  beside a sweep over an open connection", cost.exporter_cpu_ms / (own - login / SWEEPS_OF_A_RUN), "x")
    section.remarks += [
        f"sshd and everything below it, by {how}; {count} addresses, {SWEEPS_OF_A_RUN} sweeps, one `df` in ten",
        "node_exporter: Debian's defaults, scraped by Prometheus (gzip, connection kept open)",
    ]
    if not plain:
        section.remarks.append(f"the login shell is {login_shell()} with this user's profile: its cost is in")
    return section


def _sshd(stage: Stage, count: int) -> tuple[float, float, float, str]:
    """Return ms per sweep all in, per login and per ``true``, and how they were counted."""
    with running_host(stage.new_folder()) as (host, server):
        assert server.process
        meter = Meter(server.process.pid)

        begun = meter.cpu_s()
        stage.measure(host, count, "sqlite", interval_s=2, sweeps=SWEEPS_OF_A_RUN)
        swept = meter.cpu_s()
        stage.bare_asyncssh(host, count, rounds=0)
        logged_in = meter.cpu_s()
        stage.bare_asyncssh(host, count, rounds=5)
        ran = meter.cpu_s()
    meter.close()
    login = logged_in - swept
    return (
        (swept - begun) / count / SWEEPS_OF_A_RUN * 1000,
        login / count * 1000,
        (ran - logged_in - login) / count / 5 * 1000,
        meter.how,
    )
