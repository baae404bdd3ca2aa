"""The build's command and its log, on a real sshd with a ``docker`` that says what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from evc.building.build import build_image, printable, reason
from evc.errors import BuildFailed
from evc.ssh.credentials import load_credentials
from evc.ssh.session import open_session
from tests.servers.sshd import SshServer, running_sshd

REVISION = "sha256:" + "a" * 64
DOCKER = """#!/bin/sh
pwd; printf 'argument <%s>\\n' "$@"; cat; echo "$BUILDKIT_PROGRESS"; echo "why" >&2; exit $(cat "$HOME/status")
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a source and a docker of its own."""
    (tmp_path / ".evc" / "models" / "reid" / ("a" * 64)).mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    (tmp_path / "status").write_text("0")
    return tmp_path


@pytest.fixture
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    environment = f"SetEnv HOME={home} PATH={home}/bin:/usr/bin:/bin"
    with running_sshd(tmp_path_factory.mktemp("sshd"), environment) as running:
        yield running


def build(server: SshServer, options: list[str], model: str = "reid") -> list[str]:
    lines: list[str] = []

    async def main() -> None:
        credentials = load_credentials("evc_nodes", login=server.user, key_file=str(server.key_file))
        session = await open_session(server.node(), credentials, timeout_s=5, exchanges=asyncio.Semaphore(1))
        try:
            await build_image(session, model, REVISION, options, lines.append, timeout_s=20)
        finally:
            await session.close()

    asyncio.run(main())
    return lines


def test_options_arrive_as_they_are(server: SshServer, home: Path) -> None:
    options = ["--label=a=$(id) `id` 'x' \"y\" \\n *", "--build-arg=B=  two  blanks ", "--label=c=한국어", "--label=d="]
    assert build(server, options) == [
        f"{home}/.evc/models/reid/{'a' * 64}",
        "argument <build>",
        *(f"argument <{option}>" for option in options),
        "argument <.>",
        "plain",
        "why",
    ]


def test_a_build_that_fails_says_why(server: SshServer, home: Path) -> None:
    (home / "status").write_text("3")
    with pytest.raises(BuildFailed, match="edge1: docker build of reid ended with 3: why$"):
        build(server, [])


def test_a_source_that_is_not_there_is_no_build(server: SshServer) -> None:
    with pytest.raises(BuildFailed, match="ended with 2: .*models/other/"):
        build(server, [], model="other")


def test_no_option_holds_a_line_end(server: SshServer) -> None:
    with pytest.raises(ValueError, match="line end"):
        build(server, ["--label=a=b\nc"])


LEGACY = """\
Sending build context to Docker daemon  4.096kB
Step 1/3 : FROM base/python:3.11
 ---> 0123456789ab
Step 2/3 : RUN pip install nothing
 ---> Running in 0123456789ab
ERROR: no matching distribution found for nothing
The command '/bin/sh -c pip install nothing' returned a non-zero code: 1
"""
BUILDKIT = """\
#5 [2/3] RUN pip install nothing
#5 0.312 ERROR: no matching distribution found for nothing
#5 ERROR: process "/bin/sh -c pip install nothing" did not complete successfully: exit code: 1
------
 > [2/3] RUN pip install nothing:
0.312 ERROR: no matching distribution found for nothing
------
Dockerfile:2
--------------------
   1 |     FROM base/python:3.11
   2 | >>> RUN pip install nothing
--------------------
ERROR: failed to solve: process "/bin/sh -c pip install nothing" did not complete successfully: exit code: 1

View build details: docker-desktop://dashboard/build/default/default/x
"""
# of engine 20.10, which repeats less
OLD_BUILDKIT = """\
#8 [4/4] RUN pip install nothing
#8 sha256:7a3ed2c165279be43be180a945837be85a166876cc28c74fd3d5460260756189
#8 0.310 ERROR: no matching distribution found for nothing
#8 ERROR: executor failed running [/bin/sh -c pip install nothing]: exit code: 1
------
 > [4/4] RUN pip install nothing:
------
executor failed running [/bin/sh -c pip install nothing]: exit code: 1
"""


@pytest.mark.parametrize("log", [LEGACY, BUILDKIT, OLD_BUILDKIT], ids=["legacy", "buildkit", "old-buildkit"])
def test_the_reason_is_the_last_line_that_means_something_and_what_led_to_it(log: str) -> None:
    said = reason(log.splitlines())
    assert "pip install nothing" in said
    assert "no matching distribution found for nothing" in said


def test_a_log_without_a_word_says_so() -> None:
    assert reason(["", "------"]) == "it said nothing"
    assert reason([]) == "it said nothing"


def test_lines_are_printable() -> None:
    assert printable("\x1b[31mred\x1b[0m\tb\x07 \x1b[2K ") == "red    b"
