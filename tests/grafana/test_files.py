"""The files below ``grafana/``: that they are what the code makes, and fit together."""

from __future__ import annotations

import re

import pytest

from tests.grafana.documents import PROJECT, UIDS, dashboard_files, load, panels, queries
from tools.dashboards.dialects import DATA_SOURCE_UID, DIALECTS
from tools.dashboards.files import FOLDERS, ROOT, files, write

PLUGINS = {dialect.name: dialect.plugin for dialect in DIALECTS}
EVERY = [(backend, uid) for backend in FOLDERS for uid in UIDS]


def test_the_committed_files_are_what_the_code_makes() -> None:
    made = files()
    committed = {path.relative_to(PROJECT) for path in (PROJECT / ROOT).rglob("*") if path.is_file()}
    assert {str(path) for path in committed} == {str(path) for path in made}
    stale = [str(path) for path, text in made.items() if (PROJECT / path).read_text() != text]
    assert not stale, "run: .venv/bin/python -m tools.dashboards"


def test_writing_leaves_nothing_of_a_dashboard_that_is_no_more(tmp_path) -> None:  # type: ignore[no-untyped-def]
    old = tmp_path / ROOT / "dashboards" / "evc-old.json"
    old.parent.mkdir(parents=True)
    old.touch()
    write(tmp_path, {ROOT / "dashboards" / "evc-new.json": "{}\n"})
    assert [path.name for path in old.parent.iterdir()] == ["evc-new.json"]


def test_both_data_sources_have_the_same_dashboards() -> None:
    sqlite = [path.stem for path in dashboard_files("sqlite")]
    assert sqlite == UIDS
    for uid in UIDS:
        titles = [[panel["title"] for panel in panels(load(uid, backend))] for backend in FOLDERS]
        assert titles[0] == titles[1]


@pytest.mark.parametrize(("backend", "uid"), EVERY)
def test_a_dashboard_is_whole(backend: str, uid: str) -> None:
    board = load(uid, backend)
    assert board["uid"] == uid
    assert board["title"].startswith("EVC ")
    assert board["description"]
    assert "evc" in board["tags"]
    assert [link["tags"] for link in board["links"]] == [["evc"]]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("backend", "uid"), EVERY)
def test_every_panel_says_what_it_shows(backend: str, uid: str) -> None:
    for panel in panels(load(uid, backend)):
        assert panel["title"], panel
        assert len(panel["description"]) > 10, panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        # columns of rows have units one by one: a unit for all makes a number of a version such as 1.10
        assert bool(defaults.get("unit")) == (panel["type"] not in {"table", "geomap"}), panel["title"]
        assert "libraryPanel" not in panel
        if panel["type"] == "timeseries":
            assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False, "gaps are gaps"


@pytest.mark.parametrize(("backend", "uid"), EVERY)
def test_panels_do_not_overlap(backend: str, uid: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in load(uid, backend)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


@pytest.mark.parametrize(("backend", "uid"), EVERY)
def test_there_is_one_data_source(backend: str, uid: str) -> None:
    board = load(uid, backend)
    wanted = {"type": PLUGINS[backend], "uid": DATA_SOURCE_UID}
    for asked in queries(board):
        assert asked.owner["datasource"] == wanted, asked.name
    for panel in panels(board):
        assert all(target["datasource"] == wanted for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize(("backend", "uid"), EVERY)
def test_links_lead_to_dashboards_and_variables_that_are_there(backend: str, uid: str) -> None:
    board = load(uid, backend)
    links = [
        link["url"]
        for panel in panels(board)
        for override in panel["fieldConfig"]["overrides"]
        for property_ in override["properties"]
        if property_["id"] == "links"
        for link in property_["value"]
    ]
    for url in links:
        target = re.match(r"/d/([a-z-]+)/\?", url)
        assert target, url
        there = load(target[1], backend)
        names = {variable["name"] for variable in there["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", url)) <= names, url


@pytest.mark.parametrize(("backend", "uid"), EVERY)
def test_queries_name_only_variables_that_are_there(backend: str, uid: str) -> None:
    board = load(uid, backend)
    names = {variable["name"] for variable in board["templating"]["list"]}
    for asked in queries(board):
        used = set(re.findall(r"\$\{(\w+)", asked.sql))
        assert used <= names, asked.name
        assert not re.search(r"\$\{\w+\}", asked.sql), f"{asked.name}: a variable without a format"
