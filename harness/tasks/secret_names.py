"""Names by which programs call what is secret."""

from __future__ import annotations

import re

_SECRET = re.compile(r"key|secret|token|password|passwd|credential", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """True if what has this name is probably secret."""
    return bool(_SECRET.search(name))
