"""How long a report takes to write, and a browser to open it.

    python benchmarks/html_open.py [--trials 2000] [--steps 12] [--rounds 5]

The run is made up: four variants, five trials of each task, transcripts of about 33 kB. `write` is `write_report`
alone, records read and statistics computed; `opened` is from the navigation's start until all of the page is there
(the load event), `painted` until its first content shows, `trial` from a click on a mark until the transcript is
shown. Needs Chromium. Prints the median and the largest of the rounds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.report.html.render import write_report  # noqa: E402
from tests.support.browser import chromium, chromium_path  # noqa: E402
from tests.support.runs import made_up_run  # noqa: E402

TIMES = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const painted = performance.getEntriesByName("first-contentful-paint")[0];
  return { opened: page.loadEventEnd, painted: painted ? painted.startTime : NaN };
}"""
TRIAL = """async () => {
  const start = performance.now();
  document.querySelector("#grid .mark").click();
  while (!document.querySelector("#panel .facts")) await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    path = chromium_path()
    if path is None:
        raise SystemExit("there is no Chromium: `apt-get install chromium` brings it")
    with tempfile.TemporaryDirectory() as folder:
        made_up_run(
            Path(folder), tasks=max(1, given.trials // 20), variants="abcd", trials=5, steps=given.steps
        )
        rows = [measure(Path(folder), path) for _ in range(given.rounds)]
    size = rows[0].pop("MB")
    print(f"{given.trials} trials, {size:.1f} MB, {given.rounds} rounds\n")
    print(f"{'':<10}{'median':>10}{'largest':>10}")
    for name in rows[0]:
        values = [row[name] for row in rows if name in row]
        print(f"{name:<10}{median(values):>8.2f} s{max(values):>8.2f} s")


def measure(results: Path, browser_path: str) -> dict[str, Any]:
    start = time.perf_counter()
    written = write_report(results, [], None)
    wrote = time.perf_counter() - start
    with chromium(browser_path) as browser:
        page = browser.new_page()
        page.goto(f"file://{written.path}", wait_until="load")
        times = page.evaluate(TIMES)
        trial = page.evaluate(TRIAL)
    return {
        "MB": written.size / 1e6,
        "write": wrote,
        "painted": times["painted"] / 1000,
        "opened": times["opened"] / 1000,
        "trial": trial / 1000,
    }


if __name__ == "__main__":
    main()
