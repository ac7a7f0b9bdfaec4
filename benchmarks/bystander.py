"""What a pytest run without tasks pays for having the plugin installed: at most 30 ms.

    python -m benchmarks.bystander [--rounds 15]

The runs take turns, with the plugin and with `-p no:harness`, in an empty folder with one test; medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_MS = 30


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_one.py").write_text("def test_one(): pass\n")
        times: dict[str, list[float]] = {"with": [], "without": []}
        for round_ in range(rounds + 1):
            for name, options in (("with", []), ("without", ["-p", "no:harness"])):
                began = time.perf_counter()
                command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
                subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
                if round_:  # the first only fills the caches
                    times[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(values) for name, values in times.items()}
    more = statistics.median(a - b for a, b in zip(times["with"], times["without"], strict=True))
    print(f"with the plugin {medians['with']:.0f} ms, without {medians['without']:.0f} ms (medians)")
    ratio = medians["with"] / medians["without"]
    print(
        f"a run with it takes {more:.0f} ms more (median of the pairs), ratio {ratio:.2f}; limit {LIMIT_MS} ms"
    )
    return 0 if more <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
