"""Cutting what a node printed into sections."""

from __future__ import annotations

import time

from evc.probes.answer import MAX_SECTIONS, Output, parse_answer


def test_files_commands_and_the_end() -> None:
    answer = parse_answer(
        b"==> /dev/null <==\n\n==> /proc/a <==\n1 2\n3\n\n==> /proc/no_newline <==\nx"
        b"\n==> @storage <==\nType\n/\n\n==> @storage 1 <==\n\n==> end <==\n"
    )
    assert answer.sections == {"/dev/null": "", "/proc/a": "1 2\n3", "/proc/no_newline": "x"}
    assert answer.outputs == {"storage": Output("Type\n/", 1)}
    assert answer.complete


def test_what_is_not_there_is_none() -> None:
    answer = parse_answer(b"==> end <==\n")
    assert answer.file("/proc/stat") is None
    assert answer.files("/sys/", "/temp") == {}
    assert answer.output("storage") is None
    assert answer.complete


def test_the_file_that_ends_an_answer() -> None:
    answer = parse_answer(b"==> /proc/a <==\n1\n\n==> /dev/./null <==\n")
    assert answer.sections == {"/proc/a": "1"}
    assert answer.complete
    assert not parse_answer(b"==> /proc/a <==\n1\n\n==> /dev/./null <=").complete


def test_files_are_found_by_begin_and_end_in_the_order_they_came() -> None:
    answer = parse_answer(b"==> /z/2/temp <==\n2\n\n==> /z/2/type <==\nx\n\n==> /z/1/temp <==\n1\n\n==> end <==\n")
    assert list(answer.files("/z/", "/temp").items()) == [("/z/2/temp", "2"), ("/z/1/temp", "1")]


def test_a_file_cut_short_is_dropped_and_those_before_stay() -> None:
    answer = parse_answer(b"==> /proc/a <==\n12\n\n==> /proc/b <==\n34")
    assert answer.sections == {"/proc/a": "12"}
    assert not answer.complete


def test_a_command_cut_short_has_no_status() -> None:
    answer = parse_answer(b"==> /proc/a <==\n12\n\n==> @storage <==\nType 1K-bl")
    assert answer.sections == {"/proc/a": "12"}
    assert answer.outputs == {"storage": Output("Type 1K-bl", None)}
    assert not answer.complete


def test_a_header_cut_short_is_no_header() -> None:
    assert parse_answer(b"==> /proc/a <==\n12\n\n==> /proc/b <=").sections == {}
    assert parse_answer(b"==> @storage <==\nx\n\n==> @storage 0 <=").outputs["storage"].status is None


def test_lines_that_begin_like_a_header_belong_to_their_file() -> None:
    body = b"a\n==> neither <==\n==> /b\n==> @UPPER <==\n==> @x 1234 <==\n==>  <==\nz"
    answer = parse_answer(b"==> /proc/a <==\n" + body + b"\n\n==> end <==\n")
    assert answer.sections == {"/proc/a": body.decode()}


def test_the_first_of_two_sections_of_one_name_counts() -> None:
    assert parse_answer(b"==> /a <==\n1\n\n==> /a <==\n2\n\n==> end <==\n").file("/a") == "1"


def test_a_status_without_its_command_is_ignored() -> None:
    assert parse_answer(b"==> @storage 0 <==\n\n==> end <==\n").outputs == {}


def test_a_greeting_before_the_first_header_is_ignored() -> None:
    answer = parse_answer(b"Welcome to edge1\n \xff\xfe\n==> /proc/a <==\n1\n\n==> end <==\n")
    assert answer.sections == {"/proc/a": "1"}


def test_lines_that_end_as_a_terminals_do() -> None:
    answer = parse_answer(b"==> /proc/a <==\r\n1\r\n2\r\n\r\n==> end <==\r\n")
    assert answer.sections == {"/proc/a": "1\n2"}
    assert answer.complete


def test_bytes_that_are_no_text_lose_only_themselves() -> None:
    answer = parse_answer(b"==> /proc/a <==\n\xff\x00\n\n==> /proc/b <==\n1\n\n==> end <==\n")
    assert answer.sections == {"/proc/a": "\ufffd\x00", "/proc/b": "1"}


def test_nothing_is_an_incomplete_answer_without_sections() -> None:
    for stdout in (b"", b"\n", b"sh: head: not found\n", b"\x00" * 10):
        answer = parse_answer(stdout)
        assert (answer.sections, answer.outputs, answer.complete) == ({}, {}, False)


def test_ten_megabytes_of_headers_cost_little() -> None:
    real, fake = b"\n==> /a <==\n1", b"\n==> a\n" + b"x" * 2000
    for stdout in (real * 800_000, b"==> /a <==" + fake * 5_000, b"\x00" * 10_000_000):
        begun = time.process_time()
        answer = parse_answer(stdout)
        assert time.process_time() - begun < 1.0
        assert len(answer.sections) <= MAX_SECTIONS
