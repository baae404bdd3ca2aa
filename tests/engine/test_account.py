"""A node's account as its Docker configuration has it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.engine.account import MissingAccount, read_account

ADDRESS = "registry.test:5443"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(entry: object, name: str = ADDRESS, **more: object) -> bytes:
    return json.dumps({"auths": {"other:5000": {"auth": encoded("x:y")}, name: entry}, **more}).encode()


@pytest.mark.parametrize("name", [ADDRESS, f"https://{ADDRESS}", f"https://{ADDRESS}/v1/", f"{ADDRESS}/"])
def test_an_account_is_found_however_its_address_is_written(name: str) -> None:
    assert read_account(config({"auth": encoded("node-7:a:b")}, name), ADDRESS) == {
        "username": "node-7",
        "password": "a:b",
    }


def test_plain_fields_are_an_account_too() -> None:
    assert read_account(config({"username": "a", "password": "b"}), ADDRESS) == {"username": "a", "password": "b"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "no account at registry.test:5443"),
        (b'{"auths": []}', "no account"),
        (config({}), "no account"),
        (config({"auth": "%%%"}), "no account"),
        (config({"auth": encoded("name only")}), "no account"),
        (config({"auth": encoded(":password only")}), "no account"),
        (config({"auth": base64.b64encode(b"\xff:\xff").decode()}), "no account"),
        (config("text"), "no account"),
        (config({}, credsStore="pass"), "credential helper"),
        (config({}, credHelpers={ADDRESS: "ecr-login"}), "credential helper"),
        (config({"auth": encoded("a:b")}, name="registry.test:544"), "no account"),
    ],
)
def test_what_is_no_account_says_why(content: bytes, words: str) -> None:
    with pytest.raises(MissingAccount, match=words):
        read_account(content, ADDRESS)


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["auth", ADDRESS, "a"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["auths", "credsStore", "credHelpers"]), anything))
def test_any_configuration_is_an_account_or_a_reason(content: dict[str, Any]) -> None:
    try:
        account = read_account(json.dumps(content).encode(), ADDRESS)
    except MissingAccount:
        return
    assert account["username"]
    assert account["password"]
