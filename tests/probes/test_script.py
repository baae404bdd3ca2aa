"""The script of a sweep, run for real by the shells of Debian and busybox."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from evc.errors import ParseError
from evc.probes import PROBES
from evc.probes.answer import Answer, parse_answer
from evc.probes.probe import Probe
from evc.probes.script import build_script
from tests.probes.boards import check_fits

ALL = tuple(PROBES.values())
TOOLS = ("head", "df", "uname")
ALWAYS_THERE = {"cpu", "facts", "load", "memory", "network", "storage", "uptime"}


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with busybox under the name of each of its tools."""
    folder = tmp_path_factory.mktemp("busybox")
    subprocess.run(["busybox", "--install", "-s", folder], check=True)
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with the tools that a sweep runs: a test may take one away or put another in its place."""
    for tool in TOOLS:
        (tmp_path / tool).symlink_to(shutil.which(tool) or "not there")
    return tmp_path


def sweep(shell: str | Path, path: str | Path | None = None, probes: tuple[Probe, ...] = ALL) -> Answer:
    """Run the script as sshd does, by the login shell, with ``shell`` in the place of /bin/sh."""
    command = build_script(probes).replace("/bin/sh", str(shell), 1)
    environment = {"PATH": str(path or os.environ["PATH"])}
    done = subprocess.run([shell, "-c", command], env=environment, capture_output=True, timeout=20, check=False)
    assert done.stderr == b""
    return parse_answer(done.stdout)


def read_all(answer: Answer) -> set[str]:
    """Read every probe and return the names of those that had something."""
    samples = {name: probe.read(answer, None) for name, probe in PROBES.items()}
    for sample in samples.values():
        if sample:
            check_fits(sample)
    return {name for name, sample in samples.items() if sample}


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/dash", "/bin/bash"])
def test_shells_of_debian(shell: str) -> None:
    answer = sweep(shell)
    assert answer.complete
    assert answer.outputs["storage"].status == 0
    assert read_all(answer) >= ALWAYS_THERE


def test_bash_as_sh(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/bash")
    answer = sweep(tmp_path / "sh")
    assert answer.complete
    assert read_all(answer) >= ALWAYS_THERE


@pytest.mark.parametrize("shell", ["sh", "/bin/dash"])
def test_tools_of_busybox(busybox: Path, shell: str) -> None:
    answer = sweep(busybox / shell, busybox)
    assert answer.complete
    assert answer.outputs["storage"].text.startswith("Filesystem ")
    assert read_all(answer) >= ALWAYS_THERE


def test_busybox_and_coreutils_see_the_same_disks(busybox: Path) -> None:
    found = []
    for answer in (sweep("/bin/sh"), sweep(busybox / "sh", busybox)):
        sample = PROBES["storage"].read(answer, None)
        assert sample
        rows = sample.details["storage_samples"]
        found.append([(row["mountpoint"], row["device"], row["total_bytes"], row["inodes_total"]) for row in rows])
    assert found[0] == found[1]
    assert found[0]


@pytest.mark.parametrize("probe", ALL, ids=lambda probe: probe.name)
def test_each_probe_alone(probe: Probe) -> None:
    answer = sweep("/bin/sh", probes=(probe,))
    assert answer.complete
    probe.read(answer, None)


def test_a_board_with_vcgencmd_and_without_its_file_is_asked_by_it(tools: Path) -> None:
    (tools / "vcgencmd").write_text('#!/bin/sh\necho "throttled=0x50005"\n')
    (tools / "vcgencmd").chmod(0o755)
    sample = PROBES["throttling"].read(sweep("/bin/sh", tools), None)
    assert sample
    assert sample.columns == {"throttled": 1, "throttled_since_boot": 1}


def test_without_head_the_commands_still_answer(tools: Path) -> None:
    (tools / "head").unlink()
    answer = sweep("/bin/sh", tools)
    assert answer.complete
    assert answer.sections == {}
    assert read_all(answer) == {"facts"}


def test_without_head_a_sweep_without_slow_commands_is_no_answer(tools: Path) -> None:
    (tools / "head").unlink()
    answer = sweep("/bin/sh", tools, tuple(probe for probe in ALL if not probe.interval_s))
    assert not answer.complete
    assert read_all(answer) == set()


def test_without_df_only_storage_fails(tools: Path) -> None:
    (tools / "df").unlink()
    answer = sweep("/bin/sh", tools)
    with pytest.raises(ParseError, match="df: is not there"):
        PROBES["storage"].read(answer, None)
    assert answer.complete
    assert PROBES["cpu"].read(answer, None)


def test_a_df_that_prints_junk_loses_only_storage(tools: Path) -> None:
    (tools / "df").unlink()
    (tools / "df").write_text('#!/bin/sh\necho Type; echo "==> /proc/stat <=="; printf "\\377\\000\\n"\n')
    (tools / "df").chmod(0o755)
    answer = sweep("/bin/sh", tools)
    with pytest.raises(ParseError, match="^df: "):
        PROBES["storage"].read(answer, None)
    assert answer.complete
    assert PROBES["cpu"].read(answer, None)


@pytest.mark.parametrize(
    ("tool", "probe", "lost"), [("df", "storage", {"storage"}), ("docker", "facts", {"facts", "storage"})]
)
def test_a_tool_that_hangs_comes_after_everything_that_does_not(
    tools: Path, tool: str, probe: str, lost: set[str]
) -> None:
    (tools / tool).unlink(missing_ok=True)
    (tools / tool).write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (tools / tool).chmod(0o755)
    argv = ["/bin/bash", "-c", build_script(ALL)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={"PATH": str(tools)}, start_new_session=True) as process:
        assert process.stdout
        stdout = b""
        while f"==> @{probe} <==\n".encode() not in stdout:
            stdout += os.read(process.stdout.fileno(), 65536)
        os.killpg(process.pid, signal.SIGKILL)
    answer = parse_answer(stdout)
    assert not answer.complete
    assert answer.outputs[probe].status is None
    assert read_all(answer) >= ALWAYS_THERE - lost


def test_commands_that_may_hang_come_last_and_df_the_very_last() -> None:
    script = build_script(reversed(ALL))
    order = [script.index(f'"\\n==> @{name} <==') for name in ("throttling", "storage")]
    assert order == sorted(order)
    commands = [part for part in build_script(ALL).split('"\\n==> @') if " <==" in part]
    assert commands[-1].startswith("storage $?")


def test_a_file_that_several_probes_read_is_read_once() -> None:
    assert build_script(ALL).count("/proc/meminfo") == 1


def test_an_average_sweep_forks_for_head_alone() -> None:
    """What costs a node: no probe that is due at every sweep has a command without a condition of builtins."""
    assert [probe.name for probe in ALL if not probe.interval_s and probe.command and not probe.condition] == []
    assert {probe.name: probe.interval_s for probe in ALL if probe.interval_s} == {"facts": 86400, "storage": 300}


@pytest.mark.parametrize("unfit", ["echo 'x'", "echo\nx", 'echo "==> !storage"'])
def test_what_a_login_shell_would_read_otherwise_is_refused(unfit: str) -> None:
    with pytest.raises(ValueError, match="single quote, a newline or an exclamation mark before no space"):
        build_script([Probe(name="unfit", command=unfit, read=lambda answer, before: None)])
