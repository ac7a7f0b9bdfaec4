#!/usr/bin/env python3
"""clean.py makes the right file of other exports, into a folder that is not there yet."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from compare import compare  # noqa: E402

EXPORT = Path(__file__).resolve().parent / "next-export"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "export")
        data.mkdir()
        for name in ("crm.csv", "shop.csv"):
            (data / name).write_bytes((EXPORT / name).read_bytes())
        out = Path(folder, "new", "place", "result.json")
        run = subprocess.run(
            [sys.executable, "clean.py", str(data), str(out)], capture_output=True, text=True, timeout=20
        )
        faults, score = compare(out, EXPORT / "contacts.json")
    if run.returncode != 0:
        faults.insert(0, f"clean.py ends with exit status {run.returncode}:\n{run.stderr[-1500:]}")
    print("\n".join(faults))
    if "HARNESS_SCORE" in os.environ:
        Path(os.environ["HARNESS_SCORE"]).write_text(f"{score:.4f}\n")
    return 1 if faults else 0


sys.exit(main())
