"""Probes with little to say: load, memory, uptime, pressure, GPU, throttling, facts."""

from __future__ import annotations

import pytest

from evc.errors import ParseError
from evc.probes import facts, gpu, load, memory, pressure, throttling, uptime
from evc.probes.answer import Answer, Output
from evc.probes.probe import Before

PSI = "/proc/pressure/"


@pytest.mark.parametrize("text", ["", "0.1 0.2", "nan 0.1 0.2", "0.1 inf 0.2", "0.1 0.2 1e999", "-1 0 0"])
def test_what_is_no_load(text: str) -> None:
    with pytest.raises(ParseError, match="^/proc/loadavg: '.*' does not begin with three numbers$"):
        load.parse(text)


def test_memory_lines_are_found_wherever_they_stand() -> None:
    text = "MemTotal: 100 kB\nXMemFree: 1 kB\nMemFree:2 kB\nSwapFree:    3 kB"
    assert [memory.parse(text, key) for key in ("MemTotal", "MemFree", "SwapFree", "Mem")] == [102400, 2048, 3072, None]


@pytest.mark.parametrize(
    "line", ["MemTotal:", "MemTotal: 1", "MemTotal: 1 MB", "MemTotal: -1 kB", f"MemTotal: {2**44} kB", "x"]
)
def test_what_is_no_memory(line: str) -> None:
    with pytest.raises(ParseError, match="^/proc/meminfo: "):
        memory.read(Answer({"/proc/meminfo": f"{line}\nMemFree: 1 kB"}), None)


def test_a_total_of_nothing_is_unknown() -> None:
    sample = memory.read(Answer({"/proc/meminfo": "MemTotal: 0 kB\nMemAvailable: 0 kB\nSwapTotal: 0 kB"}), None)
    assert sample
    assert sample.columns["memory_total_bytes"] is None
    assert sample.columns["swap_total_bytes"] == 0


def test_uptime_without_a_boot_id_and_a_boot_id_without_uptime() -> None:
    boot_id = "f452ee6e-c7d4-4be0-99c1-32bc7c835844"
    sample = uptime.read(Answer({"/proc/uptime": "12.34 1.00"}), None)
    assert sample
    assert sample.counters == {"boot_id": None, "uptime_s": 12.34}
    sample = uptime.read(Answer({"/proc/sys/kernel/random/boot_id": boot_id}), None)
    assert sample
    assert sample.counters == {"boot_id": boot_id, "uptime_s": None}


@pytest.mark.parametrize("text", ["", "nan 1", "-5.0 1", "1e12 1", "up 3 days"])
def test_what_is_no_uptime(text: str) -> None:
    with pytest.raises(ParseError, match="^/proc/uptime: "):
        uptime.parse_uptime(text)


@pytest.mark.parametrize("text", ["", "f452ee6e", "F452EE6E-C7D4-4BE0-99C1-32BC7C835844", "x" * 300])
def test_what_is_no_boot_id(text: str) -> None:
    with pytest.raises(ParseError, match="^/proc/sys/kernel/random/boot_id: "):
        uptime.parse_boot_id(text)


def some(total: int | str) -> str:
    return f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9"


def test_pressure_is_the_share_of_time_stalled() -> None:
    answer = Answer({PSI + "cpu": some(5_000_000), PSI + "io": some(99_000_000), PSI + "memory": some(1)})
    sample = pressure.read(answer, Before({"cpu": 2_000_000, "io": 1_000_000, "memory": 2}, 30.0))
    assert sample
    assert sample.columns == {"pressure_cpu_ratio": 0.1, "pressure_io_ratio": 1.0, "pressure_memory_ratio": None}


def test_pressure_of_a_resource_that_was_not_there_before() -> None:
    sample = pressure.read(Answer({PSI + "cpu": some(5)}), Before({"io": 1}, 30.0))
    assert sample
    assert (sample.columns, sample.counters) == ({}, {"cpu": 5})


