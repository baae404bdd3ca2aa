""".dockerignore: tests/building/test_fleet.py compares with what an engine makes of it."""

from __future__ import annotations

import pytest
from docker.utils.build import PatternMatcher
from hypothesis import given
from hypothesis import strategies as st

from evc.errors import InputError
from evc.fleet.dockerignore import DockerIgnore


@pytest.mark.parametrize(
    ("lines", "path", "ignored"),
    [
        (["*.md"], "README.md", True),
        (["*.md"], "docs/README.md", False),
        (["**/*.md"], "docs/a/README.md", True),
        (["**/*.md"], "README.md", True),
        (["docs"], "docs/a/b.txt", True),
        (["/docs/"], "docs/a/b.txt", True),
        (["docs"], "docs2/a", False),
        (["*", "!run.py"], "run.py", False),
        (["*", "!run.py"], "other.py", True),
        (["data", "!data/keep", "data/keep/not"], "data/keep/a", False),
        (["data", "!data/keep", "data/keep/not"], "data/keep/not", True),
        (["!a", "a"], "a", True),
        (["a?c"], "abc", True),
        (["a?c"], "a/c", False),
        (["[ab].txt"], "b.txt", True),
        (["[^ab].txt"], "b.txt", False),
        (["# a comment", "", "  "], "# a comment", False),
        ([r"a\*b"], "a*b", True),
        ([r"a\*b"], "axb", False),
        (["a/**/b"], "a/b", True),
        (["a/**/b"], "a/x/y/b", True),
        (["a/**"], "a/x", True),
        (["./a/../b"], "b", True),
        (["."], "a", False),
        (["a.b"], "axb", False),
        (["한국*"], "한국어", True),
    ],
)
def test_what_is_left_out(lines: list[str], path: str, ignored: bool) -> None:
    assert DockerIgnore(lines).ignores(path) is ignored


parts = st.sampled_from(["a", "b", "*", "?", "**", "a*", "*.b", "a.b", "[ab]"])
patterns = st.lists(parts, min_size=1, max_size=3).map("/".join)
paths = st.lists(st.sampled_from(["a", "b", "ab", "a.b", "x"]), min_size=1, max_size=3)


@given(patterns, paths)
def test_one_pattern_matches_what_dockers_client_matches(pattern: str, path: list[str]) -> None:
    # the client walks from the top, so what is below something ignored never comes up there
    matcher = PatternMatcher([pattern])
    expected = any(matcher.matches("/".join(path[:end])) for end in range(1, len(path) + 1))
    assert DockerIgnore([pattern]).ignores("/".join(path)) == expected


@pytest.mark.parametrize("line", ["a[b", "a\\", "[]", "[z-a]"])
def test_what_is_no_pattern_is_named(line: str) -> None:
    with pytest.raises(InputError, match=r"reid/\.dockerignore:2: "):
        DockerIgnore(["ok", line], "reid/.dockerignore")


@given(st.lists(st.text(max_size=20), max_size=5), st.text(min_size=1, max_size=20))
def test_any_text_is_pattern_or_refusal(lines: list[str], path: str) -> None:
    outcome = []
    try:
        outcome.append(DockerIgnore(lines).ignores(path))
    except InputError:
        outcome.append(False)
    assert outcome in ([True], [False])
