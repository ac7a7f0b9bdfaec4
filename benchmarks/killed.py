"""How long anything of a run is left on this machine when its harness is killed with SIGKILL.

    python benchmarks/killed.py [--kills 5]

Four trials of the real Claude Code play a session that goes on; the harness is killed in the middle, and until none of
its processes, mounts, control groups and folders is left the time is measured. Exits with 1 above the limit.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.runs.test_killed import children, command_of, wait_until, what_is_left
from tests.support.folders import by_hand, says, task_folder, uses

LIMIT_MS = 1000.0
TRIALS = 4
MARK = f"goes-on-{os.getpid()}"


def killed(root: Path) -> float:
    """Milliseconds until nothing of one run is left."""
    session = by_hand([uses("Bash", command=f"exec -a {MARK} tail -f /dev/null")], [says("Done.")])
    for number in range(TRIALS):
        task_folder(root / "tasks", f"goes-on-{number}", replay=session)
    command = [sys.executable, "-m", "pytest", "tasks", "--sandbox", "local", "--model-source", "replay"]
    command += ["--concurrency", str(TRIALS)]
    environ = {**os.environ, "TMPDIR": str(root)}
    with subprocess.Popen(command, cwd=root, env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: working() >= TRIALS, 90)
            (server,) = children(process.pid)
            process.send_signal(signal.SIGKILL)
            start = time.monotonic()
            process.wait()
            wait_until(lambda: not what_is_left(root, server), 30)
            return (time.monotonic() - start) * 1000
        finally:
            process.kill()


def working() -> int:
    """How many agents are in the middle of their session."""
    return sum(told.startswith(MARK.encode()) for told in map(command_of, Path("/proc").glob("[0-9]*")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=5)
    took = []
    for _ in range(parser.parse_args().kills):
        with tempfile.TemporaryDirectory(prefix="killed-") as folder:
            os.chmod(folder, 0o755)
            took.append(killed(Path(folder)))
    print(f"nothing left after: {', '.join(f'{ms:.0f}' for ms in took)} ms (limit {LIMIT_MS:.0f} ms)")
    sys.exit(max(took) > LIMIT_MS)


if __name__ == "__main__":
    main()
