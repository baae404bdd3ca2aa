"""The build itself: ``docker build`` on the builder, from the folder that copy_model has put there."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence

from evc.errors import BuildFailed
from evc.ssh.session import Session

BUILD_TIMEOUT_S = 4 * 3600.0
# Values come line by line on stdin and become single arguments: nothing of them is read by a shell.
# With buildx or without: the image is loaded into the engine under its name, and the log is plain lines.
BUILD_COMMAND = (
    "sh -c '"
    "IFS= read -r model && IFS= read -r revision || exit 2; set --; "
    'while IFS= read -r option; do set -- "$@" "$option"; done; '
    'cd -- "$HOME/.evc/models/$model/$revision" || exit 2; '
    "export BUILDKIT_PROGRESS=plain; "
    'exec docker build "$@" . </dev/null'
    "'"
)
_KEPT_LINES = 40
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# frames, progress of pulls and the notes of a client: true, and never the reason
_NO_REASON = re.compile(
    r"^(?:-+|\d+ \|.*|[0-9a-f]{12}: .*|DEPRECATED: .*|Install the buildx component.*|Sending build context.*"
    r"|View build details.*|> \[.*\] .*:|Step \d+/\d+ .*| ?---> .*|Removing intermediate container.*|Dockerfile:\d+"
    r"|#\d+ (?:sha256:.*|DONE .*|CACHED|\[.*|ERROR: .*|transferring .*|exporting .*))$"
)


async def build_image(
    session: Session,
    model: str,
    revision: str,
    options: Sequence[str],
    on_line: Callable[[str], None],
    *,
    timeout_s: float = BUILD_TIMEOUT_S,
) -> None:
    """Build what lies in ``~/.evc/models/MODEL/REVISION`` on the node.

    :param revision: ``sha256:...``
    :param options: of ``docker build``, one line each
    :param on_line: gets each line of the log as it comes
    :raises BuildFailed: with the last line that says why
    :raises NodeTimeout: it was not over in time
    :raises ConnectionCut: the way to the builder ended
    """
    told = [model, revision.removeprefix("sha256:"), *options]
    if any("\n" in line or "\x00" in line for line in told):
        raise ValueError("an option of docker build holds a line end")
    last: deque[str] = deque(maxlen=_KEPT_LINES)

    def take(line: str) -> None:
        line = printable(line)
        if line:
            last.append(line)
            on_line(line)

    stdin = "".join(f"{line}\n" for line in told).encode()
    status = await session.follow(BUILD_COMMAND, take, stdin=stdin, timeout_s=timeout_s)
    if status != 0:
        ended = "was ended by a signal" if status is None else f"ended with {status}"
        raise BuildFailed(f"{session.node.name}: docker build of {model} {ended}: {reason(last)}")


def reason(lines: Sequence[str]) -> str:
    """Return the last line that says why; where that is only an exit status, with the one before it."""
    said = [line for line in lines if line.strip() and not _NO_REASON.match(line.strip())]
    if not said:
        return "it said nothing"
    if len(said) > 1 and re.search(r"returned a non-zero code|exit code: \d+$", said[-1]):
        return f"{said[-1].strip()} ({said[-2].strip()})"
    return said[-1].strip()


def printable(line: str) -> str:
    """Return a line without colours and control characters."""
    return "".join(c if c.isprintable() else " " for c in _COLOUR.sub("", line.replace("\t", "    "))).rstrip()
