"""The result line contract: the parser, its schema, and whatever a hostile container may print."""

from __future__ import annotations

import json
import time
from importlib.resources import files
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.fleet.results import MALFORMED, MAX_DEPTH, MAX_LINE_BYTES, MAX_TEXT, Result, read_line

TS_NS = 1_700_000_000_123_456_789
KINDS = frozenset({"person", "count"})
SCHEMA = json.loads((files("evc.fleet") / "results.schema.json").read_text())


def read(line: str | bytes, kinds: frozenset[str] | None = KINDS) -> Result:
    return read_line(line.encode() if isinstance(line, str) else line, TS_NS, kinds)


def reason(line: str | bytes) -> str:
    found = read(line)
    assert found.kind == MALFORMED
    assert found.payload
    assert json.loads(found.payload)["reason"] == found.label
    return str(found.label)


def test_a_line_becomes_a_row() -> None:
    line = '{"kind":"person","label":"7","score":0.5,"value":3,"latency_ms":12,"frame":4,"ts":1700000001.9,"box":[1,2]}'
    assert read(line) == Result(1_700_000_001, "person", "7", 0.5, 3.0, 12.0, '{"frame":4,"box":[1,2]}', 4)


def test_only_the_kind_is_needed() -> None:
    assert read('{"kind": "person"}') == Result(1_700_000_000, "person", None, None, None, None, None)


@pytest.mark.parametrize("kind", ["frame", "summary", "error"])
def test_special_kinds_need_not_be_listed(kind: str) -> None:
    assert read(json.dumps({"kind": kind})).kind == kind
    assert not read(json.dumps({"kind": kind})).is_result