@pytest.mark.parametrize("text", ["x", "some avg10=0.00", some("x"), some(-1), "full total=1"])
def test_what_is_no_pressure(text: str) -> None:
    with pytest.raises(ParseError, match="^/proc/pressure/cpu: "):
        pressure.read(Answer({PSI + "cpu": text}), None)


@pytest.mark.parametrize("text", ["", "1001", "-1", "0@76800000Hz", "nan"])
def test_what_is_no_gpu_load(text: str) -> None:
    path = "/sys/class/devfreq/57000000.gpu/device/load"
    with pytest.raises(ParseError, match=f"^{path}: "):
        gpu.read(Answer({path: text}), None)


def test_control_characters_in_the_path_of_a_gpu_do_not_pass() -> None:
    with pytest.raises(ParseError) as caught:
        gpu.read(Answer({"/sys/class/devfreq/\x1b[2J\x07\x00" + "x" * 1000 + "/device/load": "busy\x1b"}), None)
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith("/sys/class/devfreq/\ufffd[2J\ufffd\ufffdxxx")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("bits", "now", "since_boot"), [(0, 0, 0), (0x8, 1, 1), (0x80000, 0, 1), (0x50005, 1, 1), (0xFFF0, 0, 0)]
)
def test_throttling_bits(bits: int, now: int, since_boot: int) -> None:
    sample = throttling.read(Answer(outputs={"throttling": Output(f"throttled={bits:#x}", 0)}), None)
    assert sample
    assert sample.columns == {"throttled": now, "throttled_since_boot": since_boot}


def test_throttling_since_boot_is_forgotten_only_at_a_boot() -> None:
    answer = Answer({throttling.PROBE.files[0]: "0"})
    for before, since_boot in ((Before(1, 30.0), 1), (Before(0, 30.0), 0), (None, 0)):
        sample = throttling.read(answer, before)
        assert sample
        assert sample.columns["throttled_since_boot"] == since_boot


def test_a_command_that_was_cut_is_no_value() -> None:
    assert throttling.read(Answer(outputs={"throttling": Output("throttled=0x5", None)}), None) is None
    assert facts.read(Answer(outputs={"facts": Output("aarch", None)}), None) is None


@pytest.mark.parametrize(("text", "count"), [("0", 1), ("0-3", 4), ("0-1,4-5,7", 5)])
def test_processors(text: str, count: int) -> None:
    assert facts.parse_cpus(text) == count


@pytest.mark.parametrize("text", ["3-", "x", "3-1", "0-99999999", "", ",".join(["0-65535"] * 2)])
def test_what_is_no_list_of_processors(text: str) -> None:
    with pytest.raises(ParseError, match="^/sys/devices/system/cpu/present: "):
        facts.parse_cpus(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('PRETTY_NAME="Yocto \\"Edge\\" 4"', 'Yocto "Edge" 4'),
        ("PRETTY_NAME='Alpine Linux v3.20'", "Alpine Linux v3.20"),
        ("NAME=Buildroot", "Buildroot"),
        ("ID=x", None),
        ('PRETTY_NAME="a\x1b[31m"', "a\ufffd[31m"),
    ],
)
def test_names_of_distributions(text: str, name: str | None) -> None:
    assert facts.parse_os_release(text) == name


@pytest.mark.parametrize(
    ("text", "arch", "version"),
    [
        ("aarch64\n24.0.5", "aarch64", "24.0.5"),
        ("x86_64\n20.10.21+dfsg1", "x86_64", "20.10.21+dfsg1"),
        ("armv7l\n", "armv7l", None),
        ("\n24.0.5", None, "24.0.5"),
        ("aarch64\n<no value>", "aarch64", None),
        ("", None, None),
    ],
)
def test_what_the_command_of_facts_prints(text: str, arch: str | None, version: str | None) -> None:
    assert facts.parse_output(text) == (arch, version)
