"""docs/dashboards.md names all there is."""

from __future__ import annotations

import re

from tests.grafana.documents import PROJECT, UIDS
from tests.grafana.test_alerts import rules, seconds
from tools.dashboards.files import FOLDERS

PAGE = (PROJECT / "docs/dashboards.md").read_text()


def test_every_dashboard_is_told_of() -> None:
    assert set(re.findall(r"\| `(evc-[a-z-]+)` \|", PAGE)) == set(UIDS)


def test_every_rule_is_told_of_with_its_time_and_severity() -> None:
    told = re.findall(r"^\| ([A-Z][^|]+) \| [^|]+ \| (\d+) (min|h) \| (\w+) \|$", PAGE, re.MULTILINE)
    spoken = {(title, int(count) * {"min": 60, "h": 3600}[unit], severity) for title, count, unit, severity in told}
    made = rules("postgresql").values()
    assert spoken == {(rule["title"], seconds(rule["for"]), rule["labels"]["severity"]) for rule in made}


def test_every_variable_of_the_environment_is_told_of() -> None:
    used = set()
    for folder in FOLDERS.values():
        for path in (PROJECT / folder / "provisioning").rglob("*.yaml"):
            used |= set(re.findall(r"\$(EVC_\w+)", path.read_text()))
    assert set(re.findall(r"`(EVC_[A-Z_]+)`", PAGE)) == used


def test_the_folders_are_those_of_the_files() -> None:
    for folder in FOLDERS.values():
        assert f"`{folder}/dashboards`, `{folder}/provisioning`" in PAGE
