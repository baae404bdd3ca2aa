"""Two readings of /proc/net/dev."""

from __future__ import annotations

from typing import Any

import pytest

from evc.errors import ParseError
from evc.probes import network
from evc.probes.answer import Answer
from evc.probes.probe import Before, Sample

HEAD = "Inter-|   Receive    |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes ...\n"
THEN = [1000, 10, 0, 0, 2000, 20, 0, 0]


def table(**interfaces: list[int]) -> str:
    lines = []
    for name, counters in interfaces.items():
        receive, transmit = ([*map(str, half), "0", "0", "0", "0"] for half in (counters[:4], counters[4:]))
        lines.append(f"{name}: {' '.join(receive)} {' '.join(transmit)}\n")
    return (HEAD + "".join(lines)).rstrip("\n")


def second(then: dict[str, list[int]], **now: list[int]) -> Sample:
    sample = network.read(Answer({"/proc/net/dev": table(**now)}), Before(then, 10.0))
    assert sample
    return sample


def row(then: list[int], now: list[int]) -> dict[str, Any]:
    (only,) = second({"eth0": then}, eth0=now).details["network_samples"]
    return dict(only)


def test_rates_are_per_second_of_the_nodes_own_clock() -> None:
    assert row(THEN, [2000, 15, 10, 20, 7000, 30, 30, 40]) == {
        "interface": "eth0",
        "receive_bytes_per_s": 100.0,
        "receive_errors_per_s": 1.0,
        "receive_drops_per_s": 2.0,
        "transmit_bytes_per_s": 500.0,
        "transmit_errors_per_s": 3.0,
        "transmit_drops_per_s": 4.0,
    }


def test_without_a_reading_before_there_are_no_rates() -> None:
    sample = network.read(Answer({"/proc/net/dev": table(eth0=THEN)}), None)
    assert sample
    assert (sample.columns, sample.details, sample.counters) == ({}, {}, {"eth0": THEN})


def test_a_byte_counter_of_32_bits_wraps() -> None:
    then = [2**32 - 1000, 10, 0, 0, 2**32 - 500, 20, 0, 0]
    wrapped = row(then, [0, 20, 0, 0, 500, 30, 0, 0])
    assert (wrapped["receive_bytes_per_s"], wrapped["transmit_bytes_per_s"]) == (100.0, 100.0)


def test_an_interface_that_began_again_has_no_rate_and_the_total_neither() -> None:
    sample = second(
        {"eth0": [5000, 50, 5, 5, 5000, 50, 5, 5], "wlan0": THEN}, eth0=THEN, wlan0=[1100, 11, 0, 0, 2000, 20, 0, 0]
    )
    eth0, wlan0 = sample.details["network_samples"]
    assert {eth0[name] for name in eth0 if name != "interface"} == {None}
    assert wlan0["receive_bytes_per_s"] == 10.0
    assert sample.columns == {"network_receive_bytes_per_s": None, "network_transmit_bytes_per_s": None}


def test_totals_are_of_interfaces_that_were_there_before() -> None:
    sample = second(
        {"eth0": THEN, "wlan0": THEN},
        eth0=[1500, 11, 0, 0, 2000, 20, 0, 0],
        wlan0=[1500, 11, 0, 0, 2100, 21, 0, 0],
        usb0=THEN,
    )
    assert sample.columns == {"network_receive_bytes_per_s": 100.0, "network_transmit_bytes_per_s": 10.0}
    assert set(sample.counters) == {"eth0", "wlan0", "usb0"}


def test_what_containers_add_and_idle_interfaces_do_not_count() -> None:
    names = {"lo", "docker0", "veth12ab", "br-0123456789ab", "eth0", "br0", "docker_gwbridge"}
    assert set(network.parse(table(**dict.fromkeys(names, THEN), sit0=[0] * 8))) == {"eth0", "br0"}


def test_a_name_that_does_not_print() -> None:
    assert set(network.parse(table(**{"eth0\x1b[31m": THEN, "x" * 300: THEN}))) == {"eth0\ufffd[31m", "x" * 64}


def test_a_counter_that_jumps_beyond_any_link_gives_no_rate() -> None:
    assert row(THEN, [2**60, 20, 0, 0, 3000, 30, 0, 0])["receive_bytes_per_s"] is None


def test_more_interfaces_than_a_node_has() -> None:
    many = {f"eth{number}": THEN for number in range(1000)}
    assert len(network.parse(table(**many))) == 64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eth0: 1 2 3",
        HEAD + "eth0 1 2 3",
        HEAD + "eth0: 1 2 3",
        HEAD + "eth0: " + "x " * 16,
        HEAD + ": " + "1 " * 16,
    ],
)
def test_what_is_no_table_of_interfaces(text: str) -> None:
    with pytest.raises(ParseError, match="^/proc/net/dev: "):
        network.parse(text)
