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


def shuffled_block(task: str, variants: Sequence[Variant], index: int, seed: int) -> list[Variant]:
    """All variants for one trial of a task, in an order of its own.

    The order depends on nothing but the arguments, so that every process of a run finds the same.
    """
    block = list(variants)
    random.Random(f"{seed}/{task}/{index}").shuffle(block)
    return block


def interleaved(task: str, variants: Sequence[Variant], trials: int, seed: int) -> list[tuple[Variant, int]]:
    """A task's trials (variant, index from 1): for each index all variants side by side, in the order of its block."""
    return [
        (variant, index)
        for index in range(1, trials + 1)
        for variant in shuffled_block(task, variants, index, seed)
    ]
