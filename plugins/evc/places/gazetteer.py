"""Places without a network: Korean divisions down to the town, cities elsewhere.

A wrong place is worse than none: what is in doubt is not found.
"""

from __future__ import annotations

import re
import unicodedata

from evc.places import korea, world
from evc.places.place import Place


def find(address: str) -> Place | None:
    """Return the middle of the smallest place that ``address`` names without doubt, or None."""
    text = unicodedata.normalize("NFC", address)
    return korea.find(text) if re.search("[가-힣]", text) else world.find(text)