def test_any_kind_goes_where_the_model_is_not_known() -> None:
    assert read('{"kind": "dog"}', None).kind == "dog"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "not JSON"),
        ("hello", "not JSON"),
        ('{"kind": "person"', "not JSON"),
        ('{"kind": "person"} {}', "not JSON"),
        ('{"kind": "per\tson"}', "not JSON"),
        ("[]", "not an object"),
        ("null", "not an object"),
        ('"person"', "not an object"),
        ("{}", "kind: missing or no word"),
        ('{"kind": 7}', "kind: missing or no word"),
        ('{"kind": "a b"}', "kind: missing or no word"),
        ('{"kind": "dog"}', "kind: not listed in model.yaml"),
        ('{"kind": "person", "score": "high"}', "score: not a number"),
        ('{"kind": "person", "score": true}', "score: not a number"),
        ('{"kind": "person", "score": NaN}', "NaN is no number in JSON"),
        ('{"kind": "person", "box": [-Infinity]}', "-Infinity is no number in JSON"),
        ('{"kind": "person", "score": 1e999}', "score: out of range"),
        ('{"kind": "person", "box": [1e999]}', "a number is out of range"),
        ('{"kind": "person", "value": ' + "9" * 400 + "}", "value: out of range"),
        ('{"kind": "person", "value": ' + "9" * 5000 + "}", "a number is too long"),
        ('{"kind": "person", "latency_ms": -1}', "latency_ms: below 0"),
        ('{"kind": "person", "ts": 1700000000000}', "ts: not unix seconds"),
        ('{"kind": "person", "label": 5}', "label: not a text of at most 255 characters"),
        ('{"kind": "person", "label": "' + "x" * 256 + '"}', "label: not a text of at most 255 characters"),
        ('{"kind": "person", "frame": 1.5}', "frame: not a whole number from 0"),
        ('{"kind": "person", "frame": -1}', "frame: not a whole number from 0"),
        ('{"kind": "person", "a": ' + "[" * 20 + "]" * 20 + "}", f"nested deeper than {MAX_DEPTH}"),
        ("[" * 60_000, f"nested deeper than {MAX_DEPTH}"),
        ('{"a":' * 10_000, f"nested deeper than {MAX_DEPTH}"),
        ('{"kind": "summary", "frames": "3"}', "frames: not a whole number from 0"),
        ('{"kind": "summary", "duration_s": 0}', "duration_s: 0"),
        ('{"kind": "error", "message": 5}', "message: not a text"),
        (b'{"kind": "\xff"}', "not UTF-8"),
        ("{" + " " * MAX_LINE_BYTES + "}", "longer than 65,536 bytes"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_breaks_the_contract_is_kept_with_the_reason(line: str | bytes, why: str) -> None:
    assert reason(line) == why


def test_malformed_is_no_kind_of_a_model() -> None:
    assert read('{"kind": "malformed", "label": "x"}', None).label == "kind: reserved"


def test_a_cut_line_is_told_with_its_whole_length() -> None:
    found = read_line(b"x" * 10, TS_NS, KINDS, size=5_000_000)
    assert json.loads(found.payload or "") == {"reason": found.label, "bytes": 5_000_000, "text": "x" * 10}


def test_brackets_in_texts_are_not_nesting() -> None:
    assert read(json.dumps({"kind": "person", "note": "[{" * 500})).kind == "person"
    assert read(json.dumps({"kind": "person", "boxes": [[0, 1]] * 500})).kind == "person"


def test_what_postgresql_refuses_is_replaced() -> None:
    found = read(r'{"kind": "person", "label": "a\u0000b\ud800c", "x\u0000": ["\ud800", "\ud83d\ude00", "\\u0000"]}')
    assert found.label == "a\ufffdb\ufffdc"
    assert json.loads(found.payload or "") == {"x\ufffd": ["?", "😀", "\\u0000"]}


def test_no_control_character_comes_through_a_label_or_a_malformed_text() -> None:
    assert read(r'{"kind": "person", "label": "\u001b[31mred\u202e"}').label == "\ufffd[31mred\ufffd"
    text = json.loads(read(b"\x1b]0;evil\x07\x00 \xc2\x85").payload or "")["text"]
    assert text.isprintable()


def test_what_is_kept_of_a_malformed_line_is_bounded() -> None:
    assert len(json.loads(read(b"\xf0\x9f\x98\x80" * 16_000).payload or "")["text"]) <= MAX_TEXT


def test_time_grows_with_length_alone() -> None:
    begun = time.process_time()
    for line in ("[" * 20 + '"' + '\\"' * 32_000, '"' * 65_000, "[" * 20 + '"' * 65_000, "{[" * 32_000, "9" * 65_000):
        assert read(line).kind == MALFORMED
    assert time.process_time() - begun < 1


# -- anything ----------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1.0, -1, 1e300, 2**63, 10**400, 1_700_000_000])
VALUES = {
    "kind": st.sampled_from(["person", "count", "frame", "summary", "error", "malformed", "dog", ""]) | JSON,
    "ts": NUMBERS | JSON,
    "label": st.text(max_size=300) | JSON,
    "score": NUMBERS | JSON,
    "value": NUMBERS | JSON,
    "latency_ms": NUMBERS | JSON,
    "frame": NUMBERS | JSON,
    "frames": NUMBERS | JSON,
    "duration_s": NUMBERS | JSON,
    "message": JSON,
    "box": JSON,
}
OBJECTS = st.fixed_dictionaries({}, optional=VALUES)


def check(found: Result) -> None:
    assert isinstance(found.ts, int)
    assert found.kind.isascii()
    assert 0 < len(found.kind) <= 63
    assert found.label is None or (len(found.label) <= 255 and found.label.isprintable())
    for number in (found.score, found.value, found.latency_ms):
        assert number is None or (type(number) is float and number - number == 0)
    if found.payload is not None:
        assert "\0" not in str(json.loads(found.payload, parse_constant=pytest.fail))
        json.dumps(json.loads(found.payload), ensure_ascii=False).encode()  # no half of a pair


@given(st.binary(max_size=300))
def test_any_bytes_become_a_row(line: bytes) -> None:
    check(read(line))


@given(JSON)
def test_any_json_becomes_a_row(value: Any) -> None:
    check(read(json.dumps(value)))


@given(OBJECTS)
def test_the_schema_says_what_the_parser_does(line: dict[str, Any]) -> None:
    found = read(json.dumps(line), None)
    check(found)
    try:
        json.dumps(line, allow_nan=False)
    except ValueError:
        assert found.kind == MALFORMED  # no JSON at all: a schema can't say so
        return
    is_valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(line)
    assert is_valid == (found.kind != MALFORMED), found.label


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
