"""What the demo's scenario is given. The scenario itself: tests/fleet/test_demo_scenario.py"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest

from demo import farm
from demo.state import DemoError, default_state


class _Api:
    """Airflow, as far as a trigger. :ivar conf: what the run was given"""

    def trigger(self, _: str, conf: dict[str, Any]) -> str:
        self.conf = conf
        raise DemoError("no further")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> _Api:
    for step in ("have_image", "_let_node_pull"):
        monkeypatch.setattr(farm, step, lambda *_: None)
    return _Api()


def test_the_model_may_read_its_input_whatever_the_umask_and_the_name_of_the_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, api: _Api
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("EVC_STATE", f"{tmp_path}/here/../my 'state'")
    state = default_state()
    state.make_folders()
    former = os.umask(0o077)
    try:
        with pytest.raises(DemoError, match="no further"):
            farm.show_farm(state, cast("Any", api), cast("Any", None), cast("Any", None), 22)
    finally:
        os.umask(former)
    folder = Path(api.conf["input"])
    assert str(folder) == f"{tmp_path.resolve()}/my 'state'/pictures"  # an input with '..' is refused
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
