"""The order of trials: in blocks, so that drift of the API or of the machine affects all variants alike."""

from __future__ import annotations

import random
from collections.abc import Sequence

from harness.variants.variant import Variant

SEEDS = 2**32
"""Seeds are drawn from below this: short enough to be typed."""


def draw_seed() -> int:
    """A new seed."""
    return random.SystemRandom().randrange(SEEDS)


def interleaved(task: str, variants: Sequence[Variant], trials: int, seed: int) -> list[tuple[Variant, int]]:
    """A task's trials (variant, index from 1): for each index all variants side by side, in an order of their own.

    The order depends on nothing but the arguments, so that every process of a run finds the same.
    """
    trials_in_order: list[tuple[Variant, int]] = []
    for index in range(1, trials + 1):
        block = list(variants)
        random.Random(f"{seed}/{task}/{index}").shuffle(block)
        trials_in_order += ((variant, index) for variant in block)
    return trials_in_order
