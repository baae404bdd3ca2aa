"""What a user may say of a node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.errors import InputError
from evc.fleet.nodes import Node, jump_path, make_node, select

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDKvs2j7DjPZ0gVfDBmCfQ2Yx8kvVZEwJrmkuGuZBBwf"


def test_a_name_and_a_host_are_enough() -> None:
    assert make_node({"name": "edge-1", "host": "10.0.0.7", "user": "", "address": None}) == Node("edge-1", "10.0.0.7")


def test_everything_that_may_be_said() -> None:
    node = make_node(
        {
            "name": "farm.01_A",
            "host": "2001:db8::7",
            "port": 2222,
            "user": "jetson",
            "groups": ["jetson", "farm-2", "jetson"],
            "labels": {"site": "수원 2공장", "Row": "7"},
            "address": " 경기도 수원시 영통구 ",
            "host_key": KEY,
            "conn_id": "other_nodes",
            "jump_node": "gate",
            "thermal_unit": "deci_kelvin",
        }
    )
    assert node.groups == ("farm-2", "jetson")
    assert node.labels == {"Row": "7", "site": "수원 2공장"}
    assert node.address == "경기도 수원시 영통구"
    assert node.host_key == KEY


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "a b", "a/b", "../a", "a'b", 'a"b', "a\nb", "a\n", ";rm -rf /", "$(reboot)", "`id`", "a" * 300),
        *("카메라", "-a", "a-", ".a", "all", "ungrouped", "localhost", "a\0", "a:b", "[1:3]", 7, True, ["a"], {"a": 1}),
    ],
)
def test_a_name_that_does_not_fit_is_named_with_what_is_allowed(name: Any) -> None:
    with pytest.raises(InputError) as caught:
        make_node({"name": name, "host": "h"})
    assert str(caught.value).startswith("name: ")
    assert "; allowed: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("host", bad) for bad in ("", "a b", "-oProxyCommand=x", "h;id", "1.2.3", "1.2.3.4.5", ":::1", "a" * 300, 7)],
        *[("port", bad) for bad in (0, -1, 65536, "22", 22.0, True)],
        *[("user", bad) for bad in ("-l", "a b", "root;id", "a" * 40)],
        *[("groups", bad) for bad in ("jetson", ["a b"], ["all"], [1], ["edge-1"], ["0a"], {"a": 1})],
        *[("labels", bad) for bad in (["a"], {"a b": "x"}, {"a": 1}, {"a": "x\ny"}, {"a": "x" * 501}, {"": "x"})],
        *[("labels", bad) for bad in ({"a\n": "x"}, {"a": "x\ud800"}, {"a\udfff": "x"}, {"a": "x\n"})],
        *[(key, "a\n") for key in ("host", "user", "conn_id", "jump_node", "host_key")],
        ("groups", ["a\n"]),
        *[("address", bad) for bad in ("a\nb", "a" * 501, 7, "\ud800", "수원\udcff", "a\n")],
        *[
            ("host_key", bad)
            for bad in ("AAAA", "ssh-dss " + "A" * 68, "ssh-ed25519 " + "A" * 68, KEY + " me", KEY[:-5])
        ],
        *[("host_key", bad) for bad in (KEY.replace("ssh-ed25519", "ssh-rsa"), f"{KEY}\n{KEY}")],
        *[("conn_id", bad) for bad in ("a b", "x" * 251)],
        *[("jump_node", bad) for bad in ("edge-1", "a b", "all")],
        *[("thermal_unit", bad) for bad in ("kelvin", 1)],
        ("colour", "red"),
        ("id", 7),
    ],
)
def test_any_other_value_that_does_not_fit_is_named(key: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        make_node({"name": "edge-1", "host": "h", key: value})
    assert key in caught.value.where or caught.value.where.startswith(key)
    assert "\n" not in str(caught.value)
    assert str(caught.value).encode()  # can be printed and stored


def test_an_address_of_only_spaces_is_none() -> None:
    assert make_node({"name": "edge-1", "host": "h", "address": "  "}).address is None


@given(st.dictionaries(st.sampled_from(list(Node.__dataclass_fields__)), st.text() | st.integers() | st.none()))
def test_whatever_is_given_is_a_node_or_an_input_error(given_values: dict[str, Any]) -> None:
    said, name = "", None
    try:
        name = make_node(given_values).name
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    assert said or name == given_values["name"]


def fleet(**jumps: str | None) -> dict[str, Node]:
    return {name: Node(name, "h", jump_node=jump) for name, jump in jumps.items()}


def test_the_way_through_jump_nodes_begins_nearest_to_us() -> None:
    nodes = fleet(gate=None, inner="gate", camera="inner")
    assert [node.name for node in jump_path(nodes["camera"], nodes)] == ["gate", "inner"]
    assert jump_path(nodes["gate"], nodes) == []


@pytest.mark.parametrize(
    ("jumps", "wrong"), [({"a": "b", "b": "a"}, "circle"), ({"a": "gone"}, "not a registered node")]
)
def test_a_way_that_leads_nowhere_is_refused(jumps: dict[str, str | None], wrong: str) -> None:
    nodes = fleet(**jumps)
    with pytest.raises(InputError, match=wrong):
        jump_path(nodes["a"], nodes)


def test_selection_by_name_and_group() -> None:
    a, b, c = Node("a", "h", groups=("farm",)), Node("b", "h", groups=("farm", "jetson")), Node("c", "h")
    assert select([a, b, c]) == [a, b, c]
    assert select([a, b, c], ["c"], ["jetson"]) == [b, c]
    with pytest.raises(InputError, match=r'nodes: \["x"\] not registered'):
        select([a, b, c], ["a", "x"])
    with pytest.raises(InputError, match=r'groups: \["x"\] without a node'):
        select([a, b, c], [], ["x"])


def test_selection_by_labels() -> None:
    a, b = (
        Node("a", "h", labels={"site": "north", "bed": "1"}),
        Node("b", "h", groups=("farm",), labels={"site": "south"}),
    )
    assert select([a, b], labels={"site": "north"}) == [a]
    assert select([a, b], labels={"site": "north", "bed": "1"}) == [a]
    assert select([], labels={"site": "north"}) == []
    with pytest.raises(InputError, match='labels: {"site": "north"} is on none of 1 nodes; allowed: labels that '):
        select([a, b], [], ["farm"], {"site": "north"})
