"""Secrets in log lines, made unreadable.

What looks like a secret is replaced by ``***``: rather a word too many than one too few. Masked are passwords in URLs,
HTTP's authorization and cookies, values of names such as ``password`` or ``token`` (in JSON, YAML, environments and
options), ``auth`` of a docker configuration, tokens of known make, password hashes, and private keys, over lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MASK = "***"
MAX_LINE = 32_768  # characters; what is longer is cut: no log line that someone reads is
_MAX_KEY_LINES = 200

_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_QUOTE = r"""(?:\\{0,7}["'])"""  # JSON in a string of JSON has backslashes before its quotes
_NAME = (
    r"[\w.-]{0,40}(?:pass(?:word|wd|phrase|code)|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"credentials?|community|psk|passkey)(?:[_-](?:id|key|value|hash|data))?"
)
_HEADERS = (
    r"(?:proxy-)?authorization|x-registry-auth|x-registry-config|x-api-key|x-auth-token|set-cookie|cookie|"
    r"www-authenticate"
)
_RULES = (
    # scheme://user:password@host, and scheme://token@host
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s/:@\"']{0,100}):[^\s/@]{1,500}@"), rf"\1:{MASK}@"),
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^\s/:@\"']{12,500}@"), rf"\1{MASK}@"),
    # a header: all of its value
    (
        re.compile(rf"(?i)\b({_HEADERS})({_QUOTE}?\s{{0,3}}[:=]\s{{0,3}}\[?)({_QUOTE}?).*?(?=\\{{0,7}}[\"']|$)"),
        rf"\1\2\3{MASK}",
    ),
    (re.compile(r"(?i)\b(basic|bearer|negotiate)\s{1,3}[A-Za-z0-9+/=._~-]{8,}"), rf"\1 {MASK}"),
    # "auth": "..." of a docker configuration
    (re.compile(rf"(?i)({_QUOTE}auth{_QUOTE}\s{{0,3}}:\s{{0,3}}{_QUOTE})[^\"'\\]{{1,4000}}"), rf"\1{MASK}"),
    # name = value: quoted, or up to the next blank
    (
        re.compile(rf"(?i)\b({_NAME}{_QUOTE}?\s{{0,3}}[:=]\s{{0,3}})(\\{{0,7}})([\"'])(?:(?!\2\3).){{1,4000}}"),
        rf"\1\2\3{MASK}",
    ),
    (
        re.compile(rf"(?i)\b({_NAME}{_QUOTE}?\s{{0,3}}[:=]\s{{0,3}})(?!\\{{0,7}}[\"'])[^\s,;&\"']{{1,4000}}"),
        rf"\1{MASK}",
    ),
    (re.compile(rf"(?i)(--?{_NAME}\s{{1,3}})(?![-:=])[^\s]{{1,4000}}"), rf"\1{MASK}"),
    # tokens of known make, password hashes
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"), MASK),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_|xox[abprs]-|sk-|dckr_pat_)[A-Za-z0-9_-]{16,}"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"\$(?:2[abxy]|1|5|6|y|gy|argon2\w{0,2})\$[./A-Za-z0-9$=,+-]{16,}"), MASK),
)


def mask_line(line: str) -> str:
    """Return one line without its secrets; a private key that goes over lines is :func:`mask_lines`'s work."""
    if len(line) > MAX_LINE:
        line = f"{line[:MAX_LINE]}... ({len(line)} characters)"
    for pattern, instead in _RULES:
        line = pattern.sub(instead, line)
    return line


def mask_lines(lines: Iterable[str], secrets: Iterable[str] = ()) -> Iterator[str]:
    """Yield lines, without their ends, without their secrets.

    :param secrets: texts that are known to be secret, wherever they stand
    """
    known = sorted({one for one in secrets if len(one) > 3}, key=len, reverse=True)
    hidden = 0  # lines of a private key so far; 0: outside of one
    for line in lines:
        for secret in known:
            line = line.replace(secret, MASK)  # noqa: PLW2901
        if hidden:
            end = _KEY_END.search(line)
            hidden = 0 if end or hidden >= _MAX_KEY_LINES else hidden + 1
            if not end:
                continue
            line = line[end.end() :]  # noqa: PLW2901
            if not line:
                continue
        shown, is_open = _without_keys(line)
        hidden = 1 if is_open else 0
        yield mask_line(shown)


def _without_keys(line: str) -> tuple[str, bool]:
    """Return a line without the private keys in it, and whether the last one goes on in the next line."""
    shown = ""
    while begin := _KEY_BEGIN.search(line):
        shown += f"{line[: begin.start()]}{MASK} private key {MASK}"
        line = line[begin.end() :]
        end = _KEY_END.search(line)
        if not end:
            return shown, True
        line = line[end.end() :]
    return shown + line, False
