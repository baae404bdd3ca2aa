"""Programs of Debian packages that test servers run."""

from __future__ import annotations

import os
import shutil

# daemons and tools for disks and links lie in folders that a user's PATH may lack
SEARCH_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def program(name: str, package: str) -> str:
    """Return the path of a program.

    :raises RuntimeError: it is not there; names the Debian package
    """
    found = shutil.which(name, path=SEARCH_PATH)
    if not found:
        raise RuntimeError(f"no {name}: install the Debian package {package!r}")
    return found
