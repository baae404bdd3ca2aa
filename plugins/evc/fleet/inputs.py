"""What a run of inference looks at, as a user writes it: one text."""

from __future__ import annotations

import re

from evc.errors import InputError
from evc.fleet.masking import mask_line
from evc.fleet.models import InputKind, Model
from evc.fleet.nodes import quote

INPUT_PATTERN = r"^(?:/[^\x00-\x1f\x7f:]{1,1000}|[a-z][a-z0-9+.-]{1,30}://[^\x00-\x20\x7f]{1,1900})$"
"""An absolute path of the node, or a URL."""
_ALLOWED = "an absolute path on the node (file, folder, or a camera such as /dev/video0) or a URL such as rtsp://..."


def check_input(text: str, model: Model) -> None:
    """Do nothing where ``text`` may be an input of ``model``; which of file and folder it is, only the node knows.

    :raises InputError: it is none, or the model does not take such
    """
    if not re.fullmatch(INPUT_PATTERN, text) or ({".", ".."} & set(text.split("/")) and text.startswith("/")):
        raise InputError("input", f"{quote(hide_password(text))} does not fit", _ALLOWED)
    kinds = kinds_of(text)
    if not set(kinds) & set(model.inputs):
        wrong = f"{quote(hide_password(text))} is a {' or '.join(kinds)}"
        raise InputError("input", wrong, f"what {model.name} takes: {', '.join(model.inputs)}")


def kinds_of(text: str) -> tuple[InputKind, ...]:
    """Return what an input may be by its text alone."""
    if not text.startswith("/"):
        return ("url",)
    return ("camera",) if text.startswith("/dev/") else ("file", "folder")


def hide_password(text: str) -> str:
    """Return an input for logs and tables: cameras' URLs often hold a login, before their host or in their query."""
    if text.startswith("/"):
        return text
    hidden = re.sub(r"^([a-z][a-z0-9+.-]*://)[^/?#]*@", r"\1***@", text)
    if hidden == text:  # a password may hold a /, whatever the standard says
        hidden = re.sub(r"^([a-z][a-z0-9+.-]*://)[^/?#@]*:.*@", r"\1***@", text)
    return mask_line(hidden)
