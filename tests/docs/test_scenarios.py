"""The query of docs/scenarios.md finds what a run of a scenario did, however long its ids are."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Engine, text

from evc.hooks.scenarios import inference_key
from evc.store.inference import open_run
from evc.store.scenarios import begin_scenario
from tests.store.batches import TS, store_with_nodes

DOCS = Path(__file__).parents[2] / "docs"
DIGEST = f"sha256:{'a' * 64}"


def test_the_query_leads_from_a_run_to_what_each_node_did(engine: Engine) -> None:
    (query,) = re.findall(r"```sql\n(.*?);\n```", (DOCS / "scenarios.md").read_text(), re.DOTALL)
    store_with_nodes(engine, 2)
    names = ("farm", "f" * 63)
    with engine.begin() as connection:
        for name in names:
            key = f"scenario_{name} {'r' * 250}"
            given = {"run_id": key, "scenario": name, "content": "", "model": "m", "nodes": ["n1", "n2"]}
            begin_scenario(connection, given, TS)
            for node_id in (1, 2):
                run = {"run_id": inference_key(key), "node_id": node_id, "model": "m", "digest": DIGEST}
                open_run(connection, {**run, "mode": "once", "status": "starting", "started_ts": TS})
        found = [(row.scenario, row.name) for row in connection.execute(text(query))]
    assert sorted(found) == sorted((name, node) for name in names for node in ("n1", "n2"))
