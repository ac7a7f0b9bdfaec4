"""How long `harness compare` takes for many records, and how much memory.

    python benchmarks/compare_speed.py [--records 100000]

The target: 100,000 records in under 3 s and 500 MB. The records are made up, of the size that real ones have.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

VARIANTS, TASKS = ("a", "b", "c", "d", "e"), 100
TEXT = "What the agent said at the end, as long as such messages are. " * 8


def lines(number: int) -> Iterator[str]:
    draw = random.Random(1)
    for place in range(number):
        variant, task, index = VARIANTS[place % 5], place // 5 % TASKS, place // (5 * TASKS) + 1
        passed = draw.random() < 0.5
        yield (
            json.dumps(
                {
                    "schema_version": 1,
                    "run_id": "20261123-090141-3f9c",
                    "trial_id": f"task-{task}[{variant}-t{index}]",
                    "task": f"task-{task}",
                    "task_hash": "0" * 64,
                    "variant": variant,
                    "variant_hash": "1" * 64,
                    "variant_place": VARIANTS.index(variant),
                    "index": index,
                    "agent": "claude",
                    "outcome": "passed" if passed else "failed",
                    "score": float(passed),
                    "checks": [
                        {"name": "tests", "passed": passed, "score": float(passed), "output_tail": TEXT}
                    ],
                    "duration_ms": draw.randint(10_000, 200_000),
                    "tokens": {
                        "input": 90,
                        "output": draw.randint(100, 9000),
                        "cache_read": 50_000,
                        "cache_creation": 900,
                    },
                    "turns": [{"num_turns": 9, "result": TEXT}],
                    "tools": {tool: {"calls": 3, "errors": 0} for tool in ("Bash", "Read", "Edit", "Grep")},
                    "cost_usd": draw.lognormvariate(-1, 0.5),
                    "num_turns": draw.randint(3, 20),
                    "model": "claude-sonnet",
                    "model_source": "api",
                }
            )
            + "\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of `harness compare`.")
    parser.add_argument("--records", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "records.jsonl"
        with file.open("w", encoding="utf-8") as stream:
            stream.writelines(lines(options.records))
        start = time.monotonic()
        command = [
            sys.executable,
            "-c",
            "import sys; from harness.cli import main; sys.exit(main())",
            "compare",
            str(file),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.monotonic() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{options.records:,} records, {file.stat().st_size / 1e6:.0f} MB: {wall:.1f} s "
            f"({used.ru_utime + used.ru_stime:.1f} s of CPU), {used.ru_maxrss / 1024:.0f} MB of memory"
        )


if __name__ == "__main__":
    main()
