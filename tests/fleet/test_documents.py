"""YAML that people write."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evc.errors import InputError
from evc.fleet.documents import MAX_DOCUMENT_BYTES, read_document

BILLION_LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(20)
)

words = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,12}", fullmatch=True)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text(st.characters(exclude_categories=["Cc", "Cs", "Co", "Cn"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(words, values, max_size=5))
def test_what_a_writer_of_yaml_writes_is_read_as_it_was(value: dict[str, Any]) -> None:
    # texts in quotes: what YAML 1.1 and 1.2 read differently is out of the game
    text = yaml.safe_dump(value, allow_unicode=True)
    assert read_document("x", text.encode()).value.keys() == value.keys()
    quoted = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, default_style='"')
    if "!!" not in quoted:
        assert read_document("x", quoted.encode()).value == value


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_mapping_or_one_line_of_refusal(data: bytes) -> None:
    refusals = []
    try:
        refusals.append(read_document("x", data).at("a"))
    except InputError as error:
        refusals.append(str(error))
    assert [line[:1] for line in refusals] == ["x"]
    assert "\n" not in refusals[0]


def test_lines_are_those_of_the_file() -> None:
    document = read_document("x", b"# a comment\nname: reid\n\nresults:\n  - kind: a\n  - kind: b\n    unit: m\n")
    assert document.at() == "x:2"
    assert document.at("name") == "x:2: name"
    assert document.at("results", 1, "unit") == "x:7: results[1].unit"
    assert document.at("results", 0, "nothing") == "x:5: results[0].nothing"
    assert document.at("nothing") == "x:2: nothing"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("true", True),
        ("on", "on"),
        ("2026-01-01", "2026-01-01"),
        ("12:30", "12:30"),
        ("010", 10),
        ("0x10", 16),
        ("0o10", 8),
        ("1e3", 1000.0),
        (".nan", ".nan"),
        ("1.10", 1.1),
        ("'1.10'", "1.10"),
        ("", None),
        ("~", None),
        ("한국어", "한국어"),
    ],
)
def test_plain_values_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    read = read_document("x", f"a: {text}".encode()).value["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "x:1: is not a mapping"),
        ("- a", "x:1: is not a mapping"),
        ("\n\n7", "x:3: is not a mapping"),
        ("a: 1\nb:\n  c: 2\n  c: 3", "x:4: b.c: stands here twice"),
        ("a: 1\n1: 2", "x:2: a key that is not a text"),
        ("a: 1\n[1]: 2", "x:2: a key that is not a text"),
        ("a: 1\n---\nb: 2", "x:2: a second document"),
        ("a: 1\nb: !!python/object/apply:os.system [id]", "x:2: the tag"),
        ("a: !!str 1", "x:1: the tag"),
        ("a: !mine 1", "x:1: the tag"),
        ("a: &b 1", "x:1: the anchor &b"),
        ("a: *b", "x:1: the alias *b"),
        ("a: [", "x:1: no YAML"),
        ("a: 1\n\tb: 2", "x:2: no YAML"),
        ("a: 1\nb: \x07", "x:2: a character that YAML does not allow"),
        ('a: "\\0"', "x:1: a: a control character"),
        ('"\\e": 1', "x:1: a control character"),
        (f"a: {'9' * 400}", "x:1: a: "),
        ("a: 1e999", 'x:1: a: "1e999" is too large'),
        ("a: " + "[" * 1000 + "]" * 1000, "x:1: nested too deep"),
        (BILLION_LAUGHS, "x:1: the anchor &a"),
        ("a: " + "x" * MAX_DOCUMENT_BYTES, "x: 65539 bytes"),
    ],
)
def test_what_is_refused_and_where(text: str, wrong: str) -> None:
    with pytest.raises(InputError) as caught:
        read_document("x", text.encode())
    assert str(caught.value).startswith(wrong)
    assert "\n" not in str(caught.value)


def test_what_is_not_utf_8_is_refused_and_a_byte_order_mark_is_not() -> None:
    with pytest.raises(InputError, match="x:2: is not UTF-8"):
        read_document("x", b"a: 1\nb: \xff\n")
    assert read_document("x", b"\xef\xbb\xbfa: 1").value == {"a": 1}


@pytest.mark.parametrize("unit", ["[", "{", "a: ", "- ", "? ", '"', "a,", "[],", "{a: ", "&a ", "- - ", "# \n", "[a: "])
def test_the_worst_texts_of_the_largest_size_are_read_in_seconds(unit: str) -> None:
    text = ("a: " + unit * MAX_DOCUMENT_BYTES)[:MAX_DOCUMENT_BYTES]
    begun = time.process_time()
    with suppress(InputError):
        read_document("x", text.encode())
    assert time.process_time() - begun < 10
