"""Messages for people: the worst first, storms in one line."""

from __future__ import annotations

from evc.fleet.notices import Event, compose

TS = 1_790_000_000


def event(
    node: str = "farm-1", kind: str = "down", severity: str = "error", message: str = "gone", ts: int = TS
) -> Event:
    return Event(ts, 1, node, kind, severity, message)


def test_each_event_has_its_line_and_the_worst_come_first() -> None:
    notice = compose(
        [
            event(kind="up", severity="info", message="answers"),
            event("farm-2", "anomaly", "warning", "cpu 0.93,\n usually 0.10 to 0.35"),
            event(),
        ]
    )
    assert notice.title == "Edge Vision Cluster: 1 error, 1 warning, 1 note"
    assert notice.severity == "error"
    assert notice.body.splitlines() == [
        "2026-09-21 14:13:20 UTC farm-1: down: gone",
        "2026-09-21 14:13:20 UTC farm-2: anomaly: cpu 0.93, usually 0.10 to 0.35",
        "2026-09-21 14:13:20 UTC farm-1: up: answers",
    ]


def test_a_storm_is_one_line() -> None:
    notice = compose([event(f"farm-{number}", ts=TS + number) for number in range(200)])
    assert notice.title == "Edge Vision Cluster: 200 errors"
    (line,) = notice.body.splitlines()
    assert line.startswith("2026-09-21 14:13:20 UTC to 2026-09-21 14:16:39 UTC down: 200 events of farm-0, farm-1, ")
    assert line.endswith(", farm-9 and 190 more; all: gone")


def test_a_storm_of_one_moment_names_that_once_and_nodes_as_people_count() -> None:
    names = [f"storm-{number}" for number in range(41, 0, -1)]
    notice = compose([event(name, message=f"127.0.0.1 port {name[6:]}: refused") for name in names])
    ten = ", ".join(f"storm-{number}" for number in range(1, 11))
    assert notice.body == (
        f"2026-09-21 14:13:20 UTC down: 41 events of {ten} and 31 more; storm-1: 127.0.0.1 port 1: refused"
    )
    assert notice.summary == "41 errors (down: storm-1, storm-2, storm-3 and 38 more)"


def test_a_summary_names_those_first_whose_severity_is_worst() -> None:
    notice = compose(
        [
            event("farm-1", "threshold", "warning"),
            event("farm-2", "up", "info"),
            event("farm-10", "threshold"),
            event("farm-10", "threshold", ts=TS + 1),
        ]
    )
    assert notice.summary == "2 errors, 1 warning, 1 note (threshold: farm-10, farm-1; up: farm-2)"


def test_a_message_has_an_end() -> None:
    notice = compose([event(kind=f"kind-{number}") for number in range(80)])
    assert len(notice.body.splitlines()) == 51
    assert notice.body.endswith("and 30 lines more: evc events has all")


def test_a_line_has_an_end_and_prints() -> None:
    notice = compose([event(message="\x1b[31mhot\u202e\n" + "x" * 100_000)])
    assert notice.body.startswith("2026-09-21 14:13:20 UTC farm-1: down: [31mhot xxx")
    assert notice.body.isprintable()
    assert len(notice.body) == 300
    assert notice.body.endswith("x...")
