"""Shell scripts that trials run in sandboxes; arguments are "$1" and so on, answers are `key=value` lines."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent

AFTER_CHECK = _FOLDER / "after_check.sh"
AMEND = _FOLDER / "amend.sh"
BASELINE = _FOLDER / "baseline.sh"
COLLECT = _FOLDER / "collect.sh"
COMMIT = _FOLDER / "commit.sh"
DIFF = _FOLDER / "diff.sh"
END_PROCESSES = _FOLDER / "end_processes.sh"
LAY_CARRIED = _FOLDER / "lay_carried.sh"
LAY_WORK = _FOLDER / "lay_work.sh"
LINK_REPO = _FOLDER / "link_repo.sh"
OUTSIDE = _FOLDER / "outside.sh"
PROTECT = _FOLDER / "protect.sh"
