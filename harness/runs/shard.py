"""`--shard i/n`: each trial belongs to exactly one of n shards, and always to the same one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from harness.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `total`."""

    number: int = 1
    total: int = 1

    def has(self, trial: str) -> bool:
        """Tell whether the trial of this name is in this part. It does not depend on the other trials."""
        digest = hashlib.sha256(trial.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.total == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


WHOLE = Shard()
"""All trials."""


def read_shard(text: str) -> Shard:
    """Read `i/n`.

    Raises:
        UsageError: when it is something else.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    shard = Shard(int(match[1]), int(match[2])) if match else Shard(0, 0)
    if not 1 <= shard.number <= shard.total:
        raise UsageError(f"--shard {text!r} is not a part of a whole", remedy="give I/N, such as 1/4 ... 4/4")
    return shard
