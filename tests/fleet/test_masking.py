"""Secrets in log lines."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.fleet.masking import MASK, MAX_LINE, mask_line, mask_lines

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----"
END = "-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("pull https://edge:hunter22@reg.test:5000/v2/", "pull https://edge:***@reg.test:5000/v2/"),
        ("rtsp://admin:p:w@10.0.0.7/stream1", "rtsp://admin:***@10.0.0.7/stream1"),
        ("clone https://ghtoken0123456789@git.test/x", "clone https://***@git.test/x"),
        ("Authorization: Basic ZWRnZTpodW50ZXIyMg==", "Authorization: ***"),
        ('{"Authorization":"Bearer abc.def-ghi","Host":"x"}', '{"Authorization":"***","Host":"x"}'),
        ("header map[X-Registry-Auth:[eyJ1c2VyIjoi]]", "header map[X-Registry-Auth:[***"),
        ("Cookie: session=abcdef; theme=dark", "Cookie: ***"),
        ("got Bearer abcdefgh12345678 from", "got Bearer *** from"),
        ('"reg.test:5000": {"auth": "ZWRnZTpodW50ZXIyMg=="}', '"reg.test:5000": {"auth": "***"}'),
        (r'msg="{\"auth\":\"ZWRnZTpodW50ZXIyMg==\"}"', r'msg="{\"auth\":\"***\"}"'),
        ("MYSQL_ROOT_PASSWORD=hunter22 started", "MYSQL_ROOT_PASSWORD=*** started"),
        ('password: "two words" and more', 'password: "***" and more'),
        ("db_password='it is' x", "db_password='***' x"),
        (r'"{\"client_secret\": \"abc def\", \"n\": 1}"', r'"{\"client_secret\": \"***\", \"n\": 1}"'),
        ("run --password hunter22 --name x", "run --password *** --name x"),
        ("run --token=abc --name x", "run --token=*** --name x"),
        ("wifi psk=abcdefgh", "wifi psk=***"),
        ("?access_token=abc&x=1", "?access_token=***&x=1"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln end", "jwt *** end"),
        ("ghp_0123456789abcdefghij", "***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("node-7:$2y$04$abcdefghijklmnopqrstuv", "node-7:***"),
    ],
)
def test_a_secret_is_masked(line: str, masked: str) -> None:
    assert mask_line(line) == masked


@pytest.mark.parametrize(
    "line",
    [
        "Failed password for root from 10.0.0.1 port 22 ssh2",
        'level=info msg="Container 3f2a failed to exit within 10s" container=3f2a',
        "pulled sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "https://reg.test:5000/v2/reid/manifests/1.0",
        "2026-01-01T00:00:00+00:00 edge-1 kernel: usb 1-1: new device",
        '{"kind": "object", "label": "person", "score": 0.9}',
        "한글 로그는 그대로",
        "",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert mask_line(line) == line


def test_a_private_key_goes_over_lines() -> None:
    lines = ["before", f"key: {KEY}", "b3BlbnNzaC1rZXktdjE", "AAAA", f"{END} after", "more"]
    assert list(mask_lines(lines)) == ["before", "key: *** private key ***", " after", "more"]
    assert list(mask_lines([f'"{KEY}\\nAAAA\\n{END}\\n", "x"'])) == ['"*** private key ***\\n", "x"']
    assert list(mask_lines([KEY, "AAAA", END, "next"])) == ["*** private key ***", "next"]


def test_a_key_without_end_hides_a_part_only() -> None:
    lines = list(mask_lines([KEY, *(f"line {n}" for n in range(500))]))
    assert lines[0] == "*** private key ***"
    assert lines[-1] == "line 499"
    assert len(lines) < 320


def test_known_secrets_go_wherever_they_stand() -> None:
    assert list(mask_lines(["xhunter22y and hunter2", "abc"], ["hunter22", "abc"])) == [f"x{MASK}y and hunter2", "abc"]


@given(st.text(alphabet=st.characters(exclude_characters="\n\r"), max_size=300))
def test_any_line_is_one_line_and_masking_again_changes_nothing(line: str) -> None:
    masked = mask_line(line)
    assert "\n" not in masked
    assert mask_line(masked) == masked


@pytest.mark.parametrize(
    "line",
    [
        "a" * 10**6,
        "a." * 10**5,
        "password" * 10**5,
        '\\"' * 10**5,
        "://" * 10**5,
        "=: " * 10**5,
        "eyJ." * 10**5,
        "-eyJ" * 10**5,
    ],
)
def test_a_long_line_is_cut_and_takes_no_time(line: str) -> None:
    before = time.process_time()
    assert len(mask_line(line)) <= MAX_LINE + 100
    assert time.process_time() - before < 2
